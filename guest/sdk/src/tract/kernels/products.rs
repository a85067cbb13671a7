//! Products: matrices, convolutions, pools; and weights in the order in which kernels read them.

use super::{
    array::{Array, dense, merged},
    lower::{Apply, Lowering, shape},
    plan::{Data, Panels},
};
use anyhow::{Context, Result};
use fuelbox_kernels::{
    Binary, Call, Conv, Depthwise, Gemm, PANEL, Pool, PoolKind, Program, Right, Strides, View,
    Window,
};
use std::sync::Arc;
use tract_onnx::prelude::{Datum, OutletId, Tensor, TypedNode};
use tract_onnx::tract_core::ops::{
    cnn::{self, Deconv, KernelFormat, PoolSpec},
    einsum::EinSum,
    nn::BaseDataShape,
};

/// Groups that are done one by one; beyond, tract does it.
const GROUPS_MAX: usize = 64;

/// An axis: its size, and where it is in the left-hand side, the right-hand side and the result.
type Axis = (usize, [Option<usize>; 3]);

/// Axes that count as one dimension.
#[derive(Clone, Debug)]
struct Group {
    size: usize,
    left: isize,
    right: isize,
    out: isize,
}

/// Weights below are zero: 2^-100. Those of dead features end there, and further down, when training makes them
/// smaller and smaller. What they add to a sum is nothing; but it may be subnormal, which processors and hosts charge for
/// (`docs/decisions/0020-subnormal-numbers.md`). From here on it is not, for inputs above 2^-26.
const WEIGHT_LEAST: f32 = f32::from_bits((127 - 100) << 23);

/// A weight as it is packed.
fn weight(trained: f32) -> f32 {
    if trained.abs() < WEIGHT_LEAST { 0.0 } else { trained }
}

