//! Two or more runs side by side: configuration, code, programs, numbers.

mod code;
mod numbers;
mod print;
mod subject;

pub(crate) use numbers::{FirstDifference, series_diff, within_up_to};
pub(crate) use subject::Subject;

use rocket_common::error::Result;
use serde::Serialize;

use super::config::{KeyValues, side_by_side};
use code::{CodeDiff, code_diff};
use numbers::{CurveDiff, MetricRow, curve_diff, metric_rows};

/// What is to be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Equal keys and every metric, too.
    pub(crate) all: bool,
    /// The text of the code's changes.
    pub(crate) patch: bool,
    /// Over how many of the last values a mean is taken.
    pub(crate) last: usize,
}

/// Two or more runs side by side. The first one is what the others are compared with.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// What each of them is.
    pub(crate) runs: Vec<Head>,
    /// Keys of the resolved experiments that differ; all with `--all`.
    pub(crate) config: Vec<KeyValues>,
    /// Number of keys that are the same in all.
    pub(crate) config_equal: usize,
    /// The code of each later one against the first.
    pub(crate) code: Vec<CodeDiff>,
    /// Figures of metrics, where at least two have them.
    pub(crate) metrics: Vec<MetricRow>,
    /// Where the numbers of each later one first differ from the first one's.
    pub(crate) curves: Vec<CurveDiff>,
    #[serde(skip)]
    options: Options,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Head {
    /// Run id, file or ref.
    pub(crate) run: String,
    /// The experiment's name.
    pub(crate) name: String,
    /// Where the run stands; absent if it is none.
    pub(crate) state: Option<String>,
    /// The pinned commit.
    pub(crate) commit: Option<String>,
    /// The commit that it was made from.
    pub(crate) parent_commit: Option<String>,
    /// With changes of the work tree.
    pub(crate) snapshot: bool,
    /// Content hash of the programs.
    pub(crate) programs: Option<String>,
    /// Equal numbers are expected where it is equal.
    pub(crate) recipe_hash: String,
    /// Number of ranks.
    pub(crate) world_size: u32,
    /// Optimiser steps done.
    pub(crate) steps: Option<u64>,
    /// From the first start to the end.
    pub(crate) wall_seconds: Option<f64>,
    /// Median over the run.
    pub(crate) samples_per_second: Option<f64>,
    /// Attempts.
    pub(crate) attempts: Option<usize>,
}

impl Comparison {
    /// Compares.
    ///
    /// # Errors
    /// The code's changes cannot be read, though their commits are there.
    pub(crate) fn of(subjects: &[Subject], options: Options) -> Result<Self> {
        let configs: Vec<_> = subjects
            .iter()
            .map(|subject| subject.config.clone())
            .collect();
        let mut config = side_by_side(&configs);
        let config_equal = config.iter().filter(|key| !key.differs()).count();
        if !options.all {
            config.retain(KeyValues::differs);
        }
        let others = subjects.get(1..).unwrap_or_default();
        Ok(Self {
            runs: subjects
                .iter()
                .map(|subject| subject.head.clone())
                .collect(),
            config,
            config_equal,
            code: others
                .iter()
                .map(|other| code_diff(&subjects[0], other, options.patch))
                .collect::<Result<_>>()?,
            metrics: metric_rows(subjects, options),
            curves: others
                .iter()
                .filter_map(|other| curve_diff(&subjects[0], other))
                .collect(),
            options,
        })
    }
}
