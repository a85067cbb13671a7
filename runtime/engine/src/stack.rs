//! Stacks for guests: every job runs on one of its own, so that a deadline can stop it anywhere and
//! so that no caller's thread is too small. Used ones wait on their thread for the next job.

use crate::limits::constants::{HOST_STACK_BYTES, WASM_STACK_BYTES};
use crate::pagemap::PAGE_BYTES;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::{cell::RefCell, ops::Range, ptr::NonNull};
use wasmtime::{StackCreator, StackMemory};

const STACK_BYTES: usize = WASM_STACK_BYTES + HOST_STACK_BYTES;

/// Stacks that one thread keeps: one for its job, and one for a job inside of that (a load while a
/// run is suspended).
const STACKS_KEPT: usize = 2;

thread_local! {
    static FREE: RefCell<Vec<Mapping>> = const { RefCell::new(Vec::new()) };
}

/// Gives wasmtime stacks.
pub(crate) struct StackPool;

/// A guard page, and the stack above it.
struct Mapping {
    guard: NonNull<u8>,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is accessed through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new() -> rustix::io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice, then a change of protection of
        // its upper part, which nothing uses yet.
        unsafe {
            let guard = rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                PAGE_BYTES + STACK_BYTES,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?;
            let mapping =
                Self { guard: NonNull::new(guard.cast()).ok_or(rustix::io::Errno::NOMEM)? };
            let rights = MprotectFlags::READ | MprotectFlags::WRITE;
            rustix::mm::mprotect(mapping.bottom().cast(), STACK_BYTES, rights)?;
            Ok(mapping)
        }
    }

    fn bottom(&self) -> *mut u8 {
        self.guard.as_ptr().wrapping_add(PAGE_BYTES)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole mapping was made by `new` and belongs to this value.
        let _ = unsafe { rustix::mm::munmap(self.guard.as_ptr().cast(), PAGE_BYTES + STACK_BYTES) };
    }
}

/// A stack in use; goes back to its thread's pool when dropped.
struct JobStack(Option<Mapping>);

impl JobStack {
    fn guard(&self) -> *mut u8 {
        self.0.as_ref().map_or(std::ptr::null_mut(), |mapping| mapping.guard.as_ptr())
    }
}

impl Drop for JobStack {
    fn drop(&mut self) {
        let mapping = self.0.take();
        // When the thread is ending its pool may be gone; then the stack goes, too.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < STACKS_KEPT {
                free.extend(mapping);
            }
        });
    }
}

// SAFETY: the range is readable and writable, page-aligned, with a guard page below it, and belongs to
// this value until it is dropped. A stack that was used before is not zeroed: guests cannot read
// native stacks.
unsafe impl StackMemory for JobStack {
    fn top(&self) -> *mut u8 {
        self.guard().wrapping_add(PAGE_BYTES + STACK_BYTES)
    }

    fn range(&self) -> Range<usize> {
        let bottom = self.guard() as usize + PAGE_BYTES;
        bottom..bottom + STACK_BYTES
    }

    fn guard_range(&self) -> Range<*mut u8> {
        self.guard()..self.guard().wrapping_add(PAGE_BYTES)
    }
}

// SAFETY: see `JobStack`.
unsafe impl StackCreator for StackPool {
    fn new_stack(&self, size: usize, _: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        if size > STACK_BYTES {
            return Err(wasmtime::format_err!("stack of {size} bytes, allowed are {STACK_BYTES}"));
        }
        let pooled = FREE.with_borrow_mut(Vec::pop);
        let mapping = match pooled {
            Some(mapping) => mapping,
            None => Mapping::new()?,
        };
        Ok(Box::new(JobStack(Some(mapping))))
    }
}
