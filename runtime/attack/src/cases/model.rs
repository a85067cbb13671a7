//! By way of a file: archives that swell, graphs that never end, tensors beyond all numbers.

use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, is_harmless, plain},
    guest::Guest,
    onnx::{self, Element, Model, Node},
    package::{END, MAGIC, Package, append, compressed, encoder, entry, first},
    suite::{Case, Group},
    target::{Broken, Published, Upload},
};
use fuelbox_engine::{DataType, Shape, Tensor};
use fuelbox_kernels::SUBNORMAL_FUEL;
use std::{io::Write, rc::Rc, time::Instant};

pub(super) fn cases(stock_guest: &[u8]) -> Vec<Case> {
    let mut cases = archives();
    let stock: Rc<[u8]> = stock_guest.into();
    // The same model without what is wrong with it is taken: nothing else is.
    let mut refused = |name: &str,
                       good: fn() -> Vec<u8>,
                       bad: fn() -> Vec<u8>,
                       words: &'static [&'static str]| {
        let stock = stock.clone();
        cases.push(Case::new(Group::Model, name, move |attempt| {
            attempt.open_package(&Package::onnx(&stock, good(), &[4]))?;
            let started = Instant::now();
            let package = Package::onnx(&stock, bad(), &[4]);
            let said = attempt.refused(&package, "the guest did not load the model: ")?;
            let missing = words.iter().find(|words| !said.contains(**words));
            ensure(missing.is_none(), || format!("{said}, without {missing:?}"))?;
            Ok(format!("{said} ({} ms)", started.elapsed().as_millis()))
        }));
    };
    let whole = || onnx::absurd_weight(&[4]);
    let nothing = || onnx::identity(Element::F32, "4");
    refused("a graph that is a circle", || circle("input"), || circle("b"), CIRCLE);
    refused("a node that takes its own output", || own("input"), || own("output"), CIRCLE);
    refused(
        "a weight of 2^62 elements",
        whole,
        || onnx::absurd_weight(&[1 << 62]),
        &["guest_error: tensor 'weight': shape [4611686018427387904] found"],
    );
    refused(
        "a weight whose size overflows",
        whole,
        || onnx::absurd_weight(&[1 << 30, 1 << 30, 1 << 4]),
        &[
            "guest_error: tensor 'weight': 16 bytes found, shape [1073741824, 1073741824, 16] of FP32",
            "takes more than 64 bits can count",
        ],
    );
    refused(
        "a weight of negative size",
        whole,
        || onnx::absurd_weight(&[-1]),
        &["guest_error: tensor 'weight': shape [-1] found"],
    );
    refused(
        "a weight in a file of the host",
        whole,
        onnx::external_data,
        &["guest_error: tensor 'weight' keeps its data in another file ('weights.bin')"],
    );
    refused(
        "operators that nobody knows",
        || onnx::operators(["Neg", "Neg"], ""),
        onnx::unknown_operators,
        &["guest_error: operators that are not supported", "Unique (1 node)", "Wobble (1 node)"],
    );
    refused(
        "constants that unfold to gigabytes",
        || unfolding(1 << 4, 1),
        || unfolding(1 << 14, 1),
        UNFOLDED,
    );
    refused(
        "constants that unfold to terabytes",
        || unfolding(1 << 4, 1),
        || unfolding(1 << 20, 1),
        UNFOLDED,
    );
    refused("constants that double a hundred times", || doubling(2), || doubling(100), OVERSIZED);
    refused("subgraphs a thousand deep", || onnx::nested(3), || onnx::nested(1_000), DEEP);
    refused("messages a hundred thousand deep", || onnx::nested(3), || onnx::nested(100_000), DEEP);
    refused("a million nodes", || chain(10), || chain(1_000_000), LONG);
    // Cut off, or of zeros, it is no model of any size.
    refused("a file of zeros", nothing, || vec![0; 1 << 20], NO_MODEL);
    refused(
        "a file that is cut off",
        nothing,
        || {
            let mut model = onnx::identity(Element::F32, "4");
            model.truncate(model.len() / 2);
            model
        },
        NO_MODEL,
    );

    let guest = stock.clone();
    cases.push(Case::new(Group::Model, "an input of 2^40 elements", move |attempt| {
        let small = Package::onnx(&guest, onnx::absurd_input("4"), &[4]);
        attempt.open_package(&small)?;
        let package = Package::onnx(&guest, onnx::absurd_input("1099511627776"), &[1 << 40]);
        attempt.refused(&package, "did not load the model: guest_error: input 'input'")
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
            attempt.refused_file(file, "package: not a package file: it starts with")?;
        }
        Ok("5 files refused".into())
    });
    add("gigabytes of zeros in a few kilobytes", |attempt| {
        // A whole package, which is taken as it is, and more of the zeros that it ends with.
        let package = Package::of(&Guest::default());
        let plain = package.tar(&package.manifest(&attempt.new_name()));
        is_taken(attempt, &compressed(&[(&plain, 1)])?)?;
        let bomb = package.tar(&package.manifest(&attempt.new_name()));
        let file = compressed(&[(bomb.as_slice(), 1), (&[0; 1 << 20], 4_096)])?;
        let said = attempt.refused_file(&file, "damaged or cut short: data after the last part")?;
        Ok(format!("{} bytes; {said}", file.len()))
    });
    add("a part that says it has a terabyte", |attempt| {
        let package = Package::of(&Guest::default());
        let manifest = package.manifest("bomb");
        let mut tar = first(&manifest.to_bytes());
        tar.extend(entry(&format!("parts/{}", manifest.guest.digest.hex()), 1 << 40));
        attempt.refused_file(&compressed(&[(&tar, 1)])?, "1099511627776 bytes")
    });
    add("a manifest that says it has a terabyte", |attempt| {
        attempt.refused_file(
            &compressed(&[(&entry("manifest.json", 1 << 40), 1)])?,
            "manifest of 1099511627776 bytes, allowed are",
        )
    });
    add("a manifest of a million brackets", |attempt| {
        // In place of a manifest, and in a field of one that is in order but for that.
        let package = Package::of(&Guest::default());
        let manifest = package.manifest(&attempt.new_name()).to_bytes();
        let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
        let field = [format!("{{\"a\":{open}{close},").as_bytes(), &manifest[1..]].concat();
        for (manifest, words) in [
            ("[".repeat(1_000_000).into(), "manifest: invalid type: sequence"),
            (field, "manifest: unknown field `a`"),
        ] {
            let file = [first(&manifest), END.into()].concat();
            attempt.refused_file(&compressed(&[(&file, 1)])?, words)?;
        }
        Ok("2 files refused".into())
    });
    add("a window of gigabytes to unpack into", |attempt| {
        // A whole package each time; the window is all that differs.
        let mut packed = |window_log| {
            let package = Package::of(&Guest::default());
            let tar = package.tar(&package.manifest(&attempt.new_name()));
            let mut encoder = encoder()?;
            encoder.window_log(window_log).map_err(Broken::new)?;
            encoder.write_all(&tar).map_err(Broken::new)?;
            encoder.finish().map_err(Broken::new)
        };
        let (widest, wider) = (packed(27)?, packed(28)?);
        is_taken(attempt, &widest)?;
        attempt.refused_file(&wider, "damaged or cut short: Frame requires too much memory")
    });
    add("parts that are paths of the host", |attempt| {
        let manifest = Package::of(&Guest::default()).manifest("paths").to_bytes();
        for path in ["../../etc/passwd", "/etc/passwd", "parts/../../x", "parts/\u{1b}[2J"] {
            let mut tar = first(&manifest);
            append(&mut tar, path, b"x");
            tar.extend(END);
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
                // A few bits of the packing mean nothing: then it is the same package.
                Upload::Published(model) => {
                    ensure(model.name == name, || format!("published as {}", model.name))?;
                    let end = attempt.run_plain(&model, FUEL)?;
                    ended(&end, "completed", "")?;
                    same += 1;
                }
            }
        }
        ensure(refused > 30, || format!("{refused} refused, {same} taken"))?;
        Ok(format!("{refused} files refused, {same} the same package"))
    });
    cases
}

