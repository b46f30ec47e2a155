//! Reading `metrics.jsonl` while it grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RecordKind;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it is about.
    pub kind: RecordKind,
    /// Where it stands among the records.
    pub at: Position,
    /// When it was recorded, in seconds since 1970.
    pub time: f64,
    /// Numbers by name, in their order.
    pub values: Vec<(String, f64)>,
}

impl Record {
    /// Optimiser steps done.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.at.step
    }
}

/// A place in `metrics.jsonl` that is the same in every attempt: what a tracker has is what lies before
/// its place. Bytes are not, since an attempt that goes on from a checkpoint cuts the file there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Step of the record that follows.
    pub step: u64,
    /// Records of that step before it.
    pub seen: u64,
}

impl Position {
    /// The place right after this one's record.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            step: self.step,
            seen: self.seen + 1,
        }
    }
}

/// Some records, and where they end.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// The records.
    pub records: Vec<Record>,
    /// How far the reader gets if it is told that they were taken.
    end: Mark,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    offset: u64,
    /// Where the next record of the same step would stand.
    next: Position,
}

/// Reads one file from its beginning, again and again: what a tracker could not take is read again.
#[derive(Debug)]
pub struct Reader {
    file: File,
    mark: Mark,
    /// Time of records that do not say theirs.
    fallback: f64,
}

/// Most bytes read at once.
const READ: usize = 1 << 18;

impl Reader {
    /// Opens a file. It stays this one, even if another takes its name.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let modified = file.metadata()?.modified()?;
        let fallback = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            file,
            mark: Mark::default(),
            fallback: fallback.as_secs_f64(),
        })
    }

    /// Goes back to the first record.
    pub fn rewind(&mut self) {
        self.mark = Mark::default();
    }

    /// The next whole records, about 256 KiB of lines at most; none at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn peek(&self) -> io::Result<Chunk> {
        let mut bytes = vec![0; READ];
        let mut filled = 0;
        while filled < bytes.len() {
            let at = self.mark.offset + filled as u64;
            match self.file.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut chunk = Chunk {
            records: Vec::new(),
            end: self.mark,
        };
        // What follows the last line break is still being written.
        for line in bytes[..filled].split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            chunk.end.offset += line.len() as u64;
            if let Some(record) = self.parse(line, chunk.end.next) {
                chunk.end.next = record.at.next();
                chunk.records.push(record);
            }
        }
        Ok(chunk)
    }

    /// Goes on after a chunk that was peeked.
    pub fn accept(&mut self, chunk: &Chunk) {
        self.mark = chunk.end;
    }

    /// The whole file's first record and last step, wherever the reader stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn ends(&self) -> io::Result<(Option<Record>, u64)> {
        let mut reader = Self {
            file: self.file.try_clone()?,
            mark: Mark::default(),
            fallback: self.fallback,
        };
        let mut first = None;
        loop {
            let chunk = reader.peek()?;
            if chunk.end.offset == reader.mark.offset {
                return Ok((first, reader.mark.next.step));
            }
            first = first.or_else(|| chunk.records.first().cloned());
            reader.accept(&chunk);
        }
    }

    fn parse(&self, line: &[u8], next: Position) -> Option<Record> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
            return None;
        };
        let step = fields.get("step")?.as_u64()?;
        let kind = match fields.get("kind")?.as_str()? {
            "eval" => RecordKind::Eval,
            _ => RecordKind::Train,
        };
        let at = if step == next.step {
            next
        } else {
            Position { step, seen: 0 }
        };
        let time = fields.get("time").and_then(Value::as_f64);
        // The epoch of an evaluation is that of its step, which the step's own record says.
        let beside = |name: &str| {
            matches!(name, "kind" | "step" | "time")
                || (kind == RecordKind::Eval && name == "epoch")
        };
        let values = fields
            .iter()
            .filter(|(name, _)| !beside(name))
            .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
            .collect();
        Some(Record {
            kind,
            at,
            time: time.unwrap_or(self.fallback),
            values,
        })
    }
}
