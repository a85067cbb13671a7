//! Publishers: the keys that they sign packages with, and the name spaces that are theirs.
//!
//! Invariant: a name space has one owner, and keeps him; a public key belongs to one account.

/// Why a text is no name space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name space '{found}', expected 1 to {SPACE_CHARS_MAX} of a-z 0-9 _ - and the first a letter or a digit"
)]
pub struct SpaceError {
    found: String,
}

/// Characters of a name space.
const SPACE_CHARS_MAX: usize = 64;

/// Whether a text can be a name space. Lower case alone: two that differ in case would be taken for one
/// another.
pub(crate) fn check_space(text: &str) -> Result<(), SpaceError> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.len() <= SPACE_CHARS_MAX
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().all(|byte| alphanumeric(byte) || b"_-".contains(&byte));
    let error = || SpaceError { found: text.escape_debug().take(80).collect() };
    if fits { Ok(()) } else { Err(error()) }
}
