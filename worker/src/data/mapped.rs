//! A file's bytes as memory, which the kernel reads as they are needed.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file, or bytes that were made here.
#[derive(Debug)]
pub enum Mapped {
    /// Of a file.
    File(Mmap),
    /// In this process's own memory.
    Owned(Vec<u8>),
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// Of the file system; also for a folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the bytes are only read, and what they say is checked wherever it is used, so that another
        // process that writes to the file meanwhile can spoil what is read and nothing else. If it cuts the
        // file short, this process is ended by SIGBUS. What this program writes to be mapped (indexes) is
        // written aside and renamed, and never changed.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::File(map))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::File(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
