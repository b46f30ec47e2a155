//! `command:` with real programs in Python, on this machine: interrupted, killed, and gone on with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Project, Text, curve, python, run_id};

fn experiment(command: &str) -> String {
    format!(
        "name: program\nseed: 3\ncommand: {command}\ncluster: {{backend: local, nodes: 1, gpus_per_node: 0, tasks_per_node: 2}}\n"
    )
}

/// A project with a program of `tests/programs` in it.
fn project(program: &str, command: &str) -> Project {
    let project = Project::new(1);
    let text = fs::read_to_string(support::root().join("tests/programs").join(program));
    project.write("tools/program.py", &text.expect("the program"));
    let path = project.path().join("tools/program.py");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    project.commit("A program");
    project.write("program.yaml", &experiment(command));
    project
}

fn submit(project: &Project) -> (String, PathBuf) {
    let said = project.rocket(&["submit", "program.yaml", "--again"]).ok();
    let id = run_id(&said);
    let dir = project.path().join("runs").join(&id);
    (id, dir)
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn state(run: &Path, rank: u32) -> Option<Value> {
    let text = fs::read(run.join(format!("state.{rank}.json"))).ok()?;
    serde_json::from_slice(&text).ok()
}

fn done(run: &Path, rank: u32) -> u64 {
    state(run, rank).map_or(0, |state| state["done"].as_u64().unwrap_or_default())
}

#[test]
fn a_plain_program_is_stopped_by_a_signal_relaunched_after_a_crash_and_finishes() {
    let project = project("plain.py", "[./tools/program.py]");
    // It waits there, so that it is in the middle when it is interrupted.
    project.write("runs/hold", "");
    let (id, run) = submit(&project);
    wait("ten steps", || (0..2).all(|rank| done(&run, rank) >= 10));
    let first_pid = state(&run, 1).and_then(|state| state["pid"].as_i64());
    project.rocket(&["preempt", &id]).ok();
    wait("a second attempt", || {
        run.join("attempts/001/ranks/1.log").exists()
    });
    let log = |attempt: u32, rank: u32| {
        let path = run.join(format!("attempts/{attempt:03}/ranks/{rank}.log"));
        fs::read_to_string(path).unwrap_or_default()
    };
    let first = log(0, 0);
    let stopped = format!("stopped at {}", done(&run, 0));
    assert!(
        first.contains("met 2 ranks") && first.contains(&stopped),
        "{first}"
    );
    wait("the second attempt to count", || {
        log(1, 1).contains("from ")
    });

    // A rank is killed: its peer is stopped, and both go on.
    wait("a step of the second attempt", || {
        state(&run, 1).and_then(|state| state["pid"].as_i64()) != first_pid
    });
    let pid = state(&run, 1).expect("a state")["pid"].to_string();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(killed.expect("kill starts").success());
    wait("a third attempt", || {
        run.join("attempts/002/ranks/1.log").exists()
    });
    fs::remove_file(project.path().join("runs/hold")).expect("removed");
    project.finished(&id);
    let status = project.status(&id);
    assert_eq!(status["resumptions"], 2, "{status:#}");
    let last = log(2, 0);
    assert!(last.contains("place RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=2 GROUP_RANK=0 GROUP_WORLD_SIZE=1"), "{last}");
    assert!(
        last.ends_with("done\n") && !last.contains("from 0\n"),
        "{last}"
    );
    assert_eq!((done(&run, 0), done(&run, 1)), (40, 40));
}

#[test]
fn a_trainer_in_python_agrees_to_a_stop_and_its_losses_come_out_again_to_the_bit() {
    let Some(python) = python() else {
        return;
    };
    let command = format!("[{}, tools/program.py]", python.display());
    let project = project("speaks.py", &command);
    // Python's own compilation of torch takes longer than everything here: it is kept from one start to the next.
    let cache = project.path().join("data/bytecode");
    let text = experiment(&command).replace(
        "tasks_per_node: 2",
        &format!(
            "tasks_per_node: 2, env: {{PYTHONPYCACHEPREFIX: {}, PYTHONDONTWRITEBYTECODE: \"\"}}",
            cache.display()
        ),
    );
    project.write("program.yaml", &text);
    let (straight, straight_dir) = submit(&project);
    project.finished(&straight);
    // This one waits at a step, until it is asked to stop.
    project.write("runs/hold", "");
    let (stopped, dir) = submit(&project);
    project.wait_for(&stopped, "step 19", |status| {
        status["step"].as_u64() >= Some(19)
    });
    project.rocket(&["preempt", &stopped]).ok();
    // The request reaches the ranks by way of the supervisor: let go sooner, and they run to the end without it.
    wait("the request", || {
        dir.join("attempts/000/control.json").exists()
    });
    fs::remove_file(project.path().join("runs/hold")).expect("removed");
    project.finished(&stopped);
    let status = project.status(&stopped);
    assert_eq!(status["resumptions"], 1, "{status:#}");
    assert_eq!(status["step"], 60);
    let log = fs::read_to_string(dir.join("attempts/001/ranks/0.log")).expect("a log");
    assert!(
        log.contains("goes on from step ") && !log.contains("from step 0\n"),
        "{log}"
    );
    let wanted = curve(&straight_dir);
    assert_eq!(wanted.len(), 60);
    assert_eq!(
        wanted,
        curve(&dir),
        "an interruption leaves no trace in the numbers"
    );
    // And what it wrote is enough for it to be reproduced and judged.
    let said = project
        .rocket(&["reproduce", &straight, "--follow", "--exact"])
        .ok();
    assert!(
        said.contains("all 60 values bit-identical up to step 60"),
        "{said}"
    );
}
