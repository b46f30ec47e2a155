//! The pinned tree and its commit.

use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::{Changes, EXPERIMENT_PATH, Source, git_error, lfs};

/// Largest sum of untracked files that a snapshot takes: data sets do not belong into commits.
const MAX_UNTRACKED: u64 = 100 << 20;

/// What the tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The tree of HEAD.
    Head,
    /// The tree of HEAD with the changes of the work tree and its untracked files.
    Snapshot,
}

/// A pin as objects of the user's repository; no ref points to it yet.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The commit.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// The commit that it was made from.
    pub parent: Oid,
    /// Things left out of a snapshot, one sentence each.
    pub notes: Vec<String>,
}

/// Writes the tree and the commit. `experiment` is the resolved YAML.
///
/// # Errors
/// A repository that cannot be written, or changes that a snapshot cannot hold: conflicts, changed
/// submodules, changed LFS files, more than 100 MiB of untracked files.
pub fn create(
    source: &Source,
    changes: &Changes,
    mode: Mode,
    name: &str,
    experiment: &str,
) -> Result<Pinned> {
    let doing = |error: git2::Error| git_error("write the pinned commit", &error);
    // A second handle whose index is in memory: the user's own index is never opened for writing.
    let repo = Repository::open(source.repository().path()).map_err(doing)?;
    repo.set_workdir(source.root(), false).map_err(doing)?;
    let mut index = Index::new().map_err(doing)?;
    repo.set_index(&mut index).map_err(doing)?;
    let head = source.head_commit()?;
    index
        .read_tree(&head.tree().map_err(doing)?)
        .map_err(doing)?;

    let mut notes = Vec::new();
    if mode == Mode::Snapshot {
        take_changes(source, changes, &mut index, &mut notes)?;
    }
    let blob = repo.blob(experiment.as_bytes()).map_err(doing)?;
    index.add(&entry(EXPERIMENT_PATH, blob)).map_err(doing)?;
    let tree = index.write_tree_to(&repo).map_err(doing)?;

    let message = format!("rocket: {name}\n\nThe experiment is {EXPERIMENT_PATH}.\n");
    let parent = repo.find_commit(head.id()).map_err(doing)?;
    let commit = repo
        .commit(
            None,
            &parent.author(),
            &parent.committer(),
            &message,
            &repo.find_tree(tree).map_err(doing)?,
            &[&parent],
        )
        .map_err(doing)?;
    Ok(Pinned {
        commit,
        tree,
        parent: head.id(),
        notes,
    })
}

fn take_changes(
    source: &Source,
    changes: &Changes,
    index: &mut Index,
    notes: &mut Vec<String>,
) -> Result<()> {
    refuse_large(source, &changes.untracked)?;
    for change in &changes.tracked {
        let path = &change.path;
        let refuse = |why: &str, hint: &str| {
            Err(Error::new(
                ExitKind::Usage,
                format!("--snapshot cannot take '{}': {why}", path.display()),
            )
            .hint(hint))
        };
        if change.what == "conflict" {
            return refuse("it has a merge conflict", "resolve it first");
        }
        if is_submodule(source, path) {
            return refuse(
                "it is a submodule, whose own files are not part of this repository",
                "commit in the submodule, and then the submodule here",
            );
        }
        let exists = source
            .root()
            .join(path)
            .symlink_metadata()
            .is_ok_and(|meta| !meta.is_dir());
        if exists && lfs::is_managed(source, path) {
            return refuse("it is kept by Git LFS", "commit it first");
        }
        let done = if exists {
            index.add_path(path)
        } else {
            remove(index, path)
        };
        done.map_err(|error| git_error(&format!("snapshot '{}'", path.display()), &error))?;
    }
    for path in &changes.untracked {
        if source.root().join(path).is_dir() {
            notes.push(format!(
                "'{}' is a repository of its own and not in the snapshot",
                path.display()
            ));
            continue;
        }
        index
            .add_path(path)
            .map_err(|error| git_error(&format!("snapshot '{}'", path.display()), &error))?;
    }
    Ok(())
}

fn remove(index: &mut Index, path: &Path) -> Result<(), git2::Error> {
    match index.get_path(path, 0) {
        Some(_) => index.remove_path(path),
        None => Ok(()),
    }
}

fn is_submodule(source: &Source, path: &Path) -> bool {
    let of_head = source
        .head_commit()
        .ok()
        .and_then(|head| head.tree().ok()?.get_path(path).ok()?.kind());
    of_head == Some(ObjectType::Commit) || source.root().join(path).join(".git").exists()
}

fn refuse_large(source: &Source, untracked: &[PathBuf]) -> Result<()> {
    let mut sizes: Vec<(u64, &PathBuf)> = untracked
        .iter()
        .filter_map(|path| {
            Some((
                source.root().join(path).symlink_metadata().ok()?.len(),
                path,
            ))
        })
        .collect();
    let total: u64 = sizes.iter().map(|(size, _)| size).sum();
    if total <= MAX_UNTRACKED {
        return Ok(());
    }
    sizes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let (size, path) = sizes[0];
    Err(Error::new(
        ExitKind::Usage,
        format!(
            "--snapshot would take {} MiB of untracked files into a commit; the largest is '{}' ({} MiB)",
            total >> 20,
            path.display(),
            size >> 20
        ),
    )
    .hint("name data in .gitignore, or move it out of the repository"))
}

fn entry(path: &str, id: Oid) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}

/// Ids of paths in a tree, `None` where the tree has no such path.
pub(crate) fn ids(repo: &Repository, tree: Oid, paths: &[&str]) -> Result<Vec<Option<String>>> {
    let tree = repo
        .find_tree(tree)
        .map_err(|error| git_error("read the pinned tree", &error))?;
    Ok(paths
        .iter()
        .map(|path| {
            tree.get_path(Path::new(path))
                .ok()
                .map(|entry| entry.id().to_string())
        })
        .collect())
}

/// What the pinned tree has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// File, folder or submodule.
    pub(crate) kind: ObjectType,
    /// Mode as git keeps it: `0o100755` is executable, `0o120000` a symbolic link.
    pub(crate) mode: i32,
}

/// Looks a path up in the pinned tree.
pub(crate) fn entry_at(repo: &Repository, pinned: &Pinned, path: &Path) -> Result<Option<Entry>> {
    let tree = repo
        .find_tree(pinned.tree)
        .map_err(|error| git_error("read the pinned tree", &error))?;
    Ok(tree
        .get_path(&super::export::normal(path))
        .ok()
        .map(|entry| Entry {
            kind: entry.kind().unwrap_or(ObjectType::Any),
            mode: entry.filemode(),
        }))
}

/// Whether the pinned tree holds a path.
///
/// # Errors
/// The tree cannot be read.
pub fn contains(repo: &Repository, pinned: &Pinned, path: &Path) -> Result<bool> {
    Ok(entry_at(repo, pinned, path)?.is_some())
}
