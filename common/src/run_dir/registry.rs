//! All runs under a root, and how people name one of them.

use std::fs;
use std::path::Path;

use super::RunDir;
use crate::error::{Error, Result};
use crate::exit::ExitKind;

/// `<name>-<8 hex of the pin commit>`, with `-<again>` for the second and later submissions of the
/// same experiment at the same commit.
#[must_use]
pub fn run_id(name: &str, commit: &str, again: Option<u32>) -> String {
    let short = commit.get(..8).unwrap_or(commit);
    match again {
        None => format!("{name}-{short}"),
        Some(count) => format!("{name}-{short}-{count}"),
    }
}

/// The experiment's name within a run id; `None` if it is not a run id.
#[must_use]
pub fn name_of_run_id(id: &str) -> Option<&str> {
    // What is made aside, or only for a drill, is hidden.
    if id.starts_with('.') {
        return None;
    }
    let (head, tail) = id.rsplit_once('-')?;
    if is_short_commit(tail) && !head.is_empty() {
        return Some(head);
    }
    let (name, commit) = head.rsplit_once('-')?;
    let counted = !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
    (counted && is_short_commit(commit) && !name.is_empty()).then_some(name)
}

/// Whether a text has the form of a run id.
#[must_use]
pub fn is_run_id(text: &str) -> bool {
    name_of_run_id(text).is_some()
}

fn is_short_commit(text: &str) -> bool {
    text.len() == 8
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Every run under a root, by id. One read of the directory; no run is opened, so that a damaged one
/// shows when it is read and not before. A root that does not exist holds no runs.
///
/// # Errors
/// The root cannot be read.
pub fn list(root: &Path) -> Result<Vec<RunDir>> {
    let failed = |error| Error::io("read", root, error);
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if crate::atomic::is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut runs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if !is_run_id(&name.to_string_lossy()) {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() || kind.is_symlink() {
            runs.push(RunDir::unchecked(entry.path()));
        }
    }
    runs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(runs)
}

/// The run that a person means: an id, the unique beginning of one, the name of an experiment with
/// one run, or the path of a run directory.
///
/// # Errors
/// None or several match; the message names the nearest or the candidates.
pub fn find(root: &Path, query: &str) -> Result<RunDir> {
    if query.contains('/') {
        return RunDir::open(query);
    }
    if is_run_id(query) && root.join(query).is_dir() {
        return RunDir::open(root.join(query));
    }
    let ids: Vec<String> = list(root)?.iter().map(RunDir::id).collect();
    let named = |id: &&String| name_of_run_id(id) == Some(query);
    let mut matching: Vec<&String> = ids.iter().filter(named).collect();
    if matching.is_empty() {
        matching = ids.iter().filter(|id| id.starts_with(query)).collect();
    }
    match matching[..] {
        [id] if !query.is_empty() => RunDir::open(root.join(id)),
        [] | [_] => Err(not_found(root, query, &ids)),
        _ => Err(ambiguous(query, &matching)),
    }
}

fn not_found(root: &Path, query: &str, ids: &[String]) -> Error {
    let error = Error::new(
        ExitKind::Usage,
        format!("there is no run '{query}' in '{}'", root.display()),
    );
    if ids.is_empty() {
        return error.hint("no run was submitted there yet");
    }
    let names = ids.iter().filter_map(|id| name_of_run_id(id));
    match suggest(query, ids.iter().map(String::as_str).chain(names)) {
        Some(nearest) => error.hint(format!("did you mean '{nearest}'?")),
        None => error.hint("'rocket status' lists the runs"),
    }
}

fn ambiguous(query: &str, matching: &[&String]) -> Error {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = matching
        .iter()
        .take(SHOWN)
        .map(|id| format!("'{id}'"))
        .collect();
    if matching.len() > SHOWN {
        shown.push(format!("{} more", matching.len() - SHOWN));
    }
    Error::new(
        ExitKind::Usage,
        format!(
            "'{query}' could be {} runs: {}",
            matching.len(),
            shown.join(", ")
        ),
    )
    .hint("write enough of the id to name one of them")
}

/// The candidate nearest to a misspelt word, if one is near enough to be meant.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let score = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (score, candidate)
        })
        .filter(|(distance, candidate)| {
            *distance * 3 <= word.chars().count().max(candidate.chars().count())
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
