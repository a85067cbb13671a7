//! By way of a file: archives that swell, graphs that never end, tensors beyond all numbers.

use crate::{
    attempt::{Attempt, Held, ended, ensure, is_harmless, plain},
    guest::Guest,
    onnx::{self, Element, Model, Node},
    package::{MAGIC, Package, by_hand, compressed, encoder, entry},
    suite::{Case, Group},
    target::{Published, Upload},
};
use fuelbox_engine::{DataType, Shape, Tensor};
use fuelbox_kernels::SUBNORMAL_FUEL;
use std::{io::Write, rc::Rc, time::Instant};

pub(super) fn cases(stock_guest: &[u8]) -> Vec<Case> {
    let mut cases = archives();
    let stock: Rc<[u8]> = stock_guest.into();
    let mut refused = |name: &str, model: fn() -> Vec<u8>| {
        let stock = stock.clone();
        cases.push(Case::new(Group::Model, name, move |attempt| {
            let started = Instant::now();
            let package = Package::onnx(&stock, model(), &[4]);
            let said = attempt.refused(&package, "did not load the model")?;
            Ok(format!("{said} ({} ms)", started.elapsed().as_millis()))
        }));
    };
    refused("a graph that is a circle", || {
        Model::new("circle")
            .input("input", Element::F32, "4")
            .node(Node::new("Add", &["input", "b"], "a"))
            .node(Node::new("Relu", &["a"], "b"))
            .node(Node::new("Relu", &["b"], "output"))
            .output("output", Element::F32, "4")
            .build()
    });
    refused("a node that takes its own output", || {
        Model::new("self")
            .input("input", Element::F32, "4")
            .node(Node::new("Add", &["input", "output"], "output"))
            .output("output", Element::F32, "4")
            .build()
    });
    refused("a weight of 2^62 elements", || onnx::absurd_weight(&[1 << 62]));
    refused("a weight whose size overflows", || onnx::absurd_weight(&[1 << 32, 1 << 32]));
    refused("a weight of negative size", || onnx::absurd_weight(&[-1]));
    refused("a weight in a file of the host", onnx::external_data);
    refused("operators that nobody knows", onnx::unknown_operators);
    refused("constants that unfold to gigabytes", || unfolding(1 << 14, 1));
    refused("constants that unfold to terabytes", || unfolding(1 << 20, 1));
    refused("constants that double a hundred times", || {
        let mut model = Model::new("doubling").input("input", Element::F32, "4").floats(
            "c0",
            &[1024],
            &[1.0; 1024],
        );
        for level in 0..100 {
            let (from, to) = (format!("c{level}"), format!("c{}", level + 1));
            let node = Node::new("Concat", &[&from, &from], &to).int("axis", 0);
            model = model.node(node);
        }
        model
            .node(Node::new("ReduceSum", &["c100"], "sum").int("keepdims", 0))
            .node(Node::new("Add", &["input", "sum"], "output"))
            .output("output", Element::F32, "4")
            .build()
    });
    refused("subgraphs a thousand deep", || nested(1_000));
    refused("messages a hundred thousand deep", || nested(100_000));
    refused("a million nodes", || {
        let mut model = Model::new("long").input("input", Element::F32, "4");
        let mut from = "input".to_owned();
        for node in 0..1_000_000 {
            let to = if node == 999_999 { "output".to_owned() } else { format!("{node:x}") };
            model = model.node(Node::new("Relu", &[&from], &to));
            from = to;
        }
        model.output("output", Element::F32, "4").build()
    });
    refused("a file of zeros", || vec![0; 1 << 20]);
    refused("a file that is cut off", || {
        let mut model = onnx::identity(Element::F32, "4");
        model.truncate(model.len() / 2);
        model
    });

    let guest = stock.clone();
    cases.push(Case::new(Group::Model, "an input of 2^40 elements", move |attempt| {
        let package = Package::onnx(&guest, onnx::absurd_input("1099511627776"), &[1 << 40]);
        match attempt.publish(&package)? {
            Upload::Refused(refusal) => {
                is_harmless(&refusal.text)?;
                Ok(format!("refused: {}", refusal.text))
            }
            Upload::Published(_) => Ok("published; no input fits it".into()),
        }
    }));
    cases.push(Case::new(Group::Model, "infinities, NaN and subnormal numbers", move |attempt| {
        let model = attempt.open_package(&Package::onnx(&stock, product(), &[1, 256]))?;
        let mut fuel = Vec::new();
        for value in [1.0, 0.0, f32::NAN, f32::INFINITY, -0.0, f32::MAX] {
            fuel.push(run(attempt, &model, value)?);
        }
        ensure(fuel.iter().all(|other| *other == fuel[0]), || format!("{fuel:?}"))?;
        // A row by 256 columns, each a sum of 256 steps.
        let steps = 256 * 256 * SUBNORMAL_FUEL;
        for value in [1e-40, f32::from_bits(1)] {
            let found = run(attempt, &model, value)?;
            ensure(found >= fuel[0] + steps, || format!("{found} fuel for {value:e}"))?;
            fuel.push(found);
        }
        Ok(format!("{} fuel, on subnormal numbers {}", fuel[0], fuel[6]))
    }));
    cases
}

