//! What is wrong with a ledger is found, whatever it is.

use crate::common::*;
use fuelbox_ledger::{rusqlite::Connection, *};

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let done = [
        hold("h1", "ann", "shop", 10, Some(9)),
        post("p1", "h1", 5),
        hold("h2", "ann", "shop", 10, Some(9)),
        void("v2", "h2"),
        hold("h3", "bob", "shop", 10, Some(9)),
        direct("d", "ann", "bob", 1),
    ];
    apply(&ledger, &done, 2).unwrap();
    let totals = ledger.read(Reader::verify).unwrap().unwrap();
    assert_eq!(
        totals,
        Totals {
            accounts: 4,
            transfers: 8,
            open_pendings: 1,
            pending_micros: 10,
            posted_micros: 206
        }
    );
    drop(ledger);

    for (sql, sentence) in [
        (
            "UPDATE account SET credits_posted = 99 WHERE id = 'ann'",
            "account 'ann': [0, 6, 0, 99] stored, transfers add up to [0, 6, 0, 100] micro-credits",
        ),
        (
            "UPDATE account SET credits_posted = 99 WHERE id = 'ann'",
            "posted of all accounts: debits 206, credits 205 micro-credits",
        ),
        (
            "UPDATE account SET debits_pending = 9 WHERE id = 'bob'",
            "pending of all accounts: debits 9, credits 10 micro-credits",
        ),
        (
            "UPDATE account SET debits_posted = 101 WHERE id = 'ann'",
            "account 'ann': debits 101 over credits 100 micro-credits",
        ),
        (
            "UPDATE history SET debits_posted = 4 WHERE account = 3 AND seq = 4",
            "history of account number 3 at 4: Some([0, 4, 0, 100]) stored, expected Some([0, 5, 0, 100])",
        ),
        (
            "DELETE FROM history WHERE account = 3 AND seq = 4",
            "history of account number 3 at 4: None stored, expected Some([0, 5, 0, 100])",
        ),
        (
            "INSERT INTO history VALUES (1, 4, 0, 0, 0, 0)",
            "history of account number 1 at 4: Some([0, 0, 0, 0]) stored, expected None",
        ),
        (
            "INSERT INTO history VALUES (1, 44, 0, 0, 0, 0)",
            "history of account number 1 at 44: Some([0, 0, 0, 0]) stored, expected None",
        ),
        (
            "DELETE FROM transfer WHERE id = 'd'; DELETE FROM history WHERE seq = 8; \
          UPDATE transfer SET seq = 9 WHERE id = 'h3'",
            "transfer at place 9, expected 7",
        ),
        (
            "UPDATE transfer SET amount = 11 WHERE id = 'p1'",
            "transfer at 4 posts 0.000011 of a hold of 0.00001",
        ),
        (
            "DROP INDEX transfer_pending; UPDATE transfer SET pending = 3 WHERE id = 'v2'",
            "hold at 3 resolved again by the transfer at 6",
        ),
        (
            "UPDATE transfer SET pending = 99 WHERE id = 'v2'",
            "ledger store is damaged: Conversion error from type Text at index: 7",
        ),
        (
            "UPDATE transfer SET pending = 7 WHERE id = 'v2'",
            "transfer at 6 resolves 'h3', which is no hold before it",
        ),
        ("UPDATE transfer SET amount = 9 WHERE id = 'v2'", "transfer at 6 does not fit its hold"),
        ("UPDATE transfer SET debit = 4 WHERE id = 'p1'", "transfer at 4 does not fit its hold"),
        ("DELETE FROM open_pending", "hold at 7: open by the transfers true, by the list false"),
        (
            "UPDATE open_pending SET expires_unix_ms = 8",
            "hold at 7: open by the transfers true, by the list false",
        ),
        (
            "INSERT INTO open_pending VALUES (3, 9)",
            "hold at 3: open by the transfers false, by the list true",
        ),
        ("UPDATE account SET kind = 'bank' WHERE id = 'ann'", "'bank' is not known here"),
        ("UPDATE transfer SET action = 'gift' WHERE id = 'd'", "'gift' is not known here"),
        ("UPDATE account SET debits_pending = -1 WHERE id = 'bank'", "ledger store is damaged"),
    ] {
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let connection = Connection::open(&copy).unwrap();
        connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let findings = Reader::open(&copy).unwrap().verify().expect_err(sql);
        let said: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert!(said.iter().any(|said| said.contains(sentence)), "{sql}: {said:#?}");
    }
}
