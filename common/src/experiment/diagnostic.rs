//! What is wrong with an experiment, and where.

use std::fmt;

/// Where something was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// 0: the file; n: the n-th override; [`SETTINGS`] + n: the n-th file of settings, from 0.
    pub(crate) origin: usize,
    /// Line from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// Column from 1, in characters.
    pub(crate) column: usize,
}

/// Origin of the first file of settings: more than there are overrides.
pub(crate) const SETTINGS: usize = 1 << 30;

/// One mistake in an experiment. Shown as `exp.yaml:14:3: <message>` or `--set optim.lr=x: <message>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the user named it, or the override as written after `--set `.
    pub source: String,
    /// Whether `source` is an override.
    pub is_override: bool,
    /// Line from 1; absent if no line is to blame (something is missing) or for an override.
    pub line: Option<usize>,
    /// Column from 1, in characters.
    pub column: Option<usize>,
    /// A sentence that names the key and says what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_override {
            f.write_str("--set ")?;
        }
        f.write_str(&self.source)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// Collects mistakes.
#[derive(Debug, Default)]
pub(crate) struct Report {
    found: Vec<(Place, String)>,
}

impl Report {
    pub(crate) fn add(&mut self, place: Place, message: impl Into<String>) {
        self.found.push((place, message.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the file, then of the overrides, then of the settings.
    pub(crate) fn into_diagnostics(
        mut self,
        path: &str,
        overrides: &[String],
        settings: &[String],
    ) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(place, _)| *place);
        self.found.dedup();
        let diagnostic = |(place, message): (Place, String)| {
            let overriding = place.origin.checked_sub(1).and_then(|at| overrides.get(at));
            let setting = place
                .origin
                .checked_sub(SETTINGS)
                .and_then(|at| settings.get(at));
            let located = overriding.is_none() && place.line > 0;
            Diagnostic {
                source: overriding
                    .or(setting)
                    .map_or(path, String::as_str)
                    .to_owned(),
                is_override: overriding.is_some(),
                line: located.then_some(place.line),
                column: located.then_some(place.column),
                message,
            }
        };
        self.found.into_iter().map(diagnostic).collect()
    }
}
