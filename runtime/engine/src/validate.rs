//! Validation: decides whether a stranger's module may become code of this host.
//!
//! Enters: bytes. Leaves: a [`ValidModule`], which says that the module is well-formed Wasm of the
//! profile's features, has the guest ABI's exports, imports nothing but the allowed names, keeps all
//! its state in one memory and in numeric globals, and is within the limits that keep compiling it
//! cheap. A refusal says all that is wrong, so that a publisher mends it in one go.

use crate::{kernels, limits::constants as limit, log::excerpt, profile, wasi};
use fuelbox_abi::export;
use std::fmt;
use wasmparser::{
    BinaryReaderError, ConstExpr, Data, DataKind, Element, ElementItems, ElementKind, ExternalKind,
    FuncType, FuncValidatorAllocations, FunctionBody, Operator, Parser, Payload, TypeRef, ValType,
    ValidPayload, Validator,
};

/// A module that may be split and compiled.
#[derive(Debug)]
pub(crate) struct ValidModule<'a> {
    bytes: &'a [u8],
    /// Of the memory at its smallest.
    initial_bytes: u64,
    /// What is copied there at the start, in this order; every piece fits.
    segments: Vec<(u64, &'a [u8])>,
    mutable_globals: Vec<u32>,
}

impl<'a> ValidModule<'a> {
    /// The module.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What memory holds before anything runs.
    pub(crate) fn initial(&self) -> Vec<u8> {
        let mut initial = vec![0; self.initial_bytes as usize];
        for (start, data) in &self.segments {
            let start = *start as usize;
            if let Some(place) = initial.get_mut(start..start + data.len()) {
                place.copy_from_slice(data);
            }
        }
        initial
    }

    /// The indices of the globals that code may change.
    pub(crate) fn mutable_globals(&self) -> &[u32] {
        &self.mutable_globals
    }
}

/// All that is not allowed about a module.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The first ones, in the order in which they stand in the module; not empty.
    violations: Vec<ValidateError>,
    /// How many there are beside those.
    more: u64,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.violations {
            return only.fmt(f);
        }
        let count = self.violations.len() as u64 + self.more;
        write!(f, "module: {count} things are not allowed: ")?;
        let mut lists_imports = true;
        for (place, violation) in self.violations.iter().enumerate() {
            let text = match violation {
                // The list of those that are allowed is long, and told once.
                ValidateError::Import { name, .. } if !lists_imports => {
                    format!("import '{name}' is not allowed")
                }
                _ => violation.to_string(),
            };
            lists_imports &= !matches!(violation, ValidateError::Import { .. });
            let text = text.strip_prefix("module: ").unwrap_or(&text);
            write!(f, "{}{text}", if place == 0 { "" } else { "; " })?;
        }
        if self.more > 0 { write!(f, "; and {} more", self.more) } else { Ok(()) }
    }
}

