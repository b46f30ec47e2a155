//! `rocket gc`, and run directories of which half is gone.
#![allow(missing_docs)]

#[path = "support/made.rs"]
mod made;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use made::Made;
use rocket_common::checkpoint::{self, Draft, Info};
use rocket_common::run_dir::RunDir;
use serde_json::Value;
use support::Env;

/// Publishes a checkpoint of a run, with a score.
fn save(run: &Path, step: u64, score: f64) {
    let run = RunDir::open(run).unwrap();
    let attempt = run.highest_attempt().unwrap().unwrap_or_default();
    let mut draft = Draft::begin(&run, attempt, step).unwrap();
    let content = vec![step as u8; 50_000];
    draft.write("model", 1, "model.bin", &content).unwrap();
    let info = Info {
        step,
        attempt,
        metrics: [(checkpoint::BEST_METRIC.to_owned(), score)].into(),
        ..Info::default()
    };
    draft.publish(info).unwrap();
}

/// Makes everything below a folder look a week old.
fn age(folder: &Path) {
    let done = Command::new("find")
        .arg(folder)
        .args(["-exec", "touch", "-h", "-d", "7 days ago", "{}", "+"])
        .status();
    assert!(done.unwrap().success());
}

fn gc(env: &Env, args: &[&str]) -> support::Said {
    env.rocket(&[&["gc"], args].concat())
}

