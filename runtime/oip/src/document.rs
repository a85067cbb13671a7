//! The JSON of a request and of a reply: bytes become structures that borrow from them.
//!
//! The elements of `data` stay text here. Members that nobody asked for are skipped; those that are
//! read may be there once. Objects are objects: no list stands for one.

use crate::{
    error::{Document, OipError},
    text::excerpt,
};
use fuelbox_abi::{ENTRIES_MAX, RANK_MAX};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_json::{error::Category, value::RawValue};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// A request's JSON.
#[derive(Deserialize)]
pub(crate) struct RequestBody<'a> {
    pub(crate) id: Option<String>,
    #[serde(borrow)]
    pub(crate) parameters: Option<ParameterBodies<'a>>,
    #[serde(borrow)]
    pub(crate) inputs: List<TensorBody<'a>>,
    pub(crate) outputs: Option<List<OutputBody>>,
}

/// A reply's JSON.
#[derive(Deserialize)]
pub(crate) struct ReplyBody<'a> {
    pub(crate) model_name: String,
    pub(crate) model_version: Option<String>,
    pub(crate) id: Option<String>,
    #[serde(borrow)]
    pub(crate) parameters: Option<ParameterBodies<'a>>,
    #[serde(borrow)]
    pub(crate) outputs: List<TensorBody<'a>>,
}

/// An input of a request, or an output of a reply.
#[derive(Deserialize)]
pub(crate) struct TensorBody<'a> {
    pub(crate) name: String,
    pub(crate) shape: DimsBody,
    pub(crate) datatype: String,
    pub(crate) parameters: Option<Object<TensorParameters>>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
pub(crate) struct TensorParameters {
    pub(crate) binary_data_size: Option<u64>,
    pub(crate) shared_memory_region: Option<IgnoredAny>,
}

/// An output that is asked for.
#[derive(Deserialize)]
pub(crate) struct OutputBody {
    pub(crate) name: String,
    pub(crate) parameters: Option<Object<OutputParameters>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct OutputParameters {
    pub(crate) binary_data: Option<bool>,
    pub(crate) classification: Option<u64>,
    pub(crate) shared_memory_region: Option<IgnoredAny>,
}

/// Reads a document.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    document: Document,
    json: &'a [u8],
) -> Result<T, OipError> {
    let text = str::from_utf8(json)
        .map_err(|error| OipError::Utf8 { document, offset: error.valid_up_to() })?;
    let Object(body) = serde_json::from_str(text).map_err(|error| named(document, text, &error))?;
    Ok(body)
}

fn named(document: Document, text: &str, error: &serde_json::Error) -> OipError {
    let (line, column) = (error.line(), error.column());
    let whole = error.to_string();
    let place = format!(" at line {line} column {column}");
    let reason = excerpt(whole.strip_suffix(&place).unwrap_or(&whole));
    match error.classify() {
        Category::Data if reason.starts_with(DUPLICATE) => {
            OipError::Key { document, reason, line, column }
        }
        Category::Data => OipError::Member { document, reason, line, column },
        Category::Syntax | Category::Eof | Category::Io => match literal(text, line, column) {
            Some((literal, column)) => OipError::Literal { document, literal, line, column },
            None => OipError::Json { document, reason, line, column },
        },
    }
}

/// How serde starts the sentence about a member that is there twice.
const DUPLICATE: &str = "duplicate field";

/// The word at this place, if it is what some libraries write for floats that are no JSON numbers, and
/// the column at which it starts. The place may be anywhere in it.
fn literal(text: &str, line: usize, column: usize) -> Option<(&'static str, usize)> {
    const LITERALS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    let place = line.floor_char_boundary(column.checked_sub(1)?);
    let (before, after) = line.split_at(place);
    let part = |char: char| char.is_ascii_alphabetic() || char == '-';
    let start = before.trim_end_matches(part).len();
    let end = place + after.len() - after.trim_start_matches(part).len();
    let literal = LITERALS.into_iter().find(|literal| line[start..end] == **literal)?;
    Some((literal, start + 1))
}

/// An object, and nothing that serde would take for one.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(Map(PhantomData)).map(Self)
    }
}

/// A list of objects, no longer than what a message to a model holds.
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seq<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Seq<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tensors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(Object(entry)) = seq.next_element()? {
                    if list.len() == ENTRIES_MAX {
                        let reason = format_args!("more than {ENTRIES_MAX} tensors");
                        return Err(A::Error::custom(reason));
                    }
                    list.push(entry);
                }
                Ok(list)
            }
        }

        from.deserialize_seq(Seq(PhantomData)).map(Self)
    }
}

/// Dimensions as they stand there.
#[derive(Default)]
pub(crate) struct DimsBody {
    /// The first of them.
    pub(crate) dims: [u64; RANK_MAX],
    /// How many there are.
    pub(crate) rank: usize,
    /// The first that is below zero.
    pub(crate) negative: Option<(usize, i64)>,
}

impl<'de> Deserialize<'de> for DimsBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seq;

        impl<'de> Visitor<'de> for Seq {
            type Value = DimsBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<DimsBody, A::Error> {
                let mut body = DimsBody::default();
                while let Some(dim) = seq.next_element()? {
                    match (dim, body.dims.get_mut(body.rank)) {
                        (DimBody::Size(size), Some(place)) => *place = size,
                        (DimBody::Size(_), None) => {}
                        (DimBody::Negative(found), _) => {
                            body.negative.get_or_insert((body.rank, found));
                        }
                    }
                    body.rank += 1;
                }
                Ok(body)
            }
        }

        from.deserialize_seq(Seq)
    }
}

enum DimBody {
    Size(u64),
    Negative(i64),
}

impl<'de> Deserialize<'de> for DimBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Whole;

        impl Visitor<'_> for Whole {
            type Value = DimBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: Error>(self, size: u64) -> Result<DimBody, E> {
                Ok(DimBody::Size(size))
            }

            fn visit_i64<E: Error>(self, size: i64) -> Result<DimBody, E> {
                Ok(u64::try_from(size).map_or(DimBody::Negative(size), DimBody::Size))
            }
        }

        from.deserialize_any(Whole)
    }
}

/// Parameters, each still text, by name.
pub(crate) struct ParameterBodies<'a>(pub(crate) BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for ParameterBodies<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut bodies = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if bodies.len() == ENTRIES_MAX {
                        let reason = format_args!("more than {ENTRIES_MAX} parameters");
                        return Err(A::Error::custom(reason));
                    }
                    let shown = excerpt(&name);
                    if bodies.insert(name, value).is_some() {
                        return Err(A::Error::custom(format_args!("{DUPLICATE} `{shown}`")));
                    }
                }
                Ok(bodies)
            }
        }

        from.deserialize_map(Map).map(Self)
    }
}

/// One value at the front of a text, and the rest.
pub(crate) fn value_at_front<T: DeserializeOwned>(text: &str) -> Option<(T, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}
