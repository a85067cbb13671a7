//! Prices: fuel and memory become micro-credits, by a schedule that has a version.
//!
//! The one place that knows both units. Everything is whole numbers. A price is computed exactly, as a
//! fraction, and rounded up once at its end; the publisher's share is rounded down, and what that
//! leaves is the host's. So `run` is never below the exact price and less than one micro-credit above
//! it, and share and rest add up to it.

use fuelbox_digest::Digest;
use fuelbox_ledger::Credits;
use serde::{Deserialize, Serialize};

/// The only value of [`Schedule::format`].
const FORMAT: &str = "fuelbox-prices/1";

/// Fuel is priced by the million.
const MILLION: u128 = 1_000_000;

/// Memory is priced in steps of Wasm's page.
const PAGE_BYTES: u64 = 64 << 10;

/// The memory term is quoted for 1,024 pages, 64 MiB, so that it is a number that people can read.
const PAGES_QUOTED: u128 = 1_024;

/// What things cost. Prices are in micro-credits, a millionth of a credit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// `fuelbox-prices/1`.
    pub format: String,
    /// Raised with every change: two schedules of one version are one schedule.
    pub version: u64,
    /// For a million fuel of a run.
    pub run_micro_per_mfuel: u64,
    /// For a million fuel of a run while it holds 64 MiB; in proportion to the pages at the peak.
    pub memory_micro_per_mfuel_64mib: u64,
    /// For a million fuel of a load.
    pub load_micro_per_mfuel: u64,
    /// Least that a run costs, whatever its end.
    pub minimum_micro: u64,
    /// The publisher's part of a run that completed, in millionths.
    pub publisher_share_ppm: u64,
}

/// A schedule and its digest, which is asked for with every job.
#[derive(Clone, Debug)]
pub(crate) struct PriceList {
    pub(crate) schedule: Schedule,
    pub(crate) digest: Digest,
}

impl From<Schedule> for PriceList {
    fn from(schedule: Schedule) -> Self {
        let digest = schedule.digest();
        Self { schedule, digest }
    }
}

/// Why there is no price, or no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PriceError {
    /// No amount of money that can be stored.
    #[error("price of {fuel} fuel overflows the largest amount, {} credits", Credits::MAX)]
    Overflow { fuel: u64 },
    /// Not JSON, or not these fields.
    #[error("price schedule: {0}")]
    Json(String),
    /// Of a later version, or of something else.
    #[error("price schedule: format '{found}', allowed is '{FORMAT}'")]
    Format { found: String },
    /// A share of more than everything.
    #[error("price schedule: publisher_share_ppm is {found}, allowed are 0 to 1000000")]
    Share { found: u64 },
    /// The version was there before, with other prices.
    #[error(
        "price schedule: version {version} was {known} before and is {found} now; a change of prices is a new version"
    )]
    Changed { version: u64, known: Digest, found: Digest },
}

/// What a job costs whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// The run.
    pub run: Credits,
    /// The publisher's part of it.
    pub publisher: Credits,
    /// A load that this job caused, beside the run: its fuel and its price.
    pub load: Option<(u64, Credits)>,
}

impl Bill {
    /// All that the caller pays.
    ///
    /// # Errors
    /// When it is no amount that can be stored.
    pub fn total(&self) -> Result<Credits, PriceError> {
        let (fuel, load) = self.load.unwrap_or((0, Credits::ZERO));
        self.run.checked_add(load).ok_or(PriceError::Overflow { fuel })
    }
}

impl Default for Schedule {
    /// 100 micro-credits for a million fuel, a twentieth of that for each 64 MiB (what memory does to time
    /// is in the fuel already), loads at a quarter, as a guest's own work takes less time than its fuel
    /// says where nobody tries to make it slow, 10 micro-credits at least, and 70% for the publisher. To
    /// be set by whoever sells.
    fn default() -> Self {
        Self {
            format: FORMAT.into(),
            version: 2,
            run_micro_per_mfuel: 100,
            memory_micro_per_mfuel_64mib: 5,
            load_micro_per_mfuel: 25,
            minimum_micro: 10,
            publisher_share_ppm: 700_000,
        }
    }
}

