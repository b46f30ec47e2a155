//! A run's time as pieces, each of which went into one thing.

use jiff::Timestamp;
use rocket_common::events::{Event, EventKind, Status};
use rocket_common::protocol::StopReason;

use super::{Context, Use};

/// Nanoseconds since 1970.
type Time = i128;

/// A piece of time.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: Time,
    to: Time,
    of: Use,
    /// Number of its attempt among those that were started; absent before the first.
    attempt: Option<usize>,
}

/// Why an attempt is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Crash,
    Preemption,
    Otherwise,
}

/// Its supervisor died of whatever, and nobody had noticed.
const DEAD: (Cause, Use) = (Cause::Otherwise, Use::Unattended);

/// One attempt.
#[derive(Debug, Clone)]
struct Attempt {
    number: Option<u32>,
    job: Option<String>,
    /// When the state was there, and at which step.
    restored: Option<(Time, u64)>,
    started: Time,
    /// When which checkpoint was published.
    reached: Vec<(Time, u64)>,
    cause: Option<Cause>,
}

/// The pieces, without a gap from the submission to the end.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    context: Context<'a>,
    pieces: Vec<Piece>,
    attempts: Vec<Attempt>,
    at: Time,
    now: Use,
    /// Step of the last checkpoint that was published.
    checkpoint: u64,
    /// Since the start of the current attempt.
    lost_a_node: bool,
    over: bool,
}

impl<'a> Timeline<'a> {
    /// Of events in their order; `None` if there is none.
    pub(super) fn of(events: &[Event], context: Context<'a>) -> Option<Self> {
        let first = events.first()?;
        let mut this = Self {
            context,
            pieces: Vec::new(),
            attempts: Vec::new(),
            at: nanoseconds(first.time),
            now: Use::Queued,
            checkpoint: 0,
            lost_a_node: false,
            over: false,
        };
        for event in events {
            this.apply(event);
        }
        this.end();
        this.discard();
        Some(this)
    }

