//! The state of a run: a pure function of its events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Event, EventKind};
use crate::exit::ExitKind;
use crate::protocol::StopReason;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not started, or waiting to be started again.
    Pending,
    /// Ranks run, as far as the events know.
    Running,
    /// The ranks were asked to save and leave.
    Stopping,
    /// Left with its state saved, and nothing will start it again by itself.
    Stopped,
    /// The supervisor died: `rocket resume` goes on from the last checkpoint.
    Lost,
    /// Complete.
    Finished,
    /// Given up, with a cause.
    Failed,
    /// Ended by a user.
    Cancelled,
}

impl Status {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Lost,
        Self::Finished,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether nothing more happens unless somebody resumes the run.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Stopping)
    }

    /// The name that is stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What the events say about a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunState {
    /// Where it stands.
    pub status: Status,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptSummary>,
    /// Scheduler's job of the last submission or attempt.
    pub job: Option<String>,
    /// Highest step that an event of the current attempt names.
    pub step: u64,
    /// Step of the last published checkpoint.
    pub checkpoint: Option<u64>,
    /// Last scores by name, `<set>/<head>_<figure>`, fractions of 1.
    pub metrics: BTreeMap<String, f64>,
    /// Which of them stands for all where there is room for one: z top-1 of the set that was scored first.
    pub main_score: Option<String>,
    /// Why it stands where it stands.
    pub cause: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Kind of the failure, if it failed.
    pub exit: Option<ExitKind>,
    /// When it was submitted first.
    pub submitted: Option<Timestamp>,
    /// When the first attempt started.
    pub started: Option<Timestamp>,
    /// When it settled.
    pub ended: Option<Timestamp>,
    /// Nodes that are not to be used again, the oldest first.
    pub excluded: Vec<String>,
    /// How often ranks took up work again: relaunches within attempts, and attempts after the first.
    pub resumptions: u32,
}

/// One attempt, as its events tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptSummary {
    /// Its number.
    pub number: u32,
    /// Scheduler's job.
    pub job: Option<String>,
    /// Nodes.
    pub nodes: Vec<String>,
    /// Number of ranks.
    pub world_size: u32,
    /// When it started.
    pub started: Timestamp,
    /// Its last event so far.
    pub last_event: Timestamp,
    /// Name of the event that ended it; absent while it runs or if it vanished.
    pub ending: Option<String>,
    /// Why it ended.
    pub cause: Option<String>,
    /// Last step named.
    pub step: Option<u64>,
}

/// Derives the state from events in the order of [`super::read`].
#[must_use]
pub fn derive(events: &[Event]) -> RunState {
    let mut state = RunState {
        status: Status::Pending,
        attempts: Vec::new(),
        job: None,
        step: 0,
        checkpoint: None,
        metrics: BTreeMap::new(),
        main_score: None,
        cause: None,
        hint: None,
        exit: None,
        submitted: None,
        started: None,
        ended: None,
        excluded: Vec::new(),
        resumptions: 0,
    };
    for event in events {
        state.apply(event);
    }
    state
}

/// What an event does to the status.
enum Effect {
    /// Nothing.
    Keep,
    /// Sets it; the event's cause and hint explain it.
    Set(Status),
}

impl RunState {
    fn apply(&mut self, event: &Event) {
        if let EventKind::AttemptStarted { world_size } = event.kind {
            self.start_attempt(event, world_size);
        }
        if self.is_superseded(event) {
            return;
        }
        if event.job.is_some() {
            self.job.clone_from(&event.job);
        }
        self.step = event.step.unwrap_or(self.step);
        match &event.kind {
            EventKind::Submitted { .. } => {
                self.submitted.get_or_insert(event.time);
            }
            EventKind::Checkpoint { .. } => self.checkpoint = event.step.or(self.checkpoint),
            EventKind::Evaluated { metrics } => {
                if self.main_score.is_none() {
                    let is_main = |name: &&String| name.ends_with("z_top1");
                    self.main_score = metrics.keys().find(is_main).cloned();
                }
                self.metrics.extend(metrics.clone());
            }
            EventKind::NodeExcluded => {
                self.excluded.retain(|node| !event.nodes.contains(node));
                self.excluded.extend_from_slice(&event.nodes);
            }
            EventKind::Relaunched { .. } => self.resumptions += 1,
            EventKind::Failed { exit } => self.exit = Some(*exit),
            _ => {}
        }
        self.summarise(event);
        if let Effect::Set(status) = self.effect(&event.kind) {
            self.status = status;
            self.cause.clone_from(&event.cause);
            self.hint.clone_from(&event.hint);
            self.ended = status.is_settled().then_some(event.time);
            if status != Status::Failed {
                self.exit = None;
            }
        }
    }

