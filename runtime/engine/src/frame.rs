//! What host and compile worker say to each other, on pipes.
//!
//! ```text
//! question: "fbxask01", bytes of the module (u64), the module
//! answer:   "fbxans01", kind (u8), then by kind
//!   0 compiled:     mutable globals (u32), bytes of the artifact (u64), the artifact,
//!                   bytes of the initial memory (u64), of which so many are given (u64), those;
//!                   the others are zero
//!   1 invalid, 2 refused, 3 fault: bytes of a message (u64), the message
//! ```
//!
//! Numbers are little-endian. What comes after the end, or not at all, makes it no answer: a worker that dies
//! half-way has said nothing.

use std::io::{self, Read, Write};

const QUESTION: &[u8; 8] = b"fbxask01";
const ANSWER: &[u8; 8] = b"fbxans01";
/// A message is for people.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// What a worker made of a module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Compiled {
    pub(crate) artifact: Vec<u8>,
    /// How many mutable globals the code exports.
    pub(crate) mutable_globals: u32,
    /// What memory holds before anything runs.
    pub(crate) initial: Vec<u8>,
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Compiled(Compiled),
    /// The module is not allowed.
    Invalid(String),
    /// The compiler does not take it.
    Refused(String),
    /// The worker could not do its work.
    Fault(String),
}

/// Most that a host takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerLimits {
    pub(crate) artifact_bytes: u64,
    pub(crate) initial_bytes: u64,
}

pub(crate) fn write_question(to: &mut impl Write, module: &[u8]) -> io::Result<()> {
    to.write_all(QUESTION)?;
    write_bytes(to, module)?;
    to.flush()
}

pub(crate) fn read_question(from: &mut impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    expect(from, QUESTION)?;
    let module = read_bytes(from, bytes_max, "module")?;
    end(from)?;
    Ok(module)
}

pub(crate) fn write_answer(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    to.write_all(ANSWER)?;
    match answer {
        Answer::Compiled(Compiled { artifact, mutable_globals, initial }) => {
            to.write_all(&[0])?;
            to.write_all(&mutable_globals.to_le_bytes())?;
            write_bytes(to, artifact)?;
            to.write_all(&(initial.len() as u64).to_le_bytes())?;
            let given = initial.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            write_bytes(to, &initial[..given])?;
        }
        Answer::Invalid(message) => write_message(to, 1, message)?,
        Answer::Refused(message) => write_message(to, 2, message)?,
        Answer::Fault(message) => write_message(to, 3, message)?,
    }
    to.flush()
}

pub(crate) fn read_answer(from: &mut impl Read, limits: AnswerLimits) -> io::Result<Answer> {
    expect(from, ANSWER)?;
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    let answer = match kind[0] {
        0 => {
            let mut mutable_globals = [0; 4];
            from.read_exact(&mut mutable_globals)?;
            let artifact = read_bytes(from, limits.artifact_bytes, "artifact")?;
            let bytes = read_number(from, limits.initial_bytes, "initial memory")?;
            let mut initial = read_bytes(from, bytes, "initial memory that is given")?;
            initial.resize(bytes as usize, 0);
            let mutable_globals = u32::from_le_bytes(mutable_globals);
            Answer::Compiled(Compiled { artifact, mutable_globals, initial })
        }
        1 => Answer::Invalid(read_message(from)?),
        2 => Answer::Refused(read_message(from)?),
        3 => Answer::Fault(read_message(from)?),
        kind => return Err(broken(format!("an answer of kind {kind}"))),
    };
    end(from)?;
    Ok(answer)
}

fn broken(found: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, found)
}

fn expect(from: &mut impl Read, magic: &[u8; 8]) -> io::Result<()> {
    let mut found = [0; 8];
    from.read_exact(&mut found)?;
    if found == *magic { Ok(()) } else { Err(broken("another program's words".into())) }
}

fn end(from: &mut impl Read) -> io::Result<()> {
    match from.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(broken("more than an answer".into())),
    }
}

fn write_bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(bytes)
}

fn write_message(to: &mut impl Write, kind: u8, message: &str) -> io::Result<()> {
    to.write_all(&[kind])?;
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    write_bytes(to, &message.as_bytes()[..end])
}

fn read_number(from: &mut impl Read, max: u64, what: &str) -> io::Result<u64> {
    let mut number = [0; 8];
    from.read_exact(&mut number)?;
    let found = u64::from_le_bytes(number);
    if found <= max {
        Ok(found)
    } else {
        Err(broken(format!("{what} of {found} bytes, allowed are {max}")))
    }
}

/// Allocates by what comes, not by what is said.
fn read_bytes(from: &mut impl Read, max: u64, what: &str) -> io::Result<Vec<u8>> {
    let said = read_number(from, max, what)?;
    let mut bytes = Vec::new();
    from.take(said).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == said {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} that ends early")))
    }
}

fn read_message(from: &mut impl Read) -> io::Result<String> {
    let bytes = read_bytes(from, MESSAGE_BYTES_MAX as u64, "message")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AnswerLimits = AnswerLimits { artifact_bytes: 5, initial_bytes: 8 };

    fn answers() -> [Answer; 4] {
        let initial = [0, 7, 0, 0, 0, 0, 0, 0].into();
        let compiled = Compiled { artifact: b"codes".into(), mutable_globals: 3, initial };
        [
            Answer::Compiled(compiled),
            Answer::Invalid("module: ä".into()),
            Answer::Refused(String::new()),
            Answer::Fault("no".into()),
        ]
    }

    fn written(answer: &Answer) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_answer(&mut bytes, answer).expect("written");
        bytes
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        for answer in answers() {
            assert_eq!(read_answer(&mut &*written(&answer), LIMITS).expect("heard"), answer);
        }
        let mut question = Vec::new();
        write_question(&mut question, b"module").expect("written");
        assert_eq!(read_question(&mut &*question, 6).expect("heard"), b"module");
        assert!(read_question(&mut &*question, 5).is_err());
    }

    #[test]
    fn anything_else_is_no_answer() {
        for answer in answers() {
            let good = written(&answer);
            for end in 0..good.len() {
                assert!(read_answer(&mut &good[..end], LIMITS).is_err(), "{answer:?} to {end}");
            }
            assert!(read_answer(&mut &*[&good[..], b"x"].concat(), LIMITS).is_err());
            for bit in 0..good.len() * 8 {
                let mut other = good.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                if let Ok(Answer::Compiled(found)) = read_answer(&mut &*other, LIMITS) {
                    assert!(found.artifact.len() <= 5 && found.initial.len() <= 8);
                }
            }
        }
        for limits in [
            AnswerLimits { artifact_bytes: 4, ..LIMITS },
            AnswerLimits { initial_bytes: 7, ..LIMITS },
        ] {
            let error = read_answer(&mut &*written(&answers()[0]), limits).expect_err("too much");
            assert!(error.to_string().contains("allowed are"), "{error}");
        }
    }

    #[test]
    fn long_messages_are_cut() {
        let message = "ä".repeat(MESSAGE_BYTES_MAX);
        let heard = read_answer(&mut &*written(&Answer::Fault(message)), LIMITS).expect("heard");
        assert_eq!(heard, Answer::Fault("ä".repeat(MESSAGE_BYTES_MAX / 2)));
    }
}
