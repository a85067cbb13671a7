//! Slots: stretches of address space in which a model image stands ready to be run, and is made
//! pristine again after each job.
//!
//! A slot maps its image's file privately: reading costs nothing, writing copies the page. Behind the
//! image lie inaccessible pages up to 4 GiB and a guard, so compiled code needs no bounds checks.
//!
//! Invariant: a slot in a pool holds the image's bytes in `0..image` and nothing accessible behind
//! them. A slot whose reset failed at any step is unmapped, never pooled.
//!
//! The pages that a reset copied back stay the slot's own. As long as no page fault adds to them, the
//! next reset copies the same ones and asks nobody: a job that touches what the one before touched,
//! as jobs of one model do, costs no scan.
//!
//! How one reaches wasmtime: it asks a [`MemoryCreator`] for a memory in the middle of an
//! instantiation, without saying which job it is for. So the slot is handed over through a
//! thread-local, by [`with_slot`], around the instantiation that takes it.

use crate::{
    faults,
    image::ImageFile,
    limits::constants::{MEMORY_PAGES_MAX, WASM_PAGE_BYTES},
    pagemap::{self, PAGE_BYTES},
    shelf::{Shelf, thread_number},
};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use std::{
    cell::RefCell,
    ops::Range,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Inaccessible bytes behind the 4 GiB of a memory: compiled code leaves out bounds checks for
/// constant offsets below this.
pub(crate) const GUARD_BYTES: usize = 32 << 20;

const RESERVED_BYTES: usize = (MEMORY_PAGES_MAX * WASM_PAGE_BYTES) as usize;
const SLOT_BYTES: usize = RESERVED_BYTES + GUARD_BYTES;

/// Dirty bytes that a reset copies back from the image. What is dirty beyond them is given back to
/// the kernel instead, so that a pooled slot holds at most this much memory of its own. Copying a
/// page takes less than half the time of faulting it in again (`cargo bench`: fresh / warm of
/// MobileNetV2, which dirties 15 MB, is 1.06 with 4 MiB and 1.02 with 32).
const KEEP_BYTES_MAX: usize = 32 << 20;

/// Slots that wait in all pools of the process: 4 TiB of its 128 TiB of address space, and some 3,000 of
/// the 65,530 mappings that Linux allows a process. Without it, many open models with images for many
/// shapes would reach both. It is 16 slots for each of 64 models; beyond it, a job's slot is unmapped when
/// it is done, and the next one maps its own.
const POOLED_MAX: usize = 1_024;

/// Places for slots that wait.
#[derive(Debug)]
struct Places {
    left: AtomicUsize,
}

static PROCESS: Places = Places { left: AtomicUsize::new(POOLED_MAX) };

impl Places {
    fn take(&'static self) -> Option<Place> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.is_ok().then(|| Place { of: self })
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct Place {
    of: &'static Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.left.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a slot is made pristine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetPolicy {
    /// Ask the kernel which pages are dirty and copy those back; falls back to `Discard` where the
    /// kernel cannot tell.
    Scan,
    /// Give every page back to the kernel, to be read from the image again.
    Discard,
}

impl ResetPolicy {
    /// Whether this kernel can tell which pages are dirty, so that `Scan` is what it says.
    pub fn scan_available() -> bool {
        pagemap::available()
    }
}

/// One stretch of address space, with an image mapped at its start.
#[derive(Debug)]
pub(crate) struct Slot {
    base: NonNull<u8>,
    /// Accessible bytes: the image's, more while a job has grown its memory.
    size_bytes: usize,
    image: Arc<ImageFile>,
    /// All pages that are the slot's own, and no others: what the last scan found and kept. None when
    /// that is not known.
    own: Option<Vec<Range<usize>>>,
    /// There while it waits in a pool.
    place: Option<Place>,
}

// SAFETY: the mapping belongs to this value alone; it is memory like a `Vec`'s.
unsafe impl Send for Slot {}
// SAFETY: as above; nothing is written through a shared reference.
unsafe impl Sync for Slot {}

impl Slot {
    /// Maps an image into fresh address space.
    pub(crate) fn map(image: Arc<ImageFile>) -> rustix::io::Result<Self> {
        let size_bytes = image.len();
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing else.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                SLOT_BYTES,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(rustix::io::Errno::NOMEM)?;
        let slot = Self { base, size_bytes, image, own: None, place: None };
        if size_bytes > 0 {
            // SAFETY: `0..size_bytes` lies in the reservation just made (an image has at most 4 GiB),
            // which nothing else uses. The file is the image's own and never written again.
            unsafe {
                rustix::mm::mmap(
                    base.as_ptr().cast(),
                    size_bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE | MapFlags::FIXED,
                    slot.image.file(),
                    0,
                )?;
            }
        }
        Ok(slot)
    }

    fn addresses(&self, bytes: Range<usize>) -> Range<usize> {
        let base = self.base.as_ptr() as usize;
        base + bytes.start..base + bytes.end
    }

    /// Makes more of the reservation accessible. The new bytes are zero.
    fn grow(&mut self, new_bytes: usize) -> rustix::io::Result<()> {
        let grown = self.size_bytes..new_bytes;
        if grown.end > RESERVED_BYTES {
            return Err(rustix::io::Errno::NOMEM);
        }
        if !grown.is_empty() {
            // SAFETY: the range lies in this slot's reservation, behind what is accessible so far.
            unsafe {
                rustix::mm::mprotect(
                    self.base.as_ptr().add(grown.start).cast(),
                    grown.len(),
                    MprotectFlags::READ | MprotectFlags::WRITE,
                )?;
            }
            self.size_bytes = new_bytes;
        }
        Ok(())
    }

    /// Makes the slot pristine: the image's bytes, and nothing behind them. `quiet`: since the slot was
    /// pristine, no page became its own.
    fn reset(&mut self, policy: ResetPolicy, quiet: bool) -> rustix::io::Result<()> {
        let image_bytes = self.image.len();
        if self.size_bytes == image_bytes
            && quiet
            && let Some(own) = &self.own
        {
            own.iter().for_each(|pages| self.copy_pages(pages.clone()));
            return Ok(());
        }
        if self.size_bytes > image_bytes {
            // SAFETY: replaces grown pages, which lie in this slot's reservation, by fresh
            // inaccessible ones. Nothing refers to them: the instance is gone.
            unsafe {
                rustix::mm::mmap_anonymous(
                    self.base.as_ptr().add(image_bytes).cast(),
                    self.size_bytes - image_bytes,
                    ProtFlags::empty(),
                    MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
                )?;
            }
            self.size_bytes = image_bytes;
        }
        match policy {
            ResetPolicy::Scan if pagemap::available() => self.copy_back(),
            ResetPolicy::Scan | ResetPolicy::Discard => {
                self.own = None;
                self.discard(0..image_bytes)
            }
        }
    }

    fn copy_back(&mut self) -> rustix::io::Result<()> {
        let base = self.base.as_ptr() as usize;
        let mut own = self.own.take().unwrap_or_default();
        own.clear();
        let mut keep_bytes = KEEP_BYTES_MAX;
        let mut discarded = Ok(());
        pagemap::dirty_pages(self.addresses(0..self.image.len()), |dirty| {
            let pages = dirty.start - base..dirty.end - base;
            if pages.len() > keep_bytes {
                discarded = discarded.and_then(|()| self.discard(pages));
                return;
            }
            keep_bytes -= pages.len();
            self.copy_pages(pages.clone());
            own.push(pages);
        })?;
        discarded?;
        self.own = Some(own);
        Ok(())
    }

    /// Copies pages from the image.
    fn copy_pages(&self, pages: Range<usize>) {
        let image = self.image.bytes();
        for (hole, part) in self.image.parts(pages) {
            let pristine = &image[part.clone()];
            // SAFETY: `part` lies in the accessible part of this slot, as it lies in the image, which
            // only this value uses, and apart from the image's own mapping.
            unsafe {
                let dirty = self.base.as_ptr().add(part.start);
                if hole {
                    // Reading a hole would make the kernel find a page of zeros for it.
                    std::ptr::write_bytes(dirty, 0, part.len());
                } else {
                    std::ptr::copy_nonoverlapping(pristine.as_ptr(), dirty, pristine.len());
                }
            }
        }
    }

    /// Drops private copies of pages: the next access reads the image again.
    fn discard(&self, bytes: Range<usize>) -> rustix::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies in this slot's accessible part; a private file mapping shows the
        // file again after `MADV_DONTNEED`.
        unsafe {
            rustix::mm::madvise(
                self.base.as_ptr().add(bytes.start).cast(),
                bytes.len(),
                Advice::LinuxDontNeed,
            )
        }
    }

    /// Whether the slot is pristine, byte by byte.
    fn is_pristine(&self) -> bool {
        // SAFETY: `0..size_bytes` is mapped and readable, and nobody writes to it while this slot is
        // borrowed.
        let bytes = unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.size_bytes) };
        bytes == self.image.bytes()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the whole reservation was made by `map` and belongs to this value.
        // An error cannot be acted on: the address space would leak, and nothing else.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), SLOT_BYTES) };
    }
}

