//! Stop words and synonyms: `{stopwords: [...], synonyms: {word: [...]}}` recorded from the original.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Group;
use super::report::Report;
use crate::text::{WordNet, stop_words};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    stopwords: Vec<String>,
    synonyms: BTreeMap<String, Vec<String>>,
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value.get("stopwords").is_some() && value.get("synonyms").is_some()
}

/// Compares the list of stop words, and the synonyms of every word.
///
/// # Errors
/// If the value is of another format, or there is no WordNet to compare with.
pub fn check(value: &Value) -> Result<Vec<Group>, String> {
    let recorded = Recorded::deserialize(value).map_err(|error| error.to_string())?;
    let wordnet = WordNet::find().map_err(|error| error.to_string())?;
    let mut words = Report::default();
    let mut want = recorded.stopwords;
    want.sort();
    words.equal("stop words", stop_words().join(" "), want.join(" "));
    let mut synonyms = Report::default();
    for (word, want) in &recorded.synonyms {
        let got = wordnet.synonyms(word);
        synonyms.equal(word, format!("{got:?}"), format!("{want:?}"));
    }
    Ok(vec![
        Group {
            name: "stop words".to_owned(),
            report: words,
        },
        Group {
            name: "synonyms".to_owned(),
            report: synonyms,
        },
    ])
}