/// Why a module is refused. The publisher's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub(crate) enum ValidateError {
    /// Not Wasm, or Wasm of features that the profile does not have.
    #[error("module: {message} (at byte {offset})")]
    Malformed { message: String, offset: u64 },
    /// A component, or another layer.
    #[error("module: this is a component, allowed are core modules")]
    Component,
    /// Too much of something.
    #[error("module: {what}: found {found}, allowed are {allowed}")]
    OverLimit { what: &'static str, found: u64, allowed: u64 },
    /// An import that is not on the list.
    #[error("module: import '{name}' is not allowed; allowed are {allowed}")]
    Import { name: String, allowed: String },
    /// An import of the right name and the wrong type.
    #[error("module: import '{name}' has type {found}, expected {expected}")]
    ImportType { name: String, found: String, expected: String },
    /// A start function: it would run before there is a limit on fuel.
    #[error("module: found a start function, allowed is none; use the export '_initialize'")]
    Start,
    /// Not exactly one memory.
    #[error(
        "module: found {found} memories, allowed is exactly one, defined and exported as 'memory'"
    )]
    Memories { found: u64 },
    /// An export of the guest ABI that is not there or is something else.
    #[error("module: export '{name}' is {found}, expected {expected}")]
    Export { name: &'static str, found: String, expected: String },
    /// State outside of linear memory and numeric globals, which an image could not hold.
    #[error(
        "module: {what} (at byte {offset}): tables and segments cannot change, found an instruction that changes them"
    )]
    TableState { what: String, offset: u64 },
    /// A mutable global that holds a reference.
    #[error("module: mutable global {index} holds a reference, allowed are numbers")]
    ReferenceGlobal { index: u32 },
    /// A data segment that is not copied to memory at the start.
    #[error(
        "module: data segment {index} is {found}, allowed are active ones with a constant offset"
    )]
    DataSegment { index: u32, found: &'static str },
    /// A global that begins with what has to be computed: by code that would run before there is fuel.
    #[error("module: global {index} begins with a computed value, allowed is one constant number")]
    GlobalValue { index: u32 },
    /// An element segment that has to be computed, or that nothing could use.
    #[error(
        "module: element segment {index} is {found}, allowed are declared ones, and active ones of functions with a constant offset"
    )]
    ElementSegment { index: u32, found: &'static str },
    /// An element segment that does not fit the table.
    #[error(
        "module: element segment {index} ends at element {end}, the table has {table_elements}"
    )]
    ElementsOutOfBounds { index: u32, end: u64, table_elements: u64 },
    /// A data segment that does not fit the memory.
    #[error("module: data segment {index} ends at byte {end}, the memory has {memory_bytes}")]
    OutOfBounds { index: u32, end: u64, memory_bytes: u64 },
    /// An export of a reserved name.
    #[error(
        "module: export '{name}': names that start with '{RESERVED_EXPORT_PREFIX}' are reserved"
    )]
    ReservedExport { name: String },
}

/// Checks a module.
///
/// # Errors
/// All that is not allowed, with what was found; up to where it is no Wasm any more.
pub(crate) fn validate(bytes: &[u8]) -> Result<ValidModule<'_>, Refused> {
    check_size(bytes)?;
    let mut check = Check::default();
    if let Err(ended) = check.module(bytes) {
        check.violation(ended);
    }
    let Check { violations, more, initial_bytes, segments, mutable_globals, .. } = check;
    if violations.is_empty() {
        Ok(ValidModule { bytes, initial_bytes, segments, mutable_globals })
    } else {
        Err(Refused { violations, more })
    }
}

/// Whether a module may be looked at. Whoever hands it on asks first.
pub(crate) fn check_size(bytes: &[u8]) -> Result<(), Refused> {
    let (found, allowed) = (bytes.len() as u64, limit::MODULE_BYTES_MAX);
    if found <= allowed {
        return Ok(());
    }
    Err(Refused {
        violations: vec![ValidateError::OverLimit { what: "bytes", found, allowed }],
        more: 0,
    })
}

/// What has been seen of a module.
#[derive(Default)]
struct Check<'a> {
    violations: Vec<ValidateError>,
    more: u64,
    /// Indices and names of imported functions, with the types that they must have.
    imports: Vec<(u32, String, String)>,
    memories: u64,
    initial_bytes: u64,
    table_elements: u64,
    exports: Vec<(String, ExternalKind, u32)>,
    mutable_globals: Vec<u32>,
    segments: Vec<(u64, &'a [u8])>,
    locals: u64,
    custom_sections: u64,
}

impl<'a> Check<'a> {
    fn violation(&mut self, found: ValidateError) {
        if self.violations.len() < limit::VIOLATIONS_TOLD {
            self.violations.push(found);
        } else {
            self.more += 1;
        }
    }

    /// Whether there is no more of something than is allowed; notes it otherwise.
    fn within(&mut self, what: &'static str, found: u64, allowed: u64) -> bool {
        if found > allowed {
            self.violation(ValidateError::OverLimit { what, found, allowed });
        }
        found <= allowed
    }

