//! `rocket eval`: what it refuses, and the table of results. That evaluations run is shown by the
//! whole-program tests, which have a trainer.

#[path = "support/made.rs"]
mod made;
mod support;

use std::fs;

use made::Made;
use serde_json::json;
use support::Env;

fn world() -> Env {
    let env = Env::new();
    Made::new("pets-11111111").write(&env.repo().join("runs"));
    env
}

#[test]
fn results_are_a_table_of_sets_and_heads() {
    let env = world();
    let dir = env.run_dir("pets-11111111").join("eval");
    let head = |head: &str, top1: f64| json!({"head": head, "top1": top1, "top5": 90.0, "mean_per_class": top1 - 1.0, "top1_count": 1, "top5_count": 1});
    let set = |name: &str, step: u64, metric: &str, heads: serde_json::Value| {
        let value = json!({"dataset": name, "step": step, "metric": metric, "samples": 10, "classes": 3, "chance": 33.3, "heads": heads});
        fs::write(
            dir.join(format!("{name}-step-{step}.json")),
            value.to_string(),
        )
        .unwrap();
    };
    set(
        "cars",
        200,
        "top1",
        json!([head("z", 40.0), head("h", 42.0)]),
    );
    set(
        "flowers",
        200,
        "mean_per_class",
        json!([head("z", 50.0), head("h", 51.0)]),
    );
    set("cars", 100, "top1", json!([head("z", 20.0)]));
    // Neither is a result.
    fs::write(dir.join("retrieval-coco-step-200.json"), "{\"recall\": []}").unwrap();
    fs::write(dir.join("broken.json"), "{").unwrap();
    fs::remove_file(dir.join("emoji-step-00000200.json")).unwrap();
    let said = env.rocket(&["eval", "pets", "--scores"]).ok();
    insta::assert_snapshot!(said.to_string(), @r"
    step 200: 2 sets, percent
    head   cars  flowers  average
    z     40.00    49.00    44.50
    h     42.00    50.00    46.00
    mean per class: flowers

    other steps, head z
    step   cars
    100   20.00
    ");
    let said = env.rocket(&["eval", "pets", "--scores", "--json"]).ok();
    let value: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(value[0]["average"], json!([44.5, 46.0]));
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let env = world();
    let mut said = String::new();
    let mut refused = |args: &[&str]| {
        let answer = env.rocket(&[&["eval"], args].concat()).fails();
        said.push_str(&format!("$ eval {}\n{}\n", args.join(" "), answer.stderr));
    };
    // No checkpoint; then one, and no catalog.
    refused(&["pets"]);
    refused(&["pets", "--checkpoint", "best-ever"]);
    refused(&["pets", "--checkpoint", "7"]);
    refused(&["pets", "--checkpoint", "."]);
    refused(&["pets", "--set", "train.batch_size=3"]);
    refused(&["pets", "--set", "eval.batch=3"]);
    // An evaluation of an evaluation.
    let dir = Made::new("eval-pets-11111111").write(&env.repo().join("runs"));
    let file = dir.join("run.json");
    let mut manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    manifest["schema"] = json!(2);
    manifest["evaluation"] =
        json!({"run": env.run_dir("pets-11111111"), "step": 200, "datasets": ["cars"]});
    fs::write(&file, manifest.to_string()).unwrap();
    refused(&["eval-pets"]);
    // A run of another program.
    let dir = Made::new("other-22222222").write(&env.repo().join("runs"));
    fs::write(
        dir.join("experiment.yaml"),
        "name: other\ncommand: [./x]\ncluster: {backend: local, nodes: 1, tasks_per_node: 1}\n",
    )
    .unwrap();
    refused(&["other"]);
    insta::assert_snapshot!(said, @r"
    $ eval pets
    error: there is no good checkpoint in '[DIR]/repo/runs/pets-11111111/checkpoints'
    hint: the run saves one every train.checkpoint_every and at its end

    $ eval pets --checkpoint best-ever
    error: --checkpoint 'best-ever' is neither 'best', 'last', a step, nor a directory
    hint: it has no checkpoint yet

    $ eval pets --checkpoint 7
    error: the run has no checkpoint of step 7
    hint: it has no checkpoint yet

    $ eval pets --checkpoint .
    error: checkpoint 'repo' cannot be used: it has no manifest.json

    $ eval pets --set train.batch_size=3
    error: --set train.batch_size: an evaluation keeps the experiment of its run
    hint: what can be set is 'cluster.*', 'eval.*' and 'data.workers'

    $ eval pets --set eval.batch=3
    error: --set eval.batch=3: unknown key 'batch' in 'eval'; its keys are eval_freq, datasets, catalog, labels, templates, batch_size, precision, after

    $ eval eval-pets
    error: run eval-pets-11111111 is itself an evaluation, of pets-11111111
    hint: name that run: pets-11111111

    $ eval other
    error: run other-22222222 runs a program of its own ('command'), and has no model that rocket knows
    ");
}
