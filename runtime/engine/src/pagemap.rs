//! Which pages of a mapping a job has dirtied, by the kernel's own account (`PAGEMAP_SCAN`, Linux
//! 6.7 and later).
//!
//! In a private mapping of a file, a page that was written is no longer the file's: it is anonymous,
//! and either present or swapped out. Both have to be asked for: a mask of present pages alone would
//! leave the swapped ones dirty.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{Mode, OFlags},
    ioctl::{self, Ioctl, IoctlOutput, Opcode},
};
use std::{ffi::c_void, ops::Range, sync::OnceLock};

/// Bytes of a page on the machines that fuelbox runs on (x86-64, and arm64 as usually configured).
/// Checked against the kernel's own word before anything is scanned.
pub(crate) const PAGE_BYTES: usize = 4096;

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;

/// Regions that one call returns at most; a scan that finds more calls again.
const REGIONS_PER_CALL: usize = 256;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)`.
struct PagemapScan<'a>(&'a mut ScanArgument);

// SAFETY: the opcode belongs to this structure (its size is part of the opcode and checked by the
// kernel), and the kernel writes to `walk_end` and to the `vec_len` regions at `vec`, which `scan`
// points at a live array of that length.
unsafe impl Ioctl for PagemapScan<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        ioctl::opcode::read_write::<ScanArgument>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        Ok(out as usize)
    }
}

/// Calls `found` with every run of dirtied pages in `range`, by address, in order.
///
/// # Errors
/// When the kernel has no `PAGEMAP_SCAN` or refuses. `found` may have been called by then.
pub(crate) fn dirty_pages(
    range: Range<usize>,
    mut found: impl FnMut(Range<usize>),
) -> rustix::io::Result<()> {
    let pagemap = pagemap()?;
    let mut start = range.start as u64;
    let end = range.end as u64;
    while start < end {
        let mut regions = [PageRegion::default(); REGIONS_PER_CALL];
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            flags: 0,
            start,
            end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS_PER_CALL as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_FILE,
            category_mask: PAGE_IS_FILE,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        };
        // SAFETY: see `PagemapScan`; `regions` outlives the call.
        let count = unsafe { ioctl::ioctl(pagemap, PagemapScan(&mut argument))? };
        for region in regions.iter().take(count) {
            found(region.start as usize..region.end as usize);
        }
        if argument.walk_end <= start {
            return Err(rustix::io::Errno::INVAL); // no progress: never loop on a kernel's mistake
        }
        start = argument.walk_end;
    }
    Ok(())
}

/// Whether this kernel can say which pages are dirty.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let page = std::ptr::from_ref(&AVAILABLE) as usize & !(PAGE_BYTES - 1);
        rustix::param::page_size() == PAGE_BYTES
            && dirty_pages(page..page + PAGE_BYTES, |_| ()).is_ok()
    })
}

fn pagemap() -> rustix::io::Result<BorrowedFd<'static>> {
    static PAGEMAP: OnceLock<rustix::io::Result<OwnedFd>> = OnceLock::new();
    let open = || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/self/pagemap", flags, Mode::empty())
    };
    match PAGEMAP.get_or_init(open) {
        Ok(file) => Ok(file.as_fd()),
        Err(error) => Err(*error),
    }
}
