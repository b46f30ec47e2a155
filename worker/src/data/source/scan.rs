//! Looks into many archives at once, and remembers what it found, so that an interrupted look goes on.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};

use super::SourceError;
use super::watch::Reads;
use crate::data::index::{Record, Stamp};

/// What was found in archives before, in a file: records of number, length, CRC-32C and bytes.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the bytes of each archive lie.
    known: HashMap<u32, (u64, u32)>,
    end: Mutex<u64>,
}

/// Number, length and checksum before each record.
const HEAD: usize = 12;

impl Journal {
    /// Opens the journal at `path` if it was begun under the same `key`, and begins a new one if not.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn open(path: &Path, key: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut known = HashMap::new();
        let mut end = 0;
        let first = format!("{key}\n");
        let mut reader = BufReader::with_capacity(1 << 20, &mut file);
        let mut begin = vec![0; first.len()];
        if reader.read_exact(&mut begin).is_ok() && begin == first.as_bytes() {
            end = first.len() as u64;
            let mut head = [0; HEAD];
            let mut bytes = Vec::new();
            while reader.read_exact(&mut head).is_ok() {
                let word = |at: usize| {
                    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
                };
                let (number, length, crc) = (word(0), word(4), word(8));
                bytes.clear();
                let read = reader.by_ref().take(length.into()).read_to_end(&mut bytes);
                // The last record may be torn.
                if read.ok() != Some(length as usize) || crc32c::crc32c(&bytes) != crc {
                    break;
                }
                known.insert(number, (end + HEAD as u64, length));
                end += (HEAD + bytes.len()) as u64;
            }
        } else {
            file.set_len(0)?;
            file.write_all_at(first.as_bytes(), 0)?;
            end = end.max(first.len() as u64);
        }
        file.set_len(end)?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            known,
            end: Mutex::new(end),
        })
    }

    /// Archives that need not be looked into again.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    fn get(&self, number: u32) -> Option<Vec<u8>> {
        let &(offset, length) = self.known.get(&number)?;
        let mut bytes = vec![0; length as usize];
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    fn put(&self, number: u32, bytes: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(HEAD + bytes.len());
        record.extend_from_slice(&number.to_le_bytes());
        record.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        record.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        record.extend_from_slice(bytes);
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all_at(&record, *end)?;
        *end += record.len() as u64;
        Ok(())
    }

    /// Removes it: what it was for is done.
    pub(super) fn remove(self) {
        // One that stays is begun anew, since its key is no longer the same, or spares work.
        let _ = std::fs::remove_file(self.path);
    }
}

/// Archives that may be looked into before an earlier one is done, for each thread.
const AHEAD: usize = 64;

/// The archives of a list, and how they are looked into.
pub(super) struct Archives<'a> {
    /// Archives of the lists before this one: all lists of an index share its journal.
    pub(super) before: u32,
    pub(super) files: &'a [PathBuf],
    /// So many at a time.
    pub(super) threads: usize,
    pub(super) journal: Option<&'a Journal>,
    pub(super) reads: &'a Reads,
}

/// Calls `look` for every archive on many threads, and `each` with what came of it, in order.
///
/// # Errors
/// What `each` said first; [`SourceError::Write`] of the journal.
pub(super) fn scan(
    archives: &Archives<'_>,
    look: impl Fn(&Path) -> Vec<u8> + Sync,
    mut each: impl FnMut(usize, Vec<u8>) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let (count, threads) = (archives.files.len(), archives.threads);
    if count == 1 {
        // Not worth a thread.
        return one(archives, 0, &look).and_then(|bytes| each(0, bytes));
    }
    let next = AtomicUsize::new(0);
    // How many were handed on; past `count` to end it.
    let handed_on = Mutex::new(0usize);
    let moved = Condvar::new();
    let ahead = threads.max(1) * AHEAD;
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            let sender = sender.clone();
            let (next, handed_on, moved, look) = (&next, &handed_on, &moved, &look);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let mut behind = handed_on.lock().unwrap_or_else(PoisonError::into_inner);
                    while number >= *behind + ahead {
                        behind = moved.wait(behind).unwrap_or_else(PoisonError::into_inner);
                    }
                    let ended = *behind > count;
                    drop(behind);
                    if ended {
                        return;
                    }
                    let made = one(archives, number, look);
                    if sender.send((number, made)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut wanted = 0;
        let mut result = Ok(());
        while wanted < count && result.is_ok() {
            let Ok((number, made)) = receiver.recv() else {
                let cause = io::Error::other("one of them gave up");
                result = Err(SourceError::Thread { cause });
                break;
            };
            waiting.insert(number, made);
            while let Some(made) = waiting.remove(&wanted) {
                result = made.and_then(|bytes| each(wanted, bytes));
                if result.is_err() {
                    break;
                }
                wanted += 1;
            }
            *handed_on.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
            moved.notify_all();
        }
        if result.is_err() {
            *handed_on.lock().unwrap_or_else(PoisonError::into_inner) = count + 1;
            moved.notify_all();
        }
        result
    })
}

