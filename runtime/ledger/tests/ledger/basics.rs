//! Accounts, transfers, holds and reservations, as a client meets them.

use crate::common::*;
use fuelbox_ledger::*;

#[test]
fn money_moves_is_held_posted_and_voided() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    assert_eq!(totals(&ledger, "bank"), [0, 200, 0, 0]);
    assert_eq!(totals(&ledger, "ann"), [0, 0, 0, 100]);

    apply(&ledger, &[hold("h1", "ann", "shop", 60, None)], 2).unwrap();
    assert_eq!(totals(&ledger, "ann"), [60, 0, 0, 100]);
    assert_eq!(totals(&ledger, "shop"), [0, 0, 60, 0]);
    let posted = apply(&ledger, &[post("p1", "h1", 25)], 3).unwrap();
    assert_eq!(totals(&ledger, "ann"), [0, 25, 0, 100]);
    assert_eq!(totals(&ledger, "shop"), [0, 0, 0, 25]);
    assert_eq!((posted[0].seq, posted[0].amount), (4, micros(25)));
    assert_eq!((&posted[0].debit, &posted[0].credit), (&account("ann"), &account("shop")));

    apply(&ledger, &[hold("h2", "ann", "shop", 75, None), void("v2", "h2")], 4).unwrap();
    assert_eq!(totals(&ledger, "ann"), [0, 25, 0, 100]);

    // All of it is there again, and nothing else.
    drop(ledger);
    let ledger = open(&folder);
    assert_eq!(totals(&ledger, "ann"), [0, 25, 0, 100]);
    let next = apply(&ledger, &[direct("d", "shop", "ann", 1)], 5).unwrap();
    assert_eq!(next[0].seq, 7);
}

#[test]
fn a_batch_is_done_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let batch = [direct("a", "ann", "shop", 60), direct("b", "ann", "shop", 60)];
    let error = apply(&ledger, &batch, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough in 'ann': available 0.00004, needed 0.00006, short of 0.00002"
    );
    assert_eq!(totals(&ledger, "ann"), [0, 0, 0, 100]);
    // What comes in a batch can be spent in it.
    let batch = [direct("c", "bob", "ann", 50), direct("d", "ann", "shop", 150)];
    apply(&ledger, &batch, 2).unwrap();
    assert_eq!(totals(&ledger, "ann"), [0, 150, 0, 150]);
}

#[test]
fn reserved_money_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let reservation = ledger.reserve(&account("ann"), micros(70)).unwrap();
    let error = ledger.reserve(&account("ann"), micros(31)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough in 'ann': available 0.00003, needed 0.000031, short of 0.000001"
    );
    assert!(apply(&ledger, &[direct("a", "ann", "shop", 31)], 2).is_err());
    apply(&ledger, &[direct("b", "ann", "shop", 30)], 2).unwrap();

    ledger
        .write(move |tx| {
            tx.apply_reserved(&reservation, &[direct("c", "ann", "shop", 20)], 3)?;
            // The rest is free at once.
            tx.apply(&[direct("d", "ann", "shop", 50)], 3)
        })
        .unwrap();
    assert_eq!(totals(&ledger, "ann"), [0, 100, 0, 100]);
    assert!(ledger.reserve(&account("ann"), micros(1)).is_err());
    let nothing = ledger.reserve(&account("ann"), micros(0)).unwrap();
    drop(nothing);
    assert_eq!(
        ledger.reserve(&account("eve"), micros(0)).unwrap_err(),
        Rejected::UnknownAccount { account: account("eve") }.into()
    );
}
