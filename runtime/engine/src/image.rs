//! Images: what linear memory holds before a guest runs, as files that are mapped and never written.
//!
//! The *initial image* is a module's data segments; the *model image* is what the guest's `load` left
//! on top of it, with the mutable globals and the signature that go with it.

use crate::{pagemap::PAGE_BYTES, signature::Signature, slot::SlotPool, verdict::Usage};
use fuelbox_digest::{Digest, Hasher};
use rustix::{
    fs::SeekFrom,
    mm::{MapFlags, ProtFlags},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    sync::Arc,
};

/// A read-only mapping of a file that nobody writes to any more.
#[derive(Debug)]
pub(crate) struct ImageFile {
    file: File,
    start: *const u8,
    len: usize,
    /// Where the file has no blocks, and so zeros: in order, whole pages.
    holes: Vec<Range<usize>>,
}

// SAFETY: the mapping is read-only and belongs to this value.
unsafe impl Send for ImageFile {}
// SAFETY: as above.
unsafe impl Sync for ImageFile {}

impl ImageFile {
    /// Maps a whole file.
    ///
    /// Invariant kept by the callers: the file is in the host's private cache (or is anonymous) and
    /// is never written or cut once it is complete.
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let start = if len == 0 {
            std::ptr::NonNull::dangling().as_ptr()
        } else {
            // SAFETY: a new mapping at an address of the kernel's choice touches nothing else.
            let start = unsafe {
                let (rights, flags) = (ProtFlags::READ, MapFlags::SHARED);
                rustix::mm::mmap(std::ptr::null_mut(), len, rights, flags, &file, 0)?
            };
            start.cast_const().cast()
        };
        let holes = holes(&file, len)?;
        Ok(Self { file, start, len, holes })
    }

    /// An image without a name, in memory.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn anonymous(bytes: &[u8]) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("fuelbox-image", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(file);
        write_sparse(&file, bytes)?;
        Self::open(file)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the file's blocks, without its holes.
    pub(crate) fn stored_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// The parts of a range of bytes, in order, with whether the file has zeros there without saying
    /// so byte by byte.
    pub(crate) fn parts(&self, bytes: Range<usize>) -> impl Iterator<Item = (bool, Range<usize>)> {
        let first = self.holes.partition_point(|hole| hole.end <= bytes.start);
        let mut holes = self.holes[first..].iter();
        let mut next = holes.next();
        let mut at = bytes.start;
        std::iter::from_fn(move || {
            if at >= bytes.end {
                return None;
            }
            let (hole, end) = match next {
                Some(hole) if hole.start <= at => {
                    next = holes.next();
                    (true, hole.end)
                }
                Some(hole) => (false, hole.start),
                None => (false, bytes.end),
            };
            let part = at..end.min(bytes.end);
            at = part.end;
            Some((hole, part))
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `start..start + len` is mapped for as long as `self` lives, and never written.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl ImageFile {
    /// Gives the mapped pages back; they are read from the file again when they are needed.
    pub(crate) fn release(&self) {
        if self.len > 0 {
            // SAFETY: the mapping belongs to this value; a shared file mapping shows the same bytes
            // again. An error only means that the pages stay.
            let _ = unsafe {
                let advice = rustix::mm::Advice::LinuxDontNeed;
                rustix::mm::madvise(self.start.cast_mut().cast(), self.len, advice)
            };
        }
    }
}

impl Drop for ImageFile {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping was made by `open` and belongs to this value.
            let _ = unsafe { rustix::mm::munmap(self.start.cast_mut().cast(), self.len) };
        }
    }
}

/// Where a file has no blocks. Where the file system does not tell, there are none.
fn holes(file: &File, len: usize) -> io::Result<Vec<Range<usize>>> {
    let mut holes = Vec::new();
    let mut at = 0;
    while at < len as u64 {
        let start = match rustix::fs::seek(file, SeekFrom::Hole(at)) {
            Ok(start) if start < len as u64 => start,
            _ => break,
        };
        let end = match rustix::fs::seek(file, SeekFrom::Data(start)) {
            Ok(end) => end,
            // No data behind it.
            Err(rustix::io::Errno::NXIO) => len as u64,
            Err(error) => return Err(error.into()),
        };
        let page = PAGE_BYTES as u64;
        let (first, last) = (start.next_multiple_of(page), end / page * page);
        if first < last {
            holes.push(first as usize..last as usize);
        }
        at = end;
    }
    Ok(holes)
}

/// Writes `bytes` to an empty file, leaving holes where whole pages are zero.
pub(crate) fn write_sparse(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(bytes.len() as u64)?;
    let mut start = 0;
    for (zero, run) in page_runs(bytes) {
        if !zero {
            file.write_all_at(run, start)?;
        }
        start += run.len() as u64;
    }
    Ok(())
}

/// The digest of an image: its length, then every run of pages that are not zero, as the index of its
/// first page and its bytes. So holes cost nothing, and the digest is the same however the file is
/// stored.
pub(crate) fn image_digest(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new("fuelbox image 1");
    hasher.number(bytes.len() as u64);
    let mut page = 0u64;
    for (zero, run) in page_runs(bytes) {
        if !zero {
            hasher.number(page).field(run);
        }
        page += run.len().div_ceil(PAGE_BYTES) as u64;
    }
    hasher.finish()
}

/// The bytes as runs of pages that are all zero or all not.
fn page_runs(bytes: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let is_zero = |page: &[u8]| page.iter().all(|&byte| byte == 0);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let zero = is_zero(rest.chunks(PAGE_BYTES).next()?);
        let pages = rest.chunks(PAGE_BYTES).take_while(|page| is_zero(page) == zero).count();
        let (run, after) = rest.split_at((pages * PAGE_BYTES).min(rest.len()));
        rest = after;
        Some((zero, run))
    })
}

