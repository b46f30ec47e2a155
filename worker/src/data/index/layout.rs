//! The bytes of an index file, little-endian throughout.
//!
//! | at | what |
//! |---|---|
//! | 0 | [`MAGIC`], version (u32), CRC-32C of the first page with zeros in its own place (u32) |
//! | 16 | length of the file, samples, captions (u64 each) |
//! | 40 | for each [`Section`]: offset and length (u64), CRC-32C (u32), 4 bytes of nothing |
//! | [`PAGE`] | the sections |
//!
//! A sample's text begins at `bases[sample / BLOCK] + starts[sample]` of the text: the length of its name, the
//! name, the number of its captions, and for each its length and the caption. Numbers there are of variable
//! length (LEB128).

use super::IndexError;

/// First bytes of an index. The end of line and the byte above 127 show damage by a transfer as text.
pub(super) const MAGIC: [u8; 8] = *b"RKTIDX\xff\n";
/// The version that is written and read.
pub(super) const VERSION: u32 = 1;
/// Bytes of the header.
pub(super) const PAGE: usize = 4096;
/// Samples that share a base.
pub(super) const BLOCK: u64 = 256;
/// Bytes of a record of a place.
pub(super) const PLACE: usize = 20;
/// Bytes of a record of an archive.
pub(super) const ARCHIVE: usize = 24;
/// The most text that a sample may have, which keeps `starts` within 32 bits.
pub(super) const MOST_TEXT: usize = 8 << 20;

const CRC_AT: std::ops::Range<usize> = 12..16;
const SECTIONS_AT: usize = 40;
const SECTION: usize = 24;

/// Parts of an index, in the order of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Names and captions.
    Text,
    /// A u64 for every [`BLOCK`] samples.
    Bases,
    /// A u32 for every sample.
    Starts,
    /// [`Record`]s of samples in archives.
    Places,
    /// [`ArchiveRecord`]s.
    Archives,
    /// Names of archives, and what is wrong with them.
    Names,
    /// [`super::Facts`] as JSON.
    Facts,
}

impl Section {
    pub(super) const ALL: [Self; 7] = [
        Self::Text,
        Self::Bases,
        Self::Starts,
        Self::Places,
        Self::Archives,
        Self::Names,
        Self::Facts,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bases => "bases",
            Self::Starts => "starts",
            Self::Places => "places",
            Self::Archives => "archives",
            Self::Names => "names",
            Self::Facts => "facts",
        }
    }
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) crc: u32,
}

/// The first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub(super) length: u64,
    pub(super) samples: u64,
    pub(super) captions: u64,
    pub(super) sections: [Extent; Section::ALL.len()],
}

impl Header {
    pub(super) fn encode(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[16..24].copy_from_slice(&self.length.to_le_bytes());
        page[24..32].copy_from_slice(&self.samples.to_le_bytes());
        page[32..40].copy_from_slice(&self.captions.to_le_bytes());
        for (number, extent) in self.sections.iter().enumerate() {
            let at = SECTIONS_AT + number * SECTION;
            page[at..at + 8].copy_from_slice(&extent.offset.to_le_bytes());
            page[at + 8..at + 16].copy_from_slice(&extent.length.to_le_bytes());
            page[at + 16..at + 20].copy_from_slice(&extent.crc.to_le_bytes());
        }
        let crc = crc32c::crc32c(&page);
        page[CRC_AT].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads and checks the first page of a file.
    ///
    /// # Errors
    /// [`IndexError`] without the file's name.
    pub(super) fn decode(file: &[u8]) -> Result<Self, IndexError> {
        if !file.starts_with(&MAGIC) {
            return Err(IndexError::NoIndex);
        }
        if file.len() < PAGE {
            return Err(IndexError::Truncated {
                length: file.len() as u64,
                wanted: None,
            });
        }
        let version = u32_at(file, 8).unwrap_or(0);
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let mut page = [0; PAGE];
        page.copy_from_slice(&file[..PAGE]);
        page[CRC_AT].fill(0);
        if u32_at(file, CRC_AT.start) != Some(crc32c::crc32c(&page)) {
            return Err(IndexError::Damaged("header"));
        }
        let word = |at| u64_at(file, at).unwrap_or(0);
        let mut header = Self {
            length: word(16),
            samples: word(24),
            captions: word(32),
            sections: Default::default(),
        };
        if header.length != file.len() as u64 {
            return Err(IndexError::Truncated {
                length: file.len() as u64,
                wanted: Some(header.length),
            });
        }
        for (number, section) in Section::ALL.into_iter().enumerate() {
            let at = SECTIONS_AT + number * SECTION;
            let extent = Extent {
                offset: word(at),
                length: word(at + 8),
                crc: u32_at(file, at + 16).unwrap_or(0),
            };
            let end = extent.offset.checked_add(extent.length);
            if end.is_none_or(|end| end > header.length) {
                return Err(IndexError::Damaged(section.name()));
            }
            header.sections[number] = extent;
        }
        let length = |section: Section| header.sections[section as usize].length;
        let blocks = header.samples.div_ceil(BLOCK);
        if length(Section::Starts) != header.samples.saturating_mul(4)
            || length(Section::Bases) != blocks.saturating_mul(8)
        {
            return Err(IndexError::Damaged("starts"));
        }
        Ok(header)
    }
}

/// Where a sample lies in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Number of the archive.
    pub(crate) archive: u32,
    /// Of the image, or of the header before it in a zip.
    pub(crate) offset: u64,
    /// Bytes in the archive; 0 if the archive has no such member.
    pub(crate) packed: u32,
    /// Bytes of the image.
    pub(crate) raw: u32,
    /// How it is packed.
    pub(crate) method: Method,
    /// Bytes that lie between the offset and the image, at most.
    pub(crate) slack: u16,
}