    /// Looks at all of it. An error is where it ends to be Wasm.
    fn module(&mut self, bytes: &'a [u8]) -> Result<(), ValidateError> {
        let mut validator = Validator::new_with_features(profile::validator_features());
        let mut allocations = FuncValidatorAllocations::default();
        let mut parser = Parser::new(0);
        parser.set_features(profile::validator_features());
        for payload in parser.parse_all(bytes) {
            let payload = payload?;
            if let Payload::Version { encoding: wasmparser::Encoding::Component, .. } = payload {
                return Err(ValidateError::Component);
            }
            self.payload(&payload)?;
            match validator.payload(&payload)? {
                ValidPayload::Func(function, body) => {
                    self.function(&body)?;
                    let mut function = function.into_validator(allocations);
                    function.validate(&body)?;
                    allocations = function.into_allocations();
                }
                ValidPayload::End(types) => self.interface(&types),
                ValidPayload::Ok | ValidPayload::Parser(_) => {}
            }
        }
        Ok(())
    }

    fn payload(&mut self, payload: &Payload<'a>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(types) => {
                self.within("types", types.count().into(), limit::TYPES_MAX.into());
            }
            Payload::ImportSection(imports) => {
                self.within("imports", imports.count().into(), limit::IMPORTS_MAX.into());
                let mut functions = 0;
                for import in imports.clone().into_imports() {
                    let import = import?;
                    let expected = match import.module {
                        wasi::MODULE => wasi::type_of(import.name),
                        kernels::MODULE => kernels::type_of(import.name),
                        _ => None,
                    };
                    match (import.ty, expected) {
                        (TypeRef::Func(_), Some(expected)) => {
                            self.imports.push((functions, import.name.into(), expected));
                        }
                        _ => self.violation(forbidden(import.module, import.name)),
                    }
                    if let TypeRef::Func(_) | TypeRef::FuncExact(_) = import.ty {
                        functions += 1;
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                self.within("functions", functions.count().into(), limit::FUNCTIONS_MAX.into());
            }
            Payload::TableSection(tables) => {
                self.within("tables", tables.count().into(), limit::TABLES_MAX.into());
                for table in tables.clone() {
                    let elements = table?.ty.initial;
                    self.table_elements = elements;
                    self.within("table elements", elements, limit::TABLE_ELEMENTS_MAX);
                }
            }
            Payload::ElementSection(segments) => {
                let count = segments.count();
                self.within("element segments", count.into(), limit::ELEMENT_SEGMENTS_MAX.into());
                let mut elements = 0;
                for (index, segment) in segments.clone().into_iter().enumerate() {
                    elements += self.elements(index as u32, &segment?)?;
                }
                self.within("elements in all", elements, limit::TABLE_ELEMENTS_MAX);
            }
            Payload::MemorySection(memories) => {
                self.memories = memories.count().into();
                for memory in memories.clone() {
                    let bytes = memory?.initial.saturating_mul(limit::WASM_PAGE_BYTES);
                    self.initial_bytes = bytes;
                    self.within("bytes of initial memory", bytes, limit::INITIAL_BYTES_MAX);
                }
            }
            Payload::GlobalSection(globals) => {
                self.within("globals", globals.count().into(), limit::GLOBALS_MAX.into());
                // Globals cannot be imported, so the index space starts with these.
                for (index, global) in globals.clone().into_iter().enumerate() {
                    let global = global?;
                    let (index, ty) = (index as u32, global.ty);
                    if constant(&global.init_expr)?.is_none() {
                        self.violation(ValidateError::GlobalValue { index });
                    }
                    match ty.content_type {
                        ValType::Ref(_) if ty.mutable => {
                            self.violation(ValidateError::ReferenceGlobal { index });
                        }
                        _ if ty.mutable => self.mutable_globals.push(index),
                        _ => {}
                    }
                }
            }
            Payload::ExportSection(exports) => {
                self.within("exports", exports.count().into(), limit::EXPORTS_MAX.into());
                for export in exports.clone() {
                    let export = export?;
                    if export.name.starts_with(RESERVED_EXPORT_PREFIX) {
                        let name = excerpt(export.name.as_bytes(), 80);
                        self.violation(ValidateError::ReservedExport { name });
                    }
                    self.exports.push((export.name.into(), export.kind, export.index));
                }
            }
            Payload::StartSection { .. } => self.violation(ValidateError::Start),
            Payload::DataSection(segments) => {
                let count = segments.count();
                self.within("data segments", count.into(), limit::DATA_SEGMENTS_MAX.into());
                for (index, segment) in segments.clone().into_iter().enumerate() {
                    self.data(index as u32, segment?)?;
                }
            }
            Payload::CustomSection(_) => {
                self.custom_sections += 1;
                if self.custom_sections == u64::from(limit::CUSTOM_SECTIONS_MAX) + 1 {
                    let allowed = limit::CUSTOM_SECTIONS_MAX.into();
                    self.within("custom sections", self.custom_sections, allowed);
                }
            }
            _ => {} // nothing to limit; the validator sees every payload
        }
        Ok(())
    }

