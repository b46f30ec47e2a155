//! Settings of a user and of a repository: what they may say, and how they join an experiment.

use std::path::{Path, PathBuf};

use rocket_common::experiment::{Experiment, Here, Settings, SettingsFile, parse_under};

const GOOD: &str =
    "name: demo\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: images, metadata: train.npy}\n";

const USER: &str = "\
runs: ~/runs
default_cluster: small
clusters:
  small:
    defaults: {partition: all, cpus_per_task: 2}
  fair:
    match: {cluster: FAIR}
    runs: /shared/$USER/runs
    partitions: {short: learnfair, long: learnlab}
    defaults:
      account: mine
      partition: short
      setup: [module load cuda/11]
      env: {NCCL_DEBUG: INFO, HTTPS_PROXY: 'http://user-proxy:1'}
      time: 1:00:00
";

const REPOSITORY: &str = "\
clusters:
  fair:
    partitions: {long: prio}
    defaults:
      account: ours
      setup: [module load cuda/12, source env.sh]
      env: {HTTPS_PROXY: 'http://proxy:1', A: 1}
  big:
    match: {host: 'big-login?'}
    runs: big
";

fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/ada".into()),
        "USER" => Some("ada".into()),
        _ => None,
    }
}

fn read(user: &str, repository: &str) -> Result<Settings, String> {
    let files = [
        SettingsFile {
            name: "~/.config/rocket/config.yaml",
            text: user,
            base: None,
        },
        SettingsFile {
            name: "rocket.yaml",
            text: repository,
            base: Some(Path::new("/home/ada/code")),
        },
    ];
    Settings::read(&files, &environment)
        .map_err(|found| found.iter().map(|one| format!("{one}\n")).collect())
}

fn settings() -> Settings {
    read(USER, REPOSITORY).unwrap()
}

fn here(cluster: Option<&str>, host: &str) -> Here {
    Here {
        cluster: cluster.map(str::to_owned),
        host: host.into(),
    }
}

fn resolve(more: &str, set: &[&str], here: &Here) -> Result<(Experiment, Option<String>), String> {
    let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
    let text = format!("{GOOD}{more}");
    parse_under("exp.yaml", &text, &set, &environment, &settings(), here)
        .map_err(|found| found.iter().map(|one| format!("{one}\n")).collect())
}

#[test]
fn the_profile_is_filled_in_under_the_experiment() {
    let fair = here(Some("fair"), "login1");
    let (experiment, profile) = resolve("", &[], &fair).unwrap();
    assert_eq!(profile.as_deref(), Some("fair"));
    let yaml = experiment.to_yaml();
    insta::assert_snapshot!(&yaml[yaml.find("cluster:").unwrap()..]);
    // What was resolved says all of it, and needs no settings to be read again.
    assert_eq!(Experiment::from_resolved(&yaml).unwrap(), experiment);

    let (experiment, _) = resolve(
        "cluster: {account: theirs, setup: [], env: {A: 2}, partition: 'long,other', time: }",
        &["cluster.cpus_per_task=3"],
        &fair,
    )
    .unwrap();
    let cluster = experiment.cluster;
    assert_eq!(cluster.account.as_deref(), Some("theirs"));
    assert_eq!(cluster.setup, Vec::<String>::new());
    assert_eq!(cluster.env["A"], "2");
    assert_eq!(cluster.env["NCCL_DEBUG"], "INFO");
    assert_eq!(cluster.partition.as_deref(), Some("prio,other"));
    assert_eq!((cluster.time, cluster.cpus_per_task), (None, 3));
    let (experiment, _) = resolve("", &["cluster.partition=long"], &fair).unwrap();
    assert_eq!(experiment.cluster.partition.as_deref(), Some("prio"));
}

#[test]
fn settings_change_no_recipe() {
    let (with, _) = resolve("", &[], &here(Some("fair"), "login1")).unwrap();
    let (without, _) = resolve("cluster: {backend: local}", &[], &here(None, "x")).unwrap();
    assert_eq!(with.recipe_hash(), without.recipe_hash());
}

