//! The access key: from a file or the environment into one header, and nowhere else.

use crate::{
    exit::{Exit, Failure, OrExit, Result},
    file,
    progress::Verbosity,
};
use reqwest::header::HeaderValue;
use std::{env, fmt, fs, os::unix::fs::PermissionsExt, path::Path};

/// The variable that a key can be in. It is no argument: those are for all processes to see.
const VARIABLE: &str = "FUELBOX_KEY";

/// Bytes of a file with one key in it.
const FILE_BYTES_MAX: u64 = 4_096;

/// A key's text. Never shown.
pub(super) struct Key(String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

impl Key {
    /// The key of the file, otherwise of the environment; none when neither is there.
    pub(super) fn find(path: Option<&Path>, verbosity: Verbosity) -> Result<Option<Self>> {
        if let Some(path) = path {
            let bytes = file::read(path, FILE_BYTES_MAX).or_exit(Exit::BadInput)?;
            let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
            if mode & 0o077 != 0 {
                let name = path.display();
                verbosity.note(format_args!("{name}: others can read this key (chmod 600)"));
            }
            return Self::parse(&bytes, &path.display()).map(Some);
        }
        match env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(value) => Self::parse(value.as_encoded_bytes(), &VARIABLE).map(Some),
            None => Ok(None),
        }
    }

    /// What is found there is not said: it may be another secret.
    fn parse(bytes: &[u8], place: &dyn fmt::Display) -> Result<Self> {
        let text = str::from_utf8(bytes).unwrap_or_default().trim();
        let body = text.strip_prefix("fbx_").unwrap_or_default();
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if body.is_empty() || !body.bytes().all(is_key) {
            let text = format!("{place}: no access key (one line that begins with fbx_)");
            return Err(Failure::message(Exit::BadInput, text));
        }
        Ok(Self(text.to_owned()))
    }

    /// The header's value.
    pub(super) fn bearer(&self) -> HeaderValue {
        // Letters and digits: always a header's value.
        let value = HeaderValue::try_from(format!("Bearer {}", self.0));
        let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line_and_is_never_shown() {
        let parse = |text: &str| Key::parse(text.as_bytes(), &"place");
        let key = parse("  fbx_abc_D-e\n").expect("a key");
        assert_eq!(key.bearer(), "Bearer fbx_abc_D-e");
        assert_eq!(format!("{key:?} {:?}", key.bearer()), "Key(hidden) Sensitive");
        for secret in
            ["", "word", "fbx_", "fbx_a b", "fbx_a\nfbx_b", "operator key: fbx_a", "fbx_ä"]
        {
            let error = parse(secret).expect_err("refused").to_string();
            assert_eq!(error, "place: no access key (one line that begins with fbx_)");
        }
    }
}
