//! What of the work tree is not in HEAD.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Status, StatusOptions, StatusShow};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::{Source, git_error, lfs};

/// Most files that an error lists by name.
const LISTED: usize = 20;

/// A tracked file that differs from HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the work tree.
    pub path: PathBuf,
    /// `modified`, `deleted`, `new`, ...
    pub what: &'static str,
}

/// The difference between HEAD and the work tree, ignored files and one exempt file left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tracked files that differ, staged or not, by path.
    pub tracked: Vec<Change>,
    /// Files that git does not know and does not ignore, by path.
    pub untracked: Vec<PathBuf>,
}

impl Changes {
    /// Compares HEAD, index and work tree without writing any of them. `exempt` (relative to the
    /// work tree), the experiment file, does not count.
    ///
    /// # Errors
    /// What git says when the work tree cannot be read.
    pub fn find(source: &Source, exempt: Option<&Path>) -> Result<Self> {
        let mut options = StatusOptions::new();
        options
            .show(StatusShow::IndexAndWorkdir)
            .include_untracked(true)
            .recurse_untracked_dirs(true)
            .include_ignored(false)
            .exclude_submodules(false)
            .update_index(false)
            .renames_head_to_index(false);
        let statuses = source
            .repository()
            .statuses(Some(&mut options))
            .map_err(|error| git_error("compare your files with HEAD", &error))?;
        let mut changes = Self::default();
        for entry in statuses.iter() {
            let path = PathBuf::from(OsStr::from_bytes(entry.path_bytes()));
            let status = entry.status();
            if exempt == Some(&*path) || status.is_ignored() || status == Status::CURRENT {
                continue;
            }
            if status == Status::WT_NEW {
                changes.untracked.push(path);
            } else if !(status == Status::WT_MODIFIED && lfs::is_unchanged(source, &path)) {
                changes.tracked.push(Change {
                    what: word(status),
                    path,
                });
            }
        }
        changes.tracked.sort_by(|a, b| a.path.cmp(&b.path));
        changes.untracked.sort();
        Ok(changes)
    }

    /// Refuses tracked changes, each by name.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] if a tracked file differs from HEAD.
    pub fn refuse(&self) -> Result<()> {
        if self.tracked.is_empty() {
            return Ok(());
        }
        let count = match self.tracked.len() {
            1 => "1 tracked file differs".to_owned(),
            n => format!("{n} tracked files differ"),
        };
        let mut message = format!("{count} from HEAD, so the commit would not say what ran:");
        for change in self.tracked.iter().take(LISTED) {
            message.push_str(&format!("\n  {:<9} {}", change.what, change.path.display()));
        }
        if self.tracked.len() > LISTED {
            message.push_str(&format!("\n  and {} more", self.tracked.len() - LISTED));
        }
        Err(Error::new(ExitKind::Usage, message)
            .hint("commit or stash them, or take them into the pinned commit with --snapshot"))
    }

    /// One line that names the untracked files, if there are any.
    #[must_use]
    pub fn untracked_note(&self) -> Option<String> {
        let first: Vec<_> = self
            .untracked
            .iter()
            .take(5)
            .map(|path| path.display().to_string())
            .collect();
        let more = match self.untracked.len() {
            0 => return None,
            n if n > first.len() => format!(" and {} more", n - first.len()),
            _ => String::new(),
        };
        Some(format!(
            "untracked and so not in the pinned commit: {}{more}",
            first.join(", ")
        ))
    }
}

fn word(status: Status) -> &'static str {
    let any = |of: Status| status.intersects(of);
    if any(Status::CONFLICTED) {
        "conflict"
    } else if any(Status::WT_DELETED | Status::INDEX_DELETED) {
        "deleted"
    } else if any(Status::INDEX_NEW) {
        "new"
    } else if any(Status::WT_TYPECHANGE | Status::INDEX_TYPECHANGE) {
        "type"
    } else {
        "modified"
    }
}
