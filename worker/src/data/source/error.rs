//! Why a data set cannot be opened.

use std::io;
use std::path::PathBuf;

use crate::data::index::IndexError;
use crate::data::npy::NpyError;
use crate::data::pickle::ElementsError;

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
    /// The metadata is no pickled list.
    #[error("{} {cause}", file.display())]
    Elements {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: ElementsError,
    },
    /// The metadata is no such JSON.
    #[error("{} is not read: {what}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A line of the metadata.
    #[error("{}:{line}: {what}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The folder of the images is missing.
    #[error("{}: the folder of the images is missing; check data.root", folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder or file below it cannot be looked at.
    #[error("{}: {cause}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Of the file system.
        cause: io::Error,
    },
    /// The array holds something that is no sample.
    #[error("{}: sample {sample}: {what}", file.display())]
    Sample {
        /// The file.
        file: PathBuf,
        /// Its place in the array, from 0.
        sample: u64,
        /// What is wrong.
        what: String,
    },
    /// There is nothing to train on.
    #[error("{}: holds no samples", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// An archive that has to be whole is not.
    #[error("{} {what}", file.display())]
    Archive {
        /// The archive.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No archive could be read.
    #[error(
        "none of the {count} archives below {} can be read; the first is '{first}', which {what}; check data.root", root.display()
    )]
    NoArchives {
        /// The folder of the archives.
        root: PathBuf,
        /// How many there should be.
        count: usize,
        /// One of them.
        first: String,
        /// What is wrong with it.
        what: String,
    },
    /// `data.root`, `data.metadata` and `data.dataset` do not fit together.
    #[error("{0}")]
    Parts(String),
    /// An index that was asked for, or that is needed, cannot be used.
    #[error("{} {cause}; make it again: rocket-worker data prepare EXPERIMENT", file.display())]
    Index {
        /// The index.
        file: PathBuf,
        /// What is wrong.
        cause: IndexError,
    },
    /// A large set without an index.
    #[error(
        "{}: holds more samples than every rank should read at its start, and has no index yet; make it once: rocket-worker data prepare EXPERIMENT", list.display()
    )]
    NotPrepared {
        /// The list.
        list: PathBuf,
    },
    /// The index cannot be written.
    #[error("cannot write the index '{}': {cause}; --output names another place", file.display())]
    Write {
        /// The index.
        file: PathBuf,
        /// Of the file system.
        cause: io::Error,
    },
    /// The system refused a thread.
    #[error("a thread cannot be started: {cause}")]
    Thread {
        /// Of the system.
        cause: io::Error,
    },
    /// A file system does not answer.
    #[error(
        "{}: nothing came of it for {seconds} s (data.read_timeout_seconds): its file system does not answer; is the mount alive?", file.display()
    )]
    Stalled {
        /// What was being read.
        file: PathBuf,
        /// For how long.
        seconds: u64,
    },
}
