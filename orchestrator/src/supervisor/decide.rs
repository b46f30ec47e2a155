//! What an ending means: a pure function of (what happened, history, policy) to an action. No clock,
//! no file, no process.

use std::time::Duration;

use rocket_common::exit::ExitKind;
use rocket_common::protocol::StopReason;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Crashes and hangs since the last progress; this ending is not among them.
    pub crashes: u32,
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

    /// The history that the next attempt starts with.
    #[must_use]
    pub fn after(self, action: &Action) -> Self {
        let crashes = match action {
            Action::Relaunch { crashes, .. } => *crashes,
            _ => self.crashes,
        };
        Self {
            crashes,
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
        /// Why, a full sentence.
        why: String,
    },
    /// Leaves the run stopped, to be resumed by a user.
    Stop {
        /// Why.
        reason: StopReason,
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
pub fn decide(ending: &Ending, history: &History, policy: &Policy) -> Action {
    match ending {
        Ending::Finished => Action::Finish,
        Ending::Fenced => Action::Leave,
        Ending::Stopped { reason, killed } => stopped(*reason, *killed, history),
        Ending::NotStarted { kind, cause, hint } => Action::Fail {
            kind: *kind,
            cause: cause.clone(),
            hint: hint.clone(),
        },
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
            | ExitKind::Parity => Action::Fail {
                kind: *kind,
                cause: cause.clone(),
                hint: hint.clone(),
            },
            ExitKind::Fenced => Action::Leave,
            // `Ok` here is a rank that said `failed` and exited with 0: as unclear as `Internal`.
            ExitKind::Ok | ExitKind::Internal | ExitKind::Distributed => crashed(
                *kind,
                format!("rank {rank} failed: {cause}"),
                hint,
                history,
                policy,
            ),
        },
        Ending::Crashed { cause, .. } | Ending::Hung { cause, .. } => {
            crashed(ExitKind::Internal, cause.clone(), &None, history, policy)
        }
    }
}

fn stopped(reason: StopReason, killed: bool, history: &History) -> Action {
    let how = if killed {
        "were killed after the grace period"
    } else {
        "left as asked"
    };
    let why = match reason {
        StopReason::Cancelled => return Action::Stop { reason },
        StopReason::Preempted => "preempted",
        StopReason::TimeLimit => "the time limit is near",
        StopReason::Signal => "a rank was sent SIGTERM",
    };
    // A stop that was asked for is no crash: its budget is unlimited.
    Action::Relaunch {
        after: Duration::ZERO,
        crashes: if history.progressed() {
            0
        } else {
            history.crashes
        },
        why: format!("{why}; the ranks {how}"),
    }
}

fn crashed(
    kind: ExitKind,
    cause: String,
    hint: &Option<String>,
    history: &History,
    policy: &Policy,
) -> Action {
    let crashes = if history.progressed() {
        1
    } else {
        history.crashes + 1
    };
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
    Action::Relaunch {
        after: backoff(crashes),
        crashes,
        why: format!(
            "{cause}; relaunch {crashes} of {} in {} s",
            policy.max_crashes,
            backoff(crashes).as_secs()
        ),
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