    /// The table of transitions.
    fn effect(&self, kind: &EventKind) -> Effect {
        use Status::{Cancelled, Failed, Finished, Lost, Pending, Running, Stopped, Stopping};
        // A complete run stays complete; what comes after it is noise of leaving processes.
        if self.status == Finished {
            return Effect::Keep;
        }
        let set = match kind {
            EventKind::Submitted { .. }
            | EventKind::Resumed { .. }
            | EventKind::Queued
            | EventKind::Requeued => Pending,
            EventKind::AttemptStarted { .. } | EventKind::Relaunched { .. } => Running,
            // A stop that was asked for before the ranks ever ran, or after the end, changes nothing.
            EventKind::StopRequested { .. } if self.status == Running => Stopping,
            EventKind::Stopped {
                reason: StopReason::Cancelled,
            }
            | EventKind::Cancelled => Cancelled,
            EventKind::Stopped { .. } => Stopped,
            EventKind::Preempted if !self.status.is_settled() => Stopping,
            EventKind::Finished => Finished,
            EventKind::Failed { .. } => Failed,
            EventKind::SupervisorLost if !self.status.is_settled() => Lost,
            _ => return Effect::Keep,
        };
        Effect::Set(set)
    }

    /// Whether the event comes from an attempt that a later one has fenced off.
    fn is_superseded(&self, event: &Event) -> bool {
        let current = self.attempts.last().map(|attempt| attempt.number);
        matches!((event.attempt, current), (Some(of_event), Some(current)) if of_event < current)
    }

    fn start_attempt(&mut self, event: &Event, world_size: u32) {
        let number = event.attempt.unwrap_or_default();
        if self
            .attempts
            .last()
            .is_some_and(|last| last.number >= number)
        {
            return;
        }
        self.resumptions += u32::from(!self.attempts.is_empty());
        self.started.get_or_insert(event.time);
        self.attempts.push(AttemptSummary {
            number,
            job: event.job.clone(),
            nodes: event.nodes.clone(),
            world_size,
            started: event.time,
            last_event: event.time,
            ending: None,
            cause: None,
            step: None,
        });
    }

    fn summarise(&mut self, event: &Event) {
        let Some(attempt) = self.attempts.last_mut() else {
            return;
        };
        let ends = match event.kind {
            EventKind::Stopped { .. }
            | EventKind::Requeued
            | EventKind::Finished
            | EventKind::Failed { .. }
            | EventKind::Cancelled
            | EventKind::SupervisorLost => true,
            EventKind::Submitted { .. } | EventKind::Resumed { .. } | EventKind::Queued => return,
            // Of an evaluation that came after the run: no part of its last attempt.
            EventKind::Evaluated { .. } if event.attempt.is_none() => return,
            _ => false,
        };
        attempt.last_event = attempt.last_event.max(event.time);
        attempt.step = event.step.or(attempt.step);
        if ends && attempt.ending.is_none() {
            attempt.ending = Some(event.kind.name().to_owned());
        }
        if ends && event.cause.is_some() {
            attempt.cause.clone_from(&event.cause);
        }
        if matches!(event.kind, EventKind::Relaunched { .. }) {
            attempt.ending = None;
            attempt.cause = None;
        }
    }
}
