//! `rocket submit` of a sweep, and `rocket sweep`, on this machine.
#![allow(missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use support::Env;

const HEAD: &str = "name: job\ncommand: [./job.sh]\ncluster: {backend: local, nodes: 1, tasks_per_node: 1, max_crashes: 0, stop_grace_seconds: 20}\n";

/// Points append what they do to a log; it is one write, so that lines stay whole.
fn env(script: &str, sweep: &str) -> Env {
    let env = Env::with_job(&format!("LOG=$(dirname $ROCKET_RUN_DIR)/log\n{script}"), 1);
    env.write("exp.yaml", &format!("{HEAD}{sweep}"));
    env
}

fn status(env: &Env, sweep: &str) -> Value {
    let said = env.rocket(&["sweep", "status", sweep, "--json"]).ok();
    serde_json::from_str(&said.stdout).unwrap()
}

fn wait_for(env: &Env, sweep: &str, state: &str, count: u64) {
    env.wait(&format!("{count} points to be {state}"), || {
        status(env, sweep)["states"][state] == count
    });
}

/// A snapshot without the commits in run ids.
macro_rules! assert_plain {
    ($text:expr, @$snapshot:literal) => {
        insta::with_settings!({filters => vec![(r"-[0-9a-f]{8}\b", "-[ID]")]}, {
            insta::assert_snapshot!($text, @$snapshot);
        });
    };
}

