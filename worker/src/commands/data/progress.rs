//! How far long work is: one line that is written over on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two updates on a terminal.
const QUICK: Duration = Duration::from_millis(200);
/// Between two lines elsewhere.
const SLOW: Duration = Duration::from_secs(10);

/// Shows how far long work is, on standard error.
pub(super) struct Shown {
    began: Instant,
    last: Option<Instant>,
    terminal: bool,
    /// Width of the line that stands there.
    width: usize,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            last: None,
            terminal: std::io::stderr().is_terminal(),
            width: 0,
        }
    }

    /// Shows `text`, with the time that is left where `done` of `total` say it, if the last time is a while
    /// ago. The text is made only then.
    pub(super) fn update(&mut self, done: u64, total: u64, text: impl FnOnce() -> String) {
        let spacing = if self.terminal { QUICK } else { SLOW };
        let since = self.last.unwrap_or(self.began);
        if since.elapsed() < spacing {
            return;
        }
        self.last = Some(Instant::now());
        let mut line = text();
        if let Some(left) = self.left(done, total) {
            line.push_str(&format!(", {left} left"));
        }
        self.write(&line);
    }

    fn left(&self, done: u64, total: u64) -> Option<String> {
        if done == 0 || done >= total {
            return None;
        }
        let seconds = self.began.elapsed().as_secs_f64() * (total - done) as f64 / done as f64;
        Some(duration(seconds))
    }

    fn write(&mut self, line: &str) {
        // Nobody to read it is no reason to stop.
        let mut out = std::io::stderr().lock();
        if self.terminal {
            let width = self.width;
            let _ = write!(out, "\r{line:width$}");
            let _ = out.flush();
            self.width = line.chars().count();
        } else {
            let _ = writeln!(out, "{line}");
        }
    }

    /// Clears the line, and begins to count time anew.
    pub(super) fn clear(&mut self) {
        if self.terminal && self.width > 0 {
            let width = self.width;
            eprint!("\r{:width$}\r", "");
            self.width = 0;
        }
        self.began = Instant::now();
        self.last = None;
    }
}

/// Seconds in words.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}
