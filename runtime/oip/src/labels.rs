//! Labels: the names of a classifier's classes, one a line.

/// Largest file of labels: ImageNet-21k's has 400 KB.
pub const LABELS_BYTES_MAX: u64 = 4 << 20;

/// Names of classes, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Vec<String>);

/// Why bytes are no labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum LabelsError {
    #[error("labels of {found} bytes, allowed are {LABELS_BYTES_MAX}")]
    Length { found: u64 },
    #[error("labels: {0}")]
    Utf8(#[from] std::str::Utf8Error),
}

impl Labels {
    /// Parses a file. The newline after the last label is not needed.
    ///
    /// # Errors
    /// More bytes than [`LABELS_BYTES_MAX`], or no UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, LabelsError> {
        let found = bytes.len() as u64;
        if found > LABELS_BYTES_MAX {
            return Err(LabelsError::Length { found });
        }
        let text = str::from_utf8(bytes)?;
        Ok(Self(text.lines().map(|line| line.trim_end().to_owned()).collect()))
    }

    /// All of them.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The name of a class, `?` when it has none.
    pub fn name(&self, class: usize) -> &str {
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
            assert_eq!(labels.names(), expected);
        }
        assert!(Labels::parse(b"\xff").is_err());
        assert!(Labels::parse(&vec![b'\n'; LABELS_BYTES_MAX as usize + 1]).is_err());
    }
}
