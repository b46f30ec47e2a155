//! Accounts and qualities of service, where a database keeps them: `sacctmgr -nP show ...`, read.

use serde::Serialize;

use super::config::seconds;
use super::partition::PreemptMode;

/// A quality of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Qos {
    /// Its name.
    pub name: String,
    /// Those that it may preempt.
    pub preempts: Vec<String>,
    /// What happens to its own jobs when they are preempted; absent: what the cluster says.
    pub preempt_mode: Option<PreemptMode>,
    /// Warning before a preemption.
    pub grace_seconds: u64,
    /// Longest time limit.
    pub max_seconds: Option<u64>,
    /// Most of each resource for a user's jobs together, as in `gres/gpu=8`.
    pub max_per_user: String,
}

impl Qos {
    /// Columns that [`Self::parse_all`] reads.
    pub const FORMAT: &str = "format=Name,Preempt,PreemptMode,GraceTime,MaxWall,MaxTRESPU";

    /// Reads what `sacctmgr -nP show qos` [`Self::FORMAT`] prints.
    #[must_use]
    pub fn parse_all(text: &str) -> Vec<Self> {
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split('|').collect();
                let &[name, preempts, mode, grace, wall, per_user] = &fields[..] else {
                    return None;
                };
                Some(Self {
                    name: name.to_owned(),
                    preempts: preempts
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    preempt_mode: match mode {
                        "" | "cluster" | "CLUSTER" => None,
                        mode => Some(PreemptMode::parse(mode)),
                    },
                    grace_seconds: seconds(grace).unwrap_or_default(),
                    max_seconds: seconds(wall),
                    max_per_user: per_user.to_owned(),
                })
            })
            .collect()
    }
}

/// What a user may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Association {
    /// The account.
    pub account: String,
    /// The partition that it is for; empty for all.
    pub partition: String,
    /// Qualities of service that may be chosen.
    pub qos: String,
    /// Limits that are set, as in `MaxJobs=4`.
    pub limits: Vec<String>,
}

impl Association {
    /// Columns that [`Self::parse_all`] reads.
    pub const FORMAT: &str =
        "format=Account,Partition,QOS,GrpTRES,GrpTRESMins,MaxTRES,MaxJobs,MaxSubmitJobs,MaxWall";

    /// Reads what `sacctmgr -nP show assoc` [`Self::FORMAT`] prints.
    #[must_use]
    pub fn parse_all(text: &str) -> Vec<Self> {
        const LIMITS: [&str; 6] = [
            "GrpTRES",
            "GrpTRESMins",
            "MaxTRES",
            "MaxJobs",
            "MaxSubmitJobs",
            "MaxWall",
        ];
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split('|').collect();
                let (&[account, partition, qos], limits) = (fields.get(..3)?, fields.get(3..)?)
                else {
                    return None;
                };
                Some(Self {
                    account: account.to_owned(),
                    partition: partition.to_owned(),
                    qos: qos.to_owned(),
                    limits: LIMITS
                        .iter()
                        .zip(limits)
                        .filter(|(_, value)| !value.is_empty())
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect(),
                })
            })
            .collect()
    }
}
