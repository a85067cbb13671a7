//! The exposition: families of metrics become the text that Prometheus reads.
//!
//! Text format 0.0.4, not OpenMetrics: there the name of a counter must end in `_total`, and the names
//! that dashboards for Triton look for do not.

use super::histogram::Histogram;
use std::fmt::{Display, Write as _};

/// What the text is, in an answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of numbers a family has.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Grows until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// The text as far as it is written.
#[derive(Default)]
pub(super) struct Exposition {
    text: String,
}

/// A family whose samples are being written. Each family is opened once.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Opens a family. `help` is one line.
    pub(super) fn family(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
    ) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.text, name }
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Writes a histogram, in seconds.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.buckets() {
            below += count;
            let bound = bound.map_or("+Inf".to_owned(), |seconds| seconds.to_string());
            self.line("_bucket", labels, Some(&bound), below);
        }
        self.line("_sum", labels, None, histogram.sum_seconds());
        // Of the same reading: what is counted meanwhile is in the next scrape.
        self.line("_count", labels, None, below);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let labels = labels.iter().copied().chain(le.map(|le| ("le", le)));
        for (index, (name, value)) in labels.enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", Escaped(value));
        }
        let close = if self.text.ends_with('"') { "}" } else { "" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

/// A label's value between quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for char in self.0.chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_are_text() {
        let mut text = Exposition::default();
        text.gauge("a", "A thing.", 1.5);
        let mut family = text.family("b_total", Kind::Counter, "Things.");
        family.sample(&[("x", "1"), ("y", "a\"b\\c\nd")], 2);
        let histogram = Histogram::default();
        for micros in [50, 100, 101, 10_000_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        text.family("c_seconds", Kind::Histogram, "Times.").histogram(&[("z", "")], &histogram);
        let text = text.finish();
        let start = "# HELP a A thing.\n# TYPE a gauge\na 1.5\n# HELP b_total Things.\n\
            # TYPE b_total counter\nb_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 2\n\
            # HELP c_seconds Times.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{z=\"\",le=\"0.0001\"} 2\nc_seconds_bucket{z=\"\",le=\"0.00025\"} 3\n";
        assert_eq!(&text[..start.len()], start);
        let end = "c_seconds_bucket{z=\"\",le=\"60\"} 3\nc_seconds_bucket{z=\"\",le=\"+Inf\"} 4\n\
            c_seconds_sum{z=\"\"} 10000.000251\nc_seconds_count{z=\"\"} 4\n";
        assert!(text.ends_with(end), "{text}");
    }
}
