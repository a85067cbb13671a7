//! Checks: what transfers would do to the accounts, or why they may not.
//!
//! Takes what the store has, changes copies, and touches neither the store nor the accounts: a batch
//! is done as a whole or not at all.

use crate::{
    account::{Account, AccountId},
    credits::Credits,
    error::Rejected,
    funds::{State, insufficient},
    rows::stored,
    transfer::{Action, Recorded, Transfer, TransferId},
};
use std::collections::HashMap;

/// What the store knows of one transfer that is asked for.
#[derive(Default)]
pub(crate) struct Known {
    /// The transfer of the same id.
    pub(crate) recorded: Option<Recorded>,
    /// The hold that it posts or voids.
    pub(crate) hold: Option<Hold>,
}

/// A pending transfer, and what became of it.
#[derive(Clone)]
pub(crate) struct Hold {
    pub(crate) recorded: Recorded,
    pub(crate) resolution: Option<Recorded>,
}

/// What is to be done for one transfer.
pub(crate) enum Step {
    /// Nothing: it was done before.
    Repeat(Recorded),
    /// Rows are written.
    Write {
        recorded: Recorded,
        /// Place of the hold that it posts or voids.
        hold_seq: Option<u64>,
        /// Both accounts after it.
        debit: Account,
        credit: Account,
    },
}

/// A reservation that transfers may use.
#[derive(Clone, Copy)]
pub(crate) struct Budget<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) number: Option<u64>,
    /// Micro-credits.
    pub(crate) left: i128,
}

/// A batch as far as it was checked.
pub(crate) struct Plan<'a, F> {
    accounts: F,
    funds: &'a State,
    budget: Option<Budget<'a>>,
    now_unix_ms: u64,
    next_seq: u64,
    /// Accounts as they would be.
    changed: HashMap<AccountId, Account>,
    /// Debits that come out of the budget, in micro-credits.
    budget_debits: i128,
    /// Transfers of this batch by their ids, and what posts or voids a hold by the hold's.
    by_id: HashMap<TransferId, Recorded>,
    resolved: HashMap<TransferId, Recorded>,
}

/// What came of a batch.
pub(crate) struct Planned {
    pub(crate) steps: Vec<Step>,
    pub(crate) changed: HashMap<AccountId, Account>,
    pub(crate) budget_debits: i128,
    pub(crate) next_seq: u64,
}

/// The totals of an account that a transfer changes.
#[derive(Clone, Copy)]
enum Side {
    Debit,
    Credit,
}

impl<'a, F: Fn(&AccountId) -> Option<Account>> Plan<'a, F> {
    /// `accounts` gives an account as the open transaction has it.
    pub(crate) fn new(
        accounts: F,
        funds: &'a State,
        budget: Option<Budget<'a>>,
        now_unix_ms: u64,
        next_seq: u64,
    ) -> Self {
        Self {
            accounts,
            funds,
            budget,
            now_unix_ms,
            next_seq,
            changed: HashMap::new(),
            budget_debits: 0,
            by_id: HashMap::new(),
            resolved: HashMap::new(),
        }
    }

    /// Checks them in their order.
    pub(crate) fn batch(
        mut self,
        transfers: &[Transfer],
        known: Vec<Known>,
    ) -> Result<Planned, Rejected> {
        let mut steps = Vec::with_capacity(transfers.len());
        for (place, (transfer, known)) in transfers.iter().zip(known).enumerate() {
            let step = self.check(transfer, known)?;
            // Those that come later may repeat, post or void it.
            if place + 1 < transfers.len()
                && let Step::Write { recorded, .. } = &step
            {
                self.by_id.insert(recorded.transfer.id.clone(), recorded.clone());
                if let Some(hold) = recorded.transfer.action.pending() {
                    self.resolved.insert(hold.clone(), recorded.clone());
                }
            }
            steps.push(step);
        }
        let Self { changed, budget_debits, next_seq, .. } = self;
        Ok(Planned { steps, changed, budget_debits, next_seq })
    }

