//! Opens the data set of an experiment: by its index if there is one that is up to date, and makes one if that
//! takes no time to speak of.

use std::fs::{File, OpenOptions};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use rocket_common::experiment::{Data, Dataset};

use super::Part;
use super::build::{Building, build, list_stamp, suffixed, write_index};
use super::shards::expand;
use super::watch::{Reads, watched};
use super::{Indexed, Source, SourceError};
use crate::data::index::{Index, IndexError, Stamp, beside};

/// Lists of at most so many bytes (of files; see [`work`]) are read anew by each process, into its own memory.
const TINY: u64 = 4 << 20;
/// Lists of at most so many bytes are prepared at their first use.
const SMALL: u64 = 512 << 20;

/// Opens the data set that an experiment names. Nothing that is read for it may take longer than a read may.
///
/// # Errors
/// [`SourceError`].
pub fn open(data: &Data) -> Result<Arc<dyn Source>, SourceError> {
    let parts = data.lists().map_err(SourceError::Parts)?;
    let reads = Arc::new(Reads::new(data.read_timeout()));
    let (data, under_way) = (data.clone(), Arc::clone(&reads));
    let indexed = watched(
        || reads.stalled(),
        |()| {},
        move |_| open_index(&data, &parts, &under_way),
    )??;
    Ok(Arc::new(indexed))
}

fn open_index(data: &Data, parts: &[Part], reads: &Arc<Reads>) -> Result<Indexed, SourceError> {
    touch(parts, reads);
    let ready = |index: Index, file: PathBuf| {
        for part in parts {
            if part.dataset != Dataset::Webdataset && !part.root.is_dir() {
                return Err(SourceError::NoFolder {
                    folder: part.root.clone(),
                });
            }
        }
        Ok(Indexed::new(index, parts, data.read_timeout(), file))
    };
    if let Some(path) = &data.index {
        let index = current(path, parts, reads).map_err(|cause| SourceError::Index {
            file: path.clone(),
            cause,
        })?;
        return ready(index, path.clone());
    }
    let path = beside_lists(parts);
    let unusable = match current(&path, parts, reads) {
        Ok(index) => return ready(index, path),
        Err(cause) => cause,
    };
    let size = work(parts, reads)?;
    match unusable {
        IndexError::Unreadable(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
        // Made by people, and large: they decide when it is made again.
        cause if size > SMALL => return Err(SourceError::Index { file: path, cause }),
        cause => tracing::info!("'{}' {cause}: it is not used", path.display()),
    }
    if size > SMALL {
        return Err(SourceError::NotPrepared {
            list: parts[0].shown().to_owned(),
        });
    }
    if size > TINY {
        match cached(parts, reads) {
            Ok((index, path)) => return ready(index, path),
            Err(SourceError::Write { file, cause }) => tracing::warn!(
                "the index '{}' cannot be kept ({cause}): this process makes one for itself alone",
                file.display()
            ),
            Err(error) => return Err(error),
        }
    }
    let index = in_memory(parts, reads)?;
    ready(index, PathBuf::from(MEMORY))
}

/// What an index is called that is no file.
const MEMORY: &str = "in memory";

/// Makes an index in this process's own memory, on this thread.
///
/// # Errors
/// [`SourceError`].
pub fn in_memory(parts: &[Part], reads: &Arc<Reads>) -> Result<Index, SourceError> {
    let memory = Path::new(MEMORY);
    let mut building = Building::new(memory).with_reads(reads);
    let (out, length) = build(parts, Cursor::new(Vec::new()), &mut building)?;
    let mut bytes = out.into_inner();
    bytes.truncate(length as usize);
    bytes.shrink_to_fit();
    Index::from_bytes(bytes).map_err(|cause| SourceError::Index {
        file: memory.to_owned(),
        cause,
    })
}

/// An index in the user's own folder, made under a lock by the first of all processes that want it.
fn cached(parts: &[Part], reads: &Arc<Reads>) -> Result<(Index, PathBuf), SourceError> {
    let path = cache_folder().join(cache_name(parts));
    if let Ok(index) = current(&path, parts, reads) {
        return Ok((index, path));
    }
    let _lock = lock(&path)?;
    if let Ok(index) = current(&path, parts, reads) {
        return Ok((index, path));
    }
    tracing::info!(
        "preparing '{}' for its first use: {}",
        parts[0].shown().display(),
        path.display()
    );
    write_index(parts, &path, Building::new(&path).with_reads(reads))?;
    let index = current(&path, parts, reads).map_err(|cause| SourceError::Index {
        file: path.clone(),
        cause,
    })?;
    Ok((index, path))
}

/// Keeps others from making the same index at the same time.
///
/// # Errors
/// If there can be no lock beside the index.
pub(super) fn lock(index: &Path) -> Result<Flock<File>, SourceError> {
    let unwritten = |cause| SourceError::Write {
        file: index.to_owned(),
        cause,
    };
    if let Some(folder) = index
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(unwritten)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(suffixed(index, ".lock"))
        .map_err(unwritten)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| unwritten(errno.into()))
}

