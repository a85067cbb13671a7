//! Transfers that are posted in a second: medians over rounds, with the lowest and the highest, and the
//! goals beside them. Nothing fails: what a disk takes for a sync differs from host to host.
//!
//! `cargo bench -p fuelbox-ledger`. The ledger is in `TMPDIR`: choose a disk that is one.

#![allow(clippy::unwrap_used, missing_docs)] // a bench may stop

use fuelbox_ledger::*;
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Rounds of each measurement; the first of all is not counted.
const ROUNDS: usize = 7;
/// How long a round runs: hundreds of commits.
const ROUND: Duration = Duration::from_millis(1_500);

/// What a caller does over and over.
#[derive(Clone, Copy)]
enum Way {
    Direct,
    HoldAndPost,
    ReserveAndApply,
}

impl Way {
    const ALL: [Self; 3] = [Self::Direct, Self::HoldAndPost, Self::ReserveAndApply];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HoldAndPost => "hold, then post",
            Self::ReserveAndApply => "reserve, then apply",
        }
    }

    /// Posted transfers a second.
    fn goal(self, callers: usize) -> Option<u64> {
        match (self, callers) {
            (Self::Direct | Self::ReserveAndApply, 64) => Some(20_000),
            (Self::HoldAndPost, 64) => Some(10_000),
            _ => None,
        }
    }
}

fn main() {
    // `cargo bench -- NAME` runs those whose name contains it; cargo adds `--bench`.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    println!("posted transfers a second: median (lowest to highest), {ROUNDS} rounds");
    for callers in [1, 64] {
        for way in Way::ALL {
            if !wanted(&format!("{callers} callers {}", way.name())) {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger.db");
            let ledger = Ledger::open(&path, (), Options::default()).unwrap();
            furnish(&ledger, callers);
            let mut rates: Vec<_> =
                (0..=ROUNDS).map(|round| rate(&ledger, way, callers, round)).skip(1).collect();
            rates.sort_unstable();
            let goal = way.goal(callers).map_or(String::new(), |goal| format!("   goal {goal}"));
            println!(
                "{callers:>3} callers  {:<20} {:>7} ({} to {}){goal}",
                way.name(),
                rates[ROUNDS / 2],
                rates[0],
                rates[ROUNDS - 1],
            );
            let totals = ledger.read(Reader::verify).unwrap().unwrap();
            let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
            let database = std::fs::metadata(&path).unwrap().len();
            println!(
                "             {} transfers, {} bytes each, log {} MiB, this process {} MiB",
                totals.transfers,
                database / totals.transfers,
                log >> 20,
                resident_mib(),
            );
        }
    }
}

fn caller(number: usize) -> AccountId {
    format!("caller-{number}").parse().unwrap()
}

fn furnish(ledger: &Ledger, callers: usize) {
    ledger
        .write(move |tx| {
            tx.create_account(&"bank".parse().unwrap(), AccountKind::Operator, 1)?;
            tx.create_account(&"shop".parse().unwrap(), AccountKind::Revenue, 1)?;
            for number in 0..callers {
                tx.create_account(&caller(number), AccountKind::Caller, 1)?;
                let action = Action::Direct {
                    debit: "bank".parse().unwrap(),
                    credit: caller(number),
                    amount: "1000000".parse().unwrap(),
                };
                let id = format!("top-up-{number}").parse().unwrap();
                tx.apply(&[Transfer { id, purpose: Purpose::TopUp, action }], 1)?;
            }
            Ok::<_, LedgerError>(())
        })
        .unwrap();
}

/// One round.
fn rate(ledger: &Ledger, way: Way, callers: usize, round: usize) -> u64 {
    let start = Instant::now();
    let posted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|number| scope.spawn(move || call(ledger, way, number, round, start + ROUND)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    (posted as f64 / start.elapsed().as_secs_f64()) as u64
}

/// One caller: posts until the time is over. How often.
fn call(ledger: &Ledger, way: Way, number: usize, round: usize, end: Instant) -> u64 {
    let (debit, credit): (_, AccountId) = (caller(number), "shop".parse().unwrap());
    let amount = Credits::from_micros(10).unwrap();
    let mut posted = 0;
    while Instant::now() < end {
        // Ids as clients make them: in no order.
        let id = |what: &str| -> TransferId {
            let mixed = (posted + 1u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64) << 20;
            format!("{mixed:016x}-{round}-{number}-{posted}:{what}").parse().unwrap()
        };
        let direct = Transfer {
            id: id("charge"),
            purpose: Purpose::Charge,
            action: Action::Direct { debit: debit.clone(), credit: credit.clone(), amount },
        };
        match way {
            Way::Direct => {
                let transfers = [direct];
                ledger.write(move |tx| tx.apply(&transfers, 2)).unwrap();
            }
            Way::HoldAndPost => {
                let action = Action::Pending {
                    debit: debit.clone(),
                    credit: credit.clone(),
                    amount,
                    expires_unix_ms: Some(1_000_000),
                };
                let hold = [Transfer { id: id("hold"), purpose: Purpose::Hold, action }];
                ledger.write(move |tx| tx.apply(&hold, 2)).unwrap();
                let action = Action::Post { pending: id("hold"), amount };
                let post = [Transfer { id: id("charge"), purpose: Purpose::Charge, action }];
                ledger.write(move |tx| tx.apply(&post, 3)).unwrap();
            }
            Way::ReserveAndApply => {
                let reservation = ledger.reserve(&debit, amount).unwrap();
                let transfers = [direct];
                ledger.write(move |tx| tx.apply_reserved(&reservation, &transfers, 2)).unwrap();
            }
        }
        posted += 1;
    }
    posted
}

/// Memory of this process.
fn resident_mib() -> u64 {
    let id = std::process::id().to_string();
    let said = Command::new("ps").args(["-o", "rss=", "-p", &id]).output().unwrap();
    String::from_utf8_lossy(&said.stdout).trim().parse::<u64>().unwrap_or(0) >> 10
}
