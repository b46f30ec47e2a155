//! What the trainer reads: the npy of dicts with names and captions of the images that are there; and
//! what people read: the rows that have none.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};

use super::journal::{Fate, Journal};
use super::list::{List, Pairs};
use super::shelf;
use crate::data::npy_write::{DictsWriter, Field};

/// Writes `<set>.npy` and `failed.tsv` (row, address, cause; rows from 0) into `folder`, aside first.
pub(super) fn write(folder: &Path, list: &Path, pairs: Pairs, journal: &Journal) -> Result<()> {
    let (npy, out) = Aside::create(npy_path(folder, pairs))?;
    let (failed, mut failures) = Aside::create(failed_path(folder))?;
    let keys: &[&'static str] = match pairs {
        Pairs::Cc3m => &["image_id", "captions"],
        Pairs::Cc12m => &["image_name", "image_id", "captions"],
    };
    let samples = journal.tally().kept;
    let mut dicts = DictsWriter::new(out, samples, keys).map_err(|error| npy.error(error))?;
    let mut rows = List::open(list, pairs)?;
    let mut row = 0;
    while let Some(read) = rows.next_row()? {
        match (journal.fate(row), read) {
            (Fate::Kept, Ok(read)) => {
                let name = shelf::name(row);
                let captions = [read.caption.as_str()];
                let (name, captions) = (Field::Text(&name), Field::Texts(&captions));
                let id = Field::Int(i64::try_from(row).unwrap_or(i64::MAX));
                match pairs {
                    Pairs::Cc3m => dicts.add(&[name, captions]),
                    Pairs::Cc12m => dicts.add(&[name, id, captions]),
                }
                .map_err(|error| npy.error(error))?;
            }
            (Fate::Failed(cause), read) => {
                let url = read.map(|read| read.url).unwrap_or_default();
                let url: String = url.chars().filter(|c| !c.is_control()).collect();
                writeln!(failures, "{row}\t{url}\t{cause}").map_err(|error| failed.error(error))?;
            }
            _ => {}
        }
        row += 1;
    }
    let out = dicts.finish().map_err(|error| npy.error(error))?;
    npy.publish(out)?;
    failed.publish(failures)
}

/// The metadata that the trainer reads.
pub(super) fn npy_path(folder: &Path, pairs: Pairs) -> PathBuf {
    folder.join(format!("{}.npy", pairs.name()))
}

/// The rows that have no image.
pub(super) fn failed_path(folder: &Path) -> PathBuf {
    folder.join("failed.tsv")
}

/// A file that is written beside its place and then takes it.
struct Aside {
    path: PathBuf,
    aside: PathBuf,
}

impl Aside {
    fn create(path: PathBuf) -> Result<(Self, BufWriter<File>)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.tmp"));
        let file = File::create(&aside).map_err(|error| Error::io("create", &aside, error))?;
        let writer = BufWriter::with_capacity(1 << 18, file);
        Ok((Self { path, aside }, writer))
    }

    fn error(&self, error: io::Error) -> Error {
        Error::io("write", &self.path, error)
    }

    fn publish(self, writer: BufWriter<File>) -> Result<()> {
        let file = writer
            .into_inner()
            .map_err(|error| self.error(error.into_error()))?;
        file.sync_all().map_err(|error| self.error(error))?;
        fs::rename(&self.aside, &self.path).map_err(|error| self.error(error))?;
        atomic::sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}
