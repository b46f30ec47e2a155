//! What an ending means: a pure function of (what happened, where, history, policy) to an action. No
//! clock, no file, no process.

use std::time::Duration;

use rocket_common::exit::ExitKind;
use rocket_common::protocol::StopReason;

use crate::slurm::job::{Fate, Over};

/// How an attempt's ranks ended, all of them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The run is complete.
    Finished,
    /// The ranks left on request.
    Stopped {
        /// Why they were asked.
        reason: StopReason,
        /// Whether one had to be killed, since it did not leave in time.
        killed: bool,
    },
    /// A rank could not go on, and says why.
    Failed {
        /// The rank that failed first, as far as can be told.
        rank: u32,
        /// Its kind of failure.
        kind: ExitKind,
        /// Its own words.
        cause: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A rank was killed, or left without a word.
    Crashed {
        /// Which.
        rank: u32,
        /// How, in words.
        cause: String,
    },
    /// A rank's counters stood still.
    Hung {
        /// Which.
        rank: u32,
        /// For how long, in words.
        cause: String,
    },
    /// A newer attempt of the run exists.
    Fenced,
    /// The pinned files are not what was submitted, or the ranks could not be started at all.
    NotStarted {
        /// Why, in kind.
        kind: ExitKind,
        /// Why, in words.
        cause: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// What came before, since the run was submitted or resumed by a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Crashes and hangs since the last progress; this ending is not among them.
    pub crashes: u32,
    /// Nodes lost since the last progress.
    pub node_failures: u32,
    /// Time limits reached since the last progress.
    pub time_limits: u32,
    /// Node of the rank that failed last, if no progress was made since.
    pub blamed: Option<String>,
    /// Furthest step that any attempt before this one has reached.
    pub best_step: u64,
    /// Furthest step of this attempt.
    pub step: u64,
}

impl History {
    /// Whether this attempt came further than every one before, which refills the crash budget.
    #[must_use]
    pub fn progressed(&self) -> bool {
        self.step > self.best_step
    }

    /// A count of failures with this attempt's: progress has refilled the budget before it.
    #[must_use]
    pub fn one_more(&self, count: u32) -> u32 {
        if self.progressed() { 1 } else { count + 1 }
    }

    /// A count of what is allowed only as long as it brings progress, with this attempt's.
    #[must_use]
    pub fn one_more_idle(&self, count: u32) -> u32 {
        if self.progressed() { 0 } else { count + 1 }
    }

    /// The history that the next attempt starts with.
    #[must_use]
    pub fn after(self, action: &Action) -> Self {
        let progressed = self.progressed();
        let kept = |count: u32| if progressed { 0 } else { count };
        Self {
            crashes: match action {
                Action::Relaunch { crashes, .. } => *crashes,
                _ => self.crashes,
            },
            node_failures: kept(self.node_failures),
            time_limits: kept(self.time_limits),
            blamed: match action {
                Action::Relaunch { node, .. } => node.clone(),
                _ => self.blamed,
            },
            best_step: self.best_step.max(self.step),
            step: 0,
        }
    }
}

/// What the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Relaunches after crashes without progress between them.
    pub max_crashes: u32,
    /// Lost nodes without progress between them.
    pub max_node_failures: u32,
    /// Time limits reached without progress between them.
    pub max_idle_time_limits: u32,
    /// The scheduler may queue the job again.
    pub requeue: bool,
}

impl Policy {
    /// For a program that counts no steps, time limits do not count: much may have been done before them.
    #[must_use]
    pub fn of(self, history: &History, is_program: bool) -> Self {
        let silent = is_program && history.step.max(history.best_step) == 0;
        Self {
            max_idle_time_limits: if silent {
                u32::MAX
            } else {
                self.max_idle_time_limits
            },
            ..self
        }
    }
}

/// Where the attempt was, and what becomes of that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A scheduler gave the nodes, and can take them away.
    pub scheduled: bool,
    /// What becomes of the job.
    pub fate: Fate,
    /// Nodes that ranks cannot be trusted to any more.
    pub sick: Vec<String>,
    /// Node of the rank that failed.
    pub node: Option<String>,
    /// The job was told to leave the nodes soon, and is not told again.
    pub leaving: Option<StopReason>,
}

impl Place {
    /// A machine that nobody takes away.
    #[must_use]
    pub fn local() -> Self {
        Self {
            scheduled: false,
            fate: Fate::Runs,
            sick: Vec::new(),
            node: None,
            leaving: None,
        }
    }

    /// Whether ranks that fail there say nothing of themselves: their nodes were taken, or lost.
    #[must_use]
    pub fn excuses(&self) -> bool {
        let taken = matches!(self.fate, Fate::Preempting | Fate::Requeued | Fate::Over(_));
        taken || !self.sick.is_empty()
    }
}