/// The value of a mutable global, as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GlobalValue {
    I32(u32),
    I64(u64),
    F32(u32),
    F64(u64),
    /// Low half, high half.
    V128(u64, u64),
}

impl GlobalValue {
    /// The bits of a value; none for references, which validation keeps out of mutable globals.
    pub(crate) fn from_val(val: &wasmtime::Val) -> Option<Self> {
        use wasmtime::Val as V;
        match val {
            V::I32(bits) => Some(Self::I32(*bits as u32)),
            V::I64(bits) => Some(Self::I64(*bits as u64)),
            V::F32(bits) => Some(Self::F32(*bits)),
            V::F64(bits) => Some(Self::F64(*bits)),
            V::V128(bits) => {
                let bits = bits.as_u128();
                Some(Self::V128(bits as u64, (bits >> 64) as u64))
            }
            V::FuncRef(_) | V::ExternRef(_) | V::AnyRef(_) | V::ExnRef(_) | V::ContRef(_) => None,
        }
    }

    pub(crate) fn val(self) -> wasmtime::Val {
        use wasmtime::Val as V;
        match self {
            Self::I32(bits) => V::I32(bits as i32),
            Self::I64(bits) => V::I64(bits as i64),
            Self::F32(bits) => V::F32(bits),
            Self::F64(bits) => V::F64(bits),
            Self::V128(low, high) => V::V128((u128::from(high) << 64 | u128::from(low)).into()),
        }
    }
}

/// What is stored beside a model image's memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageMeta {
    pub(crate) digest: Digest,
    pub(crate) globals: Vec<GlobalValue>,
    pub(crate) signature: Signature,
    pub(crate) load_fuel: u64,
    pub(crate) load_memory_bytes: u64,
    pub(crate) load_log: String,
}

/// A model, loaded and ready: every job starts from exactly this.
#[derive(Debug)]
pub struct ModelImage {
    pub(crate) code: Arc<crate::engine::Code>,
    pub(crate) meta: ImageMeta,
    pub(crate) pool: Arc<SlotPool>,
}

/// Why an image cannot be read or written. The host's fault.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The system refused.
    #[error("model image: {0}")]
    Io(#[from] io::Error),
}

