//! What a comparison with recorded numbers found.

use std::fmt::Display;

/// One compared value.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Name of the value.
    pub name: String,
    /// Difference as a share of what is tolerated; above 1 it fails. NaN fails.
    pub share: f64,
    /// Both values, for reading.
    pub said: String,
}

impl Check {
    /// Whether the value is within tolerance.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.share <= 1.0
    }
}

/// All values of a golden file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What was compared.
    pub checks: Vec<Check>,
    /// What was not, and why.
    pub skipped: Vec<(String, String)>,
}

impl Report {
    /// Compares two numbers that may differ by `tolerance`.
    pub fn close(&mut self, name: &str, got: f64, want: f64, tolerance: f64) {
        let difference = (got - want).abs();
        let share = if difference == 0.0 {
            0.0
        } else {
            difference / tolerance
        };
        let said = format!("got {got}, want {want}, tolerated {tolerance:e}");
        self.checks.push(Check {
            name: name.to_owned(),
            share,
            said,
        });
    }

    /// Compares two values that must be equal.
    pub fn equal<T: PartialEq + Display>(&mut self, name: &str, got: T, want: T) {
        let share = if got == want { 0.0 } else { f64::INFINITY };
        self.checks.push(Check {
            name: name.to_owned(),
            share,
            said: format!("got {got}, want {want}"),
        });
    }

    /// Notes a value that is not compared.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.skipped.push((name.to_owned(), why.to_owned()));
    }

    /// Whether something was compared and all of it is within tolerance.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// The value that deviates most.
    #[must_use]
    pub fn worst(&self) -> Option<&Check> {
        let rank = |check: &&Check| {
            if check.share.is_nan() {
                f64::INFINITY
            } else {
                check.share
            }
        };
        self.checks
            .iter()
            .max_by(|a, b| rank(a).total_cmp(&rank(b)))
    }
}
