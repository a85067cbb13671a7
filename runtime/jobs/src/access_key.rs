//! Access keys as values: their names, their text, what they allow.
//!
//! A key's text is `fbx_`, the 16 characters of its public id, `_`, and 32 random bytes in base64url.
//! Knows neither store nor clock.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use fuelbox_digest::Digest;
use fuelbox_ledger::{AccountId, Credits};
use std::{fmt, str::FromStr, sync::Arc};
use subtle::ConstantTimeEq as _;

/// The public name of an access key: 16 of `a-z 2-7`, ten random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKeyId([u8; ID_CHARS]);

const ID_CHARS: usize = 16;

/// Random bytes in an id: at 2^40 keys two of them may meet, and the store refuses the second.
const ID_BYTES: usize = 10;

/// RFC 4648's base32 in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl AccessKeyId {
    pub(crate) fn from_random(random: [u8; ID_BYTES]) -> Self {
        let mut bits = [0; 16];
        bits[6..].copy_from_slice(&random);
        let bits = u128::from_be_bytes(bits);
        // The first character has the highest five of the eighty bits.
        let digit = |place: usize| (bits >> (5 * (ID_CHARS - 1 - place))) as usize & 31;
        Self(std::array::from_fn(|place| BASE32[digit(place)]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // All of them are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no access key's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access key id '{found}', expected {ID_CHARS} of a-z 2-7")]
pub struct ParseAccessKeyIdError {
    found: String,
}

impl FromStr for AccessKeyId {
    type Err = ParseAccessKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseAccessKeyIdError> {
        let id = <[u8; ID_CHARS]>::try_from(text.as_bytes()).ok();
        let id = id.filter(|id| id.iter().all(|byte| BASE32.contains(byte)));
        id.map(Self)
            .ok_or_else(|| ParseAccessKeyIdError { found: text.escape_debug().take(80).collect() })
    }
}

/// What every key's text begins with: for those who look for secrets in places where they should not be.
const PREFIX: &str = "fbx_";

const SECRET_BYTES: usize = 32;

/// The text of a new access key. Shown by `Display`, hidden by `Debug`, kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new key from the system's randomness, and what is kept of it.
    pub(crate) fn generate() -> Result<(AccessKeyId, Self, SecretHash), getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let id = AccessKeyId::from_random(id);
        let text = format!("{PREFIX}{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
        Ok((id, Self(text), SecretHash::of(&secret)))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// SHA-256 of a key's random bytes. They are random: nobody finds them by trying, so nothing slower is
/// needed.
#[derive(Clone, Copy)]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    /// What no known key has: something to compare with when the id is unknown.
    pub(crate) const NOBODY: Self = Self([0; 32]);

    fn of(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(*Digest::of(secret).as_bytes())
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same, in a time that does not say where they differ.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The id and the hashed secret in a key's text; none when it has another form.
pub(crate) fn parse(text: &str) -> Option<(AccessKeyId, SecretHash)> {
    let rest = text.strip_prefix(PREFIX)?;
    let (id, secret) = (rest.get(..ID_CHARS)?, rest.get(ID_CHARS..)?.strip_prefix('_')?);
    // The decoder takes no padding, no other alphabet and no spare bits: a key has one text.
    let mut bytes = [0; SECRET_BYTES];
    match BASE64_URL_SAFE_NO_PAD.decode_slice(secret, &mut bytes) {
        Ok(SECRET_BYTES) => Some((id.parse().ok()?, SecretHash::of(&bytes))),
        Ok(_) | Err(_) => None,
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    Operator,
    /// Publish, and look after own packages.
    Publisher,
    /// Run jobs, and read own ones.
    Caller,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Publisher, Self::Caller];

    /// The name in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Caller => "caller",
        }
    }

    /// The scope of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    fn bit(self) -> u8 {
        match self {
            Self::Operator => 1,
            Self::Publisher => 2,
            Self::Caller => 4,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Scopes of one key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// Whether one of them is this one itself.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether they allow what this scope is for: operators may do everything.
    pub fn allows(self, scope: Scope) -> bool {
        self.contains(scope) || self.contains(Scope::Operator)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self(scope.bit())
    }
}

/// Their names with spaces between them, as the store has them.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::name).collect();
        f.pad(&names.join(" "))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// A key as the store has it: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Its public name.
    pub id: AccessKeyId,
    /// For whom it acts.
    pub account: AccountId,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Name spaces that it may publish in; none: all that its account may publish.
    pub spaces: Option<Arc<[String]>>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// When it was made.
    pub created_unix_ms: u64,
    /// From when on it is of no use.
    pub expires_unix_ms: Option<u64>,
    /// When it was taken back.
    pub revoked_unix_ms: Option<u64>,
    /// The most that may be spent with it, ever.
    pub spend_limit: Option<Credits>,
    /// What was spent with it. Counted only for keys with a limit.
    pub spent: Credits,
}

impl AccessKey {
    /// Whether it may publish a package of this name, as far as name spaces go. A key that is bound to
    /// name spaces publishes nothing else.
    pub fn covers(&self, package_name: &str) -> bool {
        covers(self.spaces.as_deref(), package_name)
    }
}

/// What the bearer of a valid key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which key it is.
    pub key: AccessKeyId,
    /// For whom it acts, and who pays.
    pub account: AccountId,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Name spaces that it may publish in; none: all that its account may publish.
    pub spaces: Option<Arc<[String]>>,
}

impl Grant {
    /// As [`AccessKey::covers`].
    pub fn covers(&self, package_name: &str) -> bool {
        covers(self.spaces.as_deref(), package_name)
    }
}

fn covers(spaces: Option<&[String]>, package_name: &str) -> bool {
    let Some(spaces) = spaces else { return true };
    let space = space_of(package_name);
    space.is_some_and(|space| spaces.iter().any(|allowed| allowed == space))
}

/// The name space that a package's name belongs to: what is before its first dot, if there is one.
pub fn space_of(package_name: &str) -> Option<&str> {
    package_name.split_once('.').map(|(space, _)| space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_text_that_is_read_back() {
        let (id, secret, hash) = Secret::generate().expect("random bytes");
        let text = secret.to_string();
        assert_eq!(text.len(), 4 + 16 + 1 + 43);
        assert!(text.starts_with(&format!("fbx_{id}_")), "{id}");
        let (read, found) = parse(&text).expect("a key");
        assert_eq!(read, id);
        assert!(found.fits(&hash) && !found.fits(&SecretHash::NOBODY));
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        // The last character has two spare bits, which must be zero.
        let last = text.chars().last().expect("a character");
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = alphabet.find(last).expect("of the alphabet");
        let spare = &alphabet[place + 1..place + 2];
        for bad in [
            "",
            "fbx_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}="),
            &format!("{text}A"),
            &format!("{}{spare}", &text[..text.len() - 1]),
            &text.replacen("fbx_", "FBX_", 1),
            &text.replacen(id.as_str(), &id.as_str().to_uppercase(), 1),
            &format!(" {text}"),
            "fbx_ääääääää_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn ids_are_the_bits_in_order() {
        let id = |random| AccessKeyId::from_random(random).to_string();
        assert_eq!(id([0; 10]), "aaaaaaaaaaaaaaaa");
        assert_eq!(id([255; 10]), "7777777777777777");
        // The first vectors of RFC 4648, side by side: base32 of `foobafooba`.
        assert_eq!(id(*b"foobafooba"), "mzxw6ytbmzxw6ytb");
        for bad in ["", "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa1", "Aaaaaaaaaaaaaaaa"] {
            assert!(bad.parse::<AccessKeyId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_are_a_set_and_operators_may_everything() {
        let both: Scopes = [Scope::Caller, Scope::Publisher, Scope::Caller].into_iter().collect();
        assert_eq!(both.to_string(), "publisher caller");
        assert!(both.contains(Scope::Caller) && !both.allows(Scope::Operator));
        let operator = Scopes::from(Scope::Operator);
        assert!(operator.allows(Scope::Caller) && !operator.contains(Scope::Caller));
        assert!(Scopes::NONE.is_empty() && !Scopes::NONE.allows(Scope::Caller));
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.name()), Some(scope));
        }
    }

    #[test]
    fn a_key_of_name_spaces_publishes_nothing_else() {
        let spaces = ["acme".to_owned(), "b".to_owned()];
        for (spaces, name, expected) in [
            (None, "plain", true),
            (None, "acme.digits", true),
            (Some(&spaces[..]), "acme.digits", true),
            (Some(&spaces[..]), "acme.v1.digits", true),
            (Some(&spaces[..]), "b.", true),
            (Some(&spaces[..]), "acme", false),
            (Some(&spaces[..]), "acmee.digits", false),
            (Some(&spaces[..]), "plain", false),
            (Some(&[][..]), "acme.digits", false),
        ] {
            assert_eq!(covers(spaces, name), expected, "{spaces:?} {name}");
        }
    }
}
