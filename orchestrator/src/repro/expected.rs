//! Numbers to compare with: a CSV file of `name,metric,value,tolerance`.

use std::path::Path;

use globset::{Glob, GlobMatcher};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

/// A line of the file.
#[derive(Debug)]
struct Row {
    name: GlobMatcher,
    metric: String,
    value: f64,
    tolerance: f64,
}

/// What is expected of runs, by their names.
#[derive(Debug, Default)]
pub(crate) struct Expected(Vec<Row>);

impl Expected {
    /// Reads a file.
    ///
    /// # Errors
    /// Every line that cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::io("read the expected numbers", path, error))?;
        let (mut rows, mut wrong) = (Vec::new(), Vec::new());
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            let is_head = index == 0 && line.starts_with("name,");
            if line.is_empty() || line.starts_with('#') || is_head {
                continue;
            }
            match row(line) {
                Ok(row) => rows.push(row),
                Err(text) => wrong.push((index + 1, text)),
            }
        }
        if wrong.is_empty() {
            Ok(Self(rows))
        } else {
            Err(super::faults(&path.display().to_string(), &wrong).with_kind(ExitKind::Usage))
        }
    }

    /// What is expected of the runs of a name: metric, value and tolerance.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64, f64)> {
        let rows = self.0.iter().filter(move |row| row.name.is_match(name));
        rows.map(|row| (row.metric.as_str(), row.value, row.tolerance))
    }
}

fn row(line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let [name, metric, value, tolerance] = cells[..] else {
        return Err(format!(
            "a line is name,metric,value,tolerance, and this one has {} cells",
            cells.len()
        ));
    };
    let glob = Glob::new(name).map_err(|error| format!("'{name}' is no pattern: {error}"))?;
    Ok(Row {
        name: glob.compile_matcher(),
        metric: metric.to_owned(),
        value: share(value)?,
        tolerance: share(tolerance)?,
    })
}

/// `0.334` or `33.4 %`.
fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number.trim(), 0.01),
        None => (text, 1.0),
    };
    let value: Option<f64> = number.parse().ok();
    let value = value.filter(|value| value.is_finite() && *value >= 0.0);
    value
        .map(|value| value * scale)
        .ok_or_else(|| format!("'{text}' is no number such as 0.334 or 33.4 %"))
}
