//! Labels: the names of a classifier's classes, one a line.

use anyhow::{Context, Result, ensure};

/// Largest file of labels: ImageNet-21k's has 400 KB.
pub(crate) const LABELS_BYTES_MAX: u64 = 4 << 20;

/// Names of classes, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels(Vec<String>);

impl Labels {
    /// Parses a file. The newline after the last label is not needed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let found = bytes.len() as u64;
        ensure!(
            found <= LABELS_BYTES_MAX,
            "labels of {found} bytes, allowed are {LABELS_BYTES_MAX}"
        );
        let text = str::from_utf8(bytes).context("labels")?;
        Ok(Self(text.lines().map(|line| line.trim_end().to_owned()).collect()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn name(&self, class: usize) -> &str {
        self.0.get(class).map_or("?", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_a_line() {
        for (text, expected) in [
            ("", &[][..]),
            ("zero\none\n", &["zero", "one"]),
            ("zero\r\none", &["zero", "one"]),
            ("zero\n\ntwo\n", &["zero", "", "two"]),
        ] {
            let labels = Labels::parse(text.as_bytes()).expect("parses");
            assert_eq!(labels.0, expected);
        }
        assert!(Labels::parse(b"\xff").is_err());
        assert!(Labels::parse(&vec![b'\n'; LABELS_BYTES_MAX as usize + 1]).is_err());
    }
}
