//! The cluster: asked of Slurm's own programs, each of which may be missing or silent.

use serde::Serialize;

use super::config::{self, Config};
use super::contract::{Contract, contract};
use super::finding::{Finding, duration};
use super::partition::{NodeGroup, Partition};
use super::qos::{Association, Qos};
use crate::slurm::{Client, Failure, FailureKind, Slurm};

/// The oldest version whose behaviour was looked at.
const OLDEST: (u32, u32) = (20, 11);

/// What is known of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: Option<String>,
    /// Version of Slurm.
    pub version: Option<String>,
    /// Whether the controller answers.
    pub controller_up: bool,
    /// Partitions, and what each does to a run.
    pub partitions: Vec<PartitionView>,
    /// What the user may use, where a database keeps it.
    pub associations: Vec<Association>,
    /// Qualities of service, where a database keeps them.
    pub qos: Vec<Qos>,
    /// What holds for the whole cluster.
    pub findings: Vec<Finding>,
}

/// A partition and what it does to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionView {
    /// As Slurm describes it.
    #[serde(flatten)]
    pub partition: Partition,
    /// Its nodes.
    pub groups: Vec<NodeGroup>,
    /// What it does to a run.
    pub contract: Contract,
}

impl Cluster {
    /// Asks. `None` where there is no Slurm.
    #[must_use]
    pub fn ask(client: &Client) -> Option<Self> {
        if !Slurm::is_here() {
            return None;
        }
        let mut findings = Vec::new();
        let program = client.run("sbatch", ["--version"]).ok();
        let text = match client.run("scontrol", ["show", "config"]) {
            Ok(text) => text,
            Err(failure) => {
                return Some(Self {
                    version: program
                        .as_deref()
                        .and_then(|text| text.split_whitespace().next_back())
                        .map(str::to_owned),
                    findings: vec![unanswered(&failure)],
                    ..Self::default()
                });
            }
        };
        let config = Config::parse(&text);
        let mut ask = |program, arguments: &[&str]| match client.run(program, arguments) {
            Ok(text) => text,
            Err(failure) => {
                findings.push(Finding::warning(format!(
                    "'{program} {}' failed: {}",
                    arguments.join(" "),
                    failure.words
                )));
                String::new()
            }
        };
        let partitions = Partition::parse_all(&ask("scontrol", &["show", "partition", "-o"]));
        let groups = NodeGroup::parse_all(&ask("sinfo", &["-h", "-o", NodeGroup::FORMAT]));
        let (mut qos, mut associations) = (Vec::new(), Vec::new());
        if config.has_accounting() {
            qos = Qos::parse_all(&ask("sacctmgr", &["-nP", "show", "qos", Qos::FORMAT]));
            let user = format!("user={}", super::user());
            associations = Association::parse_all(&ask(
                "sacctmgr",
                &["-nP", "show", "assoc", "where", &user, Association::FORMAT],
            ));
        }
        let mut all = of_config(&config);
        all.extend(program.and_then(|text| mixed_versions(&text, &config)));
        all.append(&mut findings);
        let views = partitions
            .iter()
            .map(|partition| PartitionView {
                groups: groups
                    .iter()
                    .filter(|group| group.partition == partition.name)
                    .cloned()
                    .collect(),
                contract: contract(partition, &partitions, &qos, &config),
                partition: partition.clone(),
            })
            .collect();
        Some(Self {
            name: config.get("ClusterName").map(str::to_owned),
            version: config.version().map(str::to_owned),
            controller_up: true,
            partitions: views,
            associations,
            qos,
            findings: all,
        })
    }

    /// The partition of jobs that name none, or the one that is named.
    #[must_use]
    pub fn partition(&self, name: Option<&str>) -> Option<&PartitionView> {
        self.partitions.iter().find(|view| match name {
            Some(name) => view.partition.name == name,
            None => view.partition.default,
        })
    }
}

fn unanswered(failure: &Failure) -> Finding {
    match failure.kind {
        FailureKind::Unreachable => Finding::warning(format!(
            "Slurm's controller does not answer ({}): what it does to a run cannot be said now; runs that are there go on, and 'rocket status' shows what their events know",
            failure.words
        ))
        .advice("try again when 'scontrol ping' says that it is up"),
        FailureKind::NotInstalled => {
            Finding::problem("'sbatch' is there and 'scontrol' is not: rocket needs both to requeue a run")
        }
        FailureKind::Refused => Finding::problem(format!(
            "Slurm refuses to be asked: {}",
            failure.words
        ))
        .advice("is this a login node of the cluster? SLURM_CONF names its slurm.conf where it is not in its usual place"),
    }
}

fn mixed_versions(program: &str, config: &Config) -> Option<Finding> {
    let (own, controller) = (
        config::version(program)?,
        config::version(config.version()?)?,
    );
    (own != controller).then(|| {
        Finding::note(format!(
            "sbatch here is {}, the controller {}",
            program.trim(),
            config.version().unwrap_or_default()
        ))
    })
}

