//! Something that is not so: signatures, outputs, lengths, versions, digests, golden cases.

use super::declined;
use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, floats, plain, x},
    guest::{
        Guest, HEADER_AT, OUTPUTS_AT, REQUEST_AT, SIGNATURE_AT, encode, header_end, parse,
        signature, signature_of, with_field,
    },
    package::Package,
    suite::{Case, Group},
    target::{Broken, Refusal, Upload},
};
use fuelbox_abi::{DataType, Dim, Envelope, Kind, Shape, TensorView, pack_reply};
use fuelbox_engine::{Digest, GoldenCase, Manifest, PartRef, Tensor};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Lie, name, attack));
    };
    add("a manifest with another signature than its model", |attempt| {
        let other = Guest { signature: signature(&[Dim::Fixed(2)]), ..Guest::default() };
        let package =
            Package { signature: Package::of(&other).signature, ..Package::of(&Guest::default()) };
        attempt.refused(&package, "its manifest has another signature than its model")
    });
    add("a model that says another signature each time", |attempt| {
        // By the randomness of a load, which is the same every time: the name of its input is one of
        // eight letters. Each upload has a module of its own, so that each is a load of its own.
        let letters = b'a'..b'a' + 8;
        let mut uploads = 0;
        let mut publish = |attempt: &mut Attempt<'_>, letter: u8| {
            uploads += 1;
            attempt.publish(&saying_anything(letter, uploads))
        };
        let mut taken = Vec::new();
        for letter in letters {
            match publish(attempt, letter)? {
                Upload::Published(model) => taken.push((letter, model)),
                Upload::Refused(Refusal { text, .. }) => {
                    ensure(text.contains("another signature than its model"), || text.clone())?;
                }
            }
        }
        let [(letter, model)] = taken.as_slice() else {
            return Err(Broken(format!("of eight names it says {}", taken.len())));
        };
        for _ in 0..4 {
            let upload = publish(attempt, *letter)?;
            ensure(matches!(upload, Upload::Published(_)), || format!("then {upload:?}"))?;
        }
        let name = char::from(*letter).to_string();
        let inputs = [floats(&name, &[1.0])];
        let job = plain(&model.name, &inputs, FUEL);
        let (first, again) = (attempt.run(&job)?, attempt.run(&job)?);
        ended(&first, "completed", "")?;
        ensure(first == again, || format!("{first:?}, {again:?}"))?;
        Ok(format!("loads always have the same randomness: each of five says '{name}'"))
    });
    add("a model that names its output anew for shapes", |attempt| {
        // A message to load has specs when it is for shapes: then its output has another name.
        let signature = signature(&[Dim::Symbol("n")]);
        let at = signature.iter().position(|byte| *byte == b'y').unwrap_or_default();
        let saying = |name: u8| Guest {
            load: format!(
                "(if (i32.load8_u offset=12 (local.get 0))
                   (then (i32.store8 (i32.const {}) (i32.const {name}))))",
                SIGNATURE_AT as usize + at
            ),
            signature: signature.clone(),
            ..Guest::default()
        };
        attempt.ends(&saying(b'y'), "completed", "")?;
        let words = "loaded for shapes, the model has other names or datatypes";
        attempt.ends(&saying(b'z'), "bad_output", words)?;
        Ok("bad_output, before it runs".into())
    });
    add("outputs beyond the declared shape", |attempt| {
        let words = "output 'y': shape [2], the signature has [1]";
        output(attempt, "y", DataType::Fp32, &[2], words)
    });
    add("outputs of another datatype", |attempt| {
        let words = "output 'y': datatype INT32, the signature has FP32";
        output(attempt, "y", DataType::Int32, &[1], words)
    });
    add("outputs under another name", |attempt| {
        output(attempt, "z", DataType::Fp32, &[1], "output 'z', the signature has 'y' here")
    });
    add("no outputs at all", |attempt| {
        reply(attempt, encode(&Envelope::new(Kind::Outputs)), "0 outputs, the signature has 1")
    });
    add("a reply of another kind", |attempt| {
        // The right outputs, in what a host says.
        let outputs = Guest::default().outputs;
        let run = with_field(&outputs, HEADER_AT, &[Kind::Outputs as u8], &[Kind::Run as u8]);
        reply(attempt, run, "reply of kind Run, expected Outputs")
    });
    add("an output twice", |attempt| {
        let bytes = [0; 4];
        let shape = Shape::new(&[1]).unwrap_or_default();
        let y = TensorView { name: "y", datatype: DataType::Fp32, shape, bytes: &bytes };
        let tensors = [y, y];
        let message = Envelope { tensors: &tensors, ..Envelope::new(Kind::Outputs) };
        reply(attempt, encode(&message), "2 outputs, the signature has 1")
    });
    for (name, at, len, words) in [
        (
            "a reply that ends beyond memory",
            3 * 65_536 - 8,
            68,
            "reply of 68 bytes at 0x2fff8, the memory has 196608",
        ),
        (
            "a reply from the last address",
            u32::MAX,
            1,
            "reply of 1 bytes at 0xffffffff, the memory has 196608",
        ),
        (
            "a reply of a negative length",
            OUTPUTS_AT,
            u32::MAX - 67,
            "reply of 4294967228 bytes, allowed are",
        ),
        ("a reply of nothing", OUTPUTS_AT, 0, "message has 0 bytes, at least 8 are needed"),
        ("a reply that is one byte short", OUTPUTS_AT, 67, "an end within 3 data bytes"),
        ("a reply that is one byte long", OUTPUTS_AT, 69, "1 bytes too many"),
        ("a reply between two messages", OUTPUTS_AT + 4, 64, "message starts with"),
        ("the signature as a reply", SIGNATURE_AT, 64, "reply of kind Signature, expected Outputs"),
    ] {
        cases.push(Case::new(Group::Lie, name, move |attempt| {
            let reply = format!("(i64.const {})", pack_reply(at, len));
            let end = attempt.ends(&Guest { reply, ..Guest::default() }, "bad_output", words)?;
            Ok(end.detail)
        }));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Lie, name, attack));
    };
    add("a guest that changes its reply's every byte in turn", |attempt| {
        // The job's input is which byte it is.
        let guest = Guest::running(&format!(
            "(local.set 2 (i32.add (i32.const {OUTPUTS_AT})
               (i32.trunc_f32_u (f32.load (i32.const {})))))
             (i32.store8 (local.get 2) (i32.xor (i32.load8_u (local.get 2)) (i32.const 0x55)))",
            REQUEST_AT + 64
        ));
        let model = attempt.open(&guest)?;
        let (header, all) = (header_end(&guest.outputs), guest.outputs.len());
        for index in 0..all {
            let end = attempt.run(&plain(&model.name, &[x(index as f32)], FUEL))?;
            // What is behind the header is padding, and then the number: any is as good.
            let expected = if index < header { "bad_output" } else { "completed" };
            let is_as_declared = match end.outputs.as_slice() {
                [y] => y.name == "y" && y.datatype == DataType::Fp32 && *y.shape == [1],
                outputs => outputs.is_empty() && index < header,
            };
            ensure(end.verdict == expected && is_as_declared, || format!("byte {index}: {end:?}"))?;
        }
        Ok(format!("{header} replies refused, {} with what was declared", all - header))
    });
    add("another version of the ABI", |attempt| {
        for version in ["0", "2", "-1", "2147483647"] {
            let wat = Guest::default().wat();
            let other = wat.replace(
                "(func (export \"fuelbox_abi\") (result i32) (i32.const 1))",
                &format!("(func (export \"fuelbox_abi\") (result i32) (i32.const {version}))"),
            );
            let words = format!("the guest speaks ABI version {version}, this host 1");
            attempt.refused(&Package::module(parse(&other)), &words)?;
        }
        // The guest speaks ours, and its messages do not.
        for version in [0, 2, 255] {
            let mut outputs = Guest::default().outputs;
            outputs[3] = version;
            reply(attempt, outputs, &format!("message of guest ABI {version}, allowed is 1"))?;
        }
        Ok("4 guests and 3 messages refused".into())
    });
    add("a manifest of another version of the ABI", |attempt| {
        manifest(attempt, |manifest| manifest.abi = 2, "manifest: guest ABI 2, allowed is 1")
    });
    add("a manifest of another format", |attempt| {
        manifest(
            attempt,
            |manifest| manifest.format = "fuelbox-package/9".into(),
            "manifest: format 'fuelbox-package/9', allowed is",
        )
    });
    add("a manifest whose guest is somebody else's module", |attempt| {
        // Of the size that is there, so that the content alone tells.
        let change = |manifest: &mut Manifest| manifest.guest.digest = Digest::of(b"another");
        manifest(attempt, change, "has content of digest")
    });
    add("a manifest with a name that is a path", |attempt| {
        manifest(
            attempt,
            |manifest| manifest.name = PATH.into(),
            &format!("name '{PATH}': allowed are"),
        )
    });
    add("a version that clears the screen", |attempt| {
        let change = |manifest: &mut Manifest| manifest.version = "1\u{1b}[2J".into();
        manifest(attempt, change, "version '1\\u{1b}[2J': allowed are")
    });
    add("a golden case that is not so", |attempt| {
        let name = attempt.new_name();
        let input = input();
        let package = Package { change: golden, ..Package::of(&Guest::default()) };
        let manifest = package.manifest(&name);
        let mut file = Vec::new();
        fuelbox_engine::write_archive(&manifest, &[&package.wasm, &input], &mut file)
            .map_err(Broken::new)?;
        // Under another engine's profile, outputs are all that is compared.
        attempt.refused_file(&file, "golden case 'lie': outputs sha256:")
    });
    add("missing entry points", |attempt| {
        for export in ["fuelbox_abi", "fuelbox_alloc", "fuelbox_load", "fuelbox_run"] {
            let wat = Guest::default().wat();
            let other = wat.replace(&format!("\"{export}\""), "\"elsewhere\"");
            let words = format!("export '{export}' is missing, expected");
            attempt.refused(&Package::module(parse(&other)), &words)?;
        }
        Ok("4 modules refused".into())
    });
    add("entry points of other types", |attempt| {
        let wat = Guest::default().wat();
        let other = wat.replace(
            "(func (export \"fuelbox_abi\") (result i32) (i32.const 1))",
            "(func (export \"fuelbox_abi\") (param i64) (result f64) (f64.const 1))",
        );
        let words = "export 'fuelbox_abi' is (i64) -> (f64), expected () -> (i32)";
        attempt.refused(&Package::module(parse(&other)), words)
    });
    add("a signature with a dimension of 2^63", |attempt| {
        let dims = [Dim::Fixed(1 << 63), Dim::Fixed(4)];
        let guest = Guest { signature: signature_of(DataType::Fp64, &dims), ..Guest::default() };
        let model = attempt.open(&guest)?;
        // What is in order is not what the model takes, and what it takes is not in order.
        let allowed = "the model takes [9223372036854775808, 4]";
        let mut said = String::new();
        for (dims, words) in [(&[1][..], allowed), (&[1 << 63, 4], "[9223372036854775808, 4]")] {
            let shape = Shape::new(dims).unwrap_or_default();
            let x = Tensor { name: "x".into(), datatype: DataType::Fp64, shape, bytes: vec![0; 8] };
            said = declined(attempt, &plain(&model.name, &[x], FUEL), words)?;
        }
        Ok(format!("published; {said}"))
    });
    cases
}

