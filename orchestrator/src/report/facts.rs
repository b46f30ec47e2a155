//! All that a run directory says, read once. What is damaged is said and leaves the rest readable.

use std::fs;

use jiff::Timestamp;
use rocket_common::checkpoint;
use rocket_common::error::Result;
use rocket_common::events::{self, AttemptSummary, Event};
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::{Manifest, RunDir};
use serde_json::Value;

use crate::backend::Backends;
use crate::evaluation::Results;
use crate::goodput::{Context, Goodput};
use crate::view::{Clock, RunView, Series, log_tail, read_metrics};

use super::config::flat;

/// Lines of the log that are shown.
const LOG_LINES: usize = 40;

/// A run, read.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) view: RunView,
    pub(crate) manifest: Manifest,
    pub(crate) events: Vec<Event>,
    pub(crate) attempts: Vec<AttemptSummary>,
    /// `None` if it cannot be read; `troubles` says why.
    pub(crate) experiment: Option<Experiment>,
    /// Its keys; empty if it cannot be read.
    pub(crate) config: Vec<(String, String)>,
    pub(crate) series: Series,
    pub(crate) clock: Clock,
    pub(crate) checkpoints: Vec<CheckpointFacts>,
    pub(crate) scores: Vec<Value>,
    /// Where the time went.
    pub(crate) goodput: Option<Goodput>,
    /// The same, by checkpoint.
    pub(crate) results: Results,
    /// Last lines of rank 0 in the last attempt.
    pub(crate) log: Vec<String>,
    /// What could not be read.
    pub(crate) troubles: Vec<String>,
}

/// A checkpoint as its manifest says.
#[derive(Debug)]
pub(crate) struct CheckpointFacts {
    pub(crate) name: String,
    /// Its manifest, or what is wrong with it.
    pub(crate) manifest: Result<checkpoint::Manifest, String>,
}

impl Facts {
    /// Reads a run.
    ///
    /// # Errors
    /// Its manifest or its events cannot be read: then it is not known what it is.
    pub(crate) fn read(run: &RunDir, backends: &Backends) -> Result<Self> {
        let manifest = run.manifest()?;
        let events = events::read(run)?;
        let state = events::derive(&events);
        let attempts = state.attempts.clone();
        let view = RunView::of(run, &manifest, state, backends)?;
        let mut troubles = Vec::new();
        let experiment = Experiment::read(&run.experiment_path())
            .map_err(|error| troubles.push(error.to_string()))
            .ok();
        let series = read_metrics(run).unwrap_or_else(|error| {
            troubles.push(error.to_string());
            Series::default()
        });
        let batch = experiment
            .as_ref()
            .filter(|experiment| experiment.command.is_none())
            .map(Experiment::global_batch);
        let checkpoints = checkpoints(run).unwrap_or_else(|error| {
            troubles.push(error.to_string());
            Vec::new()
        });
        let goodput = Goodput::of(
            &events,
            Context {
                trainer: batch.is_some() && manifest.evaluation.is_none(),
                recorded: &series.recorded,
                status: view.status,
                now: Timestamp::now(),
            },
        );
        Ok(Self {
            clock: Clock::of(&series, batch),
            config: experiment.as_ref().map(flat).unwrap_or_default(),
            scores: scores(run),
            goodput,
            results: Results::read(run),
            log: attempts
                .last()
                .map(|attempt| log_tail(&run.attempt(attempt.number).log_path(0), LOG_LINES))
                .unwrap_or_default(),
            view,
            manifest,
            events,
            attempts,
            experiment,
            series,
            checkpoints,
            troubles,
        })
    }

    /// Hash of the bundle: the name of its folder.
    pub(crate) fn programs(&self) -> String {
        programs(&self.manifest)
    }

    /// Seconds from the first start to the end, or to the last event.
    pub(crate) fn wall_seconds(&self) -> Option<f64> {
        let start = self.view.started?;
        let end = self
            .view
            .ended
            .or(self.events.last().map(|event| event.time))?;
        Some(start.duration_until(end).as_secs_f64().max(0.0))
    }

    /// Median of the recorded samples per second.
    pub(crate) fn throughput(&self) -> Option<f64> {
        let curve = self.series.train.get("samples_per_second")?;
        let mut rates: Vec<f64> = curve.iter().map(|(_, rate)| *rate).collect();
        if rates.is_empty() {
            return None;
        }
        let middle = rates.len() / 2;
        let (_, median, _) = rates.select_nth_unstable_by(middle, f64::total_cmp);
        Some(*median)
    }
}

/// The content hash of a run's programs.
pub(crate) fn programs(manifest: &Manifest) -> String {
    let name = manifest.bundle.dir.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn checkpoints(run: &RunDir) -> Result<Vec<CheckpointFacts>> {
    let found = checkpoint::list(&run.checkpoints_dir())?;
    Ok(found
        .into_iter()
        .map(|(step, dir)| CheckpointFacts {
            name: checkpoint::dir_name(step),
            manifest: checkpoint::open(&dir)
                .map(|checkpoint| checkpoint.manifest().clone())
                .map_err(|error| error.to_string()),
        })
        .collect())
}

/// Results in `eval/`, by data set and step.
fn scores(run: &RunDir) -> Vec<Value> {
    let mut results: Vec<Value> = fs::read_dir(run.eval_dir())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))
        .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
        .filter(|value: &Value| value.get("heads").is_some_and(Value::is_array))
        .collect();
    results.sort_by_key(|value| {
        let dataset = value.get("dataset").and_then(Value::as_str);
        (
            dataset.unwrap_or_default().to_owned(),
            value.get("step").and_then(Value::as_u64),
        )
    });
    results
}
