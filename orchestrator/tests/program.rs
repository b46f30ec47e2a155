//! `command:`: any program of the repository in place of the trainer.
#![allow(missing_docs)]

mod support;

use std::fs;

use serde_json::Value;
use support::Env;

fn submit(env: &Env, set: &str) -> support::Said {
    env.rocket(&["submit", "exp.yaml", "--dry-run", "--set", set])
}

#[test]
fn a_program_that_cannot_be_there_is_refused_at_submit() {
    let env = Env::with_job("true", 1);
    env.write("train.py", "print('hello')\n");
    env.write("tools/list.txt", "");
    env.commit_but_not_experiment();
    env.write("new.sh", "#!/bin/bash\n");
    let mut said = String::new();
    for command in [
        "[./missing.sh]",
        "[./new.sh]",
        "[./train.py]",
        "[train.py]",
        "[./tools]",
        "[../job.sh]",
        "[/no/such/program]",
        "[no-such-program-anywhere]",
    ] {
        let one = submit(&env, &format!("command={command}")).fails();
        said.push_str(&format!("{command}\n{}\n", one.stderr));
    }
    // Said once in the beginning, and the same each time.
    let said = said.replace("note: not in the pinned commit: new.sh\n", "");
    insta::assert_snapshot!(said);
    submit(&env, "command=[python3, train.py]").ok();
    submit(&env, "command=[./job.sh, new.sh]").ok();
    // Taken along, it is there; but nobody may run it.
    let said = env.rocket(&[
        "submit",
        "exp.yaml",
        "--dry-run",
        "--snapshot",
        "--set",
        "command=[./new.sh]",
    ]);
    assert!(said.fails().stderr.contains("is not executable"));
}

#[test]
fn an_argument_that_the_run_would_not_find_is_noted() {
    let env = Env::with_job("true", 1);
    env.write(".gitignore", "/secret.py\n");
    env.commit_but_not_experiment();
    env.write("secret.py", "");
    let said = submit(&env, "command=[python3, secret.py, --lr, '3']").ok();
    assert!(
        said.stderr
            .contains("'secret.py' (command) is a file of yours that is not in the pinned commit"),
        "{said}"
    );
    let said = submit(&env, "command=[/bin/true]").ok();
    assert!(
        said.stderr
            .contains("'/bin/true' (command) is outside the pinned tree"),
        "{said}"
    );
}

#[test]
fn an_interpreter_that_is_gone_when_the_run_starts_fails_it_at_once() {
    let env = Env::with_job("true", 1);
    env.write("job.sh", "#!/no/such/shell\n");
    env.commit_but_not_experiment();
    let run = env.submit(&[]);
    let view = env.wait_for_status(&run, "failed");
    assert_eq!(
        view["cause"],
        "cannot start rank 0: './job.sh': no such file or directory"
    );
    assert_eq!(view["exit"], "experiment");
}

