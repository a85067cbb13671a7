//! Many at once: works that share a transaction, and threads that share an account.

use crate::common::*;
use fuelbox_ledger::*;
use std::{
    panic::resume_unwind,
    sync::{Arc, Barrier, Condvar, Mutex, mpsc},
};

type Answer = Result<u64, LedgerError>;
type Work = Box<dyn FnMut(&mut Tx<'_, ()>) -> Answer + Send>;

/// Works that are all there before the first of them is run; their answers, in their order.
fn together(ledger: &Ledger, works: Vec<Work>) -> Vec<Answer> {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let wait = gate.clone();
    let work = move |_: &mut Tx<'_, ()>| {
        drop(wait.1.wait_while(wait.0.lock().unwrap(), |open| !*open).unwrap());
        Ok::<_, LedgerError>(())
    };
    ledger.write_then(work, |_| {});
    let (send, answers) = mpsc::channel();
    let count = works.len();
    for (place, work) in works.into_iter().enumerate() {
        let send = send.clone();
        ledger.write_then(work, move |answer| send.send((place, answer)).unwrap());
    }
    drop(send);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let mut answers: Vec<_> = answers.iter().collect();
    assert_eq!(answers.len(), count);
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[test]
fn a_bad_work_does_not_hurt_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let runs = Arc::new(Mutex::new([0; 5]));
    let works: Vec<Work> = (0..5)
        .map(|place| -> Work {
            let runs = runs.clone();
            Box::new(move |tx| {
                runs.lock().unwrap()[place] += 1;
                let done = tx.apply(&[direct(&format!("w{place}"), "ann", "shop", 10)], 2)?;
                match place {
                    // Fails after it has written.
                    1 => Err(Rejected::UnknownAccount { account: account("me") }.into()),
                    2 => resume_unwind(Box::new("on\npurpose")),
                    // Does not say that the store failed.
                    3 => {
                        let _ = tx.connection().execute_batch("ROLLBACK");
                        Ok(0)
                    }
                    _ => Ok(done[0].seq),
                }
            })
        })
        .collect();
    let answers = together(&ledger, works);
    // The two top-ups were first.
    assert_eq!(answers[0], Ok(3));
    assert_eq!(answers[1].clone().unwrap_err().to_string(), "no account 'me'");
    assert_eq!(
        answers[2].clone().unwrap_err().to_string(),
        "work on the ledger panicked: on\\npurpose"
    );
    assert!(matches!(answers[3], Err(LedgerError::Store(StoreError::Sql { .. }))));
    assert_eq!(answers[4], Ok(4));
    assert_eq!(totals(&ledger, "ann"), [0, 20, 0, 100]);
    ledger.read(Reader::verify).unwrap().unwrap();
    // The first was run twice together with what was before the first bad one. Bad ones are run again
    // alone. Nobody behind one is run because of it.
    assert_eq!(*runs.lock().unwrap(), [2, 2, 2, 2, 1]);
}

#[test]
fn a_work_that_is_rejected_disturbs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let runs = Arc::new(Mutex::new(0));
    let works: Vec<Work> = (0..8)
        .map(|place| -> Work {
            let runs = runs.clone();
            Box::new(move |tx| {
                *runs.lock().unwrap() += 1;
                let done = tx.apply(&[direct(&format!("w{place}"), "ann", "shop", 30)], 2)?;
                Ok(done[0].seq)
            })
        })
        .collect();
    let answers = together(&ledger, works);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert_eq!(*runs.lock().unwrap(), 8);
}

