//! Lists in the form that was asked for: a table for people, JSON or CSV for programs. Both have the
//! same fields.

use anyhow::Result;
use serde::Serialize;
use std::io::Write;

/// The form of a list.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct ListFormat {
    /// Print a JSON list.
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values under a line of headings.
    #[arg(long)]
    csv: bool,
}

impl ListFormat {
    /// Writes a list. `fields` are the names of the rows' fields, for a list without rows.
    pub(crate) fn write<T: Serialize>(
        self,
        mut out: impl Write,
        fields: &[&str],
        rows: &[T],
        table: impl FnOnce() -> String,
    ) -> Result<()> {
        match (self.json, self.csv) {
            (true, _) => {
                serde_json::to_writer(&mut out, rows)?;
                Ok(writeln!(out)?)
            }
            (false, true) => {
                let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                csv.write_record(fields)?;
                rows.iter().try_for_each(|row| csv.serialize(row))?;
                Ok(csv.flush()?)
            }
            (false, false) => Ok(out.write_all(table().as_bytes())?),
        }
    }
}
