//! A run as one file, for whoever is to look at it or to reproduce it elsewhere.
//!
//! A tar archive under zstd. Its first member, [`INDEX`], names every other one in its order, with length
//! and SHA-256, so that whoever reads it knows at each byte what must come and how much of it.
//!
//! ```text
//! rocket-run.json        [Index]
//! commit.bundle          the pinned commit with its history: 'git fetch' takes it, too
//! run/run.json  run/experiment.yaml  run/DONE  run/metrics.jsonl  run/events/...  run/eval/...
//! run/checkpoints/step-00001200/...    the chosen one
//! ```

mod hashing;
mod read;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rocket_common::run_dir::Machine;
use serde::{Deserialize, Serialize};

pub(crate) use read::{MOST, peek, take_in};
pub(crate) use write::{Choice, write};

/// Name of the first member.
const INDEX: &str = "rocket-run.json";
/// Name of the pinned commit's member.
const BUNDLE: &str = "commit.bundle";
/// Folder of the members that are the run's directory.
const RUN: &str = "run";
/// What the index calls itself.
const FORMAT: &str = "rocket-run";
/// Version of the format.
const SCHEMA: u32 = 1;

/// The first member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    /// [`FORMAT`].
    format: String,
    /// Version of the format.
    schema: u32,
    /// Version of the rocket that wrote it.
    rocket: String,
    /// The run.
    run: String,
    /// Its pinned commit.
    commit: String,
    /// Its directory.
    dir: PathBuf,
    /// Step of the checkpoint that is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<u64>,
    /// What computed, if a checkpoint says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<Machine>,
    /// Git object ids, by path, of the sources that the trainer was built from; empty if not known.
    #[serde(default)]
    sources: BTreeMap<String, String>,
    /// The other members, in their order.
    members: Vec<Member>,
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// Where it lies in the archive.
    path: String,
    /// Length.
    bytes: u64,
    /// SHA-256 in hexadecimal.
    sha256: String,
}