#[test]
fn a_reservation_survives_its_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let held = ledger.reserve(&account("ann"), micros(60)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    // What is free, at each of the four times that a work is run. A work that panics is run again, so
    // nothing is asserted inside.
    let free = {
        let (ledger, seen) = (ledger.clone(), seen.clone());
        move || {
            let free = |amount| ledger.reserve(&account("ann"), micros(amount)).is_ok();
            let all = (0..=110).rev().find(|amount| free(*amount));
            seen.lock().unwrap().push(all.unwrap());
        }
    };
    let then = free.clone();
    let works: Vec<Work> = vec![
        Box::new(move |tx| {
            let charge = direct("charge", "ann", "shop", 40);
            let done = tx.apply_reserved(&held, &[charge], 2)?;
            free();
            Ok(done[0].seq)
        }),
        Box::new(move |tx| {
            tx.apply(&[direct("in", "bob", "ann", 50)], 2)?;
            then();
            Err(Rejected::UnknownAccount { account: account("me") }.into())
        }),
    ];
    let answers = together(&ledger, works);
    assert_eq!(answers[0], Ok(3));
    // 40 are staged, so 60 are free, in case of a commit and in case of a rollback. What comes in is not
    // there yet, and does not cover what a rollback gives back. The same when each is run alone.
    assert_eq!(*seen.lock().unwrap(), [60, 60, 60, 60]);
    assert_eq!(answers[1].clone().unwrap_err().to_string(), "no account 'me'");
    assert_eq!(totals(&ledger, "ann"), [0, 40, 0, 100]);
    assert!(ledger.reserve(&account("ann"), micros(61)).is_err());
    assert!(ledger.reserve(&account("ann"), micros(60)).is_ok());
}

#[test]
fn what_a_transaction_takes_cannot_be_reserved() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let outside = ledger.clone();
    let seen = ledger.write(move |tx| {
        tx.apply(&[direct("w", "ann", "shop", 70)], 2)?;
        let free = |amount| outside.reserve(&account("ann"), micros(amount)).is_ok();
        // Nor can what it brings, before it is there.
        tx.apply(&[direct("x", "ann", "bob", 10), direct("y", "bob", "shop", 5)], 2)?;
        let bob = |amount| outside.reserve(&account("bob"), micros(amount)).is_ok();
        Ok::<_, LedgerError>([free(20), free(21), bob(100), bob(101)])
    });
    assert_eq!(seen, Ok([true, false, true, false]));
    assert!(ledger.reserve(&account("bob"), micros(105)).is_ok());
}

#[test]
fn as_many_as_the_money_lasts_for_reserve_it() {
    const THREADS: u64 = 64;
    const LASTS_FOR: u64 = 23;
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, LASTS_FOR * 10 + 9);
    for round in 0..4 {
        let start = Barrier::new(THREADS as usize);
        let won: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (ledger, start) = (&ledger, &start);
                    scope.spawn(move || {
                        start.wait();
                        let Ok(held) = ledger.reserve(&account("ann"), micros(10)) else {
                            return 0;
                        };
                        start_again(held, ledger, round, number)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, LASTS_FOR);
        // All of it comes back, and all of it can be reserved again.
        apply(&ledger, &[direct(&format!("back:{round}"), "shop", "ann", LASTS_FOR * 10)], 3)
            .unwrap();
        assert!(ledger.reserve(&account("ann"), micros(LASTS_FOR * 10 + 9)).is_ok());
    }
    ledger.read(Reader::verify).unwrap().unwrap();
}

/// Uses what was reserved; a third of them hold first and post later.
fn start_again(held: Reservation, ledger: &Ledger, round: u64, number: u64) -> u64 {
    let name = |what: &str| format!("{what}:{round}:{number}");
    let (charge, post_name) = (name("charge"), name("post"));
    let transfers = match number % 3 {
        0 => vec![hold(&charge, "ann", "shop", 10, None), post(&post_name, &charge, 10)],
        1 => vec![direct(&charge, "ann", "shop", 10)],
        _ => vec![direct(&charge, "ann", "shop", 4), direct(&post_name, "ann", "shop", 6)],
    };
    ledger.write(move |tx| tx.apply_reserved(&held, &transfers, 2)).unwrap();
    1
}

#[test]
fn a_writer_that_would_wait_for_itself_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let inner = ledger.clone();
    let answer = ledger.write(move |_| inner.write(|_| Ok::<_, StoreError>(())));
    assert_eq!(answer, Err(StoreError::WithinWriter));
}

#[test]
fn what_waits_is_done_when_the_ledger_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let (send, answers) = mpsc::channel();
    for place in 0..100 {
        let send = send.clone();
        ledger.write_then(
            move |tx| tx.apply(&[direct(&format!("w{place}"), "ann", "shop", 1)], 2),
            move |answer: Result<_, LedgerError>| send.send(answer.is_ok()).unwrap(),
        );
    }
    drop((ledger, send));
    assert_eq!(answers.iter().filter(|done| *done).count(), 100);
    assert_eq!(totals(&open(&folder), "ann"), [0, 100, 0, 100]);
}
