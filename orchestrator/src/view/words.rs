//! Events, times and numbers in words.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rocket_common::events::{Event, EventKind};
use rocket_common::protocol::StopReason;

/// `2026-01-31 12:59:59` in the reader's time zone.
pub(crate) fn time(time: Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// `45s`, `3m07s`, `2h05m`, `3d04h`.
pub(crate) fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86400, s % 86400 / 3600),
    }
}

/// Four significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        format!("{value:.3e}")
    } else if size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// Bytes, in units of 1000.
pub(crate) fn size(bytes: u64) -> String {
    let amount = bytes as f64;
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| amount >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", amount / unit),
        None => format!("{bytes} B"),
    }
}

/// Samples per second.
pub(crate) fn rate(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}/s")
    } else {
        format!("{value:.1}/s")
    }
}

/// One line of a run's history, without time and attempt.
pub(crate) fn event_line(event: &Event) -> String {
    let at = |text: &str| match event.step {
        Some(step) => format!("{text} at step {step}"),
        None => text.to_owned(),
    };
    let mut line = match &event.kind {
        EventKind::Submitted { backend } => format!("submitted to {backend:?}").to_lowercase(),
        EventKind::AttemptStarted { world_size: 1 } => on_nodes("started 1 rank", &event.nodes),
        EventKind::AttemptStarted { world_size } => {
            on_nodes(&format!("started {world_size} ranks"), &event.nodes)
        }
        EventKind::Relaunched { .. } => at("ranks started again"),
        EventKind::RankFailed { rank, .. } => at(&format!("rank {rank} failed")),
        EventKind::Checkpoint {
            name,
            seconds,
            bytes,
        } => at(&format!(
            "checkpoint {name} saved ({:.1} MB in {seconds:.1} s)",
            *bytes as f64 / 1e6
        )),
        EventKind::CheckpointSkipped { name } => {
            format!("checkpoint {name} is damaged and skipped")
        }
        EventKind::Restored { name: Some(name) } => at(&format!("resumed from checkpoint {name}")),
        EventKind::Restored { name: None } => "starts from nothing: no checkpoint yet".into(),
        EventKind::StopRequested { reason } => {
            at(&format!("stop requested ({})", reason_words(*reason)))
        }
        EventKind::Stopped { reason } => at(&format!("stopped ({})", reason_words(*reason))),
        EventKind::Preempted => at("preempted"),
        EventKind::Queued => match &event.job {
            Some(job) => format!("handed to Slurm as job {job}"),
            None => "handed to the scheduler".into(),
        },
        EventKind::NodeExcluded => format!("node {} is not used again", event.nodes.join(", ")),
        EventKind::Requeued => "starts again".into(),
        EventKind::Evaluated { metrics } => {
            let scores: Vec<_> = metrics
                .iter()
                .map(|(name, value)| format!("{name} {:.2} %", value * 100.0))
                .collect();
            at(&format!("evaluated: {}", scores.join(", ")))
        }
        EventKind::Finished => at("finished"),
        EventKind::Failed { .. } => at("failed"),
        EventKind::Cancelled => at("cancelled"),
        EventKind::Resumed { .. } => "resumed by the user".into(),
        EventKind::SupervisorLost => "the supervisor is gone".into(),
        EventKind::Note => "note".into(),
        EventKind::Unknown(_) => event.kind.name().replace('_', " "),
    };
    if let Some(cause) = &event.cause {
        line.push_str(": ");
        line.push_str(cause);
    }
    if let Some(hint) = &event.hint {
        line.push_str("; hint: ");
        line.push_str(hint);
    }
    line
}

/// A reason of a stop in words.
fn reason_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Preempted => "preempted",
        StopReason::TimeLimit => "time limit",
        StopReason::Cancelled => "cancelled",
        StopReason::Signal => "SIGTERM",
    }
}

fn on_nodes(text: &str, nodes: &[String]) -> String {
    if nodes.is_empty() {
        text.to_owned()
    } else {
        format!("{text} on {}", nodes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let durations = [5, 187, 7500, 273_600].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(durations, ["5s", "3m07s", "2h05m", "3d04h"]);
        let numbers = [0.0, 0.5, 12.345, 123.45, 12345.6, 1e-6, 1e9].map(number);
        assert_eq!(
            numbers,
            [
                "0.0000", "0.5000", "12.35", "123.5", "12346", "1.000e-6", "1.000e9"
            ]
        );
    }
}