#[test]
fn points_run_so_many_at_once_and_a_failed_one_holds_nobody_up() {
    let env = env(
        "echo + >>$LOG; sleep 0.6; echo - >>$LOG; [ \"$LR\" != bad ]",
        "sweep: {name: rates, max_running: 2, cluster.env.LR: [1e-3, bad, 3e-3], seed: [0, 1]}\n",
    );
    let said = env.rocket(&["submit", "exp.yaml"]).ok();
    assert_plain!(said.stdout, @r"
    sweep rates
      points     6 (3 cluster.env.LR x 2 seed), at most 2 at once
      submitted  job-LR1e-3-seed0-[ID]
                 job-LR1e-3-seed1-[ID]
                 job-LR-bad-seed0-[ID]
                 job-LR-bad-seed1-[ID]
                 job-LR3e-3-seed0-[ID]
                 job-LR3e-3-seed1-[ID]
      next       rocket sweep status rates | rocket sweep cancel rates
    ");
    wait_for(&env, "rates", "finished", 4);
    wait_for(&env, "rates", "failed", 2);
    let log = fs::read_to_string(env.repo().join("runs/log")).unwrap();
    let mut now = 0_i32;
    let mut most = 0;
    for line in log.lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!((most, now), (2, 0), "{log}");
    let said = env.rocket(&["sweep", "status", "rates"]).ok();
    assert_plain!(said.stdout, @r"
    sweep rates: 6 points (3 cluster.env.LR x 2 seed), at most 2 at once: 2 failed, 4 finished

    POINT  cluster.env.LR  seed  STATE     STEP  ETA  SCORE  RUN
        0  1e-3            0     finished     -    -  -      job-LR1e-3-seed0-[ID]
        1  1e-3            1     finished     -    -  -      job-LR1e-3-seed1-[ID]
        2  bad             0     failed       -    -  -      job-LR-bad-seed0-[ID]
        3  bad             1     failed       -    -  -      job-LR-bad-seed1-[ID]
        4  3e-3            0     finished     -    -  -      job-LR3e-3-seed0-[ID]
        5  3e-3            1     finished     -    -  -      job-LR3e-3-seed1-[ID]

    point 2: rank 0 left with exit code 1; given up: no relaunch is allowed (cluster.max_crashes: 0)
      hint: read the ranks' last words with 'rocket logs', then 'rocket resume'

    point 3: rank 0 left with exit code 1; given up: no relaunch is allowed (cluster.max_crashes: 0)
      hint: read the ranks' last words with 'rocket logs', then 'rocket resume'
    ");
    let said = env.rocket(&["sweep", "status"]).ok();
    assert_plain!(said.stdout, @r"
    SWEEP  POINTS  AT ONCE  STATES                SHAPE
    rates       6        2  2 failed, 4 finished  3 cluster.env.LR x 2 seed
    ");

    // Every point is a run of its own, with a pin of its own and no sweep in its experiment.
    let one = &status(&env, "rates")["runs"][3];
    let run = one["run"].as_str().unwrap();
    let yaml = env.git(&[
        "show",
        &format!("refs/rocket/{run}:.rocket/experiment.yaml"),
    ]);
    assert!(
        yaml.starts_with("name: job-LR-bad-seed1\nseed: 1\n"),
        "{yaml}"
    );
    assert!(!yaml.contains("sweep"), "{yaml}");
    let manifest: Value = serde_json::from_str(&env.read_run(run, "run.json")).unwrap();
    assert_eq!(manifest["sweep"]["id"], "rates");
    assert_eq!(manifest["sweep"]["point"], 3);
    assert_eq!(
        manifest["sweep"]["set"],
        serde_json::json!({"cluster.env.LR": "bad", "seed": "1"})
    );
    let commits: BTreeSet<String> = status(&env, "rates")["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["commit"].to_string())
        .collect();
    assert_eq!(commits.len(), 6);
    let keys: Vec<String> = status(&env, "rates")
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    insta::assert_snapshot!(keys.join(" "), @"sweep shape max_running points experiment submitted states runs");
}

#[test]
fn a_sweep_is_cancelled_resumed_and_extended() {
    let env = env(
        "echo $SEED >>$LOG; while [ ! -e $(dirname $ROCKET_RUN_DIR)/go ]; do sleep 0.05; done",
        "sweep: {max_running: 1, cluster.env.SEED: [0, 1, 2]}\n",
    );
    env.rocket(&["submit", "exp.yaml"]).ok();
    env.wait("the first point", || {
        status(&env, "job")["states"]["running"] == 1
    });
    // A point that waits is not lost, and not started when it is cancelled alone.
    let waits = status(&env, "job")["runs"][2].clone();
    assert_eq!(waits["status"], "pending");
    assert!(
        waits["waiting"]
            .as_str()
            .unwrap()
            .contains("waits for its turn")
    );
    let run = waits["run"].as_str().unwrap();
    let said = env.rocket(&["resume", run]).fails();
    assert!(
        said.stderr
            .contains("goes on already: it waits for its turn"),
        "{said}"
    );
    env.rocket(&["cancel", run]).ok();
    let said = env.rocket(&["sweep", "cancel", "job", "--now"]).ok();
    assert_eq!(said.stdout, "sweep job: 2 cancelled, 1 were over\n");
    assert_eq!(status(&env, "job")["states"]["cancelled"], 3);

    // The same point is not run twice: not at the same commit, nor at another one.
    env.write("another", "file\n");
    env.commit_but_not_experiment();
    let said = env.rocket(&["submit", "exp.yaml"]).fails();
    insta::assert_snapshot!(said, @r"
    --- stderr
    error: there is a sweep 'job' already: 3 points (3 cluster.env.SEED) from '[DIR]/repo/exp.yaml'
    hint: 'rocket sweep extend job FILE' submits the points that it does not have yet, 'rocket sweep resume job' goes on with it
    hint: or give this one a name of its own with 'name' in 'sweep'
    ");
    let said = env
        .rocket(&[
            "sweep",
            "extend",
            "job",
            "--add",
            "cluster.env.SEED=3",
            "--dry-run",
        ])
        .ok();
    insta::assert_snapshot!(said, @r"
    sweep job: 3 points are there, 1 are new
      job-SEED3
    ");
    let said = env
        .rocket(&["sweep", "extend", "job", "--add", "cluster.env.SEED=3"])
        .ok();
    assert_plain!(said.stdout, @r"
    sweep job
      points     4 (4 cluster.env.SEED), at most 1 at once
      there      3 were submitted before and are left as they are (--again submits them once more)
      submitted  job-SEED3-[ID]
      next       rocket sweep status job | rocket sweep cancel job
    ");

    fs::write(env.repo().join("runs/go"), "").unwrap();
    let said = env.rocket(&["sweep", "resume", "job"]).ok();
    assert!(said.stdout.lines().count() >= 4, "{said}");
    wait_for(&env, "job", "finished", 4);
    let said = env.rocket(&["sweep", "resume", "job"]).ok();
    assert_eq!(said.stdout, "sweep job: 4 finished, 0 under way\n");
    let said = env.rocket(&["sweep", "cancel", "job"]).ok();
    assert_eq!(said.stdout, "sweep job: 0 cancelled, 4 were over\n");

    // Once more on demand.
    env.rocket(&["submit", "exp.yaml", "--again"]).ok();
    wait_for(&env, "job", "finished", 7);
    let points: Vec<u64> = status(&env, "job")["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["point"].as_u64().unwrap())
        .collect();
    assert_eq!(points, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn what_was_not_submitted_is_submitted_by_resume() {
    let env = env("true", "sweep: {seed: [0, 1, 2]}\n");
    env.rocket(&["submit", "exp.yaml"]).ok();
    wait_for(&env, "job", "finished", 3);
    // As if the submit had been killed on its way.
    let lost = status(&env, "job")["runs"][1]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::remove_dir_all(env.run_dir(&lost)).unwrap();
    let said = env.rocket(&["sweep", "status", "job"]).ok();
    assert!(
        said.stdout.contains("2 finished, 1 not submitted"),
        "{said}"
    );
    env.rocket(&["sweep", "resume", "job"]).ok();
    wait_for(&env, "job", "finished", 3);
    assert!(env.run_dir(&lost).exists());
}

#[test]
fn killed_supervisors_give_their_turn_back() {
    let env = env(
        "echo $SEED >>$LOG; [ $SEED = 1 ] || sleep 60",
        "sweep: {max_running: 1, cluster.env.SEED: [0, 1]}\n",
    );
    env.rocket(&["submit", "exp.yaml"]).ok();
    env.wait("the first point", || {
        status(&env, "job")["states"]["running"] == 1
    });
    let first = status(&env, "job")["runs"][0]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    env.wait_for_file(&first, "attempts/000/ranks/0.log");
    env.kill_supervisor(&first);
    wait_for(&env, "job", "finished", 1);
    assert_eq!(status(&env, "job")["runs"][0]["status"], "lost");
}

#[test]
fn very_many_points_are_asked_about_first() {
    let hundred: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let hundred = hundred.join(", ");
    let env = env(
        "true",
        &format!(
            "sweep: {{name: all, seed: [{hundred}], cluster.env.A: [{hundred}], cluster.env.B: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}\n"
        ),
    );
    let start = std::time::Instant::now();
    let said = env.rocket(&["submit", "exp.yaml"]).fails();
    insta::assert_snapshot!(said, @r"
    --- stderr
    error: the sweep has 100000 points (100 seed x 100 cluster.env.A x 10 cluster.env.B), and each becomes a run
    hint: if that is meant, submit with --yes
    hint: lists multiply; those that go together belong into 'zip'
    ");
    let said = env.rocket(&["submit", "exp.yaml", "--dry-run"]).ok();
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert!(said.stdout.contains("and 99980 more"), "{said}");
    assert!(said.stdout.contains("a submit asks first"), "{said}");
    assert!(
        !env.repo().join("runs").exists(),
        "nothing is written by a refusal"
    );
}

#[test]
fn what_cannot_be_is_said_before_anything_is_submitted() {
    let env = env("true", "sweep: {seed: [0, 1]}\n");
    let refused = |sweep: &str, args: &[&str]| {
        env.write("exp.yaml", &format!("{HEAD}{sweep}"));
        let args = [&["submit", "exp.yaml"], args].concat();
        env.rocket(&args).fails().stderr
    };
    let said = [
        refused("sweep: {cluster.max_crashes: [1, -1], seeed: [0]}\n", &[]),
        refused("sweep: {cluster.nodes: [1, 0]}\n", &[]),
        refused("sweep: {name: job, seed: [0, 1]}\n", &["--follow"]),
        refused("sweep: {seed: [0, 1]}\n", &["--set", "seed=3"]),
    ];
    insta::assert_snapshot!(said.join("\n"), @r"
    error: exp.yaml:4:34: 'cluster.max_crashes' must be a whole number of at least 0, not -1
    error: exp.yaml:4:39: unknown key 'seeed' in 'sweep'; did you mean 'seed'?

    error: exp.yaml:4:28: 'cluster.nodes' must be at least 1, not 0 (in the point cluster.nodes=0)

    error: --follow is for one run, and the experiment has a 'sweep' of many
    hint: look at all of them with 'rocket sweep status'

    error: --set seed=3: 'seed' has no effect here, since the points of the sweep set it; say sweep.seed=[...] for other values
    ");
    assert!(
        !env.repo().join("runs").exists(),
        "nothing is written by a refusal"
    );
    let said = [
        env.rocket(&["sweep", "status", "jub"]).fails().stderr,
        env.rocket(&["sweep", "status"]).ok().stdout,
    ];
    insta::assert_snapshot!(said.join("\n"), @r"
    error: there is no sweep 'jub' in '[DIR]/repo/runs'
    hint: submit an experiment with 'sweep: {optim.lr: [1e-3, 3e-3]}' to make one

    no sweeps yet; submit an experiment with 'sweep: {optim.lr: [1e-3, 3e-3]}'
    ");

    // The limit can be raised and not lowered, and a name is one sweep's.
    env.write(
        "exp.yaml",
        &format!("{HEAD}sweep: {{name: two, max_running: 2, seed: [0]}}\n"),
    );
    env.rocket(&["submit", "exp.yaml"]).ok();
    let said = [
        env.rocket(&["sweep", "extend", "two", "--set", "sweep.max_running=1"]),
        env.rocket(&["sweep", "extend", "two", "--set", "sweep.name=three"]),
        env.rocket(&["sweep", "extend", "two", "--add", "sead=1"]),
        env.rocket(&["sweep", "resume", "tow"]),
    ]
    .map(|said| said.fails().stderr);
    insta::assert_snapshot!(said.join("\n"), @r"
    error: 'max_running' of the sweep 'two' is 2, and can only be raised, not become 1
    hint: submit the other points as a sweep of another name

    error: the file's sweep is called 'three', and 'two' is to be extended
    hint: submit it as a sweep of its own, or set 'name' in its 'sweep'

    error: --set sweep.sead+=1: 'sead' is no list of the sweep, to which a value could be added; it has seed

    error: there is no sweep 'tow' in '[DIR]/repo/runs'
    hint: did you mean 'two'?
    ");
}
