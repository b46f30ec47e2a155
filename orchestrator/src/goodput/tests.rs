//! The table of what time is given to what.

use std::fmt::Write as _;

use jiff::Timestamp;
use proptest::prelude::*;
use rocket_common::events::{Event, EventKind, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::protocol::StopReason;

use super::{Context, Goodput, Use};

const DAY: i64 = 1_767_225_600;

/// Minutes after midnight.
fn at(minutes: f64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(DAY) * 1_000_000_000 + (minutes * 6e10) as i128).unwrap()
}

fn event(minutes: f64, name: &str, attempt: Option<u32>, step: Option<u64>) -> Event {
    let kind = match name {
        "submitted" => EventKind::Submitted {
            backend: BackendKind::Slurm,
        },
        "resumed" => EventKind::Resumed {
            backend: BackendKind::Slurm,
        },
        "queued" => EventKind::Queued,
        "started" => EventKind::AttemptStarted { world_size: 8 },
        "restored" => EventKind::Restored { name: None },
        "checkpoint" => EventKind::Checkpoint {
            name: String::new(),
            seconds: 60.0,
            bytes: 1,
        },
        "evaluated" => EventKind::Evaluated { metrics: [].into() },
        "stop" => EventKind::StopRequested {
            reason: StopReason::Preempted,
        },
        "stopped" => EventKind::Stopped {
            reason: StopReason::Preempted,
        },
        "crashed" => EventKind::RankFailed {
            rank: 3,
            exit: None,
            signal: Some(9),
        },
        "requeued" => EventKind::Requeued,
        "lost" => EventKind::SupervisorLost,
        "excluded" => EventKind::NodeExcluded,
        "failed" => EventKind::Failed {
            exit: ExitKind::NotFinite,
        },
        "cancelled" => EventKind::Cancelled,
        "finished" => EventKind::Finished,
        other => panic!("{other}"),
    };
    let mut event = Event::new(kind);
    (event.time, event.attempt, event.step) = (at(minutes), attempt, step);
    event
}

/// A table: a line for each event, `minutes event [attempt [step [job]]]`.
fn events(table: &str) -> Vec<Event> {
    table
        .split(',')
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words.get(at).map(|word| word.parse::<u64>().unwrap());
            let attempt = number(2).map(|attempt| attempt as u32);
            let event = event(words[0].parse().unwrap(), words[1], attempt, number(3));
            match words.get(4) {
                Some(job) => event.job(*job),
                None => event,
            }
        })
        .collect()
}

fn spent(table: &str, trainer: bool, recorded: &[(u64, f64)], status: Status, now: f64) -> String {
    let recorded: Vec<(u64, f64)> = recorded
        .iter()
        .map(|(step, minutes)| (*step, DAY as f64 + minutes * 60.0))
        .collect();
    let context = Context {
        trainer,
        recorded: &recorded,
        status,
        now: at(now),
    };
    let goodput = Goodput::of(&events(table), context).unwrap();
    let mut text = String::new();
    for (of, seconds) in goodput.uses() {
        let _ = writeln!(text, "  {:<26}{:>6.1}", of.words(), seconds / 60.0);
    }
    let _ = writeln!(
        text,
        "  {:<26}{:>6.1}  goodput {:.3}, on nodes {:.3}",
        "all",
        goodput.wall() / 60.0,
        goodput.share(),
        goodput.share_on_nodes()
    );
    text
}

/// Name, events, whether it is the trainer, metrics, where it stands, now.
type Case<'a> = (&'a str, String, bool, &'a [(u64, f64)], Status, f64);

