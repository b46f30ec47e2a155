//! What goes wrong with the cluster: nodes lost, jobs cancelled by preemption, no controller.

use std::time::{Duration, Instant};

use support::slurm::{Run, Site};
use support::{Text, checkpoint_sums, curve, last_step, pid_of_rank};

/// Three nodes of one rank each.
const SHAPE: [&str; 7] = [
    "cluster.nodes=3",
    "cluster.tasks_per_node=1",
    "cluster.cpus_per_task=1",
    "cluster.stop_grace_seconds=20",
    "train.batch_size=2",
    "train.checkpoint_every=20 steps",
    "train.update_freq=2",
];

fn submit<'a>(site: &'a Site, more: &[&str]) -> Run<'a> {
    site.submit(&[&SHAPE, more].concat())
}

/// Compares with a run of the same that nobody disturbed.
fn same_numbers(site: &Site, run: &Run<'_>, steps: u64) {
    let straight = submit(site, &["cluster.partition=low"]);
    straight.finished();
    assert_eq!(
        curve(&straight.dir),
        curve(&run.dir),
        "losses differ\n{}",
        run.report()
    );
    assert_eq!(
        checkpoint_sums(&straight.dir, steps),
        checkpoint_sums(&run.dir, steps),
        "weights differ\n{}",
        run.report()
    );
}

#[test]
fn a_lost_node_is_left_out_and_its_ghosts_do_no_harm() {
    const STEPS: u64 = 400;
    let Some(site) = Site::new(
        STEPS,
        &[("CLUSTER_SLURMD_TIMEOUT", "8"), ("CLUSTER_KILL_WAIT", "2")],
    ) else {
        return;
    };
    let run = submit(&site, &["cluster.partition=low"]);
    run.reach(40);
    let nodes = run.events();
    let nodes = nodes
        .iter()
        .find(|event| event["event"] == "attempt_started");
    let nodes: Vec<String> = nodes.expect("an attempt")["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node.as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(nodes.len(), 3);
    // The last node of the job dies: its rank lives on, cut off from Slurm.
    let ghost = pid_of_rank(&run.dir, 2);
    site.cluster().kill_slurmd(&nodes[2]);
    run.wait("loss of the node", |run| {
        run.doze(1);
        run.count("node_excluded") >= 1
    });
    // It is back before the job starts again, and so Slurm may offer it: it is not to be used.
    site.cluster().start_slurmd(&nodes[2]);
    run.happens("attempt_started", 2);
    let events = run.events();
    let second = events
        .iter()
        .filter(|event| event["event"] == "attempt_started")
        .nth(1)
        .expect("a second attempt");
    let on = second["nodes"].to_string();
    assert!(!on.contains(&nodes[2]), "{on}\n{}", run.report());
    run.finished();
    let status = site.project().status(&run.id);
    assert_eq!(
        status["excluded"],
        serde_json::json!([nodes[2]]),
        "{status:#}"
    );
    run.tells(&[
        "attempt_started",
        "node_excluded",
        "requeued",
        "attempt_started",
        "restored",
        "finished",
    ]);
    run.wait("end of the ghost", |_| {
        std::fs::read_link(format!("/proc/{ghost}/exe")).is_err()
    });
    same_numbers(&site, &run, STEPS);
}

#[test]
fn a_job_that_preemption_cancelled_is_healed() {
    const STEPS: u64 = 300;
    let Some(site) = Site::new(STEPS, &[("CLUSTER_KILL_WAIT", "2")]) else {
        return;
    };
    let run = submit(&site, &["cluster.partition=lowc"]);
    run.reach(40);
    let first = run.job();
    let important = site.cluster().occupy("4", 3);
    site.cluster()
        .wait_for_job(important, "start", |job| job["JobState"] == "RUNNING");
    site.cluster().wait_for_end(first);
    // From cron, by two at once: only one hands the run over.
    let heals: Vec<_> = (0..2)
        .map(|_| {
            let mut heal = site.project().command("rocket");
            heal.arg("heal").spawn().expect("rocket starts")
        })
        .collect();
    for mut heal in heals {
        assert!(heal.wait().expect("it ends").success());
    }
    run.finished();
    let submissions = std::fs::read_dir(run.dir.join("submissions"))
        .expect("submissions")
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().ends_with(".job.json"));
    assert_eq!(submissions.count(), 2, "{}", run.report());
    assert_ne!(run.job(), first);
    same_numbers(&site, &run, STEPS);
}

#[test]
fn a_successor_heals_without_anybody() {
    const STEPS: u64 = 300;
    let Some(site) = Site::new(STEPS, &[("CLUSTER_KILL_WAIT", "2")]) else {
        return;
    };
    let run = submit(&site, &["cluster.partition=lowc", "cluster.successor=true"]);
    run.reach(40);
    site.cluster().occupy("4", 3);
    run.finished();
    assert!(run.count("attempt_started") >= 2, "{}", run.report());
    same_numbers(&site, &run, STEPS);
}

#[test]
fn ranks_train_and_runs_are_submitted_while_there_is_no_controller() {
    const STEPS: u64 = 3000;
    let Some(site) = Site::new(STEPS, &[("CLUSTER_KILL_WAIT", "2")]) else {
        return;
    };
    let run = submit(
        &site,
        &["cluster.partition=low", "train.checkpoint_every=500 steps"],
    );
    run.reach(20);
    site.cluster().stop_slurmctld();
    let begin = Instant::now();
    // Status says what the events know, and that nobody else was to be asked.
    let said = site.project().rocket(&["status"]);
    let text = format!("{}{}", said.out(), said.err());
    assert!(said.status.success(), "{text}");
    assert!(text.contains("does not answer"), "{text}");
    assert!(text.contains(&run.id), "{text}");
    // A submit waits for the controller, and hands over once it is back.
    let waiting = site
        .submit_command(&[&SHAPE[..], &["cluster.partition=low", "train.max_steps=40"]].concat())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("rocket starts");
    let at = last_step(&run.dir);
    while begin.elapsed() < Duration::from_secs(60) {
        run.doze(1);
    }
    // How many steps fit between the naps depends on the machine; that there are any does not.
    run.wait("twenty steps without a controller", |run| {
        run.doze(1);
        last_step(&run.dir) > at + 20
    });
    site.cluster().start_slurmctld();
    let output = waiting.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}{}", output.out(), output.err());
    let second = site.run(&output);
    second.finished();
    assert_eq!(run.count("attempt_started"), 1, "{}", run.report());
    site.project().rocket(&["cancel", "--now", &run.id]).ok();
    run.happens("cancelled", 1);
}
