//! What the tests say in short.

use fuelbox_ledger::*;
use tempfile::TempDir;

pub(crate) fn account(id: &str) -> AccountId {
    id.parse().unwrap()
}

pub(crate) fn id(id: &str) -> TransferId {
    id.parse().unwrap()
}

pub(crate) fn micros(micros: u64) -> Credits {
    Credits::from_micros(micros).unwrap()
}

pub(crate) fn direct(name: &str, debit: &str, credit: &str, amount: u64) -> Transfer {
    let (debit, credit, amount) = (account(debit), account(credit), micros(amount));
    let action = Action::Direct { debit, credit, amount };
    Transfer { id: id(name), purpose: Purpose::Charge, action }
}

pub(crate) fn hold(
    name: &str,
    debit: &str,
    credit: &str,
    amount: u64,
    until: Option<u64>,
) -> Transfer {
    let (debit, credit, amount) = (account(debit), account(credit), micros(amount));
    let action = Action::Pending { debit, credit, amount, expires_unix_ms: until };
    Transfer { id: id(name), purpose: Purpose::Hold, action }
}

pub(crate) fn post(name: &str, pending: &str, amount: u64) -> Transfer {
    let action = Action::Post { pending: id(pending), amount: micros(amount) };
    Transfer { id: id(name), purpose: Purpose::Charge, action }
}

pub(crate) fn void(name: &str, pending: &str) -> Transfer {
    let action = Action::Void { pending: id(pending) };
    Transfer { id: id(name), purpose: Purpose::Refund, action }
}

pub(crate) fn open(folder: &TempDir) -> Ledger {
    Ledger::open(folder.path().join("ledger.db"), (), Options::default()).unwrap()
}

/// `bank` (operator), `shop` (revenue), and `ann` and `bob` (callers) with these micro-credits each.
pub(crate) fn furnish(ledger: &Ledger, each: u64) {
    let made = ledger.write(move |tx| {
        tx.create_account(&account("bank"), AccountKind::Operator, 1)?;
        tx.create_account(&account("shop"), AccountKind::Revenue, 1)?;
        for caller in ["ann", "bob"] {
            tx.create_account(&account(caller), AccountKind::Caller, 1)?;
            if each > 0 {
                let top_up = direct(&format!("top-up:{caller}"), "bank", caller, each);
                tx.apply(&[top_up], 1)?;
            }
        }
        Ok::<_, LedgerError>(())
    });
    made.unwrap();
}

pub(crate) fn apply(
    ledger: &Ledger,
    transfers: &[Transfer],
    now_unix_ms: u64,
) -> Result<Vec<Recorded>, LedgerError> {
    let transfers = transfers.to_vec();
    ledger.write(move |tx| tx.apply(&transfers, now_unix_ms))
}

/// `debits pending/posted, credits pending/posted`, in micro-credits.
pub(crate) fn totals(ledger: &Ledger, name: &str) -> [u64; 4] {
    let found = ledger.read(|reader| reader.account(&account(name))).unwrap().unwrap().unwrap();
    four(&found)
}

pub(crate) fn four(account: &Account) -> [u64; 4] {
    let Account { debits_pending, debits_posted, credits_pending, credits_posted, .. } = account;
    [debits_pending, debits_posted, credits_pending, credits_posted].map(|total| total.micros())
}
