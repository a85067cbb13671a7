//! A ledger as one would write it without a disk: lists, sums, and a copy before every change. It
//! shares no code with the real one, only the types of its questions and answers.

use crate::common::*;
use fuelbox_ledger::*;
use std::collections::BTreeMap;

/// Debits pending and posted, credits pending and posted.
pub(crate) type Four = [i128; 4];

const LIMIT: i128 = i64::MAX as i128;

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) accounts: BTreeMap<AccountId, (AccountKind, Four)>,
    pub(crate) log: Vec<Entry>,
    /// By a number of the test's: whose, and how much is left.
    pub(crate) reserved: BTreeMap<usize, (AccountId, i128)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) recorded: Recorded,
    /// Of the debited and of the credited account.
    pub(crate) after: [Four; 2],
    /// Of a hold: which entry ended it.
    pub(crate) ended_by: Option<usize>,
}

impl Model {
    pub(crate) fn create(&mut self, id: &AccountId, kind: AccountKind) -> Result<(), Rejected> {
        let (stored, _) = *self.accounts.entry(id.clone()).or_insert((kind, [0; 4]));
        if stored != kind {
            return Err(Rejected::OtherKind { account: id.clone(), found: kind, stored });
        }
        Ok(())
    }

    fn find(&self, id: &TransferId) -> Option<usize> {
        self.log.iter().position(|entry| entry.recorded.transfer.id == *id)
    }

    fn free(&self, id: &AccountId, but: Option<usize>) -> i128 {
        let (_, [debits_pending, debits_posted, _, credits_posted]) = self.accounts[id];
        let others =
            self.reserved.iter().filter(|(slot, held)| Some(**slot) != but && held.0 == *id);
        credits_posted
            - debits_posted
            - debits_pending
            - others.map(|(_, held)| held.1).sum::<i128>()
    }

    pub(crate) fn reserve(
        &mut self,
        slot: usize,
        id: &AccountId,
        amount: Credits,
    ) -> Result<(), Rejected> {
        let Some((kind, _)) = self.accounts.get(id) else {
            return Err(Rejected::UnknownAccount { account: id.clone() });
        };
        if *kind != AccountKind::Operator {
            self.afford(id, amount, None)?;
        }
        self.reserved.insert(slot, (id.clone(), amount.micros().into()));
        Ok(())
    }

    fn afford(&self, id: &AccountId, needed: Credits, but: Option<usize>) -> Result<(), Rejected> {
        let free = self.free(id, but);
        let missing = i128::from(needed.micros()) - free;
        if missing <= 0 {
            return Ok(());
        }
        let available = micros(free.max(0) as u64);
        let shortfall = micros(needed.micros() - available.micros());
        Err(Rejected::InsufficientFunds { account: id.clone(), available, needed, shortfall })
    }

    /// All or nothing; out of the reservation in this slot, if there is one.
    pub(crate) fn apply(
        &mut self,
        transfers: &[Transfer],
        slot: Option<usize>,
        now: u64,
    ) -> Result<Vec<Recorded>, Rejected> {
        let mut next = self.clone();
        let mut debited = 0;
        let all = transfers.iter().map(|transfer| next.one(transfer, slot, &mut debited, now));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        if let Some(held) = slot.and_then(|slot| next.reserved.get_mut(&slot)) {
            held.1 = 0;
        }
        *self = next;
        Ok(all)
    }

    pub(crate) fn expire(&mut self, now: u64) -> Vec<TransferId> {
        let mut due: Vec<(u64, usize)> = Vec::new();
        for (place, entry) in self.log.iter().enumerate() {
            if let Action::Pending { expires_unix_ms: Some(at), .. } =
                entry.recorded.transfer.action
                && at <= now
                && entry.ended_by.is_none()
            {
                due.push((at, place));
            }
        }
        due.sort_unstable();
        let mut ids = Vec::new();
        for (_, place) in due {
            let hold = self.log[place].recorded.clone();
            let mut voiding = hold.clone();
            voiding.transfer.action = Action::Void { pending: hold.transfer.id.clone() };
            self.end(place, voiding, 0, now);
            ids.push(hold.transfer.id);
        }
        ids
    }

