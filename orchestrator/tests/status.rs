//! `rocket status` and `rocket show`.
#![allow(missing_docs)]

#[path = "support/made.rs"]
mod made;
mod support;

use made::Made;
use serde_json::Value;
use support::Env;

#[test]
fn without_runs_it_says_how_to_start_one() {
    let env = Env::new();
    assert_eq!(
        env.rocket(&["status"]).ok().stdout,
        "no runs yet; start one with: rocket submit exp.yaml\n"
    );
    assert_eq!(env.rocket(&["status", "--json"]).ok().stdout, "[]\n");
}

#[test]
fn all_runs_in_a_table_or_as_json() {
    let env = Env::with_job("[ $RANK != 1 ]", 2);
    let failed = env.submit(&["--set", "cluster.max_crashes=0"]);
    let finished = env.submit(&["--set", "cluster.tasks_per_node=1"]);
    env.wait_for_status(&failed, "failed");
    env.wait_for_status(&finished, "finished");
    assert_said!(env.rocket(&["status"]).ok(), @r"
    RUN           STATE     ATTEMPT  STEP  EPOCH  SAMPLES/S  ETA  SCORE  WHY
    job-[ID]  failed          0     -      -          -    -  -      rank 1 left with exit code 1; given up: no relaunch is allo…
    job-[ID]  finished        0     -      -          -    -  -

    job-[ID]: rank 1 left with exit code 1; given up: no relaunch is allowed (cluster.max_crashes: 0)
      hint: read the ranks' last words with 'rocket logs', then 'rocket resume'
    ");
    let mut view = env.status(&failed);
    for changing in ["commit", "submitted", "started", "ended", "dir", "run"] {
        view[changing] = format!("[{changing}]").into();
    }
    view["nodes"] = serde_json::json!(["[NODE]"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&view).unwrap(), @r#"
    {
      "run": "[run]",
      "name": "job",
      "sweep": null,
      "status": "failed",
      "cause": "rank 1 left with exit code 1; given up: no relaunch is allowed (cluster.max_crashes: 0)",
      "hint": "read the ranks' last words with 'rocket logs', then 'rocket resume'",
      "exit": "internal",
      "attempt": 0,
      "resumptions": 0,
      "world_size": 2,
      "step": 0,
      "total_steps": null,
      "epoch": null,
      "samples_per_second": null,
      "eta_seconds": null,
      "resident_bytes": [],
      "checkpoint": null,
      "metrics": {},
      "main_score": null,
      "supervisor": null,
      "job": null,
      "waiting": null,
      "held": false,
      "trouble": null,
      "nodes": [
        "[NODE]"
      ],
      "excluded": [],
      "commit": "[commit]",
      "submitted": "[submitted]",
      "started": "[started]",
      "ended": "[ended]",
      "dir": "[dir]"
    }
    "#);
}

#[test]
fn a_run_is_found_by_name_or_beginning_and_a_typo_is_met_with_the_nearest() {
    let env = Env::with_job("true", 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    for query in [
        "job",
        &run[..7],
        run.as_str(),
        env.run_dir(&run).to_str().unwrap(),
    ] {
        assert_eq!(env.status(query)["run"], run.as_str());
    }
    let said = env.rocket(&["show", "jbo"]).fails();
    assert!(said.stderr.contains("hint: did you mean 'job'?"), "{said}");
}

#[test]
fn runs_are_filtered_by_pattern_state_sweep_and_time() {
    let env = Env::new();
    let runs = env.path("repo/runs");
    for (id, sweep, cause) in [
        ("alpha-11111111", None, None),
        ("seeds-0-22222222", Some(("seeds", 0)), None),
        (
            "seeds-1-33333333",
            Some(("seeds", 1)),
            Some("the loss is not finite".to_owned()),
        ),
    ] {
        let mut made = Made::new(id);
        (made.sweep, made.cause) = (sweep, cause);
        made.write(&runs);
    }
    let shown = |args: &[&str]| -> Vec<String> {
        let said = env.rocket(&[&["status", "--json"], args].concat()).ok();
        let views: Value = serde_json::from_str(&said.stdout).unwrap();
        let ids = views
            .as_array()
            .unwrap()
            .iter()
            .map(|view| view["run"].as_str().unwrap());
        ids.map(|id| id.rsplit_once('-').unwrap().0.to_owned())
            .collect()
    };
    assert_eq!(shown(&["seeds-*"]), ["seeds-0", "seeds-1"]);
    assert_eq!(shown(&["seeds"]), ["seeds-0", "seeds-1"]);
    assert_eq!(
        shown(&["--sweep", "seeds", "--state", "failed,lost"]),
        ["seeds-1"]
    );
    assert_eq!(shown(&["--state", "active"]), [""; 0]);
    // They ended at 11:11 on the first of January 2026.
    assert_eq!(shown(&["--since", "2026-01-01T11:00:00Z"]).len(), 3);
    assert_eq!(shown(&["--since", "2026-01-02"]), [""; 0]);
    assert_said!(env.rocket(&["status"]).ok(), @r"
    RUN               STATE     ATTEMPT  STEP  EPOCH  SAMPLES/S  ETA  SCORE                 WHY
    alpha-11111111    finished        1   200      -          -    -  emoji/z_top1 10.10 %
    seeds-0-22222222  finished        1   200      -          -    -  emoji/z_top1 10.10 %
    seeds-1-33333333  failed          1   200      -          -    -  emoji/z_top1 10.10 %  the loss is not finite

    seeds-1-33333333: the loss is not finite
      hint: <b>look</b>
    ");
    let said = env
        .rocket(&["status", "--state", "failed", "--since", "1h"])
        .ok();
    assert_eq!(
        said.stdout,
        "no such run; without a filter, 'rocket status' shows all\n"
    );
    let said = env.rocket(&["status", "--since", "yesterday"]);
    assert!(said.stderr.contains("such as 3d or 12h"), "{said}");
    assert_eq!(said.code, Some(2));
}

#[test]
fn where_the_time_went_is_shown() {
    let env = Env::new();
    Made::new("alpha-11111111").write(&env.path("repo/runs"));
    assert_said!(env.rocket(&["show", "alpha"]).ok(), @r"
    run         alpha-11111111
    state       finished
    step        200, last checkpoint at 100
    score       emoji/z_top1 10.10 %
    score       emoji/z_top5 27.00 %
    job         41
    experiment  /home/ada/code/exp.yaml
    commit      [COMMIT] (refs/rocket/alpha-11111111)
    made from   [COMMIT]
    programs    /runs/bundles/[SHA16]
    directory   [DIR]/repo/runs/alpha-11111111

    attempts
          STARTED              LASTED  RANKS  NODES  JOB  STEP  ENDING    CAUSE
       0  [TIME]  31m00s      2  n1     41    100  requeued  preempted
       1  [TIME]  31m00s      2  n2     41    200  finished

    time since the submission
      computing                   56m48s   80.0 %
      saving checkpoints             12s    0.3 %
      starting up                  3m30s    4.9 %
      steps lost to preemption       30s    0.7 %
      waiting to start             1m00s    1.4 %
      waiting after preemption     9m00s   12.7 %
      all                          1h11m  100.0 %
      goodput 80.0 %, of the time on nodes 93.1 %

    scores
      step 200: 1 set, percent
      head  emoji  average
      z     10.10    10.10
      h      8.08     8.08

    history
      [TIME]      submitted to local
      [TIME]   0  started 2 ranks on n1
      [TIME]   0  starts from nothing: no checkpoint yet
      [TIME]   0  checkpoint step-00000100 saved (912.3 MB in 12.0 s) at step 100
      [TIME]   0  preempted at step 100: Slurm wants the nodes
      [TIME]   0  starts again: preempted
      [TIME]   1  started 2 ranks on n2
      [TIME]   1  resumed from checkpoint step-00000100 at step 100
      [TIME]   1  evaluated: emoji/z_top1 10.10 %, emoji/z_top5 27.00 % at step 200
      [TIME]   1  finished at step 200
    ");
    let said = env.rocket(&["show", "alpha", "--json"]).ok();
    let show: Value = serde_json::from_str(&said.stdout).unwrap();
    let seconds = show["goodput"]["seconds"].as_object().unwrap();
    let sum: f64 = seconds.values().map(|value| value.as_f64().unwrap()).sum();
    assert_eq!(Some(sum), show["goodput"]["wall_seconds"].as_f64());
    assert_eq!(sum, 71.0 * 60.0);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let env = Env::with_job("true", 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    let rocket = env!("CARGO_BIN_EXE_rocket");
    let output = env
        .command("bash".as_ref(), &env.repo())
        .args([
            "-c",
            &format!("set -o pipefail; {rocket} show {run} --json | true"),
        ])
        .output()
        .unwrap();
    let said = env.said(output).ok();
    assert_eq!(said.stderr, "");
}
