//! Which label each class folder has. Never by luck: the order is the explicit one of the catalog,
//! or the folders are those that the set was published with, or they bear the labels' names, or the
//! sorted folders stand for the labels one by one, as in the original; and anything that speaks
//! against it is refused with the difference.

mod published;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::catalog::ClassOrder;
use super::error::some_of;
use super::labels::Names;
pub use published::against_published;

/// How folders and labels were matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matched {
    /// By the order that the catalog gives.
    Explicit,
    /// By the folders, or the numbers in a file, that the set was published with.
    Published,
    /// Every folder bears the name of one label.
    ByName,
    /// Folder i in sorted order has label i.
    SortedOrder,
}

/// Why folders and labels do not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// One sentence each.
    pub differences: Vec<String>,
    /// What to do.
    pub advice: String,
}

/// The label index of each folder, by the order of `folders` (sorted names). `published` are the
/// folders that the set was published with, in the order of its classes.
///
/// # Errors
/// The differences, all of them up to a readable number.
pub fn match_folders(
    folders: &[String],
    labels: &[Names],
    order: Option<&ClassOrder>,
    published: Option<&[String]>,
) -> Result<(Vec<usize>, Matched), Mismatch> {
    match order {
        Some(ClassOrder::Folders(names)) => {
            if names.len() != labels.len() {
                return Err(mismatch(
                    vec![format!(
                        "'classes' lists {} folders, but there are {} labels",
                        names.len(),
                        labels.len()
                    )],
                    "list one folder per label, in the order of the labels",
                ));
            }
            let pairs = names.iter().cloned().zip(0..).collect();
            explicit(folders, labels, pairs).map(|found| (found, Matched::Explicit))
        }
        Some(ClassOrder::Labels(pairs)) => {
            let pairs = resolve(pairs, labels)?;
            explicit(folders, labels, pairs).map(|found| (found, Matched::Explicit))
        }
        None => {
            match published.map(|published| published::match_folders(folders, labels, published)) {
                Some(Some(found)) => found.map(|found| (found, Matched::Published)),
                _ => implicit(folders, labels),
            }
        }
    }
}

/// `folder: label` to `folder: index of label`.
fn resolve(pairs: &[(String, String)], labels: &[Names]) -> Result<Vec<(String, usize)>, Mismatch> {
    let mut differences = Vec::new();
    let mut resolved = Vec::new();
    for (folder, label) in pairs {
        let places: Vec<usize> = (0..labels.len())
            .filter(|&i| labels[i].iter().any(|n| n == label))
            .collect();
        match places[..] {
            [place] => resolved.push((folder.clone(), place)),
            [] => differences
                .push(format!("'classes' gives folder '{folder}' the label '{label}', which is no label")),
            _ => differences.push(format!(
                "'classes' gives folder '{folder}' the label '{label}', which is the name of {} classes \
                 (numbers {}); give a list of folders in label order instead",
                places.len(),
                places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )),
        }
    }
    if differences.is_empty() {
        Ok(resolved)
    } else {
        Err(mismatch(
            differences,
            "use the labels' names exactly as they are written there",
        ))
    }
}

fn explicit(
    folders: &[String],
    labels: &[Names],
    pairs: Vec<(String, usize)>,
) -> Result<Vec<usize>, Mismatch> {
    let mut differences = Vec::new();
    let mut of_folder: HashMap<&str, usize> = HashMap::new();
    let mut of_label: HashMap<usize, &str> = HashMap::new();
    for (folder, label) in &pairs {
        if of_folder.insert(folder, *label).is_some() {
            differences.push(format!("'classes' names folder '{folder}' twice"));
        } else if let Some(other) = of_label.insert(*label, folder) {
            differences.push(format!(
                "'classes' gives label {label} ('{}') to both '{other}' and '{folder}'",
                labels[*label][0]
            ));
        }
    }
    let missing: Vec<_> = pairs
        .iter()
        .map(|p| &p.0)
        .filter(|f| !folders.contains(f))
        .collect();
    let extra: Vec<_> = folders
        .iter()
        .filter(|f| !of_folder.contains_key(f.as_str()))
        .collect();
    let unused: Vec<_> = (0..labels.len())
        .filter(|i| !of_label.contains_key(i))
        .map(|i| &labels[i][0])
        .collect();
    if !missing.is_empty() {
        differences.push(format!(
            "{} in 'classes' but no such folder: {}",
            count(missing.len()),
            some_of(&missing)
        ));
    }
    if !extra.is_empty() {
        differences.push(format!(
            "{} on disk but not in 'classes': {}",
            count(extra.len()),
            some_of(&extra)
        ));
    }
    if !unused.is_empty() {
        differences.push(format!(
            "no folder for {}: {}",
            labels_count(unused.len()),
            some_of(&unused)
        ));
    }
    if !differences.is_empty() {
        return Err(mismatch(
            differences,
            "mend 'classes' in the catalog, or the folders",
        ));
    }
    Ok(folders
        .iter()
        .map(|folder| of_folder[folder.as_str()])
        .collect())
}

