//! Makes the index of a data set for `rocket-worker data prepare`, or compares one with its checksums.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::build::{Building, Built, Progress, Unit, write_index};
use super::open::{current, lock, touch};
use super::scan::fault;
use super::watch::{Reads, watched};
use super::yfcc::directory;
use super::{Part, SourceError};
use crate::data::index::{ArchiveView, Index, IndexError, Stamp};

/// How an index is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preparing {
    /// Even if there is one that is up to date.
    pub force: bool,
    /// Archives that are looked into at a time.
    pub threads: usize,
    /// How long one read may take.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug)]
pub enum Prepared {
    /// There is an index that is up to date.
    Before(Index),
    /// It was made.
    Now(Index, Built),
}

/// Makes the index of `parts` at `path`, alone of all processes, unless it is there.
///
/// # Errors
/// [`SourceError`]; what was found in archives until then is kept for the next time.
pub fn prepare(
    parts: &[Part],
    path: &Path,
    how: Preparing,
    said: impl FnMut(Progress),
) -> Result<Prepared, SourceError> {
    let (parts, path) = (parts.to_vec(), path.to_owned());
    on_watched_thread(how.limit, said, move |reads, say| {
        touch(&parts, reads);
        touch_folder(&path, reads);
        let _lock = lock(&path)?;
        if !how.force
            && let Ok(index) = current(&path, &parts, reads)
            && !archives_changed(&index, &parts, how.threads, reads)
        {
            return Ok(Prepared::Before(index));
        }
        let mut building = Building::new(&path).with_reads(reads).with_progress(say);
        building.threads = how.threads.max(1);
        let built = write_index(&parts, &path, building)?;
        let index = Index::open(&path).map_err(|cause| unusable(&path, cause))?;
        Ok(Prepared::Now(index, built))
    })
}

/// Whether an archive of an index is another one now, or can be read and could not be then. A rank that opens the
/// index does not look at them all: it notices a change when it opens the archive.
fn archives_changed(index: &Index, parts: &[Part], threads: usize, reads: &Reads) -> bool {
    // Shards are named by their whole paths.
    let mut archives: Vec<(&Path, ArchiveView<'_>)> = (0..)
        .map_while(|number| index.archive(number))
        .map(|archive| (Path::new(""), archive))
        .collect();
    for (facts, part) in index.facts().parts.iter().zip(parts) {
        let Some(first) = facts.places else {
            continue;
        };
        let numbers = first..first.saturating_add(facts.samples);
        for record in numbers.map_while(|number| index.place(number)) {
            if let Some((root, _)) = archives.get_mut(record.archive as usize) {
                *root = part.root.as_path();
            }
        }
    }
    let next = AtomicUsize::new(0);
    let changed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in archives.iter().take(threads.max(1)) {
            scope.spawn(|| {
                while !changed.load(Ordering::Relaxed)
                    && let Some((root, archive)) =
                        archives.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if is_other(&root.join(archive.name), archive, reads) {
                        changed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    changed.into_inner()
}

fn is_other(file: &Path, archive: &ArchiveView<'_>, reads: &Reads) -> bool {
    if archive.fault.is_some() {
        return fault(&directory(file, reads)).as_deref() != archive.fault;
    }
    let _reading = reads.begin(file);
    Stamp::of(file).ok() != Some(archive.stamp)
}

/// Compares all of the index of `parts` at `path` with its checksums.
///
/// # Errors
/// [`SourceError::Index`] if it is not whole or not up to date; [`SourceError::Stalled`].
pub fn verify(
    parts: &[Part],
    path: &Path,
    limit: Duration,
    said: impl FnMut(Progress),
) -> Result<Index, SourceError> {
    let (parts, path) = (parts.to_vec(), path.to_owned());
    on_watched_thread(limit, said, move |reads, say| {
        touch(&parts, reads);
        let wrong = |cause| unusable(&path, cause);
        let index = current(&path, &parts, reads).map_err(wrong)?;
        let reading = reads.begin(&path);
        index
            .verify(|done| {
                reading.moved();
                say(Progress {
                    what: "comparing",
                    done,
                    total: index.size(),
                    unit: Unit::Bytes,
                    samples: 0,
                });
            })
            .map_err(wrong)?;
        Ok(index)
    })
}

fn on_watched_thread<T: Send + 'static>(
    limit: Duration,
    said: impl FnMut(Progress),
    work: impl FnOnce(&Arc<Reads>, &mut (dyn FnMut(Progress) + Send)) -> Result<T, SourceError>
    + Send
    + 'static,
) -> Result<T, SourceError> {
    let reads = Arc::new(Reads::new(limit));
    let under_way = Arc::clone(&reads);
    watched(|| reads.stalled(), said, move |say| work(&under_way, say))?
}

/// Looks at the folder that gets the index, which may have another file system than the list.
fn touch_folder(path: &Path, reads: &Reads) {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let _reading = reads.begin(&folder);
    let _ = std::fs::metadata(&folder);
}

fn unusable(path: &Path, cause: IndexError) -> SourceError {
    SourceError::Index {
        file: path.to_owned(),
        cause,
    }
}
