//! Text of strangers in errors: on one line, without characters that move a cursor, and not long.

/// Longest name or value that an error repeats.
const CHARS_MAX: usize = 80;

/// The start of the text, escaped; an ellipsis where it was cut.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == CHARS_MAX {
            out.push('…');
            break;
        }
        match fuelbox_engine::is_active(char) {
            true => out.extend(char.escape_default()),
            false => out.push(char),
        }
    }
    out
}

/// `'a', 'b'`, cut after eight.
pub(crate) fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let count = names.len();
    let mut quoted: Vec<_> = names.take(SHOWN).map(|name| format!("'{}'", excerpt(name))).collect();
    match count {
        0 => return "none".into(),
        1..=SHOWN => {}
        _ => quoted.push(format!("and {} more", count - SHOWN)),
    }
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_are_escaped_and_cut() {
        assert_eq!(excerpt("a\x1b[2J\nä"), "a\\u{1b}[2J\\nä");
        assert_eq!(excerpt(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(excerpt(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
        assert_eq!(list([].into_iter()), "none");
        assert_eq!(list(["a", "b"].into_iter()), "'a', 'b'");
        assert!(list(["a"; 10].into_iter()).ends_with("'a', and 2 more"));
    }
}
