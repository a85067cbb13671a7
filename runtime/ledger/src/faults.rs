//! A store that fails on demand: SQLite's default VFS, with a gate before everything that changes the
//! disk. For tests only.
//!
//! A VFS is a table of functions by which SQLite reaches files. This one gives SQLite a table of its
//! own, and hands every call on to the default one; writes, syncs, truncations and the opening of a log
//! are counted first, and fail when their number is up. Syncs that do not fail are not done either: no
//! test cuts the power, and without them tests are quick on any disk.
//!
//! Invariants, which the `SAFETY` comments lean on:
//! 1. A `Shared` and its VFS are never freed or moved, so pointers to them hold as long as the
//!    process.
//! 2. A file of this VFS is a `Head` and, `HEAD_BYTES` behind its start, a file of the default VFS.
//!    SQLite allocates `szOsFile` zeroed bytes, aligned to 8, for both.
//! 3. SQLite calls the methods of a file only between its `xOpen` and its `xClose`, and only when
//!    `xOpen` left a table in it; that is done when the default VFS opened its part.

use rusqlite::ffi::{
    self, SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR, SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHMMAP,
    SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE, SQLITE_OPEN_WAL, sqlite3_file, sqlite3_int64,
    sqlite3_io_methods, sqlite3_vfs,
};
use std::{
    ffi::{CString, c_char, c_int, c_void},
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk says no.
    Io,
    /// The disk says no, and half of what was to be written is there.
    Torn,
    /// There is no room left.
    Full,
}

/// Which operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first one that fails, counted from when the fault was set: 1 is the next.
    pub nth: u64,
    /// How.
    pub failure: Failure,
    /// Of these alone, if they are named; of all, if not.
    pub only: Option<Operation>,
    /// Whether all after it fail as well, until [`Faults::heal`].
    pub lasting: bool,
}

/// A VFS that fails on demand. Its name goes into [`Options`](crate::Options).
#[derive(Clone, Copy)]
pub struct Faults {
    shared: &'static Shared,
}

/// What a VFS of this module has beside SQLite's own structure.
struct Shared {
    name: CString,
    base: *mut sqlite3_vfs,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    operations: u64,
    fault: Option<Fault>,
    /// Operations since the fault was set.
    since: u64,
    failed: u64,
}

// SAFETY: `base` points to the default VFS, which SQLite itself uses from every thread and never frees.
unsafe impl Send for Shared {}
// SAFETY: as above; the gate has its lock.
unsafe impl Sync for Shared {}

/// What changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A log is opened.
    OpenLog,
    /// Bytes are written, of the database or of the log.
    Write,
    /// What was written is to be brought to the disk.
    Sync,
    /// A file is made shorter.
    Truncate,
}

impl Operation {
    /// SQLite's code for an I/O error of this operation.
    fn io_code(self) -> c_int {
        match self {
            Self::OpenLog => SQLITE_CANTOPEN,
            Self::Write => SQLITE_IOERR_WRITE,
            Self::Sync => SQLITE_IOERR_FSYNC,
            Self::Truncate => SQLITE_IOERR_TRUNCATE,
        }
    }
}

impl Faults {
    /// Makes one, and makes it known to SQLite. None when SQLite has no default VFS or no memory. It
    /// stays for the rest of the process: some 300 bytes.
    pub fn register() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("faults-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // SAFETY: null asks for the default VFS.
        let base = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        if base.is_null() {
            return None;
        }
        let name = CString::new(name).ok()?;
        let shared: &'static Shared =
            Box::leak(Box::new(Shared { name, base, gate: Mutex::default() }));
        // SAFETY: not null, so a VFS, which SQLite never frees; its fields are plain data.
        let own = unsafe {
            sqlite3_vfs {
                // 2: the functions up to `xCurrentTimeInt64`.
                iVersion: 2,
                szOsFile: HEAD_BYTES as c_int + (*base).szOsFile,
                mxPathname: (*base).mxPathname,
                pNext: ptr::null_mut(),
                zName: shared.name.as_ptr(),
                pAppData: ptr::from_ref(shared).cast_mut().cast(),
                xOpen: Some(open),
                xDelete: Some(delete),
                xAccess: Some(access),
                xFullPathname: Some(full_pathname),
                // Extensions in shared libraries are switched off, and stay it.
                xDlOpen: None,
                xDlError: None,
                xDlSym: None,
                xDlClose: None,
                xRandomness: Some(randomness),
                xSleep: Some(sleep),
                xCurrentTime: Some(current_time),
                xGetLastError: Some(get_last_error),
                xCurrentTimeInt64: Some(current_time_int64),
                xSetSystemCall: None,
                xGetSystemCall: None,
                xNextSystemCall: None,
            }
        };
        // SAFETY: a whole VFS that is never freed (invariant 1), with a name of its own.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(own)), 0) };
        (code == ffi::SQLITE_OK).then_some(Self { shared })
    }

