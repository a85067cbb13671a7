//! Something that is not so: signatures, outputs, lengths, versions, digests, golden cases.

use crate::{
    attempt::{Attempt, FUEL, Held, ensure, is_harmless},
    guest::{Guest, OUTPUTS_AT, SIGNATURE_AT, encode, parse, signature, signature_of},
    package::Package,
    suite::{Case, Group},
    target::{Broken, Upload},
};
use fuelbox_abi::{DataType, Dim, Envelope, Kind, Shape, TensorView, pack_reply};
use fuelbox_engine::{Digest, GoldenCase, Manifest, PartRef};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Lie, name, attack));
    };
    add("a manifest with another signature than its model", |attempt| {
        let other = Guest { signature: signature(&[Dim::Fixed(2)]), ..Guest::default() };
        let package =
            Package { signature: Package::of(&other).signature, ..Package::of(&Guest::default()) };
        attempt.refused(&package, "another signature")
    });
    add("a model that says another signature each time", |attempt| {
        // By the randomness of a load, which is the same every time.
        let guest = Guest {
            imports: super::wasi("random_get", super::TWO),
            load: format!("(drop (call $host (i32.const {}) (i32.const 1)))", SIGNATURE_AT + 40),
            ..Guest::default()
        };
        let upload = attempt.publish(&Package::of(&guest))?;
        Ok(match upload {
            Upload::Refused(refusal) => {
                is_harmless(&refusal.text)?;
                format!("refused: {}", refusal.text)
            }
            Upload::Published(model) => {
                let (first, again) =
                    (attempt.run_plain(&model, FUEL)?, attempt.run_plain(&model, FUEL)?);
                ensure(first == again, || format!("{first:?}, {again:?}"))?;
                "loads always have the same randomness".into()
            }
        })
    });
    add("outputs beyond the declared shape", |attempt| {
        output(attempt, "y", DataType::Fp32, &[2], 8)
    });
    add("outputs of another datatype", |attempt| output(attempt, "y", DataType::Int32, &[1], 4));
    add("outputs under another name", |attempt| output(attempt, "z", DataType::Fp32, &[1], 4));
    add("no outputs at all", |attempt| {
        let outputs = encode(&Envelope::new(Kind::Outputs));
        reply(attempt, outputs)
    });
    add("a reply of another kind", |attempt| reply(attempt, encode(&Envelope::new(Kind::Run))));
    add("an output twice", |attempt| {
        let bytes = [0; 4];
        let shape = Shape::new(&[1]).unwrap_or_default();
        let y = TensorView { name: "y", datatype: DataType::Fp32, shape, bytes: &bytes };
        let tensors = [y, y];
        let message = Envelope { tensors: &tensors, ..Envelope::new(Kind::Outputs) };
        reply(attempt, encode(&message))
    });
    for (name, at, len) in [
        ("a reply that ends beyond memory", 3 * 65_536 - 8, 68),
        ("a reply from the last address", u32::MAX, 1),
        ("a reply of a negative length", OUTPUTS_AT, u32::MAX - 67),
        ("a reply of nothing", OUTPUTS_AT, 0),
        ("a reply that is one byte short", OUTPUTS_AT, 67),
        ("a reply that is one byte long", OUTPUTS_AT, 69),
        ("a reply between two messages", OUTPUTS_AT + 4, 64),
        ("the signature as a reply", SIGNATURE_AT, 128),
    ] {
        cases.push(Case::new(Group::Lie, name, move |attempt| {
            let reply = format!("(i64.const {})", pack_reply(at, len));
            let end = attempt.ends(&Guest { reply, ..Guest::default() }, "bad_output", "")?;
            Ok(end.detail)
        }));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Lie, name, attack));
    };
    add("a guest that changes its reply's every byte in turn", |attempt| {
        let good = Guest::default().outputs;
        let (mut completed, mut bad) = (0, 0);
        for index in (0..good.len()).step_by(3) {
            let mut outputs = good.clone();
            outputs[index] ^= 0x55;
            let guest = Guest { outputs, ..Guest::default() };
            let model = attempt.open(&guest)?;
            let end = attempt.run_plain(&model, FUEL)?;
            let is_as_declared = match end.outputs.as_slice() {
                [y] => y.name == "y" && y.datatype == DataType::Fp32 && y.bytes.len() == 4,
                _ => false,
            };
            match end.verdict.as_str() {
                "completed" if is_as_declared => completed += 1,
                "bad_output" | "guest_error" => bad += 1,
                _ => return Err(Broken(format!("byte {index}: {end:?}"))),
            }
        }
        ensure(bad > 0, || format!("{completed} replies taken, none refused"))?;
        Ok(format!("{bad} replies refused, {completed} with what was declared"))
    });
    add("another version of the ABI", |attempt| {
        for version in ["0", "2", "-1", "2147483647"] {
            let wat = Guest::default().wat();
            let other = wat.replace(
                "(func (export \"fuelbox_abi\") (result i32) (i32.const 1))",
                &format!("(func (export \"fuelbox_abi\") (result i32) (i32.const {version}))"),
            );
            attempt.refused(&Package::module(parse(&other)), "ABI")?;
        }
        Ok("4 versions refused".into())
    });
    add("a manifest of another version of the ABI", |attempt| {
        manifest(attempt, |manifest| manifest.abi = 2, "ABI 2")
    });
    add("a manifest of another format", |attempt| {
        manifest(
            attempt,
            |manifest| manifest.format = "fuelbox-package/9".into(),
            "fuelbox-package/9",
        )
    });
    add("a manifest whose guest is somebody else's module", |attempt| {
        manifest(attempt, |manifest| manifest.guest = PartRef::of(b"another"), "")
    });
    add("a manifest with a name that is a path", |attempt| {
        manifest(attempt, |manifest| manifest.name = "../../etc/passwd".into(), "name")
    });
    add("a version that clears the screen", |attempt| {
        manifest(attempt, |manifest| manifest.version = "1\u{1b}[2J".into(), "version")
    });
    add("a golden case that is not so", |attempt| {
        let name = attempt.new_name();
        let input = input();
        let package = Package { change: golden, ..Package::of(&Guest::default()) };
        let manifest = package.manifest(&name);
        let mut file = Vec::new();
        fuelbox_engine::write_archive(&manifest, &[&package.wasm, &input], &mut file)
            .map_err(Broken::new)?;
        attempt.refused_file(&file, "golden case 'lie'")
    });
    add("missing entry points", |attempt| {
        for export in ["fuelbox_abi", "fuelbox_alloc", "fuelbox_load", "fuelbox_run"] {
            let wat = Guest::default().wat();
            let other = wat.replace(&format!("\"{export}\""), "\"elsewhere\"");
            attempt.refused(&Package::module(parse(&other)), "is missing")?;
        }
        Ok("4 modules refused".into())
    });
    add("entry points of other types", |attempt| {
        let wat = Guest::default().wat();
        let other = wat.replace(
            "(func (export \"fuelbox_abi\") (result i32) (i32.const 1))",
            "(func (export \"fuelbox_abi\") (param i64) (result f64) (f64.const 1))",
        );
        attempt.refused(&Package::module(parse(&other)), "fuelbox_abi")
    });
    add("a signature with a dimension of 2^63", |attempt| {
        let dims = [Dim::Fixed(1 << 63), Dim::Fixed(4)];
        let guest = Guest { signature: signature_of(DataType::Fp64, &dims), ..Guest::default() };
        let upload = attempt.publish(&Package::of(&guest))?;
        Ok(match upload {
            Upload::Refused(refusal) => format!("refused: {}", refusal.text),
            Upload::Published(_) => "published; no input fits it".into(),
        })
    });
    cases
}