fn one(
    archives: &Archives<'_>,
    number: usize,
    look: &(impl Fn(&Path) -> Vec<u8> + Sync),
) -> Result<Vec<u8>, SourceError> {
    let file = archives.files[number].as_path();
    let Some(journal) = archives.journal else {
        return Ok(look(file));
    };
    let key = archives.before + number as u32;
    if let Some(bytes) = journal.get(key)
        && is_of(&bytes, file, archives.reads)
    {
        return Ok(bytes);
    }
    let bytes = look(file);
    // What could not be read is looked at again: it may be mended by then.
    if fault(&bytes).is_some() {
        return Ok(bytes);
    }
    journal
        .put(key, &bytes)
        .map_err(|cause| SourceError::Write {
            file: journal.path.clone(),
            cause,
        })?;
    Ok(bytes)
}

/// Whether this was found in the file as it is now.
fn is_of(mut bytes: &[u8], file: &Path, reads: &Reads) -> bool {
    let _reading = reads.begin(file);
    let then = bytes.stamp();
    then.is_some() && then == Stamp::of(file).ok()
}

/// What is wrong with an archive, by what was found in it.
pub(super) fn fault(mut bytes: &[u8]) -> Option<String> {
    bytes.stamp()?;
    bytes.text().filter(|what| !what.is_empty())
}

/// What was found in an archive, as bytes: its stamp, what is wrong with it (nothing, if empty), its members.
pub(super) trait PushBlob {
    fn push_stamp(&mut self, stamp: Stamp);
    fn push_text(&mut self, text: &str);
    fn push_member(&mut self, number: u16, record: &Record);
}

impl PushBlob for Vec<u8> {
    fn push_stamp(&mut self, stamp: Stamp) {
        self.extend_from_slice(&stamp.size.to_le_bytes());
        self.extend_from_slice(&stamp.mtime_ns.to_le_bytes());
    }

    fn push_text(&mut self, text: &str) {
        self.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.extend_from_slice(text.as_bytes());
    }

    fn push_member(&mut self, number: u16, record: &Record) {
        self.extend_from_slice(&number.to_le_bytes());
        self.extend_from_slice(&record.encode());
    }
}

/// The same, read back; `None` at the end, or if it is damaged.
pub(super) trait Blob {
    fn stamp(&mut self) -> Option<Stamp>;
    fn text(&mut self) -> Option<String>;
    fn member(&mut self) -> Option<(u16, Record)>;
}

impl Blob for &[u8] {
    fn stamp(&mut self) -> Option<Stamp> {
        let (bytes, rest) = self.split_first_chunk::<16>()?;
        let mut stamp = Stamp {
            size: 0,
            mtime_ns: 0,
        };
        stamp.size = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        stamp.mtime_ns = i64::from_le_bytes(bytes[8..].try_into().ok()?);
        *self = rest;
        Some(stamp)
    }

    fn text(&mut self) -> Option<String> {
        let (length, rest) = self.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *self = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn member(&mut self) -> Option<(u16, Record)> {
        let (number, rest) = self.split_first_chunk::<2>()?;
        let record = Record::decode(rest)?;
        *self = &rest[record.encode().len()..];
        Some((u16::from_le_bytes(*number), record))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A full disk is told as such, so that who opens a small set does without.
    #[test]
    fn a_journal_that_cannot_be_written_is_no_fault_of_an_archive() {
        let full = File::options().write(true).open("/dev/full");
        let journal = Journal {
            path: "list.index.partial".into(),
            file: Mutex::new(full.expect("Linux has it")),
            known: HashMap::new(),
            end: Mutex::new(0),
        };
        let files = [PathBuf::from("0.tar"), PathBuf::from("1.tar")];
        let archives = Archives {
            before: 0,
            files: &files,
            threads: 2,
            journal: Some(&journal),
            reads: &Reads::new(Duration::MAX),
        };
        let look = |_: &Path| {
            let mut blob = Vec::new();
            blob.push_stamp(Stamp {
                size: 1,
                mtime_ns: 1,
            });
            blob.push_text("");
            blob
        };
        let error = scan(&archives, look, |_, _| Ok(())).expect_err("there is no room");
        insta::assert_snapshot!(error.to_string(), @"cannot write the index 'list.index.partial': No space left on device (os error 28); --output names another place");
    }
}
