//! Transfers: what a client asks for, and what was recorded.

use crate::{
    account::AccountId,
    credits::{Credits, excerpt},
};
use std::{fmt, str::FromStr, sync::Arc};

/// The name of a transfer, chosen by its client so that it can be sent again: 1 to 80 of
/// `A-Z a-z 0-9 . _ : -`. Ids that end in `:expired` are the ledger's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(Arc<str>);

/// Characters of a transfer's id at most.
pub const TRANSFER_ID_CHARS_MAX: usize = 80;

/// What the id of a transfer ends in that voids an overdue hold.
const EXPIRED: &str = ":expired";

impl TransferId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id that is in the store already.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The id of the transfer that voids this hold when it is overdue: no client can make it.
    pub fn expiry(&self) -> Self {
        Self(format!("{}{EXPIRED}", self.0).into())
    }

    /// Whether this transfer voided an overdue hold.
    pub(crate) fn is_expiry(&self) -> bool {
        self.0.ends_with(EXPIRED)
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for TransferId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The text is no transfer's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "transfer id '{found}', expected 1 to {TRANSFER_ID_CHARS_MAX} of A-Z a-z 0-9 . _ : - and no \
     '{EXPIRED}' at the end"
)]
pub struct ParseTransferIdError {
    /// The text, cut and escaped.
    found: String,
}

impl FromStr for TransferId {
    type Err = ParseTransferIdError;

    fn from_str(text: &str) -> Result<Self, ParseTransferIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let fits = (1..=TRANSFER_ID_CHARS_MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.ends_with(EXPIRED);
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(ParseTransferIdError { found: excerpt(text) })
        }
    }
}

/// Why money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The operator gives out credits.
    TopUp,
    /// The operator takes back credits that it pays for.
    Payout,
    /// A charge is given back.
    Refund,
    /// Money is kept for a charge.
    Hold,
    /// A job is paid.
    Charge,
    /// A publisher gets its part.
    Share,
    /// The operator gets its part.
    Fee,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::TopUp, Self::Payout, Self::Refund, Self::Hold, Self::Charge, Self::Share, Self::Fee];

    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopUp => "top_up",
            Self::Payout => "payout",
            Self::Refund => "refund",
            Self::Hold => "hold",
            Self::Charge => "charge",
            Self::Share => "share",
            Self::Fee => "fee",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Its name. The same id with the same content is done once.
    pub id: TransferId,
    /// Why.
    pub purpose: Purpose,
    /// What.
    pub action: Action,
}

/// What a transfer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Moves money at once.
    Direct {
        /// From here.
        debit: AccountId,
        /// To here.
        credit: AccountId,
        /// Above zero.
        amount: Credits,
    },
    /// Holds money until it is posted or voided, once.
    Pending {
        /// From here.
        debit: AccountId,
        /// To here.
        credit: AccountId,
        /// Above zero.
        amount: Credits,
        /// From then on it can only be voided, by `Tx::expire`. Never, when there is none.
        expires_unix_ms: Option<u64>,
    },
    /// Moves held money, and releases what is left of it.
    Post {
        /// The hold.
        pending: TransferId,
        /// From zero to the hold's amount.
        amount: Credits,
    },
    /// Releases held money.
    Void {
        /// The hold.
        pending: TransferId,
    },
}

impl Action {
    /// The name in the store.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Direct { .. } => "direct",
            Self::Pending { .. } => "pending",
            Self::Post { .. } => "post",
            Self::Void { .. } => "void",
        }
    }

    /// The hold that this posts or voids.
    pub fn pending(&self) -> Option<&TransferId> {
        match self {
            Self::Direct { .. } | Self::Pending { .. } => None,
            Self::Post { pending, .. } | Self::Void { pending } => Some(pending),
        }
    }
}

/// A transfer that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place among all transfers, from 1, without gaps.
    pub seq: u64,
    /// What was asked for.
    pub transfer: Transfer,
    /// The account that was debited; of a post or a void, that of its hold.
    pub debit: AccountId,
    /// The account that was credited.
    pub credit: AccountId,
    /// What was moved or held; of a void, what was released.
    pub amount: Credits,
    /// When.
    pub recorded_unix_ms: u64,
    /// Whether it had been done before, and nothing was changed this time.
    pub repeated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_plain() {
        let longest = "x".repeat(TRANSFER_ID_CHARS_MAX);
        for good in ["a", "-", "Job:0192.a_b-C", ":expired.", &longest] {
            assert_eq!(good.parse::<TransferId>().unwrap().as_str(), good);
        }
        let long = "x".repeat(TRANSFER_ID_CHARS_MAX + 1);
        for bad in ["", "a b", "ä", "a/b", "a\0", "job:expired", ":expired", &long] {
            assert!(bad.parse::<TransferId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn purposes_and_names_are_one_to_one() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::named(purpose.name()), Some(purpose));
        }
        assert_eq!(Purpose::named("gift"), None);
    }
}
