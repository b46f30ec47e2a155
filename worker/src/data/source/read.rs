//! Bytes of images: whole files, and members of archives with one positioned read each.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::watch::{Reads, Stalled};
use crate::data::index::{Method, Stamp};

/// The most bytes that an image may have. A camera's largest files are smaller; what is larger, or unpacks to
/// more, is none.
pub const MOST_IMAGE_BYTES: u64 = 256 << 20;

/// Bytes of a zip member's header before its name.
const ZIP_HEADER: usize = 30;

/// The bytes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file that holds them.
    pub file: PathBuf,
    /// Which part of the file; all of it if absent.
    pub member: Option<Member>,
}

/// An image in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Where it begins: itself if it is bare, its header in a zip.
    pub(crate) offset: u64,
    /// Bytes in the archive.
    pub(crate) packed: u32,
    /// Bytes once it is unpacked.
    pub(crate) raw: u32,
    /// How it is packed.
    pub(crate) method: Method,
    /// Bytes between the offset and the image, at most.
    pub(crate) slack: u16,
    /// The archive when it was indexed.
    pub(crate) stamp: Stamp,
}

impl Member {
    /// Bytes of the image.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.raw.into()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw == 0
    }

    /// Bytes that the archive takes for it.
    #[must_use]
    pub fn stored_len(&self) -> u64 {
        self.packed.into()
    }

    /// Whether it has to be unpacked.
    #[must_use]
    pub fn is_deflated(&self) -> bool {
        self.method == Method::Deflated
    }
}

/// Why an image's bytes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system.
    #[error("{}: {cause}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Of the file system.
        cause: io::Error,
    },
    /// The archive was looked through, and does not hold the image.
    #[error("{}: the archive holds no image '{name}' that can be read", file.display())]
    Absent {
        /// The archive.
        file: PathBuf,
        /// The image.
        name: String,
    },
    /// The archive was looked for, and is not there.
    #[error("{}: the archive is not there", file.display())]
    NoArchive {
        /// The archive.
        file: PathBuf,
    },
    /// The file is not what it should be.
    #[error("{}: {what}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl ReadError {
    pub(crate) fn content(file: &Path, what: impl Into<String>) -> Self {
        Self::Content {
            file: file.to_owned(),
            what: what.into(),
        }
    }
}

impl Place {
    /// A whole file.
    #[must_use]
    pub fn whole(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            member: None,
        }
    }

    /// Reads the bytes into `bytes`, whose content is replaced: one open and one read.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        let file = self.open()?;
        self.read_from(&file, bytes)
    }

    fn open(&self) -> Result<File, ReadError> {
        let io = |cause| ReadError::Io {
            file: self.file.clone(),
            cause,
        };
        let file = File::open(&self.file).map_err(io)?;
        if let Some(member) = &self.member {
            let now = file.metadata().map_err(io)?;
            if Stamp::from(&now) != member.stamp {
                return Err(ReadError::content(
                    &self.file,
                    "it was changed after the index was made; run 'rocket-worker data prepare' again",
                ));
            }
        }
        Ok(file)
    }

    fn read_from(&self, file: &File, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        let io = |cause| ReadError::Io {
            file: self.file.clone(),
            cause,
        };
        bytes.clear();
        let Some(member) = &self.member else {
            let size = file.metadata().map_err(io)?.len();
            check_size(&self.file, size)?;
            if size == 0 {
                // What has no size may have bytes all the same.
                return file
                    .take(MOST_IMAGE_BYTES)
                    .read_to_end(bytes)
                    .map(drop)
                    .map_err(io);
            }
            bytes.resize(size as usize, 0);
            return file.read_exact_at(bytes, 0).map_err(io);
        };
        check_size(&self.file, member.raw.into())?;
        check_size(&self.file, member.packed.into())?;
        let packed = member.packed as usize;
        bytes.resize(usize::from(member.slack) + packed, 0);
        file.read_exact_at(bytes, member.offset).map_err(io)?;
        let start = match member.method {
            Method::Bare => usize::from(member.slack),
            Method::Stored | Method::Deflated => {
                let start = zip_data(bytes).ok_or_else(|| {
                    let what = format!("there is no member of a zip at byte {}", member.offset);
                    ReadError::content(&self.file, what)
                })?;
                if start + packed > bytes.len() {
                    // A gap that is longer than what was noted.
                    bytes.resize(start + packed, 0);
                    file.read_exact_at(bytes, member.offset).map_err(io)?;
                }
                start
            }
        };
        if member.method == Method::Deflated {
            let unpacked = unpack(&bytes[start..start + packed], member.raw)
                .map_err(|what| ReadError::content(&self.file, what))?;
            *bytes = unpacked;
        } else {
            bytes.truncate(start + packed);
            bytes.drain(..start);
        }
        Ok(())
    }
}

