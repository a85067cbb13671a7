//! The price schedule's file, and the schedules that the store remembers: every one that a receipt
//! names can be read again.

use crate::{
    fault::{FolderError, HostFault},
    price::{PriceError, Schedule},
    tables::Tables,
};
use fuelbox_digest::Digest;
use fuelbox_ledger::{Ledger, LedgerError};
use rusqlite::{OptionalExtension, params};
use std::{fs, io, path::Path};

/// Reads the schedule of a data folder; writes the default one when there is none. A version that was
/// there before must have the prices that it had.
pub(crate) fn read(path: &Path, ledger: &Ledger<Tables>) -> Result<Schedule, FolderError> {
    let io = |source| FolderError::Io { path: path.display().to_string(), source };
    let schedule = match fs::read(path) {
        Ok(bytes) => Schedule::parse(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let schedule = Schedule::default();
            fs::write(path, schedule.to_file()).map_err(io)?;
            schedule
        }
        Err(error) => return Err(io(error)),
    };
    let (version, digest) = (schedule.version, schedule.digest());
    let content = schedule.to_bytes();
    let known = ledger.write(move |tx| -> Result<Digest, LedgerError> {
        let sql = "SELECT digest FROM schedule WHERE version = ?1";
        let mut select = tx.connection().prepare_cached(sql)?;
        let found: Option<[u8; 32]> =
            select.query_row([version.cast_signed()], |row| row.get(0)).optional()?;
        if let Some(found) = found {
            return Ok(Digest::from_bytes(found));
        }
        let sql = "INSERT INTO schedule (version, digest, content) VALUES (?1, ?2, ?3)";
        let values = params![version.cast_signed(), digest.as_bytes(), content];
        tx.connection().prepare_cached(sql)?.execute(values)?;
        Ok(digest)
    });
    let known = known.map_err(|error| FolderError::Recovery(HostFault::from(error)))?;
    if known == digest {
        Ok(schedule)
    } else {
        Err(PriceError::Changed { version, known, found: digest }.into())
    }
}
