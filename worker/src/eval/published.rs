//! What is known of the paper's 23 evaluation sets: class names, prompts, folders, numbers of images.
//! `published/README.md` says where it comes from.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use super::json::Entries;

/// What is known of one set.
#[derive(Debug, Clone, Deserialize)]
pub struct Facts {
    /// Where names and folders stand.
    pub source: String,
    /// Images per split, by the catalog's two splits.
    pub images: Images,
    /// Class folders in the order of the labels, where they do not bear the labels' names.
    #[serde(default)]
    pub folders: Option<Vec<String>>,
}

/// Numbers of images.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Images {
    /// Of the split for training.
    pub train: usize,
    /// Of the split that is scored.
    pub test: usize,
}

static FACTS: LazyLock<Vec<(String, Facts)>> =
    LazyLock::new(|| embedded(include_str!("published/facts.json")));
static LABELS: LazyLock<Vec<(String, Value)>> =
    LazyLock::new(|| embedded(include_str!("published/labels.json")));
static TEMPLATES: LazyLock<Vec<(String, Value)>> =
    LazyLock::new(|| embedded(include_str!("published/templates.json")));

fn embedded<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<(String, T)> {
    serde_json::from_str::<Entries<T>>(text)
        .map(|entries| entries.0)
        .expect("the embedded lists are JSON of this form, which a test reads")
}

/// The sets, in the paper's order.
pub fn names() -> impl Iterator<Item = &'static str> {
    FACTS.iter().map(|(name, _)| name.as_str())
}

/// What is known of a set.
#[must_use]
pub fn facts(set: &str) -> Option<&'static Facts> {
    find(&FACTS, set)
}

/// Class names of a set as `labels.json` has them.
pub(super) fn labels(set: &str) -> Option<&'static Value> {
    find(&LABELS, set)
}

/// Prompts of a set as `templates.json` has them.
pub(super) fn templates(set: &str) -> Option<&'static Value> {
    find(&TEMPLATES, set)
}

/// First name of each class of a set.
#[must_use]
pub fn class_names(set: &str) -> Option<Vec<&'static str>> {
    let list = labels(set)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).collect())
}

fn find<T>(entries: &'static [(String, T)], set: &str) -> Option<&'static T> {
    entries
        .iter()
        .find(|(name, _)| name == set)
        .map(|(_, value)| value)
}