impl Schedule {
    /// Reads a schedule file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PriceError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }
        let json = |error: serde_json::Error| PriceError::Json(error.to_string());
        let Head { format } = serde_json::from_slice(bytes).map_err(json)?;
        if format != FORMAT {
            let found = format.escape_debug().take(80).collect();
            return Err(PriceError::Format { found });
        }
        let schedule: Self = serde_json::from_slice(bytes).map_err(json)?;
        if u128::from(schedule.publisher_share_ppm) > MILLION {
            return Err(PriceError::Share { found: schedule.publisher_share_ppm });
        }
        Ok(schedule)
    }

    /// The schedule as a file for people.
    pub fn to_file(&self) -> Vec<u8> {
        // Numbers and one string: this cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The canonical bytes: JSON without white space, keys sorted.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_value(self).and_then(|value| serde_json::to_vec(&value)).unwrap_or_default()
    }

    /// The schedule's name in receipts: the digest of its canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The price of a run: `fuel * (run + memory * pages / 1024) / 10^6`, rounded up, and the minimum
    /// at least.
    ///
    /// # Errors
    /// When it is no amount that can be stored.
    pub fn run(&self, fuel: u64, memory_bytes_peak: u64) -> Result<Credits, PriceError> {
        let overflow = PriceError::Overflow { fuel };
        let pages = u128::from(memory_bytes_peak.div_ceil(PAGE_BYTES));
        // At most 2^64 * 2^10 + 2^64 * 2^48 < 2^113.
        let rate = u128::from(self.run_micro_per_mfuel) * PAGES_QUOTED
            + u128::from(self.memory_micro_per_mfuel_64mib) * pages;
        let exact = u128::from(fuel).checked_mul(rate).ok_or(overflow)?;
        let micros = exact.div_ceil(MILLION * PAGES_QUOTED).max(self.minimum_micro.into());
        credits(micros, fuel)
    }

    /// The price of a load: `fuel * load / 10^6`, rounded up.
    ///
    /// # Errors
    /// When it is no amount that can be stored.
    pub fn load(&self, fuel: u64) -> Result<Credits, PriceError> {
        let exact = u128::from(fuel) * u128::from(self.load_micro_per_mfuel);
        credits(exact.div_ceil(MILLION), fuel)
    }

    /// The bill of a job. The publisher has a share of runs that completed, and of no others: a model
    /// that fails earns nothing by it.
    ///
    /// # Errors
    /// When an amount cannot be stored.
    pub fn bill(
        &self,
        completed: bool,
        fuel: u64,
        memory_bytes_peak: u64,
        load_fuel: Option<u64>,
    ) -> Result<Bill, PriceError> {
        let run = self.run(fuel, memory_bytes_peak)?;
        let ppm = if completed { self.publisher_share_ppm } else { 0 };
        // A part of `run`, so it can be stored.
        let share = u128::from(run.micros()) * u128::from(ppm) / MILLION;
        let publisher = credits(share, fuel)?;
        let load = load_fuel.map(|fuel| Ok((fuel, self.load(fuel)?))).transpose()?;
        let bill = Bill { run, publisher, load };
        bill.total()?;
        Ok(bill)
    }
}