fn check_size(file: &Path, size: u64) -> Result<(), ReadError> {
    if size > MOST_IMAGE_BYTES {
        return Err(ReadError::content(
            file,
            format!(
                "it says that it has {size} bytes, more than the {} MiB that an image may have",
                MOST_IMAGE_BYTES >> 20
            ),
        ));
    }
    Ok(())
}

/// Where the data of a zip's member begin, after its header (APPNOTE 4.3.7).
fn zip_data(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..ZIP_HEADER)?;
    let length = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    header
        .starts_with(b"PK\x03\x04")
        .then(|| ZIP_HEADER + length(26) + length(28))
}

/// Unpacks deflated bytes to as many as were promised, and no more whatever they hold.
fn unpack(packed: &[u8], raw: u32) -> Result<Vec<u8>, String> {
    // Deflate makes at most 1,032 bytes of one: what is promised beyond that reserves no memory.
    let most = packed.len().saturating_mul(1032);
    let mut bytes = Vec::with_capacity(most.min(raw as usize));
    let mut decoder = flate2::read::DeflateDecoder::new(packed).take(u64::from(raw) + 1);
    decoder
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its deflated bytes are broken: {error}"))?;
    match bytes.len().cmp(&(raw as usize)) {
        std::cmp::Ordering::Equal => Ok(bytes),
        std::cmp::Ordering::Less => Err(format!(
            "it unpacks to {} bytes, and says that it has {raw}",
            bytes.len()
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "it unpacks to more than the {raw} bytes that it says it has"
        )),
    }
}

/// Reads images: keeps a bounded number of archives open, and knows what is being read, so that a file
/// system that no longer answers can be named. (A thread that waits for one cannot be woken.)
pub struct Reader {
    open: Mutex<OpenFiles>,
    reads: Reads,
}

struct OpenFiles {
    most: usize,
    clock: u64,
    files: HashMap<PathBuf, (Arc<File>, u64)>,
}

/// Archives that are kept open.
const MOST_OPEN: usize = 128;

impl Reader {
    /// `limit` is how long one read may take.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            open: Mutex::new(OpenFiles {
                most: MOST_OPEN,
                clock: 0,
                files: HashMap::new(),
            }),
            reads: Reads::new(limit),
        }
    }

    /// Reads the bytes of a place, as [`Place::read`], with at most one open.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, place: &Place, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        let _reading = self.reads.begin(&place.file);
        if place.member.is_none() {
            return place.read(bytes);
        }
        let kept = lock(&self.open).get(&place.file);
        let file = match kept {
            Some(file) => file,
            None => {
                let file = Arc::new(place.open()?);
                let old = lock(&self.open).put(&place.file, &file);
                // Closed here, where nobody waits for the lock.
                drop(old);
                file
            }
        };
        place.read_from(&file, bytes)
    }

    /// The read that has gone on for longest, if that is longer than it may.
    #[must_use]
    pub fn stalled(&self) -> Option<Stalled> {
        self.reads.stalled()
    }
}

/// A panic in between leaves maps that are still true, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenFiles {
    fn get(&mut self, path: &Path) -> Option<Arc<File>> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(path)?;
        *used = self.clock;
        Some(Arc::clone(file))
    }

    /// Keeps a file, and gives back the one that was not used for longest if there are too many.
    fn put(&mut self, path: &Path, file: &Arc<File>) -> Option<Arc<File>> {
        self.clock += 1;
        let mut old = None;
        if self.files.len() >= self.most && !self.files.contains_key(path) {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            let oldest = oldest.map(|(path, _)| path.clone());
            old = oldest.and_then(|path| self.files.remove(&path));
        }
        self.files
            .insert(path.to_owned(), (Arc::clone(file), self.clock));
        old.map(|(file, _)| file)
    }
}
