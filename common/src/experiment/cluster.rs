//! `cluster:`, where and how the ranks run. Nothing here decides numbers but the count of ranks. What
//! Slurm has a long option for has that option's name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limits::{Memory, TimeLimit};
use super::options::{Flag, MailType};

/// Who starts the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Slurm where there is `sbatch`, local elsewhere.
    Auto,
    /// Child processes on this machine.
    Local,
    /// sbatch and srun.
    Slurm,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// CUDA where there is one, else CPU.
    Auto,
    /// CPU and Gloo.
    Cpu,
    /// CUDA and NCCL.
    Cuda,
}

/// `cluster:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Who starts the ranks.
    pub backend: BackendKind,
    /// The profile in the settings whose defaults are filled in; the one that matches if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Nodes.
    pub nodes: u32,
    /// GPUs of a node.
    pub gpus_per_node: u32,
    /// Ranks of a node; one per GPU if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_per_node: Option<u32>,
    /// CPUs of a rank.
    pub cpus_per_task: u32,
    /// Memory of a node, `400G`; `0` for all of it. The partition's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<Memory>,
    /// Where tensors live.
    pub device: DeviceKind,
    /// Time limit of a job, as Slurm writes it; the partition's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeLimit>,
    /// Partition, or several with commas; an alias of the profile is its partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Account that is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Quality of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// Features that nodes must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// V100s of 32 GB: the feature `volta32gb`, beside what `constraint` says.
    #[serde(skip_serializing_if = "is_false")]
    pub use_volta32: bool,
    /// Reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Comment of the job; rocket's token follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Nodes that are not wanted: names or lists such as `n[1-3]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Jobs to wait for, such as `afterok:123`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependency: Option<String>,
    /// Who gets mail; the submitting user if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail_user: Option<String>,
    /// What mail is sent about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mail_type: Vec<MailType>,
    /// Lines of shell that run on the first node before anything else (modules, paths).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Environment variables of the ranks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values are taken at submit and shown nowhere; if absent, those of
    /// [`DEFAULT_SECRETS`](super::DEFAULT_SECRETS) that are set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Any other long option of `sbatch`, without its dashes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Flag>,
    /// Any other long option of the `srun` that starts the ranks, without its dashes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub srun_extra: BTreeMap<String, Flag>,
    /// Slurm may start the job again by itself.
    pub requeue: bool,
    /// A small job waits for the end of this one and does what `rocket heal` would.
    pub successor: bool,
    /// Relaunches after crashes before the run is given up; progress refills them.
    pub max_crashes: u32,
    /// Restarts after lost nodes before the run is given up; progress refills them.
    pub max_node_failures: u32,
    /// Time limits reached one after the other without a step of progress before the run is given up.
    pub max_idle_time_limits: u32,
    /// Seconds ranks are given to reach a step boundary and save after a stop request.
    pub stop_grace_seconds: u64,
    /// Minutes without a step after which ranks count as hung; derived from
    /// `train.collective_timeout_minutes` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang_minutes: Option<f64>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            backend: BackendKind::Auto,
            profile: None,
            nodes: 4,
            gpus_per_node: 8,
            tasks_per_node: None,
            cpus_per_task: 10,
            mem: None,
            device: DeviceKind::Auto,
            time: None,
            partition: None,
            account: None,
            qos: None,
            constraint: None,
            use_volta32: false,
            reservation: None,
            comment: None,
            exclude: Vec::new(),
            dependency: None,
            mail_user: None,
            mail_type: Vec::new(),
            setup: Vec::new(),
            env: BTreeMap::new(),
            secrets: None,
            extra: BTreeMap::new(),
            srun_extra: BTreeMap::new(),
            requeue: true,
            successor: false,
            max_crashes: 3,
            max_node_failures: 10,
            max_idle_time_limits: 3,
            stop_grace_seconds: 300,
            hang_minutes: None,
        }
    }
}

/// The feature that `use_volta32` asks for.
pub(crate) const VOLTA32: &str = "volta32gb";

/// `--signal` takes 16 bits.
const MOST_SIGNAL_SECONDS: u64 = 65_535;

impl Cluster {
    /// Number of ranks, W.
    #[must_use]
    pub fn world_size(&self) -> u32 {
        self.nodes.saturating_mul(self.ranks_per_node())
    }

    /// Number of ranks of a node.
    #[must_use]
    pub fn ranks_per_node(&self) -> u32 {
        self.tasks_per_node.unwrap_or(self.gpus_per_node)
    }

    /// Seconds before the time limit at which the supervisor is told (`--signal`): the grace of a
    /// stop, and a margin to hand the job back, since Slurm counts in steps of up to a minute.
    #[must_use]
    pub fn signal_seconds(&self) -> u64 {
        let limit = self.time.and_then(TimeLimit::granted_seconds);
        let margin = limit.map_or(60, |limit| (limit / 10).clamp(5, 60));
        self.stop_grace_seconds
            .saturating_add(margin)
            .min(MOST_SIGNAL_SECONDS)
    }

    /// `constraint` and `use_volta32` together, as Slurm reads them.
    #[must_use]
    pub fn features(&self) -> Option<String> {
        match (&self.constraint, self.use_volta32) {
            (None, false) => None,
            (None, true) => Some(VOLTA32.to_owned()),
            (Some(constraint), false) => Some(constraint.clone()),
            // `&` binds no tighter than `|`: Slurm reads from left to right.
            (Some(constraint), true) if constraint.contains('|') => {
                Some(format!("({constraint})&{VOLTA32}"))
            }
            (Some(constraint), true) => Some(format!("{constraint}&{VOLTA32}")),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
