//! Validation: decides whether a stranger's module may become code of this host.
//!
//! Enters: bytes. Leaves: a [`ValidModule`], which says that the module is well-formed Wasm of the
//! profile's features, has the guest ABI's exports, imports nothing but the allowed names, keeps all
//! its state in one memory and in numeric globals, and is within the limits that keep compiling it
//! cheap.

use crate::{kernels, limits::constants as limit, log::excerpt, profile, wasi};
use fuelbox_abi::export;
use std::fmt;
use wasmparser::{
    BinaryReaderError, ExternalKind, FuncType, FuncValidatorAllocations, FunctionBody, Operator,
    Parser, Payload, TypeRef, ValType, ValidPayload, Validator,
};

/// A module that may be split and compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValidModule<'a> {
    bytes: &'a [u8],
}

impl<'a> ValidModule<'a> {
    /// The module.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Why a module is refused. The publisher's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum ValidateError {
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
}

/// Checks a module.
///
/// # Errors
/// The first thing that is not allowed, with what was found.
pub(crate) fn validate(bytes: &[u8]) -> Result<ValidModule<'_>, ValidateError> {
    within("bytes", bytes.len() as u64, limit::MODULE_BYTES_MAX)?;
    let mut check = Check::default();
    let mut validator = Validator::new_with_features(profile::validator_features());
    let mut allocations = FuncValidatorAllocations::default();
    let mut parser = Parser::new(0);
    parser.set_features(profile::validator_features());
    for payload in parser.parse_all(bytes) {
        let payload = payload?;
        if let Payload::Version { encoding: wasmparser::Encoding::Component, .. } = payload {
            return Err(ValidateError::Component);
        }
        check.payload(&payload)?;
        match validator.payload(&payload)? {
            ValidPayload::Func(function, body) => {
                check.function(&body)?;
                let mut function = function.into_validator(allocations);
                function.validate(&body)?;
                allocations = function.into_allocations();
            }
            ValidPayload::End(types) => check.interface(&types)?,
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    Ok(ValidModule { bytes })
}

/// What has been seen of a module.
#[derive(Default)]
struct Check {
    /// Names with the types that they must have.
    imports: Vec<(String, String)>,
    memories: u64,
    exports: Vec<(String, ExternalKind, u32)>,
}

impl Check {
    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), ValidateError> {
        match payload {
            Payload::TypeSection(types) => {
                within("types", types.count().into(), limit::TYPES_MAX.into())
            }
            Payload::ImportSection(imports) => {
                within("imports", imports.count().into(), limit::FUNCTIONS_MAX.into())?;
                for import in imports.clone().into_imports() {
                    let import = import?;
                    let expected = match import.module {
                        wasi::MODULE => wasi::type_of(import.name),
                        kernels::MODULE => kernels::type_of(import.name),
                        _ => None,
                    };
                    match (import.ty, expected) {
                        (TypeRef::Func(_), Some(expected)) => {
                            self.imports.push((import.name.into(), expected));
                        }
                        _ => return Err(forbidden(import.module, import.name)),
                    }
                }
                Ok(())
            }
            Payload::FunctionSection(functions) => {
                within("functions", functions.count().into(), limit::FUNCTIONS_MAX.into())
            }
            Payload::TableSection(tables) => {
                within("tables", tables.count().into(), 1)?;
                for table in tables.clone() {
                    within("table elements", table?.ty.initial, limit::TABLE_ELEMENTS_MAX)?;
                }
                Ok(())
            }
            Payload::MemorySection(memories) => {
                self.memories = memories.count().into();
                Ok(())
            }
            Payload::GlobalSection(globals) => {
                within("globals", globals.count().into(), limit::GLOBALS_MAX.into())?;
                for (index, global) in globals.clone().into_iter().enumerate() {
                    let ty = global?.ty;
                    if ty.mutable && matches!(ty.content_type, ValType::Ref(_)) {
                        return Err(ValidateError::ReferenceGlobal { index: index as u32 });
                    }
                }
                Ok(())
            }
            Payload::ExportSection(exports) => {
                within("exports", exports.count().into(), limit::EXPORTS_MAX.into())?;
                for export in exports.clone() {
                    let export = export?;
                    self.exports.push((export.name.into(), export.kind, export.index));
                }
                Ok(())
            }
            Payload::StartSection { .. } => Err(ValidateError::Start),
            Payload::DataSection(segments) => {
                within("data segments", segments.count().into(), limit::DATA_SEGMENTS_MAX.into())
            }
            _ => Ok(()), // nothing to limit; the validator sees every payload
        }
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), ValidateError> {
        let std::ops::Range { start, end } = body.range();
        let bytes = end - start;
        within("bytes of one function", bytes, limit::FUNCTION_BYTES_MAX.into())?;
        let mut locals = 0u64;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
            within("locals of one function", locals, limit::FUNCTION_LOCALS_MAX.into())?;
        }
        let mut depth = 0u32;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    depth += 1;
                    within("nested blocks", depth.into(), limit::BLOCK_DEPTH_MAX.into())?;
                }
                Operator::End => depth = depth.saturating_sub(1),
                Operator::BrTable { targets } => {
                    let targets = targets.len().into();
                    within("br_table targets", targets, limit::BR_TABLE_TARGETS_MAX.into())?;
                }
                Operator::TableSet { .. } => return Err(table_state("table.set", offset)),
                Operator::TableGrow { .. } => return Err(table_state("table.grow", offset)),
                Operator::TableFill { .. } => return Err(table_state("table.fill", offset)),
                Operator::TableCopy { .. } => return Err(table_state("table.copy", offset)),
                Operator::TableInit { .. } => return Err(table_state("table.init", offset)),
                Operator::ElemDrop { .. } => return Err(table_state("elem.drop", offset)),
                Operator::MemoryInit { .. } => return Err(table_state("memory.init", offset)),
                Operator::DataDrop { .. } => return Err(table_state("data.drop", offset)),
                _ => {} // the validator sees every operator
            }
        }
        Ok(())
    }

    /// Checks imports and exports once all types are known.
    fn interface(&self, types: &wasmparser::types::Types) -> Result<(), ValidateError> {
        let types = types.as_ref();
        for (index, (name, expected)) in self.imports.iter().enumerate() {
            let id = types.core_function_at(index as u32);
            let found = Signature(types[id].unwrap_func()).to_string();
            if found != *expected {
                let (name, expected) = (name.clone(), expected.clone());
                return Err(ValidateError::ImportType { name, found, expected });
            }
        }
        let memory_exported = self
            .exports
            .iter()
            .any(|(name, kind, _)| name == export::MEMORY && *kind == ExternalKind::Memory);
        if self.memories != 1 || !memory_exported {
            return Err(ValidateError::Memories { found: self.memories });
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
                return Err(ValidateError::Export { name, found, expected: expected.into() });
            }
        }
        Ok(())
    }
}

/// Every name that starts so is taken by `split` for the globals that it exports.
pub(crate) const RESERVED_EXPORT_PREFIX: &str = "fuelbox:";

fn within(what: &'static str, found: u64, allowed: u64) -> Result<(), ValidateError> {
    if found <= allowed { Ok(()) } else { Err(ValidateError::OverLimit { what, found, allowed }) }
}

fn forbidden(module: &str, name: &str) -> ValidateError {
    let wasi = wasi::allowed_names().collect::<Vec<_>>().join(", ");
    let kernels = kernels::allowed_names().collect::<Vec<_>>().join(", ");
    let allowed = format!("{}'s {wasi}, and {}'s {kernels}", wasi::MODULE, kernels::MODULE);
    let name = format!("{module}::{name}");
    ValidateError::Import { name: excerpt(name.as_bytes(), 120), allowed }
}

fn table_state(what: &str, offset: u64) -> ValidateError {
    ValidateError::TableState { what: what.into(), offset }
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