/// What the supervisor does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Marks the run complete.
    Finish,
    /// Starts the ranks again from the last checkpoint.
    Relaunch {
        /// How long to wait before.
        after: Duration,
        /// Crashes that then count against the budget.
        crashes: u32,
        /// Node that is suspected.
        node: Option<String>,
        /// Why, a full sentence.
        why: String,
    },
    /// Gives the nodes back, and has the job queued again.
    Requeue {
        /// Nodes not to be given again.
        exclude: Vec<String>,
        /// Why, a full sentence.
        why: String,
    },
    /// Leaves: the scheduler has queued the job again itself.
    Yield {
        /// Why, a full sentence.
        why: String,
    },
    /// Hands the run over anew: this job is over, or may not be queued again.
    Resubmit {
        /// Nodes not to be used.
        exclude: Vec<String>,
        /// Why, a full sentence.
        why: String,
    },
    /// Leaves the run stopped, to be resumed by a user.
    Stop {
        /// Why.
        reason: StopReason,
        /// Who stopped it, in words.
        cause: String,
    },
    /// Gives the run up.
    Fail {
        /// Why, in kind.
        kind: ExitKind,
        /// Why, a full sentence.
        cause: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Leaves without touching the run: it belongs to a newer attempt.
    Leave,
}

/// The table of decisions.
#[must_use]
pub fn decide(ending: &Ending, place: &Place, history: &History, policy: &Policy) -> Action {
    let fail = |kind: ExitKind, cause: &str, hint: &Option<String>| Action::Fail {
        kind,
        cause: cause.to_owned(),
        hint: hint.clone(),
    };
    match ending {
        Ending::Finished => Action::Finish,
        Ending::Fenced => Action::Leave,
        Ending::Stopped { reason, killed } => stopped(*reason, *killed, place, history, policy),
        // Whoever started the ranks could not: nodes or network, as if a peer had been lost.
        Ending::NotStarted {
            kind: kind @ ExitKind::Distributed,
            cause,
            hint,
        } => crashed(*kind, cause.clone(), hint, place, history, policy),
        Ending::NotStarted { kind, cause, hint } => fail(*kind, cause, hint),
        Ending::Failed {
            rank,
            kind,
            cause,
            hint,
        } => match kind {
            // The same input gives the same failure: trying again would only waste nodes.
            ExitKind::Usage
            | ExitKind::Experiment
            | ExitKind::Data
            | ExitKind::NotFinite
            | ExitKind::Checkpoint
            | ExitKind::Pin
            | ExitKind::Parity => fail(*kind, cause, hint),
            ExitKind::Fenced => Action::Leave,
            // `Ok` here is a rank that said `failed` and exited with 0: as unclear as `Internal`.
            ExitKind::Ok | ExitKind::Internal | ExitKind::Distributed => {
                let cause = format!("rank {rank} failed: {cause}");
                crashed(*kind, cause, hint, place, history, policy)
            }
        },
        Ending::Crashed { cause, .. } | Ending::Hung { cause, .. } => crashed(
            ExitKind::Internal,
            cause.clone(),
            &None,
            place,
            history,
            policy,
        ),
    }
}

fn stopped(
    reason: StopReason,
    killed: bool,
    place: &Place,
    history: &History,
    policy: &Policy,
) -> Action {
    if place.fate == Fate::Over(Over::Cancelled) {
        return cancelled();
    }
    let how = if killed {
        "were killed after the grace period"
    } else {
        "left as asked"
    };
    let why = match reason {
        StopReason::Cancelled => {
            return Action::Stop {
                reason,
                cause: "cancelled by the user".into(),
            };
        }
        _ if !place.sick.is_empty() => format!("node {} is lost", place.sick.join(", ")),
        StopReason::Preempted => "preempted".to_owned(),
        StopReason::TimeLimit => "the time limit is near".to_owned(),
        StopReason::Signal => "a rank was sent SIGTERM".to_owned(),
    };
    if reason == StopReason::TimeLimit
        && let Some(action) = too_short(history, policy)
    {
        return action;
    }
    let why = format!("{why}; the ranks {how}");
    if place.scheduled {
        return leave(place, policy, place.sick.clone(), why);
    }
    // A stop that was asked for is no crash: its budget is unlimited.
    Action::Relaunch {
        after: Duration::ZERO,
        crashes: if history.progressed() {
            0
        } else {
            history.crashes
        },
        node: None,
        why,
    }
}

