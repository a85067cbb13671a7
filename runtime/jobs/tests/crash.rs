//! A process that dies at any moment leaves books that are in order.
//!
//! This program starts itself as a child that works on a data folder with several callers, and is
//! killed: by the kernel at a random moment, or by itself at a named step. Then the books are looked at
//! as they lie there, the next child opens them and goes on, and at the end every job that was
//! acknowledged to a caller has ended and is paid for once.

mod support;

use fuelbox_abi::Dim;
use fuelbox_jobs::{
    AccessKeyId, CRASH_VARIABLE, Config, DataFolder, Host, JobError, JobId, JobRequest,
    NewAccessKey, PublishRequest, Scope, State, Step,
};
use fuelbox_ledger::AccountKind;
use fuelbox_test_support::{
    guest::{self, Guest},
    host::fp32,
};
use std::{
    env,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, atomic::AtomicU64, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{account, burn, check_folder, host_with, micros, package, x};

/// The variable that makes this program the child, and says on which folder.
const CHILD: &str = "FUELBOX_TEST_CRASH_FOLDER";

/// Kills at random moments, apart from those at named steps.
const RANDOM_KILLS: usize = 500;

/// A folder serves for so many kills: its books are read whole after each.
const KILLS_OF_A_FOLDER: usize = 25;

/// What a caller that was answered writes down, outside of the store.
const ACKNOWLEDGED: &str = "acknowledged";

fn main() {
    if let Some(folder) = env::var_os(CHILD) {
        child(Path::new(&folder));
    }
    let filter = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut passed = 0;
    for (name, test) in
        [("every_named_step", every_named_step as fn()), ("random_moments", random_moments as fn())]
    {
        if filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            let started = Instant::now();
            test();
            println!("test {name} ... ok ({:.1} s)", started.elapsed().as_secs_f64());
            passed += 1;
        }
    }
    println!(
        "\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
}

fn every_named_step() {
    for step in Step::ALL {
        let folder = Folder::new();
        for count in [1, 2, 7] {
            let end = folder.run(Some(&format!("{step:?}:{count}")), None);
            assert!(end.killed, "{step:?}:{count} was never reached");
            folder.check();
        }
        folder.finish();
    }
}

fn random_moments() {
    let mut random = Random(0x5eed);
    let mut kills = 0;
    while kills < RANDOM_KILLS {
        let folder = Folder::new();
        for _ in 0..KILLS_OF_A_FOLDER {
            // Most while it works, some while it opens the books.
            let early = random.below(5) == 0;
            let after = Duration::from_micros(random.below(if early { 20_000 } else { 60_000 }));
            let end = folder.run(None, Some(Kill { after, early }));
            assert!(end.killed);
            kills += 1;
            folder.check();
        }
        let acknowledged = folder.finish();
        assert!(acknowledged > 0, "nothing happened in {KILLS_OF_A_FOLDER} runs");
    }
}

/// When a child is killed.
struct Kill {
    after: Duration,
    /// Counted from its start, not from when its host is open.
    early: bool,
}

struct End {
    killed: bool,
}

/// A data folder and what its callers were told.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let host = host_with(folder.path(), Config { workers: Some(0), ..Config::default() });
        let accounts = host.accounts();
        for (name, kind) in [
            ("pub", AccountKind::Publisher),
            ("press", AccountKind::Publisher),
            ("alice", AccountKind::Caller),
        ] {
            accounts.create(&account(name), kind).expect("an account");
            let id = format!("gift:{name}").parse().expect("a name");
            accounts.top_up(&account(name), micros(1 << 50), id).expect("credits");
        }
        // Limits that are far away: what counts is that the sums are right.
        for (name, scope) in [("alice", Scope::Caller), ("press", Scope::Publisher)] {
            let spend_limit = Some(micros(1 << 50));
            let new = NewAccessKey { spend_limit, ..NewAccessKey::new(account(name), scope) };
            host.access().create(new).expect("a key");
        }
        let shaped = Guest { signature: guest::signature(&[Dim::Symbol("n")]), ..Guest::default() };
        for (name, guest) in [("plain", Guest::default()), ("shaped", shaped)] {
            let file = package(folder.path(), name, "1", &guest);
            host.publish(&account("pub"), &file, Some(1_000_000)).expect("published");
        }
        drop(host);
        Self { folder }
    }

    /// Runs a child until it is dead.
    fn run(&self, crash_at: Option<&str>, kill: Option<Kill>) -> End {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.env(CHILD, self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(step) = crash_at {
            command.env(CRASH_VARIABLE, step);
        }
        let mut child = command.spawn().expect("a child");
        let stdout = child.stdout.take().expect("piped");
        if let Some(kill) = kill {
            if !kill.early {
                let mut ready = String::new();
                BufReader::new(stdout).read_line(&mut ready).expect("a line");
            }
            thread::sleep(kill.after);
            child.kill().expect("killed");
        }
        // A child that never comes to its step ends by itself.
        let output = child.wait_with_output().expect("an end");
        let killed = output.status.signal() == Some(9);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(killed || words.is_empty(), "{}: {words}", output.status);
        assert!(!words.contains("panicked"), "{words}");
        End { killed }
    }

    /// What must hold of the books as a dead process left them.
    fn check(&self) {
        check_folder(self.folder.path());
        self.check_spent();
        self.check_acknowledged(false);
    }

    /// What was spent with each key is the sum of its bills.
    fn check_spent(&self) {
        let reader = DataFolder::new(self.folder.path().join("data")).reader().expect("a reader");
        let number = |sql: &str| -> i64 {
            reader.connection().query_row(sql, [], |row| row.get(0)).expect("a number")
        };
        let spent =
            |name: &str| number(&format!("SELECT spent FROM access_key WHERE account = '{name}'"));
        let bills =
            number("SELECT coalesce(sum(credits), 0) FROM job WHERE access_key IS NOT NULL");
        assert_eq!(spent("alice"), bills);
        // All that this account pays is paid with its key.
        let press = reader.account(&account("press")).expect("read").expect("an account");
        assert_eq!(spent("press"), press.debits_posted.micros().cast_signed());
    }

    /// Lets everything that is open end, and looks at all that callers were told.
    fn finish(&self) -> usize {
        let host = host_with(self.folder.path(), Config::default());
        let open = host
            .read(|records| {
                let mut jobs = Vec::new();
                for state in [State::Queued, State::Running] {
                    let filter =
                        fuelbox_jobs::JobFilter { state: Some(state), ..Default::default() };
                    jobs.extend(records.jobs(&filter, 1_000).expect("jobs"));
                }
                jobs
            })
            .expect("read");
        for job in open {
            let job = host.wait(&job.id, Duration::from_secs(120)).expect("a job");
            assert!(job.state.is_final(), "{job:?}");
        }
        drop(host);
        let books = check_folder(self.folder.path());
        assert_eq!(books.open, 0, "no job is open after recovery");
        self.check_spent();
        self.check_acknowledged(true)
    }

    /// Each line of the callers' notes is true.
    fn check_acknowledged(&self, ended: bool) -> usize {
        let reader = DataFolder::new(self.folder.path().join("data")).reader().expect("a reader");
        let records = fuelbox_jobs::Records::new(&reader);
        let notes = fs::read_to_string(self.folder.path().join(ACKNOWLEDGED)).unwrap_or_default();
        let mut lines = 0;
        for line in notes.lines() {
            let mut words = line.split(' ');
            let (what, name) = (words.next().expect("a word"), words.next().expect("a name"));
            lines += 1;
            if what == "published" {
                assert!(records.find_package(name).expect("read").is_some(), "{line}");
                continue;
            }
            let id: JobId = name.parse().expect("a job");
            let job = records.job(&id).expect("read");
            let job = job.unwrap_or_else(|| panic!("acknowledged and lost: {line}"));
            match what {
                "settled" => {
                    let end = job.end.as_ref().unwrap_or_else(|| panic!("not settled: {line}"));
                    let credits = words.next().expect("an amount").parse::<u64>().expect("micros");
                    assert_eq!(end.credits.micros(), credits, "{line}");
                    assert!(records.receipt(&id).expect("read").is_some(), "{line}");
                }
                "queued" => assert!(!ended || job.state.is_final(), "{line}: {job:?}"),
                // One that a worker has may end first, or die with its process as often as it may.
                "cancelled" => assert!(
                    matches!(job.state, State::Cancelled | State::Succeeded | State::Faulted)
                        || !ended,
                    "{line}: {job:?}"
                ),
                other => panic!("{other}"),
            }
            // Only a job that three processes died with.
            let three = "job was started 3 times and never ended";
            let faulted = job.state == State::Faulted;
            assert!(!faulted || job.detail.as_deref() == Some(three), "{line}: {job:?}");
        }
        lines
    }
}

