//! Random sequences of everything that one can do, next to a plain model: same answers, same balances,
//! same history.

use crate::{
    common::*,
    model::{Four, Model},
};
use fuelbox_ledger::{
    faults::{Failure, Fault, Faults},
    *,
};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, mpsc},
};
use tempfile::TempDir;

const ACCOUNTS: [&str; 6] = ["bank", "ann", "bob", "shop", "pool", "nobody"];
const KINDS: [AccountKind; 5] = [
    AccountKind::Operator,
    AccountKind::Caller,
    AccountKind::Publisher,
    AccountKind::Revenue,
    AccountKind::Escrow,
];

#[derive(Clone, Debug)]
enum Step {
    Create {
        account: usize,
        kind: usize,
    },
    Apply {
        transfers: Vec<Transfer>,
        slot: Option<usize>,
    },
    /// Transfers that were asked for before.
    Again {
        which: usize,
    },
    /// Works in one transaction.
    Together {
        works: Vec<(Vec<Transfer>, End)>,
    },
    Reserve {
        slot: usize,
        account: usize,
        amount: u64,
    },
    Drop {
        slot: usize,
    },
    Expire,
    Reopen,
    Later {
        ms: u64,
    },
}

/// How a work ends that has applied its transfers.
#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    /// With an error, after it has written.
    Badly,
    Panicking,
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let amount = prop_oneof![8 => 0..60u64, 1 => Just(1_000u64), 1 => Just(i64::MAX as u64)];
    let id = |from: u32| (from..from + 12).prop_map(|n| format!("t{n}"));
    let purpose = (0..Purpose::ALL.len()).prop_map(|n| Purpose::ALL[n]);
    let sides = (0..ACCOUNTS.len(), 0..ACCOUNTS.len());
    let until = proptest::option::of(0..40u64);
    let action = prop_oneof![
        4 => (sides.clone(), amount.clone()).prop_map(|((debit, credit), amount)| Action::Direct {
            debit: account(ACCOUNTS[debit]),
            credit: account(ACCOUNTS[credit]),
            amount: micros(amount),
        }),
        4 => (sides, amount.clone(), until).prop_map(|((debit, credit), amount, until)| Action::Pending {
            debit: account(ACCOUNTS[debit]),
            credit: account(ACCOUNTS[credit]),
            amount: micros(amount),
            expires_unix_ms: until,
        }),
        4 => (id(0), amount).prop_map(|(pending, amount)| Action::Post {
            pending: self::id(&pending),
            amount: micros(amount),
        }),
        2 => id(0).prop_map(|pending| Action::Void { pending: self::id(&pending) }),
    ];
    // Holds have ids of their own mostly, so that there is something to post.
    (action, 0..14u32, purpose).prop_map(|(action, n, purpose)| {
        let own = match &action {
            Action::Pending { .. } => n,
            _ => n + 10,
        };
        Transfer { id: self::id(&format!("t{own}")), purpose, action }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..3usize;
    let end = prop_oneof![3 => Just(End::Well), 1 => Just(End::Badly), 1 => Just(End::Panicking)];
    prop_oneof![
        1 => (0..ACCOUNTS.len() - 1, 0..KINDS.len())
            .prop_map(|(account, kind)| Step::Create { account, kind }),
        12 => (vec(transfer(), 1..4), proptest::option::weighted(0.5, slot.clone()))
            .prop_map(|(transfers, slot)| Step::Apply { transfers, slot }),
        2 => (0..20usize).prop_map(|which| Step::Again { which }),
        2 => vec((vec(transfer(), 1..3), end), 2..5).prop_map(|works| Step::Together { works }),
        8 => (slot.clone(), prop_oneof![4 => 1..3usize, 1 => 0..ACCOUNTS.len()], 0..60u64)
            .prop_map(|(slot, account, amount)| Step::Reserve { slot, account, amount }),
        2 => slot.prop_map(|slot| Step::Drop { slot }),
        1 => Just(Step::Expire),
        1 => Just(Step::Reopen),
        2 => (1..10u64).prop_map(|ms| Step::Later { ms }),
    ]
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    let failure = prop_oneof![Just(Failure::Io), Just(Failure::Torn), Just(Failure::Full)];
    let fault = (1..12u64, failure, any::<bool>()).prop_map(|(nth, failure, lasting)| Fault {
        nth,
        failure,
        only: None,
        lasting,
    });
    proptest::option::weighted(0.15, fault)
}

/// The real ledger, the model, and what both were asked.
struct Pair {
    folder: TempDir,
    faults: Faults,
    ledger: Option<Ledger>,
    slots: BTreeMap<usize, Arc<Reservation>>,
    model: Model,
    asked: Vec<Vec<Transfer>>,
    now: u64,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::register().unwrap();
        let mut pair = Self {
            folder,
            faults,
            ledger: None,
            slots: BTreeMap::new(),
            model: Model::default(),
            asked: Vec::new(),
            now: 1,
        };
        pair.reopen();
        for (name, kind) in ACCOUNTS.into_iter().zip(KINDS) {
            pair.create(name, kind);
        }
        for caller in ["ann", "bob"] {
            pair.apply(&[direct(&format!("top-up:{caller}"), "bank", caller, 100)], None);
        }
        pair
    }

    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.slots.clear();
        self.model.reserved.clear();
        self.ledger = None;
        let options = Options { vfs: Some(self.faults.name()) };
        self.ledger = Some(Ledger::open(self.folder.path().join("l.db"), (), options).unwrap());
    }

    fn create(&mut self, name: &str, kind: AccountKind) {
        let (id, now) = (account(name), self.now);
        let asked = id.clone();
        let found = self.ledger().write(move |tx| tx.create_account(&asked, kind, now).map(drop));
        let mut after = self.model.clone();
        let expected = after.create(&id, kind);
        self.compare(found, expected, after);
    }

    fn apply(&mut self, transfers: &[Transfer], slot: Option<usize>) {
        self.asked.push(transfers.to_vec());
        let slot = slot.filter(|slot| self.slots.contains_key(slot));
        let (works, now) = (transfers.to_vec(), self.now);
        let found = match slot.map(|slot| self.slots[&slot].clone()) {
            None => self.ledger().write(move |tx| tx.apply(&works, now)),
            Some(reservation) => {
                self.ledger().write(move |tx| tx.apply_reserved(&reservation, &works, now))
            }
        };
        let mut after = self.model.clone();
        let expected = after.apply(transfers, slot, self.now);
        self.compare(found, expected, after);
    }

    /// The same answer; or the store's error, and nothing done.
    fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        found: Result<T, LedgerError>,
        expected: Result<T, Rejected>,
        after: Model,
    ) {
        match found {
            Ok(found) => {
                assert_eq!(Ok(found), expected);
                self.model = after;
            }
            Err(LedgerError::Rejected(found)) => assert_eq!(Some(found), expected.err()),
            Err(LedgerError::Store(error)) => assert!(self.faults.failed() > 0, "{error}"),
        }
    }

    /// Works that are all there before the writer commits the first of them.
    fn together(&mut self, works: &[(Vec<Transfer>, End)]) {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let wait = gate.clone();
        self.ledger().write_then(
            move |_| {
                let (open, opened) = &*wait;
                drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                Ok::<_, LedgerError>(())
            },
            |_| {},
        );
        let (send, answers) = mpsc::channel();
        for (place, (transfers, end)) in works.iter().cloned().enumerate() {
            let (send, now) = (send.clone(), self.now);
            self.ledger().write_then(
                move |tx| {
                    let recorded = tx.apply(&transfers, now)?;
                    match end {
                        End::Well => Ok(recorded),
                        End::Badly => Err(StoreError::Closed.into()),
                        End::Panicking => std::panic::resume_unwind(Box::new("on purpose")),
                    }
                },
                move |answer: Result<_, LedgerError>| send.send((place, answer)).unwrap(),
            );
        }
        drop(send);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let answers: BTreeMap<_, _> = answers.iter().collect();
        assert_eq!(answers.len(), works.len());
        for ((transfers, end), found) in works.iter().zip(answers.into_values()) {
            self.asked.push(transfers.clone());
            let mut after = self.model.clone();
            let expected = after.apply(transfers, None, self.now);
            match (end, found) {
                (End::Badly, Err(LedgerError::Store(StoreError::Closed))) => {
                    assert!(expected.is_ok());
                }
                (End::Panicking, Err(LedgerError::Store(StoreError::Panicked { text }))) => {
                    assert!(expected.is_ok() && text == "on purpose");
                }
                (_, found) => self.compare(found, expected, after),
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Create { account, kind } => self.create(ACCOUNTS[*account], KINDS[*kind]),
            Step::Apply { transfers, slot } => self.apply(transfers, *slot),
            Step::Again { which } => {
                let transfers = self.asked[which % self.asked.len()].clone();
                self.apply(&transfers, None);
            }
            Step::Together { works } => self.together(works),
            Step::Reserve { slot, account: name, amount } => {
                self.drop_slot(*slot);
                let (id, amount) = (account(ACCOUNTS[*name]), micros(*amount));
                let found = self.ledger().reserve(&id, amount);
                let mut after = self.model.clone();
                let expected = after.reserve(*slot, &id, amount);
                let found = found.map(|held| drop(self.slots.insert(*slot, Arc::new(held))));
                self.compare(found, expected, after);
            }
            Step::Drop { slot } => self.drop_slot(*slot),
            Step::Expire => {
                let now = self.now;
                let found = self.ledger().write(move |tx| tx.expire(now));
                let mut after = self.model.clone();
                let expected = Ok(after.expire(now));
                self.compare(found, expected, after);
            }
            Step::Reopen => self.reopen(),
            Step::Later { ms } => self.now += ms,
        }
    }

    fn drop_slot(&mut self, slot: usize) {
        self.slots.remove(&slot);
        self.model.reserved.remove(&slot);
    }

    /// Everything that can be read is what the model has.
    fn check(&self) {
        self.ledger()
            .read(|reader| {
                let accounts = reader.accounts().unwrap();
                let found: BTreeMap<_, _> = accounts
                    .iter()
                    .map(|account| (account.id.clone(), (account.kind, as_model(account))))
                    .collect();
                assert_eq!(found, self.model.accounts);
                let mut open = Vec::new();
                for entry in &self.model.log {
                    let (recorded, end) = (&entry.recorded, entry.ended_by);
                    let name = &recorded.transfer.id;
                    assert_eq!(reader.transfer(name).unwrap().as_ref(), Some(recorded));
                    let end = end.map(|place| self.model.log[place].recorded.clone());
                    if matches!(recorded.transfer.action, Action::Pending { .. }) && end.is_none() {
                        open.push(recorded.clone());
                    }
                    assert_eq!(reader.resolution(name).unwrap(), end);
                }
                assert_eq!(reader.open_pendings().unwrap(), open);
                for account in &accounts {
                    self.check_history(reader, account);
                }
                reader.verify().unwrap();
            })
            .unwrap();
    }

    fn check_history(&self, reader: &Reader, account: &Account) {
        let mut lines = Vec::new();
        for entry in &self.model.log {
            for (side, after) in
                [&entry.recorded.debit, &entry.recorded.credit].into_iter().zip(entry.after)
            {
                if *side == account.id {
                    lines.push((entry.recorded.clone(), after));
                }
            }
            let at = reader.balance_at(&account.id, entry.recorded.seq).unwrap().unwrap();
            assert_eq!(as_model(&at), lines.last().map_or([0; 4], |(_, after)| *after));
        }
        let read = |span, limit| {
            let found = reader.history(&account.id, span, limit).unwrap();
            found
                .into_iter()
                .map(|line| (line.recorded, as_model(&line.account)))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(Span::After(0), usize::MAX), lines);
        lines.reverse();
        assert_eq!(read(Span::Newest, usize::MAX), lines);
        if let Some((second, _)) = lines.get(1) {
            assert_eq!(read(Span::Before(second.seq + 1), 1), lines[1..2]);
        }
    }
}

fn as_model(account: &Account) -> Four {
    four(account).map(i128::from)
}

/// Sequences, unless `PROPTEST_CASES` says otherwise: half a minute on one core, unoptimised.
const CASES: u32 = 2_000;

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config
}

proptest! {
    // Each takes some 20 commits; PROPTEST_CASES asks for more.
    #![proptest_config(config())]

    #[test]
    fn a_ledger_is_what_the_model_says(steps in vec((step(), fault()), 1..40)) {
        let mut pair = Pair::new();
        for (step, fault) in &steps {
            // A ledger that cannot be opened is another test's.
            if let Some(fault) = fault.filter(|_| !matches!(step, Step::Reopen)) {
                pair.faults.set(fault);
            }
            pair.step(step);
            pair.faults.heal();
        }
        pair.check();
        pair.reopen();
        pair.check();
    }
}
