//! Operators, one by one: which kernel each becomes. `false` leaves a node to tract.

use super::{
    array::{Array, merged, space},
    lower::{Apply, Lowering, shape},
};
use anyhow::{Context, Result};
use fuelbox_kernels::{Binary, Call, Map, Pool, PoolKind, Program, Rows, RowsKind, Unary, Window};
use tract_onnx::prelude::{OutletId, TypedNode};
use tract_onnx::tract_core::ops::{
    array::{MultiBroadcastTo, Slice, TypedConcat},
    binary::TypedBinOp,
    change_axes::AxisOp,
    cnn::{Conv, Deconv, MaxPool, SumPool},
    downsample::Downsample,
    einsum::EinSum,
    element_wise::ElementWiseOp,
    identity::Identity,
    lstm_cell::LstmEpilogue,
    math, nn,
    scan::Scan,
};

impl Lowering<'_> {
    /// Lowers a node whose inputs and outputs are FP32.
    pub(super) fn kernel(&mut self, node: &TypedNode) -> Result<bool> {
        let op = &node.op;
        let (out, first) = (OutletId::new(node.id, 0), node.inputs[0]);
        if let Some(op) = op.downcast_ref::<TypedBinOp>() {
            return self.binary(node, op);
        }
        if let Some(op) = op.downcast_ref::<ElementWiseOp>() {
            return self.unary(out, first, op);
        }
        if let Some(op) = op.downcast_ref::<EinSum>() {
            return self.einsum(node, op);
        }
        if let Some(op) = op.downcast_ref::<Conv>() {
            return self.conv(node, op);
        }
        if let Some(op) = op.downcast_ref::<Deconv>() {
            return self.deconv(node, op);
        }
        if let Some(op) = op.downcast_ref::<MaxPool>() {
            let plain = op.with_index_outputs.is_none();
            return if plain { self.pool(node, PoolKind::Max, &op.pool_spec) } else { Ok(false) };
        }
        if let Some(op) = op.downcast_ref::<SumPool>() {
            let kind = match (op.normalize, op.count_include_pad) {
                (false, _) => PoolKind::Sum,
                (true, true) => PoolKind::Mean,
                (true, false) => PoolKind::MeanInside,
            };
            return self.pool(node, kind, &op.pool_spec);
        }
        if let Some(op) = op.downcast_ref::<nn::Reduce>() {
            return self.reduce(node, op);
        }
        if let Some(op) = op.downcast_ref::<nn::Softmax>() {
            let plain = op.kind == nn::SoftmaxKind::Softmax && op.quant_output_dt.is_none();
            let &[axis] = op.axes.as_slice() else { return Ok(false) };
            return if plain { self.rows(out, first, axis, RowsKind::Softmax) } else { Ok(false) };
        }
        if let Some(op) = op.downcast_ref::<nn::RmsNorm>() {
            let epsilon = op.eps.cast_to_scalar::<f32>()?;
            return match self.centred(first, op.axis) {
                Some(source) => self.rows(out, source, op.axis, RowsKind::LayerNorm { epsilon }),
                None => self.rows(out, first, op.axis, RowsKind::RmsNorm { epsilon }),
            };
        }
        if let Some(op) = op.downcast_ref::<TypedConcat>() {
            return self.concat(node, op.axis);
        }
        if let Some(op) = op.downcast_ref::<Scan>() {
            return self.scan(node, op);
        }
        if let Some(op) = op.downcast_ref::<LstmEpilogue>() {
            return self.lstm(node, op);
        }
        self.moved(node)
    }

    /// Operators that only count elements in another way.
    fn moved(&mut self, node: &TypedNode) -> Result<bool> {
        let (out, first) = (OutletId::new(node.id, 0), node.inputs[0]);
        let op = &node.op;
        let whole = shape(self.model.outlet_fact(out)?)?;
        if let Some(op) = op.downcast_ref::<AxisOp>() {
            let array = self.array(first)?;
            let moved = match op {
                AxisOp::Add(axis) => array.with(*axis),
                AxisOp::Rm(axis) => array.without(*axis),
                AxisOp::Move(from, to) => array.moved(*from, *to),
                AxisOp::Reshape(at, from, to) => {
                    let sizes = |dims: &[_]| {
                        let sizes =
                            dims.iter().map(tract_onnx::tract_core::internal::DimLike::to_usize);
                        sizes.collect::<Result<Vec<_>, _>>()
                    };
                    let (from, to) = (sizes(from)?, sizes(to)?);
                    match array.reshaped(*at, &from, &to) {
                        Some(array) => array,
                        None => {
                            let array = self.row_major(array)?;
                            array.reshaped(*at, &from, &to).context("a dense array")?
                        }
                    }
                }
            };
            return self.view(out, first, moved, true);
        }
        if op.is::<Identity>() {
            let array = self.array(first)?;
            return self.view(out, first, array, true);
        }
        if let Some(op) = op.downcast_ref::<Slice>() {
            let Ok(start) = op.start.to_i64() else { return Ok(false) };
            let mut array = self.array(first)?;
            array.offset += array.strides[op.axis] * start as isize;
            array.shape[op.axis] = whole[op.axis];
            return self.view(out, first, array, false);
        }
        if let Some(op) = op.downcast_ref::<Downsample>() {
            if op.stride <= 0 {
                return Ok(false);
            }
            let mut array = self.array(first)?;
            array.offset += array.strides[op.axis] * op.modulo as isize;
            array.strides[op.axis] *= op.stride;
            array.shape[op.axis] = whole[op.axis];
            return self.view(out, first, array, false);
        }
        if op.is::<MultiBroadcastTo>() {
            let mut array = self.array(first)?;
            while array.shape.len() < whole.len() {
                array = array.with(0);
            }
            let Some(strides) = array.strides_over(&whole) else { return Ok(false) };
            let array = Array { shape: whole, strides, ..array };
            return self.view(out, first, array, false);
        }
        Ok(false)
    }

    /// A value that is another one's elements. `all`: each of them, once.
    fn view(&mut self, out: OutletId, of: OutletId, array: Array, all: bool) -> Result<bool> {
        if all && self.model.outlet_successors(of).len() == 1 && !self.model.outputs.contains(&of) {
            self.inherit(out, of);
        }
        self.set(out, array);
        Ok(true)
    }

    // ---- Element-wise ---------------------------------------------------------------------------

    fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> Result<bool> {
        let (out, &[a, b]) = (OutletId::new(node.id, 0), node.inputs.as_slice()) else {
            return Ok(false);
        };
        // `a op b`, seen from `a` and from `b`.
        let op = &op.0;
        let (from_a, from_b) = if op.is::<math::Add>() {
            (Binary::Add, Binary::Add)
        } else if op.is::<math::Mul>() {
            (Binary::Mul, Binary::Mul)
        } else if op.is::<math::Sub>() {
            (Binary::Sub, Binary::RSub)
        } else if op.is::<math::SubF>() {
            (Binary::RSub, Binary::Sub)
        } else if op.is::<math::Div>() {
            (Binary::Div, Binary::RDiv)
        } else if op.is::<math::Min>() {
            (Binary::Min, Binary::Min)
        } else if op.is::<math::Max>() {
            (Binary::Max, Binary::Max)
        } else {
            return Ok(false);
        };
        if let Some(number) = self.scalar(b) {
            return self.apply(out, a, &[Apply::Scalar(from_a, number)]);
        }
        if let Some(number) = self.scalar(a) {
            return self.apply(out, b, &[Apply::Scalar(from_b, number)]);
        }
        // The main value is the one that was made last and has the result's size: its program can
        // still grow, and the other one is there already.
        let whole = shape(self.model.outlet_fact(out)?)?;
        let size =
            |outlet| Ok::<_, anyhow::Error>(shape(self.model.outlet_fact(outlet)?)? == whole);
        let rank = |outlet| Ok::<_, anyhow::Error>((size(outlet)?, self.age(outlet)));
        let (main, other, binary) =
            if rank(a)? >= rank(b)? { (a, b, from_a) } else { (b, a, from_b) };
        let operand = self.array(other)?;
        self.apply(out, main, &[Apply::Array(binary, operand)])
    }

    fn unary(&mut self, out: OutletId, main: OutletId, op: &ElementWiseOp) -> Result<bool> {
        let op = &op.0;
        let unary = |unary| vec![Apply::Unary(unary)];
        let ops = if op.is::<math::Neg>() {
            unary(Unary::Neg)
        } else if op.is::<math::Abs>() {
            unary(Unary::Abs)
        } else if op.is::<math::Sqrt>() {
            unary(Unary::Sqrt)
        } else if op.is::<math::Recip>() {
            unary(Unary::Recip)
        } else if op.is::<math::Rsqrt>() {
            vec![Apply::Unary(Unary::Sqrt), Apply::Unary(Unary::Recip)]
        } else if op.is::<math::Exp>() {
            unary(Unary::Exp)
        } else if op.is::<math::Tanh>() {
            unary(Unary::Tanh)
        } else if op.is::<math::Erf>() {
            unary(Unary::Erf)
        } else if op.is::<nn::Sigmoid>() {
            unary(Unary::Sigmoid)
        } else if op.is::<nn::silu::Silu>() {
            unary(Unary::Silu)
        } else if op.is::<nn::gelu_exact::GeluExact>() {
            unary(Unary::Gelu)
        } else if let Some(op) = op.downcast_ref::<nn::LeakyRelu>() {
            vec![Apply::Scalar(Binary::LeakyRelu, op.alpha)]
        } else if op.is::<math::Square>() {
            let array = self.array(main)?;
            vec![Apply::Array(Binary::Mul, array)]
        } else {
            return Ok(false);
        };
        self.apply(out, main, &ops)
    }

    // ---- Rows -----------------------------------------------------------------------------------

    /// `x` where a value is `x - mean of x over the axis`: a mean that is a sum times `1 / size`.
    fn centred(&self, outlet: OutletId, axis: usize) -> Option<OutletId> {
        let model = self.model;
        let sub = model.node(outlet.node);
        sub.op_as::<TypedBinOp>().filter(|op| op.0.is::<math::Sub>())?;
        let &[source, mean] = sub.inputs.as_slice() else { return None };
        let mul = model.node(mean.node);
        mul.op_as::<TypedBinOp>().filter(|op| op.0.is::<math::Mul>())?;
        let &[a, b] = mul.inputs.as_slice() else { return None };
        let (sum, factor) = match (self.scalar(a), self.scalar(b)) {
            (None, Some(factor)) => (a, factor),
            (Some(factor), None) => (b, factor),
            _ => return None,
        };
        let reduce = model.node(sum.node);
        let op = reduce.op_as::<nn::Reduce>()?;
        let size = shape(model.outlet_fact(source).ok()?).ok()?[axis] as f32;
        let is_mean = op.reducer == nn::Reducer::Sum
            && op.axes.as_slice() == [axis]
            && reduce.inputs[0] == source
            && (factor * size - 1.0).abs() < 1e-6;
        is_mean.then_some(source)
    }

    /// A function of rows that gives as many elements.
    fn rows(&mut self, out: OutletId, from: OutletId, axis: usize, kind: RowsKind) -> Result<bool> {
        let array = self.array(from)?;
        let array = self.with_dense_axis(array, axis)?;
        let result = self.fresh(&array.shape, &array.order());
        let views: [&[isize]; 2] = [&result.strides, &array.strides];
        let Some(space) = space(&array.shape, &views, Some(axis)) else { return Ok(false) };
        let call = Rows {
            kind,
            dims: space.dims,
            input: self.steps.view(&array, space.strides[1]),
            out: self.steps.view(&result, space.strides[0]),
            program: Program::default(),
        };
        self.call(out, Call::Rows(call), result);
        Ok(true)
    }

    /// The array, or a copy, whose elements along an axis stand side by side and last.
    fn with_dense_axis(&mut self, array: Array, axis: usize) -> Result<Array> {
        if array.strides[axis] == 1 && array.order().last() == Some(&axis) {
            return Ok(array);
        }
        let mut order: Vec<usize> = (0..array.shape.len()).filter(|&other| other != axis).collect();
        order.push(axis);
        self.copy(&array, &order)
    }

    fn reduce(&mut self, node: &TypedNode, op: &nn::Reduce) -> Result<bool> {
        let (kind, pool) = match op.reducer {
            nn::Reducer::Sum => (RowsKind::Sum, Some(PoolKind::Sum)),
            nn::Reducer::Max => (RowsKind::Max, Some(PoolKind::Max)),
            nn::Reducer::MeanOfSquares => (RowsKind::MeanSquare, None),
            _ => return Ok(false),
        };
        let out = OutletId::new(node.id, 0);
        let mut array = self.array(node.inputs[0])?;
        let kept: Vec<usize> =
            (0..array.shape.len()).filter(|axis| !op.axes.contains(axis)).collect();
        let whole = shape(self.model.outlet_fact(out)?)?;
        let channel = kept.iter().copied().find(|&axis| array.strides[axis] == 1);
        if let (Some(kind), Some(channel)) = (pool, channel)
            && let Some(call) = self.reduce_planes(&array, &op.axes, channel, kind)?
        {
            let result = self.fresh(&whole, &(0..whole.len()).collect::<Vec<_>>());
            let mut call = call;
            let Some(space) = space(&whole, &[&result.strides], Some(channel)) else {
                return Ok(false);
            };
            call.out = self.steps.view(&result, space.strides[0]);
            // Images are the one dimension beside the channels.
            call.out.strides[2] = space.strides[0][4];
            call.out.strides[4] = 0;
            self.call(out, Call::Pool(call), result);
            return Ok(true);
        }
        // Rows: the axes that go become one, side by side.
        let sizes = |of: &Array| op.axes.iter().map(|&axis| of.shape[axis]).collect::<Vec<_>>();
        let steps = |of: &Array| op.axes.iter().map(|&axis| of.strides[axis]).collect::<Vec<_>>();
        if merged(&sizes(&array), &steps(&array)) != Some(1) {
            let order: Vec<usize> = kept.iter().chain(op.axes.iter()).copied().collect();
            array = self.copy(&array, &order)?;
        }
        let length: usize = sizes(&array).iter().product();
        let mut rows: Vec<usize> = kept.iter().map(|&axis| array.shape[axis]).collect();
        let mut strides: Vec<isize> = kept.iter().map(|&axis| array.strides[axis]).collect();
        let result = self.fresh(&whole, &(0..whole.len()).collect::<Vec<_>>());
        let mut made: Vec<isize> = kept.iter().map(|&axis| result.strides[axis]).collect();
        rows.push(length);
        strides.push(1);
        made.push(0);
        let last = Some(rows.len() - 1);
        let Some(space) = space(&rows, &[&made, &strides], last) else { return Ok(false) };
        let call = Rows {
            kind,
            dims: space.dims,
            input: self.steps.view(&array, space.strides[1]),
            out: self.steps.view(&result, space.strides[0]),
            program: Program::default(),
        };
        self.call(out, Call::Rows(call), result);
        Ok(true)
    }

    /// A reduction over planes of channels that stand side by side, as a pool over all of a plane. Its
    /// output's place is for the caller to say.
    fn reduce_planes(
        &mut self,
        array: &Array,
        axes: &[usize],
        channel: usize,
        kind: PoolKind,
    ) -> Result<Option<Pool>> {
        let long = |&axis: &usize| array.shape[axis] > 1;
        let mut planes: Vec<usize> = axes.iter().copied().filter(long).collect();
        planes.sort_by_key(|&axis| std::cmp::Reverse(array.strides[axis]));
        let images: Vec<usize> = (0..array.shape.len())
            .filter(|axis| !axes.contains(axis) && *axis != channel && array.shape[*axis] > 1)
            .collect();
        let (&[], 0..=2) = (images.as_slice(), planes.len()) else { return Ok(None) };
        let mut sizes = [1u32; 2];
        let mut strides = [0i32; 6];
        for (at, &axis) in planes.iter().rev().enumerate() {
            sizes[1 - at] = u32::try_from(array.shape[axis])?;
            strides[4 - at] = i32::try_from(array.strides[axis])?;
        }
        strides[5] = 1;
        let window = Window {
            images: 1,
            input: sizes,
            output: [1; 2],
            kernel: sizes,
            stride: [1; 2],
            dilation: [1; 2],
            pad: [0; 2],
        };
        Ok(Some(Pool {
            kind,
            window,
            channels: u32::try_from(array.shape[channel])?,
            input: self.steps.view(array, strides),
            out: Default::default(),
            program: Program::default(),
        }))
    }

    // ---- Several into one -----------------------------------------------------------------------

    fn concat(&mut self, node: &TypedNode, axis: usize) -> Result<bool> {
        let out = OutletId::new(node.id, 0);
        let whole = shape(self.model.outlet_fact(out)?)?;
        let parts = node.inputs.iter().map(|&input| self.array(input));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let largest = parts.iter().max_by_key(|part| part.len()).context("something to join")?;
        let result = self.fresh(&whole, &largest.order());
        let mut done = 0;
        for part in &parts {
            let mut place = result.clone();
            place.offset += result.strides[axis] * done as isize;
            place.shape[axis] = part.shape[axis];
            done += part.shape[axis];
            let views: [&[isize]; 2] = [&place.strides, &part.strides];
            let Some(space) = space(&part.shape, &views, None) else { return Ok(false) };
            let call = Map {
                dims: space.dims,
                input: self.steps.view(part, space.strides[1]),
                out: self.steps.view(&place, space.strides[0]),
                program: Program::default(),
            };
            self.part(Call::Map(call));
        }
        self.set(out, result);
        Ok(true)
    }
}
