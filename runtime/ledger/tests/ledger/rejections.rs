//! What the rules forbid, with its sentence; and what may be asked twice.

use crate::common::*;
use fuelbox_ledger::*;
use std::slice;

/// A ledger with some of everything: see the transfers.
fn furnished(folder: &tempfile::TempDir) -> Ledger {
    let ledger = open(folder);
    furnish(&ledger, 1_000_000);
    let done = [
        direct("paid", "ann", "shop", 10),
        hold("open", "ann", "shop", 100, Some(50)),
        hold("for-good", "ann", "shop", 100, None),
        hold("posted", "ann", "shop", 100, None),
        post("posting", "posted", 40),
        hold("voided", "ann", "shop", 100, None),
        void("voiding", "voided"),
        hold("late", "ann", "shop", 100, Some(20)),
    ];
    apply(&ledger, &done, 10).unwrap();
    assert_eq!(ledger.write(|tx| tx.expire(20)).unwrap(), [id("late")]);
    ledger
}

#[test]
fn what_the_rules_forbid_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = furnished(&folder);
    let other_purpose = Transfer { purpose: Purpose::Fee, ..direct("paid", "ann", "shop", 10) };
    for (transfer, sentence) in [
        (direct("x", "eve", "shop", 1), "no account 'eve'"),
        (hold("x", "ann", "eve", 1, None), "no account 'eve'"),
        (
            direct("x", "ann", "shop", 2_000_000),
            "not enough in 'ann': available 0.99975, needed 2, short of 1.00025",
        ),
        (
            hold("x", "shop", "ann", 51, None),
            "not enough in 'shop': available 0.00005, needed 0.000051, short of 0.000001",
        ),
        (direct("x", "ann", "shop", 0), "transfer 'x' of 0, expected more"),
        (hold("x", "ann", "shop", 0, None), "transfer 'x' of 0, expected more"),
        (
            direct("x", "bank", "shop", i64::MAX as u64),
            "transfer 'x' of 9223372036854.775807: a total of 'shop' would be over \
             9223372036854.775807",
        ),
        (direct("x", "ann", "ann", 1), "transfer 'x' has account 'ann' on both sides"),
        (post("x", "nothing", 1), "no pending transfer 'nothing'"),
        (post("x", "paid", 1), "no pending transfer 'paid'"),
        (void("x", "posting"), "no pending transfer 'posting'"),
        (post("x", "posted", 1), "pending transfer 'posted' was posted by 'posting'"),
        (void("x", "posted"), "pending transfer 'posted' was posted by 'posting'"),
        (post("x", "voided", 1), "pending transfer 'voided' was voided by 'voiding'"),
        (void("x", "voided"), "pending transfer 'voided' was voided by 'voiding'"),
        (post("x", "late", 1), "pending transfer 'late' expired at 20 ms, now is 50 ms"),
        (void("x", "late"), "pending transfer 'late' expired at 20 ms, now is 50 ms"),
        // Overdue, and not swept yet.
        (post("x", "open", 1), "pending transfer 'open' expired at 50 ms, now is 50 ms"),
        (void("x", "open"), "pending transfer 'open' expired at 50 ms, now is 50 ms"),
        (post("x", "for-good", 101), "post of 0.000101 over pending transfer 'for-good' of 0.0001"),
        (other_purpose, "transfer id 'paid' is taken: purpose fee, stored charge"),
        (post("paid", "open", 10), "transfer id 'paid' is taken: action post, stored direct"),
        (direct("paid", "bob", "shop", 10), "transfer id 'paid' is taken: debit bob, stored ann"),
        (direct("paid", "ann", "bob", 10), "transfer id 'paid' is taken: credit bob, stored shop"),
        (
            direct("paid", "ann", "shop", 11),
            "transfer id 'paid' is taken: amount 0.000011, stored 0.00001",
        ),
        (
            post("posting", "open", 40),
            "transfer id 'posting' is taken: pending open, stored posted",
        ),
        (
            hold("for-good", "ann", "shop", 100, Some(1)),
            "transfer id 'for-good' is taken: expires_unix_ms 1, stored none",
        ),
    ] {
        let before = ledger.read(Reader::verify).unwrap().unwrap();
        // Neither alone nor behind one that could be done.
        for batch in [vec![transfer.clone()], vec![direct("y", "bob", "ann", 1), transfer]] {
            let error = apply(&ledger, &batch, 50).unwrap_err();
            assert!(matches!(error, LedgerError::Rejected(_)));
            if batch.len() == 1 || !sentence.starts_with("not enough in 'ann'") {
                assert_eq!(error.to_string(), sentence);
            }
            assert_eq!(ledger.read(Reader::verify).unwrap().unwrap(), before);
        }
    }
    let kind = ledger.write(|tx| tx.create_account(&account("ann"), AccountKind::Escrow, 1));
    let sentence = "account 'ann' exists: kind caller, asked for escrow";
    assert_eq!(kind.unwrap_err().to_string(), sentence);
}

