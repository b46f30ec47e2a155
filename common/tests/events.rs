//! Events: written whole, read in spite of damage, ordered by cause, and the state they mean.

mod support;

use std::fs;
use std::io::Write;

use jiff::Timestamp;
use proptest::prelude::*;
use rocket_common::events::{self, Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::protocol::StopReason;
use rocket_common::run_dir::RunDir;

const LOCAL: BackendKind = BackendKind::Local;

fn names(run: &RunDir) -> Vec<String> {
    let events = events::read(run).unwrap();
    events
        .iter()
        .map(|event| event.kind.name().to_owned())
        .collect()
}

/// An event at a second of 2026.
fn at(second: i64, kind: EventKind) -> Event {
    let mut event = Event::new(kind);
    event.time = Timestamp::from_second(1_770_000_000 + second).unwrap();
    event
}

fn every_kind() -> Vec<EventKind> {
    let name = String::from("step-00000010");
    let reason = StopReason::Preempted;
    vec![
        EventKind::Submitted { backend: LOCAL },
        EventKind::AttemptStarted { world_size: 4 },
        EventKind::Relaunched { crashes: 1 },
        EventKind::RankFailed {
            rank: 3,
            exit: None,
            signal: Some(9),
        },
        EventKind::RankFailed {
            rank: 3,
            exit: Some(ExitKind::Data),
            signal: None,
        },
        EventKind::Checkpoint {
            name: name.clone(),
            seconds: 0.5,
            bytes: 12,
        },
        EventKind::CheckpointSkipped { name: name.clone() },
        EventKind::Restored { name: Some(name) },
        EventKind::Restored { name: None },
        EventKind::StopRequested { reason },
        EventKind::Stopped { reason },
        EventKind::Preempted,
        EventKind::Requeued,
        EventKind::Evaluated {
            metrics: [("z_top1".to_owned(), 0.25)].into(),
        },
        EventKind::Finished,
        EventKind::Failed {
            exit: ExitKind::NotFinite,
        },
        EventKind::Cancelled,
        EventKind::Resumed { backend: LOCAL },
        EventKind::SupervisorLost,
        EventKind::Note,
    ]
}

#[test]
fn every_kind_is_read_as_written() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let mut writer = EventWriter::new(&run, "submit");
    let mut written = Vec::new();
    for (seq, kind) in every_kind().into_iter().enumerate() {
        let mut event = Event::new(kind)
            .job("17")
            .nodes(vec!["n1".into()])
            .step(seq as u64);
        event = event.cause("because").hint("do");
        writer.append(event.clone()).unwrap();
        event.seq = seq as u64;
        event.writer = writer.name().to_owned();
        written.push(event);
    }
    let read = events::read(&run).unwrap();
    assert_eq!(read, written);
    for (event, line) in read
        .iter()
        .zip(fs::read_to_string(writer.path()).unwrap().lines())
    {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["event"], event.kind.name());
    }
}

#[test]
fn torn_lines_are_skipped_and_unknown_kinds_kept() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let mut writer = EventWriter::new(&run, "submit");
    writer
        .kind(EventKind::Submitted { backend: LOCAL })
        .unwrap();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(writer.path())
        .unwrap();
    let later = r#"{"time":"2099-01-01T00:00:00Z","event":"teleported","to":"mars","attempt":3}"#;
    // A known name that says more than this version understands is not understood either.
    let wider = r#"{"time":"2099-01-01T00:00:01Z","event":"submitted","backend":"cloud"}"#;
    write!(file, "{later}\n{wider}\n\u{0}\u{0}\n{{\"time\":\"2099-01-").unwrap();
    let read = events::read(&run).unwrap();
    assert_eq!(names(&run), ["submitted", "teleported", "submitted"]);
    assert_eq!(read[1].attempt, Some(3));
    let EventKind::Unknown(fields) = &read[1].kind else {
        panic!("{read:?}")
    };
    assert_eq!(fields["to"], "mars");
    assert!(matches!(read[2].kind, EventKind::Unknown(_)));
    assert_eq!(events::derive(&read).status, Status::Pending);
}

