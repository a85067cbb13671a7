//! The receipt of a job, and the in-toto statement that it is on paper.
//!
//! What a job was, what it used, and what it cost go in; the statement's bytes come out, and the way
//! back. The bytes are JSON without white space, with the keys of every object sorted, and nothing but
//! strings, whole numbers, booleans, lists and `null` in it (`docs/formats/receipt.md`). Any other form
//! is refused, so one receipt has one byte form.
//!
//! Knows nothing of signatures.

use crate::text::excerpt;
use fuelbox_digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod differences;

pub use differences::Difference;

/// The only value of [`Receipt::format`].
pub const FORMAT: &str = "fuelbox-receipt/1";

/// What kind of JSON a statement is.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What kind of statement a receipt is.
const PREDICATE_TYPE: &str = "https://fuelbox.dev/receipt/v1";

/// The name of what the statement is about.
const SUBJECT_NAME: &str = "outputs";

/// Bytes of a statement. A receipt with 256 assets, as many as a package may have, with names of 128
/// characters takes about 64,000.
pub const STATEMENT_BYTES_MAX: usize = 1 << 17;

/// Bytes of any text in a receipt: what the names in packages may have, twice.
const TEXT_BYTES_MAX: usize = 256;

/// What a job was, what it used, how it ended, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Of the outputs. The subject of the statement, not a field of its predicate.
    pub output: Digest,
    /// `fuelbox-receipt/1`.
    pub format: String,
    /// The job's UUID.
    pub job: String,
    /// The package's identity.
    pub package: Digest,
    /// The guest module.
    pub guest: Digest,
    /// The memory of the loaded model that the job started with.
    pub image: Digest,
    /// What the guest was loaded with, in the package's order.
    pub assets: Vec<Asset>,
    /// Of the input tensors.
    pub input: Digest,
    /// Of the parameters.
    pub parameters: Digest,
    /// Of the job's randomness.
    pub seed: u64,
    /// The engine profile.
    pub profile: Digest,
    /// What the job was allowed.
    pub limits: Limits,
    /// What it used.
    pub usage: Usage,
    /// How it ended.
    pub verdict: Verdict,
    /// Whether running it again must give the same receipt.
    pub replayable: bool,
    /// A load for new input shapes that this job paid for.
    pub load: Option<Load>,
    /// What the run cost.
    pub price: Price,
    /// The account that paid.
    pub payer: String,
    /// The account of the package's publisher.
    pub publisher: String,
    /// When the job was over, in milliseconds since 1970 in UTC.
    pub finished_unix_ms: u64,
}

// Fields of what follows stand in the order of their names: that is how they are written.

/// A part that the guest was loaded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Of its bytes.
    pub digest: Digest,
    /// Under which the guest knows it.
    pub name: String,
}

/// What a job was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Units of fuel.
    pub fuel: u64,
    /// Bytes of input.
    pub input_bytes: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Bytes of linear memory, the image included.
    pub memory_bytes: u64,
    /// Bytes of output.
    pub output_bytes: u64,
}

/// What a job used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Units of fuel.
    pub fuel: u64,
    /// Linear memory at its largest.
    pub memory_bytes_peak: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// More of it, such as the kind of a trap. Never a guest's own words.
    pub kind: Option<String>,
    /// Such as `completed`.
    pub name: String,
}

/// A load for new input shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// What it cost, in millionths of a credit.
    pub credits_micro: u64,
    /// Units of fuel that it used.
    pub fuel: u64,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// What the payer paid for the run, in millionths of a credit.
    pub credits_micro: u64,
    /// What of that went to the publisher, in millionths of a credit.
    pub publisher_micro: u64,
    /// The price schedule.
    pub schedule: Digest,
    /// Its version.
    pub version: u64,
}

/// The statement as JSON has it, fields sorted.
#[derive(Serialize)]
struct Statement<'a> {
    _type: &'static str,
    predicate: Predicate<'a>,
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    subject: [Subject; 1],
}

/// A receipt without its output, fields sorted.
#[derive(Serialize)]
struct Predicate<'a> {
    assets: &'a [Asset],
    finished_unix_ms: u64,
    format: &'a str,
    guest: &'a Digest,
    image: &'a Digest,
    input: &'a Digest,
    job: &'a str,
    limits: &'a Limits,
    load: Option<&'a Load>,
    package: &'a Digest,
    parameters: &'a Digest,
    payer: &'a str,
    price: &'a Price,
    profile: &'a Digest,
    publisher: &'a str,
    replayable: bool,
    seed: u64,
    usage: &'a Usage,
    verdict: &'a Verdict,
}

/// What the statement is about.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    digest: Sha256,
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sha256 {
    sha256: String,
}

