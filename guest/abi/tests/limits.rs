//! Every limit, at its edge and one past it, on both sides of the wall.

use fuelbox_abi::{
    DataType, Dim, Dims, ENTRIES_MAX, Envelope, HEADER_BYTES_MAX, Kind, Message, NAME_BYTES_MAX,
    Parameter, ParameterValue, RANK_MAX, Role, Shape, Status, TEXT_BYTES_MAX, TensorSpec,
    TensorView,
};

/// `ok`, or the encoder's word. What it takes, the decoder takes.
fn encoded(envelope: Envelope<'_>) -> String {
    match envelope.encode() {
        Err(error) => error.to_string(),
        Ok(encoded) => {
            let bytes = encoded.to_vec();
            let message = Message::decode(&bytes).expect("what is encoded decodes");
            assert_eq!(message.tensors().count(), envelope.tensors.len());
            "ok".into()
        }
    }
}

fn tensor<'a>(name: &'a str, shape: &[u64], bytes: &'a [u8]) -> TensorView<'a> {
    TensorView { name, datatype: DataType::Uint8, shape: Shape::new(shape).expect("rank"), bytes }
}

fn spec<'a>(name: &'a str, dims: &[Dim<'a>]) -> TensorSpec<'a> {
    TensorSpec { role: Role::Input, name, datatype: DataType::Fp32, dims: Dims::new(dims) }
}

fn parameter<'a>(name: &'a str, text: &'a str) -> Parameter<'a> {
    Parameter { name, value: ParameterValue::String(text) }
}

#[test]
fn entries() {
    for (count, says) in [
        (ENTRIES_MAX, "ok".to_owned()),
        (ENTRIES_MAX + 1, format!("{}, allowed are {ENTRIES_MAX}", ENTRIES_MAX + 1)),
    ] {
        let tensors = vec![tensor("t", &[0], &[]); count];
        let specs = vec![spec("s", &[]); count];
        let parameters = vec![parameter("p", ""); count];
        let run = Envelope::new(Kind::Run);
        for envelope in [
            Envelope { tensors: &tensors, ..run },
            Envelope { specs: &specs, ..run },
            Envelope { parameters: &parameters, ..run },
        ] {
            let found = encoded(envelope);
            assert!(found.ends_with(&says), "{found}");
        }
    }
}

#[test]
fn names_and_texts() {
    let run = Envelope::new(Kind::Run);
    for (over, ok) in [(0, true), (1, false)] {
        let name = "n".repeat(NAME_BYTES_MAX + over);
        let text = "t".repeat(TEXT_BYTES_MAX + over);
        for envelope in [
            Envelope { tensors: &[tensor(&name, &[0], &[])], ..run },
            Envelope { specs: &[spec(&name, &[])], ..run },
            Envelope { specs: &[spec("s", &[Dim::Symbol(&name)])], ..run },
            Envelope { parameters: &[parameter(&name, "")], ..run },
            Envelope { parameters: &[parameter("p", &text)], ..run },
            Envelope { text: &text, status: Status::Failed, ..Envelope::new(Kind::Failure) },
        ] {
            let found = encoded(envelope);
            assert_eq!(found == "ok", ok, "{found}");
        }
    }
}

#[test]
fn failures_cut_their_text_between_characters() {
    let crab = "\u{1F980}";
    let long = crab.repeat(TEXT_BYTES_MAX / crab.len()) + "x";
    assert_eq!(Envelope::failure(Status::Failed, &long).text.len(), TEXT_BYTES_MAX);
    let odd = "x".to_owned() + &long;
    let cut = Envelope::failure(Status::Failed, &odd);
    assert_eq!(cut.text.len(), TEXT_BYTES_MAX - 3);
    assert_eq!(encoded(cut), "ok");
}

#[test]
fn ranks() {
    let run = Envelope::new(Kind::Run);
    let most = [1; RANK_MAX];
    assert_eq!(encoded(Envelope { tensors: &[tensor("t", &most, &[7])], ..run }), "ok");
    assert_eq!(Shape::new(&[1; RANK_MAX + 1]), None);
    assert_eq!(encoded(Envelope { specs: &[spec("s", &[Dim::Any; RANK_MAX])], ..run }), "ok");
    assert_eq!(Dims::new(&[Dim::Any; RANK_MAX + 1]), None);
}

#[test]
fn header_bytes() {
    // Parameters of 60 KiB fill the header to a few bytes; one byte more text at a time finds its edge.
    let big = "t".repeat(60 << 10);
    let mut parameters = vec![parameter("p", &big); HEADER_BYTES_MAX / (60 << 10)];
    parameters.push(parameter("p", ""));
    let header = |parameters: &[Parameter<'_>]| {
        let envelope = Envelope { parameters, ..Envelope::new(Kind::Run) };
        let bytes = envelope.encode().expect("under the limit").to_vec();
        u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize
    };
    let last = parameters.len() - 1;
    // Long enough already for its length to take three bytes, as it will at the edge.
    let start = "t".repeat(300);
    parameters[last] = parameter("p", &start);
    let room = HEADER_BYTES_MAX - header(&parameters);
    let text = "t".repeat(300 + room + 1);
    parameters[last] = parameter("p", &text[..300 + room]);
    assert_eq!(header(&parameters), HEADER_BYTES_MAX);
    parameters[last] = parameter("p", &text);
    let envelope = Envelope { parameters: &parameters, ..Envelope::new(Kind::Run) };
    let found = encoded(envelope);
    let says = format!("header bytes: {}, allowed are {HEADER_BYTES_MAX}", HEADER_BYTES_MAX + 1);
    assert!(found.ends_with(&says), "{found}");
}

#[test]
fn decoder_holds_the_limits_of_its_own() {
    // What no encoder writes: each case changes one byte or number of a good message.
    let good = Envelope::failure(Status::Failed, "x").encode().expect("short").to_vec();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Message::decode(&bytes).expect_err("changed").to_string()
    };
    let over = HEADER_BYTES_MAX as u32 + 1;
    let entries = ENTRIES_MAX as u16 + 1;
    for (change, says) in [
        (
            &(|b: &mut Vec<u8>| b.truncate(7)) as &dyn Fn(&mut Vec<u8>),
            "message has 7 bytes, at least 8 are needed".to_owned(),
        ),
        (
            &|b| b[0] = b'G',
            "message starts with [47, 42, 58, 01], expected [46, 42, 58, 01]".into(),
        ),
        (&|b| b[3] = 2, "message of guest ABI 2, allowed is 1".into()),
        (
            &|b| b[4..8].copy_from_slice(&over.to_le_bytes()),
            format!(
                "header of {over} bytes, the message has room for 56, allowed are {HEADER_BYTES_MAX}"
            ),
        ),
        (&|b| b[8] = 6, "unknown message kind 6".into()),
        (&|b| b[9] = 5, "unknown status 5".into()),
        (&|b| b[9] = 0, "Failure message with status Ok".into()),
        (&|b| b[8] = 4, "Outputs message with status Failed".into()),
        (&|b| b.push(0), "1 bytes too many".into()),
        (
            &|b| {
                // The count of tensors is the byte after the text: 251 announces a 16-bit number.
                b.splice(12..13, [251, entries as u8, (entries >> 8) as u8]);
                b[4] += 2;
                b.truncate(64);
            },
            format!("too many tensor: {entries}, allowed are {ENTRIES_MAX}"),
        ),
    ] {
        assert_eq!(changed(change), says);
    }
}
