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
