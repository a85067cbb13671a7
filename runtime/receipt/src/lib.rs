//! The proof: signed receipts of jobs, and the transparency log that they are in.
//!
//! What a job was and what it cost goes in, an envelope comes out that anybody can check without this
//! host; its digest becomes an entry of a log that can only grow. `docs/formats/receipt.md` and
//! `docs/formats/log.md` have the bytes.
//!
//! Knows nothing of Wasm, of databases, or of how an amount was computed. Time comes in as arguments.

mod text;

pub mod receipt;

pub mod keys;

mod dsse;

pub mod envelope;

pub mod package;

pub mod webhook;

pub mod log;

pub use envelope::{Envelope, EnvelopeError, Verified, VerifyError};
pub use keys::{HostKey, KeyError, KeyId, KeyRing, KeyStore, KeyStoreError, PublicKey, PublicKeys};
pub use package::{PackageSignature, PackageSignatureError, SignedPackage};
pub use receipt::{Asset, Difference, Limits, Load, Price, Receipt, ReceiptError, Usage, Verdict};
