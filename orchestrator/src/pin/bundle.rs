//! A pinned commit as a git bundle: one file that rocket, or `git fetch`, takes into another repository.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use git2::{ObjectType, Oid, Repository, Sort};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::{EXPERIMENT_PATH, append_shallow, copy_objects, git_error, open_or_init, pack};

/// First line of a git bundle.
const SIGNATURE: &str = "# v2 git bundle";
/// Longest header that is read: a bundle of one ref has a few lines.
const HEADER: u64 = 1 << 16;
/// Deepest tree that is looked through.
const DEPTH: usize = 128;

/// Writes a commit of the store with all of its history, as `name`. Where the store's history ends at
/// that commit, so does the bundle's, and whoever fetches it must have the parents.
///
/// # Errors
/// The store does not hold the commit, or the file cannot be written.
pub(crate) fn write_bundle(store: &Path, commit: Oid, name: &str, out: &mut File) -> Result<()> {
    let doing = format!("pack commit {commit} of '{}'", store.display());
    let failed = |error: git2::Error| git_error(&doing, &error).with_kind(ExitKind::Pin);
    let repo = Repository::open_bare(store).map_err(failed)?;
    let parents: Vec<Oid> = repo
        .find_commit(commit)
        .map_err(failed)?
        .parent_ids()
        .collect();
    let shallow = parents.iter().any(|parent| !has(&repo, *parent));
    let mut header = format!("{SIGNATURE}\n");
    if shallow {
        parents
            .iter()
            .for_each(|parent| header.push_str(&format!("-{parent}\n")));
    }
    header.push_str(&format!("{commit} {name}\n\n"));
    let written = out.write_all(header.as_bytes());
    written.map_err(|error| Error::io("write", Path::new("the bundle"), error))?;
    let mut builder = repo.packbuilder().map_err(failed)?;
    if shallow {
        builder.insert_commit(commit).map_err(failed)?;
    } else {
        let mut walk = repo.revwalk().map_err(failed)?;
        // The same commit gives the same bytes.
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)
            .and_then(|()| walk.push(commit))
            .and_then(|()| builder.insert_walk(&mut walk))
            .map_err(failed)?;
    }
    pack(&mut builder, out).map_err(failed)
}

/// A bundle's commit, unpacked into a repository of its own and looked through.
pub(crate) struct Unbundled {
    repo: Repository,
    commit: Oid,
}

/// Unpacks a bundle into a new bare repository at `into`, and checks that it holds the commit, that its
/// files can be written out without leaving their folder, and that it is a pin.
///
/// # Errors
/// Kind [`ExitKind::Pin`]: it is not a bundle of that commit, or is damaged.
pub(crate) fn unbundle(path: &Path, commit: Oid, into: &Path) -> Result<Unbundled> {
    let bad = |what: &str| Error::new(ExitKind::Pin, format!("its commit is damaged: {what}"));
    let git = |error: git2::Error| bad(error.message());
    let mut reader = BufReader::new(
        File::open(path).map_err(|error| Error::io("read the commit from", path, error))?,
    );
    let shallow = header(&mut reader, commit).map_err(|what| bad(&what))?;
    let repo = Repository::init_bare(into).map_err(git)?;
    {
        let odb = repo.odb().map_err(git)?;
        let mut writer = odb.packwriter().map_err(git)?;
        let copied = std::io::copy(&mut reader, &mut writer);
        copied.map_err(|error| bad(&error.to_string()))?;
        writer.commit().map_err(git)?;
    }
    // Opened anew, so that the pack is seen.
    let repo = Repository::open_bare(into).map_err(git)?;
    let found = repo.find_commit(commit).map_err(git)?;
    if found.parent_count() != 1 {
        return Err(bad("a pin has one parent"));
    }
    if shallow {
        append_shallow(&repo, commit).map_err(git)?;
    }
    check_tree(&repo, found.tree_id(), 0).map_err(|what| bad(&what))?;
    // What borrows from the repository is gone before it moves.
    drop(found);
    let this = Unbundled { repo, commit };
    this.experiment()?;
    Ok(this)
}

impl Unbundled {
    /// The resolved experiment in the commit.
    pub(crate) fn experiment(&self) -> Result<String> {
        experiment_of(&self.repo, self.commit)
    }