#[test]
fn reservations_are_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let over = |transfers: Vec<Transfer>| {
        let held = ledger.reserve(&account("ann"), micros(50)).unwrap();
        let done = ledger.write(move |tx| tx.apply_reserved(&held, &transfers, 2));
        done.unwrap_err().to_string()
    };
    let sentence = "debits of 0.000051 from 'ann' over its reservation of 0.00005";
    assert_eq!(over(vec![direct("a", "ann", "shop", 51)]), sentence);
    assert_eq!(
        over(vec![direct("a", "ann", "shop", 30), hold("b", "ann", "shop", 21, None)]),
        sentence
    );
    // A reservation is used once, and only where it was made.
    let held = ledger.reserve(&account("ann"), micros(50)).unwrap();
    let again = ledger.write::<_, LedgerError>(move |tx| {
        tx.apply_reserved(&held, &[direct("c", "ann", "shop", 50)], 2)?;
        Ok(tx.apply_reserved(&held, &[direct("d", "ann", "shop", 1)], 2).unwrap_err())
    });
    assert_eq!(
        again.unwrap().to_string(),
        "debits of 0.000001 from 'ann' over its reservation of 0"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(&elsewhere);
    furnish(&other, 100);
    let held = other.reserve(&account("ann"), micros(50)).unwrap();
    let strange =
        ledger.write(move |tx| tx.apply_reserved(&held, &[direct("e", "ann", "shop", 1)], 2));
    assert_eq!(
        strange.unwrap_err().to_string(),
        "debits of 0.000001 from 'ann' over its reservation of 0"
    );
    assert_eq!(totals(&ledger, "ann"), [0, 50, 0, 100]);
}

#[test]
fn what_was_done_is_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = furnished(&folder);
    let all = [
        direct("paid", "ann", "shop", 10),
        hold("open", "ann", "shop", 100, Some(50)),
        post("posting", "posted", 40),
        void("voiding", "voided"),
        hold("late", "ann", "shop", 100, Some(20)),
    ];
    let before = ledger.read(Reader::accounts).unwrap().unwrap();
    for now in [10, 99] {
        for transfer in &all {
            let stored = ledger.read(|reader| reader.transfer(&transfer.id));
            let stored = stored.unwrap().unwrap().unwrap();
            let [repeated] =
                apply(&ledger, slice::from_ref(transfer), now).unwrap().try_into().unwrap();
            assert_eq!(repeated, Recorded { repeated: true, ..stored });
        }
        let repeated = apply(&ledger, &all, now).unwrap();
        assert!(repeated.iter().all(|recorded| recorded.repeated));
    }
    // Twice in one batch, next to something new.
    let batch = [
        direct("new", "ann", "shop", 1),
        direct("new", "ann", "shop", 1),
        hold("new-hold", "ann", "shop", 1, None),
        hold("new-hold", "ann", "shop", 1, None),
        post("new-post", "new-hold", 1),
        post("new-post", "new-hold", 1),
    ];
    let done = apply(&ledger, &batch, 10).unwrap();
    let repeated: Vec<_> = done.iter().map(|recorded| recorded.repeated).collect();
    assert_eq!(repeated, [false, true, false, true, false, true]);
    let after = ledger.read(Reader::accounts).unwrap().unwrap();
    assert_eq!(after[0].balance(), before[0].balance() - 2);
    // An account too.
    let again = ledger.write(|tx| tx.create_account(&account("ann"), AccountKind::Caller, 77));
    assert_eq!(again.unwrap(), after[0]);
    ledger.read(Reader::verify).unwrap().unwrap();
}

#[test]
fn amounts_reach_the_limit_and_not_beyond() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 0);
    let most = Credits::MAX.micros();
    apply(&ledger, &[direct("all", "bank", "ann", most)], 2).unwrap();
    assert!(apply(&ledger, &[direct("more", "bank", "ann", 1)], 2).is_err());
    assert!(apply(&ledger, &[direct("more", "bank", "bob", 1)], 2).is_err());
    // Later than the store can say is as late as it can, each time that it is asked for.
    for _ in 0..2 {
        apply(&ledger, &[hold("hold", "ann", "shop", most, Some(u64::MAX))], 2).unwrap();
    }
    apply(&ledger, &[post("post", "hold", most)], 2).unwrap();
    assert_eq!(totals(&ledger, "shop"), [0, 0, 0, most]);
    assert!(ledger.reserve(&account("bank"), Credits::MAX).is_ok());
    let totals = ledger.read(Reader::verify).unwrap().unwrap();
    assert_eq!(totals.posted_micros, u128::from(most) * 2);
}
