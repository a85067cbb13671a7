//! One array of a `.npy` file (NumPy's format, versions 1 to 3).
//!
//! Enters: bytes of a stranger. Leaves: an [`Array`] whose bytes are exactly its shape's, in row-major
//! order, little-endian. Nothing is allocated but what the bytes at hand account for: the header is
//! read here and not by `npyz`, which makes room for as many bytes as the header says it has and
//! multiplies its dimensions unchecked.

use super::{Array, shape_of};
use anyhow::{Context, Result, bail, ensure};
use fuelbox_abi::push_string_element;
use fuelbox_engine::DataType;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses longer ones unless told to trust the file.
const HEADER_BYTES_MAX: usize = 10_000;
const ALLOWED: &str = "b1, i1 to i8, u1 to u8, f2, f4, f8, S and U";

/// Parses a file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Array> {
    let (header, data) = split(bytes)?;
    let Header { dtype, fortran_order, dims } = Header::parse(header).context("npy header")?;
    let dtype = Dtype::parse(&dtype)?;
    let shape = shape_of(&dims)?;
    let overflows = || format!("shape {shape} of '{}' overflows 64 bits", dtype.text);
    let count = shape.element_count().with_context(overflows)?;
    let needed = count.checked_mul(dtype.item_bytes as u64).with_context(overflows)?;
    ensure!(
        data.len() as u64 == needed,
        "{} bytes of data found, shape {shape} of '{}' takes {needed}",
        data.len(),
        dtype.text
    );
    let mut bytes = data.to_vec();
    if dtype.big_endian {
        bytes.chunks_exact_mut(dtype.unit_bytes).for_each(<[u8]>::reverse);
    }
    if fortran_order && dims.len() > 1 {
        bytes = row_major(&bytes, &dims, dtype.item_bytes);
    }
    let bytes = match dtype.kind {
        Kind::Number(_) => bytes,
        Kind::Bytes => {
            strings(bytes.chunks_exact(dtype.item_bytes).map(|item| Ok(trimmed(item).to_vec())))?
        }
        Kind::Text => strings(bytes.chunks_exact(dtype.item_bytes).map(text))?,
    };
    let datatype = match dtype.kind {
        Kind::Number(datatype) => datatype,
        Kind::Bytes | Kind::Text => DataType::Bytes,
    };
    Ok(Array { datatype, shape, bytes })
}

/// Header text and data.
fn split(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let cut = "npy file is cut short";
    let rest =
        bytes.strip_prefix(MAGIC).context("not an npy file: it does not start with \\x93NUMPY")?;
    let (&[major, minor], rest) = rest.split_first_chunk::<2>().context(cut)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().context(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().context(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => bail!("npy version {major}.{minor}, allowed are 1.0 to 3.0"),
    };
    ensure!(
        length <= HEADER_BYTES_MAX,
        "npy header of {length} bytes, allowed are {HEADER_BYTES_MAX}"
    );
    let (header, data) = rest.split_at_checked(length).context(cut)?;
    Ok((str::from_utf8(header).context("npy header")?, data))
}

/// The header: a Python dictionary of exactly these three.
struct Header {
    dtype: String,
    fortran_order: bool,
    dims: Vec<u64>,
}

impl Header {
    fn parse(text: &str) -> Result<Self> {
        let (mut dtype, mut fortran_order, mut dims) = (None, None, None);
        let mut text = Text { rest: text };
        text.expect("{")?;
        while !text.eat("}") {
            let key = text.quoted()?;
            text.expect(":")?;
            match key {
                "descr" => {
                    let plain = !text.rest.trim_start().starts_with('[');
                    ensure!(plain, "structured dtype, allowed are {ALLOWED}");
                    dtype = Some(text.quoted()?.to_owned());
                }
                "fortran_order" => fortran_order = Some(text.boolean()?),
                "shape" => dims = Some(text.dims()?),
                _ => bail!("unknown key '{key}'"),
            }
            if !text.eat(",") {
                text.expect("}")?;
                break;
            }
        }
        ensure!(text.rest.trim().is_empty(), "text after the dictionary");
        Ok(Self {
            dtype: dtype.context("key 'descr' is missing")?,
            fortran_order: fortran_order.context("key 'fortran_order' is missing")?,
            dims: dims.context("key 'shape' is missing")?,
        })
    }
}

/// The little of Python's syntax that a header has.
struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        ensure!(self.eat(token), "'{token}' expected");
        Ok(())
    }

    fn quoted(&mut self) -> Result<&'a str> {
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let (inside, rest) = self.rest.split_once(quote).context("a text is not closed")?;
                self.rest = rest;
                return Ok(inside);
            }
        }
        bail!("quoted text expected")
    }

    fn boolean(&mut self) -> Result<bool> {
        match (self.eat("True"), self.eat("False")) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => bail!("'fortran_order' is neither True nor False"),
        }
    }

    fn dims(&mut self) -> Result<Vec<u64>> {
        self.expect("(")?;
        let mut dims = Vec::new();
        while !self.eat(")") {
            dims.push(self.integer()?);
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(dims)
    }

    fn integer(&mut self) -> Result<u64> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        self.rest = rest.strip_prefix('L').unwrap_or(rest); // Python 2 wrote longs so
        digits
            .parse()
            .with_context(|| format!("dimension '{digits}', expected a number below 2^64"))
    }
}

