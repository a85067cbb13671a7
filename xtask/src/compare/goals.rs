//! What fuelbox wants to reach, beside what was found.

use super::results::{BOX, Comparison, ORT, TRACT, UNMETERED, WARM, WEB};

const MS: f64 = 1e6;

/// An upper or a lower bound of a ratio.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

pub(super) struct Goal {
    pub(super) what: &'static str,
    bound: Bound,
    /// None when nothing was measured that says it.
    found: Option<f64>,
}

/// All goals, in the order of the report.
pub(super) fn goals(results: &Comparison) -> Vec<Goal> {
    let throughput = results.throughput.as_ref();
    let mlp = results.models.iter().find(|model| model.name == "mlp");
    let goal = |what, bound, found| Goal { what, bound, found };
    use Bound::{AtLeast, AtMost};
    vec![
        goal("native tract, mean over models", AtMost(1.0), results.mean_ratio(BOX, TRACT)),
        goal(
            "native tract, worst model above 1 ms",
            AtMost(1.2),
            results.worst_ratio(BOX, TRACT, MS),
        ),
        goal("onnxruntime-web, mean over models", AtMost(0.3), results.mean_ratio(BOX, WEB)),
        goal("onnxruntime, mean over models", AtMost(1.6), results.mean_ratio(BOX, ORT)),
        goal(
            "fresh / warm, worst model above 5 ms",
            AtMost(1.05),
            results.worst_ratio(BOX, WARM, 5.0 * MS),
        ),
        goal(
            "fresh / warm, mlp",
            AtMost(1.5),
            mlp.and_then(|model| Some(model.ratio(BOX, WARM)?.median)),
        ),
        goal(
            "fuel on / off, worst model above 1 ms",
            AtMost(1.05),
            results.worst_ratio(BOX, UNMETERED, MS),
        ),
        goal(
            "two workers / one, mobilenet_v2",
            AtLeast(1.85),
            throughput.map(|throughput| throughput.two_to_one.median),
        ),
        goal(
            "p99 / median of 64 jobs on two workers",
            AtMost(2.0),
            throughput.map(|throughput| throughput.p99_to_median.median),
        ),
    ]
}

impl Goal {
    pub(super) fn bound(&self) -> String {
        match self.bound {
            Bound::AtMost(bound) => format!("at most {bound:.2}"),
            Bound::AtLeast(bound) => format!("at least {bound:.2}"),
        }
    }

    pub(super) fn found(&self) -> String {
        self.found.map_or("not measured".into(), |found| format!("{found:.2}"))
    }

    pub(super) fn verdict(&self) -> &'static str {
        match (self.found, self.bound) {
            (None, _) => "",
            (Some(found), Bound::AtMost(bound)) if found <= bound => "reached",
            (Some(found), Bound::AtLeast(bound)) if found >= bound => "reached",
            (Some(_), _) => "**missed**",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_count_as_reached() {
        let verdict = |bound, found| Goal { what: "", bound, found }.verdict();
        assert_eq!(verdict(Bound::AtMost(1.0), Some(1.0)), "reached");
        assert_eq!(verdict(Bound::AtMost(1.0), Some(1.001)), "**missed**");
        assert_eq!(verdict(Bound::AtLeast(1.85), Some(1.85)), "reached");
        assert_eq!(verdict(Bound::AtLeast(1.85), Some(1.84)), "**missed**");
        assert_eq!(verdict(Bound::AtLeast(1.85), None), "");
    }
}