/// The slots of one image that wait for a job.
#[derive(Debug)]
pub(crate) struct SlotPool {
    image: Arc<ImageFile>,
    policy: ResetPolicy,
    free: Shelf<Slot>,
    places: &'static Places,
}

impl SlotPool {
    pub(crate) fn new(image: Arc<ImageFile>, policy: ResetPolicy, slots_max: usize) -> Arc<Self> {
        Arc::new(Self { image, policy, free: Shelf::new(slots_max), places: &PROCESS })
    }

    pub(crate) fn image(&self) -> &Arc<ImageFile> {
        &self.image
    }

    fn take(&self) -> rustix::io::Result<Box<Slot>> {
        match self.free.take() {
            Some(mut slot) => {
                slot.place = None;
                Ok(slot)
            }
            None => Ok(Box::new(Slot::map(self.image.clone())?)),
        }
    }

    fn give_back(&self, mut slot: Box<Slot>, quiet: bool) {
        let Some(place) = self.places.take() else {
            return;
        };
        if slot.reset(self.policy, quiet).is_ok() {
            slot.place = Some(place);
            // Without room for it, it is unmapped.
            let _ = self.free.put(slot);
        }
    }

    /// How many slots wait, and whether all of them are pristine, byte by byte. Jobs that start
    /// meanwhile find none.
    pub(crate) fn audit(&self) -> (usize, bool) {
        let slots = self.free.take_all();
        let found = (slots.len(), slots.iter().all(|slot| slot.is_pristine()));
        for slot in slots {
            let _ = self.free.put(slot);
        }
        found
    }
}