#[test]
fn which_profile_it_is() {
    let name = |more: &str, here: &Here| resolve(more, &[], here).unwrap().1;
    let is = |found: Option<String>, expected: Option<&str>| {
        assert_eq!(found.as_deref(), expected);
    };
    is(name("", &here(Some("FAIR"), "login1")), Some("fair"));
    is(name("", &here(None, "big-login1")), Some("big"));
    is(name("", &here(None, "big-login12")), Some("small"));
    is(name("", &here(Some("other"), "laptop")), Some("small"));
    let named = "cluster: {profile: big}";
    is(name(named, &here(Some("fair"), "login1")), Some("big"));
    // What runs here is no cluster's business, unless its profile is named.
    let local = "cluster: {backend: local}";
    is(name(local, &here(Some("fair"), "login1")), None);
    let both = "cluster: {backend: local, profile: fair}";
    is(name(both, &here(None, "laptop")), Some("fair"));
    insta::assert_snapshot!(
        [
            resolve("cluster:\n  profile: fiar\n", &[], &here(None, "x")),
            resolve("", &["cluster.profile=zzz"], &here(None, "x")),
            resolve(
                "cluster: {nodes: 2}",
                &[],
                &here(Some("fair"), "big-login1")
            ),
        ]
        .map(Result::unwrap_err)
        .concat()
    );
}

#[test]
fn where_runs_are() {
    let settings = settings();
    let runs = |cluster, host| settings.runs(&here(cluster, host)).unwrap();
    assert_eq!(
        runs(Some("fair"), "login1"),
        Some(PathBuf::from("/shared/ada/runs"))
    );
    assert_eq!(
        runs(None, "big-login2"),
        Some(PathBuf::from("/home/ada/code/big"))
    );
    assert_eq!(runs(None, "laptop"), Some(PathBuf::from("/home/ada/runs")));
    let repository = read(USER, "runs: /data/runs\n").unwrap();
    let fair = here(Some("fair"), "login1");
    assert_eq!(repository.runs(&fair).unwrap(), Some("/data/runs".into()));
    assert_eq!(read("", "").unwrap().runs(&fair).unwrap(), None);
}

#[test]
fn a_wrong_value_is_shown_where_it_was_written() {
    // Right by itself, wrong with what the experiment says.
    let told = resolve(
        "cluster: {use_volta32: true, stop_grace_seconds: 3600}",
        &["cluster.constraint=volta32gb"],
        &here(Some("fair"), "login1"),
    );
    insta::assert_snapshot!(told.unwrap_err());
}

#[test]
fn what_settings_cannot_say() {
    let files = [
        "runs: runs\n",
        "runs: [a]\n",
        "runs: $NOWHERE/runs\n",
        "run: /runs\npartition: gpu\ntrain: {epochs: 3}\ncluster: {nodes: 2}\nzzz: 1\n",
        "clusters: [fair]\n",
        "clusters:\n  fair: yes\n",
        "clusters:\n  fair:\n    mach: {cluster: fair}\n    match: {hosts: a, kluster: b}\n    account: mine\n",
        "clusters:\n  fair:\n    partitions: {short: [a], long: ''}\n",
        "clusters:\n  fair:\n    defaults:\n      nodes: 2\n      gpus_per_node: 4\n      tasks_per_node: 4\n      profile: other\n      lr: 1e-3\n      train: {epochs: 1}\n      acount: mine\n",
        "clusters:\n  fair:\n    defaults: {account: \"a\\nb\", time: soon, extra: {output: x, nice: 3}, env: {MY_TOKEN: x}, max_crashes: -1, stop_grace_seconds: 0}\n",
        "clusters:\n  fair: {runs: /a, runs: /b}\n",
        "default_cluster: fiar\nclusters: {fair: {}}\n",
        "default_cluster: fair\n",
        "- a\n",
        "a: [\n",
        "a:\n\tb\n",
    ];
    let told: Vec<String> = files
        .iter()
        .map(|text| {
            let told = read(text, "").err().unwrap_or_else(|| "nothing\n".into());
            format!("{text}    {}", told.replace('\n', "\n    ").trim_end())
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    let both = read("runs: a\n", "runs: [b]\nclusters: {x: {match: 1}}\n").unwrap_err();
    insta::assert_snapshot!(both);
    read("", "# nothing\n").unwrap();
    read("clusters:\nruns:\n", "clusters: {a: }\n").unwrap();
}
