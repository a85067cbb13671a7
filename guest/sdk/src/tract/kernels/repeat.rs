//! Sequences: a scan's body becomes steps that are repeated.

use super::{
    array::{Array, Place, space},
    lower::{Apply, Lowering, is_known, lower, shape},
    plan::{Repeat, Source, Step, Steps},
};
use anyhow::{Context, Result};
use fuelbox_kernels::{Binary, Call, Map, OPS_MAX, Op, PANEL, Program, Right, Unary, View};
use std::collections::HashMap;
use tract_onnx::prelude::{OutletId, TypedNode};
use tract_onnx::tract_core::ops::{
    lstm_cell::LstmEpilogue,
    scan::{InputMapping, Scan},
};

impl Lowering<'_> {
    pub(super) fn scan(&mut self, node: &TypedNode, op: &Scan) -> Result<bool> {
        if op.skip != 0 {
            return Ok(false);
        }
        let body = op.body.clone().into_decluttered()?;
        if !is_known(&body) {
            return Ok(false);
        }
        let body = lower(body)?;
        let calls = body.steps.iter().map(|step| match step {
            Step::Call(call) => Some(*call),
            _ => None,
        });
        let Some(mut calls) = calls.collect::<Option<Vec<_>>>() else { return Ok(false) };
        // Where the body's inputs are: a place, and how far it goes on each time.
        let mut inputs: Vec<(Array, isize)> = Vec::new();
        let mut times = None;
        for (mapping, &outlet) in op.input_mapping.iter().zip(&node.inputs) {
            let array = self.array(outlet)?;
            let array = self.row_major(array)?;
            inputs.push(match mapping {
                InputMapping::Full => (array, 0),
                InputMapping::State => {
                    let state = self.copy(&array, &(0..array.shape.len()).collect::<Vec<_>>())?;
                    (state, 0)
                }
                InputMapping::Scan(info) => {
                    let Some((first, move_by, count)) = parts(&array, info.axis, info.chunk) else {
                        return Ok(false);
                    };
                    if times.replace(count).is_some_and(|other| other != count) {
                        return Ok(false);
                    }
                    (first, move_by)
                }
            });
        }
        let Some(times) = times else { return Ok(false) };
        // A body's result that becomes a state is made in the state's place, where that can be.
        let states: Vec<usize> =
            (0..inputs.len()).filter(|&input| op.input_mapping[input].is_state()).collect();
        let mut owners = states.iter();
        let mut in_place: HashMap<usize, usize> = HashMap::new();
        for (mapping, source) in op.output_mapping.iter().zip(&body.outputs) {
            if !mapping.state {
                continue;
            }
            let &state = owners.next().context("a state for each")?;
            let Source::Array(array) = source else { return Ok(false) };
            if let Place::Buffer(buffer) = array.place
                && array.len() == body.buffers[buffer]
                && may_replace(&calls, &body, buffer, state)
            {
                in_place.entry(buffer).or_insert(state);
            }
        }
        // The body's places become places here.
        let (buffers, data) = (self.steps.buffers.len(), self.steps.data.len());
        self.steps.buffers.extend(&body.buffers);
        self.steps.data.extend(body.data);
        let mut moves = Vec::new();
        let mut here = |place: Place, offset: isize, steps: &mut super::plan::Steps| match place {
            Place::Buffer(buffer) => match in_place.get(&buffer) {
                Some(&state) => {
                    let (array, _) = &inputs[state];
                    steps.reference(array.place, array.offset + offset)
                }
                None => steps.reference(Place::Buffer(buffers + buffer), offset),
            },
            Place::Data(number) => steps.reference(Place::Data(data + number), offset),
            Place::Input(input) => {
                let (array, move_by) = &inputs[input];
                let reference = steps.reference(array.place, array.offset + offset);
                if *move_by != 0 {
                    moves.push((reference, *move_by));
                }
                reference
            }
        };
        for call in &mut calls {
            call.each_address(&mut |address| {
                let of = body.references[*address];
                *address = here(of.place, of.offset, &mut self.steps);
            });
        }
        // What an iteration leaves behind: states for the next, and parts of results.
        let mut states = states.into_iter();
        let mut results = Vec::new();
        for (mapping, source) in op.output_mapping.iter().zip(&body.outputs) {
            let Source::Array(source) = source else { return Ok(false) };
            if matches!(source.place, Place::Input(_)) {
                return Ok(false);
            }
            let mut targets: Vec<(Array, isize)> = Vec::new();
            if mapping.state {
                let number = states.next().context("a state for each")?;
                let state = &inputs[number].0;
                if !matches!(source.place, Place::Buffer(buffer)
                    if in_place.get(&buffer) == Some(&number))
                {
                    targets.push((state.clone(), 0));
                }
                if let Some(slot) = mapping.last_value_slot {
                    results.push((slot, state.clone()));
                }
            } else if let Some(slot) = mapping.last_value_slot {
                let place = self.steps.buffer(source.len());
                let last = Array::whole(place, &source.shape);
                results.push((slot, last.clone()));
                targets.push((last, 0));
            }
            if let Some((slot, info)) = &mapping.scan {
                let whole = shape(self.model.outlet_fact(OutletId::new(node.id, *slot))?)?;
                let place = self.steps.buffer(whole.iter().product());
                let whole = Array::whole(place, &whole);
                let Some((first, move_by, count)) = parts(&whole, info.axis, info.chunk) else {
                    return Ok(false);
                };
                if count != times {
                    return Ok(false);
                }
                results.push((*slot, whole));
                targets.push((first, move_by));
            }
            for (target, move_by) in targets {
                let views: [&[isize]; 2] = [&target.strides, &source.strides];
                let Some(space) = space(&source.shape, &views, None) else { return Ok(false) };
                let reference = self.steps.reference(target.place, target.offset);
                if move_by != 0 {
                    moves.push((reference, move_by));
                }
                let mut input = self.steps.view(source, space.strides[1]);
                let of = self.steps.references[input.address];
                let Place::Buffer(buffer) = of.place else { return Ok(false) };
                input.address = match in_place.get(&buffer) {
                    Some(&state) => {
                        let array = &inputs[state].0;
                        self.steps.reference(array.place, array.offset + of.offset)
                    }
                    None => self.steps.reference(Place::Buffer(buffers + buffer), of.offset),
                };
                calls.push(Call::Map(Map {
                    dims: space.dims,
                    input,
                    out: fuelbox_kernels::View { address: reference, strides: space.strides[0] },
                    program: Program::default(),
                }));
            }
        }
        self.steps.steps.push(Step::Repeat(Repeat { times, steps: calls, moves }));
        for (slot, array) in results {
            self.set(OutletId::new(node.id, slot), array);
        }
        Ok(true)
    }

    /// The gates of a long short-term memory: `preactivations` [.., 4 * hidden] in the order input,
    /// output, forget, cell.
    pub(super) fn lstm(&mut self, node: &TypedNode, op: &LstmEpilogue) -> Result<bool> {
        let &[gates, cell] = node.inputs.as_slice() else { return Ok(false) };
        let (gates, cell) = (self.array(gates)?, self.array(cell)?);
        let (gates, cell) = (self.row_major(gates)?, self.row_major(cell)?);
        let hidden = op.hidden;
        let rows = cell.len() / hidden.max(1);
        if gates.len() != rows * 4 * hidden {
            return Ok(false);
        }
        let part = |of: &Array, width: usize, first: usize, count: usize| Array {
            place: of.place,
            offset: of.offset + (first * hidden) as isize,
            shape: vec![rows, count * hidden],
            strides: vec![(width * hidden) as isize, 1],
        };
        let added = self.fresh(&[rows, hidden], &[0, 1]);
        let (open, width) = if self.gates_in_product(node.inputs[0], &gates, hidden, &added)? {
            (gates, 4)
        } else {
            let open = self.fresh(&[rows, 3 * hidden], &[0, 1]);
            self.line(&part(&gates, 4, 0, 3), &open, &[Apply::Unary(Unary::Sigmoid)])?;
            let input = part(&open, 3, 0, 1);
            self.line(
                &part(&gates, 4, 3, 1),
                &added,
                &[Apply::Unary(Unary::Tanh), Apply::Array(Binary::Mul, input)],
            )?;
            (open, 3)
        };
        let [output, forget] = [1, 2].map(|gate| part(&open, width, gate, 1));
        let (new_cell, new_hidden) =
            (self.fresh(&cell.shape, &axes(&cell)), self.fresh(&cell.shape, &axes(&cell)));
        self.line(
            &part(&cell, 1, 0, 1),
            &part(&new_cell, 1, 0, 1),
            &[Apply::Array(Binary::Mul, forget), Apply::Array(Binary::Add, added)],
        )?;
        self.line(
            &part(&new_cell, 1, 0, 1),
            &part(&new_hidden, 1, 0, 1),
            &[Apply::Unary(Unary::Tanh), Apply::Array(Binary::Mul, output)],
        )?;
        self.set(OutletId::new(node.id, 0), new_hidden);
        self.set(OutletId::new(node.id, 1), new_cell);
        Ok(true)
    }

    /// Lets the product that made the gates' values finish them: one product for the gates that a
    /// sigmoid opens, another for the cell's, whose result is multiplied by the input gate into `added`.
    /// Nothing is changed if the product cannot be cut there.
    fn gates_in_product(
        &mut self,
        outlet: OutletId,
        gates: &Array,
        hidden: usize,
        added: &Array,
    ) -> Result<bool> {
        let alone = self.model.outlet_successors(outlet).len() == 1;
        let Some(step) = self.age(outlet).filter(|_| alone) else { return Ok(false) };
        let Step::Call(Call::Gemm(made)) = &self.steps.steps[step] else { return Ok(false) };
        let made = *made;
        let (mut opened, mut cell) = (made, made);
        let Right::Packed(weights) = made.right else { return Ok(false) };
        let cuts = (3 * hidden).is_multiple_of(PANEL)
            && made.n as usize == 4 * hidden
            && made.batch == [1, 1]
            && made.c.strides[5] == 1
            && self.steps.references[made.c.address].place == gates.place
            && made.program.ops().len() + 2 <= OPS_MAX;
        if !cuts {
            return Ok(false);
        }
        let first = 3 * hidden;
        opened.n = u32::try_from(first)?;
        opened.program.push(Op::Unary(Unary::Sigmoid)).context("room, as checked")?;
        cell.n = u32::try_from(hidden)?;
        let mut shifted = |reference: usize, by: usize| {
            let from = self.steps.references[reference];
            self.steps.reference(from.place, from.offset + by as isize)
        };
        cell.right = Right::Packed(shifted(weights, first * made.k as usize));
        for op in cell.program.ops_mut() {
            if let Op::Tensor(_, view) = op {
                view.address = shifted(view.address, first * view.strides[5] as usize);
            }
        }
        let row = i32::try_from(hidden)?;
        cell.c = self.steps.view(added, [0, 0, 0, 0, row, 1]);
        let input = self.steps.view(gates, [0, 0, 0, 0, 4 * row, 1]);
        for op in [Op::Unary(Unary::Tanh), Op::Tensor(Binary::Mul, input)] {
            cell.program.push(op).context("room, as checked")?;
        }
        self.steps.steps[step] = Step::Call(Call::Gemm(opened));
        self.part(Call::Gemm(cell));
        Ok(true)
    }

    /// `out = ops(from)`, all of one shape.
    fn line(&mut self, from: &Array, out: &Array, ops: &[Apply]) -> Result<()> {
        let mut strides: Vec<&[isize]> = vec![&out.strides, &from.strides];
        for op in ops {
            if let Apply::Array(_, operand) = op {
                strides.push(&operand.strides);
            }
        }
        let space = space(&from.shape, &strides, None).context("two dimensions")?;
        let mut operands = space.strides[2..].iter();
        let mut program = Program::default();
        for op in ops {
            let op = match op {
                Apply::Unary(unary) => Op::Unary(*unary),
                Apply::Scalar(binary, number) => Op::Scalar(*binary, *number),
                Apply::Array(binary, operand) => {
                    let strides = *operands.next().context("an operand for each")?;
                    Op::Tensor(*binary, self.steps.view(operand, strides))
                }
            };
            program.push(op).context("a short program")?;
        }
        let call = Map {
            dims: space.dims,
            input: self.steps.view(from, space.strides[1]),
            out: self.steps.view(out, space.strides[0]),
            program,
        };
        self.part(Call::Map(call));
        Ok(())
    }
}

