//! The innermost loop of every product.

#![allow(
    clippy::needless_range_loop,
    reason = "indices over small constant arrays are what the compiler unrolls into registers"
)]

use crate::{call::PANEL, scratch::ROW_STEP, simd::Simd};

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
