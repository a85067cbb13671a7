//! The innermost loop of every product.

#![allow(
    clippy::needless_range_loop,
    reason = "indices over small constant arrays are what the compiler unrolls into registers"
)]

use crate::{
    call::PANEL,
    scratch::{KEPT, ROW_STEP},
    simd::{LANES, Simd},
    subnormal::{Counts, Steps},
};

/// Depth of the pieces in which a tile is done again. Small, so that one number does not make much
/// slow: a piece of the largest tile costs 224 fuel, and [`crate::SUBNORMAL_FUEL`] at least in addition when
/// it takes the slow way, which is eight times slower.
const PIECE: usize = 8;

/// A tile's part of a product: `sums[r][c] (+)= sum over p of left[r][p] * right[p][c]`.
pub(crate) struct Multiply {
    /// `[row][32]` of one panel; [`Multiply::sums_step`] on to the next panel.
    pub(crate) sums: *mut f32,
    pub(crate) sums_step: usize,
    /// `[row][depth]`, rows [`ROW_STEP`] apart.
    pub(crate) left: *const f32,
    /// `[depth][32]` of one panel; [`Multiply::right_step`] on to the next panel.
    pub(crate) right: *const f32,
    pub(crate) right_step: usize,
    pub(crate) depth: usize,
    /// Whether sums start at zero, rather than with what is there.
    pub(crate) first: bool,
}

/// `R` rows by `C` vectors.
///
/// # Safety
/// The arrays have as many elements as the tile takes, and sums overlap nothing.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, const R: usize, const C: usize>(work: &Multiply) {
    let Multiply { sums, sums_step, left, right, right_step, depth, first } = *work;
    let place = |step: usize, c: usize| (c / 2) * step + (c % 2) * (PANEL / 2);
    // SAFETY: as the caller promised.
    unsafe {
        let mut v = [[S::splat(0.0); C]; R];
        if !first {
            for r in 0..R {
                for c in 0..C {
                    v[r][c] = S::load(sums.add(r * PANEL + place(sums_step, c)));
                }
            }
        }
        let mut a = left;
        let mut b = right;
        for _ in 0..depth {
            let mut columns = [S::splat(0.0); C];
            for c in 0..C {
                columns[c] = S::load(b.add(place(right_step, c)));
            }
            for r in 0..R {
                let x = S::splat(*a.add(r * ROW_STEP));
                for c in 0..C {
                    v[r][c] = S::fma(x, columns[c], v[r][c]);
                }
            }
            a = a.add(1);
            b = b.add(PANEL);
        }
        for r in 0..R {
            for c in 0..C {
                S::store(sums.add(r * PANEL + place(sums_step, c)), v[r][c]);
            }
        }
    }
}

/// As [`multiply_any`], of `[rows, panels, columns]`; tells of steps on subnormal numbers. `kept` is
/// working memory.
///
/// # Safety
/// As [`multiply_any`].
#[inline(always)]
pub(crate) unsafe fn multiply_watched<S: Simd>(
    work: &Multiply,
    sizes: [usize; 3],
    kept: &mut [f32; KEPT],
    steps: &mut Steps<'_>,
) {
    // SAFETY: as the caller promised.
    unsafe {
        if !(steps.hopes() && try_fast::<S>(work, sizes, kept, steps)) {
            S::multiply_again(work, sizes, kept, steps);
        }
    }
}

/// Multiplies, and says whether no step can have been on a subnormal number. If one can, sums are
/// what they were.
///
/// # Safety
/// As [`multiply_any`].
#[inline(always)]
unsafe fn try_fast<S: Simd>(
    work: &Multiply,
    [rows, panels, columns]: [usize; 3],
    kept: &mut [f32; KEPT],
    steps: &Steps<'_>,
) -> bool {
    let part = rows * PANEL;
    debug_assert!(panels * part <= KEPT);
    // SAFETY: as the caller promised; `kept` has room for a tile's sums.
    unsafe {
        if !work.first && steps.watches() {
            for (panel, kept) in kept.chunks_exact_mut(part).enumerate().take(panels) {
                copy::<S>(kept.as_mut_ptr(), work.sums.add(panel * work.sums_step), part);
            }
        }
        steps.begin();
        multiply_any::<S>(work, rows, panels, columns);
        if !steps.suspects() {
            return true;
        }
        if !work.first {
            for (panel, kept) in kept.chunks_exact(part).enumerate().take(panels) {
                copy::<S>(work.sums.add(panel * work.sums_step), kept.as_ptr(), part);
            }
        }
    }
    false
}

/// # Safety
/// `count` numbers, whole vectors, are at both places.
#[inline(always)]
unsafe fn copy<S: Simd>(to: *mut f32, from: *const f32, count: usize) {
    for at in (0..count).step_by(LANES) {
        // SAFETY: as the caller promised.
        unsafe { S::store(to.add(at), S::load(from.add(at))) };
    }
}

