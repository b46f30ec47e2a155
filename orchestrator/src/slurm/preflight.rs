//! What Slurm would take and never start: said before anything is submitted.

use std::time::Duration;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Cluster;

use super::Client;

/// A controller that is slow to answer is not waited for: `sbatch` will be.
const ASKING: Duration = Duration::from_secs(2);

/// Refuses a run that is larger than its partition: most clusters queue such a job, and leave it
/// there for ever. Passes where the controller does not answer.
///
/// # Errors
/// Kind [`ExitKind::Usage`]: no partition of the experiment has so many nodes.
pub(crate) fn check(cluster: &Cluster) -> Result<()> {
    let Ok(text) = Client::new(ASKING).run("scontrol", ["-o", "show", "partition"]) else {
        return Ok(());
    };
    judge(cluster, &text)
}

fn judge(cluster: &Cluster, text: &str) -> Result<()> {
    let wanted: Option<Vec<&str>> = cluster
        .partition
        .as_deref()
        .map(|names| names.split(',').map(str::trim).collect());
    // An unknown partition is sbatch's to refuse.
    let largest = text
        .lines()
        .filter_map(Partition::parse)
        .filter(|partition| match &wanted {
            Some(names) => names.contains(&partition.name),
            None => partition.default,
        })
        .max_by_key(|partition| partition.nodes);
    match largest {
        Some(Partition { name, nodes, .. }) if cluster.nodes > nodes => Err(Error::new(
            ExitKind::Usage,
            format!(
                "'cluster.nodes' is {}, and partition '{name}' has {nodes} nodes in all",
                cluster.nodes
            ),
        )
        .hint("choose another partition with 'cluster.partition', or fewer nodes; 'sinfo --summarize' lists what there is")),
        _ => Ok(()),
    }
}

struct Partition<'a> {
    name: &'a str,
    default: bool,
    nodes: u32,
}

impl<'a> Partition<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let field = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            name: field("PartitionName")?,
            default: field("Default") == Some("YES"),
            nodes: field("TotalNodes")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "PartitionName=low AllowGroups=ALL Default=YES State=UP TotalCPUs=64 TotalNodes=4\n\
                        PartitionName=big AllowGroups=ALL Default=NO State=UP TotalCPUs=64 TotalNodes=40\n";

    fn refused(partition: Option<&str>, nodes: u32) -> Option<String> {
        let cluster = Cluster {
            partition: partition.map(str::to_owned),
            nodes,
            ..Cluster::default()
        };
        judge(&cluster, TEXT).err().map(|error| error.to_string())
    }

    #[test]
    fn what_would_wait_for_ever_is_refused() {
        assert_eq!(refused(None, 4), None);
        assert_eq!(
            refused(None, 5).unwrap(),
            "'cluster.nodes' is 5, and partition 'low' has 4 nodes in all"
        );
        assert_eq!(refused(Some("big"), 40), None);
        assert_eq!(refused(Some("low,big"), 40), None);
        assert!(refused(Some("low,big"), 41).is_some());
        assert_eq!(refused(Some("unknown"), 400), None);
    }
}
