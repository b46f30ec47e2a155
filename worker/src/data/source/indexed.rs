//! A data set by its index.

use std::path::PathBuf;
use std::time::Duration;

use super::Part;
use super::Source;
use super::read::{Member, Place, ReadError, Reader};
use super::watch::Stalled;
use super::yfcc::NOT_THERE;
use crate::data::index::Index;

/// A data set by its index: names and captions from memory that all processes share, images from their files
/// or archives.
pub struct Indexed {
    index: Index,
    parts: Vec<Images>,
    reader: Reader,
    file: PathBuf,
}

/// Where the images of a part are.
struct Images {
    first: u64,
    root: PathBuf,
    places: Option<u64>,
}

impl Indexed {
    /// The data set of an index that belongs to `parts`. A read may take as long as `limit`. `file` is named
    /// where the index turns out to be damaged.
    #[must_use]
    pub fn new(index: Index, parts: &[Part], limit: Duration, file: PathBuf) -> Self {
        let parts = index
            .facts()
            .parts
            .iter()
            .zip(parts)
            .map(|(facts, part)| Images {
                first: facts.first,
                root: part.root.clone(),
                places: facts.places,
            })
            .collect();
        Self {
            index,
            parts,
            reader: Reader::new(limit),
            file,
        }
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn damaged(&self, sample: usize) -> ReadError {
        ReadError::content(
            &self.file,
            format!(
                "the index is damaged at sample {sample}; make it again: rocket-worker data prepare EXPERIMENT"
            ),
        )
    }
}

impl Source for Indexed {
    fn len(&self) -> usize {
        usize::try_from(self.index.len()).unwrap_or(usize::MAX)
    }

    fn captions(&self, sample: usize) -> Vec<&str> {
        // The place of such a sample is an error, so that it is not trained on.
        self.index
            .text(sample)
            .map_or_else(|| vec![""], |(_, captions)| captions)
    }

    fn place(&self, sample: usize) -> Result<Place, ReadError> {
        let damaged = || self.damaged(sample);
        let (name, _) = self.index.text(sample).ok_or_else(damaged)?;
        let number = sample as u64;
        let part = self.parts.partition_point(|part| part.first <= number);
        let part = part.checked_sub(1).map(|at| &self.parts[at]);
        let part = part.ok_or_else(damaged)?;
        let Some(first) = part.places else {
            return Ok(Place::whole(part.root.join(name)));
        };
        let record = self
            .index
            .place(first + (number - part.first))
            .ok_or_else(damaged)?;
        let archive = self.index.archive(record.archive).ok_or_else(damaged)?;
        let file = part.root.join(archive.name);
        if archive.fault == Some(NOT_THERE) {
            return Err(ReadError::NoArchive { file });
        }
        if let Some(fault) = archive.fault {
            return Err(ReadError::content(&file, format!("the archive {fault}")));
        }
        if record.packed == 0 {
            let name = name.to_owned();
            return Err(ReadError::Absent { file, name });
        }
        Ok(Place {
            file,
            member: Some(Member {
                offset: record.offset,
                packed: record.packed,
                raw: record.raw,
                method: record.method,
                slack: record.slack,
                stamp: archive.stamp,
            }),
        })
    }

    fn name(&self, sample: usize) -> String {
        match self.index.name(sample) {
            Some(name) => name.to_owned(),
            None => format!("sample {sample}"),
        }
    }

    fn read(&self, sample: usize, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        self.reader.read(&self.place(sample)?, bytes)
    }

    fn stalled(&self) -> Option<Stalled> {
        self.reader.stalled()
    }
}
