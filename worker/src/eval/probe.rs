//! Linear probe: logistic regression on frozen features of the image tower (Radford et al. 2021, arXiv
//! 2103.00020, app. A.3). The strength of the regularisation is chosen on a part of the training split, by
//! the paper's search over 1e-6 to 1e6 in steps of an eighth of a decade, and the probe is then fitted anew
//! to the whole split.
//!
//! Shapes: N samples, F features, C classes.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::lbfgs::{self, Limits};
use super::metrics::{Metric, Tally, places, roc_auc_percent};
use crate::random::Permutation;

/// Features and labels of a split.
#[derive(Debug)]
pub struct Split {
    /// `[N, F]`, float32.
    pub features: Tensor,
    /// Label index of each sample.
    pub targets: Vec<i64>,
}

/// How probes are fitted.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// Classes, C.
    pub classes: i64,
    /// When L-BFGS stops; `gradient` is of the mean loss.
    pub limits: Limits,
}

impl Fit {
    /// As the paper: at most 1,000 steps.
    #[must_use]
    pub fn new(classes: i64) -> Self {
        Self {
            classes,
            limits: Limits {
                gradient: 1e-6,
                steps: 1000,
            },
        }
    }
}

/// Weights `[F + 1, C]`, the last row the intercepts.
#[derive(Debug)]
pub struct Probe {
    weights: Tensor,
}

/// Elements of the features up to which they are float64; above, memory counts more.
const DOUBLE: usize = 1 << 27;

impl Probe {
    /// Minimises the summed cross-entropy plus half of `lambda` times the squared weights, without the
    /// intercepts: scikit-learn's `LogisticRegression(C=1/lambda)`, and for two classes, which have one
    /// vector there, that of `C=2/lambda`. `start`: a probe of another lambda.
    #[must_use]
    pub fn fit(split: &Split, lambda: f64, fit: &Fit, start: Option<&Self>) -> Self {
        let kind = match split.features.numel() {
            0..=DOUBLE => Kind::Double,
            _ => Kind::Float,
        };
        let device = split.features.device();
        let x = split.features.to_kind(kind);
        let (n, f) = (x.size()[0], x.size()[1]);
        let targets = Tensor::from_slice(&split.targets).to_device(device);
        let ones = targets.one_hot(fit.classes).to_kind(kind);
        let zeros = || Tensor::zeros([f + 1, fit.classes], (kind, device));
        let start = start.map_or_else(zeros, |probe| probe.weights.to_kind(kind));
        // Of the mean, so that gradients have one size whatever N is.
        let (scale, strength) = (1.0 / n as f64, lambda / n as f64);
        let found = tch::no_grad(|| {
            lbfgs::minimise(&start, fit.limits, |at| {
                let (w, b) = (at.narrow(0, 0, f), at.narrow(0, f, 1));
                let log_p = (x.matmul(&w) + &b).log_softmax(1, kind);
                let loss = -(&log_p * &ones).sum(Kind::Double).double_value(&[]) * scale;
                let penalty = 0.5 * strength * (&w * &w).sum(Kind::Double).double_value(&[]);
                let error = (log_p.exp() - &ones) * scale;
                let of_w = x.tr().matmul(&error) + &w * strength;
                let of_b = error.sum_dim_intlist([0_i64].as_slice(), true, kind);
                (loss + penalty, Tensor::cat(&[of_w, of_b], 0))
            })
        });
        Self { weights: found.at }
    }

    /// Scores of the classes `[N, C]`.
    pub fn scores(&self, features: &Tensor) -> Tensor {
        let kind = self.weights.kind();
        let f = features.size()[1];
        let (w, b) = (self.weights.narrow(0, 0, f), self.weights.narrow(0, f, 1));
        tch::no_grad(|| features.to_kind(kind).matmul(&w) + b)
    }

    /// Weights `[C, F]` and intercepts `[C]`, as scikit-learn has them.
    pub fn coefficients(&self) -> (Tensor, Tensor) {
        let f = self.weights.size()[0] - 1;
        (
            self.weights.narrow(0, 0, f).tr().contiguous(),
            self.weights.get(f),
        )
    }
}

