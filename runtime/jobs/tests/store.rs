//! The tables: pinned, and brought from every version to the newest one.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{Config, DataFolder, State};
use fuelbox_ledger::{Extension, Ledger, Options, rusqlite::Connection};
use fuelbox_test_support::guest::Guest;
use std::{fs, path::Path, time::Duration};
use support::{burn, host, host_with, package, request, set_up};

const LONG: Duration = Duration::from_secs(60);

/// The tables of jobs as version 1 made them.
struct Version1;

impl Extension for Version1 {
    fn component(&self) -> &'static str {
        "jobs"
    }

    fn migrations(&self) -> &'static [&'static str] {
        &[include_str!("tables-1.sql")]
    }

    fn load(&mut self, _: &Connection) -> fuelbox_ledger::rusqlite::Result<()> {
        Ok(())
    }

    fn before_commit(&mut self, _: &Connection) -> fuelbox_ledger::rusqlite::Result<()> {
        Ok(())
    }
}

/// A change of a table is a new migration, never another text of this one.
#[test]
fn tables_are_those_of_version_4() {
    let folder = tempfile::tempdir().unwrap();
    drop(host(folder.path()));
    let reader = DataFolder::new(folder.path().join("data")).reader().unwrap();
    let sql = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT IN
        ('component', 'account', 'transfer', 'open_pending', 'history') ORDER BY name";
    let mut select = reader.connection().prepare(sql).unwrap();
    let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let found = rows.map(|row| row.unwrap() + ";\n").collect::<String>();
    assert_eq!(found, include_str!("tables-4.sql"));
}

/// A copy of a data folder whose tables of jobs are of version 1.
fn as_version_1(from: &Path, to: &Path) {
    for part in ["keys", "packages", "blobs"] {
        copy(&from.join(part), &to.join(part));
    }
    fs::copy(from.join("prices.json"), to.join("prices.json")).unwrap();
    let database = to.join("fuelbox.db");
    drop(Ledger::open(&database, Version1, Options::default()).unwrap());
    let connection = Connection::open(&database).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    let source = from.join("fuelbox.db");
    connection.execute("ATTACH ?1 AS newer", [source.to_str().unwrap()]).unwrap();
    let names = |sql: &str, table: &str| -> Vec<String> {
        let mut select = connection.prepare(sql).unwrap();
        let rows = select.query_map([table], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let tables = "SELECT name FROM main.sqlite_master WHERE type = ?1 AND name <> 'component'";
    for table in names(tables, "table") {
        let columns = names("SELECT name FROM pragma_table_info(?1, 'main')", &table).join(", ");
        let sql =
            format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}");
        connection.execute(&sql, []).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    assert_eq!(fs::metadata(from).unwrap().permissions().mode() & 0o7000, 0);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_store_of_version_1_goes_on_as_version_4() {
    let newer = tempfile::tempdir().unwrap();
    let host = support::host(newer.path());
    let file = package(newer.path(), "t", "1", &Guest::running(&burn(50_000)));
    let publication = set_up(&host, 1_000_000, &file);
    let done = host.run(request(&publication, 1.0)).unwrap();
    drop(host);
    let idle = Config { workers: Some(0), ..Config::default() };
    let host = host_with(newer.path(), idle);
    let queued = host.submit(request(&publication, 2.0)).unwrap();
    let cancelled = host.submit(request(&publication, 3.0)).unwrap();
    host.cancel(&cancelled.id).unwrap();
    drop(host);

    let older = tempfile::tempdir().unwrap();
    let data = older.path().join("data");
    fs::create_dir(&data).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    as_version_1(&newer.path().join("data"), &data);
    // Whoever only reads is told, instead of missing columns.
    let error = DataFolder::new(&data).reader().expect_err("refused").to_string();
    assert!(
        error.ends_with("tables of 'jobs' have version 1, needed 4; open it for writing first"),
        "{error}"
    );

    let host = support::host(older.path());
    let again = host.result(&done.job.id).unwrap().unwrap();
    assert_eq!((&again.job, &again.receipt), (&done.job, &done.receipt));
    assert_eq!(host.job(&cancelled.id).unwrap().state, State::Cancelled);
    assert_eq!(host.wait(&queued.id, LONG).unwrap().state, State::Succeeded);
    let next = host.run(request(&publication, 4.0)).unwrap();
    assert_eq!(next.job.state, State::Succeeded);
    drop(host);
    // What publishers got is filled in for the jobs of before.
    let reader = DataFolder::new(&data).reader().unwrap();
    let share = |id: &fuelbox_jobs::JobId| -> Option<i64> {
        let sql = "SELECT share FROM job WHERE lower(hex(id)) = ?1";
        let hex = id.to_string().replace('-', "");
        reader.connection().query_row(sql, [hex], |row| row.get(0)).unwrap()
    };
    let credits = done.job.end.unwrap().credits.micros() as i64;
    assert_eq!(share(&done.job.id), Some(credits * 7 / 10));
    assert_eq!(share(&queued.id), Some(credits * 7 / 10));
    assert_eq!(share(&next.job.id), Some(credits * 7 / 10));
    assert_eq!(share(&cancelled.id), None);
    drop(reader);
    let books = support::check_folder(older.path());
    assert_eq!((books.receipts, books.open), (3, 0));
}