/// A path of the host.
const PATH: &str = "../../etc/passwd";

/// A package whose model names its input by its randomness, and whose manifest says which name that
/// is. Its module is like no other of another number.
fn saying_anything(letter: u8, number: u8) -> Package {
    let plain = Guest::default();
    let at = plain.signature.iter().position(|byte| *byte == b'x').unwrap_or_default();
    let guest = Guest {
        imports: super::wasi("random_get", super::TWO),
        load: format!(
            "(drop (call $host (i32.const 512) (i32.const 1)))
             (i32.store8 (i32.const {})
               (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 512)) (i32.const 7))))",
            SIGNATURE_AT as usize + at
        ),
        ..plain
    };
    let mut package = Package::of(&guest);
    for input in &mut package.signature.inputs {
        input.name = char::from(letter).into();
    }
    // A custom section.
    package.wasm.extend([0, 4, 2, b'n', b'o', number]);
    package
}

/// A guest with a reply of one output that its signature has not.
fn output(
    attempt: &mut Attempt<'_>,
    name: &str,
    datatype: DataType,
    shape: &[u64],
    words: &str,
) -> Held {
    let shape = Shape::new(shape).ok_or_else(|| Broken::new("a rank beyond all"))?;
    // Four bytes an element, as FP32 and INT32 have.
    let bytes = vec![0; 4 * shape.iter().product::<u64>() as usize];
    let tensors = [TensorView { name, datatype, shape, bytes: &bytes }];
    reply(attempt, encode(&Envelope { tensors: &tensors, ..Envelope::new(Kind::Outputs) }), words)
}

/// A guest with this reply, whose job must end so.
fn reply(attempt: &mut Attempt<'_>, outputs: Vec<u8>, words: &str) -> Held {
    let reply = format!("(i64.const {})", pack_reply(OUTPUTS_AT, outputs.len() as u32));
    let end = attempt.ends(&Guest { outputs, reply, ..Guest::default() }, "bad_output", words)?;
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