#[test]
fn ranks_have_the_variables_of_torchrun() {
    let names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE ROLE_NAME MASTER_ADDR TORCHELASTIC_RESTART_COUNT ROCKET_SEED ROCKET_ATTEMPT LR";
    let env = Env::with_job(
        &format!(
            "for n in {names}; do echo $n=${{!n}}; done; [ $TORCHELASTIC_RUN_ID = $(basename $ROCKET_RUN_DIR) ] && [ $MASTER_PORT -gt 0 ] && echo placed"
        ),
        2,
    );
    // Those of whoever submits do not reach the ranks.
    let run = env.submit(&["--set", "seed=7", "--set", "cluster.env.LR=1e-3"]);
    env.wait_for_status(&run, "finished");
    let log = env.rocket(&["logs", &run, "--rank", "1"]).ok().stdout;
    insta::assert_snapshot!(log, @r"
    RANK=1
    LOCAL_RANK=1
    WORLD_SIZE=2
    LOCAL_WORLD_SIZE=2
    GROUP_RANK=0
    GROUP_WORLD_SIZE=1
    ROLE_RANK=1
    ROLE_WORLD_SIZE=2
    ROLE_NAME=default
    MASTER_ADDR=127.0.0.1
    TORCHELASTIC_RESTART_COUNT=0
    ROCKET_SEED=7
    ROCKET_ATTEMPT=0
    LR=1e-3
    placed
    ");
}

/// Speaks the protocol of docs/programs.md: beats, agrees to a stop without any signal, and says how it
/// ended. It counts to 8, waits at 5 in the first attempt, and keeps its count.
const SPEAKER: &str = r#"
set -e
a=$ROCKET_RUN_DIR/attempts/$(printf %03d $ROCKET_ATTEMPT); r=$a/ranks/$RANK
put() { echo "$2" > "$1.tmp"; mv "$1.tmp" "$1"; }
trap 'echo a signal; exit 9' TERM
b=0
beat() { b=$((b+1)); put $r.beat.json "{\"beat\": $b, \"pid\": $$, \"phase\": \"training\", \"step\": $n, \"total_steps\": 8, \"epoch\": 0, \"samples_per_second\": 0, \"resident_bytes\": 0}"; }
n=$(cat $ROCKET_RUN_DIR/count.$RANK 2>/dev/null || echo 0)
while [ $n -lt 8 ]; do
  beat
  if grep -qs stop $a/control.json; then
    put $r.end.json "{\"outcome\": \"stopped\", \"kind\": \"ok\", \"step\": $n, \"stop\": \"preempted\"}"; exit 0
  fi
  if [ $n = 5 ] && [ $ROCKET_ATTEMPT = 0 ]; then touch $ROCKET_RUN_DIR/waiting.$RANK; sleep 0.05; continue; fi
  n=$((n+1)); echo $n > $ROCKET_RUN_DIR/count.$RANK
  [ $RANK != 0 ] || echo "{\"kind\": \"train\", \"step\": $n, \"loss\": $((10 - n))}" >> $ROCKET_RUN_DIR/metrics.jsonl
done
put $r.end.json "{\"outcome\": \"finished\", \"kind\": \"ok\", \"step\": $n}"
"#;

#[test]
fn a_program_that_speaks_the_protocol_agrees_to_a_stop() {
    let env = Env::with_job(SPEAKER, 2);
    let run = env.submit(&[]);
    env.wait_for_file(&run, "waiting.0");
    env.wait_for_file(&run, "waiting.1");
    assert_eq!(env.status(&run)["step"], 5);
    assert_eq!(env.status(&run)["total_steps"], 8);
    env.rocket(&["preempt", &run]).ok();
    env.wait_for_status(&run, "finished");
    let log = env.rocket(&["logs", &run, "--attempt", "0"]).ok().stdout;
    assert_eq!(log, "", "who reads the control file is sent no signal");
    insta::assert_snapshot!(env.history(&run), @r"
    submitted to local
    0  started 2 ranks
    0  stop requested (preempted) at step 5
    0  stopped (preempted) at step 5
    0  starts again: preempted; the ranks left as asked
    1  started 2 ranks
    1  finished at step 8
    ");
    // What it wrote for itself is what people see.
    let said = env.rocket(&["plot", &run, "--json"]);
    assert_eq!(said.code, Some(0), "{said}");
}

#[test]
fn progress_that_is_told_refills_the_budget_and_a_failure_that_is_told_has_words() {
    let script = SPEAKER.replace(
        "if [ $n = 5 ]",
        "if [ $n -gt 0 ] && [ $n -lt 6 ] && [ $ROCKET_ATTEMPT -lt $n ]; then exit 3; fi\n  if false && [ $n = 5 ]",
    );
    let env = Env::with_job(&script, 1);
    let run = env.submit(&["--set", "cluster.max_crashes=1"]);
    // Five crashes, each a step further than the one before.
    let view = env.wait_for_status(&run, "finished");
    assert!(view["resumptions"].as_u64() >= Some(3), "{view:#}");

    let script = SPEAKER.replace(
        "n=$((n+1));",
        r#"put $r.end.json '{"outcome": "failed", "kind": "data", "step": 0, "cause": "the shard 7 is empty", "hint": "fetch it again"}'; exit 4; n=1;"#,
    );
    let env = Env::with_job(&script, 1);
    let run = env.submit(&[]);
    let view = env.wait_for_status(&run, "failed");
    assert_eq!(view["cause"], "the shard 7 is empty");
    assert_eq!(view["exit"], "data");
    assert_eq!(
        view["resumptions"], 0,
        "the same input gives the same failure"
    );
}

#[test]
fn a_sweep_of_a_program_sets_variables_and_seeds() {
    let env = Env::with_job("echo \"$LR $ROCKET_SEED\" > $ROCKET_RUN_DIR/got", 1);
    let text = fs::read_to_string(env.repo().join("exp.yaml")).unwrap();
    env.write(
        "exp.yaml",
        &format!("{text}sweep: {{name: both, cluster.env.LR: [1e-3, 3e-3], seed: [0, 1]}}\n"),
    );
    env.rocket(&["submit", "exp.yaml"]).ok();
    let status = || -> Value {
        let said = env.rocket(&["sweep", "status", "both", "--json"]).ok();
        serde_json::from_str(&said.stdout).unwrap()
    };
    env.wait("four points to finish", || {
        status()["states"]["finished"] == 4
    });
    let mut got: Vec<String> = fs::read_dir(env.repo().join("runs"))
        .unwrap()
        .flatten()
        .filter_map(|run| fs::read_to_string(run.path().join("got")).ok())
        .collect();
    got.sort();
    assert_eq!(got, ["1e-3 0\n", "1e-3 1\n", "3e-3 0\n", "3e-3 1\n"]);
}
