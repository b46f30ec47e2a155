//! What is known of a run now: events, the last heartbeat, and whether its supervisor lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rocket_common::error::Result;
use rocket_common::events::{self, RunState, Status};
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{self, Heartbeat};
use rocket_common::run_dir::{Imported, Manifest, RunDir};
use serde::Serialize;

use crate::backend::{Backends, Liveness, Outlook};

/// After so long without an attempt, a local run's supervisor never started.
const START_TIME: Duration = Duration::from_secs(20);

/// A run as `rocket status` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunView {
    /// Its id.
    pub(crate) run: String,
    /// The experiment's name.
    pub(crate) name: String,
    /// The sweep that it is a point of.
    pub(crate) sweep: Option<String>,
    /// Where it stands.
    pub(crate) status: Status,
    /// Why.
    pub(crate) cause: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Kind of its failure.
    pub(crate) exit: Option<ExitKind>,
    /// The current or last attempt, from 0.
    pub(crate) attempt: Option<u32>,
    /// How often it took up work again.
    pub(crate) resumptions: u32,
    /// Number of ranks.
    pub(crate) world_size: Option<u32>,
    /// Optimiser steps done.
    pub(crate) step: u64,
    /// Optimiser steps of the whole run.
    pub(crate) total_steps: Option<u64>,
    /// Epochs done.
    pub(crate) epoch: Option<f64>,
    /// Over all ranks; while it runs.
    pub(crate) samples_per_second: Option<f64>,
    /// Until its end, as it goes now.
    pub(crate) eta_seconds: Option<u64>,
    /// Resident memory of each rank in bytes; while it runs.
    pub(crate) resident_bytes: Vec<u64>,
    /// Step of the last checkpoint.
    pub(crate) checkpoint: Option<u64>,
    /// Last scores, fractions of 1.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// Which of them stands for all.
    pub(crate) main_score: Option<String>,
    /// Host and process of the supervisor, while it lives.
    pub(crate) supervisor: Option<SupervisorView>,
    /// The scheduler's job, of now or the last one.
    pub(crate) job: Option<String>,
    /// What it waits for in the queue, in words.
    pub(crate) waiting: Option<String>,
    /// It waits until somebody releases it.
    pub(crate) held: bool,
    /// Why less is known than usual.
    pub(crate) trouble: Option<String>,
    /// Nodes of the current or last attempt.
    pub(crate) nodes: Vec<String>,
    /// Nodes that are not used again.
    pub(crate) excluded: Vec<String>,
    /// The pinned commit.
    pub(crate) commit: String,
    /// When it was submitted.
    pub(crate) submitted: Option<Timestamp>,
    /// When its first attempt started.
    pub(crate) started: Option<Timestamp>,
    /// When it settled.
    pub(crate) ended: Option<Timestamp>,
    /// The run directory.
    pub(crate) dir: PathBuf,
}

/// A living supervisor.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SupervisorView {
    /// Its host.
    pub(crate) host: String,
    /// Its process; SIGTERM asks for a stop.
    pub(crate) pid: u32,
}

impl RunView {
    /// Reads a run.
    pub(crate) fn read(run: &RunDir, backends: &Backends) -> Result<Self> {
        let manifest = run.manifest()?;
        let state = events::derive(&events::read(run)?);
        Self::of(run, &manifest, state, backends)
    }

    /// From a state that was read already.
    pub(crate) fn of(
        run: &RunDir,
        manifest: &Manifest,
        state: RunState,
        backends: &Backends,
    ) -> Result<Self> {
        Self::with(run, manifest, state, backends, u32::MAX)
    }

