//! `rocket status` and `rocket show`.
#![allow(missing_docs)]

mod support;

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
    RUN           STATE     ATTEMPT  STEP  EPOCH  RATE  LEFT  SCORE
    job-[ID]  failed          0     -      -     -     -  -
    job-[ID]  finished        0     -      -     -     -  -

    job-[ID]: rank 1 left with exit code 1; given up: no relaunch is allowed (cluster.max_crashes: 0)
      hint: read the ranks' last words with 'rocket logs', then 'rocket resume'
    ");
    let mut view = env.status(&failed);
    for changing in ["commit", "submitted", "started", "ended", "dir", "run"] {
        view[changing] = format!("[{changing}]").into();
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&view).unwrap(), @r#"
    {
      "run": "[run]",
      "name": "job",
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
      "supervisor": null,
      "job": null,
      "waiting": null,
      "held": false,
      "trouble": null,
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