fn credits(micros: u128, fuel: u64) -> Result<Credits, PriceError> {
    let micros = u64::try_from(micros).ok();
    micros.and_then(Credits::from_micros).ok_or(PriceError::Overflow { fuel })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            memory_micro_per_mfuel_64mib: 25,
            load_micro_per_mfuel: 100,
            minimum_micro: 0,
            ..Schedule::default()
        }
    }

    fn micros(credits: Result<Credits, PriceError>) -> Result<u64, String> {
        credits.map(Credits::micros).map_err(|error| error.to_string())
    }

    #[test]
    fn prices_are_exact_and_rounded_up_once() {
        const MIB_64: u64 = 64 << 20;
        for (fuel, memory_bytes, expected) in [
            (0, 0, 0),
            (1, 0, 1),
            (10_000, 0, 1),
            (10_001, 0, 2),
            (1_000_000, 0, 100),
            (1_000_000, 1, 101), // one page: 25/1024, rounded up
            (1_000_000, MIB_64, 125),
            (1_000_000, MIB_64 + 1, 126),
            (1_000_000, 4 << 30, 100 + 25 * 64),
            // Rounded apart, the two terms would come to 2.
            (5_000, 128 << 20, 1),
        ] {
            assert_eq!(micros(schedule().run(fuel, memory_bytes)), Ok(expected), "{fuel}");
        }
        assert_eq!(micros(schedule().load(10_001)), Ok(2));
        assert_eq!(micros(Schedule::default().run(1, 0)), Ok(10));
        assert_eq!(micros(Schedule::default().run(100_001, 0)), Ok(11));
    }

    #[test]
    fn overflow_is_an_error_at_its_edge() {
        let dear =
            |rate| Schedule { run_micro_per_mfuel: rate, load_micro_per_mfuel: rate, ..schedule() };
        let most = i64::MAX.cast_unsigned();
        assert_eq!(micros(dear(1_000_000).run(most, 0)), Ok(most));
        assert_eq!(micros(dear(1_000_000).load(most)), Ok(most));
        let refused = Err(format!(
            "price of {} fuel overflows the largest amount, 9223372036854.775807 credits",
            most + 1
        ));
        assert_eq!(micros(dear(1_000_000).run(most + 1, 0)), refused);
        assert_eq!(micros(dear(1_000_000).load(most + 1)), refused);
        let everything = Schedule { memory_micro_per_mfuel_64mib: u64::MAX, ..dear(u64::MAX) };
        assert!(everything.run(u64::MAX, u64::MAX).is_err());
        assert!(everything.load(u64::MAX).is_err());
        let both = dear(1_000_000).bill(true, most, 0, Some(1));
        assert!(matches!(both, Err(PriceError::Overflow { .. })), "{both:?}");
    }

    #[test]
    fn share_and_rest_add_up_and_failures_have_no_share() {
        for run in 0..500 {
            let bill = schedule().bill(true, run * 10_000, 0, None).expect("a bill");
            assert_eq!(bill.run.micros(), run);
            assert_eq!(bill.publisher.micros(), run * 7 / 10);
            assert_eq!(bill.total(), Ok(bill.run));
        }
        let bill = schedule().bill(false, 1_000_000, 0, Some(2_000_000)).expect("a bill");
        assert_eq!(bill.publisher, Credits::ZERO);
        assert_eq!(bill.total().map(Credits::micros), Ok(300));
    }

    #[test]
    fn schedules_are_read_strictly_and_have_one_digest() {
        let schedule = Schedule::default();
        assert_eq!(Schedule::parse(&schedule.to_file()), Ok(schedule.clone()));
        assert_eq!(Schedule::parse(&schedule.to_bytes()), Ok(schedule.clone()));
        let text = String::from_utf8(schedule.to_file()).expect("text");
        for (from, to, expected) in [
            ("prices/1", "prices/2", "format 'fuelbox-prices/2', allowed is 'fuelbox-prices/1'"),
            ("700000", "1000001", "publisher_share_ppm is 1000001, allowed are 0 to 1000000"),
            ("\"version\": 2", "\"version\": -1", "invalid value: integer `-1`, expected u64"),
            ("minimum_micro", "minimum", "unknown field `minimum`"),
        ] {
            let error = Schedule::parse(text.replace(from, to).as_bytes()).expect_err(to);
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_ne!(Schedule { version: 3, ..schedule.clone() }.digest(), schedule.digest());
    }
}
