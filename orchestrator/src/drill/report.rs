//! What a drill found, for people and as JSON.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::fault::Fault;
use super::shrink::Change;
use crate::output::{Report, Table};

/// What a drill found.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// The experiment file.
    pub experiment: PathBuf,
    /// Number of ranks.
    pub ranks: u32,
    /// Optimiser steps of each run.
    pub steps: u64,
    /// Where it ran, in words.
    pub place: String,
    /// What was changed to make it small.
    pub shrunk: Vec<Change>,
    /// Seconds of the run that nothing was done to.
    pub straight_seconds: f64,
    /// Each fault.
    pub trials: Vec<Trial>,
    /// Folder of the runs, if it was kept.
    pub kept: Option<PathBuf>,
    /// Whether every fault left no trace in the numbers.
    pub certified: bool,
}

/// One fault.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// Which.
    pub fault: Fault,
    /// In words.
    pub words: String,
    /// The run.
    pub run: Option<String>,
    /// Where it hit, in words.
    pub hit: Option<String>,
    /// The step that was gone on from; absent: from nothing.
    pub resumed_from: Option<u64>,
    /// Steps that were done twice.
    pub repeated: Option<u64>,
    /// From the fault until the run was where it had been.
    pub seconds_lost: Option<f64>,
    /// The numbers are those of the straight run.
    pub identical: bool,
    /// Why not, or why it could not be tried.
    pub problem: Option<String>,
}

impl Trial {
    /// Of a fault that has not been tried.
    #[must_use]
    pub fn untried(fault: Fault, words: &str) -> Self {
        Self {
            fault,
            words: words.to_owned(),
            run: None,
            hit: None,
            resumed_from: None,
            repeated: None,
            seconds_lost: None,
            identical: false,
            problem: None,
        }
    }
}

impl Report for Certificate {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "drill of {}: {} ranks, {} steps, {}\n",
            self.experiment.display(),
            self.ranks,
            self.steps,
            self.place
        )?;
        let mut table = Table::new(&["key", "experiment", "drill"]);
        for change in &self.shrunk {
            table.row(vec![
                change.key.into(),
                change.from.clone(),
                change.to.clone(),
            ]);
        }
        table.write(out)?;
        writeln!(
            out,
            "\nnothing done to it: {:.1} s\n",
            self.straight_seconds
        )?;
        let mut table = Table::new(&[
            "fault",
            "hit at",
            "resumed from",
            "repeated",
            "lost",
            "bit-identical",
        ])
        .right(&[3, 4]);
        for trial in &self.trials {
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            table.row(vec![
                trial.words.clone(),
                text(trial.hit.clone()),
                match (trial.resumed_from, trial.repeated) {
                    (Some(step), _) => format!("step {step}"),
                    (None, Some(_)) => "nothing".into(),
                    (None, None) => "-".into(),
                },
                text(trial.repeated.map(|steps| format!("{steps} steps"))),
                text(trial.seconds_lost.map(|seconds| format!("{seconds:.1} s"))),
                if trial.identical { "yes" } else { "NO" }.into(),
            ]);
        }
        table.write(out)?;
        for trial in &self.trials {
            if let Some(problem) = &trial.problem {
                writeln!(out, "\n{}: {problem}", trial.words)?;
            }
        }
        let passed = self.trials.iter().filter(|trial| trial.identical).count();
        let all = self.trials.len();
        writeln!(out)?;
        if let Some(kept) = &self.kept {
            writeln!(out, "the runs are in {}", kept.display())?;
        }
        if self.certified {
            return writeln!(
                out,
                "drill: step-exact resume certified ({passed} of {all})"
            );
        }
        let failed: Vec<&str> = self
            .trials
            .iter()
            .filter(|trial| !trial.identical)
            .map(|trial| trial.words.as_str())
            .collect();
        writeln!(
            out,
            "drill: step-exact resume is NOT certified ({passed} of {all}); failed: {}",
            failed.join(", ")
        )
    }
}
