//! What a partition does to a run, in words, and the settings that follow: pure functions of what was
//! read.

use serde::Serialize;

use super::config::Config;
use super::finding::{Finding, duration};
use super::partition::{Partition, PreemptMode};
use super::qos::Qos;

/// A setting that suits a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key in an experiment or a profile.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Why.
    pub why: String,
}

/// What a partition does to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contract {
    /// Who takes its nodes.
    pub preempted_by: String,
    /// How long a run has, and what it is told.
    pub warning: Option<String>,
    /// What happens after that, and who starts the run again.
    pub then: Option<String>,
    /// What a time limit means.
    pub time_limit: String,
    /// What a lost node means.
    pub lost_node: String,
    /// Settings that suit it.
    pub settings: Vec<Setting>,
    /// Traps.
    pub findings: Vec<Finding>,
}

/// How one way of being preempted goes.
struct Preemption {
    by: String,
    /// Whose jobs: "partition 'low'".
    of: String,
    mode: PreemptMode,
    grace: u64,
}

/// Settings that keep a run of a partition whole. `partitions` are all, `qos` those that the cluster
/// has, as far as they could be asked.
#[must_use]
pub fn contract(
    partition: &Partition,
    partitions: &[Partition],
    qos: &[Qos],
    config: &Config,
) -> Contract {
    let preemptions = preemptions(partition, partitions, qos, config);
    let mut findings = Vec::new();
    if !partition.is_up() {
        findings.push(Finding::warning(format!(
            "partition '{}' is {}: jobs that are submitted to it wait",
            partition.name,
            partition.state.to_lowercase()
        )));
    }
    let worst = preemptions
        .iter()
        .min_by_key(|one| (one.mode != PreemptMode::Cancel, one.grace));
    let mut settings = Vec::new();
    if let Some(worst) = worst {
        settings.extend(settings_for(worst, config));
        findings.extend(traps(worst, config));
    }
    settings.extend(time_setting(partition));
    Contract {
        preempted_by: match &preemptions[..] {
            [] => nobody(partition, config),
            some => some
                .iter()
                .map(|one| one.by.clone())
                .collect::<Vec<_>>()
                .join("; "),
        },
        warning: worst.map(|worst| warning(worst, config)),
        then: worst.map(|worst| then(worst.mode, config)),
        time_limit: time_limit(partition),
        lost_node: lost_node(config),
        settings,
        findings,
    }
}

