use super::cluster::of_config;
use super::config::{Config, seconds, version};
use super::contract::{Contract, contract};
use super::partition::{NodeGroup, Partition, PreemptMode};
use super::qos::{Association, Qos};
use super::{Level, duration};

const CONFIG: &str = include_str!("recorded/config-22.05.txt");
const PARTITIONS: &str = include_str!("recorded/partitions-22.05.txt");
const SINFO: &str = include_str!("recorded/sinfo-22.05.txt");

/// What sites of newer versions set, put together from slurm.conf(5) of 24.11.
const NEWER: &str = "\
Configuration data as of 2026-01-01T00:00:00
AccountingStorageType   = accounting_storage/slurmdbd
AuthInfo                = (null)
JobRequeue              = 0
JobSubmitPlugins        = lua
KillWait                = 30 sec
PreemptExemptTime       = 01:00:00
PreemptMode             = REQUEUE
PreemptParameters       = send_user_signal,youngest_first
PreemptType             = preempt/qos
ProctrackType           = proctrack/cgroup
RequeueExitHold         = 4
SLURM_VERSION           = 24.11.5
SlurmctldParameters     = rl_enable,rl_bucket_size=60
SlurmdTimeout           = 300 sec
TaskPlugin              = task/cgroup,task/affinity

Cgroup Support Configuration:
AllowedRAMSpace         = 100.0%
";

fn partition(name: &str) -> Partition {
    let all = Partition::parse_all(PARTITIONS);
    all.into_iter().find(|one| one.name == name).unwrap()
}

fn of(name: &str, config: &Config, qos: &[Qos]) -> Contract {
    contract(
        &partition(name),
        &Partition::parse_all(PARTITIONS),
        qos,
        config,
    )
}

#[test]
fn times_of_slurm_are_seconds() {
    for (text, wanted) in [
        ("30 sec", Some(30)),
        ("10 min", Some(600)),
        ("90", Some(90)),
        ("00:05:00", Some(300)),
        ("1-00:00:00", Some(86_400)),
        ("2-12", Some(216_000)),
        ("1-02:30", Some(95_400)),
        ("UNLIMITED", None),
        ("NONE", None),
        ("", None),
        ("-1", None),
    ] {
        assert_eq!(seconds(text), wanted, "{text}");
    }
    assert_eq!(duration(95), "95 s");
    assert_eq!(duration(86_400), "1 day");
    assert_eq!(duration(95_400), "1 d 2 h");
    assert_eq!(duration(5400), "1 h 30 min");
}

#[test]
fn versions_are_numbers() {
    assert_eq!(version("slurm-wlm 22.05.8"), Some((22, 5)));
    assert_eq!(version("slurm 24.11.0-rc1"), Some((24, 11)));
    assert_eq!(version("25.05.1-1"), Some((25, 5)));
    assert_eq!(version(""), None);
}

#[test]
fn a_recorded_configuration_is_read() {
    let config = Config::parse(CONFIG);
    assert_eq!(config.version(), Some("22.05.8"));
    assert_eq!(config.get("PreemptType"), Some("preempt/partition_prio"));
    assert_eq!(config.get("JobSubmitPlugins"), None);
    assert_eq!(config.get("NoSuchSetting"), None);
    assert_eq!(config.requeue_delay().as_secs(), 5);
    assert_eq!(config.kill_wait().as_secs(), 30);
    assert_eq!(config.seconds("SlurmdTimeout"), Some(20));
    assert_eq!(config.is_on("JobRequeue"), Some(true));
    assert_eq!(config.number("MaxJobCount"), Some(10_000));
    assert!(!config.has_accounting());
}

#[test]
fn settings_that_are_absent_have_slurms_own_defaults() {
    let config = Config::parse("");
    assert_eq!(config.requeue_delay().as_secs(), 120);
    assert_eq!(config.kill_wait().as_secs(), 30);
    assert_eq!(config.is_on("JobRequeue"), None);
    let contract = of("low", &config, &[]);
    assert_eq!(
        contract.preempted_by,
        "nobody: the cluster has no preemption"
    );
    assert!(contract.warning.is_none() && contract.then.is_none());
    assert!(
        of_config(&config)
            .iter()
            .all(|finding| finding.level < Level::Problem)
    );
}

#[test]
fn partitions_and_nodes_are_read() {
    let all = Partition::parse_all(PARTITIONS);
    assert_eq!(all.len(), 4);
    let low = partition("low");
    assert!(low.default && low.is_up() && low.restrictions.is_empty());
    assert_eq!(
        (low.grace_seconds, low.priority_tier, low.nodes),
        (30, 1, 4)
    );
    assert_eq!(low.max_seconds, None);
    assert_eq!(partition("lowc").preempt_mode, PreemptMode::Cancel);
    assert_eq!(partition("high").preempt_mode, PreemptMode::Off);
    let groups = NodeGroup::parse_all(SINFO);
    assert_eq!(groups.len(), 4);
    assert_eq!(
        (groups[0].gpus, groups[0].cpus, groups[0].nodes),
        (8, 16, 4)
    );
    assert!(groups[0].is_usable());

    let limited = Partition::parse_all(
        "PartitionName=gpu AllowGroups=ALL AllowAccounts=vision,nlp DenyQos=debug Default=NO DefaultTime=01:00:00 GraceTime=600 MaxNodes=8 MaxTime=2-00:00:00 Nodes=a[1-9] OverTimeLimit=5 PreemptMode=GANG,SUSPEND PriorityTier=3 ReqResv=YES State=DRAIN TotalNodes=9 NewField=1\n",
    );
    let [gpu] = &limited[..] else {
        panic!("{limited:?}")
    };
    assert_eq!(
        gpu.restrictions,
        [
            "AllowAccounts=vision,nlp",
            "DenyQos=debug",
            "only within a reservation"
        ]
    );
    assert_eq!(
        (gpu.max_seconds, gpu.default_seconds, gpu.over_seconds),
        (Some(172_800), Some(3600), 300)
    );
    assert_eq!(gpu.preempt_mode, PreemptMode::Suspend);
    assert!(!gpu.is_up());
}