/// Where indexes are kept that were made without being asked for: `ROCKET_INDEX_DIR`, or `rocket/index` in the
/// user's cache folder.
#[must_use]
pub fn cache_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("ROCKET_INDEX_DIR") {
        return folder.into();
    }
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || set("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    cache
        .unwrap_or_else(|| home().join(".cache"))
        .join("rocket/index")
}

/// A name of its own for what `parts` are.
fn cache_name(parts: &[Part]) -> String {
    let mut key = String::new();
    for part in parts {
        let list = std::path::absolute(&part.list).unwrap_or_else(|_| part.list.clone());
        let root = std::path::absolute(&part.root).unwrap_or_else(|_| part.root.clone());
        key.push_str(&format!("{} {list:?} {root:?}\n", part.dataset.name()));
    }
    let digest = rocket_common::checkpoint::sha256_hex(key.as_bytes());
    let name = parts[0].shown().file_name().unwrap_or_default();
    format!("{}-{}.index", name.to_string_lossy(), &digest[..16])
}

/// Where `data prepare` writes the index unless it is told otherwise: beside the list, or beside the first of
/// several joined ones.
#[must_use]
pub fn index_path(data: &Data, parts: &[Part]) -> PathBuf {
    data.index.clone().unwrap_or_else(|| beside_lists(parts))
}

fn beside_lists(parts: &[Part]) -> PathBuf {
    // Without a slash at its end: what is beside a folder is not within.
    let first = parts[0].shown().components().as_path();
    match parts[0].dataset {
        _ if parts.len() > 1 => {
            let names: Vec<&str> = parts.iter().map(|part| part.dataset.name()).collect();
            suffixed(first, &format!(".{}.index", names.join("-")))
        }
        // Braces in names are for shells.
        Dataset::Webdataset => {
            let text = first.to_string_lossy();
            let plain = text
                .replace(['{', '}'], "")
                .replace("::", "+")
                .replace(',', "+");
            let (folder, last) = plain.split_at(plain.find('+').unwrap_or(plain.len()));
            let digest = rocket_common::checkpoint::sha256_hex(text.as_bytes());
            if last.is_empty() {
                beside(Path::new(folder))
            } else {
                PathBuf::from(format!("{folder}-{}.index", &digest[..8]))
            }
        }
        _ => beside(first),
    }
}

/// How much there is to do at a first use, in bytes of a list of files: what has to be looked for in archives
/// takes longer than what is read from a list.
fn work(parts: &[Part], reads: &Reads) -> Result<u64, SourceError> {
    parts.iter().try_fold(0u64, |work, part| {
        let own = match part.dataset {
            Dataset::Webdataset => work_of_shards(&part.list, reads),
            Dataset::Imagefolder if few_files(&part.root, reads, &mut 10_000) => 0,
            Dataset::Imagefolder => TINY + 1,
            _ => {
                let size = list_stamp(part, reads)?.map_or(0, |stamp| stamp.size);
                if part.in_archives() { 16 * size } else { size }
            }
        };
        Ok(work + own)
    })
}

