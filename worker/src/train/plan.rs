//! When to do what: a pure function of the number of steps done, so that a resumed run decides
//! exactly as one that was never interrupted.

use rocket_common::experiment::{Every, Experiment};

/// The run's length and its appointments, in optimiser steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Optimiser steps of one epoch.
    pub steps_per_epoch: u64,
    /// Optimiser steps of the run.
    pub total_steps: u64,
    /// Steps between evaluations; `None`: only at the end, if there are sets.
    eval_every: Option<u64>,
    /// Whether there is anything to evaluate on.
    has_eval_sets: bool,
    /// Spacing of checkpoints.
    checkpoint_every: Every,
    /// Steps between lines of progress.
    print_freq: u64,
}

impl Plan {
    /// The plan of `experiment` for epochs of `steps_per_epoch` optimiser steps.
    #[must_use]
    pub fn new(experiment: &Experiment, steps_per_epoch: u64) -> Self {
        let train = &experiment.train;
        Self {
            steps_per_epoch,
            total_steps: train.max_steps.unwrap_or(train.epochs * steps_per_epoch),
            eval_every: (experiment.eval.eval_freq > 0)
                .then_some(experiment.eval.eval_freq * steps_per_epoch),
            has_eval_sets: !experiment.eval.datasets.is_empty(),
            checkpoint_every: train.checkpoint_every,
            print_freq: train.print_freq.max(1),
        }
    }

    /// Whether an evaluation belongs to the boundary after `step` steps.
    #[must_use]
    pub fn eval_due(&self, step: u64) -> bool {
        let scheduled = self
            .eval_every
            .is_some_and(|every| step.is_multiple_of(every));
        self.has_eval_sets && step > 0 && (scheduled || step == self.total_steps)
    }

    /// Whether a checkpoint belongs to the boundary after `step` steps, `minutes` after the last one.
    #[must_use]
    pub fn checkpoint_due(&self, step: u64, minutes: f64) -> bool {
        match self.checkpoint_every {
            _ if step == 0 => false,
            Every::Steps(every) => step.is_multiple_of(every.max(1)),
            Every::Minutes(every) => minutes >= every,
        }
    }

    /// Whether step `step` (counted from 1) is written to the metrics and the log.
    #[must_use]
    pub fn print_due(&self, step: u64) -> bool {
        step == 1 || step.is_multiple_of(self.print_freq) || step == self.total_steps
    }

    /// Epochs done after `step` steps, with fraction.
    #[must_use]
    pub fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(epochs: u64, eval_freq: u64, sets: &[&str]) -> Plan {
        let mut experiment: Experiment = serde_json::from_value(serde_json::json!({"name": "x"}))
            .expect("only the name is required");
        experiment.train.epochs = epochs;
        experiment.train.checkpoint_every = Every::Steps(4);
        experiment.eval.eval_freq = eval_freq;
        experiment.eval.datasets = sets.iter().map(ToString::to_string).collect();
        Plan::new(&experiment, 10)
    }

    #[test]
    fn evaluations_fall_on_epochs_and_on_the_end() {
        let due = |plan: Plan| {
            (0..=plan.total_steps)
                .filter(|s| plan.eval_due(*s))
                .collect::<Vec<_>>()
        };
        assert_eq!(due(plan(3, 1, &["a"])), [10, 20, 30]);
        assert_eq!(due(plan(3, 2, &["a"])), [20, 30]);
        assert_eq!(due(plan(3, 0, &["a"])), [30]);
        assert_eq!(due(plan(3, 1, &[])), [0; 0]);
    }

    #[test]
    fn checkpoints_by_steps_do_not_depend_on_the_clock() {
        let plan = plan(1, 0, &[]);
        assert!(plan.checkpoint_due(4, 0.0) && plan.checkpoint_due(8, 99.0));
        assert!(!plan.checkpoint_due(0, 99.0) && !plan.checkpoint_due(5, 99.0));
    }
}
