//! `scontrol show config`, read. Settings come and go with versions: what is absent is `None`.

use std::collections::BTreeMap;
use std::time::Duration;

/// The cluster's settings by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    values: BTreeMap<String, String>,
}

impl Config {
    /// Reads what `scontrol show config` prints: `Name = value` lines under a title, and sections of
    /// plugins, whose names are taken as well if they are not taken yet.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut values = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, value)) = line.split_once('=') {
                let (name, value) = (name.trim(), value.trim());
                if !name.is_empty() && !name.contains(' ') {
                    values
                        .entry(name.to_lowercase())
                        .or_insert_with(|| value.to_owned());
                }
            }
        }
        Self { values }
    }

    /// A setting as it is printed; `None` if it is absent or not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(&name.to_lowercase())?.as_str();
        (!matches!(value, "" | "(null)" | "N/A")).then_some(value)
    }

    /// A time in seconds, printed as `30 sec`, `10 min` or `00:05:00`. Also `None` where it is
    /// unlimited.
    #[must_use]
    pub fn seconds(&self, name: &str) -> Option<u64> {
        seconds(self.get(name)?)
    }

    /// A number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.split_whitespace().next()?.parse().ok()
    }

    /// Whether a setting is 1 or yes.
    #[must_use]
    pub fn is_on(&self, name: &str) -> Option<bool> {
        match self.get(name)?.to_lowercase().as_str() {
            "1" | "yes" => Some(true),
            "0" | "no" => Some(false),
            _ => None,
        }
    }

    /// One of a comma-separated list of parameters: its value, or an empty text for a bare word.
    #[must_use]
    pub fn parameter(&self, list: &str, name: &str) -> Option<&str> {
        self.get(list)?.split(',').find_map(|item| {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Version, as `22.05.8`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.get("SLURM_VERSION")
    }

    /// How long a requeued job waits until its credentials have expired.
    #[must_use]
    pub fn requeue_delay(&self) -> Duration {
        // slurm.conf(5): AuthInfo, cred_expire, 120 by default.
        let seconds = self
            .parameter("AuthInfo", "cred_expire")
            .and_then(|value| value.parse().ok());
        Duration::from_secs(seconds.unwrap_or(120))
    }

    /// Between SIGTERM and SIGKILL when a job is ended.
    #[must_use]
    pub fn kill_wait(&self) -> Duration {
        Duration::from_secs(self.seconds("KillWait").unwrap_or(30))
    }

    /// Whether a database keeps accounts.
    #[must_use]
    pub fn has_accounting(&self) -> bool {
        self.get("AccountingStorageType")
            .is_some_and(|kind| kind.ends_with("slurmdbd"))
    }
}

/// A version as numbers: `22.05.8` and `slurm-wlm 22.05.8` are (22, 5).
#[must_use]
pub fn version(text: &str) -> Option<(u32, u32)> {
    let text = text.split_whitespace().next_back()?;
    let mut parts = text.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A time as Slurm prints it: `30 sec`, `10 min`, seconds, `minutes:seconds`, `hours:minutes:seconds` with days in
/// front; `None` for `UNLIMITED` and whatever is no time.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some((number, unit)) = text.split_once(' ') {
        let number: u64 = number.parse().ok()?;
        return match unit.trim() {
            "sec" | "secs" | "s" => Some(number),
            "min" | "mins" => number.checked_mul(60),
            _ => None,
        };
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let parts: Vec<u64> = clock
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let clock = match (parts[..].len(), text.contains('-')) {
        (1, false) => parts[0],
        (1, true) => parts[0] * 3600,
        (2, true) => parts[0] * 3600 + parts[1] * 60,
        (2, false) => parts[0] * 60 + parts[1],
        (3, _) => parts[0] * 3600 + parts[1] * 60 + parts[2],
        _ => return None,
    };
    days.checked_mul(86_400)?.checked_add(clock)
}