    /// The name of the VFS.
    pub fn name(&self) -> String {
        self.shared.name.to_string_lossy().into_owned()
    }

    /// Sets a fault, in place of the one before.
    pub fn set(&self, fault: Fault) {
        let mut gate = self.shared.gate();
        (gate.fault, gate.since, gate.failed) = (Some(fault), 0, 0);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.shared.gate().fault = None;
    }

    /// Operations so far, those that failed included.
    pub fn operations(&self) -> u64 {
        self.shared.gate().operations
    }

    /// Operations that failed since a fault was last set.
    pub fn failed(&self) -> u64 {
        self.shared.gate().failed
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; how it fails, if it does.
    fn pass(&self, operation: Operation) -> Option<Failure> {
        let mut gate = self.gate();
        gate.operations += 1;
        let Fault { nth, failure, only, lasting } = gate.fault?;
        if only.is_some_and(|only| only != operation) {
            return None;
        }
        gate.since += 1;
        let fails = if lasting { gate.since >= nth } else { gate.since == nth };
        gate.failed += u64::from(fails);
        fails.then_some(failure)
    }
}

fn code(operation: Operation, failure: Failure) -> c_int {
    match failure {
        Failure::Io | Failure::Torn => operation.io_code(),
        Failure::Full => SQLITE_FULL,
    }
}

/// The start of a file of this VFS. SQLite knows the first field.
#[repr(C)]
struct Head {
    file: sqlite3_file,
    shared: *const Shared,
}

/// Where the default VFS's file starts.
const HEAD_BYTES: usize = size_of::<Head>().next_multiple_of(8);

/// The gate of a file, and the default VFS's part of it.
///
/// # Safety
/// `file` is an open file of this VFS.
unsafe fn parts<'a>(file: *mut sqlite3_file) -> (&'a Shared, *mut sqlite3_file) {
    // SAFETY: an open file starts with a `Head` whose pointer `open` has set (invariants 2 and 3), to
    // what is never freed (invariant 1). The rest of the allocation is the other file.
    unsafe { (&*(*file.cast::<Head>()).shared, file.byte_add(HEAD_BYTES)) }
}

/// The default VFS behind this one.
///
/// # Safety
/// `vfs` is one of this module.
unsafe fn shared<'a>(vfs: *mut sqlite3_vfs) -> &'a Shared {
    // SAFETY: `register` puts a pointer to a `Shared` there that is never freed (invariant 1).
    unsafe { &*(*vfs).pAppData.cast::<Shared>() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this with a VFS of this module, and with memory for a whole file (invariant
    // 2), which nobody else uses yet. The other file's `xOpen` gets its VFS, its part of the memory,
    // and SQLite's own arguments.
    unsafe {
        (*file).pMethods = ptr::null();
        let shared = shared(vfs);
        if flags & SQLITE_OPEN_WAL != 0
            && let Some(failure) = shared.pass(Operation::OpenLog)
        {
            return code(Operation::OpenLog, failure);
        }
        let Some(base_open) = (*shared.base).xOpen else { return SQLITE_CANTOPEN };
        let base = file.byte_add(HEAD_BYTES);
        let code = base_open(shared.base, name, base, flags, flags_out);
        if !(*base).pMethods.is_null() {
            (*file.cast::<Head>()).shared = shared;
            (*file).pMethods = &raw const METHODS;
        }
        code
    }
}

/// A function of the VFS that is the default one's.
macro_rules! handed_on {
    ($name:ident, $field:ident, $($argument:ident: $type:ty),*) => {
        unsafe extern "C" fn $name(vfs: *mut sqlite3_vfs, $($argument: $type),*) -> c_int {
            // SAFETY: SQLite calls this with a VFS of this module; the default one gets its own
            // structure and SQLite's own arguments.
            unsafe {
                let base = shared(vfs).base;
                (*base).$field.map_or(SQLITE_IOERR, |call| call(base, $($argument),*))
            }
        }
    };
}

handed_on!(delete, xDelete, name: *const c_char, sync_folder: c_int);
handed_on!(access, xAccess, name: *const c_char, flags: c_int, out: *mut c_int);
handed_on!(full_pathname, xFullPathname, name: *const c_char, bytes: c_int, out: *mut c_char);
handed_on!(randomness, xRandomness, bytes: c_int, out: *mut c_char);
handed_on!(sleep, xSleep, microseconds: c_int);
handed_on!(current_time, xCurrentTime, out: *mut f64);
handed_on!(get_last_error, xGetLastError, bytes: c_int, out: *mut c_char);
handed_on!(current_time_int64, xCurrentTimeInt64, out: *mut sqlite3_int64);

/// A method of a file that is the other file's. `$missing` is for a file without it.
macro_rules! passed {
    ($name:ident, $field:ident, $version:literal, $missing:expr, $($argument:ident: $type:ty),*) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $type),*) -> c_int {
            // SAFETY: SQLite calls this with an open file of this VFS (invariant 3). The other file's
            // method is in its table, which has the field from this version on; it gets its own file
            // and SQLite's own arguments.
            unsafe {
                let (_, base) = parts(file);
                let methods = (*base).pMethods;
                if (*methods).iVersion < $version {
                    return $missing;
                }
                (*methods).$field.map_or($missing, |call| call(base, $($argument),*))
            }
        }
    };
}

