//! `rocket resume`.
#![allow(missing_docs)]

mod support;

use support::Env;

const JOB: &str = r#"
echo attempt $ROCKET_ATTEMPT
touch $ROCKET_RUN_DIR/started.$ROCKET_ATTEMPT
if [ $ROCKET_ATTEMPT = 0 ]; then sleep 300; fi
"#;

#[test]
fn a_run_whose_supervisor_was_killed_is_lost_and_goes_on_when_asked() {
    let env = Env::with_job(JOB, 1);
    let run = env.submit(&[]);
    env.wait_for_file(&run, "started.0");
    let said = env.rocket(&["resume", &run]).fails();
    assert!(
        said.stderr
            .contains("is running: its supervisor lives (process "),
        "{said}"
    );

    env.kill_supervisor(&run);
    let view = env.status(&run);
    assert_eq!(view["status"], "lost");
    assert_eq!(
        view["hint"],
        format!("go on from the last checkpoint: rocket resume {run}")
    );
    let said = env.rocket(&["resume", &run, "--follow"]).ok();
    assert!(said.stdout.contains("attempt 1: finished"), "{said}");
    assert_eq!(env.rocket(&["logs", &run]).ok().stdout, "attempt 1\n");
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 1 rank
    0  the supervisor is gone: the supervisor was found dead
    resumed by the user
    1  started 1 rank
    1  finished
    ");

    let said = env.rocket(&["resume", &run]).ok();
    assert_eq!(
        said.stdout,
        format!("run {run} has finished: there is nothing left to do\n")
    );
}

#[test]
fn a_failed_run_goes_on_with_a_fresh_budget() {
    let env = Env::with_job("[ $ROCKET_ATTEMPT -ge 2 ]", 1);
    let run = env.submit(&["--set", "cluster.max_crashes=1"]);
    env.wait_for_status(&run, "failed");
    env.rocket(&["resume", &run, "--follow"]).ok();
    assert_eq!(env.status(&run)["attempt"], 2);
}
