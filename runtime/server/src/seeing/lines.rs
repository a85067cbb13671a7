//! Logs: events become lines on stderr, or wherever an operator wants them.
//!
//! Nothing waits for a line: lines go to a thread that writes them, and those that it cannot keep up with
//! are counted and dropped. An access key is never shown, whoever said it.

use super::request::current;
use serde_json::{Map, Value};
use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For programs: an object a line.
    Json,
    /// For people.
    Text,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LogsError {
    /// A filter that is none.
    #[error("log filter '{filter}': {source}")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    /// Somebody else took the process's logs already.
    #[error("logs: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
    /// The system refused.
    #[error("logs: {0}")]
    Thread(#[from] io::Error),
}

/// Lines that wait to be written: some seconds of a busy server, a few megabytes.
const LINES_WAITING: usize = 8_192;

/// Bytes of one value in a line.
const VALUE_BYTES_MAX: usize = 1_024;

/// Lines that nobody wrote, since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that were dropped because they could not be written in time.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Dropped at the end, it writes the lines that wait.
#[must_use = "the lines that wait are written when it is dropped"]
pub struct Logs {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Line(String),
    End,
}

/// Sends the logs of this process to stderr. `filter` is as `RUST_LOG` has it, such as `info` or
/// `warn,fuelbox_server=debug`.
///
/// # Errors
/// When the filter is none, and when the process has logs already.
pub fn logs(format: LogFormat, filter: &str) -> Result<Logs, LogsError> {
    logs_to(format, filter, io::stderr())
}

/// The same, to another place.
///
/// # Errors
/// As for [`logs`].
pub fn logs_to(
    format: LogFormat,
    filter: &str,
    out: impl Write + Send + 'static,
) -> Result<Logs, LogsError> {
    let parsed = EnvFilter::try_new(filter);
    let filter =
        parsed.map_err(|source| LogsError::Filter { filter: filter.to_owned(), source })?;
    let (sender, receiver) = sync_channel(LINES_WAITING);
    let lines = Lines { format, sender: sender.clone() };
    let write = move || write_lines(out, &receiver);
    let thread = Some(thread::Builder::new().name("logs".into()).spawn(write)?);
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    Ok(Logs { sender, thread })
}

impl Drop for Logs {
    fn drop(&mut self) {
        // Waits for a place: the thread is writing.
        let _ = self.sender.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_lines(mut out: impl Write, receiver: &Receiver<Message>) {
    let mut bytes = Vec::new();
    while let Ok(first) = receiver.recv() {
        let mut ends = false;
        for message in [first].into_iter().chain(receiver.try_iter()) {
            match message {
                Message::Line(line) => bytes.extend_from_slice(line.as_bytes()),
                Message::End => ends = true,
            }
            // No more at once than a pipe takes.
            if ends || bytes.len() > 64 << 10 {
                break;
            }
        }
        // A reader that went away does not stop a server.
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
        bytes.clear();
        if ends {
            return;
        }
    }
}

/// Makes lines of events.
struct Lines {
    format: LogFormat,
    sender: SyncSender<Message>,
}

/// Whether an event may be shown. What libraries say below info may be a client's headers.
fn may_show(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("fuelbox") || *metadata.level() <= Level::INFO
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !may_show(event.metadata()) {
            return;
        }
        let mut fields = Fields::default();
        let names = current(|seen| (seen.id.to_string(), seen.trace.id));
        if let Some((id, trace)) = names {
            fields.all.insert("request".into(), id.into());
            fields.all.insert("trace".into(), format!("{trace:032x}").into());
        }
        event.record(&mut fields);
        let line = without_keys(match self.format {
            LogFormat::Json => json(event.metadata(), fields),
            LogFormat::Text => text(event.metadata(), &fields),
        });
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Line(line)) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    all: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.all.insert(field.name().into(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = bounded(value);
        match field.name() {
            "message" => self.message = text.to_owned(),
            _ => self.add(field, text.into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

fn now() -> String {
    let mut text = String::with_capacity(32);
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn json(metadata: &Metadata<'_>, fields: Fields) -> String {
    let mut object = Map::new();
    object.insert("time".into(), now().into());
    object.insert("level".into(), metadata.level().as_str().to_ascii_lowercase().into());
    object.insert("target".into(), metadata.target().into());
    object.insert("message".into(), fields.message.into());
    for (name, value) in fields.all {
        // A field of a library does not pass for one of these.
        object.entry(name).or_insert(value);
    }
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

fn text(metadata: &Metadata<'_>, fields: &Fields) -> String {
    let (level, target) = (metadata.level(), metadata.target());
    let mut line = format!("{} {level:>5} {target}: {}", now(), fields.message.escape_debug());
    for (name, value) in &fields.all {
        let _ = match value {
            Value::String(text) if is_word(text) => write!(line, " {name}={text}"),
            // As JSON has it: what moves a cursor is escaped.
            other => write!(line, " {name}={other}"),
        };
    }
    line.push('\n');
    line
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// How keys begin.
const KEY_PREFIX: &str = "fbx_";

/// What is shown of a key.
const HIDDEN: &str = "fbx_[hidden]";

/// A line in which keys are hidden: somebody may send one where it does not belong.
fn without_keys(line: String) -> String {
    let Some(first) = line.find(KEY_PREFIX) else {
        return line;
    };
    let (mut shown, mut rest) = (line[..first].to_owned(), &line[first..]);
    while let Some(after) = rest.strip_prefix(KEY_PREFIX) {
        shown.push_str(HIDDEN);
        let secret = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
        let after = after.trim_start_matches(secret);
        let next = after.find(KEY_PREFIX).unwrap_or(after.len());
        shown.push_str(&after[..next]);
        rest = &after[next..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_wherever_they_stand() {
        let key = format!("fbx_{}_{}", "a2".repeat(8), "Zz-_9".repeat(8));
        for (line, shown) in [
            ("nothing\n".to_owned(), "nothing\n".to_owned()),
            (format!("x={key}"), format!("x={HIDDEN}")),
            (format!("{key} and \"{key}\"\n"), format!("{HIDDEN} and \"{HIDDEN}\"\n")),
            (format!("{key}{key}"), HIDDEN.into()),
            ("fbx_".into(), HIDDEN.into()),
            ("\u{e9}fbx_a\u{e9}".into(), format!("\u{e9}{HIDDEN}\u{e9}")),
        ] {
            assert_eq!(without_keys(line), shown);
        }
    }

    #[test]
    fn a_value_is_bounded_and_words_are_bare() {
        assert_eq!(bounded(&"\u{e9}".repeat(VALUE_BYTES_MAX)).len(), VALUE_BYTES_MAX);
        assert!(is_word("/v2/models/{name}"));
        for text in ["", "a b", "a\"b", "\u{1b}[2J"] {
            assert!(!is_word(text), "{text:?}");
        }
    }
}
