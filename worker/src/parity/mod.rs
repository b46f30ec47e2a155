//! Checks of this build against numbers recorded from the original: one checker per kind of file.

pub mod against;
mod fill;
mod golden;
pub mod images;
pub mod losses;
pub mod lr_schedules;
pub mod metrics;
pub mod models;
mod outputs;
mod recipe;
pub mod report;
mod run;
pub mod sampler;
pub mod state_dicts;
pub mod stopwords;
pub mod synonyms;
pub mod tokenizer;
pub mod zeroshot;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use report::Report;

pub use fill::{hash_values, images as fill_images, weights as fill_weights};
pub use recipe::Recipe;

/// A golden file.
#[derive(Debug)]
pub struct Source {
    /// Where it is; files that belong to it lie beside it.
    pub path: PathBuf,
    /// Its JSON; of a file of JSON lines, the list of them.
    pub value: Value,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the file that cannot be read or is not JSON.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let value = if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            text.lines()
                .filter(|line| !line.trim().is_empty())
                .map(serde_json::from_str)
                .collect::<Result<Vec<Value>, _>>()
                .map(Value::Array)
        } else {
            serde_json::from_str(&text)
        };
        Ok(Self {
            path: path.to_owned(),
            value: value.map_err(|error| wrong(&error))?,
        })
    }
}

/// One group of a file's checks, which is one line of the report.
#[derive(Debug)]
pub struct Group {
    /// What is compared.
    pub name: String,
    /// What was found.
    pub report: Report,
}

/// What checks one kind of file.
pub struct Checker {
    /// The kind, in words.
    pub kind: &'static str,
    recognises: fn(&Value) -> bool,
    check: fn(&Source) -> Result<Vec<Group>, String>,
}

fn one(name: &str, report: Result<Report, String>) -> Result<Vec<Group>, String> {
    Ok(vec![Group {
        name: name.to_owned(),
        report: report?,
    }])
}

/// Every kind of file that this version knows.
pub const CHECKERS: [Checker; 11] = [
    Checker {
        kind: "model",
        recognises: models::recognises,
        check: models::check,
    },
    Checker {
        kind: "losses",
        recognises: losses::recognises,
        check: losses::check,
    },
    Checker {
        kind: "state dicts",
        recognises: state_dicts::recognises,
        check: state_dicts::check,
    },
    Checker {
        kind: "learning rates",
        recognises: lr_schedules::recognises,
        check: |source| one("learning rates", lr_schedules::check(&source.value)),
    },
    Checker {
        kind: "metrics",
        recognises: metrics::recognises,
        check: |source| one("metrics", metrics::check(&source.value)),
    },
    Checker {
        kind: "zero-shot",
        recognises: zeroshot::recognises,
        check: zeroshot::check,
    },
    Checker {
        kind: "images",
        recognises: images::recognises,
        check: |source| one("images", images::check(source)),
    },
    Checker {
        kind: "sampler",
        recognises: sampler::recognises,
        check: |source| one("order of samples", sampler::check(&source.value)),
    },
    Checker {
        kind: "tokens",
        recognises: tokenizer::recognises,
        check: |source| one("tokens", tokenizer::check(&source.value)),
    },
    Checker {
        kind: "synonyms",
        recognises: synonyms::recognises,
        check: |source| synonyms::check(&source.value),
    },
    Checker {
        kind: "stop words",
        recognises: stopwords::recognises,
        check: |source| one("stop words", stopwords::check(&source.value)),
    },
];

/// Checks one golden file by the checker of its kind.
///
/// # Errors
/// If the file cannot be read, is of no known kind, or asks for what this version does not have.
pub fn check(path: &Path) -> Result<Vec<Group>, String> {
    let source = Source::read(path)?;
    let checker = CHECKERS
        .iter()
        .find(|checker| (checker.recognises)(&source.value))
        .ok_or_else(|| {
            let kinds: Vec<&str> = CHECKERS.iter().map(|checker| checker.kind).collect();
            format!(
                "{}: this kind of golden file is not in this version, which knows {}",
                path.display(),
                kinds.join(", ")
            )
        })?;
    (checker.check)(&source).map_err(|error| format!("{}: {error}", path.display()))
}
