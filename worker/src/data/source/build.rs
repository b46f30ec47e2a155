//! From lists to an index.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocket_common::experiment::Dataset;

use super::Part;
use super::scan::Journal;
use super::watch::Reads;
use super::{SourceError, coco, conceptual, filelist, folder, redcaps, webdataset, yfcc};
use crate::data::index::{Facts, IndexWriter, PartFacts, Stamp};

/// What [`Progress`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of the list.
    Bytes,
    /// Archives.
    Archives,
}

/// How far an index in the making is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How much of it.
    pub done: u64,
    /// Of how much; 0 if that is not known.
    pub total: u64,
    /// Of what.
    pub unit: Unit,
    /// Samples so far.
    pub samples: u64,
}

/// How an index is made, and what came of it.
pub struct Building<'a> {
    /// Is told how far it is.
    pub progress: Option<&'a mut dyn FnMut(Progress)>,
    /// Threads that look into archives.
    pub threads: usize,
    /// Knows what is being read.
    pub(super) reads: Arc<Reads>,
    /// The index.
    pub(super) index: PathBuf,
    pub(super) journal: Option<Journal>,
    /// What was read beside the list, with what it was then.
    pub(super) sources: Vec<(String, Stamp)>,
    /// Samples without an image.
    pub(super) absent: u64,
    /// Archives that cannot be read.
    pub(super) faults: u64,
    /// The first of them, with what is wrong.
    pub(super) faulty: Vec<String>,
}

impl<'a> Building<'a> {
    /// For the index that will have this name.
    #[must_use]
    pub fn new(index: &Path) -> Self {
        Self {
            progress: None,
            threads: 16,
            reads: Reads::unwatched(),
            index: index.to_owned(),
            journal: None,
            sources: Vec::new(),
            absent: 0,
            faults: 0,
            faulty: Vec::new(),
        }
    }

    /// Tells how far it is.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a mut dyn FnMut(Progress)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Notes what is being read.
    #[must_use]
    pub fn with_reads(mut self, reads: &Arc<Reads>) -> Self {
        self.reads = Arc::clone(reads);
        self
    }

    pub(super) fn report(
        &mut self,
        what: &'static str,
        done: u64,
        total: u64,
        unit: Unit,
        samples: u64,
    ) {
        if let Some(progress) = &mut self.progress {
            progress(Progress {
                what,
                done,
                total,
                unit,
                samples,
            });
        }
    }

    pub(super) fn unwritten(&self, cause: io::Error) -> SourceError {
        SourceError::Write {
            file: self.index.clone(),
            cause,
        }
    }

    /// For a journal that makes no sense although its checksums are right.
    pub(super) fn damaged_journal(&self) -> SourceError {
        SourceError::Archive {
            file: journal_of(&self.index),
            what: "is a damaged journal of an interrupted attempt; remove it".to_owned(),
        }
    }
}

/// What came of making an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Samples in it.
    pub samples: u64,
    /// Samples whose image is in no archive; each counts as unreadable in training.
    pub absent: u64,
    /// Archives that cannot be read.
    pub faults: u64,
    /// The first of them, with what is wrong.
    pub faulty: Vec<String>,
    /// Archives that an interrupted attempt had looked into already.
    pub known: usize,
}

/// Makes the index of an experiment's lists: aside, and renamed once it is whole. What it finds in archives is
/// kept in a journal beside it until then, so that an interrupted attempt goes on where it was.
///
/// # Errors
/// [`SourceError`].
pub fn write_index(
    parts: &[Part],
    path: &Path,
    mut building: Building<'_>,
) -> Result<Built, SourceError> {
    let unwritten = |cause| SourceError::Write {
        file: path.to_owned(),
        cause,
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(unwritten)?;
    }
    let mut known = 0;
    if parts.iter().any(Part::in_archives) {
        let key = key_of(parts, &building.reads)?;
        let journal = Journal::open(&journal_of(path), &key).map_err(unwritten)?;
        known = journal.known();
        building.journal = Some(journal);
    }
    let aside = suffixed(path, &format!(".{}.new", std::process::id()));
    let made = (|| {
        let file = File::create(&aside).map_err(unwritten)?;
        let (out, length) = build(
            parts,
            BufWriter::with_capacity(1 << 16, file),
            &mut building,
        )?;
        let file = out.into_inner().map_err(|error| unwritten(error.into()))?;
        file.set_len(length).map_err(unwritten)?;
        file.sync_all().map_err(unwritten)?;
        std::fs::rename(&aside, path).map_err(unwritten)
    })();
    if let Err(error) = made {
        // What is left of it is of no use.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    if let Some(journal) = building.journal.take() {
        journal.remove();
    }
    let index = crate::data::index::Index::open(path).map_err(|cause| SourceError::Index {
        file: path.to_owned(),
        cause,
    })?;
    Ok(Built {
        samples: index.len(),
        absent: building.absent,
        faults: building.faults,
        faulty: building.faulty,
        known,
    })
}

