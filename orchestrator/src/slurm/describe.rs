//! What would happen to a run on Slurm, in words.

use std::fmt::Write as _;

use rocket_common::experiment::{Cluster, TimeLimit};

/// What a run with this `cluster` asks for and what becomes of it, for people: one line a thing, in
/// two columns.
#[must_use]
pub fn describe(cluster: &Cluster) -> String {
    let rows = [
        ("partition", partition(cluster)),
        ("asks for", size(cluster)),
        ("time limit", time(cluster)),
        ("preempted", preempted(cluster)),
        ("node lost", node_lost(cluster)),
        ("crashed", crashed(cluster)),
    ];
    let mut text = String::new();
    for (label, words) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{label:<11} {words}");
    }
    text
}

fn partition(cluster: &Cluster) -> String {
    let mut words = match &cluster.partition {
        Some(partition) if partition.contains(',') => {
            format!("whichever of {partition} is free first")
        }
        Some(partition) => partition.clone(),
        None => "Slurm's default".to_owned(),
    };
    let more = [
        ("account", &cluster.account),
        ("qos", &cluster.qos),
        ("reservation", &cluster.reservation),
        ("constraint", &cluster.features()),
        ("after", &cluster.dependency),
    ];
    for (label, value) in more {
        if let Some(value) = value {
            let _ = write!(words, ", {label} {value}");
        }
    }
    words
}

fn size(cluster: &Cluster) -> String {
    let many = |count: u32, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let mut words = format!(
        "{}, each with {} of {}",
        many(cluster.nodes, "node"),
        many(cluster.ranks_per_node(), "rank"),
        many(cluster.cpus_per_task, "CPU"),
    );
    if cluster.gpus_per_node > 0 {
        let _ = write!(words, ", {}", many(cluster.gpus_per_node, "GPU"));
    }
    match &cluster.mem {
        Some(memory) if memory.is_whole_node() => words.push_str(" and all of its memory"),
        Some(memory) => {
            let _ = write!(words, " and {memory} of memory");
        }
        None => {}
    }
    let _ = write!(words, "; {} in all", many(cluster.world_size(), "rank"));
    words
}

/// What a start of the job that nobody but rocket makes depends on.
fn start_again(cluster: &Cluster) -> &'static str {
    match (cluster.requeue, cluster.successor) {
        (true, _) => "the job goes back into the queue and the run goes on from there",
        (false, true) => "the successor job submits the run again and it goes on from there",
        (false, false) => {
            "'rocket heal' submits the run again and it goes on from there (cluster.requeue: false)"
        }
    }
}

fn time(cluster: &Cluster) -> String {
    let signal = cluster.signal_seconds();
    let limit = match cluster.time {
        Some(TimeLimit::Unlimited) => return "none".to_owned(),
        Some(limit) => limit.to_string(),
        None => "the partition's".to_owned(),
    };
    format!(
        "{limit}; {signal} s before it ranks save at the next step and stop, {}",
        start_again(cluster)
    )
}

fn preempted(cluster: &Cluster) -> String {
    let asked = "if the partition grants a grace time ranks save at the next step and stop; without one what was done since the last checkpoint is done again";
    format!("{asked}; {}", start_again(cluster))
}

fn node_lost(cluster: &Cluster) -> String {
    match cluster.max_node_failures {
        0 => "the run is given up (cluster.max_node_failures: 0)".to_owned(),
        most => format!(
            "the run goes on from its last checkpoint without that node, up to {most} times without progress"
        ),
    }
}

fn crashed(cluster: &Cluster) -> String {
    match cluster.max_crashes {
        0 => "the run is given up (cluster.max_crashes: 0)".to_owned(),
        most => {
            format!("ranks are started again in the same job, up to {most} times without progress")
        }
    }
}
