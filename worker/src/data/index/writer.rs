//! Writes an index in one pass: text as it comes, the rest at the end.

use std::io::{self, Seek, SeekFrom, Write};

use super::layout::{
    ARCHIVE, ArchiveRecord, BLOCK, Extent, Header, MOST_TEXT, PAGE, PLACE, Record, Section,
    push_number,
};
use super::{Facts, Stamp};

/// Text that is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// Where [`IndexWriter::rewind`] goes back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    samples: u64,
    captions: u64,
    text: u64,
    crc: u32,
}

/// An index in the making.
pub(crate) struct IndexWriter<W> {
    out: W,
    buffer: Vec<u8>,
    /// Bytes and checksum of the text before the buffer.
    written: u64,
    crc: u32,
    bases: Vec<u8>,
    starts: Vec<u8>,
    places: Vec<u8>,
    archives: Vec<u8>,
    names: Vec<u8>,
    samples: u64,
    captions: u64,
    /// Captions of the sample in the making.
    pending: Vec<u8>,
    pending_count: usize,
    failed: Option<io::Error>,
}

impl<W: Write + Seek> IndexWriter<W> {
    /// Begins at the beginning of `out`.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0; PAGE])?;
        Ok(Self {
            out,
            buffer: Vec::with_capacity(2 * BUFFER),
            written: 0,
            crc: 0,
            bases: Vec::new(),
            starts: Vec::new(),
            places: Vec::new(),
            archives: Vec::new(),
            names: Vec::new(),
            samples: 0,
            captions: 0,
            pending: Vec::new(),
            pending_count: 0,
            failed: None,
        })
    }

    /// Samples so far.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// Records of places so far.
    pub(crate) fn places(&self) -> u64 {
        (self.places.len() / PLACE) as u64
    }

    /// Archives so far.
    pub(crate) fn archives(&self) -> u32 {
        u32::try_from(self.archives.len() / ARCHIVE).unwrap_or(u32::MAX)
    }

    /// Bytes of text so far.
    pub(crate) fn text(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a caption to the sample that [`IndexWriter::add`] will name.
    pub(crate) fn caption(&mut self, caption: &str) {
        push_number(&mut self.pending, caption.len());
        self.pending.extend_from_slice(caption.as_bytes());
        self.pending_count += 1;
    }

    /// Forgets the captions of a sample that was not added.
    pub(crate) fn drop_captions(&mut self) {
        self.pending.clear();
        self.pending_count = 0;
    }

    /// Adds a sample with the captions that were given before; without one it has the caption `""`.
    ///
    /// # Errors
    /// Of the file system; also for a sample with more text than an index can hold.
    pub(crate) fn add(&mut self, name: &str) -> io::Result<()> {
        if self.pending_count == 0 {
            self.caption("");
        }
        if name.len() + self.pending.len() > MOST_TEXT {
            self.drop_captions();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its text is longer than {} MiB", MOST_TEXT >> 20),
            ));
        }
        let start = self.text();
        if self.samples.is_multiple_of(BLOCK) {
            self.bases.extend_from_slice(&start.to_le_bytes());
        }
        let base = self.bases.last_chunk::<8>().copied().unwrap_or_default();
        // A block has at most BLOCK * MOST_TEXT bytes, fewer than 2^32.
        let relative = (start - u64::from_le_bytes(base)) as u32;
        self.starts.extend_from_slice(&relative.to_le_bytes());
        push_number(&mut self.buffer, name.len());
        self.buffer.extend_from_slice(name.as_bytes());
        push_number(&mut self.buffer, self.pending_count);
        self.buffer.extend_from_slice(&self.pending);
        self.captions += self.pending_count as u64;
        self.samples += 1;
        self.drop_captions();
        if self.buffer.len() >= BUFFER
            && let Err(cause) = self.flush()
        {
            let said = io::Error::new(cause.kind(), cause.to_string());
            self.failed = Some(cause);
            return Err(said);
        }
        Ok(())
    }

    /// What the file system said, if that is why [`IndexWriter::add`] failed. Readers of lists keep the words alone,
    /// and blame the sample.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Adds the place of a sample in an archive.
    pub(crate) fn place(&mut self, record: &Record) {
        self.places.extend_from_slice(&record.encode());
    }

    /// Adds an archive, by its name below the root, and what is wrong with it.
    pub(crate) fn archive(&mut self, name: &str, stamp: Stamp, fault: Option<&str>) -> u32 {
        let number = self.archives();
        let (name, fault) = (short(name), short(fault.unwrap_or_default()));
        let record = ArchiveRecord {
            size: stamp.size,
            mtime_ns: stamp.mtime_ns,
            name_start: u32::try_from(self.names.len()).unwrap_or(u32::MAX),
            name_length: name.len() as u16,
            fault_length: fault.len() as u16,
        };
        self.archives.extend_from_slice(&record.encode());
        self.names.extend_from_slice(name.as_bytes());
        self.names.extend_from_slice(fault.as_bytes());
        number
    }

    /// Where the text is now. No archive or place may be added before the writer is rewound to it.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn mark(&mut self) -> io::Result<Mark> {
        self.flush()?;
        Ok(Mark {
            samples: self.samples,
            captions: self.captions,
            text: self.written,
            crc: self.crc,
        })
    }

    /// Takes back every sample since a mark.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn rewind(&mut self, mark: Mark) -> io::Result<()> {
        self.drop_captions();
        self.buffer.clear();
        self.samples = mark.samples;
        self.captions = mark.captions;
        self.written = mark.text;
        self.crc = mark.crc;
        self.starts.truncate(mark.samples as usize * 4);
        self.bases
            .truncate(mark.samples.div_ceil(BLOCK) as usize * 8);
        self.out.seek(SeekFrom::Start(PAGE as u64 + mark.text))?;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest, and gives back what it was written to and the bytes that belong to it.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn finish(mut self, facts: &Facts) -> io::Result<(W, u64)> {
        self.flush()?;
        let facts = serde_json::to_vec(facts)?;
        let mut header = Header {
            samples: self.samples,
            captions: self.captions,
            ..Header::default()
        };
        header.sections[Section::Text as usize] = Extent {
            offset: PAGE as u64,
            length: self.written,
            crc: self.crc,
        };
        let mut at = PAGE as u64 + self.written;
        let rest = [
            (Section::Bases, &self.bases),
            (Section::Starts, &self.starts),
            (Section::Places, &self.places),
            (Section::Archives, &self.archives),
            (Section::Names, &self.names),
            (Section::Facts, &facts),
        ];
        for (section, bytes) in rest {
            self.out.write_all(bytes)?;
            header.sections[section as usize] = Extent {
                offset: at,
                length: bytes.len() as u64,
                crc: crc32c::crc32c(bytes),
            };
            at += bytes.len() as u64;
        }
        header.length = at;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header.encode())?;
        self.out.flush()?;
        Ok((self.out, at))
    }
}

/// The beginning of a text that fits into a record.
fn short(text: &str) -> &str {
    let mut end = text.len().min(u16::MAX.into());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