    fn check(&mut self, transfer: &Transfer, known: Known) -> Result<Step, Rejected> {
        let recorded = self.by_id.get(&transfer.id).cloned().or(known.recorded);
        if let Some(recorded) = recorded {
            same(transfer, &recorded.transfer)?;
            return Ok(Step::Repeat(Recorded { repeated: true, ..recorded }));
        }
        match &transfer.action {
            Action::Direct { debit, credit, amount } => {
                let (from, to) = self.sides(transfer, debit, credit, *amount)?;
                self.spend(&from, *amount)?;
                let from = self.posted(transfer, Side::Debit, from, *amount)?;
                let to = self.posted(transfer, Side::Credit, to, *amount)?;
                Ok(self.write(transfer, *amount, None, from, to))
            }
            Action::Pending { debit, credit, amount, .. } => {
                let (mut from, mut to) = self.sides(transfer, debit, credit, *amount)?;
                self.spend(&from, *amount)?;
                let over = |account: &Account| overflow(transfer, account, *amount);
                let pending = from.debits_pending.checked_add(*amount);
                from.debits_pending = pending.ok_or_else(|| over(&from))?;
                let pending = to.credits_pending.checked_add(*amount);
                to.credits_pending = pending.ok_or_else(|| over(&to))?;
                Ok(self.write(transfer, *amount, None, from, to))
            }
            Action::Post { pending, amount } => {
                let hold = self.open_hold(transfer, pending, known.hold)?;
                if *amount > hold.amount {
                    let (pending, held) = (pending.clone(), hold.amount);
                    return Err(Rejected::OverPending { pending, amount: *amount, held });
                }
                let (from, to) = self.released(transfer, &hold)?;
                let from = self.posted(transfer, Side::Debit, from, *amount)?;
                let to = self.posted(transfer, Side::Credit, to, *amount)?;
                Ok(self.write(transfer, *amount, Some(hold.seq), from, to))
            }
            Action::Void { pending } => {
                let hold = self.open_hold(transfer, pending, known.hold)?;
                let (from, to) = self.released(transfer, &hold)?;
                Ok(self.write(transfer, hold.amount, Some(hold.seq), from, to))
            }
        }
    }

    fn account(&self, id: &AccountId) -> Result<Account, Rejected> {
        let found = self.changed.get(id).cloned().or_else(|| (self.accounts)(id));
        found.ok_or_else(|| Rejected::UnknownAccount { account: id.clone() })
    }

    /// Both accounts of a transfer that may still grow by its amount. Pending amounts count as if they
    /// were posted, so that a hold can always be posted.
    fn sides(
        &self,
        transfer: &Transfer,
        debit: &AccountId,
        credit: &AccountId,
        amount: Credits,
    ) -> Result<(Account, Account), Rejected> {
        if amount == Credits::ZERO {
            return Err(Rejected::AmountZero { id: transfer.id.clone() });
        }
        if debit == credit {
            let (id, account) = (transfer.id.clone(), debit.clone());
            return Err(Rejected::SameAccount { id, account });
        }
        let (from, to) = (self.account(debit)?, self.account(credit)?);
        let fits = |pending: Credits, posted: Credits| {
            pending.checked_add(posted).and_then(|sum| sum.checked_add(amount)).is_some()
        };
        if !fits(to.credits_pending, to.credits_posted) {
            return Err(overflow(transfer, &to, amount));
        }
        // Others cannot debit more than they were credited.
        if from.kind.may_go_negative() && !fits(from.debits_pending, from.debits_posted) {
            return Err(overflow(transfer, &from, amount));
        }
        Ok((from, to))
    }

    /// Whether the account can pay: out of the budget if it is that of the budget, and without what
    /// others have reserved.
    fn spend(&mut self, from: &Account, amount: Credits) -> Result<(), Rejected> {
        let micros = i128::from(amount.micros());
        let mut others = self.funds.reserved(&from.id);
        if let Some(budget) = self.budget.filter(|budget| *budget.account == from.id) {
            others -= budget.left;
            let debits = self.budget_debits + micros;
            if debits > budget.left {
                let account = from.id.clone();
                let (debits, reserved) = (credits(debits), credits(budget.left));
                return Err(Rejected::OverReservation { account, debits, reserved });
            }
            self.budget_debits = debits;
        }
        let free = from.available() - others;
        if !from.kind.may_go_negative() && free < micros {
            return Err(insufficient(&from.id, free, amount));
        }
        Ok(())
    }

    /// An account after a post to one side of it.
    fn posted(
        &self,
        transfer: &Transfer,
        side: Side,
        mut account: Account,
        amount: Credits,
    ) -> Result<Account, Rejected> {
        let total = match side {
            Side::Debit => &mut account.debits_posted,
            Side::Credit => &mut account.credits_posted,
        };
        match total.checked_add(amount) {
            Some(sum) => *total = sum,
            None => return Err(overflow(transfer, &account, amount)),
        }
        Ok(account)
    }

