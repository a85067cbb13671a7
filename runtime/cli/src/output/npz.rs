//! Outputs as an `.npz` file: the same tensors give the same bytes.
//!
//! A zip archive with one stored `.npy` per output, in the model's order, all of the same fixed time.
//! BYTES become NumPy's `S` (fixed length, filled with zeros).

use anyhow::{Context, Result, ensure};
use fuelbox_engine::{DataType, JobLimits, Tensor};
use std::io::{BufWriter, Seek, Write};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// Outputs that such a file can hold.
pub(crate) struct Npz<'a>(Vec<(&'a Tensor, Item)>);

impl<'a> Npz<'a> {
    /// Checks the outputs.
    pub(crate) fn of(outputs: &'a [Tensor]) -> Result<Self> {
        let array = |tensor: &'a Tensor| {
            let at = || format!("output '{}' as npz", tensor.name.escape_debug());
            check_name(&tensor.name).with_context(at)?;
            Ok((tensor, Item::of(tensor).with_context(at)?))
        };
        Ok(Self(outputs.iter().map(array).collect::<Result<_>>()?))
    }

    /// Writes them.
    pub(crate) fn write(&self, file: impl Write + Seek) -> Result<()> {
        let mut archive = ZipWriter::new(BufWriter::new(file));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default()) // 1980-01-01
            .unix_permissions(0o644);
        for (tensor, item) in &self.0 {
            let large = item.bytes.saturating_add(1 << 20) >= u64::from(u32::MAX);
            archive.start_file(format!("{}.npy", tensor.name), options.large_file(large))?;
            archive.write_all(&header(&item.dtype, &tensor.shape))?;
            match item.string_bytes {
                Some(size) => {
                    let zeros = vec![0; size];
                    for element in tensor.view().strings() {
                        archive.write_all(element)?;
                        archive.write_all(&zeros[element.len()..])?;
                    }
                }
                None => archive.write_all(&tensor.bytes)?, // little-endian and row-major already
            }
        }
        Ok(archive.finish()?.flush()?)
    }
}

/// Names become paths where the archive is unpacked.
fn check_name(name: &str) -> Result<()> {
    let climbs = name.split(['/', '\\']).any(|part| part == "..");
    ensure!(
        !climbs && !name.contains(char::is_control),
        "the name is no safe file name; use --json"
    );
    Ok(())
}

/// What an element is in the file.
struct Item {
    dtype: String,
    /// Of each element of a `BYTES` tensor.
    string_bytes: Option<usize>,
    /// Of all elements.
    bytes: u64,
}

impl Item {
    fn of(tensor: &Tensor) -> Result<Self> {
        let sized = |dtype: &str| {
            Ok(Self { dtype: dtype.into(), string_bytes: None, bytes: tensor.bytes.len() as u64 })
        };
        match tensor.datatype {
            DataType::Bool => sized("|b1"),
            DataType::Uint8 => sized("|u1"),
            DataType::Int8 => sized("|i1"),
            DataType::Uint16 => sized("<u2"),
            DataType::Uint32 => sized("<u4"),
            DataType::Uint64 => sized("<u8"),
            DataType::Int16 => sized("<i2"),
            DataType::Int32 => sized("<i4"),
            DataType::Int64 => sized("<i8"),
            DataType::Fp16 => sized("<f2"),
            DataType::Fp32 => sized("<f4"),
            DataType::Fp64 => sized("<f8"),
            DataType::Bytes => Self::of_strings(tensor),
        }
    }

    fn of_strings(tensor: &Tensor) -> Result<Self> {
        let strings = || tensor.view().strings();
        ensure!(
            !strings().any(|element| element.last() == Some(&0)),
            "an element ends with a zero byte, which NumPy would drop; use --json"
        );
        // NumPy has no strings of length 0.
        let size = strings().map(<[u8]>::len).max().unwrap_or(0).max(1);
        // Each element takes as much as the longest one.
        let bytes = (size as u64).saturating_mul(strings().count() as u64);
        let allowed = JobLimits::default().output_bytes;
        ensure!(
            bytes <= allowed,
            "{bytes} bytes as fixed-length strings, allowed are {allowed}; use --json"
        );
        Ok(Self { dtype: format!("|S{size}"), string_bytes: Some(size), bytes })
    }
}

/// Magic, version 1.0 and header, so that the data starts at a multiple of 64.
fn header(dtype: &str, dims: &[u64]) -> Vec<u8> {
    let dims = match dims {
        [] => "()".into(),
        [one] => format!("({one},)"),
        more => format!("({})", more.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {dims}, }}");
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10 - 1;
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes()); // at most 8 dimensions: far below 64 KiB
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{super::elements::tests::tensor, *};
    use std::io::{Cursor, Read};

    fn named(name: &str, datatype: DataType, dims: &[u64], bytes: &[u8]) -> Tensor {
        Tensor { name: name.into(), ..tensor(datatype, dims, bytes) }
    }

    fn write_all(outputs: &[Tensor]) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        Npz::of(outputs)?.write(&mut out)?;
        Ok(out.into_inner())
    }

    #[test]
    fn npyz_reads_what_was_written() {
        let singles = [1.0f32, -2.5, f32::MAX, 0.1, 0.0, 7.0].map(f32::to_le_bytes).concat();
        let outputs = [
            named("a", DataType::Fp32, &[2, 3], &singles),
            named("b/c:0", DataType::Int64, &[], &[1, 0, 0, 0, 0, 0, 0, 0]),
            named("s", DataType::Bytes, &[2], b"\x02\0\0\0ab\x01\0\0\0c"),
            named("e", DataType::Bytes, &[0], b""),
        ];
        let bytes = write_all(&outputs).expect("writes");
        assert_eq!(bytes, write_all(&outputs).expect("writes"), "the same bytes each time");
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("zip");
        let mut read = |name: &str| {
            let mut bytes = Vec::new();
            archive.by_name(name).expect("entry").read_to_end(&mut bytes).expect("reads");
            bytes
        };
        let (a, b, s) = (read("a.npy"), read("b/c:0.npy"), read("s.npy"));
        let file = npyz::NpyFile::new(&a[..]).expect("npy");
        assert_eq!((file.shape(), a.len() % 64), (&[2, 3][..], 24));
        assert_eq!(file.into_vec::<f32>().expect("data"), [1.0, -2.5, f32::MAX, 0.1, 0.0, 7.0]);
        assert_eq!(npyz::NpyFile::new(&b[..]).expect("npy").into_vec::<i64>().expect("data"), [1]);
        let file = npyz::NpyFile::new(&s[..]).expect("npy");
        assert_eq!(file.into_vec::<Vec<u8>>().expect("data"), [b"ab".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn what_numpy_cannot_hold_is_refused() {
        for (output, expected) in [
            (
                named("../x", DataType::Int8, &[1], &[0]),
                "the name is no safe file name; use --json",
            ),
            (
                named("x", DataType::Bytes, &[1], b"\x02\0\0\0a\0"),
                "an element ends with a zero byte, which NumPy would drop; use --json",
            ),
        ] {
            let error = format!("{:#}", write_all(&[output]).expect_err("refused"));
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
