//! The supervisor, by programs that need no trainer.
#![allow(missing_docs)]

mod support;

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Env, alive};

/// Counts to 10 in a file that outlives attempts, as a trainer with checkpoints does. `pid` is its
/// process; rank 0 waits at 5 in the first attempt.
const COUNTER: &str = r#"
d=$ROCKET_RUN_DIR
echo $$ > $d/pid.$RANK.$ROCKET_ATTEMPT
trap 'echo asked to stop; exit 143' TERM
n=$(cat $d/count.$RANK 2>/dev/null || echo 0)
echo "attempt $ROCKET_ATTEMPT from $n"
while [ $n -lt 10 ]; do
  n=$((n+1)); echo $n > $d/count.$RANK
  if [ $n = 5 ] && [ $ROCKET_ATTEMPT = 0 ]; then touch $d/waiting.$RANK; while true; do sleep 0.05; done; fi
done
echo done
"#;

fn pid(env: &Env, run: &str, rank: u32, attempt: u32) -> Pid {
    let text = env.read_run(run, &format!("pid.{rank}.{attempt}"));
    Pid::from_raw(text.trim().parse().unwrap())
}

fn waiting(env: &Env, run: &str) {
    env.wait_for_file(run, "waiting.0");
    env.wait_for_file(run, "waiting.1");
}

#[test]
fn a_killed_rank_is_relaunched() {
    let env = Env::with_job(COUNTER, 2);
    let run = env.submit(&[]);
    waiting(&env, &run);
    let peer = pid(&env, &run, 0, 0);
    kill(pid(&env, &run, 1, 0), Signal::SIGKILL).unwrap();
    let view = env.wait_for_status(&run, "finished");
    assert!(!alive(peer), "the peer of a dead rank does not stay");
    assert_eq!(view["resumptions"], 1);
    let log = env.rocket(&["logs", &run, "--rank", "1"]).ok().stdout;
    assert_eq!(log, "attempt 1 from 5\ndone\n");
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    0  rank 1 failed: rank 1 was killed by SIGKILL (by somebody, or by the kernel when memory ran out)
    0  starts again: rank 1 was killed by SIGKILL (by somebody, or by the kernel when memory ran out); relaunch 1 of 3 in 1 s
    1  started 2 ranks
    1  finished
    ");
}

