//! Splitting: a module's code and its initial memory go separate ways.
//!
//! Enters: a [`ValidModule`]. Leaves: the *husk* (the module without data segments and custom
//! sections, its mutable globals exported, with fuel checks in its code) and the *initial image* (the data segments laid out). The
//! husk is compiled once per guest; models differ only in their images.

use crate::{
    fuel_checks::with_fuel_checks,
    validate::{RESERVED_EXPORT_PREFIX, ValidModule},
};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{BinaryReaderError, ExportSectionReader, ExternalKind, Parser, Payload};

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

/// Splits a module, whose code gets fuel checks if it is to count fuel.
///
/// # Errors
/// None for a valid module: readers could fail, and their errors are handed on.
pub(crate) fn split(
    module: &ValidModule<'_>,
    counts_fuel: bool,
) -> Result<Split, BinaryReaderError> {
    let checked = counts_fuel.then(|| with_fuel_checks(module.bytes())).transpose()?;
    let bytes = checked.as_deref().unwrap_or(module.bytes());
    let mut husk = Module::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::ExportSection(exports) => {
                husk.section(&extend_exports(exports.clone(), module.mutable_globals())?);
                continue;
            }
            // Data instructions are not allowed, so segments and their count are needed no more. Custom
            // sections (names, producers) do not decide what code does.
            Payload::DataSection(_)
            | Payload::DataCountSection { .. }
            | Payload::CustomSection(_) => continue,
            _ => {} // every other section is code or types: kept as it is
        }
        if let Some((id, range)) = payload.as_section() {
            let data = &bytes[range.start as usize..range.end as usize];
            husk.section(&RawSection { id, data });
        }
    }
    let mutable_globals = module.mutable_globals().len() as u32;
    let husk = Husk { bytes: husk.finish(), mutable_globals };
    Ok(Split { husk, initial: module.initial() })
}

fn extend_exports(
    exports: ExportSectionReader<'_>,
    mutable_globals: &[u32],
) -> Result<ExportSection, BinaryReaderError> {
    let mut section = ExportSection::new();
    for export in exports {
        let export = export?;
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
