//! `rocket reproduce`, by programs that need no trainer.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Env, Said};

/// Writes numbers as a trainer does; those of `$NOISE` differ from step 4 on.
const COUNTER: &str = r#"
for n in 1 2 3 4 5 6; do
  extra=; [ $n -lt 4 ] || extra=$(cat $(dirname $ROCKET_RUN_DIR)/noise 2>/dev/null)
  echo "{\"kind\": \"train\", \"step\": $n, \"loss\": 1.$n$extra, \"samples_per_second\": $RANDOM}" >> $ROCKET_RUN_DIR/metrics.jsonl
done
"#;

fn plain(text: &str, run: &str) -> String {
    text.replace(run, "[RUN]")
}

fn reproduce(env: &Env, args: &[&str]) -> Said {
    env.rocket(&[&["reproduce"], args].concat())
}

fn noise(env: &Env, digits: &str) {
    fs::write(env.repo().join("runs/noise"), digits).unwrap();
}

#[test]
fn the_same_bits_come_out_again() {
    let env = Env::with_job(COUNTER, 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    // Whatever the work tree holds by now.
    env.write("job.sh", "#!/bin/bash\nexit 1\n");
    let said = reproduce(&env, &[&run, "--follow"]).ok();
    assert!(
        said.stdout
            .starts_with(&format!("run {run}-2\n  reproduces {run}\n")),
        "{said}"
    );
    let verdict = said.stdout.split("original ").nth(1).unwrap();
    insta::assert_snapshot!(plain(verdict, &run), @r"
         [RUN]
    reproduction  [RUN]-2 (finished)
    numbers       all 6 values bit-identical up to step 6
    verdict       reproduced to the bit
    ");
    let commit = env.git(&["rev-parse", &format!("refs/rocket/{run}")]);
    let again = env.git(&["rev-parse", &format!("refs/rocket/{run}-2")]);
    assert_eq!(commit, again, "the same pin");
    assert!(env.history(&format!("{run}-2")).contains("this run does"));

    // By commit, by ref; and of a reproduction, the original is meant.
    for what in [
        commit.trim(),
        &commit[..10],
        &format!("refs/rocket/{run}"),
        &format!("{run}-2"),
    ] {
        let said = reproduce(&env, &[what, "--follow", "--exact"]).ok();
        assert!(
            said.stdout.contains(&format!("reproduces {run}\n")),
            "{what}: {said}"
        );
    }
    let said = reproduce(&env, &[&run, "--check"]).fails();
    insta::assert_snapshot!(plain(&said.stderr, &run), @r"
    error: run [RUN] is no reproduction of another one
    hint: 'rocket reproduce [RUN]' makes one of it; 'rocket compare' compares any two runs
    ");
}

#[test]
fn how_far_numbers_are_off_is_said() {
    let env = Env::with_job(COUNTER, 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    noise(&env, "01");
    let said = reproduce(&env, &[&run, "--follow"]).ok();
    let verdict = said.stdout.split("original ").nth(1).unwrap();
    insta::assert_snapshot!(plain(verdict, &run), @r"
         [RUN]
    reproduction  [RUN]-2 (finished)
    numbers       6 values, bit-identical up to step 3; at step 4 loss is 1.4 and 1.401
    loss          differs by at most 7.1e-4 of its value; within 0.0100 up to step 6
    verdict       reproduced within the tolerance of 0.0100, not to the bit
    ");
    let second = format!("{run}-2");
    reproduce(&env, &["--check", &second, "--exact"]).fails();
    let said = reproduce(&env, &["--check", &second, "--tolerance", "1e-6", "--json"]).fails();
    let verdict: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(verdict["outcome"], "differs");
    assert_eq!(verdict["identical_up_to"], 3);
    assert_eq!(verdict["within_up_to"], 3);
    assert_eq!(verdict["first"]["step"], 4);
    assert_eq!(verdict["original"], run);

    // Not as far as the original is not reproduced.
    let metrics = env.run_dir(&second).join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let half: String = text
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&metrics, half).unwrap();
    let said = reproduce(&env, &["--check", &second]).fails().stdout;
    assert!(
        said.contains(
            "verdict       not reproduced yet: it is finished, at step 2 of the original's 6"
        ),
        "{said}"
    );
    fs::remove_file(&metrics).unwrap();
    let said = reproduce(&env, &["--check", &second]).fails().stdout;
    assert!(said.contains("verdict       nothing to compare"), "{said}");
}

#[test]
fn an_archive_is_reproduced_in_another_clone() {
    let env = Env::with_job(COUNTER, 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    env.rocket(&["export", &run, "-o", "run.tar.zst"]).ok();
    let other = env.path("other");
    env.git(&["clone", "--quiet", ".", other.to_str().unwrap()]);
    let rocket = |args: &[&str]| {
        let program = Path::new(env!("CARGO_BIN_EXE_rocket"));
        env.said(env.command(program, &other).args(args).output().unwrap())
    };
    let said = rocket(&["reproduce", "../repo/run.tar.zst", "--follow"]).ok();
    assert!(said.stderr.contains("was taken in"), "{said}");
    assert!(
        said.stdout.contains("verdict       reproduced to the bit"),
        "{said}"
    );
    // Once more, with what is here by now.
    let said = rocket(&["reproduce", "../repo/run.tar.zst", "--follow"]).ok();
    assert!(said.stderr.contains("is here already"), "{said}");
    assert!(said.stdout.starts_with(&format!("run {run}-3\n")), "{said}");
    assert!(
        rocket(&["status"])
            .ok()
            .stdout
            .contains(&format!("{run}-2"))
    );
}

#[test]
fn what_cannot_be_reproduced_is_refused() {
    let env = Env::with_job(COUNTER, 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    let head = env.git(&["rev-parse", "HEAD"]);
    let mut said = String::new();
    for args in [
        &[run.as_str(), "--set", "seed=3"][..],
        &[
            run.as_str(),
            "--set",
            "seed=3",
            "--set",
            "cluster.stop_grace_seconds=5",
            "--set",
            "name=x",
        ],
        &[head.trim()],
        &["abcdefabcdef"],
        &["no-such-run"],
        &["refs/rocket/no-such-run-12345678"],
        &[run.as_str(), "--tolerance=-1"],
        &["README"],
    ] {
        let one = reproduce(&env, args).fails();
        said.push_str(&format!("{}\n", one.stderr));
    }
    insta::with_settings!({filters => vec![
        (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
        (r"\b[0-9a-f]{8}\b", "[ID]"),
    ]}, { insta::assert_snapshot!(said) });
    // What decides no number can be set, and nothing has started so far.
    let set = ["--set", "cluster.stop_grace_seconds=5", "--dry-run"];
    reproduce(&env, &[&[run.as_str()][..], &set].concat()).ok();
    assert!(!env.run_dir(&format!("{run}-2")).exists());
    // Programs that were changed are not taken for the original's.
    let manifest: Value = serde_json::from_str(&env.read_run(&run, "run.json")).unwrap();
    let program = Path::new(manifest["bundle"]["dir"].as_str().unwrap()).join("bin/rocket");
    fs::remove_file(&program).unwrap();
    fs::write(&program, "other").unwrap();
    let said = reproduce(&env, &[&run]).fails().stderr;
    assert!(said.contains("rocket changed after submit"), "{said}");
}
