//! What may be opened, what the tables are, and rows of others beside them.

use crate::common::*;
use fuelbox_ledger::{rusqlite::Connection, *};
use std::{collections::BTreeMap, path::Path, process::Command};

/// Counts works, in memory and in a row, and can be told to fail.
struct Counter {
    migrations: &'static [&'static str],
    count: i64,
    fail_at: i64,
    loads: i64,
    failing_loads: i64,
}

impl Counter {
    fn new(migrations: &'static [&'static str]) -> Self {
        Self { migrations, count: 0, fail_at: -1, loads: 0, failing_loads: 0 }
    }
}

const COUNTER: &str = "CREATE TABLE counter (count INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (0)";

impl Extension for Counter {
    fn component(&self) -> &'static str {
        "counter"
    }

    fn migrations(&self) -> &'static [&'static str] {
        self.migrations
    }

    fn load(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.loads += 1;
        if self.failing_loads > 0 {
            self.failing_loads -= 1;
            connection.execute_batch("SELECT nothing")?;
        }
        self.count = connection.query_row("SELECT count FROM counter", [], |row| row.get(0))?;
        Ok(())
    }

    fn before_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.count == self.fail_at {
            connection.execute_batch("SELECT nothing")?;
        }
        connection.execute("UPDATE counter SET count = ?1", [self.count]).map(drop)
    }
}

fn open_counter(
    path: &Path,
    migrations: &'static [&'static str],
) -> Result<Ledger<Counter>, OpenError> {
    Ledger::open(path, Counter::new(migrations), Options::default())
}

/// Everything that a database says of itself.
fn schema(path: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(path).unwrap();
    let query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(query).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn versions(path: &Path) -> BTreeMap<String, u32> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT name, version FROM component").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// A change of the tables is a new migration, never another text of an old one: databases of released
/// versions have what is here.
#[test]
fn the_tables_are_those_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let path = folder.path().join("ledger.db");
    let text: Vec<_> = schema(&path).into_iter().map(|(_, sql)| sql + ";\n").collect();
    assert_eq!(text.join("\n"), include_str!("schema-1.sql"));
    assert_eq!(versions(&path), BTreeMap::from([("ledger".into(), 1)]));
    let connection = Connection::open(&path).unwrap();
    let pragma = |name: &str| -> String {
        let query = format!("SELECT CAST(\"{name}\" AS TEXT) FROM pragma_{name}");
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(pragma("application_id"), i32::from_be_bytes(*b"fbld").to_string());
    assert_eq!(pragma("journal_mode"), "wal");
}

#[test]
fn the_tables_forbid_what_the_checks_forbid() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    furnish(&ledger, 100);
    apply(&ledger, &[hold("h", "ann", "shop", 10, None), post("p", "h", 5)], 2).unwrap();
    for (sql, word) in [
        ("UPDATE account SET debits_posted = 101 WHERE id = 'ann'", "debits_are_covered"),
        ("UPDATE account SET debits_pending = 96 WHERE id = 'ann'", "debits_are_covered"),
        ("UPDATE account SET credits_posted = -1 WHERE id = 'bank'", "credits_posted >= 0"),
        ("UPDATE account SET kind = 'bank' WHERE id = 'ann'", "kind IN"),
        ("UPDATE account SET id = 'bob' WHERE id = 'ann'", "UNIQUE"),
        ("UPDATE account SET debits_posted = 0.5 WHERE id = 'ann'", "cannot store REAL"),
        ("UPDATE transfer SET amount = 0 WHERE id = 'h'", "amount > 0"),
        ("UPDATE transfer SET credit = debit", "debit <> credit"),
        ("UPDATE transfer SET pending = NULL WHERE id = 'p'", "CHECK"),
        ("UPDATE transfer SET expires_unix_ms = 1 WHERE id = 'p'", "CHECK"),
        ("UPDATE transfer SET id = 'h' WHERE id = 'p'", "UNIQUE"),
        // A second transfer that ends the same hold.
        (
            "INSERT INTO transfer SELECT 99, 'q', purpose, action, debit, credit, amount, pending,
                 NULL, 1 FROM transfer WHERE id = 'p'",
            "transfer.pending",
        ),
        ("INSERT INTO history SELECT * FROM history", "UNIQUE"),
    ] {
        let done = ledger.write(move |tx| Ok::<_, StoreError>(tx.connection().execute(sql, [])?));
        let error = done.unwrap_err();
        assert!(matches!(error, StoreError::Constraint { .. }), "{sql}: {error}");
        assert!(error.to_string().contains(word), "{sql}: {error}");
    }
    // The operator's account goes below zero.
    assert_eq!(totals(&ledger, "bank"), [0, 200, 0, 0]);
    ledger.read(Reader::verify).unwrap().unwrap();
}