    fn one(
        &mut self,
        transfer: &Transfer,
        slot: Option<usize>,
        debited: &mut i128,
        now: u64,
    ) -> Result<Recorded, Rejected> {
        if let Some(place) = self.find(&transfer.id) {
            let stored = &self.log[place].recorded;
            if let Some((field, found, stored)) = difference(transfer, &stored.transfer) {
                let id = transfer.id.clone();
                return Err(Rejected::IdReused { id, field, found, stored });
            }
            return Ok(Recorded { repeated: true, ..stored.clone() });
        }
        let mut recorded = Recorded {
            seq: 0,
            transfer: transfer.clone(),
            debit: account("none"),
            credit: account("none"),
            amount: micros(0),
            recorded_unix_ms: now,
            repeated: false,
        };
        match &transfer.action {
            Action::Direct { debit, credit, amount }
            | Action::Pending { debit, credit, amount, .. } => {
                let id = transfer.id.clone();
                if amount.micros() == 0 {
                    return Err(Rejected::AmountZero { id });
                }
                if debit == credit {
                    return Err(Rejected::SameAccount { id, account: debit.clone() });
                }
                for side in [debit, credit] {
                    if !self.accounts.contains_key(side) {
                        return Err(Rejected::UnknownAccount { account: side.clone() });
                    }
                }
                let sum = i128::from(amount.micros());
                let (from, to) = (self.accounts[debit], self.accounts[credit]);
                let operator = from.0 == AccountKind::Operator;
                for (account, [pending, posted]) in
                    [(credit, [to.1[2], to.1[3]]), (debit, [from.1[0], from.1[1]])]
                {
                    // Who spends what it has cannot get there.
                    if pending + posted + sum > LIMIT && (account == credit || operator) {
                        let account = account.clone();
                        return Err(Rejected::AmountOverflow { id, account, amount: *amount });
                    }
                }
                let own = slot.filter(|slot| self.reserved[slot].0 == *debit);
                if let Some(slot) = own {
                    let left = self.reserved[&slot].1;
                    if *debited + sum > left {
                        return Err(Rejected::OverReservation {
                            account: debit.clone(),
                            debits: micros((*debited + sum).min(LIMIT) as u64),
                            reserved: micros(left as u64),
                        });
                    }
                    *debited += sum;
                }
                if !operator {
                    self.afford(debit, *amount, own)?;
                }
                let total = usize::from(matches!(transfer.action, Action::Direct { .. }));
                self.accounts.get_mut(debit).unwrap().1[total] += sum;
                self.accounts.get_mut(credit).unwrap().1[2 + total] += sum;
                (recorded.debit, recorded.credit) = (debit.clone(), credit.clone());
                recorded.amount = *amount;
                Ok(self.push(recorded))
            }
            Action::Post { pending, .. } | Action::Void { pending } => {
                let unknown = Rejected::UnknownPending { pending: pending.clone() };
                let Some(place) = self.find(pending) else { return Err(unknown) };
                let hold = self.log[place].clone();
                let Action::Pending { expires_unix_ms, .. } = hold.recorded.transfer.action else {
                    return Err(unknown);
                };
                let expired = Rejected::PendingExpired {
                    pending: pending.clone(),
                    expires_unix_ms: expires_unix_ms.unwrap_or(0),
                    now_unix_ms: now,
                };
                if let Some(end) = hold.ended_by {
                    let end = &self.log[end].recorded.transfer;
                    let (pending, by) = (pending.clone(), end.id.clone());
                    return Err(if by.as_str().ends_with(":expired") {
                        expired
                    } else if matches!(end.action, Action::Post { .. }) {
                        Rejected::PendingPosted { pending, by }
                    } else {
                        Rejected::PendingVoided { pending, by }
                    });
                }
                if expires_unix_ms.is_some_and(|at| at <= now) {
                    return Err(expired);
                }
                let held = hold.recorded.amount;
                let posted = match &transfer.action {
                    Action::Post { amount, .. } if *amount > held => {
                        let (pending, amount) = (pending.clone(), *amount);
                        return Err(Rejected::OverPending { pending, amount, held });
                    }
                    Action::Post { amount, .. } => amount.micros().into(),
                    _ => 0,
                };
                Ok(self.end(place, recorded, posted, now))
            }
        }
    }

    /// Ends a hold. The transfer that does it gets the hold's sides.
    fn end(&mut self, place: usize, mut by: Recorded, posted: i128, now: u64) -> Recorded {
        let hold = self.log[place].recorded.clone();
        let held = i128::from(hold.amount.micros());
        for (side, at) in [(&hold.debit, 0), (&hold.credit, 2)] {
            let totals = &mut self.accounts.get_mut(side).unwrap().1;
            totals[at] -= held;
            totals[at + 1] += posted;
        }
        if by.transfer.id == hold.transfer.id {
            by.transfer.id = hold.transfer.id.expiry();
        }
        by.amount = match by.transfer.action {
            Action::Void { .. } => hold.amount,
            _ => micros(posted as u64),
        };
        (by.debit, by.credit, by.recorded_unix_ms) = (hold.debit, hold.credit, now);
        self.log[place].ended_by = Some(self.log.len());
        self.push(by)
    }

    fn push(&mut self, mut recorded: Recorded) -> Recorded {
        recorded.seq = self.log.len() as u64 + 1;
        let after = [self.accounts[&recorded.debit].1, self.accounts[&recorded.credit].1];
        self.log.push(Entry { recorded: recorded.clone(), after, ended_by: None });
        recorded
    }
}

type Field = fn(&Transfer) -> String;

/// The first field that differs, and both values.
fn difference(found: &Transfer, stored: &Transfer) -> Option<(&'static str, String, String)> {
    let all: [(&'static str, Field); 7] = [
        ("purpose", |t| t.purpose.name().into()),
        ("action", |t| t.action.name().into()),
        ("debit", |t| match &t.action {
            Action::Direct { debit, .. } | Action::Pending { debit, .. } => debit.to_string(),
            _ => "none".into(),
        }),
        ("credit", |t| match &t.action {
            Action::Direct { credit, .. } | Action::Pending { credit, .. } => credit.to_string(),
            _ => "none".into(),
        }),
        ("pending", |t| match &t.action {
            Action::Post { pending, .. } | Action::Void { pending } => pending.to_string(),
            _ => "none".into(),
        }),
        ("amount", |t| match &t.action {
            Action::Direct { amount, .. }
            | Action::Pending { amount, .. }
            | Action::Post { amount, .. } => amount.to_string(),
            Action::Void { .. } => "none".into(),
        }),
        ("expires_unix_ms", |t| match &t.action {
            Action::Pending { expires_unix_ms: Some(at), .. } => at.to_string(),
            _ => "none".into(),
        }),
    ];
    let differs = all.into_iter().find(|(_, value)| value(found) != value(stored));
    differs.map(|(field, value)| (field, value(found), value(stored)))
}
