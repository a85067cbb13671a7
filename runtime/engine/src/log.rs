//! What a guest prints, kept up to a limit, and made fit to show.

/// The first and the last bytes of a guest's output: the first half of the limit, and a ring for the
/// rest, because what matters most (a panic) is said last.
#[derive(Debug)]
pub(crate) struct Log {
    limit_bytes: usize,
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    dropped_bytes: u64,
}

impl Log {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, head: Vec::new(), tail: Default::default(), dropped_bytes: 0 }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let head_room = (self.limit_bytes / 2).saturating_sub(self.head.len()).min(bytes.len());
        let (head, bytes) = bytes.split_at(head_room);
        self.head.extend_from_slice(head);
        let tail_max = self.limit_bytes - self.limit_bytes / 2;
        let (skipped, bytes) = bytes.split_at(bytes.len().saturating_sub(tail_max));
        let overflow = (self.tail.len() + bytes.len()).saturating_sub(tail_max);
        self.tail.drain(..overflow);
        self.tail.extend(bytes);
        self.dropped_bytes += (skipped.len() + overflow) as u64;
    }

    /// The log as text: control characters escaped, with a word where bytes were dropped.
    pub(crate) fn text(&self) -> String {
        let mut text = escape(&self.head);
        if self.dropped_bytes > 0 {
            text += &format!("\n[{} bytes of log dropped]\n", self.dropped_bytes);
        }
        text + &escape(&self.tail.iter().copied().collect::<Vec<_>>())
    }

    /// The last message in the log: from the last line that starts a panic, or else the last line. Looks at
    /// the last [`LAST_WORDS_BYTES`] alone.
    pub(crate) fn last_words(&self) -> Option<String> {
        let tail_bytes = self.tail.len().min(LAST_WORDS_BYTES);
        let head_bytes = self.head.len().min(LAST_WORDS_BYTES - tail_bytes);
        let mut last = self.head[self.head.len() - head_bytes..].to_vec();
        if self.dropped_bytes > 0 {
            last.push(b'\n');
        }
        last.extend(self.tail.range(self.tail.len() - tail_bytes..));
        let text = escape(&last);
        let text = text.trim_end();
        let start =
            text.rfind("panicked at ").map(|at| text[..at].rfind('\n').map_or(0, |n| n + 1));
        let start = start.unwrap_or_else(|| text.rfind('\n').map_or(0, |newline| newline + 1));
        let words = text[start..]
            .lines()
            .filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        (!words.is_empty()).then(|| excerpt(words.as_bytes(), DETAIL_BYTES_MAX))
    }
}

/// Longest text of a guest that is put into a message.
pub(crate) const DETAIL_BYTES_MAX: usize = 4096;

/// What is looked at for a guest's last words: a message of the greatest length, and the lines that runtimes
/// put behind it.
const LAST_WORDS_BYTES: usize = 2 * DETAIL_BYTES_MAX;

/// Whether a stranger's character does something to whoever shows it: control characters, those that turn
/// the direction of what stands around them (UAX #9), and those that end a line or a paragraph.
pub fn is_active(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes from a stranger as text that does nothing to a terminal: active characters but for newline and
/// tab are escaped, bad UTF-8 is replaced.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        let mut copied = 0;
        for (at, char) in text.char_indices() {
            if is_active(char) && !matches!(char, '\n' | '\t') {
                out.push_str(&text[copied..at]);
                out.extend(char.escape_default());
                copied = at + char.len_utf8();
            }
        }
        out.push_str(&text[copied..]);
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out
}

/// The same for one line of at most `bytes_max` bytes, an ellipsis where it was cut.
pub(crate) fn excerpt(bytes: &[u8], bytes_max: usize) -> String {
    let line = escape(&bytes[..bytes.len().min(bytes_max)]).replace(['\n', '\t'], " ");
    let cut = line.floor_char_boundary(bytes_max);
    let ellipsis = if bytes.len() > bytes_max || cut < line.len() { "…" } else { "" };
    format!("{}{ellipsis}", &line[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: usize, writes: &[&str]) -> String {
        let mut log = Log::new(limit);
        writes.iter().for_each(|write| log.write(write.as_bytes()));
        log.text()
    }

    #[test]
    fn first_and_last_bytes_are_kept() {
        assert_eq!(log(8, &["abcdefgh"]), "abcdefgh");
        assert_eq!(log(8, &["abcd", "efgh"]), "abcdefgh");
        assert_eq!(log(8, &["abcdefghi"]), "abcd\n[1 bytes of log dropped]\nfghi");
        assert_eq!(log(8, &["abcdef", "ghi", "jkl"]), "abcd\n[4 bytes of log dropped]\nijkl");
        assert_eq!(log(0, &["abc"]), "\n[3 bytes of log dropped]\n");
    }

    #[test]
    fn text_is_what_lossy_decoding_gives_with_active_characters_escaped() {
        let plain = |bytes: &[u8]| -> String {
            let escaped = |char: char| match char {
                '\n' | '\t' => char.to_string(),
                _ if is_active(char) => char.escape_default().to_string(),
                _ => char.to_string(),
            };
            String::from_utf8_lossy(bytes).chars().map(escaped).collect()
        };
        let pieces: [&[u8]; 9] = [
            b"plain",
            b"\n\t",
            b"\r\x1b\x7f",
            "\u{202e}ä".as_bytes(),
            b"\xff",
            b"\xe2\x80",
            b"\xf0\x9f\x98",
            "😀".as_bytes(),
            b"",
        ];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let bytes = [a, b, c].concat();
                    assert_eq!(escape(&bytes), plain(&bytes), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn strangers_cannot_move_the_cursor() {
        assert_eq!(log(64, &["a\x1b[2Jb\r"]), "a\\u{1b}[2Jb\\r");
        assert_eq!(log(64, &["a\u{202e}b\u{2029}"]), "a\\u{202e}b\\u{2029}");
        assert_eq!(excerpt(b"one\ntwo", 5), "one t…");
        assert_eq!(excerpt("ä".as_bytes(), 1), "\u{fffd}…".replace('\u{fffd}', ""));
    }

    #[test]
    fn last_words_are_the_panic() {
        let mut log = Log::new(4096);
        log.write(b"hello\n\nthread 'main' panicked at src/lib.rs:1:2:\nno room\nnote: run with `RUST_BACKTRACE=1`\n");
        let words = "thread 'main' panicked at src/lib.rs:1:2: no room";
        assert_eq!(log.last_words().as_deref(), Some(words));
        assert_eq!(Log::new(9).last_words(), None);
        // After more than is looked at, and after what was dropped.
        for limit in [64 << 10, 10 << 10] {
            let mut log = Log::new(limit);
            log.write(&[b'x'; 40_000]);
            log.write(b"\npanicked at src/lib.rs:1:2:\nno room\n");
            let words = log.last_words();
            assert_eq!(words.as_deref(), Some("panicked at src/lib.rs:1:2: no room"), "{limit}");
        }
        let mut log = Log::new(8);
        log.write(b"head");
        log.write(b"dropped tail");
        assert_eq!(log.last_words().as_deref(), Some("tail"));
    }
}
