//! Numbers as people read them.

use crate::statistics::Summary;

/// A time with three digits: `5.31 us`, `48.2 ms`.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A median with its spread: `5.31 us (5.20 .. 6.00)`.
pub(crate) fn times(summary: &Summary) -> String {
    let Summary { p10, median, p90 } = *summary;
    format!("{} ({} .. {})", time(median), time(p10), time(p90))
}

/// `12.3 MB`, in millions of bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e6 => format!("{} kB", three_digits(bytes / 1e3)),
        bytes => format!("{} MB", three_digits(bytes / 1e6)),
    }
}

/// `1,234,567`
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A table of Markdown: the first column is text, the others are numbers.
pub(crate) fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text =
        format!("| {} |\n| --- |{}\n", columns.join(" | "), " ---: |".repeat(columns.len() - 1));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_their_unit() {
        for (ns, text) in [
            (5_309.0, "5.31 us"),
            (9_996.0, "10.0 us"),
            (48_210_000.0, "48.2 ms"),
            (570_400_000.0, "570 ms"),
            (1_200_000_000.0, "1.20 s"),
        ] {
            assert_eq!(time(ns), text);
        }
        assert_eq!(bytes(14_020_000), "14.0 MB");
        assert_eq!(bytes(4_300), "4.30 kB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
    }
}
