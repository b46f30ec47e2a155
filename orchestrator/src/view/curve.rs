//! What is done to a curve before it is drawn: its axis, smoothing, thinning.

use serde::Serialize;

use super::{Point, Series};

/// What a curve is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Axis {
    /// Optimiser steps
    #[default]
    Step,
    /// Epochs
    Epoch,
    /// Time spent in optimiser steps, from the recorded throughput
    Time,
    /// Samples seen
    Samples,
}

/// Where a run was at each recorded step, on every axis. Time is what the recorded throughput says that the
/// steps took, without waiting, starts and evaluations: curves of a run that was interrupted lie on those of
/// one that was not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Clock {
    /// Recorded steps, rising.
    pub(crate) step: Vec<u64>,
    /// Epochs done there; empty if not recorded.
    pub(crate) epoch: Vec<f64>,
    /// Seconds of training until there; empty if not recorded.
    pub(crate) seconds: Vec<f64>,
    /// Samples of an optimiser step over all ranks, where known.
    pub(crate) batch: Option<u64>,
}

impl Clock {
    /// Of a run's curves.
    pub(crate) fn of(series: &Series, batch: Option<u64>) -> Self {
        let mut clock = Self {
            batch,
            ..Self::default()
        };
        let epochs = series.train.get("epoch");
        let rates = series.train.get("samples_per_second");
        let Some(longest) = [epochs, rates]
            .into_iter()
            .flatten()
            .max_by_key(|c| c.len())
        else {
            return clock;
        };
        clock.step = longest.iter().map(|(step, _)| *step).collect();
        if let Some(epochs) = epochs {
            clock.epoch = clock.step.iter().map(|step| at(epochs, *step)).collect();
        }
        if let (Some(rates), Some(batch)) = (rates, batch) {
            let mut seconds = 0.0;
            let mut before = 0;
            for step in &clock.step {
                let rate = at(rates, *step);
                if rate > 0.0 {
                    seconds += (step - before) as f64 * batch as f64 / rate;
                }
                before = *step;
                clock.seconds.push(seconds);
            }
        }
        clock
    }

    /// The place of a step on an axis; `None` if the run did not record it.
    pub(crate) fn place(&self, axis: Axis, step: u64) -> Option<f64> {
        match axis {
            Axis::Step => Some(step as f64),
            Axis::Samples => Some(step as f64 * self.batch? as f64),
            Axis::Epoch => self.between(&self.epoch, step),
            Axis::Time => self.between(&self.seconds, step),
        }
    }

    /// A value at a step, on the line between its neighbours; before the first, from zero.
    fn between(&self, values: &[f64], step: u64) -> Option<f64> {
        let last = values.last()?;
        let after = self.step.partition_point(|known| *known < step);
        let Some(high) = values.get(after) else {
            return Some(*last);
        };
        let (low_step, low) = match after.checked_sub(1) {
            Some(before) => (self.step[before], values[before]),
            None => (0, 0.0),
        };
        let span = self.step[after].saturating_sub(low_step).max(1) as f64;
        Some(low + (high - low) * (step.saturating_sub(low_step) as f64 / span))
    }

    /// The same with at most so many knots.
    pub(crate) fn thinned(&self, most: usize) -> Self {
        let n = self.step.len();
        if n <= most || most < 2 {
            return self.clone();
        }
        let keep: Vec<usize> = (0..most).map(|i| i * (n - 1) / (most - 1)).collect();
        let pick = |values: &[f64]| -> Vec<f64> {
            keep.iter()
                .filter_map(|i| values.get(*i).copied())
                .collect()
        };
        Self {
            step: keep.iter().map(|i| self.step[*i]).collect(),
            epoch: pick(&self.epoch),
            seconds: pick(&self.seconds),
            batch: self.batch,
        }
    }
}

