//! What a piece of work may do inside of a transaction.

use crate::{
    account::{Account, AccountId, AccountKind},
    book::Book,
    error::LedgerError,
    extension::Extension,
    funds::Reservation,
    transfer::{Recorded, Transfer, TransferId},
};
use rusqlite::Connection;

/// Holds that one call of [`Tx::expire`] voids at most, so that no transaction grows without bound.
pub const EXPIRED_MAX: usize = 1_024;

/// The open transaction, as one piece of work sees it: everything before it is there, and what it does
/// is committed together with the works beside it.
pub struct Tx<'a, E: Extension> {
    book: &'a mut Book<E>,
}

impl<'a, E: Extension> Tx<'a, E> {
    pub(crate) fn new(book: &'a mut Book<E>) -> Self {
        Self { book }
    }

    /// Makes an account. One of the same kind that is there already is left as it is.
    ///
    /// # Errors
    /// When it is there with another kind, or the store fails.
    pub fn create_account(
        &mut self,
        id: &AccountId,
        kind: AccountKind,
        now_unix_ms: u64,
    ) -> Result<Account, LedgerError> {
        self.book.create_account(id, kind, now_unix_ms)
    }

    /// An account as it is at this point of the transaction.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account(&mut self, id: &AccountId) -> Result<Option<Account>, LedgerError> {
        Ok(self.book.account(id)?)
    }

    /// Does all of these transfers in their order, or none. One that was done before, under the same
    /// id and with the same content, is not done again.
    ///
    /// # Errors
    /// When one of them breaks a rule, or the store fails. Rules are checked before anything is
    /// written, so a work may go on after a [`Rejected`](crate::Rejected).
    pub fn apply(
        &mut self,
        transfers: &[Transfer],
        now_unix_ms: u64,
    ) -> Result<Vec<Recorded>, LedgerError> {
        self.book.apply(transfers, None, now_unix_ms)
    }

    /// As [`Tx::apply`], with debits of the reservation's account taken out of the reservation. That
    /// uses the reservation up: what is over is free at once.
    ///
    /// # Errors
    /// As [`Tx::apply`], and when more would be debited than is reserved.
    pub fn apply_reserved(
        &mut self,
        reservation: &Reservation,
        transfers: &[Transfer],
        now_unix_ms: u64,
    ) -> Result<Vec<Recorded>, LedgerError> {
        let number = reservation.number_in(&self.book.funds);
        self.book.apply(transfers, Some((reservation.account(), number)), now_unix_ms)
    }

    /// Voids holds that are overdue, the longest overdue first, up to [`EXPIRED_MAX`] of them. Gives
    /// the ids of the holds; each is voided by a transfer with that id and `:expired` behind it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn expire(&mut self, now_unix_ms: u64) -> Result<Vec<TransferId>, LedgerError> {
        let voids = self.book.overdue(now_unix_ms, EXPIRED_MAX)?;
        let voided = self.book.apply(&voids, None, now_unix_ms)?;
        let hold = |recorded: Recorded| recorded.transfer.action.pending().cloned();
        Ok(voided.into_iter().filter_map(hold).collect())
    }

    /// The connection, for rows of the extension. The ledger's own tables are not to be written to,
    /// tables not to be made or changed, and the transaction not to be ended.
    pub fn connection(&self) -> &Connection {
        &self.book.connection
    }

    /// The extension, to be changed. A work that fails after this is taken to have written.
    pub fn extension(&mut self) -> (&mut E, &Connection) {
        self.book.extension_lent = true;
        (&mut self.book.extension, &self.book.connection)
    }

    /// The extension, to be looked at.
    pub fn extension_ref(&self) -> &E {
        &self.book.extension
    }
}
