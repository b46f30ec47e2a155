//! Pin: an experiment is a commit.
//!
//! `refs/rocket/<run-id>` points to a commit whose tree is the code's tree plus the resolved
//! experiment at [`EXPERIMENT_PATH`], and whose parent is the commit it was made from. Author,
//! committer and dates are the parent's, so that the same experiment at the same commit is the same
//! object. The user's branch, index and work tree are only read. The commit is copied to a bare
//! repository under the runs root, so that it outlives the user's clone.

mod bundle;
mod changes;
mod export;
mod lfs;
mod name;
mod source;
mod tree;

pub(crate) use bundle::{Unbundled, experiment_of, unbundle, write_bundle};
pub use changes::{Change, Changes};
pub use export::{Export, export};
pub use name::check_name;
pub use source::Source;
pub(crate) use tree::{Entry, entry_at as entry, ids};
pub use tree::{Mode, Pinned, contains, create};

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use git2::{ErrorCode, Oid, Repository};
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

/// Where the resolved experiment lies in the pinned tree.
pub const EXPERIMENT_PATH: &str = ".rocket/experiment.yaml";

/// Name of the bare repository under the runs root.
pub const STORE: &str = "pins.git";

/// How long a ref may be locked by others: writing one takes milliseconds, on a network disk a second.
const LOCKED_AT_MOST: Duration = Duration::from_secs(10);

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
    point(&bare, &name, pinned.commit, "rocket submit")
        .map_err(|error| git_error(&doing, &error))?;
    point(source.repository(), &name, pinned.commit, "rocket submit")
        .map_err(|error| git_error(&format!("write {name} to your repository"), &error))?;
    Ok(())
}

/// Points a ref of the store to a commit that it has: another run of the same commit.
///
/// # Errors
/// The store does not have it, or cannot be written.
pub(crate) fn publish_again(store: &Path, commit: &str, run_id: &str) -> Result<()> {
    let name = ref_name(run_id);
    let write = || -> Result<(), git2::Error> {
        let bare = Repository::open_bare(store)?;
        let commit = bare.find_commit(Oid::from_str(commit)?)?;
        point(&bare, &name, commit.id(), "rocket eval")
    };
    write().map_err(|error| {
        git_error(&format!("write {name} to '{}'", store.display()), &error)
            .with_kind(ExitKind::Pin)
    })
}

