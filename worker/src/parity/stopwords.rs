//! Stop words: JSON lines of `{text, word_tokenize, no_stopwords, raw, raw_no_stopwords}` recorded
//! from the original.

use serde::Deserialize;
use serde_json::Value;

use super::report::Report;
use super::tokenizer::quoted;
use crate::text::{clean, remove_stopwords, word_tokenize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    text: String,
    word_tokenize: Vec<String>,
    no_stopwords: String,
    raw: String,
    raw_no_stopwords: String,
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value
        .get(0)
        .is_some_and(|row| row.get("no_stopwords").is_some())
}

/// Compares words and what is left without stop words, of cleaned and of raw text.
///
/// # Errors
/// The value is not of this format.
pub fn check(value: &Value) -> Result<Report, String> {
    let rows = Vec::<Row>::deserialize(value).map_err(|error| error.to_string())?;
    let mut report = Report::default();
    for (index, row) in rows.iter().enumerate() {
        let name = |what: &str| format!("{}.{what}", index + 1);
        report.equal(&name("text"), quoted(&clean(&row.raw)), quoted(&row.text));
        let words = word_tokenize(&row.text);
        report.equal(
            &name("word_tokenize"),
            format!("{words:?}"),
            format!("{:?}", row.word_tokenize),
        );
        report.equal(
            &name("no_stopwords"),
            quoted(&remove_stopwords(&row.text)),
            quoted(&row.no_stopwords),
        );
        report.equal(
            &name("raw_no_stopwords"),
            quoted(&remove_stopwords(&row.raw)),
            quoted(&row.raw_no_stopwords),
        );
    }
    Ok(report)
}
