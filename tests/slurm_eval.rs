//! Evaluations on a cluster: submitted by the supervisor of the run on its node, and by a person.

use std::fs;

use serde_json::{Value, json};
use support::Text;
use support::slurm::Site;

const STEPS: u64 = 6;
const SHAPE: [&str; 6] = [
    "cluster.partition=low",
    "cluster.nodes=2",
    "cluster.tasks_per_node=1",
    "cluster.cpus_per_task=1",
    "cluster.time=10",
    "eval.datasets=[]",
];

#[test]
fn an_evaluation_is_a_job_of_its_own() {
    let Some(site) = Site::new(STEPS, &[]) else {
        return;
    };
    let run = site.submit(&[&SHAPE[..], &["eval.after=[shapes]"]].concat());
    run.finished();
    let evaluations = || -> Vec<String> {
        let runs = fs::read_dir(site.project().path().join("runs")).expect("the folder of runs");
        let names = runs.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with("eval-"))
            .collect();
        names.sort();
        names
    };
    let made = evaluations();
    assert_eq!(made.len(), 1, "{made:?}\n{}", run.report());
    let after = site.named(made[0].clone());
    after.finished();
    assert_ne!(after.job(), run.job());
    let result = run.dir.join(format!("eval/shapes-step-{STEPS}.json"));
    let read = || -> Value {
        serde_json::from_slice(&fs::read(&result).expect("a result")).expect("JSON")
    };
    let first = read();
    assert_eq!(first["samples"], json!(16));
    // On one node, whatever the run had.
    let events = after.events();
    let started = events
        .iter()
        .find(|event| event["event"] == "attempt_started")
        .expect("it started");
    let nodes = started["nodes"].as_array().map(Vec::len);
    assert_eq!(
        (&started["world_size"], nodes),
        (&json!(1), Some(1)),
        "{started:#}"
    );

    // By a person, over two nodes: the same figures.
    fs::remove_file(&result).expect("removed");
    let said = site.project().rocket(&[
        "eval",
        &run.id,
        "--datasets",
        "shapes",
        "--set",
        "cluster.nodes=2",
        "--follow",
    ]);
    let said = said.ok();
    assert!(said.contains("average"), "{said}");
    assert_eq!(evaluations().len(), 2);
    assert_eq!(read()["heads"], first["heads"]);
}
