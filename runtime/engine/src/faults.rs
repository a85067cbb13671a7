//! Page faults of a thread, by the kernel's own count.
//!
//! A page of a private mapping becomes the job's own by a fault: the first write to it. So where a
//! thread had no fault between two looks, it has made no page its own, and those that were its own
//! before are all that it can have written to.

use rustix::mm::{MapFlags, ProtFlags};
use std::{mem::MaybeUninit, sync::OnceLock};

/// How many faults this thread has had, of both kinds. None where the kernel does not count as this
/// module needs it.
pub(crate) fn count() -> Option<u64> {
    static COUNTED: OnceLock<bool> = OnceLock::new();
    COUNTED.get_or_init(are_counted).then(now).flatten()
}

fn now() -> Option<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call writes the whole structure when it gives 0.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    let [minor, major] = [usage.ru_minflt, usage.ru_majflt].map(u64::try_from);
    Some(minor.ok()? + major.ok()?)
}

/// Whether a first write to a page of a private mapping counts, with its page read before or not, and
/// whether a second one does not.
fn are_counted() -> bool {
    let Ok(file) = rustix::fs::memfd_create("fuelbox-faults", rustix::fs::MemfdFlags::CLOEXEC)
    else {
        return false;
    };
    const PAGES: usize = 2;
    let len = PAGES * crate::pagemap::PAGE_BYTES;
    if rustix::fs::ftruncate(&file, len as u64).is_err() {
        return false;
    }
    // SAFETY: a new mapping at an address of the kernel's choice, inside of the file, used and
    // unmapped here alone.
    unsafe {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let null = std::ptr::null_mut();
        let Ok(start) = rustix::mm::mmap(null, len, rights, MapFlags::PRIVATE, &file, 0) else {
            return false;
        };
        let (first, second) = (start.cast::<u8>(), start.cast::<u8>().add(len / PAGES));
        let looks = [
            now(),
            {
                first.read_volatile();
                first.write_volatile(1);
                now()
            },
            {
                second.write_volatile(1);
                now()
            },
        ];
        // Looking takes no memory; a few tries keep a fault of somebody else's making out.
        let again = (0..8).any(|_| {
            let before = now();
            first.write_volatile(2);
            second.write_volatile(2);
            before.is_some() && before == now()
        });
        let _ = rustix::mm::munmap(start, len);
        matches!(looks, [Some(a), Some(b), Some(c)] if a < b && b < c) && again
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_kernel_counts_faults() {
        // Where it does not, slots are scanned after each job: slower, and as safe.
        assert!(super::count().is_some());
    }
}
