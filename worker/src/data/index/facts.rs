//! What an index says about itself.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Size and time of a file, by which a change is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Stamp {
    /// That of a file or folder as it is now.
    ///
    /// # Errors
    /// Of the file system.
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&std::fs::Metadata> for Stamp {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        }
    }
}

/// A list of samples that an index holds, or a part of a joined one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFacts {
    /// Format, by its name in an experiment.
    pub dataset: String,
    /// Number of the first of its samples.
    pub first: u64,
    /// How many there are.
    pub samples: u64,
    /// Number of its first record of a place, if its images lie in archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub places: Option<u64>,
    /// What was read, by its name in the part's list, with what it was then: the list itself (an empty
    /// name), or folders below the root.
    pub sources: Vec<(String, Stamp)>,
    /// The list of archives, where it is no file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pattern: String,
}

/// What an index says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who wrote it.
    pub program: String,
    /// Its lists, in order.
    pub parts: Vec<PartFacts>,
    /// Samples without an image in their archive.
    pub absent: u64,
}
