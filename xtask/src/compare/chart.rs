//! The chart: for each model a bar per peer, its time by that of native tract. The scale is
//! logarithmic, so that half and double are as far from one.

use super::results::{BOX, Comparison, ModelResult, ORT, TRACT, WEB};
use super::units::time;
use std::fmt::Write as _;

/// What bars stand for, with the classes that colour them.
const SERIES: [(&str, &str); 3] = [(BOX, "box"), (ORT, "ort"), (WEB, "web")];

const WIDTH: f64 = 860.0;
/// Where title and legend start.
const START: f64 = 24.0;
/// Room for the names of models.
const NAMES: f64 = 120.0;
/// Where the scale starts: a bar's label has room before it, and another one after its end.
const LEFT: f64 = NAMES + 60.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 96.0;
const BAR: f64 = 15.0;
const GAP: f64 = 16.0;
/// For the scale below the bars.
const BOTTOM: f64 = 44.0;

/// Colours on light and on dark ground. The middle ones are of Okabe and Ito's palette, which people
/// with colour blindness tell apart.
const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .small { font-size: 12px; fill: #57606a }
  .ground { fill: #ffffff }
  .label { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
  .end { text-anchor: end } .middle { text-anchor: middle }
  .grid { stroke: #d0d7de; stroke-width: 1 } .one { stroke: #24292f; stroke-width: 1.5 }
  .box { fill: #d55e00 } .ort { fill: #0072b2 } .web { fill: #009e73 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b3 }
    .ground { fill: #0d1117 } .label { stroke: #0d1117 }
    .grid { stroke: #3d444d } .one { stroke: #e6edf3 }
    .box { fill: #f0883e } .ort { fill: #58a6ff } .web { fill: #3fb98f }
  }
";

/// The chart as SVG.
pub(super) fn svg(results: &Comparison) -> String {
    let group = BAR * SERIES.len() as f64 + GAP;
    let bars = group * results.models.len() as f64;
    let height = TOP + bars + BOTTOM;
    let ratios: Vec<_> = results
        .models
        .iter()
        .flat_map(|model| SERIES.map(|(peer, _)| ratio(model, peer)))
        .flatten()
        .collect();
    let scale = Scale::around(&ratios);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Time of a run by that of native tract\">\n<style>{STYLE}</style>\n"
    );
    let mut line = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    line(format!(r#"<rect class="ground" width="{WIDTH}" height="{height}"/>"#));
    line(text(START, 28.0, "title", "Time of a run by that of native tract, one thread"));
    let about = "bars left of the line: faster than native tract; right of it: slower";
    line(text(START, 48.0, "small", about));
    let mut x = START;
    for (name, class) in SERIES {
        let label = if name == BOX { "fuelbox (fresh sandbox, fuel on)" } else { name };
        line(format!(r#"<rect class="{class}" x="{x}" y="60" width="12" height="12" rx="2"/>"#));
        line(text(x + 18.0, 71.0, "", label));
        x += 40.0 + 7.0 * label.len() as f64;
    }
    for power in scale.low..=scale.high {
        let value = 2f64.powi(power);
        let x = scale.x(value);
        let class = if power == 0 { "one" } else { "grid" };
        let (y1, y2) = (TOP - 8.0, TOP + bars);
        line(format!(r#"<line class="{class}" x1="{x:.1}" y1="{y1}" x2="{x:.1}" y2="{y2}"/>"#));
        line(text(x, TOP + bars + 18.0, "small middle", &format!("{value}x")));
    }
    for (index, model) in results.models.iter().enumerate() {
        let y = TOP + group * index as f64;
        let tract =
            model.peers.get(TRACT).map_or(String::new(), |timing| time(timing.run_ns.median));
        line(text(NAMES, y + 20.0, "end", &model.name));
        line(text(NAMES, y + 36.0, "small end", &format!("tract {tract}")));
        for (series, (peer, class)) in SERIES.into_iter().enumerate() {
            let Some(ratio) = ratio(model, peer) else {
                continue;
            };
            let y = y + BAR * series as f64;
            let (one, end) = (scale.x(1.0), scale.x(ratio));
            let (left, width) = (one.min(end), (end - one).abs().max(1.0));
            let height = BAR - 2.0;
            line(format!(
                r#"<rect class="{class}" x="{left:.1}" y="{y}" width="{width:.1}" height="{height}"/>"#
            ));
            let label = format!("{ratio:.2}x");
            line(if ratio < 1.0 {
                text(left - 6.0, y + 11.0, "label end", &label)
            } else {
                text(left + width + 6.0, y + 11.0, "label", &label)
            });
        }
    }
    svg + "</svg>\n"
}

fn ratio(model: &ModelResult, peer: &str) -> Option<f64> {
    Some(model.ratio(peer, TRACT)?.median).filter(|ratio| ratio.is_finite() && *ratio > 0.0)
}

fn text(x: f64, y: f64, class: &str, text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '<' => escaped += "&lt;",
            '&' => escaped += "&amp;",
            other => escaped.push(other),
        }
    }
    let mut element = format!(r#"<text x="{x:.1}" y="{y:.1}""#);
    if !class.is_empty() {
        let _ = write!(element, r#" class="{class}""#);
    }
    format!("{element}>{escaped}</text>")
}

/// A logarithmic scale between two powers of two.
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    /// Has room for all ratios and for one.
    fn around(ratios: &[f64]) -> Self {
        let low = ratios.iter().copied().fold(1.0, f64::min).log2().floor() as i32;
        let high = ratios.iter().copied().fold(1.0, f64::max).log2().ceil() as i32;
        Self { low: low.min(-1), high: high.max(1) }
    }

    fn x(&self, ratio: f64) -> f64 {
        let part = (ratio.log2() - f64::from(self.low)) / f64::from(self.high - self.low);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_holds_all_ratios_and_one() {
        let scale = Scale::around(&[0.3, 5.0]);
        assert_eq!((scale.low, scale.high), (-2, 3));
        assert_eq!(scale.x(0.25), LEFT);
        assert_eq!(scale.x(8.0), WIDTH - RIGHT);
        assert!((scale.x(2.0) - scale.x(1.0) - (scale.x(1.0) - scale.x(0.5))).abs() < 1e-9);
        let scale = Scale::around(&[]);
        assert_eq!((scale.low, scale.high), (-1, 1));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(text(1.0, 2.0, "", "a<b&c"), r#"<text x="1.0" y="2.0">a&lt;b&amp;c</text>"#);
    }
}