/// How a member of an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Method {
    /// As it is, at the offset.
    Bare = 0,
    /// As it is, after the header of a zip's member.
    Stored = 1,
    /// Deflated, after such a header.
    Deflated = 2,
}

impl Record {
    /// The largest offset that fits into 40 bits.
    pub(crate) const MOST_OFFSET: u64 = (1 << 40) - 1;

    /// A sample that its archive does not hold.
    pub(crate) fn absent(archive: u32) -> Self {
        Self {
            archive,
            offset: 0,
            packed: 0,
            raw: 0,
            method: Method::Bare,
            slack: 0,
        }
    }

    pub(crate) fn encode(&self) -> [u8; PLACE] {
        let mut bytes = [0; PLACE];
        bytes[..4].copy_from_slice(&self.archive.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.packed.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.raw.to_le_bytes());
        bytes[12..17].copy_from_slice(&self.offset.to_le_bytes()[..5]);
        bytes[17] = self.method as u8;
        bytes[18..20].copy_from_slice(&self.slack.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..PLACE)?;
        let mut offset = [0; 8];
        offset[..5].copy_from_slice(&bytes[12..17]);
        Some(Self {
            archive: u32_at(bytes, 0)?,
            packed: u32_at(bytes, 4)?,
            raw: u32_at(bytes, 8)?,
            offset: u64::from_le_bytes(offset),
            method: match bytes[17] {
                0 => Method::Bare,
                1 => Method::Stored,
                2 => Method::Deflated,
                _ => return None,
            },
            slack: u16::from_le_bytes([bytes[18], bytes[19]]),
        })
    }
}

/// An archive, and how to notice that it is another one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ArchiveRecord {
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    /// In the names; what is wrong with it follows.
    pub(super) name_start: u32,
    pub(super) name_length: u16,
    pub(super) fault_length: u16,
}

impl ArchiveRecord {
    pub(super) fn encode(&self) -> [u8; ARCHIVE] {
        let mut bytes = [0; ARCHIVE];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.mtime_ns.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.name_start.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.name_length.to_le_bytes());
        bytes[22..24].copy_from_slice(&self.fault_length.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..ARCHIVE)?;
        Some(Self {
            size: u64_at(bytes, 0)?,
            mtime_ns: u64_at(bytes, 8)? as i64,
            name_start: u32_at(bytes, 16)?,
            name_length: u16::from_le_bytes([bytes[20], bytes[21]]),
            fault_length: u16::from_le_bytes([bytes[22], bytes[23]]),
        })
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// Appends a number in LEB128.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number in LEB128 off the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0usize;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Takes text of a length before it off the front.
pub(super) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_number(bytes)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_records_come_back() {
        for number in [0, 1, 127, 128, 300, 1 << 20, (1 << 35) - 1] {
            let mut bytes = Vec::new();
            push_number(&mut bytes, number);
            let mut left = bytes.as_slice();
            assert_eq!(take_number(&mut left), Some(number));
            assert!(left.is_empty());
        }
        let record = Record {
            archive: 7,
            offset: Record::MOST_OFFSET,
            packed: 1,
            raw: u32::MAX,
            method: Method::Deflated,
            slack: 99,
        };
        assert_eq!(Record::decode(&record.encode()), Some(record));
        let header = Header {
            length: PAGE as u64,
            ..Header::default()
        };
        let page = header.encode();
        assert_eq!(Header::decode(&page).unwrap(), header);
        for at in [8, 20, 50, 4000] {
            let mut other = page;
            other[at] ^= 1;
            assert!(Header::decode(&other).is_err(), "byte {at}");
        }
    }
}
