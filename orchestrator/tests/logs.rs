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
