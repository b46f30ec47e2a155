//! Where the time of a run went: a pure function of its events, and of the times of its metrics where events
//! leave something open. Every moment from the submission to the end belongs to exactly one use.

#[cfg(test)]
mod tests;
mod timeline;

use jiff::Timestamp;
use rocket_common::events::{Event, Status};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use timeline::Timeline;

/// What a moment went into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// Optimiser steps that are part of the result; of a program that counts none, all the time it ran.
    Computing,
    /// Evaluations.
    Evaluating,
    /// Checkpoints.
    Saving,
    /// From the start of the ranks until the state is there: processes, rendezvous, model, data.
    Starting,
    /// From the wish to stop until the ranks have left, without the checkpoint.
    Stopping,
    /// Steps after the last checkpoint before a crash or a hang: they are done again.
    LostToCrash,
    /// Steps that were not saved before the nodes were taken: they are done again.
    LostToPreemption,
    /// Steps that were not saved for another reason: the supervisor died, or the run was given up or ended.
    LostOtherwise,
    /// Waiting to be started, by a scheduler or for a turn.
    Queued,
    /// Waiting to be started again after a preemption or a time limit.
    QueuedAfterPreemption,
    /// Waiting to be started again after a crash or the loss of a node.
    QueuedAfterCrash,
    /// Ended or given up, until somebody resumed it.
    Paused,
    /// The supervisor was dead, and nobody had noticed.
    Unattended,
}

impl Use {
    /// Each of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 13] = [
        Self::Computing,
        Self::Evaluating,
        Self::Saving,
        Self::Starting,
        Self::Stopping,
        Self::LostToCrash,
        Self::LostToPreemption,
        Self::LostOtherwise,
        Self::Queued,
        Self::QueuedAfterPreemption,
        Self::QueuedAfterCrash,
        Self::Paused,
        Self::Unattended,
    ];

    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Computing => "computing",
            Self::Evaluating => "evaluating",
            Self::Saving => "saving",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::LostToCrash => "lost_to_crash",
            Self::LostToPreemption => "lost_to_preemption",
            Self::LostOtherwise => "lost_otherwise",
            Self::Queued => "queued",
            Self::QueuedAfterPreemption => "queued_after_preemption",
            Self::QueuedAfterCrash => "queued_after_crash",
            Self::Paused => "paused",
            Self::Unattended => "unattended",
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Computing => "computing",
            Self::Evaluating => "evaluating",
            Self::Saving => "saving checkpoints",
            Self::Starting => "starting up",
            Self::Stopping => "stopping",
            Self::LostToCrash => "steps lost to crashes",
            Self::LostToPreemption => "steps lost to preemption",
            Self::LostOtherwise => "steps lost otherwise",
            Self::Queued => "waiting to start",
            Self::QueuedAfterPreemption => "waiting after preemption",
            Self::QueuedAfterCrash => "waiting after crashes",
            Self::Paused => "ended, until resumed",
            Self::Unattended => "supervisor dead",
        }
    }

    /// Whether ranks had their nodes.
    fn is_on_nodes(self) -> bool {
        self <= Self::LostOtherwise
    }
}

/// What is known besides the events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Whether the ranks say when their state is there, as the trainer does.
    pub(crate) trainer: bool,
    /// Steps of the training's metrics, and when they were recorded (seconds since 1970).
    pub(crate) recorded: &'a [(u64, f64)],
    /// Where the run stands.
    pub(crate) status: Status,
    /// Now, for a run that is not over.
    pub(crate) now: Timestamp,
}

/// Where the time went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goodput {
    /// Nanoseconds by use.
    spent: [i128; Use::ALL.len()],
}

impl Goodput {
    /// Of events in the order of [`rocket_common::events::read`]; `None` before a submission.
    pub(crate) fn of(events: &[Event], context: Context<'_>) -> Option<Self> {
        let timeline = Timeline::of(events, context)?;
        let mut spent = [0; Use::ALL.len()];
        for (of, nanoseconds) in timeline.spent() {
            spent[of as usize] += nanoseconds;
        }
        Some(Self { spent })
    }

    /// Seconds that went into something.
    pub(crate) fn seconds(&self, of: Use) -> f64 {
        self.spent[of as usize] as f64 / 1e9
    }

    /// Seconds from the submission to the end, or until now.
    pub(crate) fn wall(&self) -> f64 {
        self.spent.iter().sum::<i128>() as f64 / 1e9
    }

    /// Every use that took time, in the order of [`Use::ALL`].
    pub(crate) fn uses(&self) -> impl Iterator<Item = (Use, f64)> + '_ {
        let seconds = Use::ALL.map(|of| (of, self.seconds(of)));
        seconds.into_iter().filter(|(_, seconds)| *seconds > 0.0)
    }

    /// Share of the whole time that went into steps that count.
    pub(crate) fn share(&self) -> f64 {
        ratio(self.seconds(Use::Computing), self.wall())
    }

    /// The same of the time in which ranks had their nodes.
    pub(crate) fn share_on_nodes(&self) -> f64 {
        let on_nodes = self.uses().filter(|(of, _)| of.is_on_nodes());
        let seconds = on_nodes.map(|(_, seconds)| seconds).sum();
        ratio(self.seconds(Use::Computing), seconds)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Serialize for Goodput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Uses<'a>(&'a Goodput);
        impl Serialize for Uses<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(Use::ALL.len()))?;
                for of in Use::ALL {
                    map.serialize_entry(of.name(), &self.0.seconds(of))?;
                }
                map.end()
            }
        }
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("wall_seconds", &self.wall())?;
        map.serialize_entry("share", &self.share())?;
        map.serialize_entry("share_on_nodes", &self.share_on_nodes())?;
        map.serialize_entry("seconds", &Uses(self))?;
        map.end()
    }
}
