//! The canonical encoding of tensors and parameters: the bytes whose SHA-256 names them
//! (`docs/formats/digests.md`).
//!
//! What is stored under such a digest is the encoding itself, so content and name are checked in one
//! go. Reading takes any bytes, and gives what was encoded or one clear error.

use crate::tensor::{OwnedParameter, OwnedValue, Tensor};
use fuelbox_abi::{DataType, ENTRIES_MAX, RANK_MAX, Shape};
use fuelbox_digest::{Digest, Hasher};

/// What a list of tensors is for: equal tensors in another place have another digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A job's inputs, in the model's order.
    Inputs,
    /// A job's outputs, in the model's order.
    Outputs,
}

impl Place {
    fn domain(self) -> &'static str {
        match self {
            Self::Inputs => "fuelbox inputs 1",
            Self::Outputs => "fuelbox outputs 1",
        }
    }
}

const PARAMETERS_DOMAIN: &str = "fuelbox parameters 1";

/// Why bytes are no canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("canonical encoding: {what} at byte {at}")]
pub struct CanonicalError {
    what: &'static str,
    at: usize,
}

/// Where encoded bytes go: to memory, or into a hash.
trait Sink {
    fn field(&mut self, bytes: &[u8]);
    fn number(&mut self, number: u64);
}

impl Sink for Vec<u8> {
    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn number(&mut self, number: u64) {
        self.extend_from_slice(&number.to_le_bytes());
    }
}

impl Sink for Hasher {
    fn field(&mut self, bytes: &[u8]) {
        Hasher::field(self, bytes);
    }

    fn number(&mut self, number: u64) {
        Hasher::number(self, number);
    }
}

/// The digest of a job's outputs: the tensors in the model's order, each as name, datatype code,
/// rank, dimensions and bytes.
pub fn output_digest(tensors: &[Tensor]) -> Digest {
    tensors_digest(Place::Outputs, tensors)
}

/// The digest of [`encode_tensors`], without making the bytes.
pub fn tensors_digest(place: Place, tensors: &[Tensor]) -> Digest {
    let mut hasher = Hasher::new(place.domain());
    write_tensors(tensors, &mut hasher);
    hasher.finish()
}

/// The bytes of a list of tensors; their SHA-256 is the list's digest.
pub fn encode_tensors(place: Place, tensors: &[Tensor]) -> Vec<u8> {
    let size = |tensor: &Tensor| 48 + tensor.name.len() + tensor.bytes.len() + 8 * RANK_MAX;
    let mut out = Vec::with_capacity(64 + tensors.iter().map(size).sum::<usize>());
    out.field(place.domain().as_bytes());
    write_tensors(tensors, &mut out);
    out
}

fn write_tensors(tensors: &[Tensor], out: &mut impl Sink) {
    out.number(tensors.len() as u64);
    for tensor in tensors {
        out.field(tensor.name.as_bytes());
        out.number(tensor.datatype.code().into());
        out.number(tensor.shape.len() as u64);
        for &dim in tensor.shape.iter() {
            out.number(dim);
        }
        out.field(&tensor.bytes);
    }
}

/// Reads what [`encode_tensors`] wrote.
///
/// # Errors
/// The first thing that is not as it would write it. Whether bytes, datatype and shape of a tensor
/// agree is the signature's question.
pub fn decode_tensors(place: Place, bytes: &[u8]) -> Result<Vec<Tensor>, CanonicalError> {
    let mut reader = Reader { bytes, at: 0 };
    reader.domain(place.domain())?;
    let count = reader.count("tensors", ENTRIES_MAX)?;
    let mut tensors = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text("a tensor's name")?;
        let code = reader.number()?;
        let datatype = u8::try_from(code).ok().and_then(DataType::from_code);
        let datatype = datatype.ok_or_else(|| reader.error("an unknown datatype"))?;
        let mut dims = vec![0; reader.count("dimensions", RANK_MAX)?];
        for dim in &mut dims {
            *dim = reader.number()?;
        }
        let shape = Shape::new(&dims).ok_or_else(|| reader.error("too many dimensions"))?;
        let bytes = reader.field()?.to_vec();
        tensors.push(Tensor { name, datatype, shape, bytes });
    }
    reader.end()?;
    Ok(tensors)
}

/// The bytes of a list of parameters; their SHA-256 is the list's digest.
pub fn encode_parameters(parameters: &[OwnedParameter]) -> Vec<u8> {
    let mut out = Vec::new();
    out.field(PARAMETERS_DOMAIN.as_bytes());
    out.number(parameters.len() as u64);
    for parameter in parameters {
        out.field(parameter.name.as_bytes());
        match &parameter.value {
            OwnedValue::Bool(value) => {
                out.number(0);
                out.number((*value).into());
            }
            OwnedValue::Int(value) => {
                out.number(1);
                out.number(value.cast_unsigned());
            }
            OwnedValue::Float(value) => {
                out.number(2);
                out.number(value.to_bits());
            }
            OwnedValue::String(value) => {
                out.number(3);
                out.field(value.as_bytes());
            }
        }
    }
    out
}