#[test]
fn gpus_are_counted_in_every_spelling() {
    for (gres, gpus, kinds) in [
        ("gpu:8", 8, vec![]),
        ("gpu:a100:4(S:0-1)", 4, vec!["a100"]),
        ("gpu:h100:8(S:0,1),nvme:2", 8, vec!["h100"]),
        ("gpu:a100:4,gpu:v100:2", 6, vec!["a100", "v100"]),
        ("(null)", 0, vec![]),
    ] {
        let line = format!("p|2|mixed|64+|512000+|{gres}|volta32,ib");
        let group = &NodeGroup::parse_all(&line)[0];
        assert_eq!(
            (group.gpus, &group.gpu_types[..]),
            (
                gpus,
                &kinds.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>()[..]
            ),
            "{gres}"
        );
        assert_eq!(
            (group.cpus, &group.features[..]),
            (64, &["volta32".to_owned(), "ib".into()][..])
        );
    }
    for (state, usable) in [
        ("idle", true),
        ("mixed", true),
        ("idle~", true),
        ("idle*", false),
        ("down*", false),
        ("drained", false),
        ("allocated", true),
    ] {
        let group = &NodeGroup::parse_all(&format!("p|1|{state}|1|1|(null)|(null)"))[0];
        assert_eq!(group.is_usable(), usable, "{state}");
    }
}

/// A contract as a person reads it.
fn text(name: &str, contract: &Contract) -> String {
    let line = |title: &str, value: Option<&String>| {
        value.map_or(String::new(), |value| format!("{title}: {value}\n"))
    };
    let settings: String = contract
        .settings
        .iter()
        .map(|one| format!("  {}: {}\n", one.key, one.value))
        .collect();
    let findings: String = contract
        .findings
        .iter()
        .map(|one| format!("{}: {}\n", one.level.word(), one.words))
        .collect();
    format!(
        "== {name}\npreempted by {}\n{}{}time limit: {}\n{settings}{findings}",
        contract.preempted_by,
        line("warning", contract.warning.as_ref()),
        line("then", contract.then.as_ref()),
        contract.time_limit,
    )
}

#[test]
fn what_each_recorded_partition_does_to_a_run() {
    let config = Config::parse(CONFIG);
    let all: String = ["low", "low0", "lowc", "high"]
        .map(|name| text(name, &of(name, &config, &[])))
        .concat();
    insta::assert_snapshot!(all);
}

#[test]
fn preemption_by_qos_is_read_from_the_database() {
    let qos = Qos::parse_all(
        "normal|||00:10:00||\nscavenge||cancel|00:00:00||gres/gpu=32\nurgent|normal,scavenge|cluster|00:00:00|1-00:00:00|gres/gpu=8\n",
    );
    assert_eq!(qos[2].preempts, ["normal", "scavenge"]);
    assert_eq!(qos[2].preempt_mode, None);
    assert_eq!(qos[1].preempt_mode, Some(PreemptMode::Cancel));
    let config = Config::parse(NEWER);
    let told = of("low", &config, &qos);
    let unknown = of("low", &config, &[]);
    insta::assert_snapshot!(text("by qos", &told) + &text("by qos, no list", &unknown));
}

#[test]
fn what_holds_for_a_newer_cluster() {
    let findings: String = of_config(&Config::parse(NEWER))
        .iter()
        .map(|one| format!("{}: {}\n", one.level.word(), one.words))
        .collect();
    insta::assert_snapshot!(findings);
}

#[test]
fn a_users_limits_are_read() {
    let found = Association::parse_all(
        "vision||normal,urgent|gres/gpu=64|||8|100|\nnlp|gpu|normal||||||\n",
    );
    assert_eq!(
        found[0].limits,
        ["GrpTRES=gres/gpu=64", "MaxJobs=8", "MaxSubmitJobs=100"]
    );
    assert_eq!(
        (found[1].partition.as_str(), found[1].limits.len()),
        ("gpu", 0)
    );
}

#[test]
fn every_setting_that_is_recommended_is_one() {
    let config = Config::parse(CONFIG);
    let suspended = CONFIG.replace(
        "PreemptMode             = REQUEUE",
        "PreemptMode = SUSPEND,GANG",
    );
    let mut contracts: Vec<Contract> = ["low", "low0", "lowc", "high"]
        .map(|name| of(name, &config, &[]))
        .into();
    let mut gang = partition("low");
    gang.preempt_mode = PreemptMode::Suspend;
    gang.max_seconds = Some(5400);
    let partitions = Partition::parse_all(PARTITIONS);
    contracts.push(contract(
        &gang,
        &partitions,
        &[],
        &Config::parse(&suspended),
    ));
    let sets: Vec<String> = contracts
        .iter()
        .flat_map(|contract| &contract.settings)
        .map(|setting| format!("{}={}", setting.key, setting.value))
        .collect();
    assert!(
        sets.iter().any(|set| set == "cluster.time=\"01:30:00\""),
        "{sets:?}"
    );
    let text = "name: e\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: d, metadata: d.npy}\n";
    for set in sets {
        let parsed = rocket_common::experiment::parse("e.yaml", text, std::slice::from_ref(&set));
        assert!(parsed.is_ok(), "{set}: {:?}", parsed.err());
    }
}
