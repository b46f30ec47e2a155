//! From what each rank left behind to one ending: a pure function.

use rocket_common::exit::ExitKind;
use rocket_common::protocol::{EndRecord, Outcome, StopReason};

use super::decide::Ending;

/// How a rank's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be found out.
    Unknown,
}

/// What is known of a rank after its end.
#[derive(Debug, Clone, PartialEq)]
pub struct RankEnd {
    /// Its process.
    pub exit: Exit,
    /// Its last words, if it had any.
    pub record: Option<EndRecord>,
    /// The supervisor killed it.
    pub killed: bool,
}

/// What the supervisor did to the attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interventions {
    /// It asked for a stop.
    pub stop: Option<StopReason>,
    /// It found a newer attempt.
    pub fenced: bool,
    /// It killed the ranks since this one stood still; in words.
    pub hung: Option<(u32, String)>,
}

/// Joins the ranks' ends, in the order in which they ended. `protocol`: the ranks write end records
/// (the trainer); without it exit codes decide (`command:`).
#[must_use]
pub fn ending(ends: &[(u32, RankEnd)], did: &Interventions, protocol: bool) -> Ending {
    let fenced = |end: &RankEnd| matches!(&end.record, Some(r) if r.kind == ExitKind::Fenced);
    if did.fenced || ends.iter().any(|(_, end)| fenced(end)) {
        return Ending::Fenced;
    }
    if let Some((rank, cause)) = &did.hung {
        return Ending::Hung {
            rank: *rank,
            cause: cause.clone(),
        };
    }
    let is = |outcome: Outcome| move |(_, end): &(u32, RankEnd)| matches!(&end.record, Some(r) if r.outcome == outcome);
    // One finished rank means that the work is complete: a rank says so after the last save and the
    // last barrier. A peer that crashed while leaving takes nothing away from it.
    if ends.iter().any(is(Outcome::Finished)) && !ends.iter().any(is(Outcome::Failed)) {
        return Ending::Finished;
    }
    if let Some(ending) = first_failure(ends, did, protocol) {
        return ending;
    }
    let stopped = ends
        .iter()
        .filter_map(|(_, end)| end.record.as_ref()?.stop)
        .next();
    match (did.stop, stopped) {
        // A program without records that leaves with 0 after a stop request: whether it was done
        // cannot be told, so it is started again, which loses nothing.
        (Some(reason), _) | (None, Some(reason)) => Ending::Stopped {
            reason,
            killed: ends.iter().any(|(_, end)| end.killed),
        },
        (None, None) => Ending::Finished,
    }
}

/// The failure that explains the others: last words before silence, a cause before its consequence
/// (`Distributed` says only that a peer was lost), and the earliest of equals.
fn first_failure(ends: &[(u32, RankEnd)], did: &Interventions, protocol: bool) -> Option<Ending> {
    let worst = ends
        .iter()
        .filter_map(|(rank, end)| Some((severity(end, did, protocol)?, *rank, end)))
        .min_by_key(|(severity, _, _)| *severity)?;
    let (_, rank, end) = worst;
    Some(match &end.record {
        Some(record) if record.outcome == Outcome::Failed => Ending::Failed {
            rank,
            kind: record.kind,
            cause: record
                .cause
                .clone()
                .unwrap_or_else(|| format!("{:?}", record.kind)),
            hint: record.hint.clone(),
        },
        _ => Ending::Crashed {
            rank,
            cause: format!("rank {rank} {}", words(end.exit, protocol)),
        },
    })
}

/// Smaller explains more; `None` is no failure.
fn severity(end: &RankEnd, did: &Interventions, protocol: bool) -> Option<u8> {
    if let Some(record) = &end.record {
        return match (record.outcome, record.kind) {
            (Outcome::Failed, ExitKind::Distributed) => Some(2),
            (Outcome::Failed, _) => Some(0),
            _ => None,
        };
    }
    // What the supervisor killed says nothing of itself.
    if end.killed {
        return None;
    }
    match end.exit {
        Exit::Code(0) if protocol => Some(1),
        Exit::Code(0) => None,
        // SIGTERM ends a program that does not catch it, as asked.
        Exit::Signal(15) if did.stop.is_some() => None,
        Exit::Code(code) if did.stop.is_some() && !protocol && code == 128 + 15 => None,
        _ => Some(1),
    }
}