/// Uploads a file that must be taken.
fn is_taken(attempt: &mut Attempt<'_>, file: &[u8]) -> Result<(), Broken> {
    match attempt.upload(file)? {
        Upload::Published(_) => Ok(()),
        Upload::Refused(refusal) => Err(Broken(format!("refused: {}", refusal.text))),
    }
}

/// What is said of nodes that wait for each other.
const CIRCLE: &[&str] = &["guest_error: the ONNX graph "];
/// What is said of a constant that a few bytes describe and no memory holds.
const UNFOLDED: &[&str] = &["guest_error: the ONNX graph does not fit together: ", "is too large"];
/// Nothing in particular is said of constants that grow beyond memory: fuel, memory and what 32 bits
/// can count all stop them, and which one is first is up to the guest. As the same nodes are taken with
/// smaller constants, it is their size in any case.
const OVERSIZED: &[&str] = &[];
/// What the reader of protobuf says, which is the first to see how deep it goes.
const DEEP: &[&str] =
    &["guest_error: the file is no ONNX model: failed to decode Protobuf message: "];
/// What is said of more nodes than a load has fuel for.
const LONG: &[&str] = &["out_of_fuel: all fuel was used"];
/// What is said of what is no protobuf, or half of one.
const NO_MODEL: &[&str] = &["guest_error: the file is no ONNX model: "];

