//! Everything that was found out, for people and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::cluster::{Cluster, PartitionView};
use super::finding::{Finding, Level, duration};
use super::job::JobView;
use super::local::Local;
use crate::output::Report;

/// What `rocket doctor` found out.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// The cluster; absent where there is no Slurm.
    pub slurm: Option<Cluster>,
    /// This machine.
    pub local: Local,
    /// What a job found out on nodes, if one was asked for.
    pub job: Option<JobView>,
    /// A line for cron, where Slurm does not bring every run back.
    pub cron: Option<String>,
    /// Whether a run can work here.
    pub works: bool,
}

impl Examination {
    /// Puts the parts together.
    #[must_use]
    pub fn new(slurm: Option<Cluster>, local: Local, job: Option<JobView>, cron: String) -> Self {
        let mut this = Self {
            cron: slurm.is_some().then_some(cron),
            slurm,
            local,
            job,
            works: true,
        };
        let works = this
            .findings()
            .all(|finding| finding.level < Level::Problem);
        this.works = works;
        this
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        let of_slurm = self.slurm.iter().flat_map(|cluster| {
            let partitions = cluster.partitions.iter();
            cluster
                .findings
                .iter()
                .chain(partitions.flat_map(|view| &view.contract.findings))
        });
        let of_job = self.job.iter().flat_map(|job| &job.findings);
        of_slurm.chain(&self.local.findings).chain(of_job)
    }

    fn verdict(&self) -> String {
        let count = |level| {
            self.findings()
                .filter(|finding| finding.level == level)
                .count()
        };
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        let place = match &self.slurm {
            Some(cluster) if cluster.controller_up => "a run works here",
            Some(_) => "a run would work here once Slurm's controller answers",
            None => "a run works here, on this machine alone (there is no Slurm)",
        };
        match (problems, warnings) {
            (0, 0) => place.to_owned(),
            (0, warnings) => format!("{place}; {}", plural(warnings, "warning")),
            (problems, _) => format!("a run does not work here: {}", plural(problems, "problem")),
        }
    }
}

impl Report for Examination {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.slurm {
            None => writeln!(
                out,
                "slurm\n  there is no sbatch on this machine: runs go to the local backend\n"
            )?,
            Some(cluster) => {
                writeln!(
                    out,
                    "slurm\n  version {}, cluster '{}', controller {}",
                    cluster.version.as_deref().unwrap_or("unknown"),
                    cluster.name.as_deref().unwrap_or("unknown"),
                    if cluster.controller_up {
                        "up"
                    } else {
                        "silent"
                    }
                )?;
                findings(out, &cluster.findings)?;
                writeln!(out)?;
                for view in &cluster.partitions {
                    partition(out, view)?;
                    writeln!(out)?;
                }
                limits(out, cluster)?;
            }
        }
        writeln!(out, "this machine, {}", self.local.host)?;
        findings(out, &self.local.findings)?;
        writeln!(out)?;
        if let Some(job) = &self.job {
            match (&job.job, job.started_after_s) {
                (Some(id), Some(seconds)) => writeln!(
                    out,
                    "nodes, by job {id}, which began {seconds:.1} s after its submission"
                )?,
                (Some(id), None) => writeln!(out, "nodes, by job {id}")?,
                _ => writeln!(out, "nodes")?,
            }
            findings(out, &job.findings)?;
            writeln!(out)?;
        }
        if let Some(cron) = &self.cron {
            writeln!(
                out,
                "for runs that Slurm does not bring back, a line for 'crontab -e':\n  {cron}\n"
            )?;
        }
        writeln!(out, "{}", self.verdict())
    }
}

fn findings(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        writeln!(out, "  {:<8} {}", finding.level.word(), finding.words)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "           -> {advice}")?;
        }
    }
    Ok(())
}

fn partition(out: &mut dyn Write, view: &PartitionView) -> io::Result<()> {
    let PartitionView {
        partition,
        groups,
        contract,
    } = view;
    let default = if partition.default { " (default)" } else { "" };
    writeln!(
        out,
        "partition {}{default}, {}",
        partition.name,
        partition.state.to_lowercase()
    )?;
    for group in groups {
        let gpus = match (group.gpus, &group.gpu_types[..]) {
            (0, _) => "no GPUs".to_owned(),
            (gpus, []) => format!("{gpus} GPUs"),
            (gpus, kinds) => format!("{gpus} GPUs ({})", kinds.join(", ")),
        };
        let features = if group.features.is_empty() {
            String::new()
        } else {
            format!(", features {}", group.features.join(" "))
        };
        writeln!(
            out,
            "  nodes         {} {}: {gpus}, {} CPUs, {:.0} GiB{features}",
            group.nodes,
            group.state,
            group.cpus,
            group.memory_mib as f64 / 1024.0
        )?;
    }
    for restriction in &partition.restrictions {
        writeln!(out, "  for           {restriction}")?;
    }
    writeln!(out, "  preempted by  {}", contract.preempted_by)?;
    if let Some(warning) = &contract.warning {
        writeln!(out, "  warning       {warning}")?;
    }
    if let Some(then) = &contract.then {
        writeln!(out, "  then          {then}")?;
    }
    writeln!(out, "  time limit    {}", contract.time_limit)?;
    writeln!(out, "  lost node     {}", contract.lost_node)?;
    for setting in &contract.settings {
        writeln!(
            out,
            "  set           {}: {}   # {}",
            setting.key, setting.value, setting.why
        )?;
    }
    findings(out, &contract.findings)
}

fn limits(out: &mut dyn Write, cluster: &Cluster) -> io::Result<()> {
    if cluster.associations.is_empty() && cluster.qos.is_empty() {
        return Ok(());
    }
    writeln!(out, "your limits")?;
    for association in &cluster.associations {
        let partition = match association.partition.as_str() {
            "" => String::new(),
            name => format!(" in partition {name}"),
        };
        let limits = match &association.limits[..] {
            [] => "no limits".to_owned(),
            limits => limits.join(" "),
        };
        writeln!(
            out,
            "  account {}{partition}: qos {}; {limits}",
            association.account, association.qos
        )?;
    }
    for qos in &cluster.qos {
        let wall = qos
            .max_seconds
            .map_or(String::new(), |s| format!(", {} at most", duration(s)));
        let most = match qos.max_per_user.as_str() {
            "" => String::new(),
            most => format!(", {most} a user"),
        };
        let preempts = match &qos.preempts[..] {
            [] => String::new(),
            names => format!(", preempts {}", names.join(" ")),
        };
        writeln!(out, "  qos {}{wall}{most}{preempts}", qos.name)?;
    }
    writeln!(out)
}