fn words(exit: Exit, protocol: bool) -> String {
    match exit {
        Exit::Code(0) => "left without an end record".into(),
        Exit::Code(code) if protocol => {
            format!(
                "left with exit code {code} ({:?})",
                ExitKind::from_code(code)
            )
        }
        Exit::Code(code) => format!("left with exit code {code}"),
        Exit::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(nix::sys::signal::Signal::SIGKILL) => {
                "was killed by SIGKILL (by somebody, or by the kernel when memory ran out)".into()
            }
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {signal}"),
        },
        Exit::Unknown => "ended, and how could not be found out".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome, kind: ExitKind) -> Option<EndRecord> {
        let stop = (outcome == Outcome::Stopped).then_some(StopReason::Signal);
        Some(EndRecord {
            outcome,
            kind,
            step: 7,
            stop,
            cause: Some("words".into()),
            hint: None,
        })
    }

    fn end(exit: Exit, record: Option<EndRecord>) -> RankEnd {
        RankEnd {
            exit,
            record,
            killed: false,
        }
    }

    fn killed() -> RankEnd {
        RankEnd {
            exit: Exit::Signal(9),
            record: None,
            killed: true,
        }
    }

    fn name(ends: Vec<RankEnd>, did: &Interventions, protocol: bool) -> String {
        let ends: Vec<(u32, RankEnd)> = (0..).zip(ends).collect();
        match ending(&ends, did, protocol) {
            Ending::Finished => "finished".into(),
            Ending::Stopped { reason, killed } => format!("stopped {reason:?} killed {killed}"),
            Ending::Failed { rank, kind, .. } => format!("failed {rank} {kind:?}"),
            Ending::Crashed { rank, .. } => format!("crashed {rank}"),
            Ending::Hung { rank, .. } => format!("hung {rank}"),
            Ending::Fenced => "fenced".into(),
            Ending::NotStarted { .. } => "not started".into(),
        }
    }

    #[test]
    fn trainer_ranks_are_judged_by_their_last_words() {
        use Exit::{Code, Signal};
        let finished = || end(Code(0), record(Outcome::Finished, ExitKind::Ok));
        let stopped = || end(Code(0), record(Outcome::Stopped, ExitKind::Ok));
        let failed = |kind: ExitKind| end(Code(kind.code().into()), record(Outcome::Failed, kind));
        let lost = || failed(ExitKind::Distributed);
        let none = Interventions::default();
        let asked = Interventions {
            stop: Some(StopReason::Preempted),
            ..none.clone()
        };
        let hung = Interventions {
            hung: Some((1, "words".into())),
            ..none.clone()
        };
        let fenced = Interventions {
            fenced: true,
            ..none.clone()
        };
        #[rustfmt::skip]
        let table: Vec<(Vec<RankEnd>, &Interventions, &str)> = vec![
            (vec![finished(), finished()],                   &none,   "finished"),
            (vec![finished(), end(Signal(11), None)],        &none,   "finished"),
            (vec![finished(), finished()],                   &asked,  "finished"),
            (vec![stopped(), stopped()],                     &asked,  "stopped Preempted killed false"),
            (vec![stopped(), stopped()],                     &none,   "stopped Signal killed false"),
            (vec![killed(), killed()],                       &asked,  "stopped Preempted killed true"),
            (vec![stopped(), killed()],                      &asked,  "stopped Preempted killed true"),
            (vec![end(Signal(9), None), lost()],             &none,   "crashed 0"),
            (vec![lost(), end(Signal(9), None)],             &none,   "crashed 1"),
            (vec![lost(), lost()],                           &none,   "failed 0 Distributed"),
            (vec![lost(), failed(ExitKind::NotFinite)],      &none,   "failed 1 NotFinite"),
            (vec![end(Signal(9), None), failed(ExitKind::Data)], &none, "failed 1 Data"),
            (vec![killed(), end(Code(1), None)],             &none,   "crashed 1"),
            (vec![end(Code(0), None), killed()],             &none,   "crashed 0"),
            (vec![end(Code(2), None), end(Code(2), None)],   &none,   "crashed 0"),
            (vec![killed(), killed()],                       &hung,   "hung 1"),
            (vec![killed(), killed()],                       &fenced, "fenced"),
            (vec![lost(), failed(ExitKind::Fenced)],         &none,   "fenced"),
            (vec![end(Signal(9), None), lost()],             &asked,  "crashed 0"),
        ];
        for (ends, did, expected) in table {
            assert_eq!(name(ends.clone(), did, true), expected, "{ends:?} {did:?}");
        }
    }

    #[test]
    fn other_programs_are_judged_by_their_exit() {
        use Exit::{Code, Signal};
        let none = Interventions::default();
        let asked = Interventions {
            stop: Some(StopReason::Preempted),
            ..none.clone()
        };
        let cancel = Interventions {
            stop: Some(StopReason::Cancelled),
            ..none.clone()
        };
        #[rustfmt::skip]
        let table: Vec<(Vec<RankEnd>, &Interventions, &str)> = vec![
            (vec![end(Code(0), None), end(Code(0), None)],   &none,   "finished"),
            (vec![end(Code(0), None), end(Code(3), None)],   &none,   "crashed 1"),
            (vec![end(Signal(9), None), killed()],           &none,   "crashed 0"),
            (vec![end(Signal(15), None)],                    &none,   "crashed 0"),
            (vec![end(Signal(15), None)],                    &asked,  "stopped Preempted killed false"),
            (vec![end(Code(143), None)],                     &asked,  "stopped Preempted killed false"),
            (vec![end(Code(0), None)],                       &asked,  "stopped Preempted killed false"),
            (vec![end(Code(1), None)],                       &asked,  "crashed 0"),
            (vec![killed()],                                 &cancel, "stopped Cancelled killed true"),
            (vec![end(Code(0), record(Outcome::Finished, ExitKind::Ok))], &asked, "finished"),
        ];
        for (ends, did, expected) in table {
            assert_eq!(name(ends.clone(), did, false), expected, "{ends:?} {did:?}");
        }
    }
}
