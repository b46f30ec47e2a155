//! The job that a supervisor runs in, as its environment and Slurm's programs tell.

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::{Client, Failure};

/// The allocation of a batch step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Its job.
    pub job: String,
    /// How often Slurm had started the job again when this process began.
    pub restarts: u32,
    /// Its nodes, in the order of the ranks.
    pub nodes: Vec<String>,
    /// The cluster's name.
    pub cluster: String,
}

impl Allocation {
    /// From the environment of a batch step.
    ///
    /// # Errors
    /// This process runs in none.
    pub fn from_env(client: &Client) -> Result<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let outside = || {
            Error::new(
                ExitKind::Usage,
                "this run belongs to Slurm, and this process runs in no job of it",
            )
            .hint("hand it to Slurm again with 'rocket resume'")
        };
        let job = var("SLURM_JOB_ID").ok_or_else(outside)?;
        let list = var("SLURM_JOB_NODELIST").ok_or_else(outside)?;
        Ok(Self {
            job,
            // Not set at all before the first restart.
            restarts: var("SLURM_RESTART_COUNT")
                .and_then(|count| count.parse().ok())
                .unwrap_or_default(),
            nodes: expand(client, &list)?,
            cluster: var("SLURM_CLUSTER_NAME").unwrap_or_default(),
        })
    }
}

/// The nodes of a list such as `n[1-3],m7`; Slurm's own reading of it, which asks no controller.
///
/// # Errors
/// `scontrol` is missing or does not understand the list.
pub fn expand(client: &Client, list: &str) -> Result<Vec<String>, Failure> {
    let text = client.run("scontrol", ["show", "hostnames", list])?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// A node as `scontrol -o show node` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The address by which Slurm itself reaches it.
    pub address: String,
    /// Its state with flags, `ALLOCATED+DRAIN*`.
    pub state: String,
}

impl Node {
    /// Asks for nodes, by names or lists.
    ///
    /// # Errors
    /// The controller does not answer.
    pub fn ask(client: &Client, nodes: &[String]) -> Result<Vec<Self>, Failure> {
        let text = client.run("scontrol", ["-o", "show", "node", &nodes.join(",")])?;
        Ok(text.lines().filter_map(Self::parse).collect())
    }

    fn parse(line: &str) -> Option<Self> {
        let field = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            name: field("NodeName")?.to_owned(),
            address: field("NodeAddr")?.to_owned(),
            state: field("State")?.to_owned(),
        })
    }

    /// Whether ranks cannot be trusted to it: it is down, failing, or does not answer (`*`). One that
    /// is only being drained still works.
    #[must_use]
    pub fn is_sick(&self) -> bool {
        // The star follows the base state, and older versions write flags behind it: `DOWN*+DRAIN`.
        self.state.split('+').any(|flag| {
            flag.ends_with('*')
                || matches!(
                    flag,
                    "DOWN" | "FAIL" | "FAILING" | "NOT_RESPONDING" | "ERROR"
                )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sick_nodes_are_told_from_sound_ones() {
        let node = |state: &str| {
            Node::parse(&format!(
                "NodeName=n1 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=h State={state} ThreadsPerCore=1"
            ))
            .unwrap()
        };
        for sound in [
            "IDLE",
            "ALLOCATED",
            "MIXED",
            "ALLOCATED+DRAIN",
            "COMPLETING",
        ] {
            assert!(!node(sound).is_sick(), "{sound}");
        }
        for sick in [
            "DOWN",
            "DOWN*",
            "ALLOCATED*",
            "IDLE+NOT_RESPONDING",
            "FAIL",
            "MIXED+FAILING",
            "DOWN*+DRAIN",
            "DOWN*+CLOUD",
            "ALLOCATED*+CLOUD",
            "ALLOCATED+DRAIN*",
        ] {
            assert!(node(sick).is_sick(), "{sick}");
        }
        assert_eq!(node("IDLE").address, "127.0.0.1");
    }
}
