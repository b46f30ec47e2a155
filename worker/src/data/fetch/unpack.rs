//! Archives to files. Even what has the right checksum is unpacked as if a stranger had sent it: within
//! a limit, regular files alone, and none outside of its folder.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path};

use flate2::read::{GzDecoder, MultiGzDecoder};

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be read, or not as what it should be.
    #[error("the archive is broken: {}", plain(.0))]
    Broken(io::Error),
    /// It holds something that has no business there.
    #[error("the archive holds '{name}', {what}; nothing of it is kept")]
    Refused {
        /// The name in the archive.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It holds more than it should.
    #[error("the archive unpacks to more than {0} bytes; nothing of it is kept")]
    TooLarge(u64),
    /// A file is missing.
    #[error("the archive holds no '{0}'")]
    Missing(String),
    /// A file has another length.
    #[error("the archive's '{name}' has {found} bytes, not {wanted}")]
    Length {
        /// The file.
        name: String,
        /// Its length.
        wanted: u64,
        /// The length that it has.
        found: u64,
    },
    /// A file cannot be written.
    #[error("cannot write '{name}': {error}")]
    Write {
        /// The file.
        name: String,
        /// Of the file system.
        error: io::Error,
    },
}

/// What a reader of archives says, without the bytes of the archive that it may repeat.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    match end {
        Some(end) => format!("{} ...", text[..end].trim_end()),
        None => text,
    }
}

/// Unpacks one file of `bytes` bytes to `to`.
///
/// # Errors
/// [`UnpackError`]; `to` may be incomplete then.
pub fn unpack_gz(archive: impl Read, to: &Path, bytes: u64) -> Result<(), UnpackError> {
    let mut reader = MultiGzDecoder::new(archive).take(bytes.saturating_add(1));
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let written = copy(&mut reader, to, &name)?;
    if written > bytes {
        return Err(UnpackError::TooLarge(bytes));
    }
    if written < bytes {
        return Err(UnpackError::Length {
            name: name.into_owned(),
            wanted: bytes,
            found: written,
        });
    }
    Ok(())
}

/// Unpacks the files of the folder `top` into `to`, which is there and empty: each of `files` with its
/// length must be among them.
///
/// # Errors
/// [`UnpackError`]; `to` may hold a part then.
pub fn unpack_tar_gz(
    archive: impl Read,
    top: &str,
    files: &[(&str, u64)],
    most_bytes: u64,
    to: &Path,
) -> Result<(), UnpackError> {
    // Headers and padding come on top of the files.
    let limit = most_bytes.saturating_add(1 << 20);
    let mut archive = tar::Archive::new(Limited {
        inner: GzDecoder::new(archive),
        left: limit,
    });
    let broken = |error: io::Error| match error.get_ref() {
        Some(inner) if inner.is::<OverLimit>() => UnpackError::TooLarge(most_bytes),
        _ => UnpackError::Broken(error),
    };
    let mut lengths = HashMap::new();
    let mut total = 0_u64;
    // Raw: extensions for long names, which nobody needs here, would be read into memory.
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |what| UnpackError::Refused {
            name: name.escape_debug().to_string(),
            what,
        };
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        let path = Path::new(&name);
        if !path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(refused("which leads out of its folder"));
        }
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(refused("which is no regular file"));
        }
        let inner = path.strip_prefix(top).ok();
        let inner = inner.and_then(Path::to_str).unwrap_or_default();
        if inner.is_empty() || inner.contains('/') {
            return Err(refused("which is not of its folder"));
        }
        if lengths.contains_key(inner) {
            return Err(refused("twice"));
        }
        total = total.saturating_add(entry.size());
        if total > most_bytes {
            return Err(UnpackError::TooLarge(most_bytes));
        }
        let size = entry.size();
        let written = copy(&mut entry, &to.join(inner), inner).map_err(|error| match error {
            UnpackError::Broken(error) => broken(error),
            other => other,
        })?;
        if written != size {
            return Err(UnpackError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        lengths.insert(inner.to_owned(), written);
    }
    for &(name, wanted) in files {
        match lengths.get(name) {
            Some(&found) if found == wanted => {}
            Some(&found) => {
                let name = name.to_owned();
                return Err(UnpackError::Length {
                    name,
                    wanted,
                    found,
                });
            }
            None => return Err(UnpackError::Missing(name.to_owned())),
        }
    }
    Ok(())
}

/// Copies to a new file and onto the disk, telling what fails: the archive, or the file.
fn copy(reader: &mut impl Read, to: &Path, name: &str) -> Result<u64, UnpackError> {
    let write = |error| UnpackError::Write {
        name: name.to_owned(),
        error,
    };
    let mut file = File::create_new(to).map_err(write)?;
    let mut buffer = vec![0; 1 << 16];
    let mut written = 0;
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(UnpackError::Broken(error)),
        };
        file.write_all(&buffer[..length]).map_err(write)?;
        written += length as u64;
    }
    file.sync_all().map_err(write)?;
    Ok(written)
}

/// More was unpacked than is allowed.
#[derive(Debug, thiserror::Error)]
#[error("too much is unpacked")]
struct OverLimit;

/// Fails, rather than ends, where there is too much.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other(OverLimit))?;
        Ok(length)
    }
}
