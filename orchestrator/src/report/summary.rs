//! A curve in a few figures.

use serde::Serialize;

use crate::view::Point;

/// A curve in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Its last value.
    pub(crate) last: f64,
    /// Where.
    pub(crate) last_step: u64,
    /// Its best value; absent where neither high nor low is good.
    pub(crate) best: Option<f64>,
    /// Where it was reached first.
    pub(crate) best_step: Option<u64>,
    /// Mean of the last values.
    pub(crate) mean: f64,
    /// Of how many.
    pub(crate) mean_of: usize,
    /// Number of values.
    pub(crate) count: usize,
}

impl Summary {
    /// Of a curve with finite values; the mean is over the last `mean_of`.
    pub(crate) fn of(name: &str, curve: &[Point], mean_of: usize) -> Option<Self> {
        let (last_step, last) = *curve.last()?;
        let best = match better(name) {
            Some(Better::Low) => pick(curve, |new, old| new < old),
            Some(Better::High) => pick(curve, |new, old| new > old),
            None => None,
        };
        let tail = &curve[curve.len().saturating_sub(mean_of.max(1))..];
        Some(Self {
            last,
            last_step,
            best: best.map(|(_, value)| value),
            best_step: best.map(|(step, _)| step),
            mean: tail.iter().map(|(_, value)| value).sum::<f64>() / tail.len() as f64,
            mean_of: tail.len(),
            count: curve.len(),
        })
    }
}

fn pick(curve: &[Point], wins: impl Fn(f64, f64) -> bool) -> Option<Point> {
    curve
        .iter()
        .copied()
        .filter(|(_, value)| value.is_finite())
        .reduce(|best, point| if wins(point.1, best.1) { point } else { best })
}

/// What is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// As of a loss.
    Low,
    /// As of a score.
    High,
}

/// Whether a metric should be high or low; `None` where that is no question, as of a learning rate.
pub(crate) fn better(name: &str) -> Option<Better> {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["loss_scale", "skipped"]) {
        None
    } else if has(&[
        "acc",
        "top1",
        "top5",
        "score",
        "auc",
        "mean_per_class",
        "samples_per_second",
    ]) {
        Some(Better::High)
    } else if has(&["loss", "error"]) {
        Some(Better::Low)
    } else {
        None
    }
}

/// Metrics that tell of the machine and are never the same twice.
pub(crate) fn of_the_machine(name: &str) -> bool {
    matches!(
        name,
        "samples_per_second"
            | "wait_share"
            | "wait_seconds"
            | "bytes_read"
            | "resident_bytes"
            | "time"
    )
}

/// Whether a metric of an evaluation is one of a head: the mixtures `zh_0.1` lie between.
pub(crate) fn is_head(name: &str) -> bool {
    !name.contains("zh_")
}

/// Whether a metric of an evaluation is a main score: a head's top-1 or top-5.
pub(crate) fn is_score(name: &str) -> bool {
    is_head(name) && (name.contains("top1") || name.contains("top5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_a_loss_is_low_and_of_a_score_high() {
        let curve = [(1, 3.0), (2, 1.0), (3, 2.0), (4, 1.0)];
        let loss = Summary::of("loss", &curve, 2).unwrap();
        assert_eq!((loss.best, loss.best_step), (Some(1.0), Some(2)));
        assert_eq!((loss.mean, loss.mean_of), (1.5, 2));
        let score = Summary::of("emoji/z_top1", &curve, 50).unwrap();
        assert_eq!((score.best, score.best_step), (Some(3.0), Some(1)));
        assert_eq!(Summary::of("lr", &curve, 50).unwrap().best, None);
        assert_eq!(Summary::of("lr", &[], 50), None);
    }
}
