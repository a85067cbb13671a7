//! Sweeping: files that no row names go. A crash leaves some, and so does a package that was removed.
//!
//! Invariant: a file is there before its row, so a young one may be about to get it. Only files that
//! were last stored a day ago or longer are looked at, and whoever stores content again makes it young.

use crate::{
    blobs::{Seen, old_files},
    fault::HostFault,
    publish::UNFINISHED,
    records::Records,
    shared::Shared,
    tables,
};
use fuelbox_digest::Digest;
use rusqlite::Connection;
use std::{fs, time::Duration};

/// Longer than any job or upload takes from its file to its row.
const AGE: Duration = Duration::from_secs(24 * 3_600);

/// Removes what nobody needs. Ends early when it is told to.
pub(crate) fn files(shared: &Shared, is_to_go: &dyn Fn() -> bool) -> Result<(), HostFault> {
    blobs(shared, is_to_go)?;
    packages(shared, is_to_go)
}

fn blobs(shared: &Shared, is_to_go: &dyn Fn() -> bool) -> Result<(), HostFault> {
    let mut failed = None;
    let mut see = |digest: &Digest| {
        if is_to_go() {
            return Seen::Stop;
        }
        let named = shared.books.ledger.read(|reader| is_named(reader.connection(), digest));
        match named.map_err(HostFault::from).and_then(|named| named.map_err(HostFault::from)) {
            Ok(true) => Seen::Needed,
            Ok(false) => Seen::Orphan,
            Err(fault) => {
                failed = Some(fault);
                Seen::Stop
            }
        }
    };
    shared.blobs.sweep(AGE, &mut see).map_err(HostFault::Blobs)?;
    failed.map_or(Ok(()), Err)
}

/// Whether content in a file is kept, or is the input of a job that has not ended.
fn is_named(connection: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    if tables::is_file_named(connection, digest)? {
        return Ok(true);
    }
    let sql =
        "SELECT EXISTS (SELECT 1 FROM job WHERE state IN ('queued', 'running') AND input = ?1)";
    connection.prepare_cached(sql)?.query_row([digest.as_bytes()], |row| row.get(0))
}

fn packages(shared: &Shared, is_to_go: &dyn Fn() -> bool) -> Result<(), HostFault> {
    let catalogue = &shared.catalogue;
    for (name, path) in old_files(catalogue.folder(), AGE).map_err(HostFault::Blobs)? {
        if is_to_go() {
            return Ok(());
        }
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(UNFINISHED) {
            // One that stays is found again.
            let _ = fs::remove_file(path);
            continue;
        }
        let hex = name.strip_suffix(".fbx");
        let Some(Ok(digest)) = hex.map(|hex| format!("sha256:{hex}").parse::<Digest>()) else {
            continue;
        };
        // Nobody stores it while it is looked at.
        let _alone = catalogue.alone();
        let found = shared
            .books
            .ledger
            .read(|reader| Records::new(reader).find_package(&digest.to_string()))??;
        // Another look at its time: it may have been published since the list was made.
        let is_old = || {
            fs::metadata(&path)
                .and_then(|file| file.modified())
                .is_ok_and(|stored| stored.elapsed().unwrap_or_default() >= AGE)
        };
        if found.is_none() && is_old() {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}
