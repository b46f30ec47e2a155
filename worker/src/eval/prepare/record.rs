//! What was made of what, kept beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Plan, PrepareError, RECIPES, Recipe};
use crate::eval::error::number_of;
use crate::eval::published;

/// Name of the file that says what was made of what.
pub const RECORD: &str = "prepared.json";

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this record's form.
    pub version: u32,
    /// The set.
    pub set: String,
    /// What it was made of.
    pub source: PathBuf,
    /// Images by split.
    pub images: BTreeMap<String, usize>,
    /// Classes by split.
    pub classes: BTreeMap<String, usize>,
}

/// What a complete earlier call left in `dest`.
pub(super) fn earlier(recipe: &Recipe, dest: &Path) -> Result<Option<Record>, PrepareError> {
    let used = |problem: String| PrepareError::Dest {
        dest: dest.to_owned(),
        problem,
    };
    let text = match fs::read_to_string(dest.join(RECORD)) {
        Ok(text) => text,
        Err(_) => {
            let occupied = fs::read_dir(dest).is_ok_and(|mut entries| entries.next().is_some());
            return if occupied || dest.is_file() {
                Err(used(
                    "there is something there that this command did not make; name another folder"
                        .to_owned(),
                ))
            } else {
                Ok(None)
            };
        }
    };
    match serde_json::from_str::<Record>(&text) {
        Ok(record) if record.version == 1 && record.set == recipe.set => Ok(Some(record)),
        Ok(record) => Err(used(format!(
            "the set '{}' was prepared there; name another folder",
            record.set
        ))),
        Err(error) => Err(used(format!(
            "its {RECORD} cannot be read ({error}); remove the folder, and prepare it again"
        ))),
    }
}

pub(super) fn record(recipe: &Recipe, source: &Path, plan: &Plan) -> Record {
    let mut images: BTreeMap<String, usize> = BTreeMap::new();
    let mut classes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut count = |split: &str, class| {
        *images.entry(split.to_owned()).or_default() += 1;
        classes.entry(split.to_owned()).or_default().insert(class);
    };
    if plan.lists.is_empty() {
        for item in &plan.items {
            let mut parts = item.dest.split('/');
            let (split, class) = (parts.next(), parts.next());
            count(split.unwrap_or_default(), class.unwrap_or_default());
        }
    }
    for (split, list) in &plan.lists {
        list.iter().for_each(|(_, label)| count(split, label));
    }
    Record {
        version: 1,
        set: recipe.set.to_owned(),
        source: std::path::absolute(source).unwrap_or_else(|_| source.to_owned()),
        images,
        classes: classes
            .into_iter()
            .map(|(split, all)| (split, all.len()))
            .collect(),
    }
}

/// Where the record differs from the published numbers, by the splits of the original's catalog.
pub(super) fn notes(record: &Record) -> Vec<String> {
    let (Some(facts), Some(recipe)) = (
        published::facts(&record.set),
        RECIPES.iter().find(|recipe| recipe.set == record.set),
    ) else {
        return Vec::new();
    };
    let classes = published::class_names(&record.set).map_or(0, |names| names.len());
    let expected = [
        ("train", facts.images.train),
        (recipe.test, facts.images.test),
    ];
    let mut notes = Vec::new();
    for (split, images) in expected {
        let (Some(&found), Some(&has)) = (record.images.get(split), record.classes.get(split))
        else {
            notes.push(match split {
                "train" => "there is no training split, which only linear probes need".to_owned(),
                _ => format!("there is no split '{split}', which is the one that is scored"),
            });
            continue;
        };
        if found != images {
            notes.push(format!(
                "{split} has {}; the published one has {images}",
                number_of(found, "image", "images")
            ));
        }
        if has != classes {
            notes.push(format!(
                "{split} has {}; the published one has {classes}",
                number_of(has, "class", "classes")
            ));
        }
    }
    notes
}
