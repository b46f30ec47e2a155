//! The central directory of a zip file (PKWARE's APPNOTE 6.3): which members there are and where they lie,
//! with one read for an archive of ordinary size and none of the members themselves.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::data::index::{Method, Record};

/// The end record with the longest comment.
const TAIL: u64 = 22 + 65_535;
/// The largest directory that is read: about a million members.
const MOST_DIRECTORY: u64 = 64 << 20;
/// Bytes of a member's own header without name and extra field.
const LOCAL: u64 = 30;

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Its name, as bytes.
    pub(super) name: &'a [u8],
    /// Bytes in the archive.
    pub(super) packed: u64,
    /// Bytes once unpacked.
    pub(super) raw: u64,
    /// Where its header lies.
    pub(super) offset: u64,
    /// Bytes up to whatever comes next.
    pub(super) room: u64,
    /// How it is packed, if it can be unpacked here.
    pub(super) method: Option<Method>,
}

impl Entry<'_> {
    /// Its place, if it can be read.
    pub(super) fn record(&self, archive: u32) -> Option<Record> {
        // Members that overlap are how small archives unpack to petabytes.
        let slack = self.room.checked_sub(self.packed)?;
        let stored = self.method != Some(Method::Stored) || self.packed == self.raw;
        (slack >= LOCAL && stored && self.packed > 0 && self.offset <= Record::MOST_OFFSET)
            .then_some(Record {
                archive,
                offset: self.offset,
                packed: u32::try_from(self.packed).ok()?,
                // What is larger than any image is refused when it is read, by its size.
                raw: u32::try_from(self.raw).unwrap_or(u32::MAX),
                method: self.method?,
                slack: u16::try_from(slack).unwrap_or(u16::MAX),
            })
    }
}

/// A directory as it was read.
#[derive(Debug)]
pub(super) struct Directory {
    bytes: Vec<u8>,
    count: u64,
    /// What has to be added to every offset: bytes before the archive.
    shift: u64,
    /// Where it begins, which is where the last member ends.
    start: u64,
}

impl Directory {
    /// Reads the directory of an archive of `size` bytes.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow its name.
    pub(super) fn read(file: &File, size: u64) -> Result<Self, String> {
        let io = |error: io::Error| format!("cannot be read: {error}");
        let from = size.saturating_sub(TAIL);
        let mut tail = vec![0; (size - from) as usize];
        file.read_exact_at(&mut tail, from).map_err(io)?;
        let end = find_end(&tail)
            .ok_or("is not a whole zip archive: the record at its end is missing")?;
        let record = &tail[end..];
        let mut count: u64 = u16_at(record, 10).into();
        let mut length: u64 = u32_at(record, 12).into();
        let mut start: u64 = u32_at(record, 16).into();
        let mut after = from + end as u64;
        if count == 0xFFFF || length == 0xFFFF_FFFF || start == 0xFFFF_FFFF {
            // Zip64: a locator just before, that says where the long record is.
            let locator = end.checked_sub(20).map(|at| &tail[at..end]);
            if let Some(locator) = locator.filter(|bytes| bytes.starts_with(b"PK\x06\x07")) {
                let at = u64_at(locator, 8);
                let mut long = [0; 56];
                file.read_exact_at(&mut long, at).map_err(io)?;
                if !long.starts_with(b"PK\x06\x06") {
                    return Err("is a broken zip archive: its zip64 record is missing".to_owned());
                }
                count = u64_at(&long, 32);
                length = u64_at(&long, 40);
                start = u64_at(&long, 48);
                after = at;
            }
        }
        let broken = || "is a broken zip archive: its directory lies outside of it".to_owned();
        if length > MOST_DIRECTORY || length > after {
            return Err(broken());
        }
        let really = after - length;
        let shift = really.checked_sub(start).ok_or_else(broken)?;
        let bytes = match really.checked_sub(from) {
            Some(at) => tail[at as usize..(at + length) as usize].to_vec(),
            None => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, really).map_err(io)?;
                bytes
            }
        };
        Ok(Self {
            bytes,
            count,
            shift,
            start: really,
        })
    }

    /// Its members.
    ///
    /// # Errors
    /// As [`Directory::read`]; also for a name that leads out of the archive.
    pub(super) fn entries(&self) -> Result<Vec<Entry<'_>>, String> {
        let mut entries = Vec::new();
        let mut rest = self.bytes.as_slice();
        for number in 0..self.count {
            let (entry, after) = self.entry(rest).ok_or_else(|| {
                format!("is a broken zip archive: its directory ends at member {number}")
            })?;
            rest = after;
            if leads_out(entry.name) {
                return Err(format!(
                    "is refused: its member '{}' leads out of the archive",
                    String::from_utf8_lossy(entry.name).escape_debug()
                ));
            }
            entries.push(entry);
        }
        let mut offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
        offsets.sort_unstable();
        for entry in &mut entries {
            let next = offsets.partition_point(|&offset| offset <= entry.offset);
            // A member that says that it lies behind the directory gives the others no room there.
            let next = offsets
                .get(next)
                .map_or(self.start, |&next| next.min(self.start));
            entry.room = next.saturating_sub(entry.offset);
        }
        Ok(entries)
    }

    fn entry<'a>(&self, bytes: &'a [u8]) -> Option<(Entry<'a>, &'a [u8])> {
        let (head, rest) = bytes.split_at_checked(46)?;
        if !head.starts_with(b"PK\x01\x02") {
            return None;
        }
        let (name, rest) = rest.split_at_checked(u16_at(head, 28).into())?;
        let (extra, rest) = rest.split_at_checked(u16_at(head, 30).into())?;
        let rest = rest.get(usize::from(u16_at(head, 32))..)?;
        let mut long = zip64(extra).chunks_exact(8).map(|field| u64_at(field, 0));
        let mut wide = |short: u32| match short {
            u32::MAX => long.next().unwrap_or(u64::MAX),
            short => short.into(),
        };
        // In this order.
        let raw = wide(u32_at(head, 24));
        let packed = wide(u32_at(head, 20));
        let offset = wide(u32_at(head, 42)).saturating_add(self.shift);
        let encrypted = u16_at(head, 8) & 1 == 1;
        let method = match u16_at(head, 10) {
            _ if encrypted => None,
            0 => Some(Method::Stored),
            8 => Some(Method::Deflated),
            _ => None,
        };
        let entry = Entry {
            name,
            packed,
            raw,
            offset,
            room: 0,
            method,
        };
        Some((entry, rest))
    }
}

/// Where the record at the end begins: the last place at which one is that ends with the file.
fn find_end(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(22)?;
    (0..=last).rev().find(|&at| {
        tail[at..].starts_with(b"PK\x05\x06")
            && at + 22 + usize::from(u16_at(&tail[at..], 20)) == tail.len()
    })
}

/// The zip64 part of an extra field.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let Some((field, after)) = rest.split_at_checked(u16_at(head, 2).into()) else {
            break;
        };
        if u16_at(head, 0) == 1 {
            return field;
        }
        extra = after;
    }
    &[]
}

/// Whether a member's name is absolute or has a part `..`.
pub(super) fn leads_out(name: &[u8]) -> bool {
    name.first() == Some(&b'/')
        || name
            .split(|&byte| byte == b'/' || byte == b'\\')
            .any(|part| part == b"..")
}

// The callers have looked whether the bytes are there.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
