//! Folders, labels and numbers of sets whose classes have an order by their publication.

use std::collections::HashMap;

use super::{Mismatch, count, mismatch, plain, shorten, some_of};
use crate::eval::labels::Names;

/// What speaks against labels of the user's for a set whose classes are numbered by its publication:
/// another number of them, or a published name at another place.
#[must_use]
pub fn against_published(labels: &[Names], published: &[&str]) -> Option<Mismatch> {
    if labels.len() != published.len() {
        return Some(mismatch(
            vec![format!(
                "the set has {} classes, but there are {} labels",
                published.len(),
                labels.len()
            )],
            "give one label per class, in the set's own order",
        ));
    }
    let differences: Vec<String> = labels
        .iter()
        .enumerate()
        .filter_map(|(i, names)| {
            let places: Vec<usize> = (0..published.len())
                .filter(|&j| names.iter().any(|name| plain(name) == plain(published[j])))
                .collect();
            (!places.is_empty() && !places.contains(&i)).then(|| {
                format!(
                    "label {i} is '{}', but class {i} of the set is '{}' and '{}' is class {}",
                    names[0], published[i], published[places[0]], places[0]
                )
            })
        })
        .collect();
    (!differences.is_empty()).then(|| {
        mismatch(
            shorten(differences),
            "give the labels in the set's own order",
        )
    })
}

/// Folders as the set was published with them; None if these are others.
pub(super) fn match_folders(
    folders: &[String],
    labels: &[Names],
    published: &[String],
) -> Option<Result<Vec<usize>, Mismatch>> {
    if published.len() != labels.len() {
        return None;
    }
    let places: HashMap<&str, usize> = published.iter().map(|f| unpadded(f)).zip(0..).collect();
    let found: Vec<Option<usize>> = folders
        .iter()
        .map(|folder| places.get(unpadded(folder)).copied())
        .collect();
    let known = found.iter().flatten().count();
    let missing: Vec<usize> = (0..published.len())
        .filter(|i| !found.contains(&Some(*i)))
        .collect();
    // As many folders as classes, and a folder of each: each class has one.
    if folders.len() == published.len() && missing.is_empty() {
        return Some(Ok(found.into_iter().flatten().collect()));
    }
    // A few by chance mean nothing.
    if known * 2 <= folders.len().min(published.len()) {
        return None;
    }
    let mut differences = Vec::new();
    if folders.len() != published.len() {
        differences.push(format!(
            "{} class folders, but {} classes",
            folders.len(),
            published.len()
        ));
    }
    let extra: Vec<_> = folders
        .iter()
        .zip(&found)
        .filter(|(_, f)| f.is_none())
        .map(|(f, _)| f)
        .collect();
    let missing: Vec<_> = missing
        .into_iter()
        .map(|i| format!("{} ({})", published[i], labels[i][0]))
        .collect();
    if !extra.is_empty() {
        differences.push(format!(
            "no class for {}: {}",
            count(extra.len()),
            some_of(&extra)
        ));
    }
    if !missing.is_empty() {
        differences.push(format!(
            "no folder for {}: {}",
            if missing.len() == 1 {
                "1 class".to_owned()
            } else {
                format!("{} classes", missing.len())
            },
            some_of(&missing)
        ));
    }
    Some(Err(mismatch(
        differences,
        "remove what is too much, and add what is missing",
    )))
}

/// A number without leading zeros (`00014` is `14`); other names as they are.
fn unpadded(name: &str) -> &str {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_digit()) {
        return name;
    }
    match name.trim_start_matches('0') {
        "" => "0",
        number => number,
    }
}