/// The same for shards: opening each, and reading the headers in it.
fn work_of_shards(pattern: &Path, reads: &Reads) -> u64 {
    // What is wrong with the pattern is said when it is read.
    let shards = expand(&pattern.to_string_lossy()).unwrap_or_default();
    let opening = shards.len() as u64 * (TINY / 16);
    if opening > SMALL {
        return opening;
    }
    let sizes = shards.iter().map(|shard| {
        let _reading = reads.begin(shard);
        std::fs::metadata(shard)
    });
    let bytes: u64 = sizes.flatten().map(|metadata| metadata.len()).sum();
    opening + bytes / 32
}

/// Whether there are at most `left` files and folders below a folder.
fn few_files(folder: &Path, reads: &Reads, left: &mut usize) -> bool {
    let reading = reads.begin(folder);
    let Ok(entries) = std::fs::read_dir(folder) else {
        // That is said when it is read.
        return true;
    };
    for entry in entries.flatten() {
        *left = left.saturating_sub(1);
        reading.moved();
        // Links are followed, as where it is read.
        let is_dir = entry
            .file_type()
            .is_ok_and(|kind| kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()));
        if *left == 0 || (is_dir && !few_files(&entry.path(), reads, left)) {
            return false;
        }
    }
    true
}

/// The index at `path`, if it is one of `parts` as they are now.
///
/// # Errors
/// [`IndexError`].
pub fn current_index(path: &Path, parts: &[Part]) -> Result<Index, IndexError> {
    current(path, parts, &Reads::unwatched())
}

/// The same, and what is read for it is noted.
pub(super) fn current(path: &Path, parts: &[Part], reads: &Reads) -> Result<Index, IndexError> {
    let index = {
        let _reading = reads.begin(path);
        Index::open(path)?
    };
    let facts = &index.facts().parts;
    let stale = |what: String| Err(IndexError::Stale(what));
    if facts.len() != parts.len() {
        return stale(format!(
            "it is of {} lists, not of {}",
            facts.len(),
            parts.len()
        ));
    }
    for (facts, part) in facts.iter().zip(parts) {
        if facts.dataset != part.dataset.name() {
            return stale(format!(
                "it is of {}, not of {}",
                facts.dataset,
                part.dataset.name()
            ));
        }
        if part.dataset == Dataset::Webdataset && *facts.pattern != *part.list.to_string_lossy() {
            return stale(format!("it is of the shards {}", facts.pattern));
        }
        for (name, then) in &facts.sources {
            let file = if name.is_empty() {
                part.list.clone()
            } else {
                part.root.join(name)
            };
            let _reading = reads.begin(&file);
            let shown = file.display();
            match Stamp::of(&file) {
                Ok(now) if now == *then => {}
                Ok(_) => return stale(format!("'{shown}' was changed since it was made")),
                Err(cause) => {
                    return stale(format!("'{shown}' cannot be looked at: {cause}"));
                }
            }
        }
    }
    Ok(index)
}

/// Looks at every list and folder, so that it is these that are named if their file system does not answer.
pub(super) fn touch(parts: &[Part], reads: &Reads) {
    let paths = parts.iter().flat_map(|part| [&part.root, &part.list]);
    for path in paths.filter(|path| !path.as_os_str().is_empty()) {
        let _reading = reads.begin(path);
        // Only that there is an answer matters.
        let _ = std::fs::metadata(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_behind_links_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, images) = (folder.path().join("root"), folder.path().join("images"));
        for path in [&root, &images] {
            std::fs::create_dir(path).expect("a folder");
        }
        for name in ["a.jpg", "b.jpg", "c.jpg"] {
            std::fs::write(images.join(name), "").expect("a file");
        }
        std::os::unix::fs::symlink(&images, root.join("class")).expect("a link");
        let few = |mut left| few_files(&root, &Reads::unwatched(), &mut left);
        assert!(!few(4));
        assert!(few(5));
        // A link that goes round ends somewhere.
        for name in ["round", "again"] {
            std::os::unix::fs::symlink(&root, images.join(name)).expect("a link");
        }
        assert!(!few(1000));
    }
}