    /// Looks at an element segment, and gives how many elements it has. What an engine cannot lay out
    /// before it runs anything, it would run code for: at instantiation, where there is no fuel yet.
    fn elements(&mut self, index: u32, segment: &Element<'_>) -> Result<u64, BinaryReaderError> {
        let bad = |found| ValidateError::ElementSegment { index, found };
        let count = match &segment.items {
            ElementItems::Functions(items) => items.count(),
            ElementItems::Expressions(_, items) => items.count(),
        };
        match &segment.kind {
            ElementKind::Declared => {}
            ElementKind::Passive => self.violation(bad("passive")),
            ElementKind::Active { .. }
                if matches!(segment.items, ElementItems::Expressions(..)) =>
            {
                self.violation(bad("active with expressions"));
            }
            ElementKind::Active { offset_expr, .. } => match constant(offset_expr)? {
                Some(Operator::I32Const { value }) => {
                    let end = u64::from(value as u32) + u64::from(count);
                    let table_elements = self.table_elements;
                    if end > table_elements {
                        let found =
                            ValidateError::ElementsOutOfBounds { index, end, table_elements };
                        self.violation(found);
                    }
                }
                _ => self.violation(bad("active with a computed offset")),
            },
        }
        Ok(count.into())
    }

    /// Finds the place of a data segment.
    fn data(&mut self, index: u32, segment: Data<'a>) -> Result<(), BinaryReaderError> {
        let bad = |found| ValidateError::DataSegment { index, found };
        let DataKind::Active { offset_expr, .. } = segment.kind else {
            self.violation(bad("passive"));
            return Ok(());
        };
        let Some(Operator::I32Const { value }) = constant(&offset_expr)? else {
            self.violation(bad("active with a computed offset"));
            return Ok(());
        };
        let start = u64::from(value as u32);
        let (end, memory_bytes) = (start + segment.data.len() as u64, self.initial_bytes);
        if end <= memory_bytes {
            self.segments.push((start, segment.data));
        } else {
            self.violation(ValidateError::OutOfBounds { index, end, memory_bytes });
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), BinaryReaderError> {
        let std::ops::Range { start, end } = body.range();
        let bytes = end - start;
        self.within("bytes of one function", bytes, limit::FUNCTION_BYTES_MAX.into());
        let mut locals = 0u64;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
        }
        self.within("locals of one function", locals, limit::FUNCTION_LOCALS_MAX.into());
        let before = self.locals;
        self.locals += locals;
        // Told once, by the function that has one too many.
        if before <= limit::LOCALS_MAX {
            self.within("locals in all", self.locals, limit::LOCALS_MAX);
        }
        let (mut depth, mut deepest) = (0u32, 0u32);
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            let changes_tables = match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    depth += 1;
                    deepest = deepest.max(depth);
                    continue;
                }
                Operator::End => {
                    depth = depth.saturating_sub(1);
                    continue;
                }
                Operator::BrTable { targets } => {
                    let targets = targets.len().into();
                    self.within("br_table targets", targets, limit::BR_TABLE_TARGETS_MAX.into());
                    continue;
                }
                Operator::TableSet { .. } => "table.set",
                Operator::TableGrow { .. } => "table.grow",
                Operator::TableFill { .. } => "table.fill",
                Operator::TableCopy { .. } => "table.copy",
                Operator::TableInit { .. } => "table.init",
                Operator::ElemDrop { .. } => "elem.drop",
                Operator::MemoryInit { .. } => "memory.init",
                Operator::DataDrop { .. } => "data.drop",
                _ => continue, // the validator sees every operator
            };
            let what = changes_tables.into();
            self.violation(ValidateError::TableState { what, offset });
        }
        self.within("nested blocks", deepest.into(), limit::BLOCK_DEPTH_MAX.into());
        Ok(())
    }

    /// Checks imports and exports once all types are known.
    fn interface(&mut self, types: &wasmparser::types::Types) {
        let types = types.as_ref();
        for (index, name, expected) in std::mem::take(&mut self.imports) {
            let id = types.core_function_at(index);
            let found = Signature(types[id].unwrap_func()).to_string();
            if found != expected {
                self.violation(ValidateError::ImportType { name, found, expected });
            }
        }
        let memory_exported = self
            .exports
            .iter()
            .any(|(name, kind, _)| name == export::MEMORY && *kind == ExternalKind::Memory);
        if self.memories != 1 || !memory_exported {
            self.violation(ValidateError::Memories { found: self.memories });
        }
        for (name, expected, required) in [
            (export::INITIALIZE, "() -> ()", false),
            (export::ABI, "() -> (i32)", true),
            (export::ALLOC, "(i32) -> (i32)", true),
            (export::LOAD, "(i32, i32) -> (i64)", true),
            (export::RUN, "(i32, i32) -> (i64)", true),
        ] {
            let found = match self.exports.iter().find(|(export, _, _)| export == name) {
                None if required => "missing".into(),
                None => continue,
                Some((_, ExternalKind::Func, index)) => {
                    let id = types.core_function_at(*index);
                    Signature(types[id].unwrap_func()).to_string()
                }
                Some(_) => "no function".into(),
            };
            if found != expected {
                self.violation(ValidateError::Export { name, found, expected: expected.into() });
            }
        }
    }
}

