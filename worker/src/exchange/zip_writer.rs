//! Writes zip files as torch.save does: every record stored, its data at a multiple of 64 bytes, sizes and
//! checksums known beforehand. By hand, since what the 'zip' crate (7.4) writes for a record that begins
//! beyond 4 GiB is not what torch's reader, or the standard, expects: sizes in the 64-bit field without the
//! marks in the 32-bit ones. (PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3.)

use std::io::{self, Write};

/// torch.save puts tensors at multiples of it, so that they can be mapped.
const ALIGNMENT: u64 = 64;
/// What stands in a 32-bit field whose value is in the 64-bit field of the extra data.
const IN_ZIP64: u32 = u32::MAX;
/// Version of the standard that 64-bit fields need.
const VERSION: u16 = 45;
/// 1980-01-01, the first day that the format has; no file differs by when it was written.
const DATE: u16 = 0x21;
/// The tag of torch's own padding.
const PADDING: u16 = 0x4246;

/// A zip file that is being written.
#[derive(Debug)]
pub(super) struct ZipFile<W: Write> {
    out: W,
    at: u64,
    central: Vec<u8>,
    records: u64,
}

/// A value's 32-bit field; one that does not fit goes to `zip64`.
fn field(value: u64, zip64: &mut Vec<u8>) -> [u8; 4] {
    match u32::try_from(value) {
        Ok(small) if small != IN_ZIP64 => small.to_le_bytes(),
        _ => {
            zip64.extend(value.to_le_bytes());
            IN_ZIP64.to_le_bytes()
        }
    }
}

/// The extra data of 64-bit fields, in the standard's order.
fn zip64_extra(values: &[u8]) -> Vec<u8> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut extra = 1u16.to_le_bytes().to_vec();
    extra.extend((values.len() as u16).to_le_bytes());
    extra.extend(values);
    extra
}

impl<W: Write> ZipFile<W> {
    /// Begins a file at the beginning of `out`.
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            at: 0,
            central: Vec::new(),
            records: 0,
        }
    }

    /// Writes a record under a short name.
    ///
    /// # Errors
    /// If `out` fails.
    pub(super) fn record(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let start = self.at;
        let crc32 = crc32fast::hash(data);
        let size = data.len() as u64;
        let mut zip64 = Vec::new();
        let compressed = field(size, &mut zip64);
        let uncompressed = field(size, &mut zip64);
        let mut extra = zip64_extra(&zip64);
        let head = 30 + name.len() as u64 + extra.len() as u64 + 4;
        let padding = (start + head).next_multiple_of(ALIGNMENT) - (start + head);
        extra.extend(PADDING.to_le_bytes());
        extra.extend((padding as u16).to_le_bytes());
        extra.resize(extra.len() + padding as usize, 0);

        let mut common = Vec::new();
        // Version, flags (names are UTF-8), stored, time, date.
        for word in [VERSION, 1 << 11, 0, 0, DATE] {
            common.extend(word.to_le_bytes());
        }
        common.extend(crc32.to_le_bytes());
        common.extend(compressed);
        common.extend(uncompressed);
        common.extend((name.len() as u16).to_le_bytes());
        self.write(b"PK\x03\x04")?;
        self.write(&common)?;
        self.write(&(extra.len() as u16).to_le_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&extra)?;
        self.write(data)?;

        let offset = field(start, &mut zip64);
        let extra = zip64_extra(&zip64);
        self.central.extend(b"PK\x01\x02");
        self.central.extend(VERSION.to_le_bytes());
        self.central.extend(common);
        self.central.extend((extra.len() as u16).to_le_bytes());
        // No comment, first disk, no attributes of either kind.
        self.central.extend([0; 10]);
        self.central.extend(offset);
        self.central.extend(name.as_bytes());
        self.central.extend(extra);
        self.records += 1;
        Ok(())
    }

    /// Writes the directory, and gives `out` back.
    ///
    /// # Errors
    /// If `out` fails.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let (start, directory) = (self.at, std::mem::take(&mut self.central));
        self.write(&directory)?;
        let size = directory.len() as u64;
        let count = u16::try_from(self.records).unwrap_or(u16::MAX);
        let mut zip64 = Vec::new();
        let (short_size, short_start) = (field(size, &mut zip64), field(start, &mut zip64));
        if count == u16::MAX || !zip64.is_empty() {
            let end = self.at;
            let mut long = b"PK\x06\x06".to_vec();
            long.extend(44u64.to_le_bytes());
            long.extend(VERSION.to_le_bytes());
            long.extend(VERSION.to_le_bytes());
            long.extend([0; 8]);
            for value in [self.records, self.records, size, start] {
                long.extend(value.to_le_bytes());
            }
            long.extend(b"PK\x06\x07\0\0\0\0");
            long.extend(end.to_le_bytes());
            long.extend(1u32.to_le_bytes());
            self.write(&long)?;
        }
        let mut short = b"PK\x05\x06\0\0\0\0".to_vec();
        short.extend(count.to_le_bytes());
        short.extend(count.to_le_bytes());
        short.extend(short_size);
        short.extend(short_start);
        short.extend([0; 2]);
        self.write(&short)?;
        Ok(self.out)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