/// A name without the number before it: `001.Black_footed_Albatross`, `012_Audi_TT`.
fn unnumbered(name: &str) -> &str {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.strip_prefix(['.', '_', ' ']) {
        Some(rest) if rest.len() < name.len() - 1 => rest,
        _ => name,
    }
}

/// Names are compared without case, spaces and signs: `ApplyEyeMakeup` is `Apply Eye Makeup`.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn implicit(folders: &[String], labels: &[Names]) -> Result<(Vec<usize>, Matched), Mismatch> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, names) in labels.iter().enumerate() {
        for name in names {
            let at = places.entry(plain(name)).or_default();
            if !at.contains(&i) {
                at.push(i);
            }
        }
    }
    let named: Vec<Option<&Vec<usize>>> = folders
        .iter()
        .map(|folder| {
            [folder.as_str(), unnumbered(folder)]
                .into_iter()
                .find_map(|name| places.get(&plain(name)).filter(|_| !plain(name).is_empty()))
        })
        .collect();

    if folders.len() != labels.len() {
        let mut differences = vec![format!(
            "{} class folders, but {} labels",
            folders.len(),
            labels.len()
        )];
        // Names help to find the odd one only if folders bear labels' names at all.
        if named.iter().flatten().count() * 2 > folders.len().min(labels.len()) {
            let extra: Vec<_> = folders
                .iter()
                .zip(&named)
                .filter(|(_, n)| n.is_none())
                .map(|(f, _)| f)
                .collect();
            let have: Vec<usize> = named
                .iter()
                .flatten()
                .flat_map(|n| n.iter().copied())
                .collect();
            let missing: Vec<_> = (0..labels.len())
                .filter(|i| !have.contains(i))
                .map(|i| &labels[i][0])
                .collect();
            if !extra.is_empty() {
                differences.push(format!(
                    "no label for {}: {}",
                    count(extra.len()),
                    some_of(&extra)
                ));
            }
            if !missing.is_empty() {
                differences.push(format!(
                    "no folder for {}: {}",
                    labels_count(missing.len()),
                    some_of(&missing)
                ));
            }
        } else {
            differences.push(format!("the folders are {}", some_of(folders)));
        }
        return Err(mismatch(
            differences,
            "remove what is too much, add what is missing, or give the label of each folder under \
             'classes' in the catalog",
        ));
    }

    let unique: Option<Vec<usize>> = named
        .iter()
        .map(|n| {
            n.and_then(|n| {
                if let [place] = n[..] {
                    Some(place)
                } else {
                    None
                }
            })
        })
        .collect();
    if let Some(order) = unique {
        let mut seen = vec![false; labels.len()];
        order.iter().for_each(|&place| seen[place] = true);
        if seen.iter().all(|&s| s) {
            return Ok((order, Matched::ByName));
        }
    }

    // Sorted order, unless something speaks against it.
    let differences: Vec<String> = folders
        .iter()
        .zip(&named)
        .enumerate()
        .filter_map(|(i, (folder, places))| {
            let places = (*places)?;
            (!places.contains(&i)).then(|| {
                format!(
                    "folder '{folder}' comes {}, where the label is '{}', but bears the name of label {}",
                    place(i),
                    labels[i][0],
                    places[0]
                )
            })
        })
        .collect();
    if !differences.is_empty() {
        return Err(mismatch(
            shorten(differences),
            "give the label of each folder under 'classes' in the catalog",
        ));
    }
    if let Some((a, b)) = numbers_out_of_order(folders) {
        return Err(mismatch(
            vec![format!(
                "the folders are numbers without leading zeros, so that '{b}' sorts before '{a}': \
                 sorted order is probably not the labels' order"
            )],
            "list the folders in the order of the labels under 'classes' in the catalog",
        ));
    }
    Ok(((0..folders.len()).collect(), Matched::SortedOrder))
}

/// Two folders, smaller number first, that sort the other way round as text.
fn numbers_out_of_order(folders: &[String]) -> Option<(&str, &str)> {
    let numbers: Vec<u64> = folders
        .iter()
        .map(|f| f.parse().ok())
        .collect::<Option<_>>()?;
    let at = numbers.windows(2).position(|pair| pair[0] > pair[1])?;
    Some((&folders[at + 1], &folders[at]))
}

fn mismatch(differences: Vec<String>, advice: &str) -> Mismatch {
    Mismatch {
        differences,
        advice: advice.to_owned(),
    }
}

fn shorten(mut differences: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 8;
    if differences.len() > SHOWN {
        let more = differences.len() - SHOWN;
        differences.truncate(SHOWN);
        differences.push(format!("and {more} more"));
    }
    differences
}

fn count(n: usize) -> String {
    if n == 1 {
        "1 folder".to_owned()
    } else {
        format!("{n} folders")
    }
}

fn labels_count(n: usize) -> String {
    if n == 1 {
        "1 label".to_owned()
    } else {
        format!("{n} labels")
    }
}

fn place(index: usize) -> String {
    format!("at place {index} in sorted order")
}
