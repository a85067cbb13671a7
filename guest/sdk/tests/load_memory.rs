//! Memory while an ONNX file becomes a model: twice the file, and little more.

use fuelbox_sdk::{Shapes, tract::TractModel};
use prost::Message;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension::Value},
    type_proto,
};

/// The box's memory is to peak at 2.2 times the file; blocks take less than the memory that they lie
/// in.
const PEAK_MAX: f64 = 2.1;
/// Of a layer: 1 MiB of weights.
const WIDTH: usize = 512;
const LAYERS: usize = 6;

/// Counts bytes.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Dense layers, the last one four times as wide: a file with one tensor that is much of it, as most
/// are. Half of the weights are initialisers, the others nodes.
fn file() -> Vec<u8> {
    let mut graph = GraphProto {
        input: vec![info("x0", WIDTH)],
        output: vec![info(&format!("x{LAYERS}"), WIDTH * 4)],
        ..GraphProto::default()
    };
    for layer in 0..LAYERS {
        let columns = if layer + 1 == LAYERS { WIDTH * 4 } else { WIDTH };
        let elements = (0..WIDTH * columns).map(|index| (index % 97 + layer) as f32 / 1000.0);
        let weight = TensorProto {
            name: format!("w{layer}"),
            data_type: DataType::Float as i32,
            dims: vec![WIDTH as i64, columns as i64],
            raw_data: elements.flat_map(f32::to_le_bytes).collect(),
            ..TensorProto::default()
        };
        if layer % 2 == 0 {
            graph.node.push(constant(weight));
        } else {
            graph.initializer.push(weight);
        }
        graph.node.push(NodeProto {
            op_type: "MatMul".into(),
            input: vec![format!("x{layer}"), format!("w{layer}")],
            output: vec![format!("x{}", layer + 1)],
            ..NodeProto::default()
        });
    }
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let graph = Some(graph);
    ModelProto { ir_version: 8, opset_import, graph, ..ModelProto::default() }.encode_to_vec()
}

fn constant(tensor: TensorProto) -> NodeProto {
    use tract_onnx::pb::{AttributeProto, attribute_proto::AttributeType};
    NodeProto {
        op_type: "Constant".into(),
        output: vec![tensor.name.clone()],
        attribute: vec![AttributeProto {
            name: "value".into(),
            r#type: AttributeType::Tensor as i32,
            t: Some(tensor),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}

fn info(name: &str, width: usize) -> ValueInfoProto {
    let dim = |size| Dimension { value: Some(Value::DimValue(size)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: vec![dim(1), dim(width as i64)] };
    let value = type_proto::Value::TensorType(type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(shape),
    });
    let r#type = Some(TypeProto { value: Some(value), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

#[test]
fn a_load_takes_twice_the_file() {
    let file = file();
    let size = file.len();
    let before = LIVE_BYTES.load(Ordering::Relaxed) - size;
    PEAK_BYTES.store(0, Ordering::Relaxed);
    let model = TractModel::from_onnx(file, &Shapes::new()).expect("a model");
    let peak = PEAK_BYTES.load(Ordering::Relaxed) - before;
    let ratio = peak as f64 / size as f64;
    assert!(ratio <= PEAK_MAX, "{ratio:.3} of the file, at most {PEAK_MAX} allowed");
    assert!(ratio > 1.5, "{ratio:.3} of the file: nothing was counted");
    drop(model);
}