/// A guest with a reply of one output that its signature has not.
fn output(
    attempt: &mut Attempt<'_>,
    name: &str,
    datatype: DataType,
    shape: &[u64],
    bytes: usize,
) -> Held {
    let bytes = vec![0; bytes];
    let shape = Shape::new(shape).ok_or_else(|| Broken::new("a rank beyond all"))?;
    let tensors = [TensorView { name, datatype, shape, bytes: &bytes }];
    let outputs = encode(&Envelope { tensors: &tensors, ..Envelope::new(Kind::Outputs) });
    reply(attempt, outputs)
}

fn reply(attempt: &mut Attempt<'_>, outputs: Vec<u8>) -> Held {
    let reply = format!("(i64.const {})", pack_reply(OUTPUTS_AT, outputs.len() as u32));
    let end = attempt.ends(&Guest { outputs, reply, ..Guest::default() }, "bad_output", "")?;
    Ok(end.detail)
}

fn manifest(attempt: &mut Attempt<'_>, change: fn(&mut Manifest), words: &str) -> Held {
    attempt.refused(&Package { change, ..Package::of(&Guest::default()) }, words)
}

fn golden(manifest: &mut Manifest) {
    manifest.golden = vec![GoldenCase {
        name: "lie".into(),
        input: PartRef::of(&input()),
        seed: 0,
        output_digest: Digest::of(b"something else"),
        fuel: 4,
        memory_bytes_peak: 3 << 16,
        engine_profile: Digest::of(b"another engine"),
    }];
}

/// A request of the usual guest.
fn input() -> Vec<u8> {
    let bytes = 1f32.to_le_bytes();
    let shape = Shape::new(&[1]).unwrap_or_default();
    let x = TensorView { name: "x", datatype: DataType::Fp32, shape, bytes: &bytes };
    encode(&Envelope { tensors: &[x], ..Envelope::new(Kind::Run) })
}