/// The last value at or before a step.
fn at(curve: &[Point], step: u64) -> f64 {
    let after = curve.partition_point(|(known, _)| *known <= step);
    curve[after.saturating_sub(1)].1
}

/// Exponential moving average that does not lean towards its first value: weights are normalised, as
/// if the curve had begun with no value at all. `weight` in [0, 1): 0 changes nothing.
pub(crate) fn smooth(curve: &[(f64, f64)], weight: f64) -> Vec<(f64, f64)> {
    let (mut sum, mut norm) = (0.0, 0.0);
    curve
        .iter()
        .map(|&(x, y)| {
            if y.is_finite() {
                sum = sum * weight + y * (1.0 - weight);
                norm = norm * weight + (1.0 - weight);
            }
            (x, if norm > 0.0 { sum / norm } else { y })
        })
        .collect()
}

/// At most about `2 * buckets` points of a curve: of each bucket of equally many points the least and the
/// greatest value, in their order, so that no spike is lost. First and last stay.
pub(crate) fn thin<X: Copy>(curve: &[(X, f64)], buckets: usize) -> Vec<(X, f64)> {
    let n = curve.len();
    if n <= 2 * buckets || buckets == 0 {
        return curve.to_vec();
    }
    let mut thinned = Vec::with_capacity(2 * buckets + 2);
    let inner = &curve[1..n - 1];
    thinned.push(curve[0]);
    for bucket in 0..buckets {
        let part = &inner[bucket * inner.len() / buckets..(bucket + 1) * inner.len() / buckets];
        let mut low: Option<usize> = None;
        let mut high: Option<usize> = None;
        for (index, (_, value)) in part.iter().enumerate().filter(|(_, (_, v))| v.is_finite()) {
            if low.is_none_or(|low| *value < part[low].1) {
                low = Some(index);
            }
            if high.is_none_or(|high| *value > part[high].1) {
                high = Some(index);
            }
        }
        if let (Some(low), Some(high)) = (low, high) {
            thinned.push(part[low.min(high)]);
            if low != high {
                thinned.push(part[low.max(high)]);
            }
        }
    }
    thinned.push(curve[n - 1]);
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_extreme_and_the_ends() {
        let mut curve: Vec<Point> = (0..100_000)
            .map(|i| (i, (i as f64 / 900.0).sin()))
            .collect();
        curve[77_777].1 = 40.0;
        curve[12_345].1 = f64::NAN;
        let thinned = thin(&curve, 500);
        assert!(thinned.len() <= 1002, "{}", thinned.len());
        assert!(thinned.contains(&(77_777, 40.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(
            (thinned[0], thinned[thinned.len() - 1]),
            (curve[0], curve[99_999])
        );
        assert_eq!(thin(&curve[..10], 500), curve[..10]);
    }

    #[test]
    fn smoothing_of_a_constant_is_the_constant() {
        let flat: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), 3.0)).collect();
        for (_, y) in smooth(&flat, 0.98) {
            assert!((y - 3.0).abs() < 1e-12);
        }
        assert_eq!(
            smooth(&[(0.0, 1.0), (1.0, 2.0)], 0.0),
            [(0.0, 1.0), (1.0, 2.0)]
        );
    }

    #[test]
    fn a_clock_knows_all_axes() {
        let mut series = Series::default();
        series
            .train
            .insert("epoch".into(), vec![(10, 0.5), (20, 1.0)]);
        series
            .train
            .insert("samples_per_second".into(), vec![(10, 8.0), (20, 16.0)]);
        let clock = Clock::of(&series, Some(8));
        assert_eq!(clock.place(Axis::Epoch, 15), Some(0.75));
        assert_eq!(clock.place(Axis::Time, 20), Some(15.0));
        assert_eq!(clock.place(Axis::Time, 5), Some(5.0));
        assert_eq!(clock.place(Axis::Samples, 3), Some(24.0));
        assert_eq!(Clock::default().place(Axis::Epoch, 3), None);
    }
}
