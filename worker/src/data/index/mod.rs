//! An index of a data set: names, captions and places of its samples in one file that is mapped into memory,
//! so that all processes of a node share it and none has to read it before it begins.

mod facts;
mod layout;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use facts::{Facts, PartFacts, Stamp};
pub(crate) use layout::{Method, Record};
pub(crate) use writer::IndexWriter;

use super::mapped::Mapped;
use layout::{ARCHIVE, ArchiveRecord, BLOCK, Header, PLACE, Section, take_number, take_text};

/// Why an index cannot be used. The caller names the file.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The first bytes are wrong.
    #[error("is not an index of a data set")]
    NoIndex,
    /// A version that is not read.
    #[error("is an index of version {0}, and this program reads version {version}", version = layout::VERSION)]
    Version(u32),
    /// It is shorter or longer than it says.
    #[error("is not a whole index: it has {length} bytes{}", match wanted {
        Some(wanted) => format!(", and should have {wanted}"),
        None => String::new(),
    })]
    Truncated {
        /// Bytes that it has.
        length: u64,
        /// Bytes that it says it has.
        wanted: Option<u64>,
    },
    /// A checksum or a length is wrong.
    #[error("is a damaged index: its section '{0}' is not what was written")]
    Damaged(&'static str),
    /// It is about something else, or about what was there before.
    #[error("does not fit: {0}")]
    Stale(String),
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    bytes: Mapped,
    header: Header,
    facts: Facts,
}

/// An archive of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArchiveView<'a> {
    /// Below the root.
    pub(crate) name: &'a str,
    /// What it was when it was read.
    pub(crate) stamp: Stamp,
    /// Why nothing of it can be read.
    pub(crate) fault: Option<&'a str>,
}

impl Index {
    /// Maps an index. Only its header is checked ([`Index::verify`] checks the rest), so that this takes no
    /// time whatever its size.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::of(Mapped::open(path)?)
    }

    /// An index that was written into memory.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, IndexError> {
        Self::of(Mapped::Owned(bytes))
    }

    fn of(bytes: Mapped) -> Result<Self, IndexError> {
        let header = Header::decode(&bytes)?;
        let extent = header.sections[Section::Facts as usize];
        let facts = &bytes[extent.offset as usize..(extent.offset + extent.length) as usize];
        if crc32c::crc32c(facts) != extent.crc {
            return Err(IndexError::Damaged("facts"));
        }
        let facts = serde_json::from_slice(facts).map_err(|_| IndexError::Damaged("facts"))?;
        Ok(Self {
            header,
            facts,
            bytes,
        })
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.header.samples
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of captions of all samples.
    #[must_use]
    pub fn captions(&self) -> u64 {
        self.header.captions
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.header.length
    }

    /// What it says about itself.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    fn section(&self, section: Section) -> &[u8] {
        let extent = self.header.sections[section as usize];
        // Both were checked against the file's length.
        &self.bytes[extent.offset as usize..(extent.offset + extent.length) as usize]
    }

    /// Name and captions of a sample. `None` if there is none, or if the index is damaged there.
    #[must_use]
    pub fn text(&self, sample: usize) -> Option<(&str, Vec<&str>)> {
        let mut bytes = self.text_of(sample)?;
        let name = take_text(&mut bytes)?;
        let count = take_number(&mut bytes)?;
        let mut captions = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            captions.push(take_text(&mut bytes)?);
        }
        // Lengths that are wrong do not end where the next sample begins.
        (!captions.is_empty() && bytes.is_empty()).then_some((name, captions))
    }

    /// Name of a sample.
    #[must_use]
    pub fn name(&self, sample: usize) -> Option<&str> {
        take_text(&mut self.text_of(sample)?)
    }

    /// The bytes of a sample's text.
    fn text_of(&self, sample: usize) -> Option<&[u8]> {
        let text = self.section(Section::Text);
        let next = sample.checked_add(1)?;
        let end = if next as u64 == self.len() {
            text.len()
        } else {
            self.start_of(next)?
        };
        text.get(self.start_of(sample)?..end)
    }

    fn start_of(&self, sample: usize) -> Option<usize> {
        let block = sample / BLOCK as usize;
        let base = layout::u64_at(self.section(Section::Bases), block.checked_mul(8)?)?;
        let start = layout::u32_at(self.section(Section::Starts), sample.checked_mul(4)?)?;
        usize::try_from(base.checked_add(start.into())?).ok()
    }

    pub(crate) fn place(&self, number: u64) -> Option<Record> {
        let at = usize::try_from(number).ok()?.checked_mul(PLACE)?;
        Record::decode(self.section(Section::Places).get(at..)?)
    }

    pub(crate) fn archive(&self, number: u32) -> Option<ArchiveView<'_>> {
        let at = (number as usize).checked_mul(ARCHIVE)?;
        let record = ArchiveRecord::decode(self.section(Section::Archives).get(at..)?)?;
        let names = self
            .section(Section::Names)
            .get(record.name_start as usize..)?;
        let (name, rest) = names.split_at_checked(record.name_length.into())?;
        let fault = rest.get(..record.fault_length.into())?;
        Some(ArchiveView {
            name: std::str::from_utf8(name).ok()?,
            stamp: Stamp {
                size: record.size,
                mtime_ns: record.mtime_ns,
            },
            fault: (!fault.is_empty())
                .then(|| std::str::from_utf8(fault).ok())
                .flatten(),
        })
    }

    /// Reads everything, and compares it with the checksums that were written with it. `progress` gets the
    /// bytes that were compared.
    ///
    /// # Errors
    /// [`IndexError::Damaged`].
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<(), IndexError> {
        let mut done = 0;
        for section in Section::ALL {
            let mut crc = 0;
            for chunk in self.section(section).chunks(1 << 24) {
                crc = crc32c::crc32c_append(crc, chunk);
                done += chunk.len() as u64;
                progress(done);
            }
            if crc != self.header.sections[section as usize].crc {
                return Err(IndexError::Damaged(section.name()));
            }
        }
        Ok(())
    }
}

/// Where the index of a list lies unless an experiment says otherwise: beside it.
#[must_use]
pub fn beside(list: &Path) -> PathBuf {
    let mut name = list.as_os_str().to_owned();
    name.push(".index");
    name.into()
}