#[test]
fn a_newer_ledger_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(open_counter(&path, &[COUNTER, "CREATE TABLE more (x) "]).unwrap());
    assert_eq!(versions(&path), BTreeMap::from([("ledger".into(), 1), ("counter".into(), 2)]));
    let before = schema(&path);
    let error = open_counter(&path, &[COUNTER]).unwrap_err();
    let sentence = format!(
        "ledger {} is newer than this program: tables of 'counter' have version 2, known up to 1",
        path.display()
    );
    assert_eq!(error.to_string(), sentence);
    // Without the extension it can be opened, and the extension's tables are left as they are.
    drop(Ledger::open(&path, (), Options::default()).unwrap());
    assert_eq!(schema(&path), before);

    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE component SET version = 2 WHERE name = 'ledger'", []).unwrap();
    drop(connection);
    let sentence = sentence.replace("counter", "ledger");
    let error = Ledger::open(&path, (), Options::default()).unwrap_err();
    assert_eq!(error.to_string(), sentence);
    assert_eq!(Reader::open(&path).unwrap_err().to_string(), sentence);
    assert_eq!(schema(&path), before);
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(open_counter(&path, &[COUNTER]).unwrap());
    let (before, then) = (schema(&path), versions(&path));
    let error =
        open_counter(&path, &[COUNTER, "CREATE TABLE more (x); DROP TABLE counter; nonsense"]);
    assert_eq!(
        error.unwrap_err().to_string(),
        format!(
            "ledger {}: migration of 'counter' to version 2: ledger store: near \"nonsense\": syntax \
             error in  nonsense at offset 1",
            path.display()
        )
    );
    assert_eq!((schema(&path), versions(&path)), (before, then));
    open_counter(&path, &[COUNTER]).unwrap();
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let error = Ledger::open(&path, (), Options::default()).unwrap_err();
    let sentence =
        format!("{} is no ledger: application id 0x0, expected 0x66626c64", path.display());
    assert_eq!(error.to_string(), sentence);
    assert_eq!(schema(&path).len(), 1);

    let text = folder.path().join("text");
    std::fs::write(&text, "no database, but more than a hundred bytes of it. ".repeat(100))
        .unwrap();
    let error = Ledger::open(&text, (), Options::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::Store { source: StoreError::Damaged { .. }, .. }),
        "{error}"
    );
    assert!(Reader::open(folder.path().join("none")).is_err());
    assert!(!folder.path().join("none").exists());
}

#[test]
fn one_writes_and_many_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open(&folder);
    furnish(&ledger, 100);
    let error = Ledger::open(&path, (), Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "ledger {0} is open for writing elsewhere: its lock {0}.lock is held",
            path.display()
        )
    );
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.accounts().unwrap().len(), 4);
    assert!(reader.connection().execute("DELETE FROM account", []).is_err());
    // Another process finds the same.
    let elsewhere = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opening::in_another_process", "--nocapture"])
        .env("LEDGER_PATH", &path)
        .output()
        .unwrap();
    assert!(elsewhere.status.success(), "{elsewhere:?}");
    // A clone is the same ledger; the last one closes it.
    let clone = ledger.clone();
    drop(ledger);
    assert!(matches!(Ledger::open(&path, (), Options::default()), Err(OpenError::Locked { .. })));
    drop((clone, reader));
    open(&folder);
    assert!(!folder.path().join("ledger.db-wal").exists());
}

/// The other half of the test above.
#[test]
fn in_another_process() {
    let Ok(path) = std::env::var("LEDGER_PATH") else { return };
    assert!(matches!(Ledger::open(&path, (), Options::default()), Err(OpenError::Locked { .. })));
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.verify().unwrap().accounts, 4);
}

#[test]
fn rows_of_others_are_in_the_same_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open_counter(&path, &[COUNTER]).unwrap();
    let count = |ledger: &Ledger<Counter>, good: bool| {
        ledger.write(move |tx| {
            tx.create_account(&account("ann"), AccountKind::Caller, 1)?;
            tx.extension().0.count += 1;
            let count = tx.extension_ref().count;
            let bad = Rejected::UnknownAccount { account: account("me") };
            if good { Ok(count) } else { Err(LedgerError::from(bad)) }
        })
    };
    assert_eq!(count(&ledger, true), Ok(1));
    assert!(count(&ledger, false).is_err());
    // What the work did to the extension's memory was undone.
    assert_eq!(count(&ledger, true), Ok(2));
    let row = |ledger: &Ledger<Counter>| -> i64 {
        let query = "SELECT count FROM counter";
        let read = |reader: &Reader| reader.connection().query_row(query, [], |row| row.get(0));
        ledger.read(read).unwrap().unwrap()
    };
    assert_eq!(row(&ledger), 2);

    // An extension that cannot write stops its own transaction, and no other.
    let armed = ledger.write(|tx| {
        tx.extension().0.fail_at = 3;
        Ok::<_, LedgerError>(())
    });
    assert_eq!(armed, Ok(()));
    let error = count(&ledger, true).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert_eq!(row(&ledger), 2);
    let healed = ledger.write(|tx| {
        (tx.extension().0.fail_at, tx.extension().0.count) = (-1, 7);
        Ok::<_, LedgerError>(tx.extension_ref().loads)
    });
    assert!(healed.unwrap() > 1);
    // Memory that could not be read again after a rollback is read before the next work.
    let spoiled = ledger.write(|tx| {
        (tx.extension().0.count, tx.extension().0.failing_loads) = (100, 1);
        Err::<(), _>(LedgerError::from(Rejected::UnknownAccount { account: account("me") }))
    });
    assert_eq!(spoiled.unwrap_err().to_string(), "no account 'me'");
    assert_eq!(count(&ledger, true), Ok(8));
    drop(ledger);
    let ledger = open_counter(&path, &[COUNTER]).unwrap();
    assert_eq!(count(&ledger, true), Ok(9));
}

#[test]
fn the_log_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open_counter(
        &path,
        &["CREATE TABLE counter (count INTEGER NOT NULL, ballast BLOB) STRICT;
        INSERT INTO counter VALUES (0, NULL)"],
    )
    .unwrap();
    // Four times as much as is kept in the log.
    for _ in 0..64 {
        let written = ledger.write(|tx| {
            tx.extension().0.count += 1;
            tx.connection().execute("UPDATE counter SET ballast = randomblob(4 << 20)", [])?;
            Ok::<_, LedgerError>(())
        });
        written.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("ledger.db-wal")).unwrap().len();
    assert!((1 << 20..128 << 20).contains(&log), "{log}");
}