impl ModelImage {
    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.meta.signature
    }

    /// The name of the image's content.
    pub fn digest(&self) -> Digest {
        self.meta.digest
    }

    /// Linear memory of the loaded model: what every job starts with.
    pub fn len_bytes(&self) -> u64 {
        self.pool.image().len() as u64
    }

    /// What the image takes where it is stored: pages that are zero take nothing.
    ///
    /// # Errors
    /// When the file cannot be asked.
    pub fn stored_bytes(&self) -> Result<u64, ImageError> {
        Ok(self.pool.image().stored_bytes()?)
    }

    /// What the load used.
    pub fn load_usage(&self) -> Usage {
        let ImageMeta { load_fuel, load_memory_bytes, .. } = self.meta;
        Usage { fuel: load_fuel, memory_bytes_peak: load_memory_bytes }
    }

    /// What the guest printed while it loaded.
    pub fn load_log(&self) -> &str {
        &self.meta.load_log
    }

    /// How many slots wait for a job, and whether every one of them holds exactly the image, compared
    /// byte by byte.
    pub fn audit_slots(&self) -> (usize, bool) {
        self.pool.audit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_holes() {
        let page = PAGE_BYTES;
        let mut bytes = vec![1; 6 * page];
        bytes[page..3 * page].fill(0);
        bytes[5 * page..].fill(0);
        let image = ImageFile::anonymous(&bytes).unwrap();
        let parts = |range| image.parts(range).collect::<Vec<_>>();
        assert_eq!(
            parts(0..6 * page),
            [
                (false, 0..page),
                (true, page..3 * page),
                (false, 3 * page..5 * page),
                (true, 5 * page..6 * page)
            ]
        );
        assert_eq!(
            parts(2 * page..4 * page),
            [(true, 2 * page..3 * page), (false, 3 * page..4 * page)]
        );
        assert_eq!(parts(page..2 * page), [(true, page..2 * page)]);
        assert_eq!(parts(3 * page..5 * page), [(false, 3 * page..5 * page)]);
        for (hole, part) in image.parts(0..6 * page) {
            assert_eq!(hole, bytes[part].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn sparse_files_hold_what_was_written() {
        let mut bytes = vec![0u8; 5 * PAGE_BYTES + 100];
        bytes[PAGE_BYTES] = 1;
        bytes[4 * PAGE_BYTES - 1] = 2;
        *bytes.last_mut().expect("bytes") = 3;
        let image = ImageFile::anonymous(&bytes).expect("image");
        assert_eq!(image.bytes(), bytes);
        assert_eq!(page_runs(&bytes).map(|(_, run)| run.len()).sum::<usize>(), bytes.len());
    }

    #[test]
    fn zero_pages_take_no_room_in_memory_and_on_disk() {
        let mut bytes = vec![0u8; 1000 * PAGE_BYTES];
        for page in [1, 2, 500] {
            bytes[page * PAGE_BYTES] = 1;
        }
        let on_disk = tempfile::tempfile().expect("a file");
        write_sparse(&on_disk, &bytes).expect("written");
        let on_disk = ImageFile::open(on_disk).expect("image");
        for image in [ImageFile::anonymous(&bytes).expect("image"), on_disk] {
            assert_eq!(image.len(), bytes.len());
            let stored = image.stored_bytes().expect("blocks");
            // File systems round, and may count blocks of their own.
            let allowed = 3 * PAGE_BYTES as u64..=64 * PAGE_BYTES as u64;
            assert!(allowed.contains(&stored), "{stored} bytes stored, allowed {allowed:?}");
        }
    }

    #[test]
    fn digest_sees_place_length_and_content() {
        let mut bytes = vec![0u8; 4 * PAGE_BYTES];
        bytes[PAGE_BYTES] = 1;
        let digest = image_digest(&bytes);
        let mut moved = vec![0u8; 4 * PAGE_BYTES];
        moved[2 * PAGE_BYTES] = 1;
        assert_ne!(image_digest(&moved), digest);
        assert_ne!(image_digest(&bytes[..3 * PAGE_BYTES]), digest);
        assert_ne!(image_digest(&vec![0; 4 * PAGE_BYTES]), digest);
    }
}
