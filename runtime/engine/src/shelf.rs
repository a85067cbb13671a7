//! A shelf: things that wait to be used again, without a lock.
//!
//! Workers that run at the same time must not wait for each other. Each place holds one thing or
//! nothing and is emptied or filled in one atomic step. A thread looks at its own place first, so that
//! it gets back what is still in its caches.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};

/// Up to a fixed number of things.
///
/// Invariant: a place holds null or a pointer from [`Box::into_raw`], which belongs to whoever took it
/// out by a swap.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    places: Box<[AtomicPtr<T>]>,
}

// SAFETY: things go from thread to thread, each to one at a time.
unsafe impl<T: Send> Send for Shelf<T> {}
// SAFETY: as above; nothing is read through a shared reference.
unsafe impl<T: Send> Sync for Shelf<T> {}

/// The number of this thread, which no other thread of the process has or had. None while it ends.
pub(crate) fn thread_number() -> Option<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).ok()
}

impl<T> Shelf<T> {
    /// An empty shelf with this many places.
    pub(crate) fn new(places: usize) -> Self {
        Self { places: (0..places).map(|_| AtomicPtr::default()).collect() }
    }

    fn order(&self) -> impl Iterator<Item = &AtomicPtr<T>> {
        let first = thread_number().unwrap_or_default() % self.places.len().max(1);
        let (front, back) = self.places.split_at(first);
        back.iter().chain(front)
    }

    /// Takes something, if there is anything.
    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.order().find_map(|place| {
            if place.load(Ordering::Relaxed).is_null() {
                return None;
            }
            // `Acquire`: what the thread that put it there did to it is seen here.
            let taken = place.swap(ptr::null_mut(), Ordering::Acquire);
            // SAFETY: not null, so from `Box::into_raw`; the swap took it out, so nobody else has it.
            (!taken.is_null()).then(|| unsafe { Box::from_raw(taken) })
        })
    }

    /// Puts something back; gives it back if there is no room.
    pub(crate) fn put(&self, thing: Box<T>) -> Result<(), Box<T>> {
        let raw = Box::into_raw(thing);
        let put = self.order().any(|place| {
            place.load(Ordering::Relaxed).is_null()
                // `Release`: what was done to it is seen by the thread that takes it.
                && place
                    .compare_exchange(ptr::null_mut(), raw, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
        });
        // SAFETY: it was not put anywhere, so it is still this function's.
        if put { Ok(()) } else { Err(unsafe { Box::from_raw(raw) }) }
    }

    /// Takes everything, to look at it.
    pub(crate) fn take_all(&self) -> Vec<Box<T>> {
        std::iter::from_fn(|| self.take()).collect()
    }
}

impl<T> Drop for Shelf<T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_shelf_holds_as_many_as_it_has_places() {
        let shelf = Shelf::new(2);
        assert!(shelf.take().is_none());
        assert!(shelf.put(Box::new(1)).is_ok() && shelf.put(Box::new(2)).is_ok());
        assert_eq!(shelf.put(Box::new(3)), Err(Box::new(3)));
        let mut found = shelf.take_all();
        found.sort();
        assert_eq!(found, [Box::new(1), Box::new(2)]);
        assert_eq!(Shelf::new(0).put(Box::new(4)), Err(Box::new(4)));
    }

    /// Each thing is in one hand at a time, and none is lost.
    #[test]
    fn things_go_from_thread_to_thread() {
        let counted = Arc::new(());
        let shelf = Shelf::new(3);
        for _ in 0..3 {
            shelf.put(Box::new((counted.clone(), 0u64))).unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(mut thing) = shelf.take() {
                            thing.1 += 1;
                            shelf.put(thing).expect("what was taken has room");
                        }
                    }
                });
            }
        });
        assert_eq!(Arc::strong_count(&counted), 4);
        let all = shelf.take_all();
        assert_eq!(all.len(), 3);
        assert!(all.iter().map(|thing| thing.1).sum::<u64>() > 0);
        drop((all, shelf));
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
