//! Splitting: a module's code and its initial memory go separate ways.
//!
//! Enters: a [`ValidModule`]. Leaves: the *husk* (the module without data segments and custom
//! sections, its mutable globals exported) and the *initial image* (the data segments laid out). The
//! husk is compiled once per guest; models differ only in their images.

use crate::{
    limits::constants::WASM_PAGE_BYTES,
    validate::{RESERVED_EXPORT_PREFIX, ValidModule, ValidateError},
};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{
    BinaryReaderError, DataKind, DataSectionReader, ExportSectionReader, ExternalKind, Operator,
    Parser, Payload,
};

/// A module in two parts.
#[derive(Debug)]
pub(crate) struct Split {
    /// The code.
    pub(crate) husk: Husk,
    /// What memory holds before anything runs; as long as the module's memory at its smallest.
    pub(crate) initial: Vec<u8>,
}

/// A module that depends on nothing but its code.
#[derive(Debug)]
pub(crate) struct Husk {
    bytes: Vec<u8>,
    mutable_globals: u32,
}

impl Husk {
    /// The module.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many mutable globals it exports: names from [`global_export`]`(0)` on.
    pub(crate) fn mutable_globals(&self) -> u32 {
        self.mutable_globals
    }
}

/// The name under which a husk exports its mutable global number `index`.
pub(crate) fn global_export(index: u32) -> String {
    format!("{RESERVED_EXPORT_PREFIX}global:{index}")
}

/// Why a valid module cannot be split. The publisher's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SplitError {
    /// A data segment of a kind that is not laid out here.
    #[error(transparent)]
    Segment(#[from] ValidateError),
    /// A data segment that does not fit the memory.
    #[error("module: data segment {index} ends at byte {end}, the memory has {memory_bytes}")]
    OutOfBounds { index: u32, end: u64, memory_bytes: u64 },
    /// An export of a reserved name.
    #[error(
        "module: export '{name}': names that start with '{RESERVED_EXPORT_PREFIX}' are reserved"
    )]
    ReservedExport { name: String },
}

impl From<BinaryReaderError> for SplitError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Segment(error.into())
    }
}

/// Splits a module.
///
/// # Errors
/// When a data segment is not active, has no constant offset, or lies outside of the memory.
pub(crate) fn split(module: &ValidModule<'_>) -> Result<Split, SplitError> {
    let bytes = module.bytes();
    let mut husk = Module::new();
    let mut initial = Vec::new();
    let mut mutable_globals = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    // At most 4 GiB, by validation; zeroed pages cost nothing until written.
                    initial = vec![0; (memory?.initial * WASM_PAGE_BYTES) as usize];
                }
            }
            Payload::GlobalSection(globals) => {
                // Global imports are not allowed, so the index space starts with these.
                for (index, global) in globals.clone().into_iter().enumerate() {
                    if global?.ty.mutable {
                        mutable_globals.push(index as u32);
                    }
                }
            }
            Payload::ExportSection(exports) => {
                husk.section(&extend_exports(exports.clone(), &mutable_globals)?);
                continue;
            }
            Payload::DataSection(segments) => {
                lay_out(segments.clone(), &mut initial)?;
                continue;
            }
            // Data instructions are not allowed, so the count is needed no more. Custom sections
            // (names, producers) do not decide what code does.
            Payload::DataCountSection { .. } | Payload::CustomSection(_) => continue,
            _ => {} // every other section is code or types: kept as it is
        }
        if let Some((id, range)) = payload.as_section() {
            let data = &bytes[range.start as usize..range.end as usize];
            husk.section(&RawSection { id, data });
        }
    }
    let husk = Husk { bytes: husk.finish(), mutable_globals: mutable_globals.len() as u32 };
    Ok(Split { husk, initial })
}

fn extend_exports(
    exports: ExportSectionReader<'_>,
    mutable_globals: &[u32],
) -> Result<ExportSection, SplitError> {
    let mut section = ExportSection::new();
    for export in exports {
        let export = export?;
        if export.name.starts_with(RESERVED_EXPORT_PREFIX) {
            let name = crate::log::excerpt(export.name.as_bytes(), 80);
            return Err(SplitError::ReservedExport { name });
        }
        let kind = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
        };
        section.export(export.name, kind, export.index);
    }
    for (number, index) in mutable_globals.iter().enumerate() {
        section.export(&global_export(number as u32), ExportKind::Global, *index);
    }
    Ok(section)
}

/// Copies the segments to where they go, in their order, as instantiation would.
fn lay_out(segments: DataSectionReader<'_>, initial: &mut [u8]) -> Result<(), SplitError> {
    for (index, segment) in segments.into_iter().enumerate() {
        let (index, segment) = (index as u32, segment?);
        let bad = |found| SplitError::Segment(ValidateError::DataSegment { index, found });
        let DataKind::Active { offset_expr, .. } = segment.kind else {
            return Err(bad("passive"));
        };
        let mut offset = offset_expr.get_operators_reader();
        let (Operator::I32Const { value }, Operator::End) = (offset.read()?, offset.read()?) else {
            return Err(bad("active with a computed offset"));
        };
        let start = u64::from(value as u32);
        let end = start + segment.data.len() as u64;
        let memory_bytes = initial.len() as u64;
        let place = initial.get_mut(start as usize..end as usize);
        let out_of_bounds = SplitError::OutOfBounds { index, end, memory_bytes };
        place.ok_or(out_of_bounds)?.copy_from_slice(segment.data);
    }
    Ok(())
}
