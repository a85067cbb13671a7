//! ONNX models, good and bad: what they answer, and the one sentence that a bad one gets.

use fuelbox_sdk::{DataType, Outputs, Result, Shapes, TensorView, tract::TractModel, view};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType as Onnx,
    tensor_shape_proto::{Dimension, dimension::Value},
    type_proto,
};

/// `y = x + w` with `x` of shape `[batch, 2]`.
fn model() -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            name: "g".into(),
            node: vec![node("Add", &["x", "w"], &["y"])],
            initializer: vec![weight()],
            input: vec![info("x", Onnx::Float, &["batch", "2"])],
            output: vec![info("y", Onnx::Float, &["batch", "2"])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let strings = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    NodeProto {
        op_type: operator.into(),
        name: format!("{operator}-node"),
        input: strings(inputs),
        output: strings(outputs),
        ..NodeProto::default()
    }
}

fn weight() -> TensorProto {
    TensorProto {
        name: "w".into(),
        data_type: Onnx::Float as i32,
        dims: vec![2],
        raw_data: [10f32, 20f32].map(f32::to_le_bytes).concat(),
        ..TensorProto::default()
    }
}

/// Dimensions are numbers, names, or "" for unknown.
fn info(name: &str, element: Onnx, dims: &[&str]) -> ValueInfoProto {
    let dim = |dim: &&str| Dimension {
        value: match (dim.parse(), *dim) {
            (Ok(size), _) => Some(Value::DimValue(size)),
            (Err(_), "") => None,
            (Err(_), name) => Some(Value::DimParam(name.into())),
        },
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: element as i32,
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn load(model: &ModelProto, shapes: &[(&str, &[u64])]) -> Result<TractModel> {
    let shapes =
        shapes.iter().try_fold(Shapes::new(), |shapes, (name, dims)| shapes.with(*name, dims));
    TractModel::from_onnx(model.encode_to_vec(), &shapes?)
}

#[test]
fn weights_are_found_wherever_a_file_keeps_them() {
    let x = view("x", &[1, 2], &[1f32, 2.0]).expect("shape");
    let constant = |name: &str| NodeProto {
        op_type: "Constant".into(),
        output: vec![name.into()],
        attribute: vec![AttributeProto {
            name: "value".into(),
            r#type: AttributeType::Tensor as i32,
            t: Some(TensorProto { name: String::new(), ..weight() }),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    type Place<'a> = (&'a str, &'a dyn Fn(&mut GraphProto));
    let places: [Place<'_>; 7] = [
        ("an initialiser", &|_| ()),
        ("an initialiser among the inputs", &|graph| {
            graph.input.insert(0, info("w", Onnx::Float, &["2"]));
        }),
        ("a node", &|graph| {
            graph.initializer.clear();
            graph.node.insert(0, constant("w"));
        }),
        ("a node behind its use", &|graph| {
            graph.initializer.clear();
            graph.node.push(constant("w"));
        }),
        ("beside one that is an output", &|graph| {
            graph.initializer.push(TensorProto { name: "v".into(), ..weight() });
            graph.output.push(info("v", Onnx::Float, &["2"]));
        }),
        ("beside a node that is an output", &|graph| {
            graph.node.insert(0, constant("v"));
            graph.output.push(info("v", Onnx::Float, &["2"]));
        }),
        ("beside one that nobody takes", &|graph| {
            graph.initializer.push(TensorProto { name: "v".into(), ..weight() });
        }),
    ];
    for (place, put) in places {
        let mut model = model();
        put(model.graph.as_mut().expect("a graph"));
        let model = load(&model, &[("x", &[1, 2])]).expect(place);
        assert_eq!(specs(&model).split(" -> ").next(), Some("x FP32 [1, 2]"), "{place}");
        assert_eq!(run(&model, &[x]), "y [1, 2] [11.0, 22.0]", "{place}");
    }
    assert_eq!(
        refused(|graph| graph.initializer.clear()),
        "the ONNX graph cannot be read: 'w' comes from nowhere"
    );
}

/// The sentence for this change of the good model, loaded for `x` of `[1, 2]`.
/// As weights of a matrix, of a convolution, and of one for each channel.
#[test]
fn weights_of_dead_features_are_zero() {
    let least = 2f32.powi(-100);
    for (operator, dims, x, group) in [
        ("MatMul", vec![2, 2], ["1", "2"].as_slice(), 0),
        ("Conv", vec![2, 2, 1, 1], &["1", "2", "1", "1"], 1),
        ("Conv", vec![2, 1, 1, 1], &["1", "2", "1", "1"], 2),
    ] {
        let mut model = model();
        let graph = model.graph.as_mut().expect("a graph");
        graph.node = vec![node(operator, &["x", "w"], &["y"])];
        if group > 0 {
            graph.node[0].attribute = vec![AttributeProto {
                name: "group".into(),
                r#type: AttributeType::Int as i32,
                i: group,
                ..AttributeProto::default()
            }];
        }
        let numbers = [least, 0.99 * least, -1e-45, -least];
        let count = dims.iter().product::<i64>() as usize;
        let numbers = if count == 2 { vec![numbers[1], numbers[3]] } else { numbers.to_vec() };
        graph.initializer[0].raw_data = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        graph.initializer[0].dims = dims;
        graph.input = vec![info("x", Onnx::Float, x)];
        graph.output = vec![info("y", Onnx::Float, x)];
        let model = load(&model, &[]).expect("a model");
        // A factor that would lift them.
        let x: Vec<u64> = x.iter().map(|size| size.parse().expect("a number")).collect();
        let answer = run(&model, &[view("x", &x, &[1e20f32, 1e20]).expect("a view")]);
        let large = 1e20 * least;
        let expected = match (operator, group) {
            ("MatMul", _) => [large, -large],
            (_, 1) => [large, -large],
            _ => [0.0, -large],
        };
        assert!(answer.ends_with(&format!("{expected:?}")), "{operator} {group}: {answer}");
    }
}

fn refused(change: impl FnOnce(&mut GraphProto)) -> String {
    let mut model = model();
    change(model.graph.as_mut().expect("a graph"));
    let error = load(&model, &[("x", &[1, 2])]).expect_err("a bad model");
    format!("{error:#}")
}

fn specs(model: &TractModel) -> String {
    let signature = model.signature();
    let spec = |spec: &fuelbox_sdk::TensorSpec| {
        format!("{} {} {}", spec.name, spec.datatype, spec.shape())
    };
    let inputs: Vec<_> = signature.inputs.iter().map(spec).collect();
    let outputs: Vec<_> = signature.outputs.iter().map(spec).collect();
    format!("{} -> {}", inputs.join(", "), outputs.join(", "))
}

fn run(model: &TractModel, inputs: &[TensorView<'_>]) -> String {
    let show = |outputs: Outputs| -> Result<String> {
        let tensor = outputs.tensors().next().expect("an output");
        let (name, shape) = (tensor.name, tensor.shape);
        Ok(match tensor.datatype {
            DataType::Fp32 => format!("{name} {shape} {:?}", outputs.elements::<f32>(name)?),
            DataType::Int64 => format!("{name} {shape} {:?}", outputs.elements::<i64>(name)?),
            other => format!("{name} {shape} {other}"),
        })
    };
    match model.run(inputs).and_then(show) {
        Ok(shown) => shown,
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn symbols_are_shown_and_numbers_are_planned() {
    let symbolic = load(&model(), &[]).expect("a signature");
    assert_eq!(specs(&symbolic), "x FP32 [batch, 2] -> y FP32 [batch, 2]");
    let one = view("x", &[1, 2], &[1f32, 2.0]).expect("shape");
    assert_eq!(
        run(&symbolic, &[one]),
        "the model was loaded without input shapes, and needs them for 'x' [batch, 2]"
    );
    let planned = load(&model(), &[("x", &[1, 2])]).expect("a plan");
    assert_eq!(specs(&planned), "x FP32 [1, 2] -> y FP32 [1, 2]");
    assert_eq!(run(&planned, &[one]), "y [1, 2] [11.0, 22.0]");
    let two = view("x", &[2, 2], &[0f32; 4]).expect("shape");
    assert_eq!(run(&planned, &[two]), "input 'x': shape [2, 2] found, [1, 2] allowed");
    assert_eq!(run(&planned, &[]), "input 'x' is missing: FP32 [1, 2] is needed");
    let double = view("x", &[1, 2], &[0f64; 2]).expect("shape");
    assert_eq!(run(&planned, &[double]), "input 'x': datatype FP64 found, FP32 allowed");
}

#[test]
fn fixed_models_are_planned_at_once_and_unknown_ranks_need_shapes() {
    let mut fixed = model();
    let graph = fixed.graph.as_mut().expect("a graph");
    graph.input = vec![info("x", Onnx::Float, &["1", "2"])];
    let one = view("x", &[1, 2], &[1f32, 2.0]).expect("shape");
    assert_eq!(run(&load(&fixed, &[]).expect("a plan"), &[one]), "y [1, 2] [11.0, 22.0]");
    let error = load(&fixed, &[("x", &[2, 2])]).expect_err("another shape");
    assert_eq!(error.to_string(), "input 'x': shape [2, 2] found, [1, 2] allowed");

    let mut unnamed = model();
    let graph = unnamed.graph.as_mut().expect("a graph");
    graph.input = vec![info("x", Onnx::Float, &["", "-1"])];
    let unnamed = load(&unnamed, &[]).expect("a signature");
    assert_eq!(specs(&unnamed), "x FP32 [x[0], x[1]] -> y FP32 [batch, 2]");

    let mut any = model();
    let graph = any.graph.as_mut().expect("a graph");
    if let Some(type_proto::Value::TensorType(tensor)) =
        graph.input[0].r#type.as_mut().and_then(|of| of.value.as_mut())
    {
        tensor.shape = None;
    }
    let loaded = load(&any, &[]).expect("a signature");
    assert_eq!(specs(&loaded), "x FP32 of any rank -> y FP32 [batch, 2]");
    let planned = load(&any, &[("x", &[1, 2])]).expect("a plan");
    assert_eq!(run(&planned, &[one]), "y [1, 2] [11.0, 22.0]");
}

#[test]
fn shapes_inside_of_the_graph_do_not_contradict_the_plan() {
    let mut model = model();
    let graph = model.graph.as_mut().expect("a graph");
    graph.node = vec![node("Add", &["x", "w"], &["z"]), node("Relu", &["z"], &["y"])];
    graph.value_info = vec![info("z", Onnx::Float, &["other_name", "2"])];
    let planned = load(&model, &[("x", &[1, 2])]).expect("a plan");
    let one = view("x", &[1, 2], &[1f32, -90.0]).expect("shape");
    assert_eq!(run(&planned, &[one]), "y [1, 2] [11.0, 0.0]");
}

#[test]
fn dimensions_leave_as_declared() {
    let mut model = model();
    let graph = model.graph.as_mut().expect("a graph");
    graph.node = vec![node("Shape", &["x"], &["y"])];
    graph.output = vec![info("y", Onnx::Int64, &["2"])];
    let planned = load(&model, &[("x", &[3, 2])]).expect("a plan");
    assert_eq!(specs(&planned), "x FP32 [3, 2] -> y INT64 [2]");
    let three = view("x", &[3, 2], &[0f32; 6]).expect("shape");
    assert_eq!(run(&planned, &[three]), "y [2] [3, 2]");
}

#[test]
fn all_unsupported_operators_are_named_at_once() {
    let text = refused(|graph| {
        let body = GraphProto { node: vec![node("RoiAlign", &[], &[])], ..GraphProto::default() };
        let mut branch = node("If", &[], &[]);
        branch.attribute = vec![AttributeProto {
            name: "then_branch".into(),
            r#type: AttributeType::Graph as i32,
            g: Some(body),
            ..AttributeProto::default()
        }];
        let mut foreign = node("Add", &[], &[]);
        foreign.domain = "com.acme".into();
        let loops = [node("Loop", &[], &[]), node("Loop", &[], &[])];
        graph.node.extend(loops);
        graph.node.extend([foreign, branch]);
    });
    assert_eq!(
        text,
        "operators that are not supported: Loop (2 nodes), RoiAlign (1 node), com.acme.Add (1 node)"
    );
}

#[test]
fn data_elsewhere_is_refused() {
    let text = refused(|graph| {
        let weight = &mut graph.initializer[0];
        weight.raw_data.clear();
        weight.data_location = Some(1);
        weight.external_data =
            vec![StringStringEntryProto { key: "location".into(), value: "weights.bin".into() }];
    });
    assert_eq!(
        text,
        "tensor 'w' keeps its data in another file ('weights.bin'): save the model with all data in \
         one file"
    );
}

#[test]
fn tensors_that_are_not_whole_are_refused() {
    let weight = |change: fn(&mut TensorProto)| refused(|graph| change(&mut graph.initializer[0]));
    for (text, says) in [
        (
            weight(|w| w.raw_data.truncate(7)),
            "tensor 'w': 7 bytes found, shape [2] of FP32 takes 8",
        ),
        (weight(|w| w.raw_data.clear()), "tensor 'w': 0 elements found, shape [2] of FP32 takes 2"),
        (
            weight(|w| w.dims = vec![i64::from(i32::MAX); 4]),
            "tensor 'w': 8 bytes found, shape [2147483647, 2147483647, 2147483647, 2147483647] of \
             FP32 takes more than 64 bits can count",
        ),
        (
            weight(|w| w.dims = vec![0, i64::MAX]),
            "tensor 'w': shape [0, 9223372036854775807] found, 0 to 2147483647 per dimension allowed",
        ),
        (
            weight(|w| w.dims = vec![-2]),
            "tensor 'w': shape [-2] found, 0 to 2147483647 per dimension allowed",
        ),
        (weight(|w| w.data_type = Onnx::String as i32), "tensor 'w': strings found as raw data"),
        (weight(|w| w.data_type = Onnx::Bfloat16 as i32), "'w' has elements of type BFLOAT16"),
        (weight(|w| w.data_type = 9999), "'w' has unknown element type 9999"),
        (
            refused(|graph| graph.sparse_initializer.push(SparseTensorProto::default())),
            "'g' has sparse tensors, dense ones are supported",
        ),
        (
            refused(|graph| {
                let mut constant = node("Constant", &[], &["c"]);
                let mut value = graph.initializer[0].clone();
                value.name.clear();
                value.raw_data.push(0);
                constant.attribute = vec![AttributeProto {
                    name: "value".into(),
                    r#type: AttributeType::Tensor as i32,
                    t: Some(value),
                    ..AttributeProto::default()
                }];
                graph.node.push(constant);
            }),
            "tensor 'Constant-node.value': 9 bytes found, shape [2] of FP32 takes 8",
        ),
    ] {
        assert_eq!(text, says);
    }
}

#[test]
fn graphs_that_cannot_be_are_refused() {
    for (text, says) in [
        (
            refused(|graph| graph.output[0].name = "z".into()),
            "output 'z' of graph 'g' comes from no node, input or weight of that graph",
        ),
        (refused(|graph| graph.output.clear()), "the model has no outputs"),
        (
            refused(|graph| graph.input.push(graph.input[0].clone())),
            "input 1 has the name 'x', allowed are names that differ",
        ),
        (
            refused(|graph| graph.input[0].r#type = None),
            "input 'x' is no tensor, tensors are supported",
        ),
        (
            refused(|graph| graph.input[0] = info("x", Onnx::Float, &["batch", "2", "3"])),
            "input 'x': shape [1, 2] found, [batch, 2, 3] allowed",
        ),
    ] {
        assert_eq!(text, says);
    }
    for (text, starts) in [
        (
            refused(|graph| graph.node[0].input[0] = "nowhere".into()),
            "the ONNX graph cannot be read",
        ),
        (refused(|graph| graph.node[0].input[0] = "y".into()), "the ONNX graph"),
    ] {
        assert!(text.starts_with(starts), "{text}");
    }
    let error = |bytes: &'static [u8]| {
        let error = TractModel::from_onnx(bytes, &Shapes::new()).expect_err("no model");
        error.to_string()
    };
    assert_eq!(error(b""), "the file is no ONNX model: it has no graph");
    assert!(error(b"\x89PNG").starts_with("the file is no ONNX model: failed to decode Protobuf"));
    let whole = model().encode_to_vec();
    for len in 1..whole.len() {
        let cut = TractModel::from_onnx(whole[..len].to_vec(), &Shapes::new());
        // A cut at a field's border is a model without the rest, which is then missing.
        assert!(cut.is_err() || len > whole.len() / 2, "cut to {len}");
    }
}

#[test]
fn huge_inputs_are_refused_before_they_are_planned() {
    let error = load(&model(), &[("x", &[1 << 40, 2])]).expect_err("huge");
    assert_eq!(
        error.to_string(),
        "input 'x': FP32 of shape [1099511627776, 2] found, up to 2147483647 bytes allowed"
    );
}
