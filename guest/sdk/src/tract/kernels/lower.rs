//! Lowering: a decluttered model becomes steps.
//!
//! Nodes are visited in an order in which they can run. What the kernels do becomes a call, or is added
//! to the program of the call before; axes are moved by other strides. What they do not do is left to
//! tract, together with its neighbours: an island.

use super::{
    array::{Array, Place, dense, operand_strides, space},
    plan::{Data, Island, IslandInput, Source, Step, Steps},
};
use anyhow::{Context, Result, ensure};
use fuelbox_kernels::{Binary, Call, Map, Op, Program, Unary, View};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use tract_onnx::prelude::{
    Datum, IntoRunnable, OutletId, Tensor, TypedFact, TypedModel, TypedNode,
};
use tract_onnx::tract_core::{
    internal::SpecialOps,
    ops::{konst::Const, source::TypedSource},
};

/// What an outlet of the model has become.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// FP32 elements that kernels read.
    Array(Array),
    /// A tensor, by number.
    Tensor(usize),
    /// Known now.
    Constant(Arc<Tensor>),
}

/// An operation on values.
#[derive(Clone, Debug)]
pub(super) enum Apply {
    Unary(Unary),
    Scalar(Binary, f32),
    Array(Binary, Array),
}

/// A model on its way.
pub(super) struct Lowering<'m> {
    pub(super) model: &'m TypedModel,
    pub(super) steps: Steps,
    values: HashMap<OutletId, Value>,
    /// The step whose call wrote a value, if its program can still grow.
    made_by: HashMap<OutletId, usize>,
    /// Constants that are data already, by their address.
    constants: HashMap<usize, Place>,
    /// Nodes for the next island.
    pending: Vec<usize>,
}

/// Whether all sizes of a model are known.
pub(super) fn is_known(model: &TypedModel) -> bool {
    let known = |fact: &TypedFact| fact.shape.as_concrete().is_some();
    model.nodes.iter().all(|node| node.outputs.iter().all(|output| known(&output.fact)))
}

/// Lowers a decluttered model of which all sizes are known. Its constants are dropped one by one, as
/// they become data in the order of the kernels, so that they are not in memory twice.
pub(super) fn lower(mut model: TypedModel) -> Result<Steps> {
    let values = take_constants(&mut model)?;
    let mut lowering = Lowering {
        model: &model,
        steps: Steps::default(),
        values,
        made_by: HashMap::new(),
        constants: HashMap::new(),
        pending: Vec::new(),
    };
    lowering.inputs()?;
    for id in model.eval_order()? {
        lowering.node(id)?;
    }
    lowering.flush()?;
    lowering.outputs()?;
    lowering.steps.prune();
    super::split::split(&mut lowering.steps)?;
    Ok(lowering.steps)
}

/// Takes the constants out of a model, which keeps their sizes.
fn take_constants(model: &mut TypedModel) -> Result<HashMap<OutletId, Value>> {
    let mut values = HashMap::new();
    let nothing = Const::new(Arc::new(Tensor::from(0f32)))?;
    for node in &mut model.nodes {
        if let Some(constant) = node.op_as::<Const>() {
            values.insert(node.id.into(), Value::Constant(constant.val().clone()));
            node.op = Box::new(nothing.clone());
        }
        for output in &mut node.outputs {
            output.fact.konst = None;
        }
    }
    Ok(values)
}

/// The sizes of a fact of which all are known.
pub(super) fn shape(fact: &TypedFact) -> Result<Vec<usize>> {
    let shape = fact.shape.as_concrete().context("a size that is not known")?;
    Ok(shape.to_vec())
}

impl<'m> Lowering<'m> {
    fn inputs(&mut self) -> Result<()> {
        for (index, &outlet) in self.model.input_outlets()?.iter().enumerate() {
            let fact = self.model.outlet_fact(outlet)?;
            let (value, tensor) = if is_f32(fact) {
                (Value::Array(Array::whole(Place::Input(index), &shape(fact)?)), None)
            } else {
                let tensor = self.tensor();
                (Value::Tensor(tensor), Some(tensor))
            };
            self.values.insert(outlet, value);
            self.steps.input_tensors.push(tensor);
        }
        Ok(())
    }

