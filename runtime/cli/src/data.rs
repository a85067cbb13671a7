//! The data folder: accounts, jobs, receipts, packages and keys, as the command line finds and opens it.
//!
//! To look at it takes nothing; to work on it takes that no other process does.

use crate::{
    args::Global,
    exit::{Exit, Failure, OrExit, Result},
    host,
    source::Source,
};
use anyhow::Context;
use fuelbox_engine::{Digest, Engine, Signature};
use fuelbox_jobs::{
    Config, DataFolder, FolderError, Host, JobError, Look, PackageRecord, Records, Schedule,
};
use fuelbox_ledger::OpenError;
use fuelbox_receipt::KeyRing;
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where the data folder is, whether or not it is there.
pub(crate) fn place(global: &Global) -> Result<DataFolder> {
    Ok(DataFolder::new(data_path(global.data.clone(), |name| env::var_os(name))?))
}

/// The data folder, which somebody has made.
pub(crate) fn folder(global: &Global) -> Result<DataFolder> {
    let folder = place(global)?;
    if folder.exists() {
        return Ok(folder);
    }
    let path = folder.path().display();
    let text =
        format!("no data folder at {path}: `fuelbox account create` makes it, --data says where");
    Err(Failure::message(Exit::BadInput, text))
}

/// Opens the data folder for looking, beside whoever works on it.
pub(crate) fn look(global: &Global) -> Result<(DataFolder, Look)> {
    let folder = folder(global)?;
    let look = Look::open(&folder)?;
    Ok((folder, look))
}

/// The same; none when there is no data folder.
pub(crate) fn look_if_there(global: &Global) -> Result<Option<(DataFolder, Look)>> {
    if place(global)?.exists() { look(global).map(Some) } else { Ok(None) }
}

/// A data folder that this process works on, with its engine.
pub(crate) struct Open {
    pub(crate) host: Host,
    pub(crate) engine: Engine,
}

/// Opens a data folder for work, with so many workers: as many as there are cores when not given.
pub(crate) fn open(global: &Global, folder: &DataFolder, workers: Option<usize>) -> Result<Open> {
    Ok(try_open(global, folder, workers)??)
}

/// The same; whether another process has it is for the caller to see.
pub(crate) fn try_open(
    global: &Global,
    folder: &DataFolder,
    workers: Option<usize>,
) -> Result<Result<Open, FolderError>> {
    let engine = host::engine(host::cache(global.cache_dir.clone())?)?;
    let config = Config { workers, ..Config::default() };
    let host = Host::open(folder, engine.clone(), config);
    Ok(host.map(|host| Open { host, engine }))
}

/// Whether another process works on the folder.
pub(crate) fn is_locked(error: &FolderError) -> bool {
    matches!(error, FolderError::Ledger(OpenError::Locked { .. }))
}

/// Opens a data folder for its books and keys alone: no job is run.
pub(crate) fn open_books(global: &Global) -> Result<Host> {
    Ok(open(global, &folder(global)?, Some(0))?.host)
}

/// A published package, by digest, `NAME` or `NAME:VERSION`.
pub(crate) fn package(records: &Records<'_>, text: &str) -> Result<PackageRecord> {
    let unknown = || JobError::UnknownPackage { found: text.escape_debug().take(80).collect() };
    Ok(records.find_package(text)?.ok_or_else(unknown)?)
}

/// The file of a published package. That it is there and whole is the host's part.
pub(crate) fn source(folder: &DataFolder, digest: &Digest) -> Result<Source> {
    Source::open(&folder.package(digest)).map_err(|failure| failure.with_exit(Exit::Host))
}

/// What a published model takes and gives.
pub(crate) fn signature(source: &Source) -> Result<&Signature> {
    match source {
        Source::Package(archive) => Ok(&archive.manifest().signature),
        // Files of published packages end in .fbx.
        Source::Bare(_) => Err(Failure::message(Exit::Host, "a published package is no package")),
    }
}

/// The keys to check with: those of the files, otherwise the data folder's.
pub(crate) fn keys(global: &Global, files: &[PathBuf]) -> Result<KeyRing> {
    let mut ring: Option<KeyRing> = None;
    for path in files {
        let bytes = crate::file::read(path, KEYS_BYTES_MAX).or_exit(Exit::BadInput)?;
        let named = |failure: Failure| failure.of(format!("{}", path.display()));
        let text = text(path, bytes)?;
        let more = KeyRing::from_pem(&text).map_err(|error| named(error.into()))?;
        match &mut ring {
            Some(ring) => ring.extend(more),
            None => ring = Some(more),
        }
    }
    if let Some(ring) = ring {
        return Ok(ring);
    }
    let folder = place(global)?;
    let known = if folder.exists() { folder.public_keys()? } else { None };
    known.map(|known| known.ring()).ok_or_else(|| {
        let text = "no keys to check with: give --keys FILE.pem, or a data folder";
        Failure::message(Exit::Usage, text)
    })
}

/// More than any file of public keys has: the receipt crate's own limit.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// A file's bytes as text.
pub(crate) fn text(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).with_context(|| format!("{}", path.display())).or_exit(Exit::BadInput)
}

/// The price schedule of a file, or of the data folder, or the one that new data folders have.
pub(crate) fn schedule(global: &Global, file: Option<&Path>) -> Result<Schedule> {
    if let Some(path) = file {
        return read_schedule(path);
    }
    let folder = place(global)?;
    let known = if folder.exists() { folder.schedule()? } else { None };
    Ok(known.unwrap_or_default())
}

/// Reads a schedule file.
pub(crate) fn read_schedule(path: &Path) -> Result<Schedule> {
    let bytes = crate::file::read(path, SCHEDULE_BYTES_MAX).or_exit(Exit::BadInput)?;
    let named = |error| Failure::from(error).of(format!("{}", path.display()));
    Schedule::parse(&bytes).map_err(named)
}

/// A schedule is a dozen lines.
const SCHEDULE_BYTES_MAX: u64 = 64 << 10;

fn data_path(
    chosen: Option<PathBuf>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    chosen
        .or_else(|| path("FUELBOX_DATA"))
        // The XDG standard says that a relative path is not to be used.
        .or_else(|| Some(path("XDG_DATA_HOME").filter(|path| path.is_absolute())?.join("fuelbox")))
        .or_else(|| Some(path("HOME")?.join(".local").join("share").join("fuelbox")))
        .ok_or_else(|| {
            let text =
                "no place for data: none of --data, FUELBOX_DATA, XDG_DATA_HOME and HOME is set";
            Failure::message(Exit::Host, text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_choice_of_a_data_folder_wins() {
        let check = |chosen: Option<&str>, set: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into())
            };
            let path = data_path(chosen.map(PathBuf::from), variable).ok();
            assert_eq!(path, expected.map(PathBuf::from), "{chosen:?} {set:?}");
        };
        let all = [("FUELBOX_DATA", "/f"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        check(Some("c"), &all, Some("c"));
        check(None, &all, Some("/f"));
        check(None, &all[1..], Some("/x/fuelbox"));
        check(None, &all[2..], Some("/h/.local/share/fuelbox"));
        check(None, &[("XDG_DATA_HOME", "x"), ("HOME", "/h")], Some("/h/.local/share/fuelbox"));
        check(None, &[("FUELBOX_DATA", ""), ("HOME", "/h")], Some("/h/.local/share/fuelbox"));
        check(None, &[], None);
    }
}
