//! The files between supervisor and ranks.

mod support;

use std::fs;

use rocket_common::Error;
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{
    self, Control, EndRecord, ExitRecord, Heartbeat, Phase, ProcessEnd, StopReason,
};
use rocket_common::run_dir::{Attempt, Claim};

fn attempt() -> (tempfile::TempDir, Attempt) {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let attempt = run.claim_attempt(&Claim::of_this_process(None)).unwrap();
    (root, attempt)
}

fn beat() -> Heartbeat {
    Heartbeat {
        beat: 3,
        pid: 4711,
        phase: Phase::Training,
        step: 12,
        total_steps: 300,
        epoch: 0.25,
        samples_per_second: 101.5,
        resident_bytes: 1 << 30,
    }
}

#[test]
fn files_are_read_as_written_and_absent_ones_are_nothing() {
    let (_root, attempt) = attempt();
    assert_eq!(
        protocol::read_control(&attempt).unwrap(),
        Control::default()
    );
    assert_eq!(protocol::read_heartbeat(&attempt, 1).unwrap(), None);
    assert_eq!(protocol::read_end(&attempt, 1).unwrap(), None);
    let control = Control {
        stop: Some(StopReason::Preempted),
    };
    protocol::write_control(&attempt, &control).unwrap();
    protocol::write_heartbeat(&attempt, 1, &beat()).unwrap();
    let error = Error::new(ExitKind::Data, "no such image")
        .hint("look")
        .hint("again");
    let end = EndRecord::failed(&error, 12);
    protocol::write_end(&attempt, 1, &end).unwrap();
    assert_eq!(protocol::read_control(&attempt).unwrap(), control);
    assert_eq!(protocol::read_heartbeat(&attempt, 1).unwrap(), Some(beat()));
    assert_eq!(protocol::read_end(&attempt, 1).unwrap(), Some(end.clone()));
    assert_eq!(
        (end.kind, end.hint.as_deref()),
        (ExitKind::Data, Some("look; again"))
    );
}

#[test]
fn files_that_are_cut_short_are_nothing() {
    let (_root, attempt) = attempt();
    protocol::write_heartbeat(&attempt, 0, &beat()).unwrap();
    let whole = fs::read(attempt.heartbeat_path(0)).unwrap();
    for length in 0..whole.len() - 2 {
        fs::write(attempt.heartbeat_path(0), &whole[..length]).unwrap();
        assert_eq!(
            protocol::read_heartbeat(&attempt, 0).unwrap(),
            None,
            "{length}"
        );
    }
}

#[test]
fn exits_of_processes_are_flat_records() {
    let (_root, attempt) = attempt();
    assert_eq!(protocol::read_exit(&attempt, 3).unwrap(), None);
    for (end, text) in [
        (ProcessEnd::Code(7), r#"{"code":7,"node":"n2"}"#),
        (ProcessEnd::Signal(9), r#"{"signal":9,"node":"n2"}"#),
    ] {
        let node = "n2".to_owned();
        let exit = ExitRecord { end, node };
        assert_eq!(serde_json::to_string(&exit).unwrap(), text);
        protocol::write_exit(&attempt, 3, &exit).unwrap();
        assert_eq!(protocol::read_exit(&attempt, 3).unwrap(), Some(exit));
    }
}

#[test]
fn clearing_leaves_only_logs() {
    let (_root, attempt) = attempt();
    protocol::write_control(
        &attempt,
        &Control {
            stop: Some(StopReason::Signal),
        },
    )
    .unwrap();
    protocol::write_heartbeat(&attempt, 0, &beat()).unwrap();
    let exit = ExitRecord {
        end: ProcessEnd::Code(0),
        node: "n1".to_owned(),
    };
    protocol::write_exit(&attempt, 1, &exit).unwrap();
    fs::write(attempt.log_path(0), "said").unwrap();
    protocol::clear(&attempt, 2).unwrap();
    assert_eq!(protocol::read_control(&attempt).unwrap().stop, None);
    assert_eq!(protocol::read_heartbeat(&attempt, 0).unwrap(), None);
    assert_eq!(protocol::read_exit(&attempt, 1).unwrap(), None);
    assert_eq!(fs::read_to_string(attempt.log_path(0)).unwrap(), "said");
}

#[test]
fn exit_codes_and_kinds_are_one_to_one() {
    for kind in ExitKind::ALL {
        assert_eq!(ExitKind::from_code(i32::from(kind.code())), kind);
    }
    assert_eq!(ExitKind::from_code(137), ExitKind::Internal);
}
