//! The user's and the repository's settings, as commands see them.

mod support;

use std::fs;

use support::Env;

const USER: &str = "\
runs: ~/runs
clusters:
  fair:
    match: {cluster: fair}
    partitions: {short: learnfair}
    defaults: {account: mine, partition: short, comment: \"it's $(mine)\"}
";

/// A repository on a machine of the cluster 'fair', and a user with settings.
fn env(user: &str, repository: &str) -> Env {
    let env = Env::with_job("echo hello", 1);
    let folder = env.path("home/.config/rocket");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.yaml"), user).unwrap();
    fs::write(env.path("slurm.conf"), "ClusterName=fair\n").unwrap();
    env.write("rocket.yaml", repository);
    env.commit_but_not_experiment();
    env
}

fn rocket(env: &Env, args: &[&str]) -> support::Said {
    let mut command = env.rocket_command();
    command.env("SLURM_CONF", env.path("slurm.conf"));
    env.said(command.args(args).output().unwrap())
}

const DRY: [&str; 5] = [
    "submit",
    "exp.yaml",
    "--dry-run",
    "--set",
    "cluster.backend=slurm",
];

#[test]
fn a_dry_run_shows_the_profile_the_words_and_the_script() {
    let repository = "clusters: {fair: {defaults: {account: ours, time: 2:00:00}}}\n";
    let env = env(USER, repository);
    let said = rocket(&env, &DRY).ok();
    let shown: String = said
        .stdout
        .lines()
        .filter(|line| !line.starts_with("programs"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (words, rest) = shown.split_once("recipe").unwrap();
    assert_said!(words, @r"
    run         job-[ID]
    directory   [DIR]/home/runs/job-[ID]
    commit      [COMMIT]
    made from   [COMMIT] (main)
    backend     slurm with 1 ranks
    profile     fair
    partition   learnfair, account ours
    asks for    1 node, each with 1 rank of 10 CPUs, 8 GPUs; 1 rank in all
    time limit  02:00:00; 80 s before it ranks save at the next step and stop, the job goes back into the queue and the run goes on from there
    preempted   if the partition grants a grace time ranks save at the next step and stop; without one what was done since the last checkpoint is done again; the job goes back into the queue and the run goes on from there
    node lost   the run goes on from its last checkpoint without that node, up to 10 times without progress
    crashed     ranks are started again in the same job, up to 3 times without progress
    ");
    // The experiment that is pinned says all of it.
    assert!(
        rest.contains("\n  account: ours\n  comment: it's $(mine)\n"),
        "{rest}"
    );
    assert!(
        rest.contains("#SBATCH --comment='it\\'s $(mine) rocket=<token>'\n"),
        "{rest}"
    );
    assert!(!env.path("home/runs").exists(), "a dry run writes nothing");
}

#[test]
fn the_experiment_wins_and_then_the_command_line() {
    let env = env(USER, "");
    env.write(
        "exp.yaml",
        "name: job\ncommand: [./job.sh]\ncluster: {nodes: 1, tasks_per_node: 1, account: theirs, partition: own}\n",
    );
    let said = rocket(&env, &DRY).ok();
    assert!(said.stdout.contains("#SBATCH --account=theirs\n"), "{said}");
    assert!(said.stdout.contains("#SBATCH --partition=own\n"), "{said}");
    let mut all = DRY.to_vec();
    all.extend([
        "--set",
        "cluster.account=last",
        "--set",
        "cluster.partition=short",
    ]);
    let said = rocket(&env, &all).ok();
    assert!(said.stdout.contains("#SBATCH --account=last\n"), "{said}");
    assert!(
        said.stdout.contains("#SBATCH --partition=learnfair\n"),
        "{said}"
    );
}

#[test]
fn mistakes_of_all_files_are_shown_at_once() {
    let env = env(
        "runs: runs\nclusters: {fair: {defaults: {acount: x}}}\n",
        "train: {epochs: 1}\nclusters: {fair: {defaults: {nodes: 2}}}\n",
    );
    let said = rocket(&env, &DRY).fails();
    assert_said!(said, @r"
    --- stderr
    error: [DIR]/home/.config/rocket/config.yaml:1:7: 'runs' must be an absolute path, not 'runs'
    error: [DIR]/home/.config/rocket/config.yaml:2:30: unknown key 'acount' in 'clusters.fair.defaults'; did you mean 'account'?
    error: rocket.yaml:1:1: unknown key 'train' in the settings; what decides numbers comes from the experiment alone
    error: rocket.yaml:2:30: 'clusters.fair.defaults.nodes' cannot be set here: how many ranks there are decides numbers, which come from the experiment alone
    ");
}

#[test]
fn runs_are_where_the_settings_say() {
    let env = env(USER, "");
    let local = [
        "submit",
        "exp.yaml",
        "--dry-run",
        "--set",
        "cluster.backend=local",
    ];
    let directory = |said: support::Said| {
        let line = said
            .stdout
            .lines()
            .find(|line| line.starts_with("directory"));
        let line = line.unwrap_or_default().to_owned();
        line.rsplit_once('/').unwrap().0.replace("directory   ", "")
    };
    assert_eq!(directory(rocket(&env, &local).ok()), "[DIR]/home/runs");
    env.write("rocket.yaml", "runs: here\n");
    env.commit_but_not_experiment();
    assert_eq!(directory(rocket(&env, &local).ok()), "[DIR]/repo/here");
    let mut command = env.rocket_command();
    command
        .env("ROCKET_RUNS", env.path("elsewhere"))
        .args(local);
    let said = env.said(command.output().unwrap()).ok();
    assert_eq!(directory(said), "[DIR]/elsewhere");
    let mut with_flag = local.to_vec();
    with_flag.extend(["--runs", "flag"]);
    assert_eq!(directory(rocket(&env, &with_flag).ok()), "[DIR]/repo/flag");

    // Who reads looks at the same place.
    fs::create_dir_all(env.repo().join("here/odd-01234567")).unwrap();
    let said = rocket(&env, &["status", "odd-01234567"]).fails();
    assert!(
        said.stderr.contains("[DIR]/repo/here/odd-01234567"),
        "{said}"
    );
}

#[test]
fn a_local_run_is_no_business_of_a_cluster() {
    let env = env(USER, "");
    let said = rocket(
        &env,
        &[
            "submit",
            "exp.yaml",
            "--dry-run",
            "--set",
            "cluster.backend=local",
        ],
    )
    .ok();
    assert!(!said.stdout.contains("account"), "{said}");
    assert!(!said.stdout.contains("profile"), "{said}");
}

#[test]
fn ranks_of_a_local_run_are_given_the_variables_too() {
    let env = Env::with_job("echo \"said: $WORDS $RANK\"", 1);
    let run = env.submit(&["--set", "cluster={backend: local, nodes: 1, tasks_per_node: 1, env: {WORDS: \"it's $HOME\", RANKS: 2}}"]);
    env.wait_for_status(&run, "finished");
    let log = env.read_run(&run, "attempts/000/ranks/0.log");
    assert!(log.contains("said: it's $HOME 0\n"), "{log}");
}

#[test]
fn changed_settings_of_the_repository_are_refused_like_changed_code() {
    let env = env(USER, "");
    env.write("rocket.yaml", "runs: here\n");
    let said = rocket(&env, &DRY).fails();
    assert!(said.stderr.contains("modified  rocket.yaml"), "{said}");
}

/// Blocks of YAML in the documentation of Slurm.
fn documented() -> (String, Vec<String>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/slurm.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    let blocks = blocks.collect();
    (text, blocks)
}

#[test]
fn the_documented_settings_are_read() {
    let (_, blocks) = documented();
    let settings = blocks.iter().find(|block| block.contains("clusters:"));
    // A machine of that cluster, whatever its name.
    let settings = settings.unwrap().replace(", host: \"login*\"", "");
    let env = env(&settings, "");
    fs::write(env.path("slurm.conf"), "ClusterName=institute\n").unwrap();
    let mut command = env.rocket_command();
    command.env("SLURM_CONF", env.path("slurm.conf"));
    command.env("MY_HOOK", "https://hooks.example.org/x");
    command.env("USER", "ada").args(DRY);
    let said = env.said(command.output().unwrap()).ok();
    for line in [
        "directory   /shared/ada/runs/job-",
        "#SBATCH --partition=gpu_a100_7d\n",
        "#SBATCH --account=vision\n",
        "#SBATCH --time=1-00:00:00\n",
        "export NCCL_SOCKET_IFNAME=ib0\n",
        "\nmodule load cuda/12.4\n",
    ] {
        assert!(said.stdout.contains(line), "{line}\n{said}");
    }
}

#[test]
fn every_key_of_a_cluster_is_documented() {
    let (text, _) = documented();
    for key in rocket_common::experiment::all_keys() {
        if let Some(key) = key.strip_prefix("cluster.") {
            assert!(text.contains(&format!("`{key}`")), "{key}");
        }
    }
}
