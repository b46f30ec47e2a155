//! SHA-256 of files, remembered in the user's cache as long as a file looks untouched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(format!("{:x}", hasher.finalize())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// SHA-256 of a text, in hexadecimal.
#[must_use]
pub fn sha256_text(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// What tells that a file was not touched since it was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Entries(BTreeMap<PathBuf, (Stamp, String)>);

/// Hashes by path and stamp, in `$XDG_CACHE_HOME/rocket/sha256.json`. Only for what submit copies:
/// the copy is hashed again, so a stale entry is found out.
#[derive(Debug)]
pub struct Cache {
    path: Option<PathBuf>,
    entries: Entries,
    changed: bool,
}

impl Cache {
    /// Opens the user's cache; an unreadable one is empty.
    #[must_use]
    pub fn open() -> Self {
        let path = cache_dir().map(|dir| dir.join("sha256.json"));
        let entries = path
            .as_deref()
            .and_then(|path| atomic::read_json(path).ok())
            .unwrap_or_default();
        Self {
            path,
            entries,
            changed: false,
        }
    }

    /// SHA-256 of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sha256(&mut self, path: &Path) -> Result<String> {
        let meta = fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
        let stamp = Stamp {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        };
        if let Some((known, sha)) = self.entries.0.get(path)
            && *known == stamp
        {
            return Ok(sha.clone());
        }
        let sha = sha256(path)?;
        self.entries
            .0
            .insert(path.to_path_buf(), (stamp, sha.clone()));
        self.changed = true;
        Ok(sha)
    }

    /// Forgets a file whose hash turned out wrong.
    pub fn forget(&mut self, path: &Path) {
        self.changed |= self.entries.0.remove(path).is_some();
    }

    /// Writes the cache back, best effort: without it the next submit hashes again.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_deref().filter(|_| self.changed) else {
            return;
        };
        self.entries.0.retain(|path, _| path.exists());
        let folder = path.parent().unwrap_or(Path::new("/"));
        if fs::create_dir_all(folder).is_ok() {
            let _ = atomic::write_json_unsynced(path, &self.entries);
        }
        self.changed = false;
    }
}

fn cache_dir() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    base.is_absolute().then(|| base.join("rocket"))
}
