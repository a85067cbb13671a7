//! Jobs that were settled, by model and by how they ended: also those that nobody waited for.

use super::{
    exposition::{Exposition, Kind},
    histogram::Histogram,
};
use fuelbox_jobs::Settled;
use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Models that have lines of their own: each costs ten, and the store may have any number.
pub(super) const MODELS_MAX: usize = 1_000;

/// The model, and the version, of all others together. No package is called so with this version.
pub(super) const OTHER: &str = "other";

/// How jobs end. The last is what a later engine may say.
const VERDICTS: [&str; 7] =
    ["completed", "guest_error", "trap", "out_of_fuel", "bad_output", "cancelled", OTHER];

/// A verdict, as one of the names that there are.
pub(super) fn verdict(name: &str) -> &'static str {
    VERDICTS[place(name)]
}

fn place(name: &str) -> usize {
    VERDICTS.iter().position(|known| *known == name).unwrap_or(VERDICTS.len() - 1)
}

/// The jobs of one model.
#[derive(Default)]
struct ModelJobs {
    verdicts: [AtomicU64; VERDICTS.len()],
    fuel: AtomicU64,
    credits_micro: AtomicU64,
}

/// The jobs of all models.
#[derive(Default)]
pub(crate) struct Jobs {
    models: RwLock<Models>,
    waited: Histogram,
    ran: Histogram,
}

#[derive(Default)]
struct Models {
    /// By name, then version.
    known: BTreeMap<String, BTreeMap<String, ModelJobs>>,
    count: usize,
    others: ModelJobs,
}

impl Models {
    fn get(&self, name: &str, version: &str) -> Option<&ModelJobs> {
        let known = self.known.get(name).and_then(|versions| versions.get(version));
        known.or_else(|| (self.count >= MODELS_MAX).then_some(&self.others))
    }
}

impl Jobs {
    /// Counts a job. Called by the thread that commits jobs.
    pub(crate) fn settled(&self, job: &Settled<'_>) {
        self.waited.add(job.times.waited);
        self.ran.add(job.times.ran);
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models.get(job.name, job.version) {
            return model.add(job);
        }
        drop(models);
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let versions = models.known.entry(job.name.to_owned()).or_default();
        versions.entry(job.version.to_owned()).or_default().add(job);
        models.count = models.known.values().map(BTreeMap::len).sum();
    }

    /// Writes what was counted.
    pub(super) fn write(&self, text: &mut Exposition) {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let named = models.known.iter().flat_map(|(name, versions)| {
            versions.iter().map(move |(version, jobs)| (name.as_str(), version.as_str(), jobs))
        });
        let others = (models.count >= MODELS_MAX).then_some((OTHER, OTHER, &models.others));
        let all: Vec<_> = named.chain(others).collect();
        let mut family =
            text.family("fuelbox_jobs_total", Kind::Counter, "Jobs that ran and were settled.");
        for (model, version, jobs) in &all {
            for (verdict, count) in VERDICTS.iter().zip(&jobs.verdicts) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [("model", *model), ("version", version), ("verdict", verdict)];
                    family.sample(&labels, count);
                }
            }
        }
        let mut family =
            text.family("fuelbox_fuel_total", Kind::Counter, "Fuel of jobs that were settled.");
        for (model, version, jobs) in &all {
            let labels = [("model", *model), ("version", *version)];
            family.sample(&labels, jobs.fuel.load(Ordering::Relaxed));
        }
        let mut family = text.family(
            "fuelbox_credits_total",
            Kind::Counter,
            "Credits that callers paid for jobs, fees included.",
        );
        for (model, version, jobs) in &all {
            let credits = jobs.credits_micro.load(Ordering::Relaxed) as f64 / 1e6;
            family.sample(&[("model", model), ("version", version)], credits);
        }
        let help = "Time of jobs from admission to a worker.";
        text.family("fuelbox_job_wait_seconds", Kind::Histogram, help).histogram(&[], &self.waited);
        let help = "Time of jobs in the box.";
        text.family("fuelbox_job_run_seconds", Kind::Histogram, help).histogram(&[], &self.ran);
    }
}

impl ModelJobs {
    fn add(&self, job: &Settled<'_>) {
        self.verdicts[place(job.verdict)].fetch_add(1, Ordering::Relaxed);
        self.fuel.fetch_add(job.fuel, Ordering::Relaxed);
        self.credits_micro.fetch_add(job.credits.micros(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_jobs::Times;
    use fuelbox_ledger::Credits;
    use std::time::Duration;

    fn settle(jobs: &Jobs, name: &str, version: &str, verdict: &'static str) {
        let times = Times { waited: Duration::from_millis(1), ran: Duration::from_millis(2) };
        let credits = Credits::from_micros(1_500_000).expect("an amount");
        jobs.settled(&Settled { name, version, verdict, fuel: 7, credits, times });
    }

    fn text(jobs: &Jobs) -> String {
        let mut text = Exposition::default();
        jobs.write(&mut text);
        text.finish()
    }

    #[test]
    fn jobs_are_counted_by_model_and_verdict() {
        let jobs = Jobs::default();
        settle(&jobs, "a", "1", "completed");
        settle(&jobs, "a", "1", "completed");
        settle(&jobs, "a", "2", "trap");
        settle(&jobs, "b", "1", "a verdict of tomorrow");
        let text = text(&jobs);
        for line in [
            "fuelbox_jobs_total{model=\"a\",version=\"1\",verdict=\"completed\"} 2\n",
            "fuelbox_jobs_total{model=\"a\",version=\"2\",verdict=\"trap\"} 1\n",
            "fuelbox_jobs_total{model=\"b\",version=\"1\",verdict=\"other\"} 1\n",
            "fuelbox_fuel_total{model=\"a\",version=\"1\"} 14\n",
            "fuelbox_credits_total{model=\"a\",version=\"2\"} 1.5\n",
            "fuelbox_job_wait_seconds_count 4\n",
            "fuelbox_job_run_seconds_sum 0.008\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }

    #[test]
    fn models_beyond_the_limit_share_one_line() {
        let jobs = Jobs::default();
        for number in 0..MODELS_MAX + 5 {
            settle(&jobs, &format!("m{number}"), "1", "completed");
        }
        settle(&jobs, "m0", "1", "completed");
        let text = text(&jobs);
        let lines = text.lines().filter(|line| line.starts_with("fuelbox_jobs_total{")).count();
        assert_eq!(lines, MODELS_MAX + 1);
        let other =
            "fuelbox_jobs_total{model=\"other\",version=\"other\",verdict=\"completed\"} 5\n";
        assert!(text.contains(other), "{text}");
        assert!(text.contains("{model=\"m0\",version=\"1\",verdict=\"completed\"} 2\n"));
    }
}