    /// Each piece's use and length.
    pub(super) fn spent(&self) -> impl Iterator<Item = (Use, i128)> + '_ {
        self.pieces
            .iter()
            .map(|piece| (piece.of, piece.to - piece.from))
    }

    fn apply(&mut self, event: &Event) {
        let current = self.attempts.last().and_then(|attempt| attempt.number);
        let superseded =
            matches!((event.attempt, current), (Some(of), Some(current)) if of < current);
        if self.over || superseded {
            return;
        }
        // Clocks of two machines may differ; time does not run backwards here.
        let time = nanoseconds(event.time).max(self.at);
        match &event.kind {
            EventKind::AttemptStarted { .. } => {
                let before = self
                    .attempts
                    .last()
                    .and_then(|attempt| attempt.job.as_ref());
                if event.job.is_some() && event.job.as_ref() == before {
                    // The scheduler took the job and queued it again, without a word to its supervisor.
                    let of = if self.lost_a_node {
                        (Cause::Crash, Use::QueuedAfterCrash)
                    } else {
                        (Cause::Preemption, Use::QueuedAfterPreemption)
                    };
                    self.found_dead(time, of);
                } else {
                    self.found_dead(time, DEAD);
                }
                self.until(time);
                self.lost_a_node = false;
                self.attempts.push(Attempt {
                    job: event.job.clone(),
                    number: event.attempt,
                    restored: None,
                    started: time,
                    reached: Vec::new(),
                    cause: None,
                });
                self.now = self.started();
            }
            EventKind::Relaunched { .. } => self.turn(time, self.started()),
            EventKind::Restored { .. } => {
                if self.now == Use::Starting {
                    self.turn(time, Use::Computing);
                }
                let step = event.step.unwrap_or_default();
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.restored = Some((time, step));
                }
            }
            EventKind::Checkpoint { seconds, .. } => {
                let took = (seconds.max(0.0) * 1e9) as i128;
                self.until((time - took).max(self.at));
                self.during(time, Use::Saving);
                if let (Some(step), Some(attempt)) = (event.step, self.attempts.last_mut()) {
                    attempt.reached.push((time, step));
                    self.checkpoint = step;
                }
            }
            // Of an evaluation by a run of its own, which took no time of this one.
            EventKind::Evaluated { .. } if event.attempt.is_none() => {}
            EventKind::Evaluated { .. } => {
                // It began when the step before it was recorded; where that was not, nobody knows.
                let began = event.step.and_then(|step| self.recorded_at(step));
                if let Some(began) = began.filter(|began| (self.at..=time).contains(began)) {
                    self.until(began);
                    self.during(time, Use::Evaluating);
                } else if self.now == Use::Computing {
                    // Several sets are told of one after the other.
                    let again = self
                        .pieces
                        .last()
                        .is_some_and(|piece| piece.of == Use::Evaluating);
                    let of = if again {
                        Use::Evaluating
                    } else {
                        Use::Computing
                    };
                    self.during(time, of);
                }
            }
            EventKind::StopRequested { .. } if self.is_at_work() => self.turn(time, Use::Stopping),
            EventKind::Stopped { reason } => match reason {
                StopReason::Cancelled => self.leave(time, Cause::Otherwise, Use::Paused),
                _ => self.leave(time, Cause::Preemption, Use::QueuedAfterPreemption),
            },
            EventKind::Preempted => {
                self.leave(time, Cause::Preemption, Use::QueuedAfterPreemption);
            }
            EventKind::RankFailed { .. } => {
                self.leave(time, Cause::Crash, Use::QueuedAfterCrash);
            }
            EventKind::Requeued if self.is_at_work() => match self.now {
                Use::Stopping => self.leave(time, Cause::Preemption, Use::QueuedAfterPreemption),
                _ => self.leave(time, Cause::Crash, Use::QueuedAfterCrash),
            },
            EventKind::Cancelled => self.leave(time, Cause::Otherwise, Use::Paused),
            EventKind::Failed { .. } => self.leave(time, Cause::Otherwise, Use::Paused),
            EventKind::NodeExcluded => self.lost_a_node = true,
            EventKind::SupervisorLost => {
                self.found_dead(time, DEAD);
                self.turn(time, Use::Unattended);
            }
            EventKind::Resumed { .. } => {
                self.found_dead(time, DEAD);
                self.turn(time, Use::Queued);
            }
            EventKind::Queued if self.now == Use::Unattended => {
                self.turn(time, Use::QueuedAfterCrash);
            }
            EventKind::Finished => {
                self.until(time);
                self.over = true;
            }
            _ => {}
        }
    }

    /// What ranks do right after their start.
    fn started(&self) -> Use {
        if self.context.trainer {
            Use::Starting
        } else {
            Use::Computing
        }
    }

    /// Whether ranks run.
    fn is_at_work(&self) -> bool {
        matches!(self.now, Use::Computing | Use::Starting | Use::Stopping)
    }

    /// Gives the time until then to what it goes into now.
    fn until(&mut self, time: Time) {
        self.during(time, self.now);
    }

    /// Gives the time until then to something, without a change of what follows.
    fn during(&mut self, time: Time, of: Use) {
        if time > self.at {
            self.pieces.push(Piece {
                from: self.at,
                to: time,
                of,
                attempt: self.attempts.len().checked_sub(1),
            });
            self.at = time;
        }
    }

    fn turn(&mut self, time: Time, to: Use) {
        self.until(time);
        self.now = to;
    }

    /// The ranks are gone. The first cause is the one that counts.
    fn leave(&mut self, time: Time, cause: Cause, to: Use) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.cause.get_or_insert(cause);
        }
        self.turn(time, to);
    }

    /// Somebody else goes on although ranks should run: they died at their last sign of life, of this cause,
    /// and since then it was this.
    fn found_dead(&mut self, time: Time, (cause, to): (Cause, Use)) {
        if !self.is_at_work() {
            return;
        }
        let sign = self
            .context
            .recorded
            .iter()
            .map(|(_, at)| (at * 1e9) as i128);
        let sign = sign.filter(|at| *at <= time).max().unwrap_or(self.at);
        self.until(sign.max(self.at));
        self.leave(self.at, cause, to);
    }

    /// When the metrics of a step were recorded.
    fn recorded_at(&self, step: u64) -> Option<Time> {
        let recorded = self.context.recorded;
        let place = recorded
            .binary_search_by_key(&step, |(step, _)| *step)
            .ok()?;
        Some((recorded[place].1 * 1e9) as i128)
    }

    /// Until now, for a run that is not over.
    fn end(&mut self) {
        let now = nanoseconds(self.context.now).max(self.at);
        let status = self.context.status;
        let rests = status.is_settled() && status != Status::Lost;
        if self.over || rests || self.now == Use::Paused {
            return;
        }
        if status == Status::Lost {
            self.found_dead(now, DEAD);
        }
        self.until(now);
    }

    /// Gives steps to what they were lost to: those beyond the step from which a later attempt went on, or
    /// would have to.
    fn discard(&mut self) {
        let mut kept = if self.over || self.is_at_work() {
            u64::MAX
        } else {
            self.checkpoint
        };
        for index in (0..self.attempts.len()).rev() {
            if self.context.trainer && kept < u64::MAX {
                let of = match self.attempts[index].cause {
                    Some(Cause::Crash) => Use::LostToCrash,
                    Some(Cause::Preemption) => Use::LostToPreemption,
                    Some(Cause::Otherwise) | None => Use::LostOtherwise,
                };
                self.give(index, self.reached(index, kept), of);
            }
            if let Some((_, step)) = self.attempts[index].restored {
                kept = kept.min(step);
            }
        }
    }

    /// When an attempt had done a step, as near as checkpoints and metrics tell.
    fn reached(&self, index: usize, step: u64) -> Time {
        let attempt = &self.attempts[index];
        let (start, from) = attempt.restored.unwrap_or((Time::MIN, 0));
        if from >= step {
            return start;
        }
        let after = self
            .attempts
            .get(index + 1)
            .map_or(Time::MAX, |next| next.started);
        let saved = attempt.reached.iter().copied();
        let recorded = self.context.recorded.iter();
        let recorded = recorded.map(|(step, at)| ((at * 1e9) as i128, *step));
        saved
            .chain(recorded)
            .filter(|(time, reached)| *reached <= step && (start..after).contains(time))
            .map(|(time, _)| time)
            .max()
            .unwrap_or(start)
    }

    /// Gives what an attempt did since some time to another use.
    fn give(&mut self, attempt: usize, since: Time, of: Use) {
        let mut cut = Vec::new();
        for piece in &mut self.pieces {
            let useful = matches!(piece.of, Use::Computing | Use::Evaluating | Use::Saving);
            if piece.attempt != Some(attempt) || !useful || piece.to <= since {
                continue;
            }
            if piece.from < since {
                cut.push(Piece {
                    to: since,
                    ..*piece
                });
                piece.from = since;
            }
            piece.of = of;
        }
        self.pieces.extend(cut);
    }
}

fn nanoseconds(time: Timestamp) -> Time {
    time.as_nanosecond()
}
