//! Exact counts, and the figures made of them. Shapes: B images, C classes.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What a set is reported by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of images whose best class is theirs.
    Top1,
    /// Mean over classes of the share of their images that are right.
    MeanPerClass,
    /// Area under the ROC curve of class 1 against class 0.
    RocAuc,
}

impl Metric {
    /// The metric that a set is published with.
    #[must_use]
    pub fn of(set: &str) -> Self {
        match set {
            "aircraft" | "pets" | "caltech101" | "flowers" => Self::MeanPerClass,
            "hateful_memes" => Self::RocAuc,
            _ => Self::Top1,
        }
    }
}

/// Place of each image's own class among the classes by similarity `[B, C]`, 0 for the best, as
/// `[B]` int64. Of equal similarities the class with the lower index comes first, so that the place
/// does not depend on a sorting algorithm.
pub fn places(similarity: &Tensor, targets: &Tensor) -> Tensor {
    let index = targets.unsqueeze(1);
    let own = similarity.gather(1, &index, false);
    let classes = Tensor::arange(similarity.size()[1], (Kind::Int64, similarity.device()));
    let before = similarity
        .eq_tensor(&own)
        .logical_and(&classes.lt_tensor(&index));
    let better = similarity.gt_tensor(&own).logical_or(&before);
    better.sum_dim_intlist([1_i64].as_slice(), false, Kind::Int64)
}

/// Counts of one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Images of each class.
    pub images: Vec<i64>,
    /// Images of each class whose best class is theirs.
    pub top1: Vec<i64>,
    /// Images whose class is among the five best.
    pub top5: i64,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self {
            images: vec![0; classes],
            top1: vec![0; classes],
            top5: 0,
        }
    }

    /// Counts an image of class `target` whose class came at `place`.
    pub fn count(&mut self, target: usize, place: i64) {
        self.images[target] += 1;
        self.top1[target] += i64::from(place == 0);
        self.top5 += i64::from(place < 5);
    }

    /// Images counted.
    #[must_use]
    pub fn samples(&self) -> i64 {
        self.images.iter().sum()
    }

    /// Images whose best class is theirs.
    #[must_use]
    pub fn top1_count(&self) -> i64 {
        self.top1.iter().sum()
    }

    /// Top-1 in percent.
    #[must_use]
    pub fn top1_percent(&self) -> f64 {
        percent(self.top1_count(), self.samples())
    }

    /// Top-5 in percent.
    #[must_use]
    pub fn top5_percent(&self) -> f64 {
        percent(self.top5, self.samples())
    }

    /// Mean accuracy over the classes that have images, in percent. (The original's figure is NaN
    /// where a class without images is predicted.)
    #[must_use]
    pub fn mean_per_class_percent(&self) -> f64 {
        let shares: Vec<f64> = self
            .images
            .iter()
            .zip(&self.top1)
            .filter(|(images, _)| **images > 0)
            .map(|(images, top1)| *top1 as f64 / *images as f64)
            .collect();
        100.0 * shares.iter().sum::<f64>() / shares.len() as f64
    }

    /// The counts as one row, to be summed over ranks.
    pub(super) fn to_row(&self) -> Vec<i64> {
        [self.images.as_slice(), &self.top1, &[self.top5]].concat()
    }

    /// Reads back [`Tally::to_row`].
    pub(super) fn from_row(row: &[i64]) -> Self {
        let classes = (row.len() - 1) / 2;
        Self {
            images: row[..classes].to_vec(),
            top1: row[classes..2 * classes].to_vec(),
            top5: row[2 * classes],
        }
    }
}

fn percent(count: i64, of: i64) -> f64 {
    100.0 * count as f64 / of as f64
}

/// Area under the ROC curve in percent: the share of pairs of a positive and a negative in which
/// the positive scores higher, equal scores counting half (Mann-Whitney). `None` unless both exist.
#[must_use]
pub fn roc_auc_percent(scored: &[(f64, bool)]) -> Option<f64> {
    let mut order: Vec<_> = scored.to_vec();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of pairs won, so that halves stay integers.
    let (mut won, mut negatives, mut positives) = (0_u128, 0_u128, 0_u128);
    for equal in order.chunk_by(|a, b| a.0 == b.0) {
        let up = equal.iter().filter(|(_, positive)| *positive).count() as u128;
        let down = equal.len() as u128 - up;
        won += up * (2 * negatives + down);
        positives += up;
        negatives += down;
    }
    let pairs = positives * negatives;
    (pairs > 0).then(|| 100.0 * won as f64 / (2 * pairs) as f64)
}