passed!(read, xRead, 1, SQLITE_IOERR, out: *mut c_void, bytes: c_int, offset: sqlite3_int64);
passed!(base_write, xWrite, 1, SQLITE_IOERR, from: *const c_void, bytes: c_int, offset: sqlite3_int64);
passed!(base_truncate, xTruncate, 1, SQLITE_IOERR, size: sqlite3_int64);
passed!(file_size, xFileSize, 1, SQLITE_IOERR, out: *mut sqlite3_int64);
passed!(lock, xLock, 1, SQLITE_IOERR, level: c_int);
passed!(unlock, xUnlock, 1, SQLITE_IOERR, level: c_int);
passed!(check_reserved_lock, xCheckReservedLock, 1, SQLITE_IOERR, out: *mut c_int);
passed!(file_control, xFileControl, 1, ffi::SQLITE_NOTFOUND, operation: c_int, out: *mut c_void);
passed!(sector_size, xSectorSize, 1, 0,);
passed!(device_characteristics, xDeviceCharacteristics, 1, 0,);
passed!(base_close, xClose, 1, SQLITE_IOERR,);
passed!(shm_map, xShmMap, 2, SQLITE_IOERR_SHMMAP,
    page: c_int, bytes: c_int, extend: c_int, out: *mut *mut c_void);
passed!(shm_lock, xShmLock, 2, SQLITE_IOERR, offset: c_int, count: c_int, flags: c_int);
passed!(shm_unmap, xShmUnmap, 2, SQLITE_IOERR, delete: c_int);

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: as in `passed`.
    unsafe {
        let (_, base) = parts(file);
        let methods = (*base).pMethods;
        if (*methods).iVersion >= 2
            && let Some(call) = (*methods).xShmBarrier
        {
            call(base);
        }
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite calls this with an open file of this VFS; from here on it is closed, and SQLite
    // frees its memory.
    unsafe {
        let code = base_close(file);
        (*file).pMethods = ptr::null();
        code
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite calls this with an open file of this VFS and `bytes` readable bytes; half of them
    // are readable as well.
    unsafe {
        match parts(file).0.pass(Operation::Write) {
            None => base_write(file, from, bytes, offset),
            Some(failure) => {
                if failure == Failure::Torn {
                    base_write(file, from, bytes / 2, offset);
                }
                code(Operation::Write, failure)
            }
        }
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls this with an open file of this VFS.
    unsafe {
        let failure = parts(file).0.pass(Operation::Truncate);
        failure
            .map_or_else(|| base_truncate(file, size), |failure| code(Operation::Truncate, failure))
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: SQLite calls this with an open file of this VFS.
    let failure = unsafe { parts(file).0.pass(Operation::Sync) };
    failure.map_or(ffi::SQLITE_OK, |failure| code(Operation::Sync, failure))
}

/// The methods of every file of this VFS.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // 2: with shared memory, which the log needs; without pages that are mapped.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