/// A job's hold on a slot: what wasmtime gets as the memory. Dropping it makes the slot pristine and
/// gives it back.
struct JobMemory {
    /// There until dropped.
    slot: Option<Box<Slot>>,
    pool: Arc<SlotPool>,
    flags: Arc<Flags>,
    /// When the slot was pristine: the thread, and its page faults so far.
    start: Option<(usize, u64)>,
}

/// What a job and its memory tell each other.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// The host failed the memory.
    pub(crate) fault: AtomicBool,
    /// The job was on another thread than the one that opened it: that thread's page faults do not
    /// tell what it did.
    pub(crate) moved: AtomicBool,
}

/// This thread, and its page faults so far.
fn look() -> Option<(usize, u64)> {
    Some((thread_number()?, faults::count()?))
}

// SAFETY: `as_ptr` stays the same for the value's life, `0..byte_size` is accessible, all up to
// `byte_capacity` and the guard behind it is reserved by the slot and inaccessible until grown.
unsafe impl LinearMemory for JobMemory {
    fn byte_size(&self) -> usize {
        self.slot.as_ref().map_or(0, |slot| slot.size_bytes)
    }

    fn byte_capacity(&self) -> usize {
        RESERVED_BYTES
    }

    fn grow_to(&mut self, new_bytes: usize) -> wasmtime::Result<()> {
        let grown = self.slot.as_mut().map(|slot| slot.grow(new_bytes));
        if let Some(Ok(())) = grown {
            return Ok(());
        }
        // The job's own limit was asked before. So this is the host's failure, which the guest must
        // not be able to tell apart from any other run: the job ends as a fault.
        self.flags.fault.store(true, Ordering::Relaxed);
        Err(wasmtime::format_err!("the host could not grow a memory to {new_bytes} bytes"))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot.as_ref().map_or(std::ptr::null_mut(), |slot| slot.base.as_ptr())
    }
}

impl Drop for JobMemory {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let stayed = !self.flags.moved.load(Ordering::Relaxed);
            let quiet = stayed && self.start.is_some() && self.start == look();
            self.pool.give_back(slot, quiet);
        }
    }
}

