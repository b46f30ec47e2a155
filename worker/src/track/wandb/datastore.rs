//! The log that a `.wandb` file is: LevelDB's (`log_format.md`), with a header of its own and the plain
//! CRC-32 of zlib.
//!
//! ```text
//! file   := header block*                    header := ":W&B" u16 0xBEE1 u8 0
//! block  := record* zeros?                   of 32 KiB, the first one with the header in it
//! record := u32 CRC of type and data | u16 length | u8 type (full, first, middle, last) | data
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];
const BLOCK: u64 = 32 * 1024;
/// Bytes before a record's data.
const FRAME: u64 = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A file that grows by records.
#[derive(Debug)]
pub struct Datastore {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Datastore {
    /// Makes a new file, in place of one that may be there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(&HEADER)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            len: HEADER.len() as u64,
        })
    }

    /// Goes on with a file after `len` bytes, where a record ends. What follows is cut off.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn go_on(path: &Path, len: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is not even a header in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends records.
    ///
    /// # Errors
    /// The file cannot be written: a part of them may be there.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            frame(&mut bytes, self.len, record.as_ref());
        }
        self.file.write_all(&bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// It cannot be made so.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Appends a record to bytes that will stand `start` bytes into the file.
fn frame(bytes: &mut Vec<u8>, start: u64, mut data: &[u8]) {
    let mut first = true;
    loop {
        let mut left = BLOCK - (start + bytes.len() as u64) % BLOCK;
        if left < FRAME {
            bytes.resize(bytes.len() + left as usize, 0);
            left = BLOCK;
        }
        let room = (left - FRAME) as usize;
        let (part, rest) = data.split_at(data.len().min(room));
        let kind = match (first, rest.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind]);
        crc.update(part);
        bytes.extend(crc.finalize().to_le_bytes());
        // At most a block.
        bytes.extend((part.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend(part);
        if rest.is_empty() {
            return;
        }
        data = rest;
        first = false;
    }
}