impl Lowering<'_> {
    pub(super) fn inherit(&mut self, out: OutletId, of: OutletId) {
        if let Some(step) = self.age(of) {
            self.remember(out, step);
        }
    }

    // ---- Matrices -------------------------------------------------------------------------------

    pub(super) fn einsum(&mut self, node: &TypedNode, op: &EinSum) -> Result<bool> {
        let &[a, b] = node.inputs.as_slice() else { return Ok(false) };
        if op.q_params.is_some() || op.operating_dt != f32::datum_type() {
            return Ok(false);
        }
        let out = OutletId::new(node.id, 0);
        let whole = shape(self.model.outlet_fact(out)?)?;
        let shapes = [shape(self.model.outlet_fact(a)?)?, shape(self.model.outlet_fact(b)?)?];
        // Each axis: its size, and where it is in a, b and the result.
        let mut axes: Vec<Axis> = Vec::new();
        for axis in op.axes.iter_all_axes() {
            let lists = [&axis.inputs[0], &axis.inputs[1], &axis.outputs[0]];
            if lists.iter().any(|list| list.len() > 1) {
                return Ok(false);
            }
            let at = lists.map(|list| list.first().copied());
            let sizes = [
                at[0].map(|axis| shapes[0][axis]),
                at[1].map(|axis| shapes[1][axis]),
                at[2].map(|axis| whole[axis]),
            ];
            let size = sizes.into_iter().flatten().max().unwrap_or(1);
            if size != 1 {
                // An axis that one side repeats is not there on that side.
                let real = |side: usize| at[side].filter(|_| sizes[side] == Some(size));
                axes.push((size, [real(0), real(1), real(2)]));
            }
        }
        // Columns are those of a constant, whose layout is ours to choose, or those of the result's
        // last axis, which stand side by side.
        let last = axes.iter().filter_map(|(_, at)| at[2].map(|out| (out, at))).max_by_key(|l| l.0);
        let swap = match (self.constant(a).is_some(), self.constant(b).is_some()) {
            (true, false) => true,
            (false, true) => false,
            _ => last.is_some_and(|(_, at)| at[0].is_some() && at[1].is_none()),
        };
        let (left, right) = if swap { (b, a) } else { (a, b) };
        if swap {
            axes.iter_mut().for_each(|(_, at)| at.swap(0, 1));
        }
        self.product(out, &whole, left, right, &axes)
    }

    fn product(
        &mut self,
        out: OutletId,
        whole: &[usize],
        left: OutletId,
        right: OutletId,
        axes: &[Axis],
    ) -> Result<bool> {
        let mut left = self.array(left)?;
        let constant = self.constant(right);
        let mut kinds: [Vec<&Axis>; 4] = Default::default();
        for axis in axes {
            let kind = match axis.1 {
                [Some(_), Some(_), Some(_)] => 0,
                [Some(_), None, Some(_)] => 1,
                [None, Some(_), Some(_)] => 2,
                [Some(_), Some(_), None] => 3,
                _ => return Ok(false),
            };
            kinds[kind].push(axis);
        }
        let [batches, rows, columns, depth] = &mut kinds;
        let at = |axis: &Axis, side: usize| axis.1[side].context("an axis of that side");
        // The left-hand side decides the order of the depth; it is copied where it has none.
        let stride_of = |array: &Array, axis: &Axis, side| {
            Ok::<_, anyhow::Error>(array.strides[at(axis, side)?])
        };
        depth.sort_by_key(|axis| {
            std::cmp::Reverse(axis.1[0].map_or(0, |axis| left.strides[axis].abs()))
        });
        let sizes: Vec<usize> = depth.iter().map(|axis| axis.0).collect();
        let k: usize = sizes.iter().product();
        let strides =
            depth.iter().map(|axis| stride_of(&left, axis, 0)).collect::<Result<Vec<_>>>()?;
        let left_step = match merged(&sizes, &strides) {
            Some(step) => step,
            None => {
                let deep: Vec<usize> = depth.iter().filter_map(|axis| axis.1[0]).collect();
                let rest = left.order().into_iter().filter(|axis| !deep.contains(axis));
                let order: Vec<usize> = rest.chain(deep.iter().copied()).collect();
                left = self.copy(&left, &order)?;
                1
            }
        };
        // The result's layout: like the left-hand side's rows with a constant's columns innermost, or
        // in the order of its axes.
        let order: Vec<usize> = if constant.is_some() {
            let mut outer: Vec<_> = batches.iter().chain(rows.iter()).collect();
            outer.sort_by_key(|axis| {
                std::cmp::Reverse(axis.1[0].map_or(0, |axis| left.strides[axis].abs()))
            });
            let outer = outer.into_iter().chain(columns.iter()).filter_map(|axis| axis.1[2]);
            let named: Vec<usize> = outer.collect();
            let rest = (0..whole.len()).filter(|axis| !named.contains(axis));
            rest.chain(named.iter().copied()).collect()
        } else {
            (0..whole.len()).collect()
        };
        let result = Array { strides: dense(whole, &order), ..self.fresh(whole, &order) };
        // Columns as one dimension.
        columns.sort_by_key(|axis| {
            std::cmp::Reverse(axis.1[2].map_or(0, |axis| result.strides[axis]))
        });
        let n: usize = columns.iter().map(|axis| axis.0).product();
        let sizes: Vec<usize> = columns.iter().map(|axis| axis.0).collect();
        let made =
            columns.iter().map(|axis| stride_of(&result, axis, 2)).collect::<Result<Vec<_>>>()?;
        let Some(out_step) = merged(&sizes, &made) else { return Ok(false) };
        let packed = constant.filter(|_| batches.is_empty());
        let mut right_array = None;
        let (mut column_step, mut depth_step) = (0, 0);
        if packed.is_none() {
            let array = self.array(right)?;
            let of = |axes: &[&Axis]| {
                let sizes: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
                let strides = axes.iter().map(|axis| stride_of(&array, axis, 1));
                Ok::<_, anyhow::Error>(merged(&sizes, &strides.collect::<Result<Vec<_>>>()?))
            };
            let (Some(columns), Some(depth)) = (of(columns)?, of(depth)?) else {
                return Ok(false);
            };
            (column_step, depth_step) = (columns, depth);
            right_array = Some(array);
        }
        // Rows and batches: axes that lie like one on all sides are one.
        let mut outer: Vec<Group> = Vec::new();
        let mut row_axes: Vec<_> = batches.iter().chain(rows.iter()).copied().collect();
        row_axes.sort_by_key(|axis| {
            std::cmp::Reverse(axis.1[2].map_or(0, |axis| result.strides[axis]))
        });
        for axis in row_axes {
            let right = match (&right_array, axis.1[1]) {
                (Some(array), Some(axis)) => array.strides[axis],
                _ => 0,
            };
            let own = Group {
                size: axis.0,
                left: stride_of(&left, axis, 0)?,
                right,
                out: stride_of(&result, axis, 2)?,
            };
            match outer.last_mut() {
                Some(group)
                    if group.left == own.left * own.size as isize
                        && group.out == own.out * own.size as isize
                        && group.right == own.right * own.size as isize =>
                {
                    *group = Group { size: group.size * own.size, ..own };
                }
                _ => outer.push(own),
            }
        }
        // The rows are the largest group that the right-hand side does not take part in.
        let most = outer.iter().enumerate().filter(|(_, group)| group.right == 0);
        let most = most.max_by_key(|(_, group)| group.size).map(|(at, _)| at);
        let rows = match most {
            Some(at) => outer.remove(at),
            None => Group { size: 1, left: 0, right: 0, out: 0 },
        };
        if outer.len() > 2 {
            return Ok(false);
        }
        let mut batch = [1u32; 2];
        let (mut l, mut r, mut o) = ([0i32; 6], [0i32; 6], [0i32; 6]);
        let front = 2 - outer.len();
        for (at, group) in outer.iter().enumerate() {
            batch[front + at] = u32::try_from(group.size)?;
            l[2 + front + at] = i32::try_from(group.left)?;
            r[2 + front + at] = i32::try_from(group.right)?;
            o[2 + front + at] = i32::try_from(group.out)?;
        }
        (l[4], l[5]) = (i32::try_from(rows.left)?, i32::try_from(left_step)?);
        (r[4], r[5]) = (i32::try_from(depth_step)?, i32::try_from(column_step)?);
        (o[4], o[5]) = (i32::try_from(rows.out)?, i32::try_from(out_step)?);
        let right = match (&packed, &right_array) {
            (Some(tensor), _) => {
                let strides = dense(tensor.shape(), &(0..tensor.rank()).collect::<Vec<_>>());
                let list = |axes: &[&Axis]| {
                    let of = |axis: &&Axis| (axis.0, axis.1[1].map_or(0, |axis| strides[axis]));
                    axes.iter().map(of).collect::<Vec<_>>()
                };
                let (columns, depth) = (offsets(&list(columns)), offsets(&list(depth)));
                let packed = self.pack(tensor, &columns, &depth)?;
                self.release(right);
                Right::Packed(packed)
            }
            (None, Some(array)) => Right::Strided(self.steps.view(array, r)),
            (None, None) => return Ok(false),
        };
        let call = Gemm {
            batch,
            m: u32::try_from(rows.size)?,
            n: u32::try_from(n)?,
            k: u32::try_from(k)?,
            a: self.steps.view(&left, l),
            right,
            c: self.steps.view(&result, o),
            program: Program::default(),
        };
        self.call(out, Call::Gemm(call), result);
        Ok(true)
    }

    /// Panels of a constant's elements: `columns` and `depth` are their offsets. Gives a reference.
    fn pack(&mut self, tensor: &Arc<Tensor>, columns: &[usize], depth: &[usize]) -> Result<usize> {
        let from = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
        let panels = columns.len().div_ceil(PANEL);
        let mut packed = Panels::zeros(panels * depth.len() * PANEL);
        let to = packed.as_mut_slice();
        for (column, offset) in columns.iter().enumerate() {
            let start = column / PANEL * depth.len() * PANEL + column % PANEL;
            for (p, deep) in depth.iter().enumerate() {
                to[start + p * PANEL] = weight(from[offset + deep]);
            }
        }
        let place = self.steps.constant(Data::Packed(packed));
        Ok(self.steps.reference(place, 0))
    }

    // ---- Windows --------------------------------------------------------------------------------

    pub(super) fn conv(&mut self, node: &TypedNode, op: &cnn::Conv) -> Result<bool> {
        let spec = &op.pool_spec;
        let out = OutletId::new(node.id, 0);
        if op.q_params.is_some() || node.inputs.len() != 3 {
            return Ok(false);
        }
        let (Some(kernel), Some(bias)) =
            (self.constant(node.inputs[1]), self.constant(node.inputs[2]))
        else {
            return Ok(false);
        };
        let (channels, outputs) = (spec.input_channels, spec.output_channels);
        let Some(images) = self.images(node, spec)? else { return Ok(false) };
        let Images { input, out: result, window, views } = images;
        let taps = window.kernel[0] as usize * window.kernel[1] as usize;
        // The steps of the kernel: output, input, tap.
        let (o, i, t) = match op.kernel_fmt {
            KernelFormat::OIHW => (channels / op.group * taps, taps, 1),
            KernelFormat::HWIO => (1, outputs, channels / op.group * outputs),
            KernelFormat::OHWI => (taps * channels / op.group, 1, channels / op.group),
        };
        let bias = self.bias(&bias, outputs, &result)?;
        let mut program = Program::default();
        if let Some(Apply::Array(binary, array)) = &bias {
            let strides = [0, 0, 0, 0, 0, 1];
            program
                .push(fuelbox_kernels::Op::Tensor(*binary, self.steps.view(array, strides)))
                .context("an empty program has room")?;
        }
        if op.group > 1 && op.group == channels && op.group == outputs {
            let mut weights = Panels::zeros(taps * channels);
            let from = kernel.try_as_plain_ram()?.as_slice::<f32>()?;
            // One input channel each: HWIO has the channel last, the others first.
            let (channel, tap) = match op.kernel_fmt {
                KernelFormat::HWIO => (1, outputs),
                _ => (taps, 1),
            };
            for (at, to) in weights.as_mut_slice()[..taps * channels].iter_mut().enumerate() {
                *to = weight(from[at / channels * tap + at % channels * channel]);
            }
            self.release(node.inputs[1]);
            let place = self.steps.constant(Data::Packed(weights));
            let across = i32::try_from(window.kernel[1] as usize * channels)?;
            let strides = [0, 0, 0, across, i32::try_from(channels)?, 1];
            let weights = View { address: self.steps.reference(place, 0), strides };
            let call = Depthwise {
                window,
                channels: u32::try_from(channels)?,
                input: self.steps.view(&input, views[0]),
                weights,
                out: self.steps.view(&result, views[1]),
                program,
            };
            self.call(out, Call::Depthwise(call), result);
            return Ok(true);
        }
        if op.group > GROUPS_MAX {
            return Ok(false);
        }
        let (per_in, per_out) = (channels / op.group, outputs / op.group);
        self.release(node.inputs[1]);
        for group in 0..op.group {
            // HWIO keeps the groups side by side.
            let start = match op.kernel_fmt {
                KernelFormat::HWIO => group * per_out,
                _ => group * per_out * o,
            };
            let columns: Vec<usize> = (0..per_out).map(|column| start + column * o).collect();
            let depth: Vec<usize> =
                (0..taps).flat_map(|tap| (0..per_in).map(move |c| tap * t + c * i)).collect();
            let mut from = input.clone();
            from.offset += (group * per_in) as isize * views[0][5] as isize;
            let mut to = result.clone();
            to.offset += (group * per_out) as isize * views[1][5] as isize;
            let mut program = program;
            if let (Some(Apply::Array(_, array)), true) = (&bias, group > 0) {
                let mut array = array.clone();
                array.offset += (group * per_out) as isize;
                let moved = self.steps.view(&array, [0, 0, 0, 0, 0, 1]);
                if let Some(fuelbox_kernels::Op::Tensor(_, view)) = program.ops_mut().first_mut() {
                    *view = moved;
                }
            }
            let call = Conv {
                window,
                channels: u32::try_from(per_in)?,
                outputs: u32::try_from(per_out)?,
                input: self.steps.view(&from, views[0]),
                weights: self.pack(&kernel, &columns, &depth)?,
                out: self.steps.view(&to, views[1]),
                program,
            };
            if op.group == 1 {
                self.call(out, Call::Conv(call), result.clone());
            } else {
                self.part(Call::Conv(call));
                self.set(out, result.clone());
            }
        }
        Ok(true)
    }

    /// A bias for each output, unless all of it is zero.
    fn bias(&mut self, bias: &Arc<Tensor>, outputs: usize, _: &Array) -> Result<Option<Apply>> {
        let numbers = bias.try_as_plain_ram()?.as_slice::<f32>()?;
        if numbers.iter().all(|number| *number == 0.0) {
            return Ok(None);
        }
        let mut panels = Panels::zeros(outputs);
        for (at, number) in panels.as_mut_slice()[..outputs].iter_mut().enumerate() {
            *number = numbers[if numbers.len() == 1 { 0 } else { at }];
        }
        let place = self.steps.constant(Data::Packed(panels));
        Ok(Some(Apply::Array(Binary::Add, Array::whole(place, &[outputs]))))
    }

    pub(super) fn pool(
        &mut self,
        node: &TypedNode,
        kind: PoolKind,
        spec: &PoolSpec,
    ) -> Result<bool> {
        let Some(images) = self.images(node, spec)? else { return Ok(false) };
        let Images { input, out: result, window, views } = images;
        let call = Pool {
            kind,
            window,
            channels: u32::try_from(spec.input_channels)?,
            input: self.steps.view(&input, views[0]),
            out: self.steps.view(&result, views[1]),
            program: Program::default(),
        };
        self.call(OutletId::new(node.id, 0), Call::Pool(call), result);
        Ok(true)
    }

    /// Input, output and geometry of a window over images of one or two dimensions. Channels stand
    /// side by side on both sides.
    fn images(&mut self, node: &TypedNode, spec: &PoolSpec) -> Result<Option<Images>> {
        let out = OutletId::new(node.id, 0);
        let whole = shape(self.model.outlet_fact(out)?)?;
        let mut input = self.array(node.inputs[0])?;
        let in_shape = spec.data_format.shape(input.shape.clone())?;
        let out_shape = spec.data_format.shape(whole.clone())?;
        if !(1..=2).contains(&spec.rank()) {
            return Ok(None);
        }
        let last = |order: &BaseDataShape<usize, Vec<usize>>| {
            let mut axes: Vec<usize> = order.n_axis().into_iter().collect();
            axes.extend(order.hw_axes());
            axes.push(order.c_axis());
            axes
        };
        if input.strides[in_shape.c_axis()] != 1 && *in_shape.c() > 1 {
            input = self.copy(&input, &last(&in_shape))?;
        }
        let result = self.fresh(&whole, &last(&out_shape));
        let padding = spec.computed_padding(in_shape.hw_dims());
        let size = |value: usize| u32::try_from(value);
        let two = |value: &dyn Fn(usize) -> usize, one: usize| {
            let axis = |at: usize| match spec.rank() {
                2 => value(at),
                _ if at == 0 => one,
                _ => value(0),
            };
            Ok::<_, anyhow::Error>([size(axis(0))?, size(axis(1))?])
        };
        let pads = two(&|axis| padding[axis].pad_before, 0)?;
        let window = Window {
            images: size(in_shape.n().copied().unwrap_or(1))?,
            input: two(&|axis| in_shape.hw_dims()[axis], 1)?,
            output: two(&|axis| out_shape.hw_dims()[axis], 1)?,
            kernel: two(&|axis| spec.kernel_shape[axis], 1)?,
            stride: two(&|axis| spec.stride(axis), 1)?,
            dilation: two(&|axis| spec.dilation(axis), 1)?,
            pad: pads.map(|pad| pad as i32),
        };
        let strides = |array: &Array, of: &BaseDataShape<usize, Vec<usize>>| {
            let mut strides: Strides = [0; 6];
            let stride = |axis: usize| i32::try_from(array.strides[axis]);
            if let Some(axis) = of.n_axis() {
                strides[2] = stride(axis)?;
            }
            let geometry = of.hw_axes();
            let first = 5 - geometry.len();
            for (at, axis) in geometry.enumerate() {
                strides[first + at] = stride(axis)?;
            }
            strides[5] = if *of.c() > 1 { stride(of.c_axis())? } else { 1 };
            Ok::<_, anyhow::Error>(strides)
        };
        let views = [strides(&input, &in_shape)?, strides(&result, &out_shape)?];
        Ok(Some(Images { input, out: result, window, views }))
    }

    /// A deconvolution whose windows do not overlap: a product for each tap.
    pub(super) fn deconv(&mut self, node: &TypedNode, op: &Deconv) -> Result<bool> {
        let spec = &op.pool_spec;
        let out = OutletId::new(node.id, 0);
        if op.group != 1 || spec.rank() != 2 || node.inputs.len() != 3 {
            return Ok(false);
        }
        let (Some(kernel), Some(bias)) =
            (self.constant(node.inputs[1]), self.constant(node.inputs[2]))
        else {
            return Ok(false);
        };
        let whole = shape(self.model.outlet_fact(out)?)?;
        let mut input = self.array(node.inputs[0])?;
        let in_shape = spec.data_format.shape(input.shape.clone())?;
        let out_shape = spec.data_format.shape(whole.clone())?;
        let apart = (0..2).all(|axis| {
            spec.stride(axis) == spec.kernel_shape[axis]
                && spec.dilation(axis) == 1
                && in_shape.hw_dims()[axis] * spec.stride(axis) == out_shape.hw_dims()[axis]
        });
        if !apart || in_shape.n().is_some_and(|n| *n != 1) {
            return Ok(false);
        }
        let (channels, outputs) = (spec.input_channels, spec.output_channels);
        let [kh, kw] = [spec.kernel_shape[0], spec.kernel_shape[1]];
        let (o, i, t) = match op.kernel_format {
            KernelFormat::OIHW => (channels * kh * kw, kh * kw, 1),
            KernelFormat::HWIO => (1, outputs, channels * outputs),
            KernelFormat::OHWI => (kh * kw * channels, 1, channels),
        };
        if input.strides[in_shape.c_axis()] != 1 && channels > 1 {
            let mut order: Vec<usize> = in_shape.n_axis().into_iter().collect();
            order.extend(in_shape.hw_axes());
            order.push(in_shape.c_axis());
            input = self.copy(&input, &order)?;
        }
        let mut order: Vec<usize> = out_shape.n_axis().into_iter().collect();
        order.extend(out_shape.hw_axes());
        order.push(out_shape.c_axis());
        let result = self.fresh(&whole, &order);
        let bias = self.bias(&bias, outputs, &result)?;
        let h = in_shape.h_axis();
        let [height, width] = [in_shape.hw_dims()[0], in_shape.hw_dims()[1]];
        let columns: Vec<usize> = (0..outputs).map(|column| column * o).collect();
        self.release(node.inputs[1]);
        for tap in 0..kh * kw {
            let (ky, kx) = ((tap / kw) as isize, (tap % kw) as isize);
            let depth: Vec<usize> = (0..channels).map(|c| tap * t + c * i).collect();
            let mut to = result.clone();
            let (down, across) = (result.strides[h], result.strides[h + 1]);
            to.offset += ky * down + kx * across;
            let mut program = Program::default();
            if let Some(Apply::Array(binary, array)) = &bias {
                let view = self.steps.view(array, [0, 0, 0, 0, 0, 1]);
                program
                    .push(fuelbox_kernels::Op::Tensor(*binary, view))
                    .context("an empty program has room")?;
            }
            let step = |stride: isize, times: usize| i32::try_from(stride * times as isize);
            let from = [0, 0, 0, step(input.strides[h], 1)?, step(input.strides[h + 1], 1)?, 1];
            let into = [0, 0, 0, step(down, kh)?, step(across, kw)?, 1];
            let call = Gemm {
                batch: [1, u32::try_from(height)?],
                m: u32::try_from(width)?,
                n: u32::try_from(outputs)?,
                k: u32::try_from(channels)?,
                a: self.steps.view(&input, from),
                right: Right::Packed(self.pack(&kernel, &columns, &depth)?),
                c: self.steps.view(&to, into),
                program,
            };
            self.part(Call::Gemm(call));
        }
        self.set(out, result);
        Ok(true)
    }
}

struct Images {
    input: Array,
    out: Array,
    window: Window,
    /// Strides of input and output over (.., image, y, x, channel).
    views: [Strides; 2],
}

/// The offsets of all elements over axes of these sizes and steps, in order.
fn offsets(axes: &[(usize, isize)]) -> Vec<usize> {
    axes.iter().fold(vec![0], |offsets, &(size, step)| {
        let over = |offset: usize| (0..size).map(move |at| offset + at * step.unsigned_abs());
        offsets.into_iter().flat_map(over).collect()
    })
}
