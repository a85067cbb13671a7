//! Accounts: their names, kinds and totals.

use crate::credits::{Credits, excerpt};
use std::{fmt, str::FromStr, sync::Arc};

/// The name of an account: 1 to 64 of `a-z 0-9 . _ -`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Arc<str>);

/// Characters of an account's id at most.
pub const ACCOUNT_ID_CHARS_MAX: usize = 64;

impl AccountId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for AccountId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The text is no account's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "account id '{found}', expected 1 to {ACCOUNT_ID_CHARS_MAX} of a-z 0-9 . _ - and the first a letter \
     or a digit"
)]
pub struct ParseAccountIdError {
    /// The text, cut and escaped.
    found: String,
}

impl FromStr for AccountId {
    type Err = ParseAccountIdError;

    fn from_str(text: &str) -> Result<Self, ParseAccountIdError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= ACCOUNT_ID_CHARS_MAX
            && text.bytes().next().is_some_and(alphanumeric)
            && text.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte));
        if fits { Ok(Self(text.into())) } else { Err(ParseAccountIdError { found: excerpt(text) }) }
    }
}

/// What an account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// The issuer: a top-up debits it, so its balance goes below zero.
    Operator,
    /// Is paid for models.
    Publisher,
    /// Pays for jobs.
    Caller,
    /// What the operator earns.
    Revenue,
    /// Money on its way.
    Escrow,
}

impl AccountKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Operator, Self::Publisher, Self::Caller, Self::Revenue, Self::Escrow];

    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Caller => "caller",
            Self::Revenue => "revenue",
            Self::Escrow => "escrow",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether debits may exceed credits.
    pub fn may_go_negative(self) -> bool {
        match self {
            Self::Operator => true,
            Self::Publisher | Self::Caller | Self::Revenue | Self::Escrow => false,
        }
    }
}

impl fmt::Display for AccountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An account and its four totals, which only ever grow but for what is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// What it is for.
    pub kind: AccountKind,
    /// Held to be debited.
    pub debits_pending: Credits,
    /// Debited.
    pub debits_posted: Credits,
    /// Held to be credited.
    pub credits_pending: Credits,
    /// Credited.
    pub credits_posted: Credits,
    /// When it was made.
    pub created_unix_ms: u64,
}

impl Account {
    /// An account that nothing has happened to.
    pub(crate) fn new(id: AccountId, kind: AccountKind, created_unix_ms: u64) -> Self {
        Self {
            id,
            kind,
            debits_pending: Credits::ZERO,
            debits_posted: Credits::ZERO,
            credits_pending: Credits::ZERO,
            credits_posted: Credits::ZERO,
            created_unix_ms,
        }
    }

    /// What it has, in micro-credits: credits less debits.
    pub fn balance(&self) -> i128 {
        i128::from(self.credits_posted.micros()) - i128::from(self.debits_posted.micros())
    }

    /// What it can spend, in micro-credits: the balance less what is held.
    pub fn available(&self) -> i128 {
        self.balance() - i128::from(self.debits_pending.micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_plain() {
        let longest = "a".repeat(ACCOUNT_ID_CHARS_MAX);
        for good in ["a", "0", "caller.ann_b-2", &longest] {
            assert_eq!(good.parse::<AccountId>().unwrap().as_str(), good);
        }
        let long = "a".repeat(ACCOUNT_ID_CHARS_MAX + 1);
        for bad in ["", ".a", "-a", "_a", "A", "a b", "ä", "a:b", "a/b", "a\n", &long] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
        assert_eq!(
            "a\nb".parse::<AccountId>().unwrap_err().to_string(),
            "account id 'a\\nb', expected 1 to 64 of a-z 0-9 . _ - and the first a letter or a digit"
        );
    }

    #[test]
    fn kinds_and_names_are_one_to_one() {
        for kind in AccountKind::ALL {
            assert_eq!(AccountKind::named(kind.name()), Some(kind));
        }
        assert_eq!(AccountKind::named("bank"), None);
    }
}