#[test]
fn a_writer_goes_on_after_a_full_disk() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let mut writer = EventWriter::new(&run, "supervisor");
    std::os::unix::fs::symlink("/dev/full", writer.path()).unwrap();
    let error = writer.kind(EventKind::Preempted).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(error.message().contains("the disk is full"), "{error}");
}

#[test]
fn the_clocks_of_two_machines_do_not_swap_cause_and_effect() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let start = EventKind::AttemptStarted { world_size: 2 };
    let mut submit = EventWriter::new(&run, "submit");
    submit
        .append(at(100, EventKind::Submitted { backend: LOCAL }))
        .unwrap();
    // The node's clock is behind the login node's by more than a minute, the second node's by more.
    let mut first = EventWriter::new(&run, "supervisor-a");
    first.append(at(20, start.clone()).attempt(0)).unwrap();
    first
        .append(at(30, EventKind::Requeued).attempt(0))
        .unwrap();
    let mut second = EventWriter::new(&run, "supervisor-b");
    second.append(at(5, start).attempt(1)).unwrap();
    second
        .append(at(7, EventKind::Finished).attempt(1))
        .unwrap();
    let expected = [
        "submitted",
        "attempt_started",
        "requeued",
        "attempt_started",
        "finished",
    ];
    assert_eq!(names(&run), expected);
    assert_eq!(
        events::derive(&events::read(&run).unwrap()).status,
        Status::Finished
    );
}

/// Status after events in order.
fn status(kinds: &[(u32, EventKind)]) -> Status {
    let events: Vec<Event> = kinds
        .iter()
        .enumerate()
        .map(|(second, (attempt, kind))| at(second as i64, kind.clone()).attempt(*attempt))
        .collect();
    events::derive(&events).status
}

#[test]
fn the_table_of_states() {
    let submitted = (0, EventKind::Submitted { backend: LOCAL });
    let started = |attempt| (attempt, EventKind::AttemptStarted { world_size: 2 });
    let stop = |reason| (0, EventKind::StopRequested { reason });
    let stopped = |reason| (0, EventKind::Stopped { reason });
    let failed = |attempt| {
        (
            attempt,
            EventKind::Failed {
                exit: ExitKind::Data,
            },
        )
    };
    let resumed = (0, EventKind::Resumed { backend: LOCAL });
    let table: Vec<(Vec<(u32, EventKind)>, Status)> = vec![
        (vec![], Status::Pending),
        (vec![submitted.clone()], Status::Pending),
        (vec![submitted.clone(), started(0)], Status::Running),
        (
            vec![started(0), stop(StopReason::Preempted)],
            Status::Stopping,
        ),
        (
            vec![started(0), stopped(StopReason::Preempted)],
            Status::Stopped,
        ),
        (
            vec![started(0), stopped(StopReason::Cancelled)],
            Status::Cancelled,
        ),
        (
            vec![
                started(0),
                stopped(StopReason::Preempted),
                (0, EventKind::Requeued),
            ],
            Status::Pending,
        ),
        (
            vec![
                started(0),
                stopped(StopReason::Signal),
                (0, EventKind::Relaunched { crashes: 0 }),
            ],
            Status::Running,
        ),
        (
            vec![started(0), (0, EventKind::Preempted)],
            Status::Stopping,
        ),
        (
            vec![
                started(0),
                (
                    0,
                    EventKind::RankFailed {
                        rank: 0,
                        exit: None,
                        signal: Some(9),
                    },
                ),
            ],
            Status::Running,
        ),
        (vec![started(0), failed(0)], Status::Failed),
        (
            vec![started(0), failed(0), resumed.clone()],
            Status::Pending,
        ),
        (
            vec![started(0), (0, EventKind::SupervisorLost)],
            Status::Lost,
        ),
        (
            vec![
                started(0),
                (0, EventKind::SupervisorLost),
                resumed.clone(),
                started(1),
            ],
            Status::Running,
        ),
        (
            vec![started(0), failed(0), (0, EventKind::SupervisorLost)],
            Status::Failed,
        ),
        (
            vec![submitted.clone(), (0, EventKind::Cancelled)],
            Status::Cancelled,
        ),
        (
            vec![submitted.clone(), stop(StopReason::Cancelled)],
            Status::Pending,
        ),
        (vec![started(0), (0, EventKind::Finished)], Status::Finished),
        (
            vec![started(0), (0, EventKind::Finished), failed(0)],
            Status::Finished,
        ),
        // The ghost of a superseded attempt has no say.
        (vec![started(0), started(1), failed(0)], Status::Running),
        (
            vec![started(0), started(1), (0, EventKind::Finished)],
            Status::Running,
        ),
        (vec![started(0), started(1), failed(1)], Status::Failed),
    ];
    for (events, expected) in table {
        assert_eq!(status(&events), expected, "{events:?}");
    }
}

