//! The resolved experiment as dotted keys, and what of it differs between runs.

use rocket_common::experiment::Experiment;
use serde::Serialize;
use serde_json::Value;

/// Sections that a program of one's own does not have.
const TRAINING: [&str; 7] = ["model", "data", "augment", "text", "optim", "train", "eval"];

/// Every key with its value, in the order of the file: `optim.lr`, `0.001`.
pub(crate) fn flat(experiment: &Experiment) -> Vec<(String, String)> {
    let value = serde_json::to_value(experiment).unwrap_or_default();
    let mut keys = Vec::new();
    if let Value::Object(sections) = &value {
        for (name, section) in sections {
            let unused = experiment.command.is_some() && TRAINING.contains(&name.as_str());
            if !unused && !section.is_null() {
                walk(name, section, &mut keys);
            }
        }
    }
    keys
}

fn walk(key: &str, value: &Value, keys: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                walk(&format!("{key}.{name}"), value, keys);
            }
        }
        Value::String(text) => keys.push((key.to_owned(), text.clone())),
        other => keys.push((key.to_owned(), other.to_string())),
    }
}

/// A key of the experiment with its value in each run; absent where a run has no such key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct KeyValues {
    /// `optim.lr`.
    pub(crate) key: String,
    /// One a run.
    pub(crate) values: Vec<Option<String>>,
}

impl KeyValues {
    /// Whether not all runs say the same.
    pub(crate) fn differs(&self) -> bool {
        self.values.windows(2).any(|pair| pair[0] != pair[1])
    }
}

/// The keys of several experiments side by side, in the order in which they first come.
pub(crate) fn side_by_side(configs: &[Vec<(String, String)>]) -> Vec<KeyValues> {
    let mut keys: Vec<&String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (key, _) in configs.iter().flatten() {
        if seen.insert(key) {
            keys.push(key);
        }
    }
    let maps: Vec<std::collections::HashMap<&String, &String>> = configs
        .iter()
        .map(|config| config.iter().map(|(key, value)| (key, value)).collect())
        .collect();
    keys.into_iter()
        .map(|key| KeyValues {
            key: key.clone(),
            values: maps
                .iter()
                .map(|map| map.get(key).map(|value| (*value).clone()))
                .collect(),
        })
        .collect()
}