    /// The hold, if it can still be posted or voided.
    fn open_hold(
        &self,
        transfer: &Transfer,
        pending: &TransferId,
        known: Option<Hold>,
    ) -> Result<Recorded, Rejected> {
        let of_batch = self.by_id.get(pending).cloned();
        let hold = of_batch.map(|recorded| Hold { recorded, resolution: None }).or(known);
        let unknown = || Rejected::UnknownPending { pending: pending.clone() };
        let Hold { recorded, resolution } = hold.ok_or_else(unknown)?;
        let Action::Pending { expires_unix_ms, .. } = recorded.transfer.action else {
            return Err(unknown());
        };
        let expired = Rejected::PendingExpired {
            pending: pending.clone(),
            expires_unix_ms: expires_unix_ms.unwrap_or(u64::MAX),
            now_unix_ms: self.now_unix_ms,
        };
        if let Some(resolution) = self.resolved.get(pending).cloned().or(resolution) {
            let (pending, by) = (pending.clone(), resolution.transfer.id);
            return Err(match resolution.transfer.action {
                Action::Post { .. } => Rejected::PendingPosted { pending, by },
                Action::Void { .. } if by.is_expiry() => expired,
                Action::Void { .. } => Rejected::PendingVoided { pending, by },
                // The store has these two in no place where a hold ends.
                Action::Direct { .. } | Action::Pending { .. } => unknown(),
            });
        }
        let overdue = expires_unix_ms.is_some_and(|expires| expires <= self.now_unix_ms);
        // Only the ledger makes ids of this form, for holds that it found overdue.
        if overdue && !transfer.id.is_expiry() {
            return Err(expired);
        }
        Ok(recorded)
    }

    /// Both accounts of a hold, without it.
    fn released(
        &self,
        transfer: &Transfer,
        hold: &Recorded,
    ) -> Result<(Account, Account), Rejected> {
        let (mut from, mut to) = (self.account(&hold.debit)?, self.account(&hold.credit)?);
        // A hold is part of its accounts' totals as long as it is open.
        let under = |account: &Account| overflow(transfer, account, hold.amount);
        let pending = from.debits_pending.checked_sub(hold.amount);
        from.debits_pending = pending.ok_or_else(|| under(&from))?;
        let pending = to.credits_pending.checked_sub(hold.amount);
        to.credits_pending = pending.ok_or_else(|| under(&to))?;
        Ok((from, to))
    }

    fn write(
        &mut self,
        transfer: &Transfer,
        amount: Credits,
        hold_seq: Option<u64>,
        debit: Account,
        credit: Account,
    ) -> Step {
        let mut transfer = transfer.clone();
        if let Action::Pending { expires_unix_ms: Some(expires), .. } = &mut transfer.action {
            *expires = storable(*expires);
        }
        let recorded = Recorded {
            seq: self.next_seq,
            transfer,
            debit: debit.id.clone(),
            credit: credit.id.clone(),
            amount,
            recorded_unix_ms: storable(self.now_unix_ms),
            repeated: false,
        };
        self.next_seq += 1;
        self.changed.insert(debit.id.clone(), debit.clone());
        self.changed.insert(credit.id.clone(), credit.clone());
        Step::Write { recorded, hold_seq, debit, credit }
    }
}

/// A time as it comes back from the store.
fn storable(unix_ms: u64) -> u64 {
    stored(unix_ms).unsigned_abs()
}

/// Micro-credits that are known to be an amount, or the nearest one.
fn credits(micros: i128) -> Credits {
    let micros = micros.clamp(0, Credits::MAX.micros().into());
    u64::try_from(micros).ok().and_then(Credits::from_micros).unwrap_or(Credits::MAX)
}

fn overflow(transfer: &Transfer, account: &Account, amount: Credits) -> Rejected {
    let (id, account) = (transfer.id.clone(), account.id.clone());
    Rejected::AmountOverflow { id, account, amount }
}

/// Whether a transfer asks for what was recorded under its id.
fn same(found: &Transfer, recorded: &Transfer) -> Result<(), Rejected> {
    let fields = fields(found).into_iter().zip(fields(recorded));
    for ((field, found_value), (_, stored_value)) in fields {
        if found_value != stored_value {
            return Err(Rejected::IdReused {
                id: found.id.clone(),
                field,
                found: found_value,
                stored: stored_value,
            });
        }
    }
    Ok(())
}

/// What a transfer asks for, as words.
fn fields(transfer: &Transfer) -> [(&'static str, String); 7] {
    let none = || String::from("none");
    let (debit, credit, amount, expires) = match &transfer.action {
        Action::Direct { debit, credit, amount } => {
            (debit.to_string(), credit.to_string(), amount.to_string(), none())
        }
        Action::Pending { debit, credit, amount, expires_unix_ms } => {
            let expires = expires_unix_ms.map_or_else(none, |ms| storable(ms).to_string());
            (debit.to_string(), credit.to_string(), amount.to_string(), expires)
        }
        Action::Post { amount, .. } => (none(), none(), amount.to_string(), none()),
        Action::Void { .. } => (none(), none(), none(), none()),
    };
    let pending = transfer.action.pending().map_or_else(none, TransferId::to_string);
    [
        ("purpose", transfer.purpose.to_string()),
        ("action", transfer.action.name().to_owned()),
        ("debit", debit),
        ("credit", credit),
        ("pending", pending),
        ("amount", amount),
        ("expires_unix_ms", expires),
    ]
}