/// Two nodes, of which the first one takes this beside the input.
fn circle(from: &str) -> Vec<u8> {
    Model::new("circle")
        .input("input", Element::F32, "4")
        .node(Node::new("Add", &["input", from], "a"))
        .node(Node::new("Relu", &["a"], "b"))
        .node(Node::new("Relu", &["b"], "output"))
        .output("output", Element::F32, "4")
        .build()
}

/// A node that takes this beside the input.
fn own(from: &str) -> Vec<u8> {
    Model::new("own")
        .input("input", Element::F32, "4")
        .node(Node::new("Add", &["input", from], "output"))
        .output("output", Element::F32, "4")
        .build()
}

/// A model with a constant that doubles that often.
fn doubling(levels: usize) -> Vec<u8> {
    let mut model = Model::new("doubling").input("input", Element::F32, "4").floats(
        "c0",
        &[1024],
        &[1.0; 1024],
    );
    for level in 0..levels {
        let (from, to) = (format!("c{level}"), format!("c{}", level + 1));
        model = model.node(Node::new("Concat", &[&from, &from], &to).int("axis", 0));
    }
    model
        .node(Node::new("ReduceSum", &[&format!("c{levels}")], "sum").int("keepdims", 0))
        .node(Node::new("Add", &["input", "sum"], "output"))
        .output("output", Element::F32, "4")
        .build()
}

/// So many nodes in a row.
fn chain(nodes: usize) -> Vec<u8> {
    let mut model = Model::new("long").input("input", Element::F32, "4");
    let mut from = "input".to_owned();
    for node in 1..=nodes {
        let to = if node == nodes { "output".to_owned() } else { format!("{node:x}") };
        model = model.node(Node::new("Relu", &[&from], &to));
        from = to;
    }
    model.output("output", Element::F32, "4").build()
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
        // The constant is of FP64 where nobody says.
        .node(Node::new("Cast", &["sum"], "cast").int("to", 1))
        .node(Node::new("Add", &["input", "cast"], "output"))
        .output("output", Element::F32, "4")
        .build()
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
fn run(attempt: &mut Attempt<'_>, model: &Published, value: f32) -> Result<u64, Broken> {
    let bytes = [value; 256].iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = Shape::new(&[1, 256]).unwrap_or_default();
    let inputs = [Tensor { name: "input".into(), datatype: DataType::Fp32, shape, bytes }];
    let end = attempt.run(&plain(&model.name, &inputs, 100_000_000))?;
    ended(&end, "completed", "")?;
    Ok(end.fuel)
}
