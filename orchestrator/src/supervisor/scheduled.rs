//! What a supervisor does with a scheduler: find out what becomes of its job, and leave it by the
//! right road.

use std::time::{Duration, Instant};

use rocket_common::error::Result;
use rocket_common::events::{self, Event, EventKind};
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{self, StopReason};
use rocket_common::run_dir::Attempt;

use super::attempt::Report;
use super::decide::{Ending, Place};
use super::signals::Signals;
use super::{Events, Left, Supervisor};
use crate::backend::{Handover, Requeued};
use crate::requests;
use crate::slurm::job::{Fate, Over};

/// Between two questions to a scheduler that does not answer.
const RETRY: Duration = Duration::from_secs(5);
/// How long a job that was queued again is left to be ended.
const END: Duration = Duration::from_secs(90);
/// Tries to get rid of a node that the scheduler gives again and again.
const MAX_REFUSALS: usize = 2;

impl Supervisor<'_> {
    /// Where the attempt was, and what becomes of that place. Stays until the scheduler answers:
    /// without it, no ranks could be started anyway.
    pub(super) async fn place(
        &mut self,
        report: &Report,
        attempt: &Attempt,
        signals: &mut Signals,
    ) -> Place {
        let node = report.node.clone();
        if self.backend.job().is_none()
            || matches!(report.ending, Ending::Finished | Ending::Fenced)
        {
            return Place {
                node,
                ..Place::local()
            };
        }
        let mut said = false;
        let fate = loop {
            match self.backend.fate(self.run) {
                Fate::Unknown(words) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("Slurm's controller does not answer: {words}");
                    }
                    let superseded = self.run.fence_check(attempt.number());
                    if superseded.is_err_and(|error| error.kind() == ExitKind::Fenced)
                        || requests::cancelled(self.run).is_some()
                    {
                        break Fate::Unknown(words);
                    }
                    self.wait(RETRY, signals).await;
                }
                fate => break fate,
            }
        };
        tracing::info!("the job: {fate:?}");
        let troubled = !matches!(report.ending, Ending::Stopped { .. });
        let sick = if troubled || fate == Fate::Requeued {
            self.backend.sick(&self.backend.nodes())
        } else {
            Vec::new()
        };
        Place {
            scheduled: true,
            fate,
            sick: sick.into_iter().map(|(node, _)| node).collect(),
            node,
            // Who cancels needs no next job.
            leaving: self
                .leaving
                .filter(|_| requests::cancelled(self.run).is_none()),
        }
    }

    /// Before the first attempt of a job: which nodes were lost since, and is one of them among ours?
    pub(super) async fn look_around(
        &mut self,
        events: &mut Events,
        signals: &mut Signals,
    ) -> Result<Option<Left>> {
        if self.backend.job().is_none() {
            return Ok(None);
        }
        let before = events::read(self.run)?;
        let state = events::derive(&before);
        let used = state.attempts.last().map(|attempt| attempt.nodes.clone());
        let used: Vec<String> = used
            .unwrap_or_default()
            .into_iter()
            .filter(|node| !state.excluded.contains(node))
            .collect();
        for (node, condition) in self.backend.sick(&used) {
            let why = format!("node {node}, which the last attempt ran on, is {condition}");
            self.exclude(&[node], &why, events);
        }
        let excluded = events::derive(&events::read(self.run)?).excluded;
        let bad: Vec<String> = self
            .backend
            .nodes()
            .into_iter()
            .filter(|node| excluded.contains(node))
            .collect();
        // Requeued again and again without a start between: the scheduler has no other nodes.
        let refusals = before
            .iter()
            .rev()
            .take_while(|event| !matches!(event.kind, EventKind::AttemptStarted { .. }))
            .filter(|event| event.kind == EventKind::Requeued)
            .count();
        if bad.is_empty() || refusals > MAX_REFUSALS {
            return Ok(None);
        }
        let why = format!(
            "Slurm gave node {} again, which is excluded",
            bad.join(", ")
        );
        events.add(Event::new(EventKind::Requeued).cause(why));
        self.requeue(None, events, signals).await.map(Some)
    }

    /// Notes nodes as not to be used again.
    pub(super) fn exclude(&self, nodes: &[String], why: &str, events: &mut Events) {
        if nodes.is_empty() {
            return;
        }
        let event = Event::new(EventKind::NodeExcluded)
            .nodes(nodes.to_vec())
            .cause(why);
        events.add(event);
    }

    /// Nodes that a next job must not have, the experiment's among them.
    fn excluded(&self) -> Vec<String> {
        let mut nodes = self
            .experiment()
            .map(|experiment| experiment.cluster.exclude)
            .unwrap_or_default();
        let found = events::read(self.run).map(|events| events::derive(&events).excluded);
        let limit = self.policy().max_node_failures as usize;
        let found = found.unwrap_or_default();
        // A cluster must not run out of nodes: the oldest suspects are tried again.
        nodes.extend_from_slice(&found[found.len().saturating_sub(limit)..]);
        nodes
    }

    /// The last deed of a supervisor: has its own job queued again, and waits to be ended by that.
    pub(super) async fn requeue(
        &mut self,
        attempt: Option<u32>,
        events: &mut Events,
        signals: &mut Signals,
    ) -> Result<Left> {
        let exclude = self.excluded();
        loop {
            // To requeue a job that another attempt runs in would end that one.
            if let Some(number) = attempt {
                self.run.fence_check(number)?;
            }
            match self.backend.fate(self.run) {
                Fate::Requeued => return Ok(Left::Queued),
                Fate::Over(Over::Cancelled) => {
                    let event = Event::new(EventKind::Cancelled);
                    events.add(event.cause("cancelled by the user, with scancel"));
                    return Ok(Left::Cancelled);
                }
                Fate::Over(_) => return self.resubmit(attempt, events),
                Fate::Runs | Fate::Preempting | Fate::Unknown(_) => {}
            }
            match self.backend.requeue(&exclude)? {
                Requeued::Done { excluded } => {
                    if !excluded {
                        let words = format!(
                            "Slurm did not take the list of nodes to avoid: {}",
                            exclude.join(", ")
                        );
                        events.add(Event::new(EventKind::Note).cause(words));
                    }
                    return Ok(self.wait_for_the_end().await);
                }
                Requeued::Refused(words) => {
                    let words = format!("Slurm does not queue the job again: {words}");
                    events.add(Event::new(EventKind::Note).cause(words));
                    return self.resubmit(attempt, events);
                }
                Requeued::Silent(words) => {
                    tracing::warn!("Slurm's controller does not answer: {words}");
                    self.wait(RETRY, signals).await;
                }
            }
        }
    }

    /// A batch step that leaves with 0 before Slurm has taken its job back can count as completed.
    async fn wait_for_the_end(&self) -> Left {
        let start = Instant::now();
        while start.elapsed() < END && self.backend.fate(self.run) != Fate::Requeued {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Left::Queued
    }

    /// Hands the run over anew, to start when this job is gone.
    pub(super) fn resubmit(&self, attempt: Option<u32>, events: &mut Events) -> Result<Left> {
        if let Some(number) = attempt {
            self.run.fence_check(number)?;
        }
        let job = self.backend.job();
        let exclude = self.excluded();
        let handover = Handover {
            exclude: &exclude,
            after: job.as_deref(),
            ..Handover::new(self.run, self.manifest, "resubmitted by the supervisor")
        };
        match self.backend.submit(&handover) {
            Ok(_) => Ok(Left::Queued),
            Err(error) if error.kind() == ExitKind::Fenced => Ok(Left::Fenced),
            Err(error) => {
                let event = Event::new(EventKind::SupervisorLost)
                    .cause(format!(
                        "the run could not be handed to Slurm again: {error}"
                    ))
                    .hint(format!(
                        "'rocket heal' or 'rocket resume {}' on a login node goes on",
                        self.run.id()
                    ))
                    // It leaves by itself; a crash before it has been counted.
                    .excused(true);
                events.add(event);
                Ok(Left::Queued)
            }
        }
    }
}