/// Works until somebody kills it.
fn child(folder: &Path) -> ! {
    let host = host_with(folder, Config { workers: Some(2), ..Config::default() });
    let notes = OpenOptions::new().create(true).append(true).open(folder.join(ACKNOWLEDGED));
    let notes = Mutex::new(notes.expect("notes"));
    let note = |line: String| write_line(&mut *notes.lock().expect("a lock"), &line);
    let find = |name: &str| {
        let found = host.read(|records| records.find_package(name)).expect("read").expect("read");
        found.expect("published").digest
    };
    let (plain, shaped) = (find("plain"), find("shaped"));
    let (callers, publishers) = (key_of(&host, "alice"), key_of(&host, "press"));
    write_line(&mut std::io::stdout(), "ready");
    let until = Instant::now() + Duration::from_secs(20);
    let number = AtomicU64::new(u64::from(std::process::id()) << 20);
    let next = || number.fetch_add(1, Ordering::Relaxed);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while Instant::now() < until {
                    let number = next();
                    let request = if number.is_multiple_of(4) {
                        let size = number % 60 + 1;
                        let input = fp32("x", &[size], &vec![1.0; size as usize]);
                        JobRequest::new(account("alice"), shaped, vec![input])
                    } else {
                        JobRequest::new(account("alice"), plain, x(number as f32))
                    };
                    let access_key = number.is_multiple_of(3).then_some(callers);
                    let key = Some(number.to_string());
                    let request = JobRequest { key, access_key, ..request };
                    let done = host.run(request).expect("a job");
                    let credits = done.job.end.expect("an end").credits.micros();
                    note(format!("settled {} {credits}", done.job.id));
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < until {
                let number = next();
                let request = JobRequest {
                    access_key: number.is_multiple_of(3).then_some(callers),
                    webhook: Some("https://example.org".into()),
                    ..JobRequest::new(account("alice"), plain, x(number as f32))
                };
                let job = host.submit(request).expect("a job");
                note(format!("queued {}", job.id));
                if number.is_multiple_of(2) {
                    match host.cancel(&job.id) {
                        Ok(()) => note(format!("cancelled {}", job.id)),
                        Err(JobError::Ended { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        scope.spawn(|| {
            while Instant::now() < until {
                let number = next();
                let version = number.to_string();
                if number.is_multiple_of(2) {
                    let file = package(folder, "more", &version, &Guest::default());
                    host.publish(&account("pub"), &file, Some(1_000_000)).expect("published");
                    note(format!("published more:{version}"));
                    continue;
                }
                let loaded = Guest { load: burn(20_000), ..Guest::default() };
                let file = package(folder, "pressed", &version, &loaded);
                let request = PublishRequest {
                    access_key: Some(publishers),
                    load_fuel: Some(1_000_000),
                    ..PublishRequest::new(account("press"), &file)
                };
                host.publish_signed(&request).expect("published");
                note(format!("published pressed:{version}"));
            }
        });
    });
    std::process::exit(0)
}

fn key_of(host: &Host, name: &str) -> AccessKeyId {
    host.access().list(Some(&account(name))).expect("read").first().expect("a key").id
}

fn write_line(out: &mut dyn Write, line: &str) {
    // One write, so that a line is there or not.
    out.write_all(format!("{line}\n").as_bytes()).expect("written");
    out.flush().expect("flushed");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
