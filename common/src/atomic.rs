//! Files that a reader sees whole or not at all: written aside, renamed into place.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Writes a file so that it survives a power cut: aside, fsync, rename, fsync of the directory.
///
/// # Errors
/// Whatever the file system says, as a sentence that names the path; the file is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, true)
}

/// As [`write()`] without fsync, for what is rewritten every second and may be lost in a power cut.
///
/// # Errors
/// As [`write()`].
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, false)
}

/// Writes a value as indented JSON with [`write()`].
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write(path, &to_json(path, value)?)
}

/// Writes a value as JSON with [`write_unsynced`].
///
/// # Errors
/// As [`write()`].
pub fn write_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_unsynced(path, &to_json(path, value)?)
}

/// Reads a JSON file.
///
/// # Errors
/// A missing or unreadable file, or text that is not the value, as a sentence that names the path.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    parse_json(path, &read(path)?)
}

/// Reads a file, whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::io("read", path, error))
}

/// Reads a JSON file that may be absent.
///
/// # Errors
/// As [`read_json`], but a missing file is `None`.
pub fn read_json_opt<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => parse_json(path, &bytes).map(Some),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Makes a JSON file that must not exist yet: of all who try, on any machine, exactly one is told
/// `true`. The file is whole from the moment it can be seen.
///
/// # Errors
/// The file system refuses.
pub fn create_json<T: Serialize>(path: &Path, value: &T) -> Result<bool> {
    let bytes = to_json(path, value)?;
    let aside = aside(path);
    let result = (|| {
        let mut file = File::create_new(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // link() fails if the name exists: exactly one wins. Over NFS its answer can be lost and
        // the repeated request refused, so the number of links decides, as link(2) advises.
        match fs::hard_link(&aside, path) {
            Ok(()) => Ok(true),
            Err(error) => match fs::metadata(&aside)?.nlink() {
                2 => Ok(true),
                _ if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                _ => Err(error),
            },
        }
    })();
    let _ = fs::remove_file(&aside);
    let won = result.map_err(|error| Error::io("claim", path, error))?;
    if won {
        sync_dir(parent(path))?;
    }
    Ok(won)
}

/// Makes the entries of a directory (renames, new files) durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .or_else(|error| match error.kind() {
            // Some network file systems know no fsync of a directory; their renames are synchronous.
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Ok(()),
            _ => Err(error),
        })
        .map_err(|error| Error::io("sync", dir, error))
}

/// A name that no other process on any machine uses: 16 hexadecimal digits.
#[must_use]
pub fn unique() -> String {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // RandomState is seeded by the operating system once per process.
    let seed = SEED.get_or_init(RandomState::new);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}", seed.hash_one((std::process::id(), count)))
}

/// Whether an error means that the file is not there (or not any more, on NFS).
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle
    )
}

fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::io("write", path, io::Error::other(error)))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// JSON of a file that was read.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::io("read", path, io::Error::other(error)))
}

fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let aside = aside(path);
    let result = (|| {
        let mut file = File::create_new(&aside)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&aside, path)
    })();
    if let Err(error) = result {
        let _ = fs::remove_file(&aside);
        return Err(Error::io("write", path, error));
    }
    if sync {
        sync_dir(parent(path))?;
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `.<name>.<unique>.tmp` in the same directory, so that the rename stays within a file system.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", unique()))
}
