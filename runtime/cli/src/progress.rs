//! Progress: what is said on stderr while data goes to stdout.

use crate::units::show_duration;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What takes seconds, and what one should know.
    Normal,
    /// What was found and chosen, too.
    Verbose,
}

impl Verbosity {
    /// Something that one should know.
    pub(crate) fn note(self, text: impl Display) {
        if self >= Self::Normal {
            line(&format!("note: {text}"));
        }
    }

    /// Something for the curious.
    pub(crate) fn detail(self, text: impl Display) {
        if self >= Self::Verbose {
            line(&text.to_string());
        }
    }
}

fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{}", crate::output::text::escaped(text));
}

/// A step that takes seconds: one line, with the time that it took when it is over; on a terminal, the
/// line moves.
pub(crate) struct Step {
    started: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Step {
    pub(crate) fn start(verbosity: Verbosity, text: &str) -> Self {
        let quiet = verbosity == Verbosity::Quiet;
        let bar = (!quiet && io::stderr().is_terminal()).then(|| spinner(text));
        if !quiet && bar.is_none() {
            let _ = write!(io::stderr(), "{text} ");
        }
        Self { started: Instant::now(), bar, quiet }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let took = show_duration(self.started.elapsed());
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                let _ = writeln!(io::stderr(), "{} {took}", bar.message());
            }
            None if !self.quiet => {
                let _ = writeln!(io::stderr(), "{took}");
            }
            None => {}
        }
    }
}

/// Bytes that are on their way: a bar on a terminal, nothing elsewhere.
pub(crate) struct Sending(Option<ProgressBar>);

/// What goes out in a moment needs no bar.
const SENDING_BYTES_MIN: u64 = 1 << 20;

impl Sending {
    pub(crate) fn start(verbosity: Verbosity, text: &str, bytes: u64) -> Self {
        let is_shown = verbosity > Verbosity::Quiet
            && bytes >= SENDING_BYTES_MIN
            && io::stderr().is_terminal();
        Self(is_shown.then(|| bar(text, bytes)))
    }

    /// So many of them are there.
    pub(crate) fn at(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn bar(text: &str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let template = "{msg} [{bar:24}] {bytes} of {total_bytes}, {bytes_per_sec}";
    // As below.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(text.to_owned());
    bar
}

/// Plain text: no colour, whatever NO_COLOR says.
fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is ours: if it were malformed, the default one would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