impl Report {
    /// A stop that nobody announced to the supervisor is explained by what becomes of the job: the
    /// grace time of a preemption begins with SIGTERM at the ranks alone.
    pub(super) fn explain(&mut self, place: &Place) {
        if !place.sick.is_empty() {
            // Slurm ended the job since a node was lost.
            return;
        }
        let why = match place.fate {
            Fate::Preempting | Fate::Requeued | Fate::Over(Over::Preempted) => {
                StopReason::Preempted
            }
            Fate::Over(Over::TimeLimit) => StopReason::TimeLimit,
            Fate::Over(Over::Cancelled) => StopReason::Cancelled,
            _ => return,
        };
        if let Ending::Stopped { reason, .. } = &mut self.ending
            && *reason == StopReason::Signal
        {
            *reason = why;
        }
    }

    /// Whether the scheduler took the nodes while ranks ran, without the grace to stop them.
    pub(super) fn was_taken(&self, place: &Place) -> bool {
        let over = matches!(
            self.ending,
            Ending::Finished | Ending::Fenced | Ending::Stopped { .. } | Ending::NotStarted { .. }
        );
        let taken = matches!(
            place.fate,
            Fate::Preempting | Fate::Requeued | Fate::Over(Over::Preempted)
        );
        !over && place.sick.is_empty() && taken
    }

    /// Node of the rank that failed.
    pub(super) fn node_of(attempt: &Attempt, rank: u32) -> Option<String> {
        protocol::read_exit(attempt, rank)
            .ok()?
            .map(|exit| exit.node)
    }
}
