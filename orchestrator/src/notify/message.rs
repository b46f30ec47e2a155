//! What is posted: a JSON for programs, with a `text` that chat services show.

use rocket_common::events::{self, Event, EventKind};
use rocket_common::experiment::NotifyEvent;
use rocket_common::host;
use rocket_common::protocol::StopReason;
use rocket_common::run_dir::{Manifest, RunDir};
use serde_json::json;

/// What an event means to those who are told.
pub(super) fn kind(event: &Event) -> Option<NotifyEvent> {
    Some(match &event.kind {
        EventKind::AttemptStarted { .. } if event.attempt == Some(0) => NotifyEvent::Started,
        EventKind::Finished => NotifyEvent::Finished,
        EventKind::Failed { .. } => NotifyEvent::Failed,
        EventKind::Cancelled => NotifyEvent::Cancelled,
        EventKind::RankFailed { .. } => NotifyEvent::Crashed,
        EventKind::Preempted
        | EventKind::Stopped {
            reason: StopReason::Preempted,
        } => NotifyEvent::Preempted,
        _ => return None,
    })
}

/// The JSON.
pub(super) fn body(what: NotifyEvent, event: &Event, run: &RunDir, manifest: &Manifest) -> String {
    let state = events::read(run).map(|events| events::derive(&events));
    let metrics = state.map(|state| state.metrics).unwrap_or_default();
    let id = run.id();
    let at = event
        .step
        .map_or(String::new(), |step| format!(" at step {step}"));
    let mut text = match what {
        NotifyEvent::Started => format!("run {id} has started"),
        NotifyEvent::Finished => format!("run {id} has finished{at}"),
        NotifyEvent::Failed => format!("run {id} has failed{at}"),
        NotifyEvent::Cancelled => format!("run {id} was cancelled{at}"),
        NotifyEvent::Preempted => format!("run {id} was preempted{at} and goes on by itself"),
        NotifyEvent::Crashed => format!("a rank of run {id} crashed{at}"),
    };
    if let Some(cause) = &event.cause {
        text.push_str(&format!(": {cause}"));
    }
    if let (NotifyEvent::Finished, Some((name, value))) = (what, metrics.iter().next()) {
        text.push_str(&format!(", {name} {:.2} %", value * 100.0));
    }
    json!({
        "text": text,
        "event": what,
        "run": id,
        "name": manifest.name,
        "cause": event.cause,
        "hint": event.hint,
        "step": event.step,
        "attempt": event.attempt,
        "job": event.job,
        "metrics": metrics,
        "commit": manifest.commit,
        "sweep": manifest.sweep.as_ref().map(|sweep| json!({
            "id": sweep.id, "point": sweep.point, "set": sweep.set,
        })),
        "host": host::name(),
        "dir": run.path(),
        "time": event.time,
    })
    .to_string()
}