/// Files that are no package, or more than they say.
fn archives() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Model, name, attack));
    };
    add("a package that is something else", |attempt| {
        for file in [&b""[..], b"PK\x03\x04", b"\x89PNG\r\n", MAGIC, b"\0asm\x01\0\0\0"] {
            attempt.refused_file(file, "package: ")?;
        }
        Ok("5 files refused".into())
    });
    add("gigabytes of zeros in a few kilobytes", |attempt| {
        let manifest = Package::of(&Guest::default()).manifest("bomb").to_bytes();
        let mut tar = entry("manifest.json", manifest.len() as u64);
        tar.extend(&manifest);
        tar.resize(tar.len().next_multiple_of(512), 0);
        let file = compressed(&[(tar.as_slice(), 1), (&[0; 1 << 20], 4_096)])?;
        let said = attempt.refused_file(&file, "package: ")?;
        Ok(format!("{} bytes; {said}", file.len()))
    });
    add("a part that says it has a terabyte", |attempt| {
        let package = Package::of(&Guest::default());
        let manifest = package.manifest("bomb");
        let bytes = manifest.to_bytes();
        let mut tar = entry("manifest.json", bytes.len() as u64);
        tar.extend(&bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
        tar.extend(entry(&format!("parts/{}", manifest.guest.digest.hex()), 1 << 40));
        attempt.refused_file(&compressed(&[(&tar, 1)])?, "1099511627776 bytes")
    });
    add("a manifest that says it has a terabyte", |attempt| {
        attempt.refused_file(&compressed(&[(&entry("manifest.json", 1 << 40), 1)])?, "manifest of")
    });
    add("a manifest of a million brackets", |attempt| {
        attempt.refused_file(&by_hand("[".repeat(1_000_000).as_bytes())?, "manifest: ")
    });
    add("a window of gigabytes to unpack into", |attempt| {
        let mut encoder = encoder()?;
        let wide = encoder.window_log(30).and_then(|()| encoder.long_distance_matching(true));
        wide.and_then(|()| encoder.write_all(&[0; 100_000])).map_err(crate::Broken::new)?;
        let file = encoder.finish().map_err(crate::Broken::new)?;
        attempt.refused_file(&file, "package: ")
    });
    add("parts that are paths of the host", |attempt| {
        let manifest = Package::of(&Guest::default()).manifest("paths").to_bytes();
        for path in ["../../etc/passwd", "/etc/passwd", "parts/../../x", "parts/\u{1b}[2J"] {
            let mut tar = entry("manifest.json", manifest.len() as u64);
            tar.extend(&manifest);
            tar.resize(tar.len().next_multiple_of(512), 0);
            tar.extend(entry(path, 1));
            tar.resize(tar.len() + 512 + 1_024, 0);
            attempt.refused_file(&compressed(&[(&tar, 1)])?, "is not named by the manifest")?;
        }
        Ok("4 files refused".into())
    });
    add("a package with any bit flipped", |attempt| {
        let name = attempt.new_name();
        let file = Package::of(&Guest::default()).file(&name);
        let (mut refused, mut same) = (0, 0);
        for bit in (0..file.len() * 8).step_by(file.len() * 8 / 40) {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            match attempt.upload(&file)? {
                Upload::Refused(refusal) => {
                    is_harmless(&refusal.text)?;
                    refused += 1;
                }
                // A few bits of the packing mean nothing.
                Upload::Published(_) => same += 1,
            }
        }
        ensure(refused > 30, || format!("{refused} refused, {same} taken"))?;
        Ok(format!("{refused} files refused, {same} the same package"))
    });
    cases
}

/// A model with a constant of `size` by `size` numbers, which takes a few bytes to say.
fn unfolding(size: i64, more: usize) -> Vec<u8> {
    let mut model = Model::new("unfolding")
        .input("input", Element::F32, "4")
        .list("shape", &[size, size])
        .node(Node::new("ConstantOfShape", &["shape"], "c0"));
    for level in 0..more {
        let (from, to) = (format!("c{level}"), format!("c{}", level + 1));
        model = model.node(Node::new("Relu", &[&from], &to));
    }
    model
        .node(Node::new("ReduceSum", &[&format!("c{more}")], "sum").int("keepdims", 0))
        .node(Node::new("Add", &["input", "sum"], "output"))
        .output("output", Element::F32, "4")
        .build()
}

/// A node with a graph as attribute, in which there is a node with a graph, and so on. By hand: field
/// numbers are those of `onnx.proto`.
fn nested(depth: usize) -> Vec<u8> {
    // Inside out, and turned round in the end: at every level the length of what is within comes first.
    let mut reversed: Vec<u8> = Vec::new();
    let mut wrap = |tag: u8| {
        let mut head = vec![tag << 3 | 2];
        let mut len = reversed.len();
        while len >= 0x80 {
            head.push(len as u8 | 0x80);
            len >>= 7;
        }
        head.push(len as u8);
        reversed.extend(head.iter().rev());
    };
    for _ in 0..depth {
        wrap(6); // AttributeProto.g
        wrap(5); // NodeProto.attribute
        wrap(1); // GraphProto.node
    }
    wrap(7); // ModelProto.graph
    reversed.reverse();
    reversed
}

/// Two layers with weights.
fn product() -> Vec<u8> {
    Model::new("product")
        .input("input", Element::F32, "1, 256")
        .weight("w0", &[256, 256], 256, onnx::RELU_GAIN)
        .weight("w1", &[256, 256], 256, onnx::LINEAR_GAIN)
        .node(Node::new("MatMul", &["input", "w0"], "h0"))
        .node(Node::new("Relu", &["h0"], "h1"))
        .node(Node::new("MatMul", &["h1", "w1"], "output"))
        .output("output", Element::F32, "1, 256")
        .build()
}

/// Runs it on one number, 256 times; gives the fuel.
fn run(attempt: &mut Attempt<'_>, model: &Published, value: f32) -> Result<u64, crate::Broken> {
    let bytes = [value; 256].iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = Shape::new(&[1, 256]).unwrap_or_default();
    let inputs = [Tensor { name: "input".into(), datatype: DataType::Fp32, shape, bytes }];
    let end = attempt.run(&plain(&model.name, &inputs, 100_000_000))?;
    ended(&end, "completed", "")?;
    Ok(end.fuel)
}
