//! How far, how fast, how long still: the lead rank's lines.

use std::time::Instant;

use serde_json::{Map, Value};

use super::plan::Plan;
use crate::progress::duration;

/// Measures the pace between two lines of progress.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    step: u64,
    waited: f64,
    samples_per_step: u64,
}

/// What [`Pace::lap`] measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lap {
    /// Samples per second over all ranks.
    pub samples_per_second: f64,
    /// Seconds per optimiser step.
    pub seconds_per_step: f64,
    /// Share of the time in which the step waited for the loader.
    pub wait_share: f64,
}

impl Pace {
    /// Starts measuring after `step` steps of `samples_per_step` samples over all ranks.
    #[must_use]
    pub fn new(step: u64, samples_per_step: u64) -> Self {
        Self {
            since: Instant::now(),
            step,
            waited: 0.0,
            samples_per_step,
        }
    }

    /// Adds seconds spent waiting for data.
    pub fn waited(&mut self, seconds: f64) {
        self.waited += seconds;
    }

    /// The pace since the last lap, which ends here. Nothing is known before a step is done.
    pub fn lap(&mut self, step: u64) -> Option<Lap> {
        let lap = self.peek(step);
        *self = Self::new(step, self.samples_per_step);
        lap
    }

    /// The pace since the last lap.
    #[must_use]
    pub fn peek(&self, step: u64) -> Option<Lap> {
        let steps = step.checked_sub(self.step).filter(|steps| *steps > 0)?;
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        Some(Lap {
            samples_per_second: (steps * self.samples_per_step) as f64 / seconds,
            seconds_per_step: seconds / steps as f64,
            wait_share: self.waited / seconds,
        })
    }

    /// Forgets the time since the last lap, which was spent on something else than training.
    pub fn restart(&mut self, step: u64) {
        *self = Self::new(step, self.samples_per_step);
    }
}

/// Share of waiting from which a line tells of it.
const WAITING: f64 = 0.1;
/// Share of waiting from which a run is called input-bound: it waits more than it computes.
const INPUT_BOUND: f64 = 0.5;

/// One line for people.
#[must_use]
pub fn line(plan: &Plan, step: u64, values: &Map<String, Value>, lap: Option<Lap>) -> String {
    let mut line = format!(
        "step {step}/{} epoch {:.2}",
        plan.total_steps,
        plan.epoch(step)
    );
    for (name, value) in values {
        if let Some(number) = value.as_f64().filter(|_| SHOWN.contains(&name.as_str())) {
            line.push_str(&format!(" {name} {}", short(number)));
        }
    }
    if let Some(lap) = lap {
        let left = lap.seconds_per_step * plan.total_steps.saturating_sub(step) as f64;
        line.push_str(&format!(
            " | {:.1} samples/s, {} left",
            lap.samples_per_second,
            duration(left)
        ));
        let share = lap.wait_share * 100.0;
        if lap.wait_share > INPUT_BOUND {
            line.push_str(&format!(
                ", input-bound: waits for data {share:.0} % of the time"
            ));
        } else if lap.wait_share > WAITING {
            line.push_str(&format!(", {share:.0} % waiting for data"));
        }
    }
    line
}

/// The scalars that a line of progress has room for.
const SHOWN: [&str; 4] = ["loss", "clip_acc", "lr", "grad_norm"];

fn short(number: f64) -> String {
    if number != 0.0 && number.abs() < 1e-2 {
        format!("{number:.2e}")
    } else {
        format!("{number:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_told_in_words() {
        let experiment = serde_json::from_value(serde_json::json!({"name": "x"}))
            .expect("only the name is required");
        let plan = Plan::new(&experiment, 100);
        let said = |wait_share| {
            let lap = Lap {
                samples_per_second: 8.0,
                seconds_per_step: 1.0,
                wait_share,
            };
            let line = line(&plan, 1, &Map::new(), Some(lap));
            line.split_once(" left").map(|(_, rest)| rest.to_owned())
        };
        assert_eq!(said(0.05).as_deref(), Some(""));
        assert_eq!(said(0.3).as_deref(), Some(", 30 % waiting for data"));
        let bound = ", input-bound: waits for data 61 % of the time";
        assert_eq!(said(0.61).as_deref(), Some(bound));
    }

    #[test]
    fn a_lap_without_a_step_says_nothing() {
        let mut pace = Pace::new(5, 8);
        assert_eq!(pace.lap(5), None);
        assert!(pace.lap(6).is_some_and(|lap| lap.samples_per_second > 0.0));
    }
}
