//! Base64 (RFC 4648, with padding), for the bytes that are no text in JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = bits >> (18 - 6 * index) & 63;
            text.push(if index > chunk.len() { '=' } else { char::from(ALPHABET[digit as usize]) });
        }
    }
    text
}

/// The bytes; none when the text is not what [`encode`] gives for some bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| ALPHABET.iter().position(|letter| letter == byte);
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.as_bytes().chunks(4) {
        let bits = chunk.iter().try_fold(0, |bits, byte| Some(bits << 6 | digit(byte)? as u32))?;
        let bits = bits << (6 * (4 - chunk.len()));
        let count = chunk.len().checked_sub(1).filter(|&count| count > 0)?;
        bytes.extend_from_slice(bits.to_be_bytes().get(1..1 + count)?);
    }
    // Canonical: padding is complete, and the bits that no byte has are zero.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_one_to_one() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
        for bad in ["Z", "Zg", "Zg=", "Zh==", "Zm8", "Zm9v=", "Zm9v====", "Z!==", "=", "Zg==Zg=="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
