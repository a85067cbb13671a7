//! Text of strangers, made fit for a terminal.

use fuelbox_engine::is_active;

/// The text on one line, without characters that do something to a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\t' => out.push(' '),
            _ if is_active(char) => out.extend(char.escape_default()),
            _ => out.push(char),
        }
    }
    out
}

/// The same, of at most `chars_max` characters.
pub(crate) fn excerpt(text: &str, chars_max: usize) -> String {
    let mut out = escaped(text);
    if let Some((cut, _)) = out.char_indices().nth(chars_max) {
        out.truncate(cut);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_move_the_cursor() {
        assert_eq!(escaped("a\x1b[2Jb\r\n\tä"), "a\\u{1b}[2Jb\\r\\n ä");
        assert_eq!(excerpt("äöü", 3), "äöü");
        assert_eq!(excerpt("äöüß", 3), "äöü…");
    }
}
