//! What is encoded decodes to the same; what is not decodes to an error, never to a panic.

use fuelbox_abi::{
    ALIGNMENT_BYTES, DataType, Dim, Dims, Envelope, Kind, Message, NAME_BYTES_MAX, Parameter,
    ParameterValue, RANK_MAX, Role, Shape, Status, TensorSpec, TensorView, push_string_element,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

/// A message that owns its parts.
#[derive(Clone, Debug)]
struct Owned {
    kind: Kind,
    status: Status,
    text: String,
    tensors: Vec<(String, DataType, Vec<u64>, Vec<u8>)>,
    specs: Vec<(Role, String, DataType, Option<Vec<OwnedDim>>)>,
    parameters: Vec<(String, OwnedValue)>,
}

#[derive(Clone, Debug)]
enum OwnedDim {
    Fixed(u64),
    Symbol(String),
    Any,
}

#[derive(Clone, Debug)]
enum OwnedValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
}

impl Owned {
    fn encode(&self) -> Vec<u8> {
        let tensors: Vec<_> = self.tensors.iter().map(view).collect();
        let dims: Vec<Option<Vec<Dim<'_>>>> = self
            .specs
            .iter()
            .map(|(_, _, _, dims)| dims.as_ref().map(|dims| dims.iter().map(dim).collect()))
            .collect();
        let specs: Vec<_> = self
            .specs
            .iter()
            .zip(&dims)
            .map(|((role, name, datatype, _), dims)| TensorSpec {
                role: *role,
                name,
                datatype: *datatype,
                dims: dims.as_ref().map(|dims| Dims::new(dims).expect("rank")),
            })
            .collect();
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|(name, value)| Parameter {
                name,
                value: match value {
                    OwnedValue::Bool(value) => ParameterValue::Bool(*value),
                    OwnedValue::Int(value) => ParameterValue::Int(*value),
                    OwnedValue::Float(value) => ParameterValue::Float(*value),
                    OwnedValue::String(value) => ParameterValue::String(value),
                },
            })
            .collect();
        let envelope = Envelope {
            kind: self.kind,
            status: self.status,
            text: &self.text,
            tensors: &tensors,
            specs: &specs,
            parameters: &parameters,
        };
        let bytes = envelope.encode().expect("within limits").to_vec();

        let message = Message::decode(&bytes).expect("own encoding");
        assert_eq!(message.kind(), self.kind);
        assert_eq!(message.status(), self.status);
        assert_eq!(message.text(), self.text);
        assert_eq!(message.tensors().collect::<Vec<_>>(), tensors);
        assert_eq!(message.specs().collect::<Vec<_>>(), specs);
        assert_eq!(message.parameters().collect::<Vec<_>>(), parameters);
        for tensor in message.tensors() {
            let offset = tensor.bytes.as_ptr().addr() - bytes.as_ptr().addr();
            assert_eq!(offset % ALIGNMENT_BYTES, 0, "{} is aligned", tensor.name);
        }
        bytes
    }
}

fn view((name, datatype, shape, bytes): &(String, DataType, Vec<u64>, Vec<u8>)) -> TensorView<'_> {
    TensorView { name, datatype: *datatype, shape: Shape::new(shape).expect("rank"), bytes }
}

fn dim(dim: &OwnedDim) -> Dim<'_> {
    match dim {
        OwnedDim::Fixed(size) => Dim::Fixed(*size),
        OwnedDim::Symbol(name) => Dim::Symbol(name),
        OwnedDim::Any => Dim::Any,
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_.]{0,12}", "\\PC{0,12}", Just("n".repeat(NAME_BYTES_MAX)),]
}

