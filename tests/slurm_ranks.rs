//! 32 ranks on 4 nodes: they train and finish, are preempted again and again, and end with the numbers of
//! a run that nobody disturbed.

use std::fs;

use support::slurm::{Run, Site};
use support::{Text, checkpoint_sums, curve};

const STEPS: u64 = 60;
const EVERY: u64 = 10;

/// 4 nodes x 8 tasks with a GPU each that exists by name only.
const SHAPE: [&str; 9] = [
    "cluster.partition=low",
    "cluster.nodes=4",
    "cluster.gpus_per_node=8",
    "cluster.tasks_per_node=8",
    "cluster.cpus_per_task=1",
    "cluster.time=1:00:00",
    "cluster.stop_grace_seconds=25",
    "train.batch_size=1",
    "train.checkpoint_every=10 steps",
];

/// Compares with the snapshot of a name, apart from what is another every time.
fn snapshot(name: &str, text: &str, run: &Run<'_>, site: &Site) {
    let literal = [
        (run.dir.display().to_string(), "[RUN DIR]"),
        (site.project().path().display().to_string(), "[PROJECT]"),
        (run.id.clone(), "[RUN]"),
    ];
    let mut text = text.to_owned();
    for (what, shown) in &literal {
        text = text.replace(what, shown);
    }
    let filters = [
        (
            r"(JobId|UserId|GroupId|Priority|AllocNode:Sid|Scheduler)=\S+",
            "$1=[$1]",
        ),
        (
            r"(\w*Time|LastSchedEval)=(\d{4}-\S+|\d\d:\d\d:\d\d|None|Unknown)",
            "$1=[TIME]",
        ),
        (r"rocket=[0-9a-f]{16}", "rocket=[TOKEN]"),
        (r"bundles/[0-9a-f]{16}", "bundles/[BUNDLE]"),
        (r"slurm-\d+", "slurm-[JOB]"),
        (r"(?m) +$", ""),
    ];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn thirty_two_ranks_are_preempted_and_end_as_if_nothing_had_happened() {
    let settings = [("CLUSTER_KILL_WAIT", "1"), ("CLUSTER_SLURMD_TIMEOUT", "60")];
    let Some(site) = Site::new(STEPS, &settings) else {
        return;
    };
    let straight = site.submit(&SHAPE);
    straight.reach(1);
    let shown = site
        .cluster()
        .run("scontrol", &["show", "job", &straight.job().to_string()]);
    snapshot("scontrol_show_job", &shown.ok(), &straight, &site);
    let script = fs::read_to_string(straight.dir.join("job.sbatch")).expect("a script");
    snapshot("job_sbatch", &script, &straight, &site);
    straight.finished();
    let ranks = fs::read_dir(straight.dir.join("attempts/000/ranks")).expect("ranks");
    let logs = ranks
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    assert_eq!(logs.count(), 32);
    let wanted = (checkpoint_sums(&straight.dir, STEPS), curve(&straight.dir));
    assert_eq!(wanted.1.len() as u64, STEPS);

    // Three times with grace: nothing is lost.
    let run = site.submit(&SHAPE);
    for (time, step) in [6, 17, 28].into_iter().enumerate() {
        run.reach(step);
        site.cluster().occupy("n[1-2]", 3);
        run.happens("requeued", time + 1);
        run.happens("restored", time + 2);
    }
    graceful(&run, 3);

    // Once without: at most what was done since the last checkpoint.
    site.cluster()
        .run("scontrol", &["update", "PartitionName=low", "GraceTime=0"]);
    run.reach(44);
    site.cluster().occupy("n[2-3]", 3);
    run.happens("restored", 5);
    let events = run.events();
    let restored: Vec<u64> = events
        .iter()
        .filter(|event| event["event"] == "restored")
        .map(|event| event["step"].as_u64().unwrap_or_default())
        .collect();
    assert!(restored[4] + EVERY >= 44, "{restored:?}\n{}", run.report());

    run.finished();
    assert_eq!(wanted.1, curve(&run.dir), "losses differ\n{}", run.report());
    assert_eq!(wanted.0, checkpoint_sums(&run.dir, STEPS), "weights differ");
    let job = site.cluster().job(run.job());
    assert_eq!(job["Restarts"], "4", "one job all the way: {job:#?}");
}

/// Each graceful stop saved where it stopped, and the next attempt went on from there.
fn graceful(run: &Run<'_>, times: usize) {
    let events = run.events();
    let steps = |name: &str| -> Vec<u64> {
        events
            .iter()
            .filter(|event| event["event"] == name)
            .map(|event| event["step"].as_u64().unwrap_or_default())
            .collect()
    };
    let (stopped, restored) = (steps("stopped"), steps("restored"));
    assert_eq!(stopped.len(), times, "{}", run.report());
    assert_eq!(
        stopped[..],
        restored[1..=times],
        "steps were lost\n{}",
        run.report()
    );
    let story = run.story(&["attempt_started", "stopped", "requeued"]);
    let wanted = ["attempt_started", "stopped", "requeued"].repeat(times);
    assert_eq!(story[..3 * times], wanted, "{}", run.report());
}
