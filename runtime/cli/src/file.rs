//! Files of strangers, read with a limit; files of ours, written whole or not at all.

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// More bytes than are read from a stranger: a limit, not a mistake in the file.
#[derive(Debug, thiserror::Error)]
#[error("{what} of {found} bytes, allowed are {allowed}")]
pub(crate) struct TooLarge {
    pub(crate) what: &'static str,
    pub(crate) found: u64,
    pub(crate) allowed: u64,
}

/// Reads a regular file of at most `bytes_max` bytes. A FIFO, a device or a folder is refused before
/// anything is read from it.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let name = path.display();
    let file = open(path)?;
    let size = file.metadata().with_context(|| format!("{name}"))?.len();
    let mut bytes = Vec::new();
    if size <= bytes_max {
        // One more than it says, so that reading to the end needs no second look for room.
        bytes.reserve_exact(usize::try_from(size)?.saturating_add(1));
        // Not the size that it had a moment ago: files grow, and those of /proc have none.
        file.take(bytes_max + 1).read_to_end(&mut bytes).with_context(|| format!("{name}"))?;
    }
    let found = size.max(bytes.len() as u64);
    if found > bytes_max {
        let error = TooLarge { what: "file", found, allowed: bytes_max };
        return Err(error).with_context(|| format!("{name}"));
    }
    Ok(bytes)
}

/// Opens a regular file for reading.
pub(crate) fn open(path: &Path) -> Result<File> {
    let name = path.display();
    // First by name, as opening some devices has effects; then again, as names can be exchanged.
    // Without blocking, so that a FIFO in between cannot hang us.
    regular(path, &fs::metadata(path).with_context(|| format!("{name}"))?)?;
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path);
    let file = file.with_context(|| format!("{name}"))?;
    regular(path, &file.metadata().with_context(|| format!("{name}"))?)?;
    Ok(file)
}

fn regular(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    let kind = metadata.file_type();
    ensure!(!kind.is_dir(), "{}: this is a folder, allowed are regular files", path.display());
    ensure!(
        kind.is_file(),
        "{}: this is a device or a pipe, allowed are regular files",
        path.display()
    );
    Ok(())
}

/// Writes a new file that only its owner can read. One that is there is not touched: it may be the only
/// copy of another secret.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.display();
    let mut new = OpenOptions::new();
    let mut file = new
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{name}"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("{name}"))
}

/// Writes a file beside its place and moves it there when it is complete.
pub(crate) fn write(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let name = path.display();
    let place = destination(path)?;
    let folder = match place.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut unfinished = tempfile::Builder::new()
        .prefix(".fuelbox-")
        .permissions(Permissions::from_mode(0o666)) // less the umask, like any new file
        .tempfile_in(folder)
        // Without the name of the unfinished file, which nobody knows.
        .map_err(|error| io::Error::from(error.kind()))
        .with_context(|| format!("{name}"))?;
    write(unfinished.as_file_mut())?;
    unfinished.as_file_mut().flush().with_context(|| format!("{name}"))?;
    unfinished.persist(&place).map_err(|error| error.error).with_context(|| format!("{name}"))?;
    Ok(())
}

/// Where the bytes go: through symbolic links, and never in the place of a device.
fn destination(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(metadata) => {
            regular(path, &metadata)?;
            fs::canonicalize(path).with_context(|| format!("{}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("f");
        fs::write(&path, b"12345").expect("file");
        assert_eq!(read(&path, 5).expect("at the limit"), b"12345");
        for (path, bytes_max, expected) in [
            (path.as_path(), 4, "file of 5 bytes, allowed are 4"),
            (folder.path(), 9, "this is a folder, allowed are regular files"),
            (Path::new("/dev/zero"), 9, "this is a device or a pipe, allowed are regular files"),
            (&folder.path().join("none"), 9, "No such file or directory (os error 2)"),
        ] {
            let error = format!("{:#}", read(path, bytes_max).expect_err("refused"));
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("f");
        write(&path, |_| bail!("no")).expect_err("fails");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
        write(&path, |file| Ok(file.write_all(b"a")?)).expect("writes");
        write(&path, |_| bail!("no")).expect_err("fails");
        assert_eq!(fs::read(&path).expect("still there"), b"a");
        write(Path::new("/dev/null"), |_| Ok(())).expect_err("devices stay");
    }
}
