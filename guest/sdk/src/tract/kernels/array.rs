//! Arrays: where a value's elements are, and index spaces over several of them.
//!
//! Axes that change only how elements are counted (transposes, reshapes, slices, broadcasts) are other
//! strides over the same elements, and cost nothing.

use fuelbox_kernels::{Dims, RANK, Strides};

/// What an array's elements are a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A buffer of the plan, by number.
    Buffer(usize),
    /// Constant data, by number.
    Data(usize),
    /// An input of the model, by number.
    Input(usize),
}

/// FP32 elements, `offset + sum of index * stride` elements into their place.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub(super) place: Place,
    pub(super) offset: isize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<isize>,
}

/// The strides of a dense array whose axes lie in this order, outermost first.
pub(super) fn dense(shape: &[usize], order: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1isize;
    for &axis in order.iter().rev() {
        strides[axis] = step;
        step *= shape[axis].max(1) as isize;
    }
    strides
}

/// The strides of a dense array in the order of its axes.
pub(super) fn row_major(shape: &[usize]) -> Vec<isize> {
    dense(shape, &(0..shape.len()).collect::<Vec<_>>())
}

impl Array {
    /// The whole of a place, in the order of its axes.
    pub(super) fn whole(place: Place, shape: &[usize]) -> Self {
        Self { place, offset: 0, shape: shape.into(), strides: row_major(shape) }
    }

    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether elements lie in the order of the axes, without gaps.
    pub(super) fn is_row_major(&self) -> bool {
        let dense = row_major(&self.shape);
        (0..self.shape.len()).all(|axis| self.shape[axis] <= 1 || self.strides[axis] == dense[axis])
    }

    /// Axes by stride, the largest first: how the elements lie. The axes' own order where it does not
    /// matter, and where elements are repeated.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shape.len()).collect();
        let repeated = |&axis: &usize| self.shape[axis] > 1 && self.strides[axis] == 0;
        if !order.iter().any(repeated) {
            order.sort_by_key(|&axis| {
                let lone = self.shape[axis] <= 1;
                std::cmp::Reverse(if lone { isize::MAX } else { self.strides[axis].abs() })
            });
        }
        order
    }

    /// The strides with which this array is read over a shape that it is broadcast to.
    pub(super) fn strides_over(&self, shape: &[usize]) -> Option<Vec<isize>> {
        let alike = self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(own, whole)| own == whole || *own == 1);
        let stride = |axis: usize| if self.shape[axis] == 1 { 0 } else { self.strides[axis] };
        alike.then(|| (0..shape.len()).map(stride).collect())
    }

    /// The array without an axis of size 1.
    pub(super) fn without(mut self, axis: usize) -> Self {
        self.shape.remove(axis);
        self.strides.remove(axis);
        self
    }

    /// The array with an axis of size 1 more.
    pub(super) fn with(mut self, axis: usize) -> Self {
        self.shape.insert(axis, 1);
        self.strides.insert(axis, 0);
        self
    }

    /// The array with one axis at another place.
    pub(super) fn moved(mut self, from: usize, to: usize) -> Self {
        let (size, stride) = (self.shape.remove(from), self.strides.remove(from));
        self.shape.insert(to, size);
        self.strides.insert(to, stride);
        self
    }

    /// The array with axes from `at` on seen as others; none if strides cannot say that.
    pub(super) fn reshaped(&self, at: usize, from: &[usize], to: &[usize]) -> Option<Self> {
        let group = merged(&self.shape[at..at + from.len()], &self.strides[at..at + from.len()])?;
        let inner = row_major(to).into_iter().map(|stride| stride * group);
        let mut array = self.clone();
        array.shape.splice(at..at + from.len(), to.iter().copied());
        array.strides.splice(at..at + from.len(), inner);
        Some(array)
    }
}

/// The stride of axes as one; none if they do not lie like one.
pub(super) fn merged(shape: &[usize], strides: &[isize]) -> Option<isize> {
    let mut stride = None;
    let mut step = 0;
    for (&size, &own) in shape.iter().zip(strides).rev() {
        if size <= 1 {
            continue;
        }
        match stride {
            None => stride = Some(own),
            Some(_) if own == step => {}
            Some(_) => return None,
        }
        step = own * size as isize;
    }
    Some(stride.unwrap_or(0))
}

/// An index space over several arrays of one shape: sizes, and each array's strides.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) dims: Dims,
    pub(super) strides: Vec<Strides>,
}

