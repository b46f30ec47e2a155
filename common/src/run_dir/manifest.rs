//! `run.json`: what was submitted. Written once, never changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::{Error, Result};
use crate::exit::ExitKind;
use crate::experiment::BackendKind;

/// What was submitted. Fields that a later version adds are ignored by this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file's format, [`Manifest::SCHEMA`].
    pub schema: u32,
    /// `<name>-<8 hex of the pin commit>`, perhaps with `-2`, `-3`.
    pub run_id: String,
    /// Name of the experiment.
    pub name: String,
    /// The pin: full id of the commit that holds the code and the resolved experiment.
    pub commit: String,
    /// The commit the pin was made from.
    pub parent_commit: String,
    /// Changes of the work tree were taken into the pin.
    #[serde(default)]
    pub snapshot: bool,
    /// SHA-256 of `experiment.yaml`.
    pub experiment_sha256: String,
    /// The experiment's recipe hash: equal numbers are expected of runs where it is equal.
    pub recipe_hash: String,
    /// The programs that run.
    pub bundle: Bundle,
    /// When it was submitted.
    pub created: Timestamp,
    /// Who submitted it.
    #[serde(default)]
    pub user: String,
    /// Machine it was submitted from.
    #[serde(default)]
    pub host: String,
    /// Versions of what matters: `rocket`, `libtorch`, ...
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Who starts the ranks; never [`BackendKind::Auto`].
    pub backend: BackendKind,
    /// The experiment file as the user named it, absolute.
    pub experiment_path: PathBuf,
    /// The user's clone of the code, absolute.
    pub repo: PathBuf,
    /// The sweep that it is a point of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepPoint>,
    /// What it does once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproduces: Option<Reproduces>,
    /// Where it was taken in from: it ran elsewhere, and nothing starts it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// What it scores, if it is the evaluation of another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
}

/// What a run does once more, from the same pinned commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reproduces {
    /// The run whose numbers are to come out again; absent if only its commit is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Where its programs are from.
    pub programs: ProgramsFrom,
}

/// Where the programs of a reproduction are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramsFrom {
    /// The original's own, to the bit.
    Original,
    /// Others, from the same sources.
    Sources,
    /// Others, and it is not known what from.
    Others,
}

/// Where a run was taken in from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// When.
    pub time: Timestamp,
    /// Who took it in.
    pub user: String,
    /// Its directory where it ran, on the manifest's `host`.
    pub dir: PathBuf,
    /// SHA-256 of the archive.
    pub archive_sha256: String,
    /// What bit-identical numbers depend on besides the experiment and the programs; absent if the run
    /// had left no checkpoint that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Git object ids, by path, of the sources that the trainer was built from; empty if not known.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
    /// The sweep that it was a point of, there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepPoint>,
}

/// What computed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Number of ranks.
    pub world_size: u32,
    /// Torch's threads per rank.
    pub threads: usize,
    /// Kind of processor (and of GPU).
    pub processor: String,
    /// Version of libtorch.
    pub libtorch: String,
}

/// What an evaluation scores: a checkpoint of another run, by that run's commit and programs. Its own
/// directory holds what every run's does, and the checkpoint by hard links, so that nothing that is
/// pruned meanwhile takes it away; the results go to the other run's `eval/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Directory of the run that is scored, absolute.
    pub run: PathBuf,
    /// Optimiser steps of the checkpoint.
    pub step: u64,
    /// Sets by name in the catalog, in order.
    pub datasets: Vec<String>,
    /// Sets of the catalog that are not there are left out, and said; else each is an error.
    #[serde(default)]
    pub ready_only: bool,
    /// Sets that have a result for the checkpoint are scored again; else they are passed over.
    #[serde(default)]
    pub again: bool,
    /// Accuracies by class and confusions are written as well.
    #[serde(default)]
    pub details: bool,
}

/// Which point of which sweep a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The sweep.
    pub id: String,
    /// Number of the point, from 0.
    pub point: u64,
    /// What the point sets, by dotted key, as it was written.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// The lane in which points run one after the other: on Slurm, the name of their jobs. Absent if the
    /// sweep does not limit how many run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
}

/// A pinned set of programs and the libraries they load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its folder, named after its content.
    pub dir: PathBuf,
    /// SHA-256 of each file by its path within the folder: `rocket`, `rocket-worker`, `lib/...`.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// The schema that this version writes of runs that train.
    pub const SCHEMA: u32 = 1;

    /// The schema of evaluations, and the newest that this version reads. The programs of a run that was
    /// submitted before there were evaluations refuse it, where they would train.
    pub const EVALUATION_SCHEMA: u32 = 2;

    /// Refuses to start what ran elsewhere: its programs, its data and its state are not here.
    ///
    /// # Errors
    /// The run was imported; kind [`ExitKind::Usage`].
    pub fn refuse_imported(&self) -> Result<()> {
        let Some(imported) = &self.imported else {
            return Ok(());
        };
        let id = &self.run_id;
        Err(Error::new(
            ExitKind::Usage,
            format!(
                "run {id} was imported from '{}' on {}; it does not go on here",
                imported.dir.display(),
                self.host
            ),
        )
        .hint(format!("rocket reproduce {id} does it once more")))
    }

    /// Id of the run that it evaluates, if it is an evaluation.
    #[must_use]
    pub fn evaluates(&self) -> Option<String> {
        let of = self.evaluation.as_ref()?;
        let name = of.run.file_name().unwrap_or_default();
        Some(name.to_string_lossy().into_owned())
    }

    /// Refuses to take an evaluation for a run that trained: what it found is with that one.
    ///
    /// # Errors
    /// It is an evaluation; kind [`ExitKind::Usage`].
    pub fn refuse_evaluation(&self) -> Result<()> {
        let Some(of) = self.evaluates() else {
            return Ok(());
        };
        let message = format!("run {} is itself an evaluation, of {of}", self.run_id);
        Err(Error::new(ExitKind::Usage, message).hint(format!("name that run: {of}")))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// It is missing, not a manifest, or of a newer schema.
    pub fn read(path: &Path) -> Result<Self> {
        // A newer file may lack what this version requires, or give it another form.
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        let bytes = atomic::read(path)?;
        let manifest: Result<Self> = atomic::parse_json(path, &bytes);
        let schema = match &manifest {
            Ok(manifest) => manifest.schema,
            Err(_) => atomic::parse_json::<Schema>(path, &bytes)?.schema,
        };
        if schema > Self::EVALUATION_SCHEMA {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "'{}' was written by a newer rocket (schema {schema}, this one knows up to {})",
                    path.display(),
                    Self::EVALUATION_SCHEMA
                ),
            )
            .hint("use the rocket that submitted the run, or a newer one"));
        }
        manifest
    }
}
