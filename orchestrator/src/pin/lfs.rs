//! Git LFS: libgit2 does not run its filter, so a checked-out large file can look changed.
//! Format of a pointer: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.

use std::fs::File;
use std::io;
use std::path::Path;

use git2::AttrCheckFlags;
use sha2::{Digest, Sha256};

use super::Source;

/// Whether git hands this path to the LFS filter.
pub(super) fn is_managed(source: &Source, path: &Path) -> bool {
    matches!(
        source
            .repository()
            .get_attr(path, "filter", AttrCheckFlags::FILE_THEN_INDEX),
        Ok(Some("lfs"))
    )
}

/// Whether a file is the content that the pointer in the index stands for.
pub(super) fn is_unchanged(source: &Source, path: &Path) -> bool {
    is_managed(source, path) && matches(source, path).unwrap_or(false)
}

fn matches(source: &Source, path: &Path) -> Option<bool> {
    let repo = source.repository();
    let entry = repo.index().ok()?.get_path(path, 0)?;
    let blob = repo.find_blob(entry.id).ok()?;
    let (oid, size) = parse(std::str::from_utf8(blob.content()).ok()?)?;
    let mut file = File::open(source.root().join(path)).ok()?;
    if file.metadata().ok()?.len() != size {
        return Some(false);
    }
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).ok()?;
    Some(format!("{:x}", hasher.finalize()) == oid)
}

fn parse(pointer: &str) -> Option<(&str, u64)> {
    let mut lines = pointer.lines();
    lines.next()?.strip_prefix("version https://git-lfs")?;
    let value = |key: &str| pointer.lines().find_map(|line| line.strip_prefix(key));
    Some((value("oid sha256:")?, value("size ")?.parse().ok()?))
}
