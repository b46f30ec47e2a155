//! What goes wrong in a job: ranks, supervisors, time limits, people. The events tell it, and the numbers
//! are those of a run in which nothing went wrong.
//!
//! The tests share one cluster and run beside each other; none of them disturbs the cluster itself.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use support::slurm::{Run, Site};
use support::{Text, attempt, checkpoint_sums, curve, pid_of_rank};

const STEPS: u64 = 120;

/// Two nodes of two ranks; dropout and batch norm over ranks; checkpoints between the interruptions.
const SHAPE: [&str; 12] = [
    "cluster.partition=low",
    "cluster.nodes=2",
    "cluster.tasks_per_node=2",
    "cluster.cpus_per_task=1",
    "cluster.stop_grace_seconds=20",
    "model.clip_proj_type=mlp",
    "model.clip_hidden_dim=32",
    "text.text_augment=true",
    "text.synonym_replacement_prob=0",
    "text.text_dropout_prob=0.1",
    "train.batch_size=2",
    "train.checkpoint_every=25 steps",
];

/// The cluster of this file. It ends with the process.
fn site() -> Option<&'static Site> {
    static SITE: OnceLock<Option<Site>> = OnceLock::new();
    SITE.get_or_init(|| {
        Site::new(
            STEPS,
            &[("CLUSTER_KILL_WAIT", "2"), ("CLUSTER_SLURMD_TIMEOUT", "60")],
        )
    })
    .as_ref()
}

type Numbers = (BTreeMap<String, String>, Vec<Value>);

fn numbers(run: &Run<'_>) -> Numbers {
    (checkpoint_sums(&run.dir, STEPS), curve(&run.dir))
}

/// The numbers of a run in which nothing happens.
fn undisturbed(site: &Site) -> &'static Numbers {
    static WANTED: OnceLock<Numbers> = OnceLock::new();
    WANTED.get_or_init(|| {
        let run = site.submit(&SHAPE);
        run.finished();
        let numbers = numbers(&run);
        assert_eq!(numbers.1.len() as u64, STEPS);
        numbers
    })
}

/// Submits with the shape of this file and more.
fn submit<'a>(site: &'a Site, more: &[&str]) -> Run<'a> {
    undisturbed(site);
    site.submit(&[&SHAPE, more].concat())
}

/// Waits for the end, and compares.
fn ends_well(run: &Run<'_>) {
    run.finished();
    let site = site().expect("there is one");
    let found = numbers(run);
    let wanted = undisturbed(site);
    assert_eq!(wanted.1, found.1, "losses differ\n{}", run.report());
    assert_eq!(wanted.0, found.0, "weights differ\n{}", run.report());
}

fn signal(signal: &str, pid: i32) {
    let done = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(
        done.expect("kill starts").success(),
        "process {pid} is gone"
    );
}

#[test]
fn a_killed_rank_is_relaunched_in_the_allocation() {
    let Some(site) = site() else { return };
    let run = submit(site, &[]);
    run.reach(30);
    signal("-9", pid_of_rank(&run.dir, 3));
    ends_well(&run);
    run.tells(&[
        "queued",
        "attempt_started",
        "rank_failed",
        "requeued",
        "attempt_started",
        "restored",
        "finished",
    ]);
    assert_eq!(site.cluster().job(run.job())["Restarts"], "0");
}

#[test]
fn a_stalled_rank_is_noticed_its_stacks_are_kept_and_it_is_relaunched() {
    let Some(site) = site() else { return };
    let run = submit(site, &["cluster.hang_minutes=0.15"]);
    run.reach(30);
    signal("-STOP", pid_of_rank(&run.dir, 2));
    ends_well(&run);
    run.tells(&[
        "attempt_started",
        "requeued",
        "attempt_started",
        "restored",
        "finished",
    ]);
    // Of every rank: the stalled one shows where it stands, the others what they waited for.
    for rank in 0..4 {
        let stacks = run.dir.join(format!("attempts/000/stacks/{rank}.txt"));
        let text = fs::read_to_string(&stacks).unwrap_or_default();
        assert!(
            text.contains("rocket-worker"),
            "{}: {text}",
            stacks.display()
        );
    }
}

#[test]
fn a_killed_supervisor_is_healed() {
    let Some(site) = site() else { return };
    let run = submit(site, &[]);
    run.reach(30);
    let ranks: Vec<i32> = (0..4).map(|rank| pid_of_rank(&run.dir, rank)).collect();
    let first = run.job();
    signal("-9", supervisor(&run));
    site.cluster().wait_for_end(first);
    for pid in ranks {
        run.wait("end of the ranks", |_| gone(pid));
    }
    site.project().rocket(&["heal"]).ok();
    ends_well(&run);
    assert_ne!(first, run.job());
    run.tells(&[
        "attempt_started",
        "queued",
        "attempt_started",
        "restored",
        "finished",
    ]);
    // Healing a run that is well changes nothing.
    let before = run.events().len();
    site.project().rocket(&["heal"]).ok();
    assert_eq!(run.events().len(), before);
}

#[test]
fn a_job_that_its_user_cancelled_stays_so() {
    let Some(site) = site() else { return };
    let run = submit(site, &[]);
    run.reach(30);
    let job = run.job();
    let cancel = site
        .project()
        .command("scancel")
        .arg(job.to_string())
        .output();
    cancel.expect("scancel starts").ok();
    run.happens("cancelled", 1);
    site.project().rocket(&["heal"]).ok();
    assert_eq!(run.job(), job, "it was submitted again\n{}", run.report());
    assert_eq!(site.project().status(&run.id)["status"], "cancelled");
    // But a person may take it up again.
    site.cluster().wait_for_end(job);
    site.project().rocket(&["resume", &run.id]).ok();
    ends_well(&run);
}

#[test]
fn two_time_limits_are_no_more_than_pauses() {
    let Some(site) = site() else { return };
    // Slurm counts limits in minutes and sends its warning up to a minute early, so it comes soon.
    let run = submit(
        site,
        &[
            "cluster.partition=short",
            "cluster.time=2",
            "cluster.stop_grace_seconds=90",
        ],
    );
    for times in 1..=2 {
        // Nothing here takes minutes by itself.
        run.wait("time limit", |run| {
            run.doze(1);
            run.count("requeued") >= times
        });
    }
    ends_well(&run);
    run.tells(&[
        "attempt_started",
        "stopped",
        "requeued",
        "attempt_started",
        "stopped",
        "requeued",
        "attempt_started",
        "finished",
    ]);
    let events = run.events();
    let stops: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "stopped")
        .collect();
    assert!(
        stops.iter().all(|stop| stop["reason"] == "time_limit"),
        "{stops:?}"
    );
    // On a slow machine the third attempt may be warned as well.
    let restarts = site.cluster().job(run.job())["Restarts"].clone();
    assert!(["2", "3"].contains(&restarts.as_str()), "{}", run.report());
}

fn supervisor(run: &Run<'_>) -> i32 {
    let name = attempt(&run.dir).expect("an attempt");
    let claim = fs::read(name.with_extension("claim")).expect("a claim");
    let claim: Value = serde_json::from_slice(&claim).expect("JSON");
    i32::try_from(claim["pid"].as_i64().expect("a pid")).expect("a pid")
}

fn gone(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_err()
}
