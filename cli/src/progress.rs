//! What a person sees while it runs: a bar on a terminal, plain lines elsewhere, nothing with `--quiet`.
//! Where there is no bar, a step that takes longer says every few seconds how it goes.
//!
//! Everything here goes to standard error; standard output belongs to the table or the JSON document.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where there is no bar, a line of how it goes stands after this long without one.
const SILENCE: Duration = Duration::from_secs(2);

/// The progress of a command made of `steps` equal parts.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    last_line: Cell<Instant>,
}

impl Progress {
    /// A bar on a terminal, a line for each step elsewhere, nothing when `quiet`.
    pub(crate) fn new(steps: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if quiet || !terminal { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed_precise} {wide_msg}") {
            bar.set_style(style.progress_chars("━╸ "));
        }
        // No thread ticks before there are steps: the fixed cases count this process's allocations, and those must be theirs.
        if steps > 0 && !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, plain: !quiet && !terminal, last_line: Cell::new(Instant::now()) }
    }

    /// The number of steps, where it changes on the way.
    pub(crate) fn expect(&self, steps: u64) {
        self.bar.set_length(steps);
    }

    /// Shows what goes on now.
    pub(crate) fn now(&self, message: String) {
        if self.plain && self.last_line.get().elapsed() >= SILENCE {
            self.line(&message);
        }
        self.bar.set_message(message);
    }

    /// One step is done; `line` stands where there is no bar.
    pub(crate) fn step(&self, line: &str) {
        self.bar.inc(1);
        if self.plain {
            self.line(line);
        }
    }

    fn line(&self, line: &str) {
        self.last_line.set(Instant::now());
        say(line);
    }

    /// A line that stays, above the bar.
    pub(crate) fn note(&self, line: &str) {
        if self.plain {
            say(line);
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// One line on standard error.
pub(crate) fn say(line: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An error with everything that caused it, each on a line of its own.
pub(crate) fn say_error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str("\n  because: ");
        text.push_str(&cause.to_string());
    }
    say(&text);
}

/// Text on standard output; a reader that went away is no failure of ours.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
}

/// Text on standard output, byte for byte.
pub(crate) fn print_exactly(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
