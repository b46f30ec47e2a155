//! Partitions and their nodes: `scontrol show partition -o` and `sinfo`, read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::seconds;

/// What Slurm does to a job that is preempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PreemptMode {
    /// It is not preempted.
    Off,
    /// It is put back into the queue.
    Requeue,
    /// It is ended.
    Cancel,
    /// It is stopped where it is, and goes on later.
    Suspend,
    /// It is what this version of `rocket` does not know.
    Other,
}

impl PreemptMode {
    /// Reads `REQUEUE`, `GANG,SUSPEND` and the like. GANG is time slicing and WITHIN a scope: neither
    /// says what happens to the job.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::Off;
        for word in text.split(',').map(|word| word.trim().to_uppercase()) {
            found = match word.as_str() {
                "OFF" | "GANG" | "WITHIN" | "" => continue,
                "REQUEUE" => Self::Requeue,
                "CANCEL" => Self::Cancel,
                "SUSPEND" => Self::Suspend,
                _ => Self::Other,
            };
        }
        found
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Jobs that name none go here.
    pub default: bool,
    /// `UP`, `DOWN`, `DRAIN`, `INACTIVE`.
    pub state: String,
    /// What happens to its jobs when they are preempted.
    pub preempt_mode: PreemptMode,
    /// Jobs of the same partition may preempt each other.
    pub within: bool,
    /// Warning before a preemption.
    pub grace_seconds: u64,
    /// Higher ones preempt lower ones.
    pub priority_tier: u64,
    /// Longest time limit; unlimited if absent.
    pub max_seconds: Option<u64>,
    /// Time limit of jobs that name none.
    pub default_seconds: Option<u64>,
    /// Most nodes of a job; unlimited if absent.
    pub max_nodes: Option<u64>,
    /// Its nodes.
    pub nodes: u64,
    /// The list of its nodes.
    pub node_list: String,
    /// Who may use it, where that is not everybody: `AllowAccounts=a,b` and so on.
    pub restrictions: Vec<String>,
    /// Seconds that jobs may run past their limit.
    pub over_seconds: u64,
}

impl Partition {
    /// Reads every line of `scontrol show partition -o`.
    #[must_use]
    pub fn parse_all(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = line
            .split_whitespace()
            .filter_map(|field| field.split_once('='))
            .collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default();
        let number = |name: &str| text(name).parse().ok();
        let limited = |name: &&str| {
            let value = text(name);
            !matches!(value, "" | "ALL" | "NONE" | "N/A" | "(null)")
        };
        Some(Self {
            name: (*fields.get("PartitionName")?).to_owned(),
            default: text("Default") == "YES",
            state: text("State").to_owned(),
            preempt_mode: PreemptMode::parse(text("PreemptMode")),
            within: text("PreemptMode").contains("WITHIN"),
            grace_seconds: number("GraceTime").unwrap_or_default(),
            priority_tier: number("PriorityTier").unwrap_or(1),
            max_seconds: seconds(text("MaxTime")),
            default_seconds: seconds(text("DefaultTime")),
            max_nodes: number("MaxNodes"),
            nodes: number("TotalNodes").unwrap_or_default(),
            node_list: text("Nodes").to_owned(),
            restrictions: [
                "AllowGroups",
                "AllowAccounts",
                "DenyAccounts",
                "AllowQos",
                "DenyQos",
                "AllocNodes",
                "QoS",
            ]
            .into_iter()
            .filter(limited)
            .map(|name| format!("{name}={}", text(name)))
            .chain(
                [
                    ("RootOnly", "only root may use it"),
                    ("ReqResv", "only within a reservation"),
                ]
                .into_iter()
                .filter(|(name, _)| text(name) == "YES")
                .map(|(_, words)| words.to_owned()),
            )
            .collect(),
            // Minutes here, unlike everywhere else.
            over_seconds: number("OverTimeLimit").map_or(0, |minutes: u64| minutes * 60),
        })
    }

    /// Whether it takes jobs and starts them.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == "UP"
    }
}

/// Nodes of a partition that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeGroup {
    /// The partition.
    pub partition: String,
    /// How many.
    pub nodes: u64,
    /// `idle`, `mixed`, `down*` ...
    pub state: String,
    /// CPUs of a node.
    pub cpus: u64,
    /// Memory of a node in MiB.
    pub memory_mib: u64,
    /// GPUs of a node.
    pub gpus: u64,
    /// Kinds of GPUs, where the cluster names them.
    pub gpu_types: Vec<String>,
    /// Features that `cluster.constraint` may ask for.
    pub features: Vec<String>,
}

impl NodeGroup {
    /// The format for `sinfo -h -o` whose output [`Self::parse_all`] reads.
    pub const FORMAT: &str = "%R|%D|%T|%c|%m|%G|%f";

    /// Reads what `sinfo -h -o` [`Self::FORMAT`] prints.
    #[must_use]
    pub fn parse_all(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('|').collect();
        let &[partition, nodes, state, cpus, memory, gres, features] = &fields[..] else {
            return None;
        };
        // A number of nodes that differ is printed with a plus.
        let number = |text: &str| text.trim_end_matches('+').parse().unwrap_or_default();
        let (gpus, gpu_types) = gpus(gres);
        Some(Self {
            partition: partition.to_owned(),
            nodes: number(nodes),
            state: state.to_owned(),
            cpus: number(cpus),
            memory_mib: number(memory),
            gpus,
            gpu_types,
            features: features
                .split(',')
                .filter(|feature| !matches!(*feature, "" | "(null)"))
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether jobs can run there now or soon.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let state = self
            .state
            .trim_end_matches(['*', '$', '~', '#', '!', '%', '@', '^', '-', '+']);
        matches!(
            state,
            "idle" | "mixed" | "allocated" | "completing" | "planned" | "reserved"
        ) && !self.state.contains('*')
    }
}

/// GPUs of `gpu:8`, `gpu:a100:4(S:0-1),gpu:v100:2`, `gpu:8(IDX:0-7),tmp:1`.
fn gpus(gres: &str) -> (u64, Vec<String>) {
    let mut count = 0;
    let mut types = Vec::new();
    let mut plain = String::new();
    let mut depth = 0_u32;
    // What is in brackets may hold commas.
    for c in gres.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    for item in plain.split(',') {
        let parts: Vec<&str> = item.trim().split(':').collect();
        match parts[..] {
            ["gpu", number] => count += number.parse().unwrap_or(1),
            ["gpu", kind, number] => {
                count += number.parse().unwrap_or(1);
                types.push(kind.to_owned());
            }
            ["gpu"] => count += 1,
            _ => {}
        }
    }
    (count, types)
}
