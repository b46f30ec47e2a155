//! The code of two runs: the trees of their pinned commits, without the experiment itself.

use git2::{Delta, DiffOptions, Oid, Repository};
use rocket_common::error::Result;
use serde::Serialize;

use super::Subject;
use crate::pin::{self, git_error};

/// How the code of one differs from that of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CodeDiff {
    /// Of which run.
    pub(crate) from: String,
    /// To which.
    pub(crate) to: String,
    /// Whether both are known and the same.
    pub(crate) identical: bool,
    /// Why it is not known; absent if it is.
    pub(crate) unknown: Option<String>,
    /// Files that differ.
    pub(crate) files: Vec<FileChange>,
    /// Lines added in all.
    pub(crate) added: usize,
    /// Lines removed in all.
    pub(crate) removed: usize,
    /// As `git diff` prints it; only if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patch: Option<String>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FileChange {
    /// Its path, of `to` where both have one.
    pub(crate) path: String,
    /// `added`, `removed`, `renamed` or `changed`.
    pub(crate) change: &'static str,
    /// Lines added; of a binary file none.
    pub(crate) added: usize,
    /// Lines removed.
    pub(crate) removed: usize,
    /// Not a text.
    pub(crate) binary: bool,
}

/// Compares the code of two subjects.
pub(super) fn code_diff(from: &Subject, to: &Subject, patch: bool) -> Result<CodeDiff> {
    let mut diff = CodeDiff {
        from: from.head.run.clone(),
        to: to.head.run.clone(),
        identical: false,
        unknown: None,
        files: Vec::new(),
        added: 0,
        removed: 0,
        patch: None,
    };
    let (Some(old), Some(new)) = (from.code, to.code) else {
        let without = if from.code.is_none() { from } else { to };
        diff.unknown = Some(format!("{} lies in no git repository", without.head.run));
        return Ok(diff);
    };
    let Some(repo) = open(from, to, [old, new]) else {
        diff.unknown = Some(format!(
            "commit {old:.12} or {new:.12} is neither in the repository here nor in the store of pins"
        ));
        return Ok(diff);
    };
    fill(&mut diff, &repo, old, new, patch)
        .map_err(|error| git_error(&format!("compare commits {old} and {new}"), &error))?;
    diff.identical = diff.files.is_empty();
    Ok(diff)
}

/// A repository that sees the objects of all that may hold one of the commits.
fn open(from: &Subject, to: &Subject, commits: [Oid; 2]) -> Option<Repository> {
    let mut found: Vec<Repository> = Vec::new();
    let places = from.repositories.iter().chain(&to.repositories);
    found.extend(places.filter_map(|place| Repository::open(place).ok()));
    found.extend(Repository::discover("."));
    let has = |repo: &Repository| {
        commits.iter().all(|id| {
            repo.find_commit(*id)
                .is_ok_and(|commit| commit.tree().is_ok())
        })
    };
    if let Some(index) = found.iter().position(has) {
        return Some(found.swap_remove(index));
    }
    // Two folders of runs: the objects of the others beside its own.
    let first = found.first()?;
    for other in &found[1..] {
        let objects = other.commondir().join("objects");
        first
            .odb()
            .ok()?
            .add_disk_alternate(objects.to_str()?)
            .ok()?;
    }
    has(first).then(|| found.swap_remove(0))
}

fn fill(
    into: &mut CodeDiff,
    repo: &Repository,
    old: Oid,
    new: Oid,
    patch: bool,
) -> Result<(), git2::Error> {
    let tree = |id: Oid| repo.find_commit(id)?.tree();
    let mut options = DiffOptions::new();
    options.ignore_submodules(false);
    let mut diff =
        repo.diff_tree_to_tree(Some(&tree(old)?), Some(&tree(new)?), Some(&mut options))?;
    diff.find_similar(None)?;
    let mut text = String::new();
    for index in 0..diff.deltas().len() {
        let Some(delta) = diff.get_delta(index) else {
            continue;
        };
        let path = delta.new_file().path().or(delta.old_file().path());
        let path = path.unwrap_or(std::path::Path::new(""));
        if path == std::path::Path::new(pin::EXPERIMENT_PATH) {
            continue;
        }
        let mut change = FileChange {
            path: path.display().to_string(),
            change: match delta.status() {
                Delta::Added => "added",
                Delta::Deleted => "removed",
                Delta::Renamed => "renamed",
                _ => "changed",
            },
            added: 0,
            removed: 0,
            binary: delta.flags().is_binary(),
        };
        match git2::Patch::from_diff(&diff, index)? {
            Some(mut of_file) => {
                let (_, added, removed) = of_file.line_stats()?;
                (change.added, change.removed) = (added, removed);
                if patch {
                    text.push_str(&String::from_utf8_lossy(&of_file.to_buf()?));
                }
            }
            None => change.binary = true,
        }
        into.added += change.added;
        into.removed += change.removed;
        into.files.push(change);
    }
    into.patch = patch.then_some(text);
    Ok(())
}
