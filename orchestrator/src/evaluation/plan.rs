//! What an evaluation would be, and how it comes to be one.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rocket_common::atomic;
use rocket_common::checkpoint::{self as store, Checkpoint};
use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment, Track};
use rocket_common::host;
use rocket_common::run_dir::{self, Evaluation, Manifest, RunDir};

use super::{catalog_sets, result_file};
use crate::backend::{Backends, Handover};
use crate::supervisor::pin_store;
use crate::view::RunView;
use crate::{bundle, experiment as resolve, notify, pin, submit};

/// What runs begin their names with that evaluate others.
const PREFIX: &str = "eval-";
/// The name of the choice of every set.
const ALL: &str = "all";
/// What may be set for an evaluation: where it runs and how it scores, not what was trained.
const SETTABLE: [&str; 3] = ["cluster.", "eval.", "data.workers"];

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// `best`, `last` or a step.
    pub(crate) checkpoint: &'a str,
    /// Sets by name; none, or `all`, for every set of the catalog that is there.
    pub(crate) datasets: &'a [String],
    /// Sets that were scored for the checkpoint are scored again.
    pub(crate) again: bool,
    /// Accuracies by class and confusions as well.
    pub(crate) details: bool,
    /// Overrides of the experiment, `key=value`.
    pub(crate) sets: &'a [String],
}

