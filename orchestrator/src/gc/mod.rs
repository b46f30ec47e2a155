//! What takes room in a folder of runs and that no run needs any more.
//!
//! Nothing here is locked, since file systems of clusters cannot be relied on for that. Three things make it
//! safe beside people who submit at the same moment:
//! - What is young is left alone, by the clock of the file system.
//! - Programs are marked first, and then the runs are looked at once more: if one has appeared that needs
//!   them, they stay. A submit lets its run appear first and then looks for a mark, and for the programs.
//!   One of the two sees the other, whatever the order ([`bundle::Doom`](crate::bundle::Doom)). With refs it is the same: one
//!   that is removed is written again if its run has appeared, and a submit writes it again if it is gone.
//! - Everything else belongs to runs that nothing starts any more.

mod census;
mod checkpoints;
mod leftovers;
mod programs;
mod refs;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use serde::Serialize;

use crate::pin::Source;

pub(crate) use census::Census;

/// Least age of what looks as if it had been left half made.
const LEAST: Duration = Duration::from_secs(3600);

/// What of it is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// So many of the latest checkpoints of a finished run stay; at least 1.
    pub(crate) keep_last: usize,
    /// So many of its best stay.
    pub(crate) keep_best: usize,
    /// Programs go though finished runs had them.
    pub(crate) finished_programs: bool,
    /// What is younger stays.
    pub(crate) older_than: Duration,
}

/// Kind of a thing that can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A checkpoint of a finished run.
    Checkpoint,
    /// A bundle of programs.
    Programs,
    /// A ref in the store of pins.
    Ref,
    /// A ref in the user's repository.
    OwnRef,
    /// Something that was being made when its maker was killed.
    Leftover,
}

/// A thing that can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    /// A path within the folder of runs, or the name of a ref.
    pub(crate) name: String,
    /// Room that it takes on the disk.
    pub(crate) bytes: u64,
    /// Why nobody needs it.
    pub(crate) why: String,
}

/// What can go, and what is worth saying of what cannot.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Plan {
    pub(crate) items: Vec<Item>,
    pub(crate) notes: Vec<String>,
}

/// Where it is looked for.
pub(crate) struct Place<'a> {
    pub(crate) root: &'a Path,
    /// The repository here, if there is one.
    pub(crate) source: Option<&'a Source>,
}

impl Plan {
    /// Looks at everything, and removes nothing.
    ///
    /// # Errors
    /// The folder of runs cannot be read.
    pub(crate) fn make(place: &Place<'_>, options: &Options) -> Result<Self> {
        let census = Census::take(place.root)?;
        let young = Young::new(place.root, options.older_than)?;
        let mut plan = Self {
            items: Vec::new(),
            notes: census.notes.clone(),
        };
        checkpoints::find(&census, options, &young, &mut plan);
        programs::find(place.root, &census, options, &young, &mut plan)?;
        refs::find(place, &census, &young, &mut plan)?;
        // However boldly one tidies up: what is being made now must come to its end.
        let patient = Young::new(place.root, options.older_than.max(LEAST))?;
        leftovers::find(place.root, &census, &patient, &mut plan)?;
        plan.items
            .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(plan)
    }

    /// Room that all of it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// Removes one thing. Gives whether it went: a run may have appeared that needs it.
///
/// # Errors
/// The file system refuses.
pub(crate) fn remove(item: &Item, place: &Place<'_>, options: &Options) -> Result<bool> {
    match item.kind {
        Kind::Checkpoint => checkpoints::remove(place.root, &item.name),
        Kind::Programs => programs::remove(place.root, &item.name, options),
        Kind::Ref | Kind::OwnRef => refs::remove(place, item),
        Kind::Leftover => put_away(&place.root.join(&item.name)).map(|()| true),
    }
}

/// Renamed first, so that nobody takes the half of it for the whole.
fn put_away(path: &Path) -> Result<()> {
    let hidden = path.with_file_name(format!(".gone-{}", atomic::unique()));
    let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let done = fs::rename(path, &hidden).and_then(|()| match is_dir {
        true => fs::remove_dir_all(&hidden),
        false => fs::remove_file(&hidden),
    });
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Tells what is too young, by the clock of the file system: no two machines' clocks are compared.
pub(crate) struct Young {
    /// Seconds since 1970.
    before: i64,
}

impl Young {
    fn new(root: &Path, age: Duration) -> Result<Self> {
        let path = root.join(format!(".now-{}", atomic::unique()));
        let failed = |error| Error::io("write", &path, error);
        fs::write(&path, b"").map_err(failed)?;
        let now = fs::metadata(&path).map(|meta| meta.mtime());
        let _ = fs::remove_file(&path);
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        Ok(Self {
            before: now.map_err(failed)?.saturating_sub(age),
        })
    }

    /// Whether something was changed too lately to be judged, or cannot be looked at.
    fn is(&self, path: &Path) -> bool {
        // A folder that is being filled is young by what is in it.
        let mut newest = match fs::symlink_metadata(path) {
            Ok(meta) => meta.mtime(),
            Err(_) => return true,
        };
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if let Ok(meta) = entry.metadata() {
                newest = newest.max(meta.mtime());
            }
        }
        newest > self.before
    }
}

/// Room that something takes on the disk. Links are not followed.
fn room(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| room(&entry.path())).sum::<u64>()
}