    fn node(&mut self, id: usize) -> Result<()> {
        let node = self.model.node(id);
        if node.op_is::<TypedSource>() || node.op_is::<Const>() {
            return Ok(());
        }
        if self.is_candidate(node)? {
            if node.inputs.iter().any(|input| self.pending.contains(&input.node)) {
                self.flush()?;
            }
            if self.kernel(node)? {
                return Ok(());
            }
        }
        self.pending.push(id);
        Ok(())
    }

    /// Whether a node computes FP32 from FP32, one result.
    fn is_candidate(&self, node: &TypedNode) -> Result<bool> {
        let facts = self.model.node_input_facts(node.id)?;
        let floats = facts.iter().all(|fact| is_f32(fact)) && !facts.is_empty();
        Ok(floats && node.outputs.iter().all(|output| is_f32(&output.fact)))
    }

    // ---- Values ---------------------------------------------------------------------------------

    pub(super) fn set(&mut self, outlet: OutletId, array: Array) {
        self.values.insert(outlet, Value::Array(array));
    }

    /// The constant that an outlet is.
    pub(super) fn constant(&self, outlet: OutletId) -> Option<Arc<Tensor>> {
        match self.values.get(&outlet) {
            Some(Value::Constant(tensor)) => Some(tensor.clone()),
            _ => None,
        }
    }

    /// Forgets a constant that was laid out anew for the only node that needs it.
    pub(super) fn release(&mut self, outlet: OutletId) {
        let alone = self.model.outlet_successors(outlet).len() == 1;
        if alone && !self.model.outputs.contains(&outlet) {
            self.values.remove(&outlet);
        }
    }

    /// The number that an outlet is, everywhere.
    pub(super) fn scalar(&self, outlet: OutletId) -> Option<f32> {
        let tensor = self.constant(outlet)?;
        let elements = tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?;
        let (first, rest) = elements.split_first()?;
        let same = rest.len() < 4096 && rest.iter().all(|other| other.to_bits() == first.to_bits());
        same.then_some(*first)
    }

    /// The elements of an outlet, for kernels to read.
    pub(super) fn array(&mut self, outlet: OutletId) -> Result<Array> {
        let value = self.values.get(&outlet).cloned();
        let array = match value.context("a value that was not computed")? {
            Value::Array(array) => return Ok(array),
            Value::Constant(tensor) => {
                let shape = tensor.shape().to_vec();
                Array::whole(self.data(tensor), &shape)
            }
            Value::Tensor(tensor) => {
                let shape = shape(self.model.outlet_fact(outlet)?)?;
                let place = self.steps.buffer(shape.iter().product());
                let Place::Buffer(buffer) = place else { anyhow::bail!("a buffer is a buffer") };
                self.steps.steps.push(Step::Fill { tensor, buffer });
                let array = Array::whole(place, &shape);
                self.set(outlet, array.clone());
                array
            }
        };
        Ok(array)
    }

    fn data(&mut self, tensor: Arc<Tensor>) -> Place {
        let address = Arc::as_ptr(&tensor) as usize;
        if let Some(place) = self.constants.get(&address) {
            return *place;
        }
        let place = self.steps.constant(Data::Tensor(tensor));
        self.constants.insert(address, place);
        place
    }

    fn tensor(&mut self) -> usize {
        self.steps.tensors += 1;
        self.steps.tensors - 1
    }

    /// A new array whose axes lie in this order.
    pub(super) fn fresh(&mut self, shape: &[usize], order: &[usize]) -> Array {
        let place = self.steps.buffer(shape.iter().product());
        Array { place, offset: 0, shape: shape.into(), strides: dense(shape, order) }
    }

    /// Remembers that a call wrote a value, so that its program may grow.
    pub(super) fn call(&mut self, outlet: OutletId, call: Call, out: Array) {
        self.steps.steps.push(Step::Call(call));
        self.made_by.insert(outlet, self.steps.steps.len() - 1);
        self.set(outlet, out);
    }

    /// A call that is not the last of its node.
    pub(super) fn part(&mut self, call: Call) {
        self.steps.steps.push(Step::Call(call));
    }

    // ---- Element-wise ---------------------------------------------------------------------------