/// Points a ref to a commit. Git locks a ref while it is written, and two who ask for one evaluation at the
/// same moment write the same: who comes second waits.
fn point(repo: &Repository, name: &str, commit: Oid, why: &str) -> Result<(), git2::Error> {
    let begun = Instant::now();
    loop {
        match repo.reference(name, commit, true, why) {
            Err(error) if error.code() == ErrorCode::Locked => {
                if repo.refname_to_id(name).is_ok_and(|id| id == commit) {
                    return Ok(());
                }
                if begun.elapsed() > LOCKED_AT_MOST {
                    let message = format!(
                        "{}; it stays so for {} s: if no git is at work there, remove that file",
                        error.message().trim_end_matches([':', ' ']),
                        LOCKED_AT_MOST.as_secs(),
                    );
                    return Err(git2::Error::new(error.code(), error.class(), message));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done.map(drop),
        }
    }
}

/// Whether what [`publish`] wrote is there.
pub(crate) fn is_published(source: &Source, pinned: &Pinned, run_id: &str, store: &Path) -> bool {
    let is_in = |repo: &Repository| {
        let target = repo.refname_to_id(&ref_name(run_id));
        target.is_ok_and(|id| id == pinned.commit) && bundle::has(repo, pinned.commit)
    };
    is_in(source.repository()) && Repository::open_bare(store).is_ok_and(|bare| is_in(&bare))
}

/// Removes what [`publish`] wrote, after a submit that failed later on; the objects stay.
pub fn unpublish(source: &Source, run_id: &str, store: &Path) {
    forget(Some(source), store, run_id);
}

/// Removes a run's ref from the store, and from a repository.
pub(crate) fn forget(source: Option<&Source>, store: &Path, run_id: &str) {
    let name = ref_name(run_id);
    let delete = |repo: &Repository| {
        if let Ok(mut reference) = repo.find_reference(&name) {
            let _ = reference.delete();
        }
    };
    if let Some(source) = source {
        delete(source.repository());
    }
    if let Ok(bare) = Repository::open_bare(store) {
        delete(&bare);
    }
}

/// Copies a commit of another repository into the user's, and points a ref to it if one is named. If the
/// other has the commit without its history, the user's must have that.
///
/// # Errors
/// It does not, or cannot be written.
pub(crate) fn fetch(place: &Path, source: &Source, commit: Oid, name: Option<&str>) -> Result<()> {
    let doing = format!("copy commit {commit} into your repository");
    let failed = |error: git2::Error| git_error(&doing, &error);
    let other = Repository::open(place).map_err(failed)?;
    let repo = source.repository();
    let pinned = other.find_commit(commit).map_err(failed)?;
    let lacking = pinned.parent_ids().find(|parent| {
        // Of a store that has some commits without their history, commits are copied without.
        let comes_along = !other.is_shallow() && bundle::has(&other, *parent);
        !comes_along && !bundle::has(repo, *parent)
    });
    if let Some(parent) = lacking {
        return Err(Error::new(
            ExitKind::Pin,
            format!("commit {commit} came without its history, and your repository does not have its parent {parent}"),
        )
        .hint(format!("fetch that first: git fetch origin {parent}")));
    }
    copy_objects(&other, repo, commit).map_err(failed)?;
    if let Some(name) = name {
        point(repo, name, commit, "rocket").map_err(failed)?;
    }
    Ok(())
}

/// The store, which is there whole or not at all, whoever else makes it at the same moment.
fn open_or_init(store: &Path) -> Result<Repository> {
    let made = |at: &Path| {
        Repository::init_bare(at).map(drop).map_err(|error| {
            git_error(
                &format!("make the store of pins '{}'", store.display()),
                &error,
            )
        })
    };
    let whole = || store.join("HEAD").exists();
    if !whole() {
        let root = store.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(root).map_err(|error| Error::io("make", root, error))?;
        let aside = root.join(format!(".{STORE}-{}", atomic::unique()));
        let moved = made(&aside).map(|()| fs::rename(&aside, store).is_ok());
        if !matches!(moved, Ok(true)) {
            let _ = fs::remove_dir_all(&aside);
        }
        // Nobody else makes it in place: what is there without a HEAD was left half-made.
        if !moved? && !whole() {
            made(store)?;
        }
    }
    Repository::open_bare(store)
        .map_err(|error| git_error(&format!("open '{}'", store.display()), &error))
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
    pack(&mut builder, &mut writer)?;
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

/// Writes what was put into a pack.
fn pack(
    builder: &mut git2::PackBuilder<'_>,
    out: &mut dyn std::io::Write,
) -> Result<(), git2::Error> {
    let mut failed = None;
    let done = builder.foreach(|chunk| match out.write_all(chunk) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    match failed {
        // What stopped it, and not that it was stopped.
        Some(error) => Err(git2::Error::from_str(&error.to_string())),
        None => done,
    }
}

fn append_shallow(to: &Repository, commit: Oid) -> Result<(), git2::Error> {
    let path = to.path().join("shallow");
    let mut lines = fs::read_to_string(&path).unwrap_or_default();
    lines.push_str(&format!("{commit}\n"));
    fs::write(&path, lines).map_err(|error| git2::Error::from_str(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use git2::Signature;

    use super::*;

    fn committed(dir: &Path) -> (Repository, Oid) {
        let repo = open_or_init(dir).unwrap();
        let who = Signature::now("A", "a@example.org").unwrap();
        let tree = repo.treebuilder(None).unwrap().write().unwrap();
        let tree = repo.find_tree(tree).unwrap();
        let commit = repo.commit(None, &who, &who, "one", &tree, &[]).unwrap();
        drop(tree);
        (repo, commit)
    }

    #[test]
    fn a_ref_that_others_write_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join(STORE);
        let (repo, commit) = committed(&store);
        let lock = store.join("refs/rocket/eval-a-1.lock");
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            fs::remove_file(lock).unwrap();
        });
        publish_again(&store, &commit.to_string(), "eval-a-1").unwrap();
        other.join().unwrap();
        assert_eq!(repo.refname_to_id("refs/rocket/eval-a-1").unwrap(), commit);
    }

    #[test]
    fn many_point_one_ref_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join(STORE);
        let (_, commit) = committed(&store);
        let commit = &commit.to_string();
        for round in 0..20 {
            let id = &format!("eval-a-{round}");
            thread::scope(|scope| {
                let all: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| publish_again(&store, commit, id)))
                    .collect();
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
        }
    }

    #[test]
    fn a_store_that_was_left_half_made_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join(STORE);
        fs::create_dir_all(store.join("objects/pack")).unwrap();
        committed(&store);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_store_is_made_once_whoever_makes_it() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let store = dir.path().join("runs").join(STORE);
            thread::scope(|scope| {
                let all: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| open_or_init(&store).map(drop)))
                    .collect();
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
            let left = fs::read_dir(store.parent().unwrap()).unwrap().count();
            assert_eq!(left, 1);
        }
    }
}
