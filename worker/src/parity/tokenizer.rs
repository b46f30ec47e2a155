//! Tokens: JSON lines of `{text, cleaned, ids[77], n_bpe}` recorded from the original.

use serde::Deserialize;
use serde_json::Value;

use super::report::Report;
use crate::text::{Tokenizer, clean};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    text: String,
    cleaned: String,
    ids: Vec<i64>,
    n_bpe: usize,
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value
        .get(0)
        .is_some_and(|row| row.get("n_bpe").is_some() && row.get("ids").is_some())
}

/// Compares cleaned text, number of tokens and the row of tokens of every line.
///
/// # Errors
/// The value is not of this format.
pub fn check(value: &Value) -> Result<Report, String> {
    let rows = Vec::<Row>::deserialize(value).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::new();
    let mut report = Report::default();
    for (index, row) in rows.iter().enumerate() {
        let name = |what: &str| format!("{}.{what}", index + 1);
        report.equal(
            &name("cleaned"),
            quoted(&clean(&row.text)),
            quoted(&row.cleaned),
        );
        report.equal(&name("n_bpe"), tokenizer.encode(&row.text).len(), row.n_bpe);
        let ids = tokenizer.row(&row.text);
        report.equal(&name("ids"), listed(&ids), listed(&row.ids));
    }
    Ok(report)
}

pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn listed(ids: &[i64]) -> String {
    format!("{ids:?}")
}
