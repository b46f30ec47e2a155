//! Pin: an experiment is a commit.
//!
//! `refs/rocket/<run-id>` points to a commit whose tree is the code's tree plus the resolved
//! experiment at [`EXPERIMENT_PATH`], and whose parent is the commit it was made from. Author,
//! committer and dates are the parent's, so that the same experiment at the same commit is the same
//! object. The user's branch, index and work tree are only read. The commit is copied to a bare
//! repository under the runs root, so that it outlives the user's clone.

mod changes;
mod export;
mod lfs;
mod name;
mod source;
mod tree;

pub use changes::{Change, Changes};
pub use export::{Export, export};
pub use name::check_name;
pub use source::Source;
pub(crate) use tree::ids;
pub use tree::{Mode, Pinned, contains, create};

use std::path::Path;

use git2::{Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

/// Where the resolved experiment lies in the pinned tree.
pub const EXPERIMENT_PATH: &str = ".rocket/experiment.yaml";

/// Name of the bare repository under the runs root.
pub const STORE: &str = "pins.git";

/// The ref of a run.
#[must_use]
pub fn ref_name(run_id: &str) -> String {
    format!("refs/rocket/{run_id}")
}

/// A failure of git as an error for people: `cannot <doing>: <what git says>`.
pub(crate) fn git_error(doing: &str, error: &git2::Error) -> Error {
    Error::new(
        ExitKind::Internal,
        format!("cannot {doing}: {}", error.message()),
    )
}

/// Points `refs/rocket/<run-id>` to the commit, in the user's repository and in the bare one, which
/// is made if it is not there, and copies the commit with its history to the latter.
///
/// # Errors
/// An unwritable repository or store.
pub fn publish(source: &Source, pinned: &Pinned, run_id: &str, store: &Path) -> Result<()> {
    let name = ref_name(run_id);
    let doing = format!("write {name} to '{}'", store.display());
    let bare = open_or_init(store)?;
    copy_objects(source.repository(), &bare, pinned.commit)
        .map_err(|error| git_error(&doing, &error))?;
    bare.reference(&name, pinned.commit, true, "rocket submit")
        .map_err(|error| git_error(&doing, &error))?;
    source
        .repository()
        .reference(&name, pinned.commit, true, "rocket submit")
        .map_err(|error| git_error(&format!("write {name} to your repository"), &error))?;
    Ok(())
}

/// Removes what [`publish`] wrote, after a submit that failed later on; the objects stay.
pub fn unpublish(source: &Source, run_id: &str, store: &Path) {
    let name = ref_name(run_id);
    let delete = |repo: &Repository| {
        if let Ok(mut reference) = repo.find_reference(&name) {
            let _ = reference.delete();
        }
    };
    delete(source.repository());
    if let Ok(bare) = Repository::open_bare(store) {
        delete(&bare);
    }
}

fn open_or_init(store: &Path) -> Result<Repository> {
    if store.join("HEAD").exists() {
        return Repository::open_bare(store)
            .map_err(|error| git_error(&format!("open '{}'", store.display()), &error));
    }
    Repository::init_bare(store).map_err(|error| {
        git_error(
            &format!("make the store of pins '{}'", store.display()),
            &error,
        )
    })
}

/// Copies a commit and what it reaches, less what the store's own refs already reach, as one pack.
/// The end of a shallow clone's history is the end of the copy's as well.
fn copy_objects(from: &Repository, to: &Repository, commit: Oid) -> Result<(), git2::Error> {
    if to.odb()?.exists(commit) && to.find_commit(commit)?.tree().is_ok() {
        return Ok(());
    }
    let mut builder = from.packbuilder()?;
    if from.is_shallow() {
        // History is cut somewhere: only this commit's own tree can be relied on.
        builder.insert_commit(commit)?;
    } else {
        let mut walk = from.revwalk()?;
        walk.push(commit)?;
        for reference in to.references()? {
            if let Some(known) = reference?.target()
                && from.odb()?.exists(known)
            {
                walk.hide(known)?;
            }
        }
        builder.insert_walk(&mut walk)?;
    }
    let odb = to.odb()?;
    let mut writer = odb.packwriter()?;
    let mut failed = None;
    builder.foreach(
        |chunk| match std::io::Write::write_all(&mut writer, chunk) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        },
    )?;
    if let Some(error) = failed {
        return Err(git2::Error::from_str(&error.to_string()));
    }
    writer.commit()?;
    if from.is_shallow() {
        // A bare repository lists its cut-off commits here; without it `git log` would miss parents.
        let parents = to.find_commit(commit)?.parent_ids().count();
        if parents > 0 {
            append_shallow(to, commit)?;
        }
    }
    Ok(())
}

fn append_shallow(to: &Repository, commit: Oid) -> Result<(), git2::Error> {
    let path = to.path().join("shallow");
    let mut lines = std::fs::read_to_string(&path).unwrap_or_default();
    lines.push_str(&format!("{commit}\n"));
    std::fs::write(&path, lines).map_err(|error| git2::Error::from_str(&error.to_string()))
}