/// Counts of a split's scores, and the area under the ROC curve of two classes.
#[must_use]
pub fn tally(scores: &Tensor, targets: &[i64]) -> (Tally, Option<f64>) {
    let classes = scores.size()[1];
    let index = Tensor::from_slice(targets).to_device(scores.device());
    let places = places(scores, &index).to_device(tch::Device::Cpu);
    let mut tally = Tally::new(classes as usize);
    for (i, &target) in targets.iter().enumerate() {
        tally.count(target as usize, places.int64_value(&[i as i64]));
    }
    let auc = (classes == 2).then(|| {
        let margin = scores.select(1, 1) - scores.select(1, 0);
        let scored: Vec<(f64, bool)> = targets
            .iter()
            .zip(0_i64..)
            .map(|(&target, i)| (margin.double_value(&[i]), target == 1))
            .collect();
        roc_auc_percent(&scored)
    });
    (tally, auc.flatten())
}

/// The figure that decides, percent.
#[must_use]
pub fn figure(metric: Metric, tally: &Tally, auc: Option<f64>) -> f64 {
    match metric {
        Metric::Top1 => tally.top1_percent(),
        Metric::MeanPerClass => tally.mean_per_class_percent(),
        Metric::RocAuc => auc.unwrap_or_else(|| tally.top1_percent()),
    }
}

/// Splits a training split in two, by class: about one in five of each class, chosen by `seed`, to choose
/// the regularisation on. Classes of one image stay in the first part.
#[must_use]
pub fn divide(targets: &[i64], seed: u64) -> (Vec<i64>, Vec<i64>) {
    let mut by_class: std::collections::BTreeMap<i64, Vec<i64>> = std::collections::BTreeMap::new();
    for (index, &target) in targets.iter().enumerate() {
        by_class.entry(target).or_default().push(index as i64);
    }
    let (mut fit, mut check) = (Vec::new(), Vec::new());
    for (class, members) in by_class {
        let kept_back = members.len() / 5 + usize::from((2..5).contains(&members.len()));
        let order = Permutation::new(seed, class as u64, members.len() as u64);
        for position in 0..members.len() {
            let member = members[order.at(position as u64) as usize];
            let part = if position < kept_back {
                &mut check
            } else {
                &mut fit
            };
            part.push(member);
        }
    }
    fit.sort_unstable();
    check.sort_unstable();
    (fit, check)
}

/// One strength that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Its strength, lambda.
    pub lambda: f64,
    /// The figure on the samples that were kept back, percent.
    pub figure: f64,
}

/// Steps of the search in a decade, at its end.
const FINEST: i32 = 8;

/// Chooses the strength: seven from 1e-6 to 1e6, then around the best of them with steps of half the size
/// until those are an eighth of a decade. Of equal figures the stronger wins.
pub fn search(mut figure: impl FnMut(f64) -> f64) -> (f64, Vec<Tried>) {
    // In eighths of a decade.
    let lambda = |eighths: i32| 10_f64.powf(f64::from(eighths) / f64::from(FINEST));
    let mut tried: std::collections::BTreeMap<i32, f64> = std::collections::BTreeMap::new();
    let mut look = |at: i32, tried: &mut std::collections::BTreeMap<i32, f64>| {
        tried.entry(at).or_insert_with(|| figure(lambda(at)));
    };
    let (low, high, mut step) = (-6 * FINEST, 6 * FINEST, 2 * FINEST);
    for at in (low..=high).step_by(step as usize) {
        look(at, &mut tried);
    }
    let best = |tried: &std::collections::BTreeMap<i32, f64>| {
        let by_figure = |a: &(&i32, &f64), b: &(&i32, &f64)| a.1.total_cmp(b.1).then(a.0.cmp(b.0));
        tried.iter().max_by(by_figure).map_or(0, |(at, _)| *at)
    };
    while step > 1 {
        step /= 2;
        let center = best(&tried);
        for at in [center - step, center + step] {
            if (low..=high).contains(&at) {
                look(at, &mut tried);
            }
        }
    }
    let chosen = lambda(best(&tried));
    let tried = tried
        .into_iter()
        .map(|(at, figure)| Tried {
            lambda: lambda(at),
            figure,
        })
        .collect();
    (chosen, tried)
}
