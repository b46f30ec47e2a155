//! Looks into many archives at once, and remembers what it found, so that an interrupted look goes on.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};

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

/// Calls `work` for 0..`count` on many threads, and `each` with what came of it, in order.
///
/// # Errors
/// What `each` or the journal said first.
pub(super) fn scan(
    count: usize,
    threads: usize,
    journal: Option<&Journal>,
    work: impl Fn(usize) -> Vec<u8> + Sync,
    mut each: impl FnMut(usize, Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    if count == 1 {
        // Not worth a thread.
        return one(0, journal, &work).and_then(|bytes| each(0, bytes));
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
            let (next, handed_on, moved, work) = (&next, &handed_on, &moved, &work);
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
                    let made = one(number, journal, work);
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
                result = Err("a thread gave up".to_owned());
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
    number: usize,
    journal: Option<&Journal>,
    work: &(impl Fn(usize) -> Vec<u8> + Sync),
) -> Result<Vec<u8>, String> {
    let Some(journal) = journal else {
        return Ok(work(number));
    };
    let key = number as u32;
    if let Some(bytes) = journal.get(key) {
        return Ok(bytes);
    }
    let bytes = work(number);
    // What could not be read is looked at again: it may be mended by then.
    if is_fault(&bytes) {
        return Ok(bytes);
    }
    journal
        .put(key, &bytes)
        .map_err(|error| format!("cannot write '{}': {error}", journal.path.display()))?;
    Ok(bytes)
}

/// Whether what was found begins with what is wrong with the archive.
fn is_fault(mut bytes: &[u8]) -> bool {
    bytes.stamp().is_some() && bytes.text().is_some_and(|what| !what.is_empty())
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