fn preemptions(
    partition: &Partition,
    partitions: &[Partition],
    qos: &[Qos],
    config: &Config,
) -> Vec<Preemption> {
    let cluster_mode = PreemptMode::parse(config.get("PreemptMode").unwrap_or_default());
    match config.get("PreemptType") {
        Some("preempt/partition_prio") if partition.preempt_mode != PreemptMode::Off => {
            let higher: Vec<&Partition> = partitions
                .iter()
                .filter(|other| other.priority_tier > partition.priority_tier)
                .collect();
            if higher.is_empty() {
                return Vec::new();
            }
            let names: Vec<String> = higher
                .iter()
                .map(|other| {
                    let shared = if other.node_list == partition.node_list {
                        ""
                    } else {
                        " where they share nodes"
                    };
                    format!("'{}'{shared}", other.name)
                })
                .collect();
            vec![Preemption {
                by: format!(
                    "jobs of partition {} (higher PriorityTier) take its nodes",
                    names.join(", ")
                ),
                of: format!("partition '{}'", partition.name),
                mode: partition.preempt_mode,
                grace: partition.grace_seconds,
            }]
        }
        Some("preempt/qos") => qos
            .iter()
            .filter_map(|own| {
                let by: Vec<&str> = qos
                    .iter()
                    .filter(|other| other.preempts.contains(&own.name))
                    .map(|other| other.name.as_str())
                    .collect();
                let mode = own.preempt_mode.unwrap_or(cluster_mode);
                (!by.is_empty() && mode != PreemptMode::Off).then(|| Preemption {
                    by: format!(
                        "jobs of qos {} take the nodes of those of qos '{}'",
                        by.join(", "),
                        own.name
                    ),
                    of: format!("qos '{}'", own.name),
                    mode,
                    grace: own.grace_seconds,
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn nobody(partition: &Partition, config: &Config) -> String {
    match config.get("PreemptType") {
        Some("preempt/qos") => {
            "jobs of another QOS, perhaps (PreemptType=preempt/qos): their list could not be read or names none".into()
        }
        Some("preempt/partition_prio") if partition.preempt_mode == PreemptMode::Off => {
            "nobody (PreemptMode=OFF)".into()
        }
        Some("preempt/partition_prio") => "nobody: no partition has a higher PriorityTier".into(),
        _ => "nobody: the cluster has no preemption".into(),
    }
}

fn user_signal(config: &Config) -> bool {
    config
        .parameter("PreemptParameters", "send_user_signal")
        .is_some()
        || config
            .parameter("SlurmctldParameters", "preempt_send_user_signal")
            .is_some()
}

fn warning(one: &Preemption, config: &Config) -> String {
    if one.mode == PreemptMode::Suspend {
        return "none: the processes are stopped where they are".into();
    }
    let kill_wait = duration(config.kill_wait().as_secs());
    let exempt = config
        .seconds("PreemptExemptTime")
        .filter(|seconds| *seconds > 0)
        .map_or(String::new(), |seconds| {
            format!(
                "; not before it has run {} (PreemptExemptTime)",
                duration(seconds)
            )
        });
    let first = if user_signal(config) {
        "the supervisor gets the run's own signal (preempt_send_user_signal) and tells the ranks"
    } else {
        "the ranks get SIGTERM"
    };
    if one.grace == 0 {
        return format!(
            "none (GraceTime=0): the ranks get SIGTERM, and SIGKILL {kill_wait} later (KillWait){exempt}"
        );
    }
    format!(
        "{} (GraceTime): {first} at once, and save at the next step; what is left after that gets SIGTERM, and SIGKILL {kill_wait} later (KillWait){exempt}",
        duration(one.grace)
    )
}

fn then(mode: PreemptMode, config: &Config) -> String {
    let delay = duration(config.requeue_delay().as_secs());
    match mode {
        PreemptMode::Requeue => {
            let who = match config.version().and_then(super::config::version) {
                Some(version) if version >= (24, 5) => {
                    "Slurm requeues the job, also if it has left before the end of the grace"
                }
                _ => "rocket requeues the job once its ranks have saved (a job that leaves by itself counts as done here), else Slurm does",
            };
            format!("{who}; it keeps its id, and starts again after {delay} at the earliest (cred_expire)")
        }
        PreemptMode::Cancel => {
            format!("Slurm ends the job for good; rocket requeues it before that if the ranks have saved in time, to start again after {delay} at the earliest (cred_expire); else only 'rocket heal', or 'cluster.successor: true', submits the run again")
        }
        PreemptMode::Suspend => {
            "Slurm lets them go on when the nodes are free again; nothing is lost, and nothing else may use their GPU memory".into()
        }
        PreemptMode::Off => "nothing".into(),
        PreemptMode::Other => "what this version of rocket does not know: ask the administrators".into(),
    }
}

fn settings_for(one: &Preemption, config: &Config) -> Vec<Setting> {
    let mut settings = Vec::new();
    if one.mode == PreemptMode::Suspend {
        settings.push(Setting {
            key: "train.collective_timeout_minutes",
            value: "120".into(),
            why: "ranks that are suspended do not answer; a longer suspension ends in a relaunch"
                .into(),
        });
        return settings;
    }
    let kill_wait = config.kill_wait().as_secs();
    let (time, name) = if one.grace > 0 {
        (one.grace, "GraceTime")
    } else {
        (kill_wait, "KillWait")
    };
    settings.push(Setting {
        key: "cluster.stop_grace_seconds",
        value: within(time).to_string(),
        why: format!("less than the {} of {name}, so that rocket and not Slurm ends ranks that do not save in time", duration(time)),
    });
    let (every, why) = if one.grace == 0 || one.mode == PreemptMode::Cancel {
        (
            "5 minutes",
            "a preemption may cost all steps since the last checkpoint",
        )
    } else if one.grace < 60 {
        (
            "10 minutes",
            "a step and a save must fit into the grace; where they do not, the last checkpoint counts",
        )
    } else {
        (
            "15 minutes",
            "a preemption leaves time to save; this bounds the loss when a node dies",
        )
    };
    settings.push(Setting {
        key: "train.checkpoint_every",
        value: every.into(),
        why: why.into(),
    });
    if one.mode == PreemptMode::Cancel {
        settings.push(Setting {
            key: "cluster.successor",
            value: "true".into(),
            why: "a dependent job takes over where nobody requeues".into(),
        });
    }
    settings
}

/// Somewhat less than the time that there is, but something.
fn within(seconds: u64) -> u64 {
    seconds.saturating_sub((seconds / 6).clamp(2, 60)).max(1)
}

fn traps(one: &Preemption, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of = &one.of;
    if one.grace == 0 && one.mode != PreemptMode::Suspend {
        findings.push(
            Finding::warning(format!(
                "{of} gives no grace (GraceTime=0): ranks that are preempted have {} to save (KillWait), and else lose the steps since the last checkpoint",
                duration(config.kill_wait().as_secs())
            ))
            .advice("checkpoint more often, or choose a partition with a grace"),
        );
    }
    match one.mode {
        PreemptMode::Cancel => findings.push(
            Finding::warning(format!(
                "{of} ends preempted jobs for good (PreemptMode=CANCEL): a run whose ranks do not save in time is not brought back by Slurm"
            ))
            .advice("set 'cluster.successor: true', or let cron run 'rocket heal'"),
        ),
        PreemptMode::Requeue if config.is_on("JobRequeue") == Some(false) => findings.push(Finding::note(format!(
            "jobs of {of} are requeued only if they ask for it (JobRequeue=0); those of rocket do (--requeue)"
        ))),
        PreemptMode::Suspend => findings.push(Finding::warning(format!(
            "{of} suspends preempted jobs: their GPU memory stays taken, and a run waits until it may go on"
        ))),
        _ => {}
    }
    findings
}

fn time_limit(partition: &Partition) -> String {
    let most = match partition.max_seconds {
        Some(seconds) => format!("{} at most", duration(seconds)),
        None => "none".to_owned(),
    };
    let default = match (partition.default_seconds, partition.max_seconds) {
        (Some(default), _) => format!(
            "; {} where cluster.time is not set (DefaultTime)",
            duration(default)
        ),
        (None, Some(_)) => "; that also where cluster.time is not set".to_owned(),
        (None, None) => String::new(),
    };
    let over = match partition.over_seconds {
        0 => String::new(),
        seconds => format!("; {} later in truth (OverTimeLimit)", duration(seconds)),
    };
    let before = if partition.max_seconds.is_some() {
        "shortly before it"
    } else {
        "shortly before the run's own (cluster.time)"
    };
    format!(
        "{most}{default}{over}; {before} the supervisor gets SIGUSR1, the ranks save, and rocket requeues the job (Slurm alone would end it: TIMEOUT is never requeued)"
    )
}

fn time_setting(partition: &Partition) -> Option<Setting> {
    let day = 86_400;
    let (seconds, why) = match partition.max_seconds {
        Some(seconds) if seconds <= day => (seconds, "the most that the partition allows"),
        Some(_) | None => (
            day,
            "shorter jobs find gaps earlier (backfill), and a run goes on after each limit anyway",
        ),
    };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    Some(Setting {
        key: "cluster.time",
        value: format!("\"{hours:02}:{minutes:02}:00\""),
        why: why.into(),
    })
}

fn lost_node(config: &Config) -> String {
    let delay = duration(config.requeue_delay().as_secs());
    match config.seconds("SlurmdTimeout") {
        Some(0) => "Slurm never gives a silent node up (SlurmdTimeout=0): rocket's ranks notice a lost peer and are relaunched".into(),
        Some(seconds) => format!(
            "Slurm gives a silent node up after {} (SlurmdTimeout) and requeues the job, which starts again on other nodes after {delay} at the earliest",
            duration(seconds)
        ),
        None => "Slurm gives a silent node up after a while and requeues the job".into(),
    }
}
