//! `rocket submit`: what it refuses, what it pins, what it leaves alone.
#![allow(missing_docs)]

mod support;

use std::fs;

use support::{Env, experiment};

fn quick() -> Env {
    Env::with_job("echo hello from rank $RANK of $WORLD_SIZE", 2)
}

#[test]
fn it_returns_at_once_and_says_what_to_type_next() {
    let env = Env::with_job("sleep 60", 1);
    let start = std::time::Instant::now();
    let said = env.rocket(&["submit", "exp.yaml"]).ok();
    assert!(start.elapsed().as_secs() < 10);
    assert_said!(said, @r"
    run job-[ID]
      directory  [DIR]/repo/runs/job-[ID]
      commit     [COMMIT12] (refs/rocket/job-[ID])
      next       rocket status job-[ID] | rocket logs job-[ID] -f | rocket cancel job-[ID]
    ");
}

#[test]
fn follow_stays_until_the_end_and_exits_with_the_result() {
    let env = quick();
    let said = env.rocket(&["submit", "exp.yaml", "--follow"]).ok();
    for words in [
        "submitted to local",
        "attempt 0: started 2 ranks",
        "attempt 0: finished",
    ] {
        assert!(said.stdout.contains(words), "{said}");
    }
    let env = Env::with_job("echo no >&2; exit 3", 1);
    let said = env
        .rocket(&[
            "submit",
            "exp.yaml",
            "--follow",
            "--set",
            "cluster.max_crashes=0",
        ])
        .fails();
    assert!(
        said.stderr
            .contains("rank 0 left with exit code 3; given up"),
        "{said}"
    );
}

#[test]
fn changed_tracked_files_are_refused_by_name() {
    let env = quick();
    env.write("gone", "");
    env.write("src/kept", "");
    env.commit_but_not_experiment();
    env.write("README", "changed\n");
    env.write("src/staged", "");
    fs::remove_file(env.repo().join("gone")).unwrap();
    env.git(&["add", "src/staged"]);
    env.write("notes.txt", "");
    let said = env.rocket(&["submit", "exp.yaml"]).fails();
    assert_said!(said, @r"
    --- stderr
    error: 3 tracked files differ from HEAD, so the commit would not say what ran:
      modified  README
      deleted   gone
      new       src/staged
    hint: commit or stash them, or take them into the pinned commit with --snapshot
    ");
    assert!(
        !env.repo().join("runs").exists(),
        "nothing is written by a refusal"
    );
    assert_eq!(env.git(&["for-each-ref", "refs/rocket"]), "");
}

#[test]
fn the_experiment_and_ignored_files_do_not_count_and_untracked_ones_are_named() {
    let env = quick();
    env.write(".gitignore", "*.log\n");
    env.git(&["add", "exp.yaml", ".gitignore"]);
    env.git(&["commit", "--quiet", "--message", "experiment"]);
    env.write("exp.yaml", &format!("{}seed: 7\n", experiment(1)));
    env.write("a.log", "");
    env.write("notes.txt", "");
    let said = env.rocket(&["submit", "exp.yaml", "--dry-run"]).ok();
    assert_eq!(
        said.stderr,
        "note: untracked and so not in the pinned commit: notes.txt\n"
    );
    assert!(said.stdout.contains("\nseed: 7\n"), "{said}");
}

#[test]
fn a_snapshot_takes_the_changes_and_leaves_the_user_alone() {
    let env = Env::with_job("cat README new/file; ls", 1);
    env.write("gone", "");
    env.commit_but_not_experiment();
    env.write("README", "changed\n");
    env.write("new/file", "untracked\n");
    fs::remove_file(env.repo().join("gone")).unwrap();
    env.write("staged", "");
    env.git(&["add", "staged"]);
    let state = || {
        [
            "status --porcelain=v2 --branch --untracked-files=all",
            "rev-parse HEAD",
            "ls-files --stage",
            "stash list",
        ]
        .map(|args| env.git(&args.split(' ').collect::<Vec<_>>()))
    };
    let before = state();
    let run = env.submit(&["--snapshot"]);
    assert_eq!(
        state(),
        before,
        "branch, index and work tree are as they were"
    );
    env.wait_for_status(&run, "finished");
    assert_eq!(state(), before);
    let tree = env.git(&[
        "ls-tree",
        "-r",
        "--name-only",
        &format!("refs/rocket/{run}"),
    ]);
    assert_eq!(
        tree,
        ".rocket/experiment.yaml\nREADME\njob.sh\nnew/file\nstaged\n"
    );
    let log = env.rocket(&["logs", &run]).ok().stdout;
    assert!(log.starts_with("changed\nuntracked\n"), "{log}");
}

#[test]
fn the_same_pin_is_the_same_run() {
    let env = quick();
    let run = env.submit(&[]);
    let said = env.rocket(&["submit", "exp.yaml"]).fails();
    assert_said!(said, @r"
    --- stderr
    error: run job-[ID] exists: this experiment was submitted at this commit before
    hint: look at it with 'rocket status job-[ID]', go on with 'rocket resume job-[ID]'
    hint: or run it once more with --again
    ");
    assert_eq!(env.submit(&["--again"]), format!("{run}-2"));
    assert_eq!(env.submit(&["--again"]), format!("{run}-3"));
    let commit = |run: &str| env.git(&["rev-parse", &format!("refs/rocket/{run}")]);
    assert_eq!(commit(&run), commit(&format!("{run}-3")));
    assert_ne!(
        env.submit(&["--set", "seed=1"]),
        run,
        "another experiment is another run"
    );
}

#[test]
fn a_dry_run_prints_and_starts_nothing() {
    let env = quick();
    let said = env.rocket(&["submit", "exp.yaml", "--dry-run"]).ok();
    assert_said!(said, @r"
    run         job-[ID]
    directory   [DIR]/repo/runs/job-[ID]
    commit      [COMMIT]
    made from   [COMMIT] (main)
    programs    [ROCKET]
    backend     local with 2 ranks
    recipe      1-[SHA16]

    name: job
    seed: 0
    cluster:
      backend: local
      nodes: 1
      gpus_per_node: 8
      tasks_per_node: 2
      cpus_per_task: 10
      device: auto
      requeue: true
      successor: false
      max_crashes: 3
      max_node_failures: 10
      max_idle_time_limits: 3
      stop_grace_seconds: 20
    command:
    - ./job.sh
    ");
    assert!(!env.repo().join("runs").exists());
    assert_eq!(env.git(&["for-each-ref", "refs/rocket"]), "");
}

#[test]
fn places_without_a_commit_are_said_in_words() {
    let env = Env::new();
    let outside = env.path("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("exp.yaml"), experiment(1)).unwrap();
    let rocket = std::path::Path::new(env!("CARGO_BIN_EXE_rocket"));
    let submit = |folder: &std::path::Path| {
        let output = env
            .command(rocket, folder)
            .args(["submit", "exp.yaml"])
            .output()
            .unwrap();
        env.said(output).fails().stderr
    };
    let mut all = submit(&outside);
    env.git_in(&outside, &["init", "--quiet", "."]);
    all.push_str(&submit(&outside));
    let bare = env.path("bare");
    fs::create_dir_all(&bare).unwrap();
    env.git_in(&bare, &["init", "--quiet", "--bare", "."]);
    fs::write(bare.join("exp.yaml"), experiment(1)).unwrap();
    all.push_str(&submit(&bare));
    assert_said!(all, @r"
    error: '[DIR]/outside' is in no git repository, and a run is pinned to a commit
    hint: go to the repository of your code, or make one: git init && git add -A && git commit
    error: the repository '[DIR]/outside' has no commit yet
    hint: make the first one: git add -A && git commit
    error: '[DIR]/bare/' is a bare repository, without the files of a commit
    hint: submit from a clone or a work tree of it: git worktree add
    ");
}

#[test]
fn faults_of_the_experiment_are_shown_together() {
    let env = quick();
    env.write(
        "exp.yaml",
        "name: job\ntrain:\n  batch_sise: 32\n  epochs: many\n",
    );
    let said = env.rocket(&["submit", "exp.yaml"]).fails();
    assert_said!(said, @r"
    --- stderr
    error: exp.yaml: the experiment names no model; set 'model.name', such as CL2L_R50_CL2L, or 'base', 'vision' and 'child' in 'model'
    error: exp.yaml: 'data.root' is missing; it says where the training data are
    error: exp.yaml: 'data.metadata' is missing; it says where the training data are
    error: exp.yaml:3:3: unknown key 'batch_sise' in 'train'; did you mean 'batch_size'?
    error: exp.yaml:4:11: 'train.epochs' must be a whole number, not the text 'many'
    ");
}

#[test]
fn bad_inputs_are_one_clear_error() {
    let env = quick();
    let mut all = String::new();
    all.push_str(&env.rocket(&["submit", "nowhere.yaml"]).fails().stderr);
    env.write("data.yaml", "name: job\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: images, metadata: train.npy}\ncluster: {backend: local, nodes: 1, tasks_per_node: 1}\n");
    all.push_str(&env.rocket(&["submit", "data.yaml"]).fails().stderr);
    env.write("images/1.jpg", "");
    env.write("train.npy", "");
    let eval = "eval: {datasets: [emoji], labels: /labels.json}\n";
    let text = fs::read_to_string(env.repo().join("data.yaml")).unwrap();
    env.write("data.yaml", &(text.clone() + eval));
    all.push_str(&env.rocket(&["submit", "data.yaml"]).fails().stderr);
    let other = text.replace(
        "root: images",
        "dataset: merged_opendata, root: images---images",
    );
    env.write("other.yaml", &other);
    all.push_str(&env.rocket(&["submit", "other.yaml"]).fails().stderr);
    env.write("name.yaml", "name: \"x'; $(rm)\"\ncommand: [./job.sh]\n");
    all.push_str(&env.rocket(&["submit", "name.yaml"]).fails().stderr);
    assert_said!(all, @r"
    error: cannot read the experiment 'nowhere.yaml': no such file or directory
    error: '[DIR]/repo/images' (data.root), the folder of the images, is not there
    hint: relative paths are meant from the top of the repository
    error: 'dataset_catalog.json' (eval.catalog) is not in the pinned commit, from which the run would read it
    hint: commit it, take it along with --snapshot, or name it by an absolute path
    error: 'data.metadata' has 1 and 'data.root' 2 paths joined by '---'; each list needs its folder
    error: name.yaml:1:7: 'name' must be 1 to 100 letters, digits, '-', '_' or '.', a letter or digit first, not 'x\'; $(rm)'
    ");
}

/// Published names and prompts need no files; those of other sets do, and files that lie there and were not
/// committed are missed.
#[test]
fn labels_that_were_not_committed_are_named() {
    let env = quick();
    env.write("dataset_catalog.json", "{}");
    env.write("data/images/1.jpg", "");
    env.write("data/train.npy", "");
    env.write("data.yaml", "name: job\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: data/images, metadata: data/train.npy}\neval: {datasets: [mnist]}\ncluster: {backend: local, nodes: 1, tasks_per_node: 1}\n");
    env.commit();
    let said = env.rocket(&["submit", "data.yaml", "--dry-run"]);
    assert!(!said.stderr.contains("eval.labels"), "{said}");
    let missed = |args: &[&str]| {
        let said = env.rocket(args).fails();
        let error = "error: 'labels.json' (eval.labels) is not in the pinned commit";
        assert!(said.stderr.contains(error), "{said}");
    };
    let other = "eval.datasets=[mnist, zoo]";
    missed(&["submit", "data.yaml", "--dry-run", "--set", other]);
    env.write("labels.json", "{}");
    missed(&["submit", "data.yaml", "--dry-run"]);
}

#[test]
fn a_work_tree_of_its_own_can_submit() {
    let env = quick();
    let tree = env.path("tree");
    env.git(&[
        "worktree",
        "add",
        "--quiet",
        "--detach",
        tree.to_str().unwrap(),
    ]);
    fs::write(tree.join("exp.yaml"), experiment(1)).unwrap();
    let rocket = std::path::Path::new(env!("CARGO_BIN_EXE_rocket"));
    let output = env
        .command(rocket, &tree)
        .args(["submit", "exp.yaml", "--follow"])
        .output()
        .unwrap();
    env.said(output).ok();
    assert!(tree.join("runs/pins.git").is_dir());
    assert_eq!(
        env.git_in(&tree, &["status", "--porcelain"]),
        "?? exp.yaml\n"
    );
}

#[test]
fn submodules_are_left_alone_and_changed_ones_refused() {
    let env = quick();
    let other = env.path("other");
    fs::create_dir_all(&other).unwrap();
    env.git_in(&other, &["init", "--quiet", "."]);
    fs::write(other.join("file"), "a\n").unwrap();
    env.git_in(&other, &["add", "--all"]);
    env.git_in(&other, &["commit", "--quiet", "--message", "a"]);
    let url = other.to_str().unwrap();
    env.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        url,
        "sub",
    ]);
    env.commit_but_not_experiment();
    env.rocket(&["submit", "exp.yaml", "--follow"]).ok();
    env.write("sub/file", "changed\n");
    let said = env.rocket(&["submit", "exp.yaml", "--again"]).fails();
    assert!(said.stderr.contains("modified  sub"), "{said}");
    let said = env.rocket(&["submit", "exp.yaml", "--snapshot"]).fails();
    assert!(said.stderr.contains("'sub': it is a submodule"), "{said}");
}

#[test]
fn large_files_kept_by_lfs_do_not_look_changed() {
    let env = quick();
    let content = "large content\n";
    let sha = rocket::bundle::sha256_text(content);
    env.write(".gitattributes", "*.bin filter=lfs -text\n");
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {}\n",
        content.len()
    );
    env.write("model.bin", &pointer);
    env.commit_but_not_experiment();
    env.write("model.bin", content);
    env.rocket(&["submit", "exp.yaml", "--dry-run"]).ok();
    env.write("model.bin", "other content\n");
    let said = env.rocket(&["submit", "exp.yaml", "--dry-run"]).fails();
    assert!(said.stderr.contains("modified  model.bin"), "{said}");
    let said = env
        .rocket(&["submit", "exp.yaml", "--dry-run", "--snapshot"])
        .fails();
    assert!(
        said.stderr.contains("'model.bin': it is kept by Git LFS"),
        "{said}"
    );
}