/// A product in which some step may be on a subnormal number: in pieces, those by the slow way that
/// still may. All 16 columns of a vector count, the last ones may be those that fill the panel.
///
/// # Safety
/// As [`multiply_any`].
#[inline(always)]
pub(crate) unsafe fn multiply_again<S: Simd>(
    work: &Multiply,
    sizes: [usize; 3],
    kept: &mut [f32; KEPT],
    steps: &mut Steps<'_>,
) {
    let [rows, panels, columns] = sizes;
    // A product without depth is one piece: its sums are zeros.
    for start in (0..work.depth.max(1)).step_by(PIECE) {
        let piece = Multiply {
            left: work.left.wrapping_add(start),
            right: work.right.wrapping_add(start * PANEL),
            depth: PIECE.min(work.depth - start),
            first: work.first && start == 0,
            ..*work
        };
        // SAFETY: as the caller promised.
        if steps.hopes() && unsafe { try_fast::<S>(&piece, sizes, kept, steps) } {
            continue;
        }
        let mut made = 0;
        for panel in 0..panels {
            for row in 0..rows {
                let work = Multiply {
                    sums: piece.sums.wrapping_add(panel * piece.sums_step + row * PANEL),
                    left: piece.left.wrapping_add(row * ROW_STEP),
                    right: piece.right.wrapping_add(panel * piece.right_step),
                    ..piece
                };
                // SAFETY: as the caller promised.
                made += unsafe {
                    if columns <= panel * PANEL + LANES {
                        row_counted::<S, 1>(&work)
                    } else {
                        row_counted::<S, 2>(&work)
                    }
                };
            }
        }
        steps.made(made);
        if steps.stopped() {
            return;
        }
    }
}

/// One row by `C` vectors of one panel.
#[inline(always)]
unsafe fn row_counted<S: Simd, const C: usize>(work: &Multiply) -> u64 {
    // SAFETY: as the caller promised.
    unsafe {
        let mut v = [S::splat(0.0); C];
        let mut counts = [Counts::<S>::none(); C];
        if !work.first {
            for c in 0..C {
                v[c] = S::load(work.sums.add(c * LANES));
            }
        }
        for p in 0..work.depth {
            let x = S::splat(*work.left.add(p));
            for c in 0..C {
                let column = S::load(work.right.add(p * PANEL + c * LANES));
                v[c] = counts[c].fma(x, column, v[c]);
            }
        }
        let mut total = 0;
        for c in 0..C {
            S::store(work.sums.add(c * LANES), v[c]);
            total += counts[c].total();
        }
        total
    }
}

/// Multiplies `rows` rows by `panels` panels, of which `columns` columns are needed.
///
/// # Safety
/// As [`multiply`]; `rows` is up to `S::ROWS`, `panels` up to [`panels_for`].
#[inline(always)]
pub(crate) unsafe fn multiply_any<S: Simd>(
    work: &Multiply,
    rows: usize,
    panels: usize,
    columns: usize,
) {
    // SAFETY: as the caller promised.
    unsafe {
        match (rows, panels) {
            // All of the vectors have a column that is needed.
            _ if columns <= (panels - 1) * PANEL + PANEL / 2 => {}
            (1, 4) if S::ROWS > 4 => return S::multiply::<1, 8>(work),
            (2, 4) if S::ROWS > 6 => return S::multiply::<2, 8>(work),
            _ => {}
        }
        for panel in 0..panels {
            // The second half of a panel may be empty.
            if columns <= panel * PANEL + PANEL / 2 {
                let work = Multiply {
                    sums: work.sums.add(panel * work.sums_step),
                    right: work.right.add(panel * work.right_step),
                    ..*work
                };
                tile::<S, 1>(&work, rows);
                continue;
            }
            for half in 0..2 / S::VECTORS {
                let at = |step: usize| panel * step + half * (PANEL / 2);
                let work = Multiply {
                    sums: work.sums.add(at(work.sums_step)),
                    right: work.right.add(at(work.right_step)),
                    ..*work
                };
                if S::VECTORS == 2 {
                    tile::<S, 2>(&work, rows);
                } else {
                    tile::<S, 1>(&work, rows);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const C: usize>(work: &Multiply, rows: usize) {
    macro_rules! rows {
        ($($count:literal)*) => {
            match rows {
                // The larger ones are not made for instructions that have no registers for them.
                $($count if $count <= S::ROWS => {
                    // SAFETY: as the caller promised.
                    unsafe { S::multiply::<$count, C>(work) }
                })*
                _ => {}
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// How many panels a block of so many rows takes at once.
#[inline(always)]
pub(crate) fn panels_for(rows: usize) -> usize {
    if rows <= 2 { crate::scratch::WIDE_MAX } else { 1 }
}