/// The type of the elements, as NumPy names it: `<f4`.
struct Dtype<'a> {
    text: &'a str,
    kind: Kind,
    item_bytes: usize,
    /// What a byte order turns around: the item, or a character of it.
    unit_bytes: usize,
    big_endian: bool,
}

enum Kind {
    Number(DataType),
    /// `S`: bytes, filled with zeros.
    Bytes,
    /// `U`: UCS-4, filled with zeros.
    Text,
}

impl<'a> Dtype<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let refused = || {
            let shown: String = text.chars().take(40).collect();
            format!("dtype '{shown}', allowed are {ALLOWED}")
        };
        let (order, name) = text.split_at_checked(1).with_context(refused)?;
        let big_endian = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => bail!(refused()),
        };
        let (letter, size) = name.split_at_checked(1).with_context(refused)?;
        // An element takes a place, or a shape could promise more of them than there is memory.
        let size = size.parse::<usize>().ok().filter(|&size| size > 0).with_context(refused)?;
        let number = |datatype| (Kind::Number(datatype), size, size);
        let (kind, item_bytes, unit_bytes) = match (letter, size) {
            ("b", 1) => number(DataType::Bool),
            ("i", 1) => number(DataType::Int8),
            ("i", 2) => number(DataType::Int16),
            ("i", 4) => number(DataType::Int32),
            ("i", 8) => number(DataType::Int64),
            ("u", 1) => number(DataType::Uint8),
            ("u", 2) => number(DataType::Uint16),
            ("u", 4) => number(DataType::Uint32),
            ("u", 8) => number(DataType::Uint64),
            ("f", 2) => number(DataType::Fp16),
            ("f", 4) => number(DataType::Fp32),
            ("f", 8) => number(DataType::Fp64),
            ("S", _) => (Kind::Bytes, size, 1),
            ("U", _) => (Kind::Text, size.checked_mul(4).with_context(refused)?, 4),
            ("O", _) => bail!("dtype '|O' is pickled Python objects, allowed are {ALLOWED}"),
            _ => bail!(refused()),
        };
        Ok(Self { text, kind, item_bytes, unit_bytes, big_endian })
    }
}

/// Column-major items in row-major order.
fn row_major(bytes: &[u8], dims: &[u64], item_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    // The bytes are there, so sizes and strides fit; and none of the dimensions is zero.
    let dims: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
    let strides: Vec<usize> = dims
        .iter()
        .scan(item_bytes, |next, dim| {
            let stride = *next;
            *next *= dim;
            Some(stride)
        })
        .collect();
    let mut index = vec![0; dims.len()];
    while out.len() < bytes.len() {
        let start: usize = index.iter().zip(&strides).map(|(index, stride)| index * stride).sum();
        out.extend_from_slice(&bytes[start..start + item_bytes]);
        for (index, dim) in index.iter_mut().zip(&dims).rev() {
            *index += 1;
            if *index < *dim {
                break;
            }
            *index = 0;
        }
    }
    out
}