    /// `out = apply(main)`: added to the call that made `main`, if that can be, or by itself.
    pub(super) fn apply(&mut self, out: OutletId, main: OutletId, ops: &[Apply]) -> Result<bool> {
        let whole = shape(self.model.outlet_fact(out)?)?;
        let array = self.array(main)?;
        if array.shape == whole && self.extend(main, &array, ops) {
            let step = self.made_by.get(&main).copied();
            self.made_by.extend(step.map(|step| (out, step)));
            self.set(out, array);
            return Ok(true);
        }
        let Some(input) = array.strides_over(&whole) else { return Ok(false) };
        let order = Array { shape: whole.clone(), strides: input.clone(), ..array.clone() }.order();
        let result = self.fresh(&whole, &order);
        let mut strides: Vec<Vec<isize>> = vec![result.strides.clone(), input];
        for op in ops {
            if let Apply::Array(_, operand) = op {
                let Some(over) = operand.strides_over(&whole) else { return Ok(false) };
                strides.push(over);
            }
        }
        let views: Vec<&[isize]> = strides.iter().map(Vec::as_slice).collect();
        let Some(space) = space(&whole, &views, None) else { return Ok(false) };
        let mut program = Program::default();
        let mut operands = space.strides[2..].iter();
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
            input: self.steps.view(&array, space.strides[1]),
            out: self.steps.view(&result, space.strides[0]),
            program,
        };
        self.call(out, Call::Map(call), result);
        Ok(true)
    }

    /// Adds to the program of the call that made a value, if nobody else needs the value as it is.
    fn extend(&mut self, main: OutletId, array: &Array, ops: &[Apply]) -> bool {
        let Some(&step) = self.made_by.get(&main) else { return false };
        let alone = self.model.outlet_successors(main).len() == 1;
        if !alone || self.model.outputs.contains(&main) {
            return false;
        }
        let Step::Call(call) = &self.steps.steps[step] else { return false };
        let (dims, made) = (call.out_dims(), call.out().strides);
        let mut added = Vec::new();
        for op in ops {
            added.push(match op {
                Apply::Unary(unary) => (Op::Unary(*unary), None),
                Apply::Scalar(binary, number) => (Op::Scalar(*binary, *number), None),
                Apply::Array(binary, operand) => {
                    if !self.is_ready(operand, step) || operand.place == array.place {
                        return false;
                    }
                    let Some(over) = operand.strides_over(&array.shape) else { return false };
                    let strides =
                        operand_strides((&dims, &made), &array.shape, &array.strides, &over);
                    let Some(strides) = strides else { return false };
                    (Op::Tensor(*binary, View { address: 0, strides }), Some(operand))
                }
            });
        }
        let Step::Call(call) = &self.steps.steps[step] else { return false };
        let mut longer = *call.program();
        for (op, operand) in added {
            let op = match (op, operand) {
                (Op::Tensor(binary, view), Some(operand)) => {
                    Op::Tensor(binary, self.steps.view(operand, view.strides))
                }
                (op, _) => op,
            };
            if longer.push(op).is_none() {
                return false;
            }
        }
        if let Step::Call(call) = &mut self.steps.steps[step] {
            *call.program_mut() = longer;
        }
        true
    }

    /// Whether an array is there before a step.
    fn is_ready(&self, array: &Array, step: usize) -> bool {
        let Place::Buffer(buffer) = array.place else { return true };
        self.steps.steps[step..].iter().all(|step| !self.steps.touches(step).1.contains(&buffer))
    }

    /// The last step that a value's program may grow in, to prefer the later of two.
    pub(super) fn age(&self, outlet: OutletId) -> Option<usize> {
        self.made_by.get(&outlet).copied()
    }

    /// Lets a value's program grow in the call of another value.
    pub(super) fn remember(&mut self, outlet: OutletId, step: usize) {
        self.made_by.insert(outlet, step);
    }

    /// A copy whose axes lie in this order.
    pub(super) fn copy(&mut self, array: &Array, order: &[usize]) -> Result<Array> {
        let result = self.fresh(&array.shape, order);
        let views: [&[isize]; 2] = [&result.strides, &array.strides];
        let space = space(&array.shape, &views, None).context("too many dimensions to copy")?;
        let call = Map {
            dims: space.dims,
            input: self.steps.view(array, space.strides[1]),
            out: self.steps.view(&result, space.strides[0]),
            program: Program::default(),
        };
        self.part(Call::Map(call));
        Ok(result)
    }

    /// The array itself if it is row-major, or a copy that is.
    pub(super) fn row_major(&mut self, array: Array) -> Result<Array> {
        if array.is_row_major() {
            return Ok(array);
        }
        self.copy(&array, &(0..array.shape.len()).collect::<Vec<_>>())
    }

    // ---- Islands --------------------------------------------------------------------------------

    /// Makes an island of the nodes that wait.
    fn flush(&mut self) -> Result<()> {
        let nodes = std::mem::take(&mut self.pending);
        if nodes.is_empty() {
            return Ok(());
        }
        let inside: BTreeSet<usize> = nodes.iter().copied().collect();
        let mut model = TypedModel { symbols: self.model.symbols.clone(), ..TypedModel::default() };
        let mut outlets: BTreeMap<OutletId, OutletId> = BTreeMap::new();
        let mut inputs = Vec::new();
        for &id in &nodes {
            let node = self.model.node(id);
            let mut wires = Vec::new();
            for &input in &node.inputs {
                if let Some(wire) = outlets.get(&input) {
                    wires.push(*wire);
                    continue;
                }
                let fact = self.model.outlet_fact(input)?;
                let name = format!("in.{}.{}", input.node, input.slot);
                let wire = if let Some(constant) = self.constant(input) {
                    model.add_const(name, constant)?
                } else {
                    inputs.push(match self.values.get(&input) {
                        Some(Value::Tensor(tensor)) => IslandInput::Tensor(*tensor),
                        _ => {
                            let array = self.array(input)?;
                            IslandInput::Array(self.row_major(array)?)
                        }
                    });
                    let plain = TypedFact::dt_shape(fact.datum_type, fact.shape.clone());
                    model.add_source(name, plain)?
                };
                outlets.insert(input, wire);
                wires.push(wire);
            }
            let made = model.wire_node(&node.name, node.op.clone(), &wires)?;
            for (slot, wire) in made.into_iter().enumerate() {
                outlets.insert(OutletId::new(id, slot), wire);
            }
        }
        let needed = |outlet: &OutletId| {
            let successors = self.model.outlet_successors(*outlet);
            successors.iter().any(|inlet| !inside.contains(&inlet.node))
                || self.model.outputs.contains(outlet)
        };
        let of_nodes = nodes.iter().flat_map(|&id| {
            (0..self.model.node(id).outputs.len()).map(move |slot| OutletId::new(id, slot))
        });
        let results: Vec<OutletId> = of_nodes.filter(needed).collect();
        let wires: Vec<OutletId> = results.iter().map(|outlet| outlets[outlet]).collect();
        model.select_output_outlets(&wires)?;
        let model = model.into_optimized()?.into_runnable()?;
        let outputs = results
            .into_iter()
            .map(|outlet| {
                let tensor = self.tensor();
                self.values.insert(outlet, Value::Tensor(tensor));
                tensor
            })
            .collect();
        self.steps.steps.push(Step::Island(Island { model, inputs, outputs }));
        Ok(())
    }

    /// A constant as a tensor: an island of it alone.
    fn constant_tensor(&mut self, constant: Arc<Tensor>) -> Result<usize> {
        let mut model = TypedModel::default();
        let wire = model.add_const("constant", constant)?;
        model.select_output_outlets(&[wire])?;
        let model = model.into_optimized()?.into_runnable()?;
        let tensor = self.tensor();
        let (inputs, outputs) = (Vec::new(), vec![tensor]);
        self.steps.steps.push(Step::Island(Island { model, inputs, outputs }));
        Ok(tensor)
    }

    fn outputs(&mut self) -> Result<()> {
        for &outlet in self.model.output_outlets()? {
            let source = match self.values.get(&outlet) {
                Some(Value::Tensor(tensor)) => Source::Tensor(*tensor),
                Some(Value::Constant(constant)) if constant.datum_type() != f32::datum_type() => {
                    Source::Tensor(self.constant_tensor(constant.clone())?)
                }
                _ => {
                    let array = self.array(outlet)?;
                    Source::Array(self.row_major(array)?)
                }
            };
            self.steps.outputs.push(source);
        }
        ensure!(self.steps.outputs.len() == self.model.outputs.len(), "an output is missing");
        Ok(())
    }
}

pub(super) fn is_f32(fact: &TypedFact) -> bool {
    fact.datum_type == f32::datum_type() && fact.is_plain()
}