fn names(env: &Env, args: &[&str]) -> Vec<String> {
    let said = gc(env, &[&["--dry-run", "--json"], args].concat()).ok();
    let shown: Value = serde_json::from_str(&said.stdout).unwrap();
    let items = shown["items"].as_array().unwrap().iter();
    items
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn bundle(root: &Path, name: &str) -> PathBuf {
    let dir = root.join("bundles").join(name);
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::write(dir.join("bin/rocket"), vec![0; 30_000]).unwrap();
    dir
}

fn steps(run: &Path) -> Vec<u64> {
    let found = checkpoint::list(&run.join("checkpoints")).unwrap();
    found.into_iter().map(|(step, _)| step).collect()
}

#[test]
fn what_no_run_needs_is_shown_and_goes_and_the_rest_stays() {
    let env = Env::new();
    let root = env.path("repo/runs");
    let finished = Made::new("done-11111111").write(&root);
    let mut failed = Made::new("failed-22222222");
    failed.cause = Some("the disk is full".into());
    let failed = failed.write(&root);
    for (step, score) in [(50, 0.1), (100, 0.4), (150, 0.2), (200, 0.3)] {
        save(&finished, step, score);
        save(&failed, step, score);
    }
    bundle(&root, &"b".repeat(16));
    bundle(&root, "0123456789abcdef");
    fs::create_dir_all(root.join(".new-x-33333333-1/events")).unwrap();
    fs::create_dir_all(root.join(".import-1")).unwrap();
    fs::create_dir_all(failed.join("checkpoints/.tmp-step-00000250-a001-1")).unwrap();
    age(&root);
    // Refs of a run that is here and of one that is gone.
    env.git(&["init", "--quiet", "--bare", "runs/pins.git"]);
    env.git(&[
        "push",
        "--quiet",
        "runs/pins.git",
        "HEAD:refs/rocket/done-11111111",
        "HEAD:refs/rocket/gone-44444444",
    ]);
    env.git(&["update-ref", "refs/rocket/gone-44444444", "HEAD"]);
    env.git(&["update-ref", "refs/rocket/elsewhere-55555555", "HEAD"]);
    age(&root.join("pins.git"));

    insta::with_settings!({filters => vec![(r"\d+\.\d kB", "[SIZE]")]}, {
        insta::assert_snapshot!(gc(&env, &["--dry-run"]).ok().stdout);
        insta::assert_snapshot!(gc(&env, &[]).fails().stderr, @r"
        error: 8 things would go, and nobody is there to agree
        hint: if that is meant, say --yes; --dry-run only shows it
        ");
    });
    assert_eq!(steps(&finished), [200, 150, 100, 50]);
    let said = gc(&env, &["--yes"]).ok().stdout;
    assert!(said.ends_with(" freed\n"), "{said}");
    assert_eq!(steps(&finished), [200, 100], "the last and the best");
    assert_eq!(steps(&failed), [200, 150, 100, 50], "it could be resumed");
    assert!(root.join("bundles").join("b".repeat(16)).exists());
    assert!(!root.join("bundles/0123456789abcdef").exists());
    let refs = env.git_in(
        &root.join("pins.git"),
        &["for-each-ref", "--format=%(refname)"],
    );
    assert_eq!(refs, "refs/rocket/done-11111111\n");
    let refs = env.git(&["for-each-ref", "--format=%(refname)", "refs/rocket"]);
    assert_eq!(
        refs, "refs/rocket/elsewhere-55555555\n",
        "another folder's may be"
    );
    age(&root);
    assert_eq!(gc(&env, &["--yes"]).ok().stdout, "nothing to free\n");

    // Programs of finished runs go if that is asked for, those of others never.
    assert_eq!(names(&env, &["--finished-programs"]), Vec::<String>::new());
    fs::remove_dir_all(&failed).unwrap();
    let programs = format!("bundles/{}", "b".repeat(16));
    assert_eq!(names(&env, &["--finished-programs"]), [programs]);
}

#[test]
fn what_is_young_or_needed_by_another_run_stays() {
    let env = Env::new();
    let root = env.path("repo/runs");
    let run = Made::new("done-11111111").write(&root);
    for step in [100, 150, 200] {
        save(&run, step, 0.0);
    }
    bundle(&root, "0123456789abcdef");
    assert_eq!(names(&env, &[]), Vec::<String>::new(), "all of it is young");
    let all = names(&env, &["--older-than", "0 s"]);
    assert!(all.len() >= 2, "{all:?}");

    // Another run, which can go on, starts from one of them.
    age(&root);
    let mut other = Made::new("next-22222222");
    other.cause = Some("a node was lost".into());
    let other = other.write(&root);
    let start = run.join("checkpoints/step-00000100");
    let path = other.join("experiment.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace(
        "batch_size: 32",
        &format!("batch_size: 32, resume: {}", start.display()),
    );
    fs::write(&path, text).unwrap();
    age(&root);
    let said = gc(&env, &["--dry-run", "--keep-best", "0"]).ok().stdout;
    assert!(
        said.contains(
            "checkpoint step-00000100 of run done-11111111 stays: another run starts from it or evaluates it"
        ),
        "{said}"
    );
    assert!(
        said.contains("done-11111111/checkpoints/step-00000150"),
        "{said}"
    );
    let said = gc(&env, &["--keep-last", "0"]);
    assert!(
        said.stderr
            .contains("the last checkpoint of a run always stays"),
        "{said}"
    );

    // The last one is damaged: then the one before it is what there is.
    let last = run.join("checkpoints/step-00000200/model.bin");
    fs::write(last, vec![9; 50_000]).unwrap();
    age(&root);
    let names = names(&env, &["--keep-best", "0"]);
    assert!(
        !names.iter().any(|name| name.contains("step-00000150")),
        "{names:?}"
    );
}

#[test]
fn what_can_go_on_keeps_its_programs() {
    let env = Env::with_job(
        "touch $ROCKET_RUN_DIR/up; while [ ! -e $ROCKET_RUN_DIR/go ]; do sleep 0.05; done",
        1,
    );
    let live = env.submit(&[]);
    env.wait_for_file(&live, "up");
    let lost = env.submit(&["--again"]);
    env.wait_for_file(&lost, "up");
    env.kill_supervisor(&lost);
    let none: Vec<String> = Vec::new();
    assert_eq!(
        names(&env, &["--older-than", "0 s", "--finished-programs"]),
        none
    );
    gc(
        &env,
        &["--yes", "--older-than", "0 s", "--finished-programs"],
    )
    .ok();
    env.rocket(&["resume", &lost]).ok();
    for run in [&live, &lost] {
        fs::write(env.run_dir(run).join("go"), "").unwrap();
        env.wait_for_status(run, "finished");
    }
}

/// Someone tidies up all the time, as boldly as can be, while runs are submitted: between two of them
/// nobody needs the programs, so that each is made anew while it is being removed.
#[test]
fn a_submit_at_the_same_moment_loses_nothing() {
    let env = Env::with_job("true", 1);
    env.write("runs/.gitignore", "*\n");
    let stop = env.path("stop");
    let script = format!(
        "while [ ! -e '{}' ]; do '{}' gc --yes --older-than '0 s' --finished-programs || echo failed; done",
        stop.display(),
        env!("CARGO_BIN_EXE_rocket"),
    );
    let log = env.path("tidy.log");
    let mut tidy = env
        .command(Path::new("bash"), &env.repo())
        .args(["-c", &script])
        .stdout(fs::File::create(&log).unwrap())
        .stderr(fs::File::create(env.path("tidy.err")).unwrap())
        .spawn()
        .unwrap();
    for number in 0..6 {
        let run = env.submit(&["--set", &format!("cluster.env.N={number}")]);
        env.wait_for_status(&run, "finished");
        let store = env.repo().join("runs/pins.git");
        env.git_in(
            &store,
            &["rev-parse", &format!("refs/rocket/{run}^{{tree}}")],
        );
        if number % 2 == 1 {
            env.wait_for_file(&run, "DONE");
            fs::remove_dir_all(env.run_dir(&run)).unwrap();
            let bundles = env.repo().join("runs/bundles");
            let any = || fs::read_dir(&bundles).unwrap().flatten().count() > 0;
            env.wait("the programs to be removed", || !any());
        }
    }
    fs::write(&stop, "").unwrap();
    tidy.wait().unwrap();
    let log = fs::read_to_string(&log).unwrap();
    let errors = fs::read_to_string(env.path("tidy.err")).unwrap();
    assert!(!log.contains("failed"), "{log}{errors}");
    assert!(
        log.contains("programs"),
        "programs were removed in between: {log}"
    );
    assert!(
        log.contains("refs/rocket/"),
        "refs were removed in between: {log}"
    );
}

#[test]
fn half_a_run_directory_is_in_nobodys_way() {
    let env = Env::new();
    let root = env.path("repo/runs");
    Made::new("whole-11111111").write(&root);
    let losses: [(&str, &[&str]); 6] = [
        ("manifest-22222222", &["run.json"]),
        ("events-33333333", &["events"]),
        ("attempts-44444444", &["attempts"]),
        (
            "numbers-55555555",
            &["metrics.jsonl", "eval", "experiment.yaml"],
        ),
        (
            "all-66666666",
            &[
                "run.json",
                "events",
                "attempts",
                "checkpoints",
                "eval",
                "metrics.jsonl",
                "experiment.yaml",
                "DONE",
            ],
        ),
        ("torn-77777777", &[]),
    ];
    for (id, lost) in losses {
        let dir = Made::new(id).write(&root);
        for name in lost {
            let path = dir.join(name);
            let done = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            done.unwrap();
        }
    }
    let torn = root.join("torn-77777777/run.json");
    let text = fs::read(&torn).unwrap();
    fs::write(&torn, &text[..text.len() / 2]).unwrap();
    bundle(&root, "0123456789abcdef");
    age(&root);

    let status = env.rocket(&["status"]).ok();
    assert!(status.stdout.contains("whole-11111111"), "{status}");
    assert!(status.stderr.contains("manifest-22222222"), "{status}");
    let mut said = String::new();
    for (id, _) in losses {
        for command in ["show", "report", "export"] {
            let out = env.path(&format!("{command}-{id}"));
            let mut args = vec![command, id];
            if command != "show" {
                args.extend(["-o", out.to_str().unwrap()]);
            }
            let one = env.rocket(&args);
            let words = match one.code {
                Some(0) => "is shown\n".to_owned(),
                Some(1) => one.stderr.clone(),
                _ => panic!("{command} {id}: {one}"),
            };
            said.push_str(&format!("{command} {id}: {words}"));
        }
        let one = env.rocket(&["compare", "whole-11111111", id]);
        assert!(matches!(one.code, Some(0 | 1)), "{one}");
        assert!(!one.stderr.contains("panicked"), "{one}");
    }
    insta::assert_snapshot!(said);
    // Programs stay: what the torn run needs is not known.
    let said = gc(&env, &["--dry-run"]).ok().stdout;
    insta::assert_snapshot!(said);
    env.rocket(&["sweep", "status"]).ok();
    env.rocket(&["heal", "--dry-run"]);
}
