//! Files of the pinned tree, written out for the ranks.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use git2::{Blob, ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::git_error;

/// What to write out.
#[derive(Debug, Clone)]
pub enum Export {
    /// These files and folders, where the tree has them.
    Paths(Vec<PathBuf>),
    /// Everything.
    All,
}

/// Writes files of a commit into a folder, as they are in git (no line-end or LFS filters), with
/// their executable bits and symbolic links. Submodules are left out. Files that are there already
/// are replaced.
///
/// # Errors
/// A commit that the store does not hold, or a folder that cannot be written.
pub fn export(store: &Path, commit: Oid, what: &Export, into: &Path) -> Result<()> {
    let doing = |error: git2::Error| {
        git_error(
            &format!("read commit {commit} from '{}'", store.display()),
            &error,
        )
        .with_kind(ExitKind::Pin)
    };
    let repo = Repository::open_bare(store).map_err(doing)?;
    let tree = repo
        .find_commit(commit)
        .map_err(doing)?
        .tree()
        .map_err(doing)?;
    let wanted = |path: &Path| match what {
        Export::All => true,
        Export::Paths(paths) => paths.iter().any(|wanted| path.starts_with(normal(wanted))),
    };
    let mut files: Vec<(PathBuf, Oid, i32)> = Vec::new();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        let path = Path::new(folder).join(std::ffi::OsStr::from_bytes(entry.name_bytes()));
        if entry.kind() == Some(ObjectType::Blob) && wanted(&path) {
            files.push((path, entry.id(), entry.filemode()));
        }
        TreeWalkResult::Ok
    })
    .map_err(doing)?;
    fs::create_dir_all(into).map_err(|error| Error::io("make the folder", into, error))?;
    for (path, id, mode) in files {
        let blob = repo.find_blob(id).map_err(doing)?;
        let path = into.join(path);
        write(&path, &blob, mode).map_err(|error| Error::io("write", &path, error))?;
    }
    Ok(())
}

fn write(path: &Path, blob: &Blob<'_>, mode: i32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if mode == 0o120_000 {
        return symlink(std::ffi::OsStr::from_bytes(blob.content()), path);
    }
    let mode = if mode == 0o100_755 { 0o755 } else { 0o644 };
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?
        .write_all(blob.content())
}

/// `./a//b` as `a/b`.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}
