//! `rocket doctor` where there is no Slurm.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use support::{Env, Said};

/// Runs doctor with nothing on the path, so that no Slurm is found whatever this machine has.
fn doctor(env: &Env, args: &[&str]) -> Said {
    let mut command = env.rocket_command();
    command
        .arg("doctor")
        .args(args)
        .env("PATH", env.path("nowhere"));
    env.said(command.output().unwrap())
}

#[test]
fn without_slurm_the_machine_alone_is_examined() {
    let env = Env::new();
    let said = doctor(&env, &[]).ok();
    let text = said.stdout;
    for part in [
        "there is no sbatch on this machine",
        "rename() replaces a file at once between processes",
        "link() lets exactly one win between processes: 40 names",
        "locks hold between processes",
        "a run works here, on this machine alone",
    ] {
        assert!(text.contains(part), "'{part}' is not said:\n{text}");
    }
    assert!(!text.contains("crontab"), "{text}");
    // What was tried is cleared away.
    let left: Vec<_> = fs::read_dir(env.repo().join("runs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != ".gitignore")
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let said = doctor(&env, &["--json"]).ok();
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["works"], true);
    assert_eq!(json["slurm"], Value::Null);
    assert_eq!(json["local"]["probes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_job_needs_slurm() {
    let env = Env::new();
    let said = doctor(&env, &["--job"]).fails();
    assert!(said.stderr.contains("there is no Slurm"), "{said}");
}

#[test]
fn a_runs_root_that_cannot_be_made_is_a_problem() {
    let env = Env::new();
    fs::write(env.repo().join("file"), "").unwrap();
    let said = doctor(&env, &["--runs", "file/runs"]).fails();
    assert!(said.stdout.contains("PROBLEM"), "{said}");
    assert!(
        said.stdout.contains("a run does not work here: 1 problem"),
        "{said}"
    );
}

#[test]
fn a_trainer_that_does_not_start_is_said() {
    let env = Env::new();
    let worker = env.path("rocket-worker");
    fs::write(
        &worker,
        "#!/bin/sh\necho 'libtorch_cpu.so: cannot open' >&2\nexit 127\n",
    )
    .unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = env.rocket_command();
    command
        .arg("doctor")
        .env("ROCKET_WORKER", &worker)
        .env("PATH", env.path("nowhere"));
    let said = env.said(command.output().unwrap()).ok();
    let wanted = "warning  the trainer does not start here: libtorch_cpu.so: cannot open";
    assert!(said.stdout.contains(wanted), "{said}");
    assert!(
        said.stdout.contains("; 1 warning") || said.stdout.contains("; 2 warnings"),
        "{said}"
    );
}
