//! Accounts: the ledger as operators use it. Credits come from the operator's account and go back to
//! it; every movement has a name that its client chose, so that it can be sent twice and happens once.

use crate::{
    books::{Books, HouseAccounts},
    fault::{HostFault, JobError},
    shared::now_unix_ms,
    tables::Tables,
};
use fuelbox_ledger::{
    Account, AccountId, AccountKind, Action, Credits, Ledger, LedgerError, Line, Purpose, Recorded,
    Span, Transfer, TransferId,
};

/// The accounts of a host.
pub struct Accounts<'a> {
    books: &'a Books,
}

impl<'a> Accounts<'a> {
    pub(crate) fn new(books: &'a Books) -> Self {
        Self { books }
    }

    /// Opens an account; the same account once more is no error.
    ///
    /// # Errors
    /// When there is one of another kind.
    pub fn create(&self, id: &AccountId, kind: AccountKind) -> Result<Account, JobError> {
        let (id, now) = (id.clone(), now_unix_ms());
        let created = self
            .books
            .ledger
            .write(move |tx| -> Result<_, LedgerError> { tx.create_account(&id, kind, now) })?;
        Ok(created)
    }

    /// An account.
    ///
    /// # Errors
    /// When there is none, and when the store fails.
    pub fn show(&self, id: &AccountId) -> Result<Account, JobError> {
        let found = self.books.ledger.read(|reader| reader.account(id))??;
        let unknown = || fuelbox_ledger::Rejected::UnknownAccount { account: id.clone() };
        Ok(found.ok_or_else(unknown)?)
    }

    /// What the host earned and still has, in micro-credits.
    ///
    /// # Errors
    /// When the store fails.
    pub fn earned_micros(&self) -> Result<i128, JobError> {
        Ok(self.show(&self.books.house.revenue)?.available())
    }

    /// All accounts, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<Account>, HostFault> {
        Ok(self.books.ledger.read(|reader| reader.accounts())??)
    }

    /// Gives credits to an account.
    ///
    /// # Errors
    /// When there is no such account, and when the name belongs to another transfer.
    pub fn top_up(
        &self,
        account: &AccountId,
        amount: Credits,
        id: TransferId,
    ) -> Result<Recorded, JobError> {
        let operator = &self.books.house.operator;
        self.transfer(id, Purpose::TopUp, operator, account, amount)
    }

    /// Takes credits out of an account, such as a publisher's earnings that were paid in money.
    ///
    /// # Errors
    /// As for [`Accounts::top_up`], and when the account has less.
    pub fn pay_out(
        &self,
        account: &AccountId,
        amount: Credits,
        id: TransferId,
    ) -> Result<Recorded, JobError> {
        let operator = &self.books.house.operator;
        self.transfer(id, Purpose::Payout, account, operator, amount)
    }

    /// Gives credits back to an account, out of what the host earned.
    ///
    /// # Errors
    /// As for [`Accounts::top_up`], and when the host has earned less.
    pub fn refund(
        &self,
        account: &AccountId,
        amount: Credits,
        id: TransferId,
    ) -> Result<Recorded, JobError> {
        let revenue = &self.books.house.revenue;
        self.transfer(id, Purpose::Refund, revenue, account, amount)
    }

    /// What moved on an account, the latest first.
    ///
    /// # Errors
    /// When there is no such account, and when the store fails.
    pub fn statement(
        &self,
        account: &AccountId,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Line>, JobError> {
        self.show(account)?;
        let lines = self.books.ledger.read(|reader| reader.history(account, span, limit))??;
        Ok(lines)
    }

    fn transfer(
        &self,
        id: TransferId,
        purpose: Purpose,
        debit: &AccountId,
        credit: &AccountId,
        amount: Credits,
    ) -> Result<Recorded, JobError> {
        let (debit, credit) = (debit.clone(), credit.clone());
        let transfer = Transfer { id, purpose, action: Action::Direct { debit, credit, amount } };
        let now = now_unix_ms();
        let recorded = self.books.ledger.write(move |tx| -> Result<_, LedgerError> {
            tx.apply(std::slice::from_ref(&transfer), now)
        })?;
        let one = recorded.into_iter().next();
        one.ok_or_else(|| HostFault::Books("a transfer left no record".into()).into())
    }
}

/// Makes the accounts that every host has.
pub(crate) fn house_accounts(ledger: &Ledger<Tables>) -> Result<HouseAccounts, HostFault> {
    let named =
        |name: &str| name.parse::<AccountId>().map_err(|error| HostFault::Books(error.to_string()));
    let house = HouseAccounts {
        operator: named("operator")?,
        revenue: named("revenue")?,
        escrow: named("escrow")?,
    };
    let (accounts, now) = (house.clone(), now_unix_ms());
    ledger.write(move |tx| -> Result<(), LedgerError> {
        tx.create_account(&accounts.operator, AccountKind::Operator, now)?;
        tx.create_account(&accounts.revenue, AccountKind::Revenue, now)?;
        tx.create_account(&accounts.escrow, AccountKind::Escrow, now)?;
        Ok(())
    })?;
    Ok(house)
}
