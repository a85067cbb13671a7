//! A store that fails at every step: what was answered is there, and nothing else.

use crate::common::*;
use fuelbox_ledger::{
    faults::{Failure, Fault, Faults, Operation},
    *,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is known of a ledger that was used while the store failed.
#[derive(Default)]
struct Told {
    done: Vec<String>,
}

fn open_with(path: &Path, faults: &Faults) -> Result<Ledger, OpenError> {
    Ledger::open(path, (), Options { vfs: Some(faults.name()) })
}

/// Transfers, each in a transaction of its own, some with a reservation.
fn use_ledger(ledger: &Ledger, told: &mut Told) {
    let furnished = ledger.write(|tx| {
        tx.create_account(&account("bank"), AccountKind::Operator, 1)?;
        tx.create_account(&account("ann"), AccountKind::Caller, 1)?;
        tx.create_account(&account("shop"), AccountKind::Revenue, 1)?;
        Ok::<_, LedgerError>(tx.apply(&[direct("top-up", "bank", "ann", 100)], 1)?.len())
    });
    let mut note = |name: &str, answer: Result<usize, LedgerError>| match answer {
        Ok(_) => told.done.push(name.into()),
        // The store's, or the word of one that comes after something that was not done.
        Err(LedgerError::Store(_)) => {}
        Err(LedgerError::Rejected(Rejected::UnknownAccount { .. })) => {}
        Err(LedgerError::Rejected(Rejected::UnknownPending { .. })) => {}
        Err(error) => panic!("{name}: {error}"),
    };
    note("top-up", furnished);
    for transfer in [
        direct("d1", "ann", "shop", 10),
        hold("h1", "ann", "shop", 10, None),
        post("p1", "h1", 5),
        direct("r1", "ann", "shop", 10),
    ] {
        let name = transfer.id.to_string();
        let held = (name == "r1").then(|| ledger.reserve(&account("ann"), micros(10)));
        let answer = match held {
            Some(Err(error)) => Err(error),
            Some(Ok(held)) => ledger.write(move |tx| {
                Ok(tx.apply_reserved(&held, std::slice::from_ref(&transfer), 2)?.len())
            }),
            None => apply(ledger, &[transfer], 2).map(|done| done.len()),
        };
        note(&name, answer);
    }
}

/// What is in a ledger, by names. Everything adds up.
fn names(ledger: &Ledger) -> Vec<String> {
    let found = ledger.read(|reader| {
        let totals = reader.verify().unwrap();
        let query = "SELECT id FROM transfer ORDER BY seq";
        let mut statement = reader.connection().prepare(query).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        let names = names.collect::<Result<Vec<String>, _>>().unwrap();
        assert_eq!(names.len() as u64, totals.transfers);
        names
    });
    found.unwrap()
}

/// What a process that starts after a crash would find.
fn after_a_crash(path: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ledger.db");
    for end in ["", "-wal"] {
        let file = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        if file(path).exists() {
            fs::copy(file(path), file(&copy)).unwrap();
        }
    }
    names(&Ledger::open(&copy, (), Options::default()).unwrap())
}

/// A fault at every operation, until there are no more.
fn sweep(failure: Failure, only: Option<Operation>, lasting: bool) {
    let faults = Faults::register().unwrap();
    let mut not_reached = 0;
    for nth in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let case = format!("{failure:?} {only:?} lasting {lasting} at {nth}");
        let mut told = Told::default();
        let mut crashed = None;
        faults.set(Fault { nth, failure, only, lasting });
        match open_with(&path, &faults) {
            Ok(ledger) => {
                use_ledger(&ledger, &mut told);
                crashed = Some((after_a_crash(&path), told.done.clone()));
                // Half of them stay open and find the store well again, half are closed before.
                if nth % 2 == 0 {
                    faults.heal();
                    assert_eq!(names(&ledger), told.done, "{case}");
                    use_ledger(&ledger, &mut Told::default());
                    told = Told { done: ALL.map(String::from).into() };
                    assert_eq!(names(&ledger), told.done, "{case}");
                }
            }
            Err(OpenError::Store { .. } | OpenError::Migration { .. }) => {}
            Err(error) => panic!("{case}: {error}"),
        }
        not_reached = if faults.failed() == 0 { not_reached + 1 } else { 0 };
        faults.heal();

        let ledger = open_with(&path, &faults).unwrap();
        for (found, done) in [Some((names(&ledger), told.done)), crashed].into_iter().flatten() {
            // A disk that fails in a commit, and in all that comes after it until the process ends,
            // may keep that one commit. Where it still takes writes, not even that.
            let more = found.len() - done.len();
            assert!(more <= usize::from(lasting && only.is_none()), "{case}: {found:?}");
            assert_eq!(found[..done.len()], done, "{case}");
        }
        // And all can be done now, what is there already included.
        let mut again = Told::default();
        use_ledger(&ledger, &mut again);
        assert_eq!(again.done, ALL, "{case}");
        assert_eq!(names(&ledger), ALL, "{case}");
        if not_reached == 2 {
            assert!(nth > 10, "the faults were never reached");
            return;
        }
    }
}

/// What [`use_ledger`] does, when nothing fails.
const ALL: [&str; 5] = ["top-up", "d1", "h1", "p1", "r1"];

#[test]
fn a_disk_that_fails_once_is_not_even_noticed_or_said() {
    sweep(Failure::Io, None, false);
    sweep(Failure::Full, None, false);
    sweep(Failure::Torn, None, false);
}

#[test]
fn a_disk_that_goes_on_failing_is_said() {
    sweep(Failure::Io, None, true);
    sweep(Failure::Full, None, true);
    sweep(Failure::Torn, None, true);
}

#[test]
fn a_commit_whose_sync_failed_is_not_found_after_a_crash() {
    sweep(Failure::Io, Some(Operation::Sync), true);
}

#[test]
fn every_work_of_a_batch_is_told_and_the_ledger_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::register().unwrap();
    let ledger = open_with(&folder.path().join("ledger.db"), &faults).unwrap();
    furnish(&ledger, 100);
    faults.set(Fault { nth: 1, failure: Failure::Full, only: None, lasting: true });
    let (send, answers) = std::sync::mpsc::channel();
    for place in 0..20 {
        let send = send.clone();
        ledger.write_then(
            move |tx| tx.apply(&[direct(&format!("w{place}"), "ann", "shop", 1)], 2),
            move |answer: Result<_, LedgerError>| send.send(answer).unwrap(),
        );
    }
    drop(send);
    for answer in answers {
        let error = answer.unwrap_err();
        assert!(matches!(error, LedgerError::Store(StoreError::Full { .. })), "{error}");
        assert_eq!(error.to_string(), "ledger store is full: database or disk is full");
    }
    faults.heal();
    assert_eq!(totals(&ledger, "ann"), [0, 0, 0, 100]);
    let reservation = ledger.reserve(&account("ann"), micros(100)).unwrap();
    drop(reservation);
    apply(&ledger, &[direct("after", "ann", "shop", 100)], 2).unwrap();
}
