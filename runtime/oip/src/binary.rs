//! What follows the JSON: the bytes of the tensors that have none in it, one after the other.

use crate::error::{Document, OipError, TensorFault};

/// Takes the bytes of one tensor after the other.
pub(crate) struct Binary<'a> {
    document: Document,
    rest: &'a [u8],
    /// Whether somebody said where the JSON ends.
    announced: bool,
}

/// Parts the JSON from what follows it. Without `json_bytes`, all of the body is JSON.
pub(crate) fn split(
    document: Document,
    body: &[u8],
    json_bytes: Option<usize>,
) -> Result<(&[u8], Binary<'_>), OipError> {
    let end = json_bytes.unwrap_or(body.len());
    let parts = body.split_at_checked(end);
    let (json, rest) = parts.ok_or(OipError::HeaderLength {
        document,
        json_bytes: end,
        body_bytes: body.len(),
    })?;
    Ok((json, Binary { document, rest, announced: json_bytes.is_some() }))
}

impl<'a> Binary<'a> {
    /// The next so many bytes.
    pub(crate) fn take(&mut self, size: u64) -> Result<&'a [u8], TensorFault> {
        let parts = usize::try_from(size).ok().and_then(|size| self.rest.split_at_checked(size));
        let Some((bytes, rest)) = parts else {
            return Err(match self.announced {
                true => TensorFault::Cut { size, left: self.rest.len() },
                false => TensorFault::NoHeader { size },
            });
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Whether all bytes were taken.
    pub(crate) fn end(self) -> Result<(), OipError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(OipError::Left { document: self.document, found }),
        }
    }
}