    /// Copies the commit, with its history, into the store of pins, and points a ref to it.
    pub(crate) fn keep(&self, store: &Path, name: &str) -> Result<()> {
        let doing = format!("write {name} to '{}'", store.display());
        let failed = |error: git2::Error| git_error(&doing, &error);
        let bare = open_or_init(store)?;
        copy_objects(&self.repo, &bare, self.commit).map_err(failed)?;
        bare.reference(name, self.commit, true, "rocket import-run")
            .map_err(failed)?;
        Ok(())
    }
}

/// The resolved experiment of a pinned commit.
///
/// # Errors
/// Kind [`ExitKind::Pin`]: the commit is no pin.
pub(crate) fn experiment_of(repo: &Repository, commit: Oid) -> Result<String> {
    let read = || -> Result<String, git2::Error> {
        let tree = repo.find_commit(commit)?.tree()?;
        let blob = tree.get_path(Path::new(EXPERIMENT_PATH))?;
        let blob = blob.to_object(repo)?.peel_to_blob()?;
        Ok(String::from_utf8_lossy(blob.content()).into_owned())
    };
    read().map_err(|error| {
        Error::new(
            ExitKind::Pin,
            format!(
                "commit {commit} is not the pin of a run: it holds no {EXPERIMENT_PATH} ({})",
                error.message()
            ),
        )
        .hint("a run's pin is refs/rocket/<run>; 'rocket show RUN' names it")
    })
}

pub(super) fn has(repo: &Repository, id: Oid) -> bool {
    repo.odb().is_ok_and(|odb| odb.exists(id))
}

/// Reads up to the pack. Gives whether the history is cut off.
fn header(reader: &mut impl BufRead, commit: Oid) -> Result<bool, String> {
    let mut limited = reader.take(HEADER);
    let mut shallow = false;
    let mut named = false;
    let mut first = true;
    loop {
        let mut line = String::new();
        let read = limited.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        let Some(text) = line.strip_suffix('\n') else {
            return Err("its bundle has no end of its header".into());
        };
        if std::mem::take(&mut first) {
            if text != SIGNATURE {
                return Err("it is no git bundle of version 2".into());
            }
        } else if text.is_empty() {
            break;
        } else if text.starts_with('-') {
            shallow = true;
        } else {
            let id = text.split(' ').next().unwrap_or_default();
            named |= Oid::from_str(id).is_ok_and(|id| id == commit);
        }
    }
    match named {
        true => Ok(shallow),
        false => Err(format!("its bundle does not name commit {commit}")),
    }
}

/// Whether files of a tree can be written out: git itself makes no other trees.
fn check_tree(repo: &Repository, tree: Oid, depth: usize) -> Result<(), String> {
    if depth > DEPTH {
        return Err(format!("its folders lie more than {DEPTH} deep"));
    }
    let words = |error: git2::Error| error.message().to_owned();
    let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
    for entry in &repo.find_tree(tree).map_err(words)? {
        let name = entry.name_bytes();
        let shown = String::from_utf8_lossy(name);
        let special = name.is_empty()
            || name == b"."
            || name == b".."
            || name.eq_ignore_ascii_case(b".git")
            || name.contains(&b'/')
            || name.contains(&0);
        if special {
            return Err(format!("its tree has an entry named {shown:?}"));
        }
        if !names.insert(name.to_vec()) {
            return Err(format!("its tree has two entries named {shown:?}"));
        }
        match entry.kind() {
            Some(ObjectType::Tree) => check_tree(repo, entry.id(), depth + 1)?,
            Some(ObjectType::Commit) => {}
            _ if has(repo, entry.id()) => {}
            _ => return Err(format!("its tree lacks the file {shown:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_leads_out_of_its_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(dir.path()).unwrap();
        let blob = repo.blob(b"x").unwrap();
        let odb = repo.odb().unwrap();
        let tree = |name: &str| {
            let mut bytes = format!("100644 {name}\0").into_bytes();
            bytes.extend_from_slice(blob.as_bytes());
            odb.write(ObjectType::Tree, &bytes).unwrap()
        };
        for bad in ["..", ".", ".git", ".GIT"] {
            let id = tree(bad);
            assert!(check_tree(&repo, id, 0).is_err(), "{bad}");
        }
        check_tree(&repo, tree("..a"), 0).unwrap();
    }
}
