//! The money: double-entry accounts in micro-credits, with holds, on SQLite.
//!
//! A *pending* transfer (a hold) is *posted*, up to its amount, or *voided*, once. A *reservation* is a
//! hold in memory alone. The modules stand in the order of the data's flow:
//!
//! ```text
//! Transfer -> queue -> writer -> transaction (plan: checks; book: rows) -> commit -> answer
//! reserve  -> funds (a map in memory) -> Reservation -> Tx::apply_reserved
//! rows     -> reader -> Account, Recorded, Line
//! ```
//!
//! Whoever has an answer has it on the disk: works that wait at the same time share one commit.
//!
//! Knows nothing of jobs, Wasm, networks, clocks or async. Rows of others share its transactions
//! through [`Extension`].

#[cfg(feature = "faults")]
pub mod faults;
mod credits;
mod account;
mod transfer;
mod error;
mod extension;
mod schema;
mod connection;
mod rows;
mod funds;
mod plan;
mod entries;
mod panics;
mod checkpoints;
mod book;
mod transaction;
mod queue;
mod writer;
mod reader;
mod verify;
mod ledger;

pub use account::{ACCOUNT_ID_CHARS_MAX, Account, AccountId, AccountKind, ParseAccountIdError};
pub use credits::{Credits, ParseCreditsError};
pub use error::{LedgerError, OpenError, Rejected, StoreError};
pub use extension::Extension;
pub use funds::Reservation;
pub use ledger::{Ledger, Options};
pub use reader::{Line, Reader, Span};
pub use rusqlite;
pub use transaction::{EXPIRED_MAX, Tx};
pub use transfer::{
    Action, ParseTransferIdError, Purpose, Recorded, TRANSFER_ID_CHARS_MAX, Transfer, TransferId,
};
pub use verify::{FINDINGS_MAX, Finding, Totals};
