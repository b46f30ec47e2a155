//! How far long work is: one line on standard error that is written over on a terminal, a line now and then
//! elsewhere; and numbers as people read them.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two updates on a terminal.
const QUICK: Duration = Duration::from_millis(200);
/// Between two lines elsewhere.
const SLOW: Duration = Duration::from_secs(10);

/// Shows how far long work is. The line goes away when this does.
pub struct Progress {
    began: Instant,
    last: Instant,
    terminal: bool,
    /// Whether a line stands there.
    shown: bool,
}

impl Progress {
    /// Begins to count time; nothing is shown before a while has passed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            last: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Shows `text`, with the time that is left where `done` of `total` say it, if the last time is a while
    /// ago. The text is made only then, and gets the seconds since the beginning.
    pub fn update(&mut self, done: u64, total: u64, text: impl FnOnce(f64) -> String) {
        let spacing = if self.terminal { QUICK } else { SLOW };
        if self.last.elapsed() < spacing {
            return;
        }
        self.last = Instant::now();
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let mut line = text(seconds);
        if done > 0 && done < total {
            let left = seconds * (total - done) as f64 / done as f64;
            line.push_str(&format!(", {} left", duration(left)));
        }
        // Nobody to read it is no reason to stop.
        let mut out = std::io::stderr().lock();
        if self.terminal {
            let _ = write!(out, "\r\x1b[K{line}");
            let _ = out.flush();
            self.shown = true;
        } else {
            let _ = writeln!(out, "{line}");
        }
    }

    /// Clears the line, and begins to count time anew.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        self.began = Instant::now();
        self.last = self.began;
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the unit that suits it, decimal as disks and networks count.
#[must_use]
pub fn bytes(number: f64) -> String {
    let mut value = number;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return match unit {
                "B" => format!("{value:.0} B"),
                _ if value < 9.95 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.2} TB")
}

/// `1 h 05 min`, `3 min 20 s`, `12 s`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(999.0), "999 B");
        assert_eq!(bytes(1500.0), "1.5 kB");
        assert_eq!(bytes(999_600.0), "1.0 MB");
        assert_eq!(bytes(2.5e12), "2.50 TB");
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
    }
}
