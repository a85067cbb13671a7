//! Images and slots, by the way that a sandbox takes.

use crate::{
    image::{ImageFile, image_digest},
    pagemap::PAGE_BYTES,
    slot::{Flags, ResetPolicy, SlotCreator, SlotPool, with_slot},
};
use std::{
    slice::Iter,
    sync::{Arc, atomic::Ordering},
};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Pages of an image at most; of growth as well.
const PAGES_MAX: usize = 64;
/// Jobs, one after the other or two at a time.
const JOBS_MAX: usize = 16;
/// Writes of a job.
const WRITES_MAX: usize = 24;

/// Whatever jobs write to the slots of an image, and however they grow, the next job starts from
/// the image's bytes, and from zeros behind them.
///
/// # Panics
/// When it does not.
pub fn slots_are_pristine(data: &[u8]) {
    let mut bytes = data.iter();
    let choices = next(&mut bytes);
    let policy = if choices & 1 == 0 { ResetPolicy::Scan } else { ResetPolicy::Discard };
    let content = image(&mut bytes);
    let image = Arc::new(ImageFile::anonymous(&content).expect("memory for an image"));
    check_image(&image, &content, &mut bytes);
    let pool = SlotPool::new(image, policy, 1 + usize::from(choices >> 1) % 3);
    for _ in 0..JOBS_MAX {
        if bytes.as_slice().is_empty() {
            break;
        }
        let first = Job::open(&pool, &content);
        let second = (next(&mut bytes) & 3 == 0).then(|| Job::open(&pool, &content));
        let second_first = next(&mut bytes) & 1 == 1;
        let mut jobs = [Some(first), second];
        for job in jobs.iter_mut().flatten() {
            job.work(&mut bytes);
        }
        if second_first {
            jobs.reverse();
        }
        for job in jobs {
            drop(job);
        }
        let (_, pristine) = pool.audit();
        assert!(pristine, "a slot waits that is not the image");
    }
}

fn next(bytes: &mut Iter<'_, u8>) -> u8 {
    bytes.next().copied().unwrap_or_default()
}

/// Pages of zeros and of something, and a part of a page at the end now and then.
fn image(bytes: &mut Iter<'_, u8>) -> Vec<u8> {
    let pages = usize::from(next(bytes)) % (PAGES_MAX + 1);
    let kinds = u64::from_le_bytes(std::array::from_fn(|_| next(bytes)));
    let mut content = vec![0; pages * PAGE_BYTES];
    for (index, page) in content.chunks_mut(PAGE_BYTES).enumerate() {
        if kinds >> (index % 64) & 1 == 1 {
            page[(index * 997) % PAGE_BYTES] = 1 + index as u8;
        }
    }
    content
}

fn check_image(image: &ImageFile, content: &[u8], bytes: &mut Iter<'_, u8>) {
    assert_eq!(image.bytes(), content);
    assert_eq!(image_digest(image.bytes()), image_digest(content));
    let pages = content.len() / PAGE_BYTES;
    let (one, other) = (next(bytes), next(bytes));
    let page = |byte: u8| usize::from(byte) % (pages + 1) * PAGE_BYTES;
    let range = page(one.min(other)).min(page(one.max(other)))..page(one.max(other));
    let mut at = range.start;
    for (hole, part) in image.parts(range.clone()) {
        assert_eq!(part.start, at, "parts are in order, without gaps");
        assert!(part.end > part.start && part.end <= range.end);
        assert!(!hole || content[part.clone()].iter().all(|&byte| byte == 0));
        at = part.end;
    }
    assert_eq!(at, range.end.max(range.start));
}

/// A job's memory, with what it has to hold.
struct Job {
    memory: Box<dyn LinearMemory>,
    flags: Arc<Flags>,
    expected: Vec<u8>,
}

impl Job {
    fn open(pool: &Arc<SlotPool>, content: &[u8]) -> Self {
        let flags = Arc::<Flags>::default();
        let kind = MemoryType::new(0, None);
        let memory = with_slot(pool, &flags, || SlotCreator.new_memory(kind, 0, None, None, 0))
            .expect("address space")
            .expect("a slot");
        let job = Self { memory, flags, expected: content.to_vec() };
        job.check();
        job
    }

    fn check(&self) {
        let len = self.memory.byte_size();
        assert_eq!(len, self.expected.len());
        // SAFETY: so many bytes are accessible, and nothing else refers to them.
        let found = unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), len) };
        assert!(found == self.expected, "a job sees other bytes than it wrote and found");
    }

    fn work(&mut self, bytes: &mut Iter<'_, u8>) {
        for _ in 0..usize::from(next(bytes)) % WRITES_MAX {
            let choice = next(bytes);
            if choice & 7 == 0 {
                let more = usize::from(next(bytes)) % PAGES_MAX * PAGE_BYTES;
                self.memory.grow_to(self.expected.len() + more).expect("within the reservation");
                self.expected.resize(self.expected.len() + more, 0);
            } else if !self.expected.is_empty() {
                let place = usize::from(u16::from_le_bytes([next(bytes), next(bytes)])) * 61;
                let place = place % self.expected.len();
                let end = (place + usize::from(choice) * 40).min(self.expected.len() - 1);
                self.expected[place..=end].fill(choice);
                // SAFETY: `end` is below the accessible size, and nothing else refers to the bytes.
                unsafe { self.memory.as_ptr().add(place).write_bytes(choice, end - place + 1) };
            }
        }
        if next(bytes) & 15 == 0 {
            self.flags.moved.store(true, Ordering::Relaxed);
        }
        self.check();
    }
}