/// Why bytes are no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReceiptError {
    /// More than is read.
    #[error("receipt: {found} bytes, allowed are {STATEMENT_BYTES_MAX}")]
    TooLarge { found: usize },
    /// Not JSON, or not these fields.
    #[error("receipt: {0}")]
    Json(String),
    /// Of a later version, or of something else.
    #[error("receipt: {what} '{found}', allowed is '{allowed}'")]
    Format { what: &'static str, found: String, allowed: &'static str },
    /// The statement is not about one set of outputs.
    #[error("receipt: subject is not one SHA-256 digest named '{SUBJECT_NAME}'")]
    Subject,
    /// The right content in another form.
    #[error("receipt: not in canonical form (keys sorted, no white space)")]
    NotCanonical,
    /// No UUID.
    #[error("receipt: job '{found}', allowed is a UUID in lower case")]
    Job { found: String },
    /// A text that is empty, too long, or has control characters.
    #[error(
        "receipt: {field} '{found}', allowed are 1 to {TEXT_BYTES_MAX} bytes without control characters"
    )]
    Text { field: &'static str, found: String },
}

impl Receipt {
    /// The statement's canonical bytes: what is signed.
    pub fn statement_bytes(&self) -> Vec<u8> {
        // Taken apart without `..`: a field that is added to a receipt must be written to compile.
        let Self {
            output,
            format,
            job,
            package,
            guest,
            image,
            assets,
            input,
            parameters,
            seed,
            profile,
            limits,
            usage,
            verdict,
            replayable,
            load,
            price,
            payer,
            publisher,
            finished_unix_ms,
        } = self;
        let predicate = Predicate {
            assets,
            finished_unix_ms: *finished_unix_ms,
            format,
            guest,
            image,
            input,
            job,
            limits,
            load: load.as_ref(),
            package,
            parameters,
            payer,
            price,
            profile,
            publisher,
            replayable: *replayable,
            seed: *seed,
            usage,
            verdict,
        };
        let statement = Statement {
            _type: STATEMENT_TYPE,
            predicate,
            predicate_type: PREDICATE_TYPE,
            subject: [Subject {
                digest: Sha256 { sha256: output.hex() },
                name: SUBJECT_NAME.into(),
            }],
        };
        // Cannot fail: there are only strings, numbers, booleans, lists and structs.
        serde_json::to_vec(&statement).unwrap_or_default()
    }

    /// Reads and checks a statement.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_statement_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > STATEMENT_BYTES_MAX {
            return Err(ReceiptError::TooLarge { found: bytes.len() });
        }
        let mut statement: Value = serde_json::from_slice(bytes).map_err(json)?;
        // The types first, so that a later version is called that, and not a list of odd fields.
        is("statement type", &statement["_type"], STATEMENT_TYPE)?;
        is("predicate type", &statement["predicateType"], PREDICATE_TYPE)?;
        is("format", &statement["predicate"]["format"], FORMAT)?;
        let output = subject(&statement["subject"])?;
        let mut predicate = statement.get_mut("predicate").map(Value::take).unwrap_or_default();
        if let Some(fields) = predicate.as_object_mut() {
            fields.insert("output".into(), output.to_string().into());
        }
        let receipt: Self = serde_json::from_value(predicate).map_err(json)?;
        // Fields beside those above, an output in the predicate, and keys that are there twice show
        // up here as well.
        if receipt.statement_bytes() != bytes {
            return Err(ReceiptError::NotCanonical);
        }
        receipt.check()?;
        Ok(receipt)
    }

    /// Whether a reader would take this receipt.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), ReceiptError> {
        is("format", &Value::from(self.format.as_str()), FORMAT)?;
        if !is_uuid(&self.job) {
            return Err(ReceiptError::Job { found: excerpt(&self.job) });
        }
        for asset in &self.assets {
            check_text("name of an asset", &asset.name)?;
        }
        check_text("verdict.name", &self.verdict.name)?;
        if let Some(kind) = &self.verdict.kind {
            check_text("verdict.kind", kind)?;
        }
        check_text("payer", &self.payer)?;
        check_text("publisher", &self.publisher)
    }
}

fn json(error: serde_json::Error) -> ReceiptError {
    ReceiptError::Json(excerpt(&error.to_string()))
}

fn is(what: &'static str, value: &Value, allowed: &'static str) -> Result<(), ReceiptError> {
    match value.as_str() {
        Some(found) if found == allowed => Ok(()),
        Some(found) => Err(ReceiptError::Format { what, found: excerpt(found), allowed }),
        None => Err(ReceiptError::Json(format!("{what} is missing or no text"))),
    }
}

/// The digest that the statement is about.
fn subject(value: &Value) -> Result<Digest, ReceiptError> {
    let [subject]: [Subject; 1] =
        Deserialize::deserialize(value).map_err(|_| ReceiptError::Subject)?;
    if subject.name != SUBJECT_NAME {
        return Err(ReceiptError::Subject);
    }
    format!("sha256:{}", subject.digest.sha256).parse().map_err(|_| ReceiptError::Subject)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

fn check_text(field: &'static str, text: &str) -> Result<(), ReceiptError> {
    if (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(ReceiptError::Text { field, found: excerpt(text) })
    }
}
