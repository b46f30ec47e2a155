//! `rocket logs`.
#![allow(missing_docs)]

mod support;

use support::Env;

const JOB: &str = r#"
echo "rank $RANK attempt $ROCKET_ATTEMPT"
# A rank that fails takes its peers with it: not before both have spoken.
touch $ROCKET_RUN_DIR/said.$RANK.$ROCKET_ATTEMPT
until [ -e $ROCKET_RUN_DIR/said.$((1 - RANK)).$ROCKET_ATTEMPT ]; do sleep 0.02; done
[ $ROCKET_ATTEMPT = 1 ]
"#;

#[test]
fn by_rank_attempt_and_for_the_supervisor() {
    let env = Env::with_job(JOB, 2);
    let run = env.submit(&[]);
    let said = env.rocket(&["logs", &run, "--follow"]).ok();
    assert_eq!(said.stdout, "rank 0 attempt 0\nrank 0 attempt 1\n");
    let logs = |args: &[&str]| env.rocket(&[&["logs", &run], args].concat());
    assert_eq!(logs(&[]).ok().stdout, "rank 0 attempt 1\n");
    assert_eq!(
        logs(&["--rank", "1", "--attempt", "0"]).ok().stdout,
        "rank 1 attempt 0\n"
    );
    assert!(
        logs(&["--supervisor"])
            .ok()
            .stdout
            .contains("attempt 1 started with 2 ranks")
    );
    let said = logs(&["--rank", "2"]).fails();
    assert!(
        said.stderr.contains("rank 2 has no log in attempt 1"),
        "{said}"
    );
    let said = logs(&["--attempt", "5"]).fails();
    assert!(
        said.stderr.contains("has no attempt 5; its last is 1"),
        "{said}"
    );
}

/// Rank 1 writes its last line in two pieces, and never ends it.
const RANKS: &str = r#"
echo "rank $RANK of attempt $ROCKET_ATTEMPT begins"
if [ $RANK = 1 ]; then printf 'half a '; sleep 0.6; printf 'line'; fi
touch $ROCKET_RUN_DIR/said.$RANK.$ROCKET_ATTEMPT
until [ -e $ROCKET_RUN_DIR/said.$((1 - RANK)).$ROCKET_ATTEMPT ]; do sleep 0.02; done
[ $ROCKET_ATTEMPT = 1 ]
"#;

/// Lines in an order that does not depend on which rank was faster.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn several_ranks_and_attempts_are_told_apart() {
    let env = Env::with_job(RANKS, 2);
    let run = env.submit(&[]);
    // From before the first rank runs: logs appear late, and half lines are waited for.
    let logs = |args: &[&str]| env.rocket(&[&["logs", &run], args].concat());
    let followed = logs(&["--follow", "--rank", "all", "--attempt", "all"]).ok();
    let all = "\
[attempt 0 rank 0] rank 0 of attempt 0 begins
[attempt 0 rank 1] half a line
[attempt 0 rank 1] rank 1 of attempt 0 begins
[attempt 1 rank 0] rank 0 of attempt 1 begins
[attempt 1 rank 1] half a line
[attempt 1 rank 1] rank 1 of attempt 1 begins";
    assert_eq!(sorted(&followed.stdout), all);
    let said = logs(&["--rank", "all", "--attempt", "all"]).ok();
    assert_eq!(sorted(&said.stdout), all);
    assert_eq!(
        logs(&["--rank", "0-1"]).ok().stdout,
        "[attempt 1 rank 0] rank 0 of attempt 1 begins\n[attempt 1 rank 1] rank 1 of attempt 1 begins\n[attempt 1 rank 1] half a line\n"
    );
    assert_eq!(
        logs(&["--rank", "1", "--json", "--tail", "1"]).ok().stdout,
        "{\"attempt\":1,\"rank\":1,\"line\":\"half a line\"}\n"
    );
    assert_eq!(
        logs(&["--rank", "1", "--grep", "half|no such"]).ok().stdout,
        "half a line\n"
    );
    let said = logs(&[
        "--supervisor",
        "--attempt",
        "all",
        "--grep",
        "started with 2 ranks",
    ])
    .ok();
    assert_eq!(said.stdout.lines().count(), 2, "{said}");
    assert!(said.stdout.starts_with("[attempt 0] "), "{said}");
    let said = logs(&["--rank", "5-7"]).fails();
    assert!(
        said.stderr.contains("these ranks have no log in attempt 1"),
        "{said}"
    );
    let said = logs(&["--rank", "7-5"]);
    assert_eq!(said.code, Some(2), "{said}");
    assert!(said.stderr.contains("write 3, 0,2, 0-7 or all"), "{said}");
}

#[test]
fn following_lives_through_a_log_that_is_emptied() {
    let env = Env::with_job(
        "echo before; until [ -e $ROCKET_RUN_DIR/go ]; do sleep 0.02; done; echo after",
        1,
    );
    let run = env.submit(&[]);
    env.wait_for_file(&run, "attempts/000/ranks/0.log");
    let log = env.run_dir(&run).join("attempts/000/ranks/0.log");
    env.wait("the first line", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text == "before\n")
    });
    let follower = env
        .rocket_command()
        .args(["logs", &run, "-f", "-n", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::fs::write(&log, "").unwrap();
    std::fs::write(env.run_dir(&run).join("go"), "").unwrap();
    let said = env.said(follower.wait_with_output().unwrap()).ok();
    assert!(said.stdout.ends_with("after\n"), "{said}");
}