/// What holds for the whole cluster.
#[must_use]
pub fn of_config(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(version) = config.version().and_then(config::version)
        && version < OLDEST
    {
        findings.push(Finding::warning(format!(
            "Slurm {} is older than {}.{:02}, the oldest that rocket was written for",
            config.version().unwrap_or_default(),
            OLDEST.0,
            OLDEST.1
        )));
    }
    findings.extend(requeueing(config));
    findings.extend(processes(config));
    findings.extend(asking(config));
    findings
}

fn requeueing(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let delay = config.requeue_delay().as_secs();
    let text = format!(
        "a requeued job starts again after {} at the earliest (AuthInfo cred_expire)",
        duration(delay)
    );
    findings.push(if delay >= 60 {
        Finding::warning(text).advice(
            "each preemption costs that long; a crashed rank is relaunched within the allocation and does not wait",
        )
    } else {
        Finding::ok(text)
    });
    // By default 5; the name has moved over the versions.
    let most = config
        .number("MaxBatchRequeue")
        .or_else(|| {
            config
                .parameter("SchedulerParameters", "max_batch_requeue")?
                .parse()
                .ok()
        })
        .unwrap_or(5);
    findings.push(Finding::note(format!(
        "after {most} requeues by Slurm itself (lost node, failed launch; preemption on newer versions) it holds the job as JobHoldMaxRequeue; rocket's own requeues do not count"
    )));
    match config.is_on("JobRequeue") {
        Some(false) => findings.push(Finding::note(
            "jobs are requeued only if they ask for it (JobRequeue=0); those of rocket do (--requeue)",
        )),
        Some(true) => findings.push(Finding::ok("jobs may be requeued (JobRequeue=1)")),
        None => {}
    }
    if let Some(codes) = config.get("RequeueExitHold") {
        findings.push(
            Finding::warning(format!(
                "jobs that end with exit code {codes} are held (RequeueExitHold)"
            ))
            .advice("a run that failed may show as held: 'rocket show' says why it failed"),
        );
    }
    findings
}

fn processes(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match config.get("ProctrackType") {
        Some("proctrack/cgroup") => findings.push(Finding::ok(
            "processes are tracked by cgroup: nothing outlives its job on a node that is up",
        )),
        Some(kind) => findings.push(Finding::note(format!(
            "processes are tracked by {}: some may outlive their job; rocket ends those of its earlier attempts",
            kind.trim_start_matches("proctrack/")
        ))),
        None => {}
    }
    if let Some(plugins) = config.get("TaskPlugin")
        && !plugins.contains("cgroup")
        && !plugins.contains("affinity")
    {
        findings.push(Finding::note(format!(
            "ranks are not bound to CPUs or devices (TaskPlugin={plugins}): what they see is the whole node's"
        )));
    }
    if let Some(wait) = config.seconds("UnkillableStepTimeout").filter(|s| *s > 0) {
        findings.push(Finding::note(format!(
            "a node whose processes cannot be killed within {} is drained (UnkillableStepTimeout)",
            duration(wait)
        )));
    }
    if let Some(start) = config.seconds("BatchStartTimeout").filter(|s| *s > 0) {
        findings.push(Finding::note(format!(
            "a batch script that does not start within {} is requeued (BatchStartTimeout)",
            duration(start)
        )));
    }
    findings
}

fn asking(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(if config.has_accounting() {
        Finding::ok("a database keeps accounts: sacct remembers jobs that are gone")
    } else {
        Finding::note("no database keeps accounts: sacct knows nothing, and rocket's events are the only history")
    });
    if let Some(age) = config.seconds("MinJobAge") {
        findings.push(Finding::note(format!(
            "Slurm forgets a job {} after its end (MinJobAge)",
            duration(age)
        )));
    }
    if config
        .parameter("SlurmctldParameters", "rl_enable")
        .is_some()
    {
        let value = |name, default: &str| {
            config
                .parameter("SlurmctldParameters", name)
                .unwrap_or(default)
                .to_owned()
        };
        findings.push(Finding::note(format!(
            "requests are limited to {} at once and {} a second for each user (rl_enable): many submissions at once are slowed down",
            value("rl_bucket_size", "30"),
            value("rl_refill_rate", "2"),
        )));
    }
    if let (Some(jobs), Some(array)) = (config.number("MaxJobCount"), config.number("MaxArraySize"))
    {
        findings.push(Finding::note(format!(
            "at most {jobs} jobs of all users at once (MaxJobCount), and arrays below {array} (MaxArraySize)"
        )));
    }
    if let Some(plugins) = config.get("JobSubmitPlugins") {
        findings.push(
            Finding::note(format!(
                "the site changes or refuses jobs as they are submitted (JobSubmitPlugins={plugins})"
            ))
            .advice("compare 'rocket submit --dry-run' with 'scontrol show job' once"),
        );
    }
    findings
}