/// The constant number that an expression is; none when it is anything else.
fn constant<'a>(expression: &ConstExpr<'a>) -> Result<Option<Operator<'a>>, BinaryReaderError> {
    let mut operators = expression.get_operators_reader();
    let (first, second) = (operators.read()?, operators.read()?);
    let is_number = matches!(
        first,
        Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. }
            | Operator::V128Const { .. }
    );
    Ok((is_number && matches!(second, Operator::End)).then_some(first))
}

/// Every name that starts so is taken by `split` for the globals that it exports.
pub(crate) const RESERVED_EXPORT_PREFIX: &str = "fuelbox:";

fn forbidden(module: &str, name: &str) -> ValidateError {
    let wasi = wasi::allowed_names().collect::<Vec<_>>().join(", ");
    let kernels = kernels::allowed_names().collect::<Vec<_>>().join(", ");
    let allowed = format!("{}'s {wasi}, and {}'s {kernels}", wasi::MODULE, kernels::MODULE);
    let name = format!("{module}::{name}");
    ValidateError::Import { name: excerpt(name.as_bytes(), 120), allowed }
}

impl From<BinaryReaderError> for ValidateError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed {
            message: excerpt(error.message().as_bytes(), 200),
            offset: error.offset(),
        }
    }
}

/// A function type as text: `(i32, i32) -> (i64)`, `()` for nothing.
struct Signature<'a>(&'a FuncType);

impl fmt::Display for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValType]| {
            let types: Vec<_> = types.iter().map(ValType::to_string).collect();
            types.join(", ")
        };
        write!(f, "({}) -> ({})", list(self.0.params()), list(self.0.results()))
    }
}
