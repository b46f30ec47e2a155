//! The pin: the same experiment at the same commit is the same object, and it outlives the clone.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use support::Env;

#[test]
fn two_clones_make_the_same_commit() {
    let env = Env::with_job("true", 1);
    env.git(&["clone", "--quiet", ".", env.path("clone").to_str().unwrap()]);
    fs::copy(env.repo().join("exp.yaml"), env.path("clone/exp.yaml")).unwrap();
    let run = env.submit(&[]);
    let rocket = Path::new(env!("CARGO_BIN_EXE_rocket"));
    let output = env
        .command(rocket, &env.path("clone"))
        .args(["submit", "exp.yaml", "--follow"])
        .output()
        .unwrap();
    assert!(env.said(output).ok().stdout.contains(&run));

    let ours = env.git(&["cat-file", "commit", &format!("refs/rocket/{run}")]);
    let theirs = env.git_in(
        &env.path("clone"),
        &["cat-file", "commit", &format!("refs/rocket/{run}")],
    );
    assert_eq!(ours, theirs);
    let lines: Vec<&str> = ours.lines().collect();
    assert_eq!(
        lines[1],
        format!("parent {}", env.git(&["rev-parse", "HEAD"]).trim())
    );
    assert_eq!(
        lines[2],
        "author Author <author@example.org> 1704143045 +0600"
    );
    assert_eq!(
        lines[3],
        "committer Committer <committer@example.org> 1706929506 +0100"
    );
    assert_eq!(lines[5], "rocket: job");
    let parts = run.rsplit_once('-').unwrap();
    assert!(
        env.git(&["rev-parse", &format!("refs/rocket/{run}")])
            .starts_with(parts.1)
    );
    env.wait_for_status(&run, "finished");
}

#[test]
fn the_store_holds_the_commit_without_the_clone() {
    let env = Env::with_job("true", 1);
    let runs = env.path("shared/runs");
    let output = env
        .rocket_command()
        .args([
            "submit",
            "exp.yaml",
            "--follow",
            "--runs",
            runs.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let said = env.said(output).ok();
    let run = said
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("run ")
        .unwrap();
    let reference = format!("refs/rocket/{run}");
    let experiment = env.git(&["show", &format!("{reference}:.rocket/experiment.yaml")]);
    fs::remove_dir_all(env.repo().join(".git")).unwrap();
    let store = runs.join("pins.git");
    assert_eq!(
        env.git_in(
            &store,
            &["show", &format!("{reference}:.rocket/experiment.yaml")]
        ),
        experiment
    );
    assert_eq!(
        env.git_in(&store, &["rev-list", "--count", &reference]),
        "3\n"
    );
    env.git_in(&store, &["fsck", "--strict"]);
    fs::create_dir_all(env.repo().join(".git")).unwrap();
}

#[test]
fn further_pins_add_only_what_is_new() {
    let env = Env::with_job("true", 1);
    env.submit(&[]);
    env.write("README", "two\n");
    env.commit_but_not_experiment();
    let run = env.submit(&[]);
    let store = env.repo().join("runs/pins.git");
    assert_eq!(
        env.git_in(
            &store,
            &["rev-list", "--count", &format!("refs/rocket/{run}")]
        ),
        "4\n"
    );
    env.git_in(&store, &["fsck", "--strict"]);
    env.wait_for_status(&run, "finished");
}

#[test]
fn a_shallow_clone_can_submit() {
    let env = Env::with_job("cat README", 1);
    let url = format!("file://{}", env.repo().display());
    env.git(&[
        "clone",
        "--quiet",
        "--depth=1",
        &url,
        env.path("shallow").to_str().unwrap(),
    ]);
    fs::copy(env.repo().join("exp.yaml"), env.path("shallow/exp.yaml")).unwrap();
    let rocket = Path::new(env!("CARGO_BIN_EXE_rocket"));
    let output = env
        .command(rocket, &env.path("shallow"))
        .args(["submit", "exp.yaml", "--follow"])
        .output()
        .unwrap();
    let run = env.said(output).ok().stdout.lines().next().unwrap()[4..].to_owned();
    let store = env.path("shallow/runs/pins.git");
    assert_eq!(
        env.git_in(
            &store,
            &["rev-list", "--count", &format!("refs/rocket/{run}")]
        ),
        "1\n"
    );
}