/// A path with more at the end of its name.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where an attempt to make an index keeps what it found.
fn journal_of(index: &Path) -> PathBuf {
    suffixed(index, ".partial")
}

/// What a journal is about: the lists as they are now.
fn key_of(parts: &[Part], reads: &Reads) -> Result<String, SourceError> {
    let mut key = "rocket journal 2".to_owned();
    for part in parts {
        let stamp = list_stamp(part, reads)?;
        key.push_str(&format!(
            " {} {:?} {:?} {stamp:?}",
            part.dataset.name(),
            part.root,
            part.list
        ));
    }
    Ok(key)
}

/// The list as it is now, where it is a file.
pub(super) fn list_stamp(part: &Part, reads: &Reads) -> Result<Option<Stamp>, SourceError> {
    if part.dataset == Dataset::Webdataset || part.list.as_os_str().is_empty() {
        return Ok(None);
    }
    let _reading = reads.begin(&part.list);
    Stamp::of(&part.list)
        .map(Some)
        .map_err(|cause| SourceError::Unreadable {
            file: part.list.clone(),
            cause,
        })
}

/// Writes the index of the lists into `out`, and says how many bytes of it belong to it.
///
/// # Errors
/// [`SourceError`].
pub(super) fn build<W: Write + Seek>(
    parts: &[Part],
    out: W,
    building: &mut Building<'_>,
) -> Result<(W, u64), SourceError> {
    let mut writer = IndexWriter::new(out).map_err(|cause| building.unwritten(cause))?;
    let mut facts = Facts {
        program: concat!("rocket-worker ", env!("CARGO_PKG_VERSION")).to_owned(),
        parts: Vec::new(),
        absent: 0,
    };
    for part in parts {
        let first = writer.samples();
        let places = part.in_archives().then(|| writer.places());
        building.sources.clear();
        // Before it is read, so that a change meanwhile is noticed.
        if let Some(stamp) = list_stamp(part, &building.reads)? {
            building.sources.push((String::new(), stamp));
        }
        if let Err(error) = read_part(part, &mut writer, building) {
            // A disk that is full is no fault of the sample at which it filled.
            let cause = writer.take_failure();
            return Err(cause.map_or(error, |cause| building.unwritten(cause)));
        }
        let samples = writer.samples() - first;
        if samples == 0 {
            return Err(SourceError::Empty {
                file: part.shown().to_owned(),
            });
        }
        let pattern = match part.dataset {
            Dataset::Webdataset => part.list.to_string_lossy().into_owned(),
            _ => String::new(),
        };
        facts.parts.push(PartFacts {
            dataset: part.dataset.name().to_owned(),
            first,
            samples,
            places,
            sources: std::mem::take(&mut building.sources),
            pattern,
        });
    }
    facts.absent = building.absent;
    writer
        .finish(&facts)
        .map_err(|cause| building.unwritten(cause))
}

fn read_part<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    match part.dataset {
        Dataset::Cc3m => conceptual::read(part, "image_id", writer, building)?,
        Dataset::Cc12m => conceptual::read(part, "image_name", writer, building)?,
        Dataset::Yfcc15m => yfcc::read(part, writer, building)?,
        Dataset::Coco => coco::read(part, writer, building)?,
        Dataset::Redcaps => redcaps::read(part, writer, building)?,
        Dataset::Webdataset => webdataset::read(part, writer, building)?,
        Dataset::Imagefolder => folder::read(part, writer, building)?,
        Dataset::Filelist => filelist::read(part, writer, building)?,
        Dataset::MergedOpendata => {
            return Err(SourceError::Parts(
                "a list within merged_opendata cannot be merged_opendata itself".to_owned(),
            ));
        }
    }
    if part.dataset != Dataset::Webdataset && !part.root.is_dir() {
        return Err(SourceError::NoFolder {
            folder: part.root.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_fault_of_a_sample() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("list.tsv");
        // More than is gathered before it is written.
        let lines = format!("a.jpg\t{}\n", "x".repeat(1000)).repeat(2000);
        std::fs::write(&list, lines).expect("a list");
        let part = Part {
            dataset: Dataset::Filelist,
            root: folder.path().to_owned(),
            list,
        };
        let full = File::options().write(true).open("/dev/full");
        let out = BufWriter::with_capacity(1 << 16, full.expect("Linux has it"));
        let mut building = Building::new(Path::new("list.tsv.index"));
        let error = build(&[part], out, &mut building).expect_err("there is no room");
        insta::assert_snapshot!(error.to_string(), @"cannot write the index 'list.tsv.index': No space left on device (os error 28); --output names another place");
    }
}
