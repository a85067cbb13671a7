//! Where buffers go: those that are never needed at the same time share memory, so that a job touches
//! little of it.

use super::{
    array::{Array, Place},
    plan::{Source, Steps},
};

/// Buffers start at multiples of a cache line, in elements.
const LINE: usize = 16;

/// The start of each buffer in one piece of memory, in elements, and the size of all.
pub(super) fn lay_out(steps: &Steps) -> (Vec<usize>, usize) {
    let count = steps.buffers.len();
    let (mut first, mut last) = (vec![usize::MAX; count], vec![0; count]);
    for (at, step) in steps.steps.iter().enumerate() {
        let (reads, writes) = steps.touches(step);
        for buffer in reads.into_iter().chain(writes) {
            first[buffer] = first[buffer].min(at);
            last[buffer] = last[buffer].max(at);
        }
    }
    for output in &steps.outputs {
        if let Source::Array(Array { place: Place::Buffer(buffer), .. }) = output {
            last[*buffer] = usize::MAX;
        }
    }
    // Large ones first, each as low as it can be.
    let mut order: Vec<usize> = (0..count).filter(|&buffer| first[buffer] != usize::MAX).collect();
    order.sort_by_key(|&buffer| std::cmp::Reverse(steps.buffers[buffer]));
    let mut starts = vec![0; count];
    let mut placed: Vec<usize> = Vec::new();
    let mut whole = 0;
    for buffer in order {
        let size = steps.buffers[buffer].next_multiple_of(LINE);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| first[other] <= last[buffer] && first[buffer] <= last[other])
            .map(|&other| {
                (starts[other], starts[other] + steps.buffers[other].next_multiple_of(LINE))
            })
            .collect();
        taken.sort_unstable();
        let mut start = 0;
        for (from, to) in taken {
            if start + size <= from {
                break;
            }
            start = start.max(to);
        }
        starts[buffer] = start;
        whole = whole.max(start + size);
        placed.push(buffer);
    }
    (starts, whole)
}