thread_local! {
    /// The memory for the instantiation that runs on this thread.
    static NEXT: RefCell<Option<JobMemory>> = const { RefCell::new(None) };
}

/// Runs an instantiation whose memory is a pristine slot of this pool.
pub(crate) fn with_slot<T>(
    pool: &Arc<SlotPool>,
    flags: &Arc<Flags>,
    instantiate: impl FnOnce() -> T,
) -> rustix::io::Result<T> {
    let slot = Some(pool.take()?);
    let memory = JobMemory { slot, pool: pool.clone(), flags: flags.clone(), start: look() };
    NEXT.set(Some(memory));
    let result = instantiate();
    // What the instantiation did not take, because it failed before, goes back.
    NEXT.take();
    Ok(result)
}

/// Hands [`with_slot`]'s slot to wasmtime.
pub(crate) struct SlotCreator;

// SAFETY: the memories are `JobMemory`s, see there; each is handed out once.
unsafe impl MemoryCreator for SlotCreator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved_bytes: Option<usize>,
        guard_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved_bytes.is_some_and(|bytes| bytes > RESERVED_BYTES) || guard_bytes > GUARD_BYTES {
            return Err("the engine asks for more than a slot reserves".into());
        }
        match NEXT.take() {
            Some(memory) if memory.byte_size() >= minimum => Ok(Box::new(memory)),
            Some(_) => Err("the image is smaller than the module's memory".into()),
            None => Err("an instance was made outside of a sandbox".into()),
        }
    }
}