/// The index space of arrays with these strides over a shape, with as few dimensions as can be: axes
/// that lie like one are one. The first array decides the order. `last` stays by itself, and last.
pub(super) fn space(shape: &[usize], arrays: &[&[isize]], last: Option<usize>) -> Option<Space> {
    let mut axes: Vec<usize> =
        (0..shape.len()).filter(|&axis| shape[axis] != 1 && Some(axis) != last).collect();
    axes.sort_by_key(|&axis| std::cmp::Reverse(arrays[0][axis].abs()));
    // Each dimension: its size, and the stride of each array.
    let mut dims: Vec<(usize, Vec<isize>)> = Vec::new();
    for axis in axes {
        let size = shape[axis];
        let own: Vec<isize> = arrays.iter().map(|strides| strides[axis]).collect();
        match dims.last_mut() {
            Some((outer, strides))
                if strides.iter().zip(&own).all(|(outer, own)| *outer == own * size as isize) =>
            {
                *outer *= size;
                *strides = own;
            }
            _ => dims.push((size, own)),
        }
    }
    match last {
        Some(axis) => {
            dims.push((shape[axis], arrays.iter().map(|strides| strides[axis]).collect()));
        }
        // Short innermost dimensions leave most of a vector unused.
        None => {
            let long = dims.iter().rposition(|(size, _)| *size >= 16);
            if let (Some((size, _)), Some(long)) = (dims.last(), long)
                && *size < 16
            {
                let dim = dims.remove(long);
                dims.push(dim);
            }
        }
    }
    if dims.len() > RANK {
        return None;
    }
    let mut found = Space { dims: [1; RANK], strides: vec![[0; RANK]; arrays.len()] };
    let front = RANK - dims.len();
    for (at, (size, strides)) in dims.into_iter().enumerate() {
        found.dims[front + at] = u32::try_from(size).ok()?;
        for (array, stride) in strides.into_iter().enumerate() {
            found.strides[array][front + at] = i32::try_from(stride).ok()?;
        }
    }
    Some(found)
}

/// Strides for an operand over the index space of a call that has been made: `made` are the sizes and
/// strides of what the call writes; `shape`, `strides` those of the value that it wrote, axis by axis;
/// `operand` the strides of the operand, axis by axis. None if the dimensions do not match.
pub(super) fn operand_strides(
    (dims, made): (&Dims, &Strides),
    shape: &[usize],
    strides: &[isize],
    operand: &[isize],
) -> Option<Strides> {
    let mut found: [Option<isize>; RANK] = [None; RANK];
    let mut covered: [usize; RANK] = [1; RANK];
    let mut axes: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] > 1).collect();
    axes.sort_by_key(|&axis| strides[axis]);
    for axis in axes {
        // The dimension that this axis counts in, and how many of its steps are one of the axis.
        let fits = |&dim: &usize| {
            let step = made[dim] as isize;
            let steps = if step > 0 { strides[axis] / step } else { 0 };
            dims[dim] > 1
                && step > 0
                && strides[axis] % step == 0
                && steps < dims[dim] as isize
                && steps as usize == covered[dim]
        };
        let dim = (0..RANK).filter(fits).max_by_key(|&dim| made[dim])?;
        let steps = strides[axis] / made[dim] as isize;
        let own = operand[axis];
        match found[dim] {
            None if steps == 1 => found[dim] = Some(own),
            Some(step) if own == step * steps => {}
            _ => return None,
        }
        covered[dim] *= shape[axis];
    }
    let mut result = [0; RANK];
    for dim in 0..RANK {
        if dims[dim] as usize != covered[dim] {
            return None;
        }
        result[dim] = i32::try_from(found[dim].unwrap_or(0)).ok()?;
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_lie_like_one_are_one() {
        let nhwc = dense(&[1, 8, 4, 6], &[0, 2, 3, 1]);
        let found = space(&[1, 8, 4, 6], &[&nhwc, &nhwc], None).expect("fits");
        assert_eq!((found.dims, found.strides[1][5]), ([1, 1, 1, 1, 1, 192], 1));
        // A number for each channel keeps the channels apart; the longer of the two is innermost.
        let found = space(&[1, 8, 4, 6], &[&nhwc, &[0, 1, 0, 0]], None).expect("fits");
        assert_eq!(found.dims, [1, 1, 1, 1, 8, 24], "{found:?}");
    }

    #[test]
    fn operands_follow_the_dimensions_of_the_call() {
        // A product of 24 rows and 8 columns, seen as [8, 4, 6].
        let (dims, made) = ([1, 1, 1, 1, 24, 8], [0, 0, 0, 0, 8, 1]);
        let value = [1isize, 48, 8];
        let over =
            |operand: [isize; 3]| operand_strides((&dims, &made), &[8, 4, 6], &value, &operand);
        assert_eq!(over([1, 0, 0]), Some([0, 0, 0, 0, 0, 1]));
        assert_eq!(over([1, 48, 8]), Some([0, 0, 0, 0, 8, 1]));
        assert_eq!(over([24, 6, 1]), Some([0, 0, 0, 0, 1, 24]));
        assert_eq!(over([0, 0, 1]), None, "a number for each column of the picture");
    }

    #[test]
    fn reshapes_of_gaps_are_refused() {
        let array =
            Array { place: Place::Input(0), offset: 0, shape: vec![4, 6], strides: vec![8, 1] };
        assert!(array.reshaped(0, &[4, 6], &[24]).is_none());
        let split = array.reshaped(1, &[6], &[2, 3]).expect("one axis");
        assert_eq!(split.strides, [8, 3, 1]);
    }
}
