//! Words of Slurm's own: options that have no key, mail, and what is secret by its name.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Environment variables that are taken along as secrets where they are set, unless
/// `cluster.secrets` says which.
pub const DEFAULT_SECRETS: [&str; 5] = [
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "HF_TOKEN",
];

/// Whether a variable of this name holds something that may not be written down.
pub(crate) fn is_secret(name: &str) -> bool {
    let endings = ["_API_KEY", "_TOKEN", "_PASSWORD", "_SECRET", "_SECRET_KEY"];
    DEFAULT_SECRETS.contains(&name) || endings.iter().any(|ending| name.ends_with(ending))
}

/// What mail is sent about (`--mail-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "each is Slurm's word")]
pub enum MailType {
    None,
    Begin,
    End,
    Fail,
    Requeue,
    All,
    InvalidDepend,
    TimeLimit,
    #[serde(rename = "TIME_LIMIT_90")]
    TimeLimit90,
    #[serde(rename = "TIME_LIMIT_80")]
    TimeLimit80,
    #[serde(rename = "TIME_LIMIT_50")]
    TimeLimit50,
}

impl MailType {
    /// As Slurm reads it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Begin => "BEGIN",
            Self::End => "END",
            Self::Fail => "FAIL",
            Self::Requeue => "REQUEUE",
            Self::All => "ALL",
            Self::InvalidDepend => "INVALID_DEPEND",
            Self::TimeLimit => "TIME_LIMIT",
            Self::TimeLimit90 => "TIME_LIMIT_90",
            Self::TimeLimit80 => "TIME_LIMIT_80",
            Self::TimeLimit50 => "TIME_LIMIT_50",
        }
    }
}

/// What an option of `cluster.extra` or `cluster.srun_extra` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// Nothing: `exclusive: true`.
    Alone,
    /// A value: `gpu-freq: high`.
    Value(String),
}

impl Flag {
    /// The whole option: `--exclusive`, `--gpu-freq=high`.
    #[must_use]
    pub fn option(&self, name: &str) -> String {
        match self {
            Self::Alone => format!("--{name}"),
            Self::Value(value) => format!("--{name}={value}"),
        }
    }
}

impl Serialize for Flag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Alone => serializer.serialize_bool(true),
            Self::Value(value) => serializer.serialize_str(value),
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;

        impl Visitor<'_> for AnyScalar {
            type Value = Flag;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the value of an option, or true for an option without one")
            }

            fn visit_bool<E: Error>(self, alone: bool) -> Result<Flag, E> {
                if alone {
                    return Ok(Flag::Alone);
                }
                Err(E::custom(
                    "is false; leave an option that is not wanted out",
                ))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Flag, E> {
                match text {
                    "true" => self.visit_bool(true),
                    "false" => self.visit_bool(false),
                    _ => Ok(Flag::Value(text.to_owned())),
                }
            }
        }

        // As a text, so that `1.50` stays what was written.
        deserializer.deserialize_str(AnyScalar)
    }
}

/// Options of `sbatch` that are keys of `cluster`, or parts of one.
const SBATCH_KEYS: [(&str, &str); 21] = [
    ("account", "account"),
    ("comment", "comment"),
    ("constraint", "constraint"),
    ("cpus-per-gpu", "cpus_per_task"),
    ("cpus-per-task", "cpus_per_task"),
    ("dependency", "dependency"),
    ("exclude", "exclude"),
    ("gpus", "gpus_per_node"),
    ("gpus-per-node", "gpus_per_node"),
    ("gpus-per-socket", "gpus_per_node"),
    ("gpus-per-task", "gpus_per_node"),
    ("mail-type", "mail_type"),
    ("mail-user", "mail_user"),
    ("mem", "mem"),
    ("nodes", "nodes"),
    ("no-requeue", "requeue"),
    ("ntasks", "tasks_per_node"),
    ("ntasks-per-node", "tasks_per_node"),
    ("partition", "partition"),
    ("qos", "qos"),
    ("requeue", "requeue"),
];

/// More of them: [`SBATCH_KEYS`] goes on.
const SBATCH_MORE_KEYS: [(&str, &str); 4] = [
    ("reservation", "reservation"),
    ("time", "time"),
    ("export", "env"),
    ("export-file", "env"),
];

/// Options of `sbatch` that a supervised run rests on.
const SBATCH_OWN: [&str; 21] = [
    "array",
    "chdir",
    "clusters",
    "error",
    "get-user-env",
    "gid",
    "help",
    "ignore-pbs",
    "input",
    "job-name",
    "open-mode",
    "output",
    "parsable",
    "quiet",
    "signal",
    "test-only",
    "uid",
    "usage",
    "version",
    "wait",
    "wrap",
];

/// Options of `srun` that a supervised run rests on.
const SRUN_OWN: [&str; 37] = [
    "chdir",
    "cpus-per-gpu",
    "cpus-per-task",
    "error",
    "exclude",
    "export",
    "gpus",
    "gpus-per-node",
    "gpus-per-socket",
    "gpus-per-task",
    "het-group",
    "help",
    "immediate",
    "input",
    "jobid",
    "job-name",
    "kill-on-bad-exit",
    "label",
    "multi-prog",
    "no-allocate",
    "nodefile",
    "nodelist",
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "open-mode",
    "output",
    "overlap",
    "pty",
    "quit-on-interrupt",
    "relative",
    "signal",
    "threads",
    "time",
    "usage",
    "version",
    "wait",
];

/// Why an option may not stand in `cluster.extra` (`srun`: in `cluster.srun_extra`); what follows its
/// name. An option that can be shortened to this name counts: Slurm reads abbreviations.
pub(crate) fn refusal(name: &str, value: &Flag, srun: bool) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        let dashed = name.trim_start_matches('-').replace('_', "-");
        let meant = if dashed != name && !dashed.is_empty() && dashed.chars().all(plain) {
            format!("; did you mean '{dashed}'?")
        } else {
            String::new()
        };
        return Some(format!(
            "is not the long name of an option, without its dashes{meant}"
        ));
    }
    let fits = |option: &str| option.starts_with(name);
    if srun {
        let option = SRUN_OWN.into_iter().find(|option| fits(option))?;
        return Some(abbreviated(name, option, "is set by rocket itself"));
    }
    let keys = SBATCH_KEYS.iter().chain(&SBATCH_MORE_KEYS);
    if let Some((option, key)) = keys.into_iter().find(|(option, _)| fits(option)) {
        let said = format!("is what 'cluster.{key}' says; use that");
        return Some(abbreviated(name, option, &said));
    }
    if let Some(option) = SBATCH_OWN.into_iter().find(|option| fits(option)) {
        return Some(abbreviated(name, option, "is set by rocket itself"));
    }
    match value {
        Flag::Value(value) if name == "gres" && value.contains("gpu") => {
            Some("asks for GPUs, which is what 'cluster.gpus_per_node' says; use that".to_owned())
        }
        _ => None,
    }
}

fn abbreviated(name: &str, option: &str, said: &str) -> String {
    if name == option {
        said.to_owned()
    } else {
        format!("is read by Slurm as '{option}', which {said}")
    }
}
