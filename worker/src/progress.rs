//! A line of progress on stderr: rewritten in place on a terminal, now and then a new one elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Says now and then how far long work is.
pub struct Progress {
    terminal: bool,
    every: Duration,
    said: Instant,
    pending: bool,
}

impl Progress {
    /// Nothing is said before some time has passed.
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            terminal,
            every: Duration::from_millis(if terminal { 200 } else { 10_000 }),
            said: Instant::now(),
            pending: false,
        }
    }

    /// Says the line if it is time for one.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if self.said.elapsed() < self.every {
            return;
        }
        self.said = Instant::now();
        if self.terminal {
            self.pending = true;
            eprint!("\r\x1b[K{}", line());
        } else {
            eprintln!("{}", line());
        }
    }

    /// Takes an unfinished line away, before something else is said.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.pending) {
            eprint!("\r\x1b[K");
        }
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

/// A time in the two largest units of days, hours, minutes and seconds.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if time < Duration::from_secs(10) => format!("{:.1} s", time.as_secs_f64()),
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
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
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(59)), "59 s");
        assert_eq!(duration(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(duration(Duration::from_secs(3_700)), "1 h 1 min");
        assert_eq!(duration(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