    /// As [`RunView::of`], with the heartbeats of at most so many ranks: the first one's tells of all but the
    /// others' memory, and a large run has hundreds.
    pub(crate) fn with(
        run: &RunDir,
        manifest: &Manifest,
        mut state: RunState,
        backends: &Backends,
        ranks: u32,
    ) -> Result<Self> {
        // A directory of which half is gone is shown as far as it goes.
        let (highest, damage) = match run.highest_attempt() {
            Ok(highest) => (highest, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut supervisor = None;
        let mut outlook = Outlook::of(Liveness::Gone);
        if let Some(imported) = &manifest.imported {
            rest(&mut state, run, imported);
        } else if !state.status.is_settled()
            || matches!(state.status, Status::Stopped | Status::Lost)
        {
            outlook = backends.of(manifest.backend).outlook(run, manifest)?;
            if outlook.liveness == Liveness::Gone && !state.status.is_settled() {
                // What was read before the question may be older than the end of the job.
                state = events::derive(&events::read(run)?);
            }
            let works = outlook.liveness == Liveness::Alive && outlook.waiting.is_none();
            if works && let Some(claim) = highest.map(|n| run.claim_of(n)).transpose()?.flatten() {
                supervisor = Some(SupervisorView {
                    host: claim.host,
                    pid: claim.pid,
                });
            }
            correct(&mut state, run, &outlook, highest.is_some());
        }
        let attempt = state.attempts.last().map(|attempt| attempt.number);
        let world_size = state.attempts.last().map(|attempt| attempt.world_size);
        let running = matches!(state.status, Status::Running | Status::Stopping);
        // Of a run that rests, what its first rank has counted is all that is shown.
        let ranks = if running { ranks } else { 1 }.min(world_size.unwrap_or_default());
        let beats: Vec<Heartbeat> = match attempt {
            Some(attempt) => {
                let attempt = run.attempt(attempt);
                (0..ranks)
                    .filter_map(|rank| protocol::read_heartbeat(&attempt, rank).ok()?)
                    .collect()
            }
            None => Vec::new(),
        };
        let lead = beats.first();
        let step = lead.map_or(0, |beat| beat.step).max(state.step);
        Ok(Self {
            run: run.id(),
            name: manifest.name.clone(),
            sweep: manifest.sweep.as_ref().map(|point| point.id.clone()),
            status: state.status,
            cause: state.cause,
            hint: outlook.hint.or(state.hint),
            exit: state.exit,
            attempt,
            resumptions: state.resumptions,
            world_size,
            step,
            total_steps: lead.map(|beat| beat.total_steps).filter(|total| *total > 0),
            epoch: lead.map(|beat| beat.epoch),
            samples_per_second: lead.map(|beat| beat.samples_per_second).filter(|_| running),
            eta_seconds: lead
                .filter(|_| running)
                .and_then(|beat| eta(beat, &state.attempts)),
            resident_bytes: if running {
                beats.iter().map(|beat| beat.resident_bytes).collect()
            } else {
                Vec::new()
            },
            checkpoint: state.checkpoint,
            metrics: state.metrics,
            main_score: state.main_score,
            supervisor,
            job: outlook.job.or(state.job),
            waiting: outlook.waiting,
            held: outlook.held,
            trouble: outlook.trouble.or(damage),
            nodes: (state.attempts.last())
                .map(|attempt| attempt.nodes.clone())
                .unwrap_or_default(),
            excluded: state.excluded,
            commit: manifest.commit.clone(),
            submitted: state.submitted,
            started: state.started,
            ended: state.ended,
            dir: run.path().to_path_buf(),
        })
    }
}

/// Of a run that was taken in: whatever it was doing when it was exported, nobody does it here.
fn rest(state: &mut RunState, run: &RunDir, imported: &Imported) {
    if run.is_done() {
        state.status = Status::Finished;
    }
    if !state.status.is_settled() {
        state.status = Status::Stopped;
        state.cause = Some(format!(
            "it was not over when it was exported from '{}'",
            imported.dir.display()
        ));
        state.hint = Some(format!("rocket reproduce {} runs it here", run.id()));
    }
}

/// What the events cannot know: that the supervisor is gone, or came to its end without a word.
fn correct(state: &mut RunState, run: &RunDir, outlook: &Outlook, attempted: bool) {
    if run.is_done() {
        state.status = Status::Finished;
        return;
    }
    if outlook.waiting.is_some() && state.status != Status::Cancelled {
        // Its job was queued again, whatever its last words were.
        state.status = Status::Pending;
        return;
    }
    let young = state
        .submitted
        .is_some_and(|time| time.duration_until(Timestamp::now()).unsigned_abs() < START_TIME);
    if outlook.liveness == Liveness::Gone && !state.status.is_settled() && (attempted || !young) {
        let id = run.id();
        let waited = state.status == Status::Pending && outlook.job.is_some();
        state.status = Status::Lost;
        (state.cause, state.hint) = if waited {
            let job = outlook.job.as_deref().unwrap_or_default();
            (
                Some(format!(
                    "its job {job} left the queue without a word of its supervisor: somebody cancelled it, Slurm lost it, or its node does not see this folder ('rocket doctor --job' tries that)"
                )),
                Some(format!("if it is to go on: rocket resume {id}")),
            )
        } else {
            (
                Some("the supervisor is gone without a word (killed, or the machine was)".into()),
                Some(format!(
                    "go on from the last checkpoint: rocket resume {id}"
                )),
            )
        };
    }
}

/// Seconds left: steps left at the pace of this attempt.
fn eta(beat: &Heartbeat, attempts: &[events::AttemptSummary]) -> Option<u64> {
    if beat.samples_per_second <= 0.0 || beat.step == 0 || beat.epoch <= 0.0 {
        return None;
    }
    let attempt = attempts.last()?;
    let first = attempts
        .iter()
        .rev()
        .nth(1)
        .and_then(|before| before.step)
        .unwrap_or_default();
    let done = beat.step.checked_sub(first).filter(|done| *done > 0)?;
    let seconds = attempt
        .started
        .duration_until(Timestamp::now())
        .as_secs_f64()
        .max(0.0);
    let left = beat.total_steps.saturating_sub(beat.step);
    Some((seconds / done as f64 * left as f64) as u64)
}
