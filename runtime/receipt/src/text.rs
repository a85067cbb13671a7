//! Strangers' text in errors: bounded, and without characters that move a cursor.

/// The start of a text, escaped, with an ellipsis where it was cut.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// Longer than a digest or a media type: one with a slip in it is shown whole.
const CHARS_MAX: usize = 120;