#[test]
fn the_table_of_uses() {
    use Status::{Cancelled, Failed, Finished, Lost, Pending, Running, Stopped};
    let start = "0 submitted, 10 started 0, 15 restored 0 0";
    let cases: &[Case<'_>] = &[
        (
            "from one end to the other",
            format!("{start}, 45 checkpoint 0 100, 60 finished 0 150"),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "preempted, and all is saved",
            format!("{start}, 45 stop 0 100, 47 checkpoint 0 101, 48 stopped 0 101, 48 requeued 0 101, 78 started 1, 80 restored 1 101, 100 finished 1 200"),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "a node failed: what came after the checkpoint is done again",
            format!("{start}, 45 checkpoint 0 100, 65 requeued 0 160, 70 started 1, 71 restored 1 100, 100 finished 1 200"),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "Slurm took the job without a word and queued it again; the metrics tell when",
            "0 submitted, 10 started 0 0 41, 15 restored 0 0, 45 checkpoint 0 100, 80 started 1 0 41, 82 restored 1 100, 100 finished 1 200".into(),
            true,
            &[(100, 44.0), (130, 60.0)],
            Finished,
            999.0,
        ),
        (
            "the same, of a node that was lost",
            "0 submitted, 10 started 0 0 41, 15 restored 0 0, 45 checkpoint 0 100, 79 excluded, 80 started 1 0 41, 82 restored 1 100, 100 finished 1 200".into(),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "two crashes, the second before any checkpoint of its own",
            format!("{start}, 45 checkpoint 0 100, 60 crashed 0 150, 60 requeued 0 150, 61 started 1, 62 restored 1 100, 72 crashed 1 130, 72 requeued 1 130, 73 started 2, 75 restored 2 100, 105 finished 2 200"),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "the checkpoint is damaged, and the one before it is used",
            format!("{start}, 25 checkpoint 0 50, 45 checkpoint 0 100, 50 crashed 0 110, 51 started 1, 52 restored 1 50, 90 finished 1 200"),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "an evaluation, whose beginning the metrics tell",
            format!("{start}, 50 evaluated 0 100, 50 evaluated 0 100, 60 finished 0 120"),
            true,
            &[(90, 35.0), (100, 40.0)],
            Finished,
            999.0,
        ),
        (
            "the supervisor died; its metrics tell when, and heal found it",
            format!("{start}, 45 checkpoint 0 100, 90 lost, 91 queued, 95 started 1, 96 restored 1 100, 120 finished 1 200"),
            true,
            &[(90, 40.0), (100, 44.0), (120, 55.0)],
            Finished,
            999.0,
        ),
        (
            "it was cancelled and resumed a day later",
            format!("{start}, 45 checkpoint 0 100, 46 cancelled 0 100, 1486 resumed, 1490 started 1, 1492 restored 1 100, 1500 finished 1 130"),
            true,
            &[],
            Finished,
            9999.0,
        ),
        (
            "given up: what was not saved is lost, and time stands still",
            format!("{start}, 45 checkpoint 0 100, 55 crashed 0 130, 55 failed 0 130"),
            true,
            &[],
            Failed,
            999.0,
        ),
        (
            "it runs",
            format!("{start}, 45 checkpoint 0 100"),
            true,
            &[],
            Running,
            60.0,
        ),
        (
            "it waits for nodes again",
            format!("{start}, 45 checkpoint 0 100, 46 stopped 0 100, 46 requeued 0 100"),
            true,
            &[],
            Pending,
            66.0,
        ),
        (
            "nobody has seen yet that the supervisor is dead",
            format!("{start}, 45 checkpoint 0 100"),
            true,
            &[(100, 44.0), (120, 55.0)],
            Lost,
            100.0,
        ),
        (
            "killed while it started",
            "0 submitted, 10 started 0, 30 crashed 0, 30 requeued 0, 31 started 1, 33 restored 1 0, 43 finished 1 9".into(),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "a program that says nothing",
            "0 submitted, 1 started 0, 31 crashed 0, 32 started 1, 62 finished 1".into(),
            false,
            &[],
            Finished,
            999.0,
        ),
        (
            "an older attempt is still talking",
            format!("{start}, 20 started 1, 21 restored 1 0, 25 checkpoint 0 900, 26 cancelled 0 900, 40 finished 1 50"),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "clocks that are not the same",
            "10 submitted, 8 started 0, 9 restored 0 0, 30 finished 0 50".into(),
            true,
            &[],
            Finished,
            999.0,
        ),
        (
            "it was taken in from elsewhere, where it was not over",
            format!("{start}, 45 checkpoint 0 100"),
            true,
            &[],
            Stopped,
            999.0,
        ),
        ("it waits", "0 submitted".into(), true, &[], Pending, 7.0),
        (
            "cancelled before it ran",
            "0 submitted, 5 cancelled".into(),
            true,
            &[],
            Cancelled,
            99.0,
        ),
    ];
    let mut text = String::new();
    for (name, table, trainer, recorded, status, now) in cases {
        let _ = writeln!(text, "{name}");
        text += &spent(table, *trainer, recorded, *status, *now);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn json_has_every_use() {
    let goodput = Goodput::of(
        &events("0 submitted, 1 started 0, 2 restored 0 0, 5 finished 0 9"),
        Context {
            trainer: true,
            recorded: &[],
            status: Status::Finished,
            now: at(9.0),
        },
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&goodput).unwrap());
}

#[test]
fn uses_lie_where_they_are_counted() {
    for (place, of) in Use::ALL.into_iter().enumerate() {
        assert_eq!(of as usize, place);
    }
}

const NAMES: [&str; 15] = [
    "resumed",
    "queued",
    "started",
    "restored",
    "checkpoint",
    "evaluated",
    "stop",
    "stopped",
    "crashed",
    "requeued",
    "lost",
    "failed",
    "cancelled",
    "finished",
    "excluded",
];

proptest! {
    #[test]
    fn no_moment_is_counted_twice_or_left_out(
        steps in prop::collection::vec((0..15usize, 0..30_u32, 0..4_u32, 0..9_u64), 0..40),
        recorded in prop::collection::vec(0.0..300.0_f64, 0..9),
        status in prop::sample::select(Status::ALL.to_vec()),
        trainer: bool,
    ) {
        let mut minutes = 0.0;
        let mut all = vec![event(0.0, "submitted", None, None)];
        for (name, later, attempt, step) in steps {
            // Now and then a clock that is behind.
            minutes += f64::from(later) - 3.0;
            all.push(event(minutes, NAMES[name], Some(attempt), Some(step * 10)));
        }
        let recorded: Vec<(u64, f64)> = recorded
            .iter()
            .enumerate()
            .map(|(index, minutes)| (index as u64 * 10, DAY as f64 + minutes * 60.0))
            .collect();
        let now = at(1000.0);
        let context = Context { trainer, recorded: &recorded, status, now };
        let goodput = Goodput::of(&all, context).unwrap();
        // The end is the moment of the event that ended it, or now.
        let wall: i128 = goodput.spent.iter().sum();
        prop_assert!(goodput.spent.iter().all(|spent| *spent >= 0));
        let mut ends: Vec<i128> = all.iter().map(|event| event.time).chain([now])
            .map(|time| (time.as_nanosecond() - all[0].time.as_nanosecond()).max(0)).collect();
        ends.push(0);
        prop_assert!(ends.contains(&wall), "{wall}");
    }
}
