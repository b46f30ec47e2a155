//! Run directories: made whole, found by what people type, listed fast.

mod support;

use std::fs;
use std::time::Instant;

use rocket_common::events::{self, Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{self, Manifest, RunDir};
use rocket_common::{atomic, protocol};
use support::{COMMIT, manifest, run};

#[test]
fn a_run_is_made_whole_and_once() {
    let root = tempfile::tempdir().unwrap();
    let made = run(root.path(), "demo");
    assert_eq!(made.id(), "demo-01234567");
    assert_eq!(made.manifest().unwrap(), manifest("demo", COMMIT));
    assert_eq!(
        fs::read_to_string(made.experiment_path()).unwrap(),
        "name: demo\n"
    );
    let again = RunDir::create(root.path(), &manifest("demo", COMMIT), "other").unwrap_err();
    assert_eq!(again.kind(), ExitKind::Usage);
    assert!(
        again
            .message()
            .contains("run 'demo-01234567' exists already"),
        "{again}"
    );
    // Neither attempt leaves anything beside the run.
    let names: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["demo-01234567"]);
    assert_eq!(
        fs::read_to_string(made.experiment_path()).unwrap(),
        "name: demo\n"
    );
}

#[test]
fn a_newer_schema_and_a_damaged_manifest_are_said() {
    let root = tempfile::tempdir().unwrap();
    let made = run(root.path(), "demo");
    fs::write(made.manifest_path(), r#"{"schema": 99}"#).unwrap();
    let error = made.manifest().unwrap_err();
    assert!(
        error
            .message()
            .contains("newer rocket (schema 99, this one knows up to 2)"),
        "{error}"
    );
    fs::write(made.manifest_path(), "{").unwrap();
    assert!(made.manifest().unwrap_err().message().contains("run.json"));
    fs::remove_file(made.manifest_path()).unwrap();
    let error = RunDir::open(made.path()).unwrap_err();
    assert!(error.message().contains("holds no run.json"), "{error}");
}

#[test]
fn a_manifest_of_a_later_minor_version_is_read() {
    let root = tempfile::tempdir().unwrap();
    let made = run(root.path(), "demo");
    let mut json: serde_json::Value = atomic::read_json(&made.manifest_path()).unwrap();
    json["later"] = serde_json::json!({"id": "x"});
    atomic::write_json(&made.manifest_path(), &json).unwrap();
    assert_eq!(made.manifest().unwrap().name, "demo");
}

#[test]
fn run_ids_hold_the_name() {
    for (id, name) in [
        ("demo-01234567", Some("demo")),
        ("demo-01234567-2", Some("demo")),
        ("my-run-1-01234567-13", Some("my-run-1")),
        ("a-01234567-01234567", Some("a-01234567")),
        ("demo", None),
        ("demo-0123456", None),
        ("demo-0123456G", None),
        ("-01234567", None),
        ("demo-01234567-x", None),
    ] {
        assert_eq!(run_dir::name_of_run_id(id), name, "{id}");
    }
    assert_eq!(run_dir::run_id("demo", COMMIT, Some(2)), "demo-01234567-2");
}

#[test]
fn runs_are_found_by_id_prefix_name_and_path() {
    let root = tempfile::tempdir().unwrap();
    let demo = run(root.path(), "demo");
    let other = run(root.path(), "barlip");
    for query in [
        "demo-01234567",
        "demo",
        "dem",
        "demo-01",
        demo.path().to_str().unwrap(),
    ] {
        assert_eq!(run_dir::find(root.path(), query).unwrap(), demo, "{query}");
    }
    assert_eq!(run_dir::find(root.path(), "b").unwrap(), other);
}

#[test]
fn runs_that_are_not_there_or_not_one_are_explained() {
    let root = tempfile::tempdir().unwrap();
    let tell = |query: &str| {
        let error = run_dir::find(root.path(), query).unwrap_err();
        assert_eq!(error.kind(), ExitKind::Usage);
        let message = error
            .message()
            .replace(root.path().to_str().unwrap(), "RUNS");
        format!("{query}: {message}; {}", error.hints().join("; "))
    };
    let mut told = vec![tell("demo")];
    run(root.path(), "demo");
    run(root.path(), "demo-long");
    let second = manifest("demo", &COMMIT.replace('0', "9"));
    RunDir::create(root.path(), &second, "").unwrap();
    told.extend(
        [
            "demo",
            "de",
            "dmeo-long",
            "demo-01234568",
            "something else",
            "",
        ]
        .map(tell),
    );
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_thousand_runs_are_listed_with_their_state_within_a_second() {
    let root = tempfile::tempdir().unwrap();
    // One run by the book; the others are its copies, since a thousand of them would be synced to
    // the disk 10,000 times.
    let first = run(root.path(), "demo");
    for role in ["submit", "supervisor"] {
        let mut writer = EventWriter::new(&first, role);
        let backend = BackendKind::Local;
        writer.kind(EventKind::Submitted { backend }).unwrap();
        let started = Event::new(EventKind::AttemptStarted { world_size: 2 });
        writer.append(started.attempt(0)).unwrap();
    }
    let events = fs::read_dir(first.events_dir()).unwrap();
    let events: Vec<_> = events.map(|entry| entry.unwrap().path()).collect();
    for number in 1..1000 {
        let copy = root.path().join(format!("demo-{number:08x}"));
        fs::create_dir_all(copy.join("events")).unwrap();
        fs::copy(first.manifest_path(), copy.join("run.json")).unwrap();
        for path in &events {
            fs::copy(path, copy.join("events").join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::write(root.path().join("a-file-01234567"), "not a run").unwrap();
    fs::create_dir(root.path().join("bundles")).unwrap();
    let started = Instant::now();
    let runs = run_dir::list(root.path()).unwrap();
    assert_eq!(runs.len(), 1000);
    for run in &runs {
        assert_eq!(run.manifest().unwrap().schema, Manifest::SCHEMA);
        assert_eq!(
            events::derive(&events::read(run).unwrap()).status,
            Status::Running
        );
    }
    let took = started.elapsed();
    println!("1,000 runs listed in {took:?}");
    assert!(took.as_secs_f64() < 1.0, "{took:?}");
}

#[test]
fn a_fenced_attempt_publishes_no_rendezvous() {
    let root = tempfile::tempdir().unwrap();
    let run = run(root.path(), "demo");
    let claim = run_dir::Claim::of_this_process(None);
    let first = run.claim_attempt(&claim).unwrap();
    let rendezvous = |attempt| protocol::Rendezvous {
        host: "node1".into(),
        port: 4711,
        attempt,
    };
    protocol::publish_rendezvous(&run, &rendezvous(0)).unwrap();
    assert_eq!(
        protocol::read_rendezvous(&first).unwrap(),
        Some(rendezvous(0))
    );
    let second = run.claim_attempt(&claim).unwrap();
    let error = protocol::publish_rendezvous(&run, &rendezvous(0)).unwrap_err();
    assert_eq!(error.kind(), ExitKind::Fenced);
    assert!(
        error.message().contains("superseded by attempt 1"),
        "{error}"
    );
    assert_eq!(protocol::read_rendezvous(&second).unwrap(), None);
    protocol::publish_rendezvous(&run, &rendezvous(1)).unwrap();
    assert_eq!(run.attempts().unwrap(), [first, second]);
}

#[test]
fn what_is_made_aside_is_no_run() {
    let root = tempfile::tempdir().unwrap();
    // The beginning of a drill's folder, and of a run's whose random part has no letter in it.
    for name in [
        ".drill-12345678",
        ".new-job-12345678-0123456789012345",
        "job-12345678",
    ] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    let found = rocket_common::run_dir::list(root.path()).unwrap();
    let ids: Vec<String> = found.iter().map(|run| run.id()).collect();
    assert_eq!(ids, ["job-12345678"]);
}