/// Time limits without a step of progress between them would follow each other for ever.
fn too_short(history: &History, policy: &Policy) -> Option<Action> {
    let count = history.one_more_idle(history.time_limits);
    (count > policy.max_idle_time_limits).then(|| Action::Fail {
        kind: ExitKind::Usage,
        cause: format!("the time limit was reached {count} times without a step of progress"),
        hint: Some(
            "raise 'cluster.time', or lower 'cluster.stop_grace_seconds', which is taken from it"
                .into(),
        ),
    })
}

fn cancelled() -> Action {
    Action::Stop {
        reason: StopReason::Cancelled,
        cause: "cancelled by the user, with scancel".into(),
    }
}

fn crashed(
    kind: ExitKind,
    cause: String,
    hint: &Option<String>,
    place: &Place,
    history: &History,
    policy: &Policy,
) -> Action {
    match place.fate {
        Fate::Over(Over::Cancelled) => return cancelled(),
        // Ranks that fail while their nodes are being taken say nothing of themselves.
        Fate::Preempting | Fate::Requeued | Fate::Over(_) => {
            let why = match place.fate {
                Fate::Over(Over::TimeLimit) => "the time limit was reached",
                Fate::Over(Over::NodeFailure) => "a node was lost",
                Fate::Requeued if !place.sick.is_empty() => "a node was lost",
                Fate::Requeued | Fate::Preempting | Fate::Over(Over::Preempted) => "preempted",
                _ => "the job is over",
            };
            if place.fate == Fate::Over(Over::TimeLimit)
                && let Some(action) = too_short(history, policy)
            {
                return action;
            }
            return leave(place, policy, place.sick.clone(), format!("{why}; {cause}"));
        }
        Fate::Runs | Fate::Unknown(_) => {}
    }
    if !place.sick.is_empty() {
        return node_lost(cause, hint, place, history, policy);
    }
    let crashes = history.one_more(history.crashes);
    if crashes > policy.max_crashes {
        let tries = match policy.max_crashes {
            0 => "no relaunch is allowed (cluster.max_crashes: 0)".to_owned(),
            n => format!("{n} relaunches without progress (cluster.max_crashes)"),
        };
        return Action::Fail {
            kind,
            cause: format!("{cause}; given up: {tries}"),
            hint: hint.clone().or_else(|| {
                Some("read the ranks' last words with 'rocket logs', then 'rocket resume'".into())
            }),
        };
    }
    // Twice in a row on the same node, and nothing done between: the node is the suspect.
    if let Some(node) = &place.node
        && place.scheduled
        && !history.progressed()
        && history.blamed.as_ref() == Some(node)
    {
        let why = format!("{cause}; node {node} is suspected, where a rank failed before");
        return leave(place, policy, vec![node.clone()], why);
    }
    // Ranks that are started now would know nothing of it, and train until they are killed.
    if let Some(reason) = place.leaving
        && place.scheduled
    {
        let near = match reason {
            StopReason::TimeLimit => "the time limit is near",
            StopReason::Signal => "the job was sent SIGTERM",
            StopReason::Preempted => "preempted",
            StopReason::Cancelled => "cancelled",
        };
        return leave(place, policy, Vec::new(), format!("{cause}; {near}"));
    }
    Action::Relaunch {
        after: backoff(crashes),
        crashes,
        node: place.node.clone(),
        why: format!(
            "{cause}; relaunch {crashes} of {} in {} s",
            policy.max_crashes,
            backoff(crashes).as_secs()
        ),
    }
}

fn node_lost(
    cause: String,
    hint: &Option<String>,
    place: &Place,
    history: &History,
    policy: &Policy,
) -> Action {
    let lost = history.one_more(history.node_failures);
    let nodes = place.sick.join(", ");
    if lost > policy.max_node_failures {
        return Action::Fail {
            kind: ExitKind::Distributed,
            cause: format!(
                "{cause}; node {nodes} is lost; given up: {} lost nodes without progress (cluster.max_node_failures)",
                policy.max_node_failures
            ),
            hint: hint.clone(),
        };
    }
    let why = format!("{cause}; node {nodes} is lost");
    leave(place, policy, place.sick.clone(), why)
}

/// The road to a next job.
fn leave(place: &Place, policy: &Policy, exclude: Vec<String>, why: String) -> Action {
    match place.fate {
        Fate::Requeued => Action::Yield { why },
        Fate::Over(_) => Action::Resubmit { exclude, why },
        _ if !policy.requeue => Action::Resubmit { exclude, why },
        _ => Action::Requeue { exclude, why },
    }
}

/// Wait before the n-th relaunch in a row, n >= 1: 1, 4, 16, 64, 256 and then 300 seconds.
#[must_use]
pub fn backoff(crashes: u32) -> Duration {
    let seconds = 4_u64
        .checked_pow(crashes.saturating_sub(1))
        .unwrap_or(u64::MAX);
    Duration::from_secs(seconds.min(300))
}

#[cfg(test)]
mod tests;
