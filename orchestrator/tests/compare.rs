//! `rocket compare`.
#![allow(missing_docs)]

#[path = "support/made.rs"]
mod made;
mod support;

use made::Made;
use serde_json::Value;
use support::Env;

fn two() -> (Env, String, String) {
    let env = Env::new();
    let runs = env.path("repo/runs");
    let mut other = Made::new("other-22222222");
    other.lr = "0.0005";
    other.differs_from = Some(51);
    Made::new("base-11111111").write(&runs);
    other.write(&runs);
    (env, "base-11111111".into(), "other-22222222".into())
}

#[test]
fn what_differs_is_shown_and_nothing_else() {
    let (env, a, b) = two();
    insta::assert_snapshot!(env.rocket(&["compare", &a, &b]).ok().to_string());
    let all = env.rocket(&["compare", &a, &b, "--all"]).ok().stdout;
    assert!(
        all.contains("augment.num_augs") && all.contains("* optim.lr"),
        "{all}"
    );
    assert!(all.contains("cl2l_loss"), "{all}");
}

#[test]
fn as_markdown_and_as_json() {
    let (env, a, b) = two();
    insta::assert_snapshot!(
        "markdown",
        env.rocket(&["compare", &a, &b, "--markdown"])
            .ok()
            .to_string()
    );
    let json: Value =
        serde_json::from_str(&env.rocket(&["compare", &a, &b, "--json"]).ok().stdout).unwrap();
    assert_eq!(json["curves"][0]["identical_up_to"], 50);
    assert_eq!(json["curves"][0]["first"]["step"], 51);
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn equal_runs_are_bit_identical() {
    let env = Env::new();
    let runs = env.path("repo/runs");
    Made::new("base-11111111").write(&runs);
    Made::new("base-11111111-2").write(&runs);
    let said = env
        .rocket(&["compare", "base-11111111", "base-11111111-2"])
        .ok()
        .stdout;
    assert!(said.contains("bit-identical up to step 200"), "{said}");
    assert!(said.contains("configuration: all"), "{said}");
}

#[test]
fn code_is_compared_by_commit() {
    let env = Env::with_job("true", 1);
    let first = env.submit(&[]);
    env.write("job.sh", "#!/bin/bash\ntrue # changed\n");
    env.write("new.txt", "one\ntwo\n");
    env.commit_but_not_experiment();
    let second = env.submit(&[]);
    for run in [&first, &second] {
        env.wait_for_status(run, "finished");
    }
    let json = env
        .rocket(&["compare", &first, &second, "--patch", "--json"])
        .ok()
        .stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let mut code = json["code"][0].clone();
    assert!(code["patch"].as_str().unwrap().contains("+true # changed"));
    for key in ["from", "to", "patch"] {
        code[key] = format!("[{key}]").into();
    }
    insta::assert_snapshot!(serde_json::to_string(&code).unwrap());
    // The experiment file is that of the last commit; a run of the first one may be named by its ref.
    let said = env
        .rocket(&["compare", "exp.yaml", &format!("refs/rocket/{first}")])
        .ok()
        .stdout;
    assert!(said.contains("2 files, +1 -3"), "{said}");
    // A pin whose run directory is gone still says what it was.
    std::fs::remove_dir_all(env.run_dir(&first)).unwrap();
    let said = env
        .rocket(&["compare", &second, &format!("refs/rocket/{first}")])
        .ok()
        .stdout;
    assert!(said.contains("2 files, +1 -3"), "{said}");
}

#[test]
fn what_is_not_there_is_named() {
    let (env, a, _) = two();
    let said = env
        .rocket(&["compare", &a, "refs/rocket/none-33333333"])
        .fails();
    assert!(
        said.stderr
            .contains("there is no 'refs/rocket/none-33333333'"),
        "{said}"
    );
    let said = env.rocket(&["compare", &a, "othr-22222222"]).fails();
    assert!(
        said.stderr.contains("did you mean 'other-22222222'?"),
        "{said}"
    );
    assert_eq!(env.rocket(&["compare", &a]).code, Some(2));
}
