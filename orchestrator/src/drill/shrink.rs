//! A small variant of an experiment: few ranks, few steps, small batches; model, data and everything
//! random as they are.

use rocket_common::experiment::{After, BackendKind, Experiment};
use serde::Serialize;

/// How small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Ranks, all on one node.
    pub ranks: u32,
    /// Optimiser steps.
    pub steps: u64,
}

/// A key that a drill changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// Its value in the experiment.
    pub from: String,
    /// Its value in the drill.
    pub to: String,
}

/// Samples per rank and micro-batch in a drill; more where the experiment has fewer ranks to halve.
const BATCH: i64 = 4;
/// Saves in a run: often enough to be hit, rarely enough to lose steps by.
const SAVES: u64 = 6;

/// Time limit of a drill's job.
const LIMIT: &str = "00:30:00";

/// What is changed. Keys that the user has set by `--set` are left alone.
#[must_use]
pub fn shrink(
    experiment: &Experiment,
    size: Size,
    backend: BackendKind,
    given: &[String],
) -> Vec<Change> {
    let cluster = &experiment.cluster;
    let train = &experiment.train;
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let backend_name = |kind: BackendKind| format!("{kind:?}").to_lowercase();
    let every = (size.steps / SAVES).max(1);
    let rows = [
        (
            "cluster.backend",
            backend_name(cluster.backend),
            backend_name(backend),
        ),
        ("cluster.nodes", cluster.nodes.to_string(), "1".into()),
        (
            "cluster.gpus_per_node",
            cluster.gpus_per_node.to_string(),
            cluster.gpus_per_node.min(size.ranks).to_string(),
        ),
        (
            "cluster.tasks_per_node",
            optional(cluster.tasks_per_node.map(|tasks| tasks.to_string())),
            size.ranks.to_string(),
        ),
        (
            "train.max_steps",
            optional(train.max_steps.map(|steps| steps.to_string())),
            size.steps.to_string(),
        ),
        (
            "train.batch_size",
            train.batch_size.to_string(),
            train.batch_size.min(BATCH).to_string(),
        ),
        ("train.print_freq", train.print_freq.to_string(), "1".into()),
        (
            "train.checkpoint_every",
            train.checkpoint_every.to_string(),
            format!("{every} steps"),
        ),
        ("train.keep_last", train.keep_last.to_string(), "2".into()),
        ("train.keep_best", train.keep_best.to_string(), "0".into()),
        (
            "data.workers",
            experiment.data.workers.to_string(),
            experiment.data.workers.min(2).to_string(),
        ),
        (
            "eval.eval_freq",
            experiment.eval.eval_freq.to_string(),
            "0".into(),
        ),
        (
            "eval.after",
            match &experiment.eval.after {
                After::None => "none".to_owned(),
                After::All => "all".to_owned(),
                After::Sets(sets) => format!("[{}]", sets.join(", ")),
            },
            "none".into(),
        ),
    ];
    let slurm = [
        (
            "cluster.time",
            optional(cluster.time.as_ref().map(ToString::to_string)),
            LIMIT.into(),
        ),
        (
            "cluster.successor",
            cluster.successor.to_string(),
            "false".into(),
        ),
        (
            "cluster.dependency",
            optional(cluster.dependency.clone()),
            "null".into(),
        ),
        (
            "cluster.mail_user",
            optional(cluster.mail_user.clone()),
            "null".into(),
        ),
    ];
    // Nothing to take away where nothing is set.
    let unset = |(_, from, to): &(&str, String, String)| from == "-" && to == "null";
    let slurm = slurm
        .into_iter()
        .filter(|row| backend == BackendKind::Slurm && !unset(row));
    let is_given = |key: &str| {
        given
            .iter()
            .any(|set| set.split('=').next().map(str::trim) == Some(key))
    };
    rows.into_iter()
        .chain(slurm)
        .filter(|(key, from, to)| from != to && !is_given(key))
        .map(|(key, from, to)| Change { key, from, to })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment() -> Experiment {
        let text = "name: e\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: d, metadata: d.npy}\ntrain: {batch_size: 128, update_freq: 2}\n";
        rocket_common::experiment::parse("e.yaml", text, &[]).unwrap()
    }

    #[test]
    fn what_decides_numbers_stays_and_what_costs_shrinks() {
        let size = Size {
            ranks: 2,
            steps: 48,
        };
        let changes = shrink(&experiment(), size, BackendKind::Local, &[]);
        let of = |key: &str| {
            changes
                .iter()
                .find(|change| change.key == key)
                .map(|change| change.to.as_str())
        };
        assert_eq!(of("cluster.nodes"), Some("1"));
        assert_eq!(of("cluster.gpus_per_node"), Some("2"));
        assert_eq!(of("train.batch_size"), Some("4"));
        assert_eq!(of("train.checkpoint_every"), Some("8 steps"));
        assert_eq!(of("train.update_freq"), None);
        assert!(
            changes
                .iter()
                .all(|change| !change.key.starts_with("model.")
                    && !change.key.starts_with("augment."))
        );
        // What the changes say is valid.
        let sets: Vec<String> = changes
            .iter()
            .map(|change| format!("{}={}", change.key, change.to))
            .collect();
        let text = "name: e\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: d, metadata: d.npy}\n";
        let small = rocket_common::experiment::parse("e.yaml", text, &sets).unwrap();
        assert_eq!(small.cluster.world_size(), 2);
    }

    #[test]
    fn what_the_user_sets_is_left_alone() {
        let given = [
            "train.batch_size=16".to_owned(),
            "cluster.gpus_per_node = 0".to_owned(),
        ];
        let changes = shrink(
            &experiment(),
            Size { ranks: 2, steps: 2 },
            BackendKind::Slurm,
            &given,
        );
        assert!(changes.iter().all(
            |change| change.key != "train.batch_size" && change.key != "cluster.gpus_per_node"
        ));
        assert!(
            changes
                .iter()
                .any(|change| change.key == "train.checkpoint_every" && change.to == "1 steps")
        );
    }
}
