//! What a supervisor would write into the run's events, where ranks have none above them.

use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::host;
use rocket_common::protocol::{EndRecord, Outcome};
use rocket_common::run_dir::RunDir;

use crate::rank::RankContext;

/// The ranks of an attempt start.
pub(super) fn started(run: &RunDir, context: &RankContext) {
    let kind = EventKind::AttemptStarted {
        world_size: context.world_size,
    };
    write(run, context, Event::new(kind).nodes(vec![host::name()]));
}

/// This rank has ended. What was left to a newer attempt is that one's to tell.
pub fn ended(run: &RunDir, context: &RankContext, record: &EndRecord) {
    if context.supervised || run.fence_check(context.attempt).is_err() {
        return;
    }
    let failed = |kind: EventKind| {
        let mut event = Event::new(kind).step(record.step);
        event.cause.clone_from(&record.cause);
        event.hint.clone_from(&record.hint);
        write(run, context, event);
    };
    match (record.outcome, record.stop) {
        (Outcome::Finished, _) if context.is_lead() => {
            // The event comes before the marker: killed between the two, a run is complete all the same.
            write(
                run,
                context,
                Event::new(EventKind::Finished).step(record.step),
            );
            if let Err(error) = run.mark_done() {
                tracing::warn!("{error}");
            }
        }
        (Outcome::Stopped, Some(reason)) if context.is_lead() => {
            let kind = EventKind::Stopped { reason };
            write(run, context, Event::new(kind).step(record.step));
        }
        // A lost peer says more itself, if it can.
        (Outcome::Failed, _) if context.is_lead() || record.kind != ExitKind::Distributed => {
            failed(EventKind::RankFailed {
                rank: context.rank,
                exit: Some(record.kind),
                signal: None,
            });
            // Whether the launcher starts the ranks again is its own business, but with these nothing
            // is won by it.
            let hopeless = !matches!(
                record.kind,
                ExitKind::Internal | ExitKind::Distributed | ExitKind::Fenced
            );
            if hopeless {
                failed(EventKind::Failed { exit: record.kind });
            }
        }
        _ => {}
    }
}

fn write(run: &RunDir, context: &RankContext, event: Event) {
    // Of its own: the lead's file of events is written by the training.
    let mut writer = EventWriter::new(run, &format!("launch-{}", context.rank));
    if let Err(error) = writer.append(event.attempt(context.attempt)) {
        tracing::warn!("{error}");
    }
}