/// Reads what [`encode_parameters`] wrote.
///
/// # Errors
/// The first thing that is not as it would write it.
pub fn decode_parameters(bytes: &[u8]) -> Result<Vec<OwnedParameter>, CanonicalError> {
    let mut reader = Reader { bytes, at: 0 };
    reader.domain(PARAMETERS_DOMAIN)?;
    let count = reader.count("parameters", ENTRIES_MAX)?;
    let mut parameters = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text("a parameter's name")?;
        let kind = reader.number()?;
        let value = match kind {
            0 => match reader.number()? {
                0 => OwnedValue::Bool(false),
                1 => OwnedValue::Bool(true),
                _ => return Err(reader.error("a truth value other than 0 and 1")),
            },
            1 => OwnedValue::Int(reader.number()?.cast_signed()),
            2 => OwnedValue::Float(f64::from_bits(reader.number()?)),
            3 => OwnedValue::String(reader.text("a parameter's text")?),
            _ => return Err(reader.error("an unknown kind of parameter")),
        };
        parameters.push(OwnedParameter { name, value });
    }
    reader.end()?;
    Ok(parameters)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> CanonicalError {
        CanonicalError { what, at: self.at }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CanonicalError> {
        let rest = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        let taken = rest.ok_or_else(|| self.error("cut short"))?;
        self.at += len;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, CanonicalError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| self.error("cut short"))?))
    }

    fn field(&mut self) -> Result<&'a [u8], CanonicalError> {
        let len = self.number()?;
        let len = usize::try_from(len).map_err(|_| self.error("cut short"))?;
        self.take(len)
    }

    fn text(&mut self, what: &'static str) -> Result<String, CanonicalError> {
        let bytes = self.field()?;
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.error(what))
    }

    fn count(&mut self, what: &'static str, most: usize) -> Result<usize, CanonicalError> {
        let count = self.number()?;
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| self.error(what))
    }

    fn domain(&mut self, domain: &str) -> Result<(), CanonicalError> {
        let start = self.at;
        if self.field()? == domain.as_bytes() {
            Ok(())
        } else {
            Err(CanonicalError { what: "another kind of content", at: start })
        }
    }

    fn end(&self) -> Result<(), CanonicalError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.error("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor() -> Tensor {
        Tensor {
            name: "y".into(),
            datatype: DataType::Fp32,
            shape: Shape::new(&[1, 2]).expect("rank"),
            bytes: vec![0, 0, 128, 63, 0, 0, 0, 64],
        }
    }

    fn parameters() -> Vec<OwnedParameter> {
        let values = [
            OwnedValue::Bool(true),
            OwnedValue::Int(-3),
            OwnedValue::Float(-0.5),
            OwnedValue::String("ä".into()),
        ];
        let named = values.into_iter().enumerate();
        named.map(|(at, value)| OwnedParameter { name: format!("p{at}"), value }).collect()
    }

    #[test]
    fn output_digest_is_pinned_and_sees_every_field() {
        let tensor = tensor();
        let pinned = output_digest(std::slice::from_ref(&tensor));
        let mut others = vec![tensor.clone(); 4];
        others[0].name = "z".into();
        others[1].datatype = DataType::Int32;
        others[2].shape = Shape::new(&[2, 1]).expect("rank");
        others[3].bytes[7] = 65;
        for other in others {
            assert_ne!(output_digest(&[other]), pinned);
        }
        assert_eq!(
            pinned.to_string(),
            "sha256:ad646f79f2c554dc6d1676576579ffd426ac68b394d197beb52bbfb5b5dd41db"
        );
        assert_eq!(Digest::of(&encode_tensors(Place::Outputs, &[tensor])), pinned);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for tensors in [vec![], vec![tensor()], vec![tensor(), tensor()]] {
            let bytes = encode_tensors(Place::Inputs, &tensors);
            assert_eq!(decode_tensors(Place::Inputs, &bytes), Ok(tensors));
        }
        let bytes = encode_parameters(&parameters());
        assert_eq!(decode_parameters(&bytes), Ok(parameters()));
        assert_eq!(
            Digest::of(&encode_parameters(&[])).to_string(),
            "sha256:1ba551dfc406159a1c340eef05ace6e44f59353480098768e14bb49edad1c17c"
        );
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed_or_another_list() {
        let tensors = encode_tensors(Place::Inputs, &[tensor()]);
        let parameters = encode_parameters(&parameters());
        for len in 0..tensors.len() {
            assert!(decode_tensors(Place::Inputs, &tensors[..len]).is_err());
        }
        for len in 0..parameters.len() {
            assert!(decode_parameters(&parameters[..len]).is_err());
        }
        for bit in 0..8 * tensors.len() {
            let mut bytes = tensors.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = decode_tensors(Place::Inputs, &bytes) {
                assert_eq!(encode_tensors(Place::Inputs, &read), bytes);
            }
        }
        for bit in 0..8 * parameters.len() {
            let mut bytes = parameters.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = decode_parameters(&bytes) {
                assert_eq!(encode_parameters(&read), bytes);
            }
        }
        let mut long = tensors.clone();
        long.push(0);
        assert_eq!(
            decode_tensors(Place::Inputs, &long).expect_err("too long").to_string(),
            format!("canonical encoding: bytes after the end at byte {}", tensors.len())
        );
        assert_eq!(
            decode_tensors(Place::Outputs, &tensors).expect_err("inputs").to_string(),
            "canonical encoding: another kind of content at byte 0"
        );
    }
}
