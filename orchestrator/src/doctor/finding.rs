//! One thing that was found out, and how good or bad it is for a run.

use serde::Serialize;

/// How good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As a run wants it.
    Ok,
    /// Worth knowing.
    Note,
    /// A run works, and may lose time or work.
    Warning,
    /// A run cannot work.
    Problem,
}

impl Level {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// One thing that was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good or bad.
    pub level: Level,
    /// What, a sentence without a capital and a final stop.
    pub words: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// Of a level.
    pub fn new(level: Level, words: impl Into<String>) -> Self {
        Self {
            level,
            words: words.into(),
            advice: None,
        }
    }

    /// As a run wants it.
    pub fn ok(words: impl Into<String>) -> Self {
        Self::new(Level::Ok, words)
    }

    /// Worth knowing.
    pub fn note(words: impl Into<String>) -> Self {
        Self::new(Level::Note, words)
    }

    /// A run works, and may lose something.
    pub fn warning(words: impl Into<String>) -> Self {
        Self::new(Level::Warning, words)
    }

    /// A run cannot work.
    pub fn problem(words: impl Into<String>) -> Self {
        Self::new(Level::Problem, words)
    }

    /// With what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Seconds as a person says them.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, 1..=3, s) if s > 0 => format!("{seconds} s"),
        (0, 0, m, 0) => format!("{m} min"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, 0, _) => format!("{h} h"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (1, 0, 0, _) => "1 day".into(),
        (d, 0, _, _) => format!("{d} days"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}