/// Without the zeros at the end, as NumPy gives it.
fn trimmed(item: &[u8]) -> &[u8] {
    &item[..item.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
}

fn text(item: &[u8]) -> Result<Vec<u8>> {
    let code = |unit: &[u8]| unit.iter().rev().fold(0, |code, &byte| code << 8 | u32::from(byte));
    let chars = item.chunks_exact(4).map(|unit| {
        let code = code(unit);
        char::from_u32(code).with_context(|| format!("character {code:#x} is not Unicode"))
    });
    let text = chars.collect::<Result<String>>()?;
    Ok(text.trim_end_matches('\0').into())
}

/// Elements in the form of a `BYTES` tensor.
fn strings(items: impl Iterator<Item = Result<Vec<u8>>>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for item in items {
        push_string_element(&mut bytes, &item?).context("element of 4 GiB or more")?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::WriterBuilder;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn check(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> String {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        show(parse(&file(&header, data)))
    }

    fn show(array: Result<Array>) -> String {
        match array {
            Ok(Array { datatype, shape, bytes }) => format!("{datatype} {shape} {bytes:?}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn arrays_of_every_dtype() {
        for (descr, fortran, shape, data, expected) in [
            ("|b1", "False", "(2,)", &[0, 1][..], "BOOL [2] [0, 1]"),
            ("|i1", "False", "()", &[5], "INT8 [] [5]"),
            ("<i2", "False", "(1,)", &[1, 2], "INT16 [1] [1, 2]"),
            (">i2", "False", "(1,)", &[1, 2], "INT16 [1] [2, 1]"),
            (">f4", "False", "(1, 1)", &[63, 128, 0, 0], "FP32 [1, 1] [0, 0, 128, 63]"),
            ("<f2", "False", "(1,)", &[0, 60], "FP16 [1] [0, 60]"),
            ("<u8", "False", "(0, 3)", &[], "UINT64 [0, 3] []"),
            ("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6], "UINT8 [2, 3] [1, 2, 3, 4, 5, 6]"),
            ("|u1", "True", "(2, 1, 2)", &[1, 3, 2, 4], "UINT8 [2, 1, 2] [1, 2, 3, 4]"),
            (">u2", "True", "(1, 2)", &[0, 1, 0, 2], "UINT16 [1, 2] [1, 0, 2, 0]"),
            ("|u1", "True", "(0, 2)", &[], "UINT8 [0, 2] []"),
            ("|S2", "False", "(2,)", b"a\0bc", "BYTES [2] [1, 0, 0, 0, 97, 2, 0, 0, 0, 98, 99]"),
            ("<U1", "False", "(1,)", &[0xe4, 0, 0, 0], "BYTES [1] [2, 0, 0, 0, 195, 164]"),
            (">U1", "False", "(1,)", &[0, 0, 0, 97], "BYTES [1] [1, 0, 0, 0, 97]"),
        ] {
            assert_eq!(check(descr, fortran, shape, data), expected, "{descr} {shape}");
        }
    }

    #[test]
    fn bad_files_are_named() {
        let dtypes = format!("allowed are {ALLOWED}");
        for (descr, shape, data, expected) in [
            ("<f4", "(2,)", &[0; 7][..], "7 bytes of data found, shape [2] of '<f4' takes 8"),
            ("<f4", "(2,)", &[0; 9], "9 bytes of data found, shape [2] of '<f4' takes 8"),
            (
                "<f8",
                "(2305843009213693952, 8)",
                &[],
                "shape [2305843009213693952, 8] of '<f8' overflows 64 bits",
            ),
            (
                "<f8",
                "(2305843009213693952,)",
                &[],
                "shape [2305843009213693952] of '<f8' overflows 64 bits",
            ),
            (
                "<f4",
                "(18446744073709551616,)",
                &[],
                "npy header: dimension '18446744073709551616', expected a number below 2^64: number too large to fit in target type",
            ),
            (
                "<f4",
                "(-1,)",
                &[],
                "npy header: dimension '', expected a number below 2^64: cannot parse integer from empty string",
            ),
            ("|u1", "(1,1,1,1,1,1,1,1,1)", &[0], "9 dimensions, allowed are 8"),
            ("|O", "(1,)", &[], &format!("dtype '|O', {dtypes}")),
            ("|O8", "(1,)", &[], &format!("dtype '|O' is pickled Python objects, {dtypes}")),
            ("<c8", "(1,)", &[0; 8], &format!("dtype '<c8', {dtypes}")),
            ("|S0", "(99999999999,)", &[], &format!("dtype '|S0', {dtypes}")),
            (
                "<U18446744073709551615",
                "(1,)",
                &[],
                &format!("dtype '<U18446744073709551615', {dtypes}"),
            ),
            ("", "(1,)", &[], &format!("dtype '', {dtypes}")),
            ("<U1", "(1,)", &[0, 0xd8, 0, 0], "character 0xd800 is not Unicode"),
        ] {
            assert_eq!(check(descr, "False", shape, data), expected);
        }
        for (bytes, expected) in [
            (b"PK".to_vec(), "not an npy file: it does not start with \\x93NUMPY"),
            (MAGIC.to_vec(), "npy file is cut short"),
            ([MAGIC, &[9, 0]].concat(), "npy version 9.0, allowed are 1.0 to 3.0"),
            ([MAGIC, &[1, 0, 9, 0]].concat(), "npy file is cut short"),
            (
                [MAGIC, &[2, 0, 255, 255, 255, 255]].concat(),
                "npy header of 4294967295 bytes, allowed are 10000",
            ),
            (file("", &[]), "npy header: '{' expected"),
            (file("{}", &[]), "npy header: key 'descr' is missing"),
            (
                file("{'shape': ((((", &[]),
                "npy header: dimension '', expected a number below 2^64: cannot parse integer from empty string",
            ),
            (
                file("{'descr': [('a', '<f4')]}", &[]),
                &format!("npy header: structured dtype, {dtypes}"),
            ),
            (
                file("{'fortran_order': None}", &[]),
                "npy header: 'fortran_order' is neither True nor False",
            ),
            (file("{'x': 1}", &[]), "npy header: unknown key 'x'"),
            (file("{'descr", &[]), "npy header: a text is not closed"),
            (file("{} {}", &[]), "npy header: text after the dictionary"),
        ] {
            assert_eq!(show(parse(&bytes)), expected);
        }
    }

    #[test]
    fn npyz_agrees() {
        let numbers = [1.5f32, -2.0, f32::NAN, 4.0, 0.0, 6.0];
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[2, 3]).writer(&mut bytes);
        let mut writer = options.begin_nd().expect("writes");
        writer.extend(numbers).expect("writes");
        writer.finish().expect("writes");
        let array = parse(&bytes).expect("reads");
        assert_eq!((array.datatype, &*array.shape), (DataType::Fp32, &[2, 3][..]));
        assert_eq!(array.bytes, numbers.map(f32::to_le_bytes).concat());
    }
}
