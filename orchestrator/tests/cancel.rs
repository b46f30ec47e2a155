//! `rocket cancel`.
#![allow(missing_docs)]

mod support;

use support::Env;

const JOB: &str = r#"
trap 'echo saved; exit 0' TERM
touch $ROCKET_RUN_DIR/started.$ROCKET_ATTEMPT
if [ $ROCKET_ATTEMPT = 0 ]; then while true; do sleep 0.05; done; fi
"#;

#[test]
fn a_cancelled_run_saves_ends_and_stays_ended_until_resumed() {
    let env = Env::with_job(JOB, 2);
    let run = env.submit(&[]);
    env.wait_for_file(&run, "started.0");
    env.wait_for_status(&run, "running");
    let said = env.rocket(&["cancel", &run]).ok();
    assert_eq!(said.stdout, format!("run {run} cancelled\n"));
    assert!(env.rocket(&["logs", &run]).ok().stdout.ends_with("saved\n"));
    assert!(env.supervisor(&run).is_none());
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    0  stop requested (cancelled)
    0  cancelled: cancelled by the user
    ");
    // Whoever starts it by mistake starts nothing.
    env.rocket(&["supervise", env.run_dir(&run).to_str().unwrap()])
        .ok();
    assert_eq!(env.status(&run)["attempt"], 0);
    let said = env.rocket(&["cancel", &run]).ok();
    assert_eq!(said.stdout, format!("run {run} is cancelled already\n"));
    env.rocket(&["resume", &run, "--follow"]).ok();
    assert_eq!(env.status(&run)["status"], "finished");
    let said = env.rocket(&["cancel", &run]).fails();
    assert!(said.stderr.contains("has finished already"), "{said}");
}

#[test]
fn now_does_not_wait_for_ranks_that_do_not_listen() {
    let env = Env::with_job("trap '' TERM; touch $ROCKET_RUN_DIR/started; sleep 300", 1);
    let run = env.submit(&[]);
    env.wait_for_file(&run, "started");
    let start = std::time::Instant::now();
    env.rocket(&["cancel", &run, "--now"]).ok();
    assert!(start.elapsed().as_secs() < 15);
    assert_eq!(env.status(&run)["status"], "cancelled");
}

#[test]
fn a_lost_run_can_be_cancelled() {
    let env = Env::with_job(JOB, 1);
    let run = env.submit(&[]);
    env.wait_for_file(&run, "started.0");
    env.kill_supervisor(&run);
    env.rocket(&["cancel", &run]).ok();
    assert_eq!(env.status(&run)["status"], "cancelled");
}