#[test]
fn a_stop_signal_is_caught_and_the_run_goes_on_by_itself() {
    for how in ["signal", "command"] {
        let env = Env::with_job(COUNTER, 2);
        let run = env.submit(&[]);
        waiting(&env, &run);
        if how == "signal" {
            kill(env.supervisor(&run).unwrap(), Signal::SIGTERM).unwrap();
        } else {
            env.rocket(&["preempt", &run]).ok();
        }
        let view = env.wait_for_status(&run, "finished");
        assert_eq!(view["resumptions"], 1);
        let first = env.rocket(&["logs", &run, "--attempt", "0"]).ok().stdout;
        assert!(first.ends_with("asked to stop\n"), "{first}");
        assert_eq!(
            env.rocket(&["logs", &run]).ok().stdout,
            "attempt 1 from 5\ndone\n"
        );
        let control = env.read_run(&run, "attempts/000/control.json");
        assert!(control.contains("preempted"), "{control}");
        insta::allow_duplicates! { insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    0  stop requested (preempted)
    0  stopped (preempted)
    0  starts again: preempted; the ranks left as asked
    1  started 2 ranks
    1  finished
    "); }
    }
}

#[test]
fn crashes_without_end_use_up_the_budget() {
    let env = Env::with_job("exit 3", 1);
    let run = env.submit(&["--set", "cluster.max_crashes=1"]);
    let view = env.wait_for_status(&run, "failed");
    assert_eq!(
        view["cause"],
        "rank 0 left with exit code 3; given up: 1 relaunches without progress (cluster.max_crashes)"
    );
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 1 rank
    0  rank 0 failed: rank 0 left with exit code 3
    0  starts again: rank 0 left with exit code 3; relaunch 1 of 1 in 1 s
    1  started 1 rank
    1  rank 0 failed: rank 0 left with exit code 3
    1  failed: rank 0 left with exit code 3; given up: 1 relaunches without progress (cluster.max_crashes); hint: read the ranks' last words with 'rocket logs', then 'rocket resume'
    ");
}

#[test]
fn a_killed_supervisor_leaves_no_rank_running() {
    // The rank's own child ignores everything that can be ignored, and leaves its group.
    let env = Env::with_job(
        "setsid bash -c 'echo $$ > $ROCKET_RUN_DIR/child; exec sleep 300' &\n echo $$ > $ROCKET_RUN_DIR/rank; sleep 300",
        1,
    );
    let run = env.submit(&[]);
    env.wait_for_file(&run, "child");
    env.wait_for_file(&run, "rank");
    let pid = |name: &str| Pid::from_raw(env.read_run(&run, name).trim().parse().unwrap());
    let (rank, child) = (pid("rank"), pid("child"));
    env.kill_supervisor(&run);
    env.wait("the rank to be gone", || !alive(rank));
    // What left the group is found by the next attempt.
    assert!(alive(child));
    fs::remove_file(env.run_dir(&run).join("child")).unwrap();
    env.rocket(&["resume", &run]).ok();
    env.wait_for_file(&run, "child");
    assert!(!alive(child));
    env.rocket(&["cancel", &run, "--now"]).ok();
    assert!(
        !alive(pid("child")),
        "a cancelled run leaves nothing behind"
    );
}

#[test]
fn after_the_end_a_start_does_nothing() {
    let env = Env::with_job("true", 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    let dir = env.run_dir(&run);
    env.wait_for_file(&run, "DONE");
    let before = env.history(&run);
    env.rocket(&["supervise", dir.to_str().unwrap()]).ok();
    assert_eq!(env.history(&run), before);
    // Killed before it could leave the marker.
    fs::remove_file(dir.join("DONE")).unwrap();
    env.rocket(&["supervise", dir.to_str().unwrap()]).ok();
    assert!(dir.join("DONE").exists());
    assert_eq!(env.history(&run), before);
}

#[test]
fn ranks_know_their_place() {
    let env = Env::with_job(
        "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR; [ $MASTER_PORT -gt 0 ] && basename $PWD; [ $PWD = $ROCKET_PIN_DIR ] && echo at home",
        2,
    );
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    let log = env.rocket(&["logs", &run, "--rank", "1"]).ok().stdout;
    assert_eq!(log, "1 1 2 127.0.0.1\npin\nat home\n");
}

#[test]
fn the_work_tree_does_not_reach_the_run() {
    let env = Env::with_job(COUNTER, 2);
    let run = env.submit(&[]);
    waiting(&env, &run);
    env.write("job.sh", "#!/bin/bash\necho edited\n");
    fs::write(
        env.run_dir(&run).join("pin/job.sh"),
        "#!/bin/bash\necho tampered\n",
    )
    .unwrap();
    env.rocket(&["preempt", &run]).ok();
    env.wait_for_status(&run, "finished");
    assert_eq!(
        env.rocket(&["logs", &run]).ok().stdout,
        "attempt 1 from 5\ndone\n"
    );
}

#[test]
fn a_superseded_supervisor_leaves_and_says_nothing_more() {
    let env = Env::with_job(COUNTER, 2);
    let run = env.submit(&[]);
    waiting(&env, &run);
    let (supervisor, rank) = (env.supervisor(&run).unwrap(), pid(&env, &run, 0, 0));
    let dir = rocket_common::run_dir::RunDir::open(env.run_dir(&run)).unwrap();
    let claim = rocket_common::run_dir::Claim::of_this_process(None);
    assert_eq!(dir.claim_attempt(&claim).unwrap().number(), 1);
    env.wait("the supervisor to leave", || !alive(supervisor));
    assert!(!alive(rank));
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    ");
    // This process is no supervisor: let the run be found dead.
    fs::remove_file(env.run_dir(&run).join("attempts/001.claim")).unwrap();
    fs::remove_dir_all(env.run_dir(&run).join("attempts/001")).unwrap();
}
