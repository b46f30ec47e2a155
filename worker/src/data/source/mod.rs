//! Where samples come from.

mod cc;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocket_common::experiment::{Data, Dataset};

pub use cc::ConceptualCaptions;

use super::npy::NpyError;

/// The bytes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file that holds them.
    pub file: PathBuf,
    /// Offset and length; the whole file if absent.
    pub range: Option<(u64, u64)>,
}

impl Place {
    /// Reads the bytes.
    ///
    /// # Errors
    /// Of the file system.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let Some((offset, length)) = self.range else {
            return std::fs::read(&self.file);
        };
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A set of images with captions, read by many threads.
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All captions of a sample; never empty (a sample without one has the caption `""`).
    fn captions(&self, sample: usize) -> Vec<&str>;

    /// Where the image is.
    fn place(&self, sample: usize) -> Place;

    /// What people call the sample: its file name or id.
    fn name(&self, sample: usize) -> String;
}

/// Why a data set cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The metadata cannot be read.
    #[error("{}: cannot read the metadata: {cause}; check data.metadata", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Of the file system.
        cause: io::Error,
    },
    /// The metadata is no npy file of objects.
    #[error("{} {cause}", file.display())]
    Npy {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: NpyError,
    },
    /// The folder of the images is missing.
    #[error("{}: the folder of the images is missing; check data.root", folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The array holds something that is no sample.
    #[error("{}: sample {sample}: {what}", file.display())]
    Sample {
        /// The file.
        file: PathBuf,
        /// Its place in the array, from 0.
        sample: usize,
        /// What is wrong.
        what: String,
    },
    /// A format that an experiment can name, and this version cannot read.
    #[error("data.dataset {0} is not read by this version, which reads cc3m and cc12m")]
    NotRead(&'static str),
    /// There is nothing to train on.
    #[error("{}: holds no samples", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
}

/// Opens the data set that an experiment names.
///
/// # Errors
/// [`SourceError`].
pub fn open(data: &Data) -> Result<Arc<dyn Source>, SourceError> {
    let key = match data.dataset {
        Dataset::Cc3m => "image_id",
        Dataset::Cc12m => "image_name",
        other => return Err(SourceError::NotRead(other.name())),
    };
    Ok(Arc::new(ConceptualCaptions::open(
        &data.metadata,
        &data.root,
        key,
    )?))
}

fn read_file(file: &Path) -> Result<Vec<u8>, SourceError> {
    std::fs::read(file).map_err(|cause| SourceError::Unreadable {
        file: file.to_owned(),
        cause,
    })
}
