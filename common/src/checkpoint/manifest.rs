//! `manifest.json` of a checkpoint.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::sha256_hex;

/// Where in the data the next step begins: one position for all ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Epochs done.
    pub epoch: u64,
    /// Samples of the current epoch's permutation that were used, over all ranks.
    pub offset: u64,
}

/// A file of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// What it is: `model`, `optim`, `state`, ...
    pub name: String,
    /// Version of its content's format.
    pub version: u32,
    /// File within the checkpoint's directory.
    pub file: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// What the trainer says about a checkpoint. World size, threads and processor are what bit-identical
/// resumption depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Optimiser steps done.
    pub step: u64,
    /// Where the data goes on.
    pub position: Position,
    /// Attempt that wrote it.
    pub attempt: u32,
    /// Number of ranks.
    pub world_size: u32,
    /// Torch's threads per rank.
    pub threads: usize,
    /// Kind of processor (and of GPU).
    pub processor: String,
    /// Versions of what matters: `rocket`, `libtorch`, ...
    pub versions: BTreeMap<String, String>,
    /// Scores, fractions of 1. Values that are not finite are left out.
    pub metrics: BTreeMap<String, f64>,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file's format, [`Manifest::SCHEMA`].
    pub schema: u32,
    /// When it was published.
    pub created: Timestamp,
    /// What the trainer says.
    #[serde(flatten)]
    pub info: Info,
    /// The files.
    pub sections: Vec<Section>,
    /// Written last, so that a manifest cut short is never taken for a whole one.
    pub complete: bool,
    /// SHA-256 of this manifest with this field empty: the sections' checksums do not cover it.
    pub digest: String,
}

impl Manifest {
    /// The schema that this version writes, and the newest that it reads.
    pub const SCHEMA: u32 = 1;

    /// A sealed manifest of now.
    #[must_use]
    pub fn new(mut info: Info, sections: Vec<Section>) -> Self {
        info.metrics.retain(|_, value| value.is_finite());
        let mut this = Self {
            schema: Self::SCHEMA,
            created: Timestamp::now(),
            info,
            sections,
            complete: true,
            digest: String::new(),
        };
        this.seal();
        this
    }

    /// Sets the digest after a change.
    pub fn seal(&mut self) {
        self.digest = self.expected_digest();
    }

    /// The digest that the content should have.
    #[must_use]
    pub fn expected_digest(&self) -> String {
        let mut bare = self.clone();
        bare.digest.clear();
        // A manifest holds nothing that JSON cannot say (its keys are texts).
        sha256_hex(&serde_json::to_vec(&bare).unwrap_or_default())
    }

    /// The section of a name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Bytes of all sections.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sections.iter().map(|section| section.bytes).sum()
    }
}
