//! The demo's experiment, on its real images and captions, over two nodes of one rank: preempted in the
//! middle, it ends as if nothing had happened.

use std::fs;
use std::path::Path;
use std::process::Command;

use support::slurm::Site;
use support::{Text, checkpoint_sums, curve, root};

const STEPS: u64 = 40;

/// As `make demo` runs it, but for the place, and for few steps without an evaluation.
const SHAPE: [&str; 10] = [
    "cluster.partition=low",
    "cluster.nodes=2",
    "cluster.tasks_per_node=1",
    "cluster.stop_grace_seconds=25",
    "data.root=data/train",
    "data.metadata=data/train.npy",
    "eval.eval_freq=0",
    "eval.datasets=[]",
    "train.max_steps=40",
    "train.checkpoint_every=15 steps",
];

#[test]
fn the_demo_is_preempted_on_two_nodes() {
    let Some(site) = Site::new(STEPS, &[("CLUSTER_KILL_WAIT", "2")]) else {
        return;
    };
    place_data(site.project().path());
    let experiment = fs::read_to_string(root().join("jobs/demo.yaml")).expect("the demo");
    site.project().write("exp.yaml", &experiment);
    site.project().commit("The demo's experiment");

    let straight = site.submit(&SHAPE);
    straight.finished();
    let run = site.submit(&SHAPE);
    run.reach(20);
    site.cluster().occupy("n[1-4]", 2);
    run.happens("restored", 2);
    run.finished();

    run.tells(&[
        "attempt_started",
        "stopped",
        "requeued",
        "restored",
        "finished",
    ]);
    let wanted = curve(&straight.dir);
    assert_eq!(wanted.len() as u64, STEPS);
    assert_eq!(wanted, curve(&run.dir), "losses differ\n{}", run.report());
    assert_eq!(
        checkpoint_sums(&straight.dir, STEPS),
        checkpoint_sums(&run.dir, STEPS),
        "weights differ"
    );
}

/// The drawings and names of the demo, fetched if they are not here, where the user can read them.
fn place_data(project: &Path) {
    let fetched = Command::new(root().join("scripts/demo.sh"))
        .arg("prepare")
        .current_dir(root())
        .output();
    fetched.expect("the script starts").ok();
    let copied = Command::new("cp")
        .args(["--recursive", "--no-target-directory"])
        .arg(root().join(".build/demo/data"))
        .arg(project.join("data"))
        .output();
    copied.expect("cp starts").ok();
}
