//! Why a set cannot be prepared, each as a sentence that says what to do.

use std::path::{Path, PathBuf};

use rocket_common::exit::ExitKind;

/// Why a set cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A set without a recipe.
    #[error("{0}")]
    Set(String),
    /// A file or folder cannot be read or written.
    #[error("{}: cannot {what}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A source that is a file, but no archive.
    #[error(
        "{}: this is no archive that can be read (.zip, .tar, .tar.gz, .tgz); name one, or the folder that holds the set's files",
        .0.display()
    )]
    NoSource(PathBuf),
    /// A file within an archive.
    #[error("{}: '{member}' cannot be read: {what}", container.display())]
    Member {
        /// The archive or folder.
        container: PathBuf,
        /// Path within it.
        member: String,
        /// Why.
        what: String,
    },
    /// A file of the set is in no archive.
    #[error("{}: {what}; '{set}' is made of {from}", place.display())]
    Missing {
        /// The source.
        place: PathBuf,
        /// The set.
        set: &'static str,
        /// What is missing, as a sentence.
        what: String,
        /// What belongs into the source.
        from: &'static str,
    },
    /// A file that describes the images says what cannot be.
    #[error("{what}: {problem}")]
    Form {
        /// The file.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The destination is in use.
    #[error("{}: {problem}", dest.display())]
    Dest {
        /// The folder.
        dest: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl PrepareError {
    pub(super) fn io(what: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            what,
            cause,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::Set(_) | Self::Dest { .. } => ExitKind::Usage,
            _ => ExitKind::Data,
        }
    }
}

impl From<PrepareError> for rocket_common::error::Error {
    fn from(error: PrepareError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