/// An evaluation as it would be.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    run: &'a RunDir,
    manifest: &'a Manifest,
    pub(crate) experiment: Experiment,
    /// Of which no file's content was looked at: the trainer does, on the node.
    checkpoint: Checkpoint,
    pub(crate) evaluation: Evaluation,
    /// Sets that have a result for the checkpoint.
    pub(crate) scored: Vec<String>,
    /// Sets that another evaluation is about to score, with its id.
    pub(crate) underway: Vec<(String, String)>,
    /// What is worth saying, one sentence each.
    pub(crate) notes: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Decides everything, and starts nothing.
    ///
    /// # Errors
    /// The run has no model or no checkpoint, or a set is unknown.
    pub(crate) fn new(
        run: &'a RunDir,
        manifest: &'a Manifest,
        request: &Request<'_>,
        backends: &Backends,
    ) -> Result<Self> {
        let id = run.id();
        manifest.refuse_evaluation()?;
        if let Some(imported) = &manifest.imported {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "run {id} was imported from '{}' on {}; its programs are not here",
                    imported.dir.display(),
                    manifest.host
                ),
            )
            .hint(format!(
                "with these programs: rocket-worker eval --run {}",
                run.path().display()
            )));
        }
        // As it was stored, first: what was edited by hand is told as such.
        if Experiment::read(&run.experiment_path())?.command.is_some() {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "run {id} runs a program of its own ('command'), and has no model that rocket knows"
                ),
            ));
        }
        let experiment = overridden(run, request.sets)?;
        let mut notes = Vec::new();
        let checkpoint = store::pick(
            &run.checkpoints_dir(),
            request.checkpoint,
            store::open,
            &mut |said| notes.push(said),
        )?;
        if checkpoint.dir().parent() != Some(run.checkpoints_dir().as_path()) {
            return Err(Error::new(
                ExitKind::Usage,
                format!("'{}' is no checkpoint of run {id}", request.checkpoint),
            )
            .hint(format!(
                "without a job: rocket-worker eval --run {} --checkpoint {}",
                run.path().display(),
                request.checkpoint
            )));
        }
        let known = catalog_sets(run, manifest, &experiment)?;
        let everything = request.datasets.is_empty() || request.datasets == [ALL];
        let wanted = if everything {
            known
        } else {
            check_names(request.datasets, &known)?;
            request.datasets.to_vec()
        };
        let step = checkpoint.step();
        let (mut scored, mut underway, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let others = if request.again {
            Vec::new()
        } else {
            others(run, step, backends)?
        };
        for set in wanted {
            let other = others.iter().find(|(_, sets)| sets.contains(&set));
            if request.again {
                left.push(set);
            } else if run.eval_dir().join(result_file(&set, step)).is_file() {
                scored.push(set);
            } else if let Some((other, _)) = other {
                underway.push((set, other.clone()));
            } else {
                left.push(set);
            }
        }
        Ok(Self {
            evaluation: Evaluation {
                run: run.path().to_path_buf(),
                step,
                datasets: left,
                ready_only: everything,
                again: request.again,
                details: request.details,
            },
            run,
            manifest,
            experiment,
            checkpoint,
            scored,
            underway,
            notes,
        })
    }

    /// Whether there is nothing left to score.
    pub(crate) fn is_empty(&self) -> bool {
        self.evaluation.datasets.is_empty()
    }

    /// The checkpoint's name.
    pub(crate) fn checkpoint(&self) -> String {
        self.checkpoint.name()
    }

    /// An id that no run has yet.
    pub(crate) fn free_id(&self) -> String {
        let name = format!("{PREFIX}{}", self.manifest.name);
        let id = |count| run_dir::run_id(&name, &self.manifest.commit, count);
        std::iter::once(None)
            .chain((2..).map(Some))
            .map(id)
            .find(|id| !self.root().join(id).exists())
            .unwrap_or_default()
    }

    fn root(&self) -> &Path {
        self.run.path().parent().unwrap_or(self.run.path())
    }

    /// Makes the directory of an evaluation of its own.
    ///
    /// # Errors
    /// It cannot be written, or the run's programs are gone.
    pub(crate) fn create(&self) -> Result<RunDir> {
        loop {
            // Who asks for other sets at the same moment may have taken the id in between.
            let id = self.free_id();
            if let Some(made) = self.make(&id)? {
                return self.furnish(made);
            }
        }
    }

    /// Makes the directory of the evaluation of an id that was claimed, or finds that it is there.
    ///
    /// # Errors
    /// As [`Plan::create`].
    pub(crate) fn create_claimed(&self, id: &str) -> Result<RunDir> {
        let path = self.root().join(id);
        let made = if path.exists() { None } else { self.make(id)? };
        self.furnish(made.map_or_else(|| RunDir::open(path), Ok)?)
    }

    /// The directory, unless there is one of this id.
    fn make(&self, id: &str) -> Result<Option<RunDir>> {
        let yaml = self.experiment.to_yaml();
        let manifest = self.manifest_of(id, &yaml);
        pin::publish_again(&pin_store(self.run), &manifest.commit, id)?;
        match RunDir::create(self.root(), &manifest, &yaml) {
            Ok(made) => Ok(Some(made)),
            Err(error) if error.kind() == ExitKind::Usage => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps what an evaluation needs until it has ended.
    fn furnish(&self, made: RunDir) -> Result<RunDir> {
        // As for a submit: 'rocket gc' sees this run from here on, or removed its programs before.
        bundle::outlive(&self.manifest.bundle)?;
        if !bundle::is_there(&self.manifest.bundle) {
            self.undo(&made);
            return Err(self.without_programs());
        }
        if let Err(error) = self.link_checkpoint(&made) {
            // It is then read where it is, for as long as it is there.
            tracing::warn!("the checkpoint is not linked: {error}");
        }
        Ok(made)
    }

    /// As if it had never been.
    fn undo(&self, made: &RunDir) {
        let id = made.id();
        notify::remove(self.root(), &id);
        if fs::remove_dir_all(made.path()).is_ok() {
            pin::forget(None, &pin_store(self.run), &id);
        }
    }

    fn without_programs(&self) -> Error {
        let id = self.run.id();
        let message = format!(
            "the programs of run {id} are gone: '{}'",
            self.manifest.bundle.dir.display()
        );
        Error::new(ExitKind::Pin, message).hint(format!(
            "with the programs at hand: rocket-worker eval --run {}",
            self.run.path().display()
        ))
    }

    fn manifest_of(&self, id: &str, yaml: &str) -> Manifest {
        let name = run_dir::name_of_run_id(id).unwrap_or(id).to_owned();
        Manifest {
            schema: Manifest::EVALUATION_SCHEMA,
            run_id: id.to_owned(),
            name,
            experiment_sha256: bundle::sha256_text(yaml),
            created: Timestamp::now(),
            user: submit::user(),
            host: host::name(),
            sweep: None,
            evaluation: Some(self.evaluation.clone()),
            ..self.manifest.clone()
        }
    }

    /// The checkpoint's files under a second name, so that they stay when the run prunes its own.
    fn link_checkpoint(&self, made: &RunDir) -> Result<()> {
        let name = self.checkpoint.name();
        let whole = made.checkpoints_dir().join(&name);
        if whole.exists() {
            return Ok(());
        }
        let aside = made
            .checkpoints_dir()
            .join(format!(".link-{}", atomic::unique()));
        let link = || -> std::io::Result<()> {
            fs::create_dir_all(&aside)?;
            for entry in fs::read_dir(self.checkpoint.dir())? {
                let entry = entry?;
                fs::hard_link(entry.path(), aside.join(entry.file_name()))?;
            }
            fs::rename(&aside, &whole)
        };
        link().map_err(|error| {
            let _ = fs::remove_dir_all(&aside);
            Error::io("link the checkpoint to", &whole, error)
        })
    }

    /// Hands a made evaluation over, unless that was done. Gives the scheduler's job.
    ///
    /// # Errors
    /// The backend refuses; after a refusal the directory is gone.
    pub(crate) fn hand_over(&self, made: &RunDir, backends: &Backends) -> Result<Option<String>> {
        if made.highest_submission()?.is_some() || made.highest_attempt()?.is_some() {
            return Ok(None);
        }
        let manifest = made.manifest()?;
        let mut writer = EventWriter::new(made, "submit");
        if events::read(made)?.is_empty() {
            writer.append(Event::new(EventKind::Submitted {
                backend: manifest.backend,
            }))?;
        }
        notify::hand_on(
            self.root(),
            &self.manifest.run_id,
            &manifest.run_id,
            &self.experiment,
        );
        let handover = Handover {
            // Of all who hand it over at once, one does.
            number: Some(0),
            ..Handover::new(made, &manifest, "submitted")
        };
        match backends.of(manifest.backend).submit(&handover) {
            Ok(job) => Ok(job),
            Err(error) if error.kind() == ExitKind::Fenced => Ok(None),
            Err(error) => {
                if error.kind() == ExitKind::Usage {
                    self.undo(made);
                }
                Err(error)
            }
        }
    }
}

/// The run's experiment as its evaluation has it: one node unless more are asked for, and nothing of
/// what only training needs.
fn overridden(run: &RunDir, sets: &[String]) -> Result<Experiment> {
    for set in sets {
        let key = set.split('=').next().unwrap_or_default().trim();
        if !SETTABLE.iter().any(|may| key.starts_with(may)) {
            return Err(Error::new(
                ExitKind::Usage,
                format!("--set {key}: an evaluation keeps the experiment of its run"),
            )
            .hint("what can be set is 'cluster.*', 'eval.*' and 'data.workers'"));
        }
    }
    let path = run.experiment_path();
    let text = fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
    let mut all = vec![
        "cluster.nodes=1".to_owned(),
        "cluster.dependency=null".to_owned(),
        "eval.after=none".to_owned(),
    ];
    all.extend(sets.iter().map(|set| from_here(set)));
    let shown = path.display().to_string();
    let mut experiment =
        experiment::parse_with(&shown, &text, &all, &|_| None).map_err(resolve::faults)?;
    experiment.track = Track::default();
    Ok(experiment)
}

/// An override that names a file of the person who typed it names that file wherever it is read.
fn from_here(set: &str) -> String {
    const FILES: [&str; 3] = ["eval.catalog", "eval.labels", "eval.templates"];
    match set.split_once('=') {
        Some((key, file)) if FILES.contains(&key.trim()) && Path::new(file).exists() => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
            format!("{key}={}", file.display())
        }
        _ => set.to_owned(),
    }
}

