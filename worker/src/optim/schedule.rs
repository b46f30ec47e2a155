//! The learning rate as a pure function of the optimiser step.

use std::f64::consts::PI;

use rocket_common::experiment::Optim;

/// Linear warm-up, then half a cosine (`cosine_scheduler` of CLIP-rocket's `utils.py`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Rate at the first step, if there is a warm-up.
    pub start: f64,
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Rate that the cosine goes to; reached one step after the last.
    pub end: f64,
    /// Steps of the warm-up; the last of them has the peak rate.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub total_steps: u64,
}

impl Schedule {
    /// The schedule of a run of `total_steps`. The warm-up is counted in epochs of
    /// `steps_per_epoch` also where the length is given in steps; a run shorter than its warm-up
    /// is the beginning of one, and never reaches the peak.
    #[must_use]
    pub fn new(optim: &Optim, steps_per_epoch: u64, total_steps: u64) -> Self {
        Self {
            start: optim.lr_start,
            peak: optim.lr,
            end: optim.lr_end,
            warmup_steps: (optim.warmup_epochs * steps_per_epoch as f64).round() as u64,
            total_steps,
        }
    }

    /// The rate of optimiser step `step`, counted from 0. Steps past the last have the end rate.
    #[must_use]
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let last = self.warmup_steps - 1;
            return match step {
                0 => self.start,
                _ if step == last => self.peak,
                _ => step as f64 * ((self.peak - self.start) / last as f64) + self.start,
            };
        }
        let length = self.total_steps.saturating_sub(self.warmup_steps);
        let at = step - self.warmup_steps;
        if at >= length {
            return self.end;
        }
        let cosine = (PI * at as f64 / length as f64).cos();
        self.end + 0.5 * (self.peak - self.end) * (1.0 + cosine)
    }

    /// Whether the run is long enough for the peak rate.
    #[must_use]
    pub fn reaches_peak(&self) -> bool {
        self.total_steps >= self.warmup_steps.max(1)
    }
}
