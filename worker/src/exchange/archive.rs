//! The zip file that torch.save writes: `<name>/data.pkl`, `<name>/data/<key>`, stored without
//! compression (torch's `caffe2/serialize/inline_container.h` describes it).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use zip::{CompressionMethod, ZipArchive};

use super::{Result, refuse};

/// First bytes of a zip file.
const ZIP: &[u8] = b"PK\x03\x04";
/// First bytes of a file of torch before 1.6: the pickled magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// The pickle describes tensors and holds none: one of this size is none of torch's.
const MOST_PICKLE: u64 = 1 << 30;
/// Bytes that are read and summed at a time.
const CHUNK: usize = 1 << 22;

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
struct Record {
    offset: u64,
    size: u64,
    /// 0 where torch was told not to compute it.
    crc32: u32,
    /// Neither compressed nor encrypted, as torch.save writes it.
    stored: bool,
}

/// An open file of torch.save.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    records: BTreeMap<String, Record>,
}

/// Whether a file begins as a zip file does.
pub(super) fn is_zip(path: &Path) -> Result<bool> {
    let mut head = [0; 4];
    let file = open(path)?;
    Ok(file.read_exact_at(&mut head, 0).is_ok() && head == ZIP)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| cannot_read(path, error))
}

fn cannot_read(path: &Path, error: std::io::Error) -> Error {
    Error::io("read", path, error).with_kind(ExitKind::Checkpoint)
}

impl Archive {
    /// Opens a file and finds its records.
    ///
    /// # Errors
    /// If it cannot be read, or is not what torch.save writes since torch 1.6.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let length = file.metadata().map_err(|e| cannot_read(path, e))?.len();
        let mut head = vec![0; usize::try_from(length.min(LEGACY.len() as u64)).unwrap_or(0)];
        file.read_exact_at(&mut head, 0)
            .map_err(|error| cannot_read(path, error))?;
        if head == LEGACY {
            return Err(refuse(
                path,
                "is in torch's format from before version 1.6, which is not read",
            )
            .hint("in Python, torch.load it and torch.save it again"));
        }
        if !head.starts_with(ZIP) {
            return Err(refuse(
                path,
                "is no file of torch.save: it does not begin as a zip file",
            ));
        }
        let broken = |what: &dyn std::fmt::Display| {
            refuse(path, format!("is cut short or damaged: {what}"))
                .hint("copy it again from where it was written")
        };
        let mut zip = ZipArchive::new(BufReader::new(&file)).map_err(|error| broken(&error))?;
        let mut records = BTreeMap::new();
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(|error| broken(&error))?;
            let name = entry.name().to_owned();
            let record = Record {
                offset: entry
                    .data_start()
                    .ok_or_else(|| broken(&"a record has no place"))?,
                size: entry.size(),
                crc32: entry.crc32(),
                stored: entry.compression() == CompressionMethod::Stored && !entry.encrypted(),
            };
            let end = record.offset.checked_add(entry.compressed_size());
            if end.is_none_or(|end| end > length) {
                return Err(broken(&format!("'{name}' would end after the file's end")));
            }
            records.insert(name, record);
        }
        drop(zip);
        let prefix = records
            .keys()
            .find_map(|name| name.strip_suffix("data.pkl"))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('/'))
            .map(str::to_owned)
            .ok_or_else(|| {
                refuse(
                    path,
                    "is a zip file without 'data.pkl', so not one of torch.save",
                )
            })?;
        if records.contains_key(&format!("{prefix}constants.pkl")) {
            return Err(refuse(path, "is a TorchScript program, not a checkpoint")
                .hint("in Python, torch.save the state_dict() of its model"));
        }
        if let Some((name, _)) = records.iter().find(|(_, record)| !record.stored) {
            return Err(refuse(
                path,
                format!("holds '{name}' compressed or encrypted; torch.save stores it as it is"),
            ));
        }
        let records = records
            .into_iter()
            .filter_map(|(name, record)| Some((name.strip_prefix(&prefix)?.to_owned(), record)))
            .collect();
        let archive = Self {
            path: path.to_owned(),
            file,
            records,
        };
        if archive.records.contains_key("byteorder") && archive.bytes("byteorder")? != b"little" {
            return Err(refuse(
                path,
                "was written on a big-endian machine, which is not read",
            ));
        }
        Ok(archive)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of a record in bytes.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.records.get(name).map(|record| record.size)
    }

    /// A small record as a whole.
    ///
    /// # Errors
    /// As [`Archive::read`], or if it is no small one.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let size = self.size(name).unwrap_or(0);
        if size > MOST_PICKLE {
            return Err(refuse(
                &self.path,
                format!("has a '{name}' of {size} bytes, which is not read"),
            ));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read(name, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `into`, which is as long as the record, and compares the checksum.
    ///
    /// # Errors
    /// If the record is absent, cannot be read, or is not what was written.
    pub(super) fn read(&self, name: &str, into: &mut [u8]) -> Result<()> {
        let record = self
            .records
            .get(name)
            .filter(|record| record.size == into.len() as u64)
            .ok_or_else(|| refuse(&self.path, format!("lacks the record '{name}'")))?;
        let mut sum = crc32fast::Hasher::new();
        let mut offset = record.offset;
        for chunk in into.chunks_mut(CHUNK) {
            self.file
                .read_exact_at(chunk, offset)
                .map_err(|error| cannot_read(&self.path, error))?;
            sum.update(chunk);
            offset += chunk.len() as u64;
        }
        if record.crc32 != 0 && sum.finalize() != record.crc32 {
            return Err(refuse(
                &self.path,
                format!("is damaged: the checksum of '{name}' is wrong"),
            )
            .hint("copy it again from where it was written"));
        }
        Ok(())
    }
}