/// Names that the catalog does not have, all at once.
fn check_names(wanted: &[String], known: &[String]) -> Result<()> {
    let unknown: Vec<&String> = wanted.iter().filter(|name| !known.contains(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = unknown
        .iter()
        .map(|name| {
            let near = run_dir::suggest(name, known.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!(" (did you mean '{near}'?)"));
            format!("'{name}'{near}")
        })
        .collect();
    Err(Error::new(
        ExitKind::Usage,
        format!("the catalog has no set {}", words.join(" and no set ")),
    )
    .hint(format!("it has {}", known.join(", "))))
}

/// Evaluations of the same checkpoint that somebody works at or will, with their sets.
fn others(run: &RunDir, step: u64, backends: &Backends) -> Result<Vec<(String, Vec<String>)>> {
    let root: PathBuf = run.path().parent().unwrap_or(run.path()).to_path_buf();
    let mut found = Vec::new();
    for other in run_dir::list(&root)? {
        if !other.id().starts_with(PREFIX) {
            continue;
        }
        // A damaged one is nobody's.
        let Ok(manifest) = other.manifest() else {
            continue;
        };
        let same =
            (manifest.evaluation.clone()).filter(|of| of.run == run.path() && of.step == step);
        let Some(of) = same else { continue };
        let state = events::derive(&events::read(&other)?);
        if state.status.is_settled() || other.is_done() {
            continue;
        }
        // One that was killed has said nothing of it.
        let view = RunView::of(&other, &manifest, state, backends)?;
        if !view.status.is_settled() {
            found.push((other.id(), of.datasets));
        }
    }
    Ok(found)
}
