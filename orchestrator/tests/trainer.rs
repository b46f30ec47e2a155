//! The rank protocol, by a stand-in for the trainer that speaks it.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::Env;

/// Writes heartbeats and an end record as the trainer does; stops when the control file says so.
const WORKER: &str = r#"#!/bin/bash
[ "$1" = train ] || exit 2
d=$ROCKET_RUN_DIR/attempts/$(printf %03d $ROCKET_ATTEMPT)
put() { echo "$2" > $1.tmp; mv $1.tmp $1; }
beat() { put $d/ranks/$RANK.beat.json "{\"beat\":$1,\"pid\":$$,\"phase\":\"training\",\"step\":$2,\"total_steps\":10,\"epoch\":0.5,\"samples_per_second\":12.5,\"resident_bytes\":1000}"; }
end() { put $d/ranks/$RANK.end.json "$1"; }
step=$(cat $ROCKET_RUN_DIR/saved 2>/dev/null || echo 0)
echo "from step $step; threads $OMP_NUM_THREADS; port '$MASTER_PORT'; $(basename $PWD)"
beat 1 $step
MODE
"#;

const STOPPABLE: &str = r#"
if [ $ROCKET_ATTEMPT = 0 ]; then
  beat 2 7
  until grep -q stop.*preempted $d/control.json 2>/dev/null; do sleep 0.05; done
  [ $RANK = 0 ] && echo 7 > $ROCKET_RUN_DIR/saved
  end '{"outcome":"stopped","kind":"ok","step":7,"stop":"preempted"}'
  exit 0
fi
beat 2 10
end '{"outcome":"finished","kind":"ok","step":10}'"#;

fn env(mode: &str) -> Env {
    let env = Env::new();
    let worker = env.path("worker");
    fs::write(&worker, WORKER.replace("MODE", mode)).unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    env.write("data/images/1.jpg", "");
    env.write("data/train.npy", "");
    env.write("labels.json", "{\"pinned\": []}\n");
    env.write(
        "exp.yaml",
        "name: job\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: data/images, metadata: data/train.npy}\ntrain: {threads: 2}\ncluster: {backend: local, nodes: 1, tasks_per_node: 2}\n",
    );
    env.commit_but_not_experiment();
    env
}

fn submit(env: &Env) -> String {
    let output = env
        .rocket_command()
        .env("ROCKET_WORKER", env.path("worker"))
        .env("LD_LIBRARY_PATH", "/nowhere")
        .args(["submit", "exp.yaml"])
        .output()
        .unwrap();
    let said = env.said(output).ok();
    assert!(
        said.stderr
            .contains("rocket-worker does not say which sources"),
        "{said}"
    );
    said.stdout.lines().next().unwrap()[4..].to_owned()
}

#[test]
fn a_stop_is_agreed_and_the_run_goes_on_from_what_was_saved() {
    let env = env(STOPPABLE);
    let run = submit(&env);
    env.wait("step 7 of both ranks", || {
        let view = env.status(&run);
        view["step"] == 7 && view["resident_bytes"][1] == 1000
    });
    let view = env.status(&run);
    assert_eq!(view["total_steps"], 10);
    assert_eq!(view["samples_per_second"], 12.5);
    assert_eq!(view["resident_bytes"][1], 1000);
    let table = env.rocket(&["status", &run]).ok().stdout;
    assert!(
        table.contains("running        0  7/10   0.50       12.5   0s"),
        "{table}"
    );
    env.rocket(&["preempt", &run]).ok();
    let view = env.wait_for_status(&run, "finished");
    assert_eq!(
        (&view["step"], &view["resumptions"]),
        (&10.into(), &1.into())
    );
    assert_eq!(
        env.rocket(&["logs", &run]).ok().stdout,
        "from step 7; threads 2; port ''; repo\n"
    );
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    0  stop requested (preempted) at step 7
    0  stopped (preempted) at step 7
    0  starts again: preempted; the ranks left as asked
    1  started 2 ranks
    1  finished at step 10
    ");
    assert_eq!(env.read_run(&run, "pin/labels.json"), "{\"pinned\": []}\n");
    assert!(
        !env.run_dir(&run).join("pin/README").exists(),
        "only what the trainer reads"
    );
}

#[test]
fn paths_of_data_are_absolute_in_the_run_and_as_written_in_the_pin() {
    let env = env("end '{\"outcome\":\"finished\",\"kind\":\"ok\",\"step\":10}'");
    let run = submit(&env);
    env.wait_for_status(&run, "finished");
    let stored = env.read_run(&run, "experiment.yaml");
    assert!(stored.contains(&format!(
        "root: {}\n",
        env.repo().join("data/images").display()
    )));
    let pinned = env.git(&[
        "show",
        &format!("refs/rocket/{run}:.rocket/experiment.yaml"),
    ]);
    assert!(pinned.contains("root: data/images\n"), "{pinned}");
}

#[test]
fn a_failure_with_a_cause_is_not_tried_again() {
    let env = env(
        r#"if [ $RANK = 0 ]; then end '{"outcome":"failed","kind":"distributed","step":3,"cause":"a peer is gone"}'; exit 7; fi
sleep 0.3; end '{"outcome":"failed","kind":"not_finite","step":3,"cause":"the loss became NaN at step 3","hint":"lower the learning rate"}'; exit 5"#,
    );
    let run = submit(&env);
    let view = env.wait_for_status(&run, "failed");
    assert_eq!(view["cause"], "the loss became NaN at step 3");
    assert_eq!(view["hint"], "lower the learning rate");
    assert_eq!(view["exit"], "not_finite");
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    0  rank 1 failed at step 3: the loss became NaN at step 3; hint: lower the learning rate
    0  failed at step 3: the loss became NaN at step 3; hint: lower the learning rate
    ");
}

#[test]
fn a_trainer_that_changed_after_submit_is_refused() {
    let env = env(STOPPABLE);
    let run = submit(&env);
    env.wait("step 7", || env.status(&run)["step"] == 7);
    env.kill_supervisor(&run);
    let manifest: serde_json::Value =
        serde_json::from_str(&env.read_run(&run, "run.json")).unwrap();
    let worker =
        std::path::Path::new(manifest["bundle"]["dir"].as_str().unwrap()).join("bin/rocket-worker");
    // A rebuild of the user's own binary does not matter; one of the bundle's does.
    fs::write(env.path("worker"), "#!/bin/bash\n").unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    let mut bytes = fs::read(&worker).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&worker, bytes).unwrap();
    env.rocket(&["resume", &run]).ok();
    let view = env.wait_for_status(&run, "failed");
    assert_eq!(view["exit"], "pin");
    let cause = view["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("rocket-worker changed after submit: "),
        "{cause}"
    );
}

#[test]
fn an_experiment_that_changed_after_submit_is_refused() {
    let env = env(STOPPABLE);
    let run = submit(&env);
    env.wait("step 7", || env.status(&run)["step"] == 7);
    env.kill_supervisor(&run);
    let path = env.run_dir(&run).join("experiment.yaml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("seed: 0", "seed: 1");
    fs::write(&path, text).unwrap();
    env.rocket(&["resume", &run]).ok();
    let view = env.wait_for_status(&run, "failed");
    assert!(
        view["cause"]
            .as_str()
            .unwrap()
            .contains("changed after submit"),
        "{view}"
    );
}