const _: () = assert!(RESERVED_BYTES.is_multiple_of(PAGE_BYTES));

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE_PAGES: usize = 3000;

    /// A pool over an image in which every page differs, but for holes.
    fn pool(policy: ResetPolicy) -> Arc<SlotPool> {
        let mut bytes = vec![0u8; IMAGE_PAGES * PAGE_BYTES];
        for (index, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            // Every seventh run of seven pages is a hole.
            let hole = index / 7 % 7 == 3;
            page.fill(if hole { 0 } else { (index % 251) as u8 });
        }
        let image = ImageFile::anonymous(&bytes).expect("image");
        SlotPool::new(Arc::new(image), policy, 4)
    }

    fn dirty(slot: &mut Slot, pages: impl Iterator<Item = usize>) {
        for page in pages {
            assert!((page + 1) * PAGE_BYTES <= slot.size_bytes);
            // SAFETY: inside of the accessible part, checked above.
            unsafe { slot.base.as_ptr().add(page * PAGE_BYTES + 17).write_volatile(0xff) };
        }
    }

    #[test]
    fn reset_restores_every_page_under_both_policies() {
        for policy in [ResetPolicy::Scan, ResetPolicy::Discard] {
            let pool = pool(policy);
            let mut slot = pool.take().expect("slot");
            let base = slot.base;
            // Scattered pages (more regions than one scan returns, more bytes than are kept), both
            // ends, and grown memory.
            dirty(&mut slot, (0..IMAGE_PAGES).step_by(2));
            dirty(&mut slot, [0, IMAGE_PAGES - 1].into_iter());
            assert!(!slot.is_pristine());
            slot.grow((IMAGE_PAGES + 64) * PAGE_BYTES).expect("grow");
            dirty(&mut slot, IMAGE_PAGES..IMAGE_PAGES + 64);
            pool.give_back(slot, false);
            assert_eq!(pool.audit(), (1, true), "{policy:?}");
            // Grown pages are zero again, too.
            let mut slot = pool.take().expect("slot");
            assert_eq!(slot.base, base, "the slot is reused");
            slot.grow((IMAGE_PAGES + 64) * PAGE_BYTES).expect("grow");
            // SAFETY: the grown part is accessible.
            let grown = unsafe {
                let start = slot.base.as_ptr().add(IMAGE_PAGES * PAGE_BYTES);
                std::slice::from_raw_parts(start, 64 * PAGE_BYTES)
            };
            assert!(grown.iter().all(|&byte| byte == 0));
        }
    }

    /// Pages that were swapped out are dirty, too. Where there is no swap, `MADV_PAGEOUT` leaves them
    /// where they are, and the test is the one above once more.
    #[test]
    fn reset_restores_pages_that_were_swapped_out() {
        for policy in [ResetPolicy::Scan, ResetPolicy::Discard] {
            let pool = pool(policy);
            for _ in 0..3 {
                let mut slot = pool.take().expect("slot");
                slot.grow((IMAGE_PAGES + 64) * PAGE_BYTES).expect("grow");
                dirty(&mut slot, (0..IMAGE_PAGES + 64).step_by(3));
                // SAFETY: the range is this slot's accessible part; its content stays the same.
                unsafe {
                    let start = slot.base.as_ptr().cast();
                    rustix::mm::madvise(start, slot.size_bytes, Advice::LinuxPageOut)
                        .expect("page out");
                }
                pool.give_back(slot, false);
                assert_eq!(pool.audit(), (1, true), "{policy:?}");
            }
        }
    }

    /// Jobs that make no page their own are reset without a scan; the first that does is scanned.
    #[test]
    fn quiet_resets_restore_every_page() {
        let pool = pool(ResetPolicy::Scan);
        let job = |pages: &[usize]| {
            let mut slot = pool.take().expect("slot");
            let start = look().expect("this kernel counts");
            dirty(&mut slot, pages.iter().copied());
            let quiet = look() == Some(start);
            let known = slot.own.is_some();
            pool.give_back(slot, quiet);
            assert_eq!(pool.audit(), (1, true), "{pages:?}");
            quiet && known
        };
        assert!(!job(&[5, 6, 30, 2000]), "the first job has faults");
        assert!(job(&[5, 6, 30, 2000]), "the second has none");
        assert!(job(&[6]));
        assert!(!job(&[6, 7]), "a new page is a fault");
        assert!(job(&[7, 2000]));
        assert!(job(&[]));
    }

    #[test]
    fn grown_slots_are_never_quiet() {
        let pool = pool(ResetPolicy::Scan);
        for _ in 0..3 {
            let mut slot = pool.take().expect("slot");
            dirty(&mut slot, [0].into_iter());
            slot.grow((IMAGE_PAGES + 1) * PAGE_BYTES).expect("grow");
            dirty(&mut slot, [IMAGE_PAGES].into_iter());
            pool.give_back(slot, true);
            let slot = pool.take().expect("slot");
            assert_eq!(slot.size_bytes, IMAGE_PAGES * PAGE_BYTES);
            assert!(slot.is_pristine());
            pool.give_back(slot, true);
        }
    }

    #[test]
    fn growth_ends_at_four_gib() {
        let pool = pool(ResetPolicy::Scan);
        let mut slot = pool.take().expect("slot");
        assert!(slot.grow(RESERVED_BYTES + PAGE_BYTES).is_err());
        slot.grow(RESERVED_BYTES).expect("all of it");
        pool.give_back(slot, false);
        assert_eq!(pool.audit(), (1, true));
    }

    #[test]
    fn pools_share_the_places_of_their_process() {
        let places: &'static Places = Box::leak(Box::new(Places { left: AtomicUsize::new(3) }));
        let pools = [(); 2].map(|()| {
            let pool = Arc::into_inner(pool(ResetPolicy::Scan)).expect("a pool of one");
            SlotPool { places, ..pool }
        });
        let left = || places.left.load(Ordering::Relaxed);
        let fill = |pool: &SlotPool| {
            let slots: Vec<_> = (0..2).map(|_| pool.take().expect("slot")).collect();
            slots.into_iter().for_each(|slot| pool.give_back(slot, false));
        };
        pools.iter().for_each(fill);
        let waiting = || pools.each_ref().map(|pool| pool.audit());
        assert_eq!(waiting(), [(2, true), (1, true)]);
        assert_eq!(left(), 0);
        // A slot that is taken leaves its place to another one.
        let slot = pools[0].take().expect("slot");
        fill(&pools[1]);
        assert_eq!(waiting(), [(1, true), (2, true)]);
        pools[0].give_back(slot, false);
        assert_eq!(waiting(), [(1, true), (2, true)]);
        drop(pools);
        assert_eq!(left(), 3);
    }

    #[test]
    fn pool_is_bounded() {
        let pool = pool(ResetPolicy::Scan);
        let slots: Vec<_> = (0..6).map(|_| pool.take().expect("slot")).collect();
        slots.into_iter().for_each(|slot| pool.give_back(slot, false));
        assert_eq!(pool.audit(), (4, true));
    }
}