/// Whether a body's buffer may lie where a state is: it is written by one call, and nothing reads the
/// old state after that; that call itself may, element by element.
fn may_replace(calls: &[Call], body: &Steps, buffer: usize, state: usize) -> bool {
    let writes = |call: &&Call| body.references[call.out().address].place == Place::Buffer(buffer);
    if calls.iter().filter(writes).count() != 1 {
        return false;
    }
    let Some(writer) = calls.iter().position(|call| writes(&call)) else { return false };
    let reads = |call: &Call| {
        let mut found = false;
        let mut call = *call;
        call.each_address(&mut |address| {
            found |= body.references[*address].place == Place::Input(state);
        });
        found
    };
    if calls[writer + 1..].iter().any(reads) {
        return false;
    }
    let call = &calls[writer];
    let (out, dims) = (call.out(), call.out_dims());
    let same = |view: &View| {
        let at = body.references[view.address];
        let alike = |dim: usize| dims[dim] <= 1 || view.strides[dim] == out.strides[dim];
        at.place != Place::Input(state)
            || at.offset == body.references[out.address].offset && (0..dims.len()).all(alike)
    };
    let operands = call.program().ops().iter();
    let operands_same = operands.filter_map(|op| match op {
        Op::Tensor(_, view) => Some(view),
        _ => None,
    });
    match call {
        Call::Map(map) => same(&map.input) && operands_same.into_iter().all(same),
        _ => !reads(call),
    }
}

fn axes(array: &Array) -> Vec<usize> {
    (0..array.shape.len()).collect()
}

/// The first part of an array along an axis, how far it is to the next, and how many there are. None
/// if a part is not row-major by itself, or the parts do not come out even.
fn parts(array: &Array, axis: usize, chunk: isize) -> Option<(Array, isize, usize)> {
    let size = chunk.unsigned_abs();
    let outer = array.shape[..axis].iter().all(|&size| size == 1);
    if !outer || size == 0 || !array.shape[axis].is_multiple_of(size) {
        return None;
    }
    let times = array.shape[axis] / size;
    let mut first = array.clone();
    first.shape[axis] = size;
    let by = array.strides[axis] * size as isize;
    if chunk > 0 {
        return Some((first, by, times));
    }
    // Backwards, one at a time.
    (size == 1).then(|| {
        first.offset += by * (times as isize - 1);
        (first, -by, times)
    })
}