fn tensor() -> impl Strategy<Value = (String, DataType, Vec<u64>, Vec<u8>)> {
    let shape = vec(0u64..4, 0..=RANK_MAX.min(5));
    (name(), select(DataType::ALL.to_vec()), shape, any::<u64>()).prop_map(
        |(name, datatype, shape, seed)| {
            let count: u64 = shape.iter().product();
            let byte = |index: u64| (seed.rotate_left(index as u32 % 64) ^ index) as u8;
            let bytes = match datatype.size_bytes() {
                Some(_) if datatype == DataType::Bool => (0..count).map(|i| byte(i) & 1).collect(),
                Some(size) => (0..count * size).map(byte).collect(),
                None => {
                    let mut bytes = Vec::new();
                    for index in 0..count {
                        let element = vec![byte(index); usize::from(byte(index) % 9)];
                        push_string_element(&mut bytes, &element).expect("short");
                    }
                    bytes
                }
            };
            (name, datatype, shape, bytes)
        },
    )
}

fn spec() -> impl Strategy<Value = (Role, String, DataType, Option<Vec<OwnedDim>>)> {
    let dim = prop_oneof![
        any::<u64>().prop_map(OwnedDim::Fixed),
        name().prop_map(OwnedDim::Symbol),
        Just(OwnedDim::Any),
    ];
    (
        select(vec![Role::Input, Role::Output]),
        name(),
        select(DataType::ALL.to_vec()),
        proptest::option::of(vec(dim, 0..=RANK_MAX)),
    )
}

fn parameter() -> impl Strategy<Value = (String, OwnedValue)> {
    let value = prop_oneof![
        any::<bool>().prop_map(OwnedValue::Bool),
        any::<i64>().prop_map(OwnedValue::Int),
        proptest::num::f64::NORMAL.prop_map(OwnedValue::Float),
        "\\PC{0,40}".prop_map(OwnedValue::String),
    ];
    (name(), value)
}

fn message() -> impl Strategy<Value = Owned> {
    let failures =
        [Status::InvalidInput, Status::InvalidModel, Status::Unsupported, Status::Failed];
    let kind = prop_oneof![
        select(vec![Kind::Load, Kind::Signature, Kind::Run, Kind::Outputs])
            .prop_map(|kind| (kind, Status::Ok)),
        select(failures.to_vec()).prop_map(|status| (Kind::Failure, status)),
    ];
    let entries = (vec(tensor(), 0..4), vec(spec(), 0..4), vec(parameter(), 0..4));
    (kind, "\\PC{0,60}", entries).prop_map(
        |((kind, status), text, (tensors, specs, parameters))| Owned {
            kind,
            status,
            text,
            tensors,
            specs,
            parameters,
        },
    )
}

/// Decodes, and walks all that there is.
fn walk(bytes: &[u8]) -> Option<usize> {
    let message = Message::decode(bytes).ok()?;
    let tensors = message.tensors().inspect(|tensor| {
        assert_eq!(tensor.check(), Ok(()), "decoded tensors are whole");
    });
    Some(tensors.count() + message.specs().count() + message.parameters().count())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_round_trip(owned in message()) {
        owned.encode();
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(mut bytes in vec(any::<u8>(), 0..512), header in any::<u16>(), framed: bool) {
        if framed && bytes.len() >= 8 {
            // Past magic and length, where the interesting part begins.
            bytes[..4].copy_from_slice(b"FBX\x01");
            let room = bytes.len() - 7;
            bytes[4..8].copy_from_slice(&(u32::from(header) % room as u32).to_le_bytes());
        }
        walk(&bytes);
    }

    #[test]
    fn flipped_bits_do_not_panic(owned in message(), flips in vec((any::<Index>(), 0u32..8), 1..6)) {
        let mut bytes = owned.encode();
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        walk(&bytes);
    }

    #[test]
    fn cut_and_stretched_messages_are_refused(owned in message(), cut in any::<Index>()) {
        let mut bytes = owned.encode();
        prop_assert!(walk(&bytes[..cut.index(bytes.len())]).is_none());
        bytes.push(0);
        prop_assert!(walk(&bytes).is_none());
    }
}
