//! Time and memory as Slurm writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Time limit of a job, in Slurm's forms: `30` (minutes), `30:00`, `2:00:00`, `3-12`, `3-12:00`,
/// `3-12:00:00`, `UNLIMITED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TimeLimit {
    /// Seconds, at least 1. Slurm counts whole minutes, rounded up.
    Seconds(u64),
    /// None, if the partition allows it.
    Unlimited,
}

impl TimeLimit {
    /// Seconds that Slurm really gives: whole minutes. `None` without a limit.
    #[must_use]
    pub fn granted_seconds(self) -> Option<u64> {
        match self {
            Self::Seconds(seconds) => Some(seconds.div_ceil(60) * 60),
            Self::Unlimited => None,
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Seconds(all) = *self else {
            return f.write_str("UNLIMITED");
        };
        let (days, rest) = (all / 86_400, all % 86_400);
        if days > 0 {
            write!(f, "{days}-")?;
        }
        let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}")
    }
}

impl From<TimeLimit> for String {
    fn from(limit: TimeLimit) -> Self {
        limit.to_string()
    }
}

impl TryFrom<String> for TimeLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(
            text.to_ascii_lowercase().as_str(),
            "unlimited" | "infinite" | "-1"
        ) {
            return Ok(Self::Unlimited);
        }
        match seconds(text) {
            Some(0) => Err(format!(
                "must be longer than 0, not '{text}'; write UNLIMITED for no limit"
            )),
            Some(seconds) => Ok(Self::Seconds(seconds)),
            None => Err(format!(
                "must be a time in one of Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds or UNLIMITED, not '{text}'"
            )),
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(number(days)?), clock),
        None => (None, text),
    };
    let parts: Vec<u64> = clock.split(':').map(number).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match (days.is_some(), parts.as_slice()) {
        (false, [minutes]) => (0, *minutes, 0),
        (false, [minutes, seconds]) => (0, *minutes, *seconds),
        (true, [hours]) => (*hours, 0, 0),
        (true, [hours, minutes]) => (*hours, *minutes, 0),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let days = days.unwrap_or(0);
    // Each is at most seven digits, so that no sum can overflow.
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Memory of a node as Slurm writes it: megabytes, or a number with `K`, `M`, `G` or `T`; `0` is all of
/// the node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(String);

impl Memory {
    /// As Slurm reads it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is all of a node's memory.
    #[must_use]
    pub fn is_whole_node(&self) -> bool {
        self.0 == "0"
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Memory> for String {
    fn from(memory: Memory) -> Self {
        memory.0
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let upper = upper.strip_suffix('B').unwrap_or(&upper);
        let digits = upper.strip_suffix(['K', 'M', 'G', 'T']);
        let (digits, unit) = match digits {
            Some(digits) => (digits, &upper[digits.len()..]),
            // A number of bytes is not what `400B` would mean to Slurm.
            None if upper.len() < text.len() => ("", ""),
            None => (upper, ""),
        };
        match number(digits) {
            Some(0) => Ok(Self("0".to_owned())),
            Some(number) => Ok(Self(format!("{number}{unit}"))),
            None => Err(format!(
                "must be the memory of a node, such as 400G, or 0 for all of it, not '{text}'"
            )),
        }
    }
}