#[test]
fn the_history_of_a_run() {
    let events = [
        at(0, EventKind::Submitted { backend: LOCAL }).job("7"),
        at(10, EventKind::AttemptStarted { world_size: 2 })
            .attempt(0)
            .nodes(vec!["n1".into()]),
        at(
            20,
            EventKind::Checkpoint {
                name: "step-00000010".into(),
                seconds: 1.0,
                bytes: 9,
            },
        )
        .attempt(0)
        .step(10),
        at(
            30,
            EventKind::RankFailed {
                rank: 1,
                exit: None,
                signal: Some(9),
            },
        )
        .attempt(0)
        .step(14),
        at(31, EventKind::Relaunched { crashes: 1 })
            .attempt(0)
            .step(10),
        at(
            40,
            EventKind::Stopped {
                reason: StopReason::TimeLimit,
            },
        )
        .attempt(0)
        .step(20),
        at(41, EventKind::Requeued)
            .attempt(0)
            .cause("the time limit was near"),
        at(50, EventKind::AttemptStarted { world_size: 2 })
            .attempt(1)
            .job("8"),
        at(
            60,
            EventKind::Evaluated {
                metrics: [("z_top1".to_owned(), 0.5)].into(),
            },
        )
        .attempt(1)
        .step(30),
        at(
            61,
            EventKind::Failed {
                exit: ExitKind::NotFinite,
            },
        )
        .attempt(1)
        .step(31)
        .cause("the loss is NaN")
        .hint("lower optim.lr"),
    ];
    let state = serde_json::to_string_pretty(&events::derive(&events)).unwrap();
    insta::assert_snapshot!(state);
}

proptest! {
    // Each case makes a run directory, which is synced to the disk.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn merging_keeps_every_event_and_each_writers_order(
        times in prop::collection::vec((0_usize..4, 0_i64..50, prop::option::of(0_u32..3), 0_usize..20), 0..60)
    ) {
        let root = tempfile::tempdir().unwrap();
        let run = support::run(root.path(), "demo");
        let kinds = every_kind();
        // Written by hand: a writer would wait for the disk after each line.
        let mut lines = vec![Vec::new(); 4];
        for (writer, second, attempt, kind) in &times {
            let mut event = at(*second, kinds[*kind].clone());
            event.attempt = *attempt;
            event.seq = lines[*writer].len() as u64;
            lines[*writer].push(serde_json::to_string(&event).unwrap());
        }
        for (writer, lines) in lines.iter().enumerate() {
            let path = run.events_dir().join(format!("w{writer}.jsonl"));
            fs::write(path, lines.join("\n")).unwrap();
        }
        let read = events::read(&run).unwrap();
        prop_assert_eq!(read.len(), times.len());
        for writer in 0..4 {
            let name = format!("w{writer}");
            let order: Vec<u64> = read.iter().filter(|e| e.writer == name).map(|e| e.seq).collect();
            prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
        }
        // Whatever the order, deriving does not panic and is a function of it.
        prop_assert_eq!(events::derive(&read), events::derive(&read));
    }
}
