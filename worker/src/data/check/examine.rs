//! One sample: is its image there, is it whole, and what does it take to read and decode it?

use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::looks::{Fingerprint, fingerprint};
use crate::data::budget::Budget;
use crate::data::source::{ReadError, Source};
use crate::image::{Format, ends_early};

/// What can be wrong with a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Its image is not there.
    Missing,
    /// Its image cannot be read or decoded.
    Broken,
    /// Its image ends early: what is missing of it is gray or black.
    Truncated,
    /// Its image is very small.
    Tiny,
    /// It has no caption, or empty ones alone.
    Captionless,
    /// Its image is the same file as an earlier one's.
    Duplicate,
    /// Its image looks like an earlier one.
    Lookalike,
}

impl Problem {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Broken,
        Self::Truncated,
        Self::Tiny,
        Self::Captionless,
        Self::Duplicate,
        Self::Lookalike,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Broken => "broken",
            Self::Truncated => "truncated",
            Self::Tiny => "tiny",
            Self::Captionless => "captionless",
            Self::Duplicate => "duplicate",
            Self::Lookalike => "lookalike",
        }
    }
}

/// What was found out about one sample.
pub(super) struct Examined {
    /// What is wrong, with details.
    pub(super) problems: Vec<(Problem, String)>,
    /// Its image, if it could be read.
    pub(super) file: Option<FileFacts>,
    /// How long reading took, whatever came of it.
    pub(super) read: Duration,
}

/// About a file that could be read.
pub(super) struct FileFacts {
    pub(super) bytes: u64,
    /// Beginning of the SHA-256.
    pub(super) hash: u64,
    pub(super) decode: Duration,
    /// If it could be decoded.
    pub(super) picture: Option<PictureFacts>,
}

/// About a picture.
pub(super) struct PictureFacts {
    pub(super) format: Option<Format>,
    pub(super) shorter: usize,
    pub(super) look: Option<Fingerprint>,
}

/// Reads and decodes a sample, within what may be held of pictures at one time. `bytes` is a buffer.
pub(super) fn examine(
    source: &dyn Source,
    sample: usize,
    tiny: usize,
    budget: &Budget,
    bytes: &mut Vec<u8>,
) -> Examined {
    let mut problems = Vec::new();
    let captions = source.captions(sample);
    if captions.iter().all(|caption| caption.trim().is_empty()) {
        problems.push((Problem::Captionless, String::new()));
    }
    let began = Instant::now();
    let result = read(source, sample, bytes);
    let read = began.elapsed();
    let file = match result {
        Ok(()) => Some(look_at(bytes, tiny, budget, &mut problems)),
        Err((problem, detail)) => {
            problems.push((problem, detail));
            None
        }
    };
    Examined {
        problems,
        file,
        read,
    }
}

/// Reads a sample's file, or says what is wrong.
pub(super) fn read(
    source: &dyn Source,
    sample: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), (Problem, String)> {
    match source.read(sample, bytes) {
        Ok(()) => Ok(()),
        Err(ReadError::Io { file, cause }) if cause.kind() == std::io::ErrorKind::NotFound => {
            Err((
                Problem::Missing,
                format!("there is no '{}'", file.display()),
            ))
        }
        Err(error @ (ReadError::Absent { .. } | ReadError::NoArchive { .. })) => {
            Err((Problem::Missing, error.to_string()))
        }
        Err(error) => Err((Problem::Broken, error.to_string())),
    }
}

fn look_at(
    bytes: &[u8],
    tiny: usize,
    budget: &Budget,
    problems: &mut Vec<(Problem, String)>,
) -> FileFacts {
    let digest = Sha256::digest(bytes);
    let hash = digest[..8]
        .iter()
        .fold(0, |hash, &byte| hash << 8 | u64::from(byte));
    let began = Instant::now();
    let decoded = budget.decode(bytes);
    let decode = began.elapsed();
    let picture = match decoded {
        Ok((picture, _share)) => {
            if ends_early(bytes) {
                problems.push((Problem::Truncated, String::new()));
            }
            let (width, height) = (picture.width, picture.height);
            let shorter = width.min(height);
            if shorter < tiny {
                problems.push((Problem::Tiny, format!("{width} x {height} pixels")));
            }
            Some(PictureFacts {
                format: Format::of(bytes),
                shorter,
                look: fingerprint(&picture),
            })
        }
        Err(why) => {
            problems.push((Problem::Broken, why.to_string()));
            None
        }
    };
    FileFacts {
        bytes: bytes.len() as u64,
        hash,
        decode,
        picture,
    }
}
