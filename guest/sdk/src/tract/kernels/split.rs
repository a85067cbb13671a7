//! Cutting calls that cost more than one may into several.

use super::plan::{Reference, Step, Steps};
use anyhow::{Result, bail};
use fuelbox_kernels::{CALL_FUEL_MAX, Call, Op, RANK, Right, View};

/// Cuts until every call is within the limit.
pub(super) fn split(steps: &mut Steps) -> Result<()> {
    let mut done = Vec::with_capacity(steps.steps.len());
    for step in std::mem::take(&mut steps.steps) {
        match step {
            Step::Call(call) => cut(&call, &mut steps.references, &mut done)?,
            Step::Repeat(repeat) => {
                // A part of a sequence is small; where it is not, tract does the work.
                done.push(Step::Repeat(repeat));
            }
            step => done.push(step),
        }
    }
    steps.steps = done;
    Ok(())
}

fn cut(call: &Call, references: &mut Vec<Reference>, done: &mut Vec<Step>) -> Result<()> {
    if call.cost() <= CALL_FUEL_MAX {
        done.push(Step::Call(*call));
        return Ok(());
    }
    let [low, high] = halves(call, references)?;
    cut(&low, references, done)?;
    cut(&high, references, done)
}

/// Two calls that do what one does: each element of the output is made by one of them, in the same way.
fn halves(call: &Call, references: &mut Vec<Reference>) -> Result<[Call; 2]> {
    let dims = call.out_dims();
    // The largest dimension that can be cut.
    let able: &[usize] = match call {
        Call::Gemm(call) if matches!(call.right, Right::Packed(_)) => &[2, 3, 4],
        Call::Gemm(_) => &[2, 3, 4, 5],
        Call::Conv(_) => &[2, 3],
        Call::Depthwise(_) | Call::Pool(_) => &[2, 3, 5],
        Call::Map(_) => &[0, 1, 2, 3, 4, 5],
        Call::Rows(_) => &[0, 1, 2, 3, 4],
    };
    let Some(&dim) = able.iter().max_by_key(|&&dim| dims[dim]).filter(|&&dim| dims[dim] > 1) else {
        bail!("an operator needs more work at once than one kernel call may do");
    };
    let half = dims[dim] / 2;
    let mut parts = [*call; 2];
    let [low, high] = &mut parts;
    resize(low, dim, half);
    resize(high, dim, dims[dim] - half);
    let mut shift = |view: &mut View| {
        let mut reference = references[view.address];
        reference.offset += view.strides[dim] as isize * half as isize;
        references.push(reference);
        view.address = references.len() - 1;
    };
    match high {
        Call::Gemm(call) => {
            if dim < 5 {
                shift(&mut call.a);
            }
            if let Right::Strided(view) = &mut call.right
                && dim != 4
            {
                shift(view);
            }
            shift(&mut call.c);
        }
        Call::Conv(call) => {
            if dim == 2 {
                shift(&mut call.input);
            } else {
                call.window.pad[0] -= (half * call.window.stride[0]) as i32;
            }
            shift(&mut call.out);
        }
        Call::Depthwise(call) => {
            match dim {
                3 => call.window.pad[0] -= (half * call.window.stride[0]) as i32,
                _ => shift(&mut call.input),
            }
            if dim == 5 {
                shift(&mut call.weights);
            }
            shift(&mut call.out);
        }
        Call::Pool(call) => {
            match dim {
                3 => call.window.pad[0] -= (half * call.window.stride[0]) as i32,
                _ => shift(&mut call.input),
            }
            shift(&mut call.out);
        }
        Call::Map(call) => {
            shift(&mut call.input);
            shift(&mut call.out);
        }
        Call::Rows(call) => {
            shift(&mut call.input);
            shift(&mut call.out);
        }
    }
    for op in high.program_mut().ops_mut() {
        if let Op::Tensor(_, view) = op {
            shift(view);
        }
    }
    Ok(parts)
}

fn resize(call: &mut Call, dim: usize, size: u32) {
    debug_assert!(dim < RANK);
    match call {
        Call::Gemm(call) => match dim {
            2 | 3 => call.batch[dim - 2] = size,
            4 => call.m = size,
            _ => call.n = size,
        },
        Call::Conv(call) => match dim {
            2 => call.window.images = size,
            _ => call.window.output[0] = size,
        },
        Call::Depthwise(call) => match dim {
            2 => call.window.images = size,
            3 => call.window.output[0] = size,
            _ => call.channels = size,
        },
        Call::Pool(call) => match dim {
            2 => call.window.images = size,
            3 => call.window.output[0] = size,
            _ => call.channels = size,
        },
        Call::Map(call) => call.dims[dim] = size,
        Call::Rows(call) => call.dims[dim] = size,
    }
}
