//! Scoring a set: similarities of images and classes by head, counted.
//!
//! Heads are z (CLIP), h (CL2L) and the mixtures `w z + (1 - w) h` of their cosine similarities for
//! w = .1, ..., .9 (arXiv 2305.08675, sec. 4; `eval_zeroshot.py` of its code).

use std::ops::ControlFlow;

use tch::{Kind, Tensor};

use super::classifier::{check_finite, normalize};
use super::metrics::{Metric, Tally, places, roc_auc_percent};
use super::{Classifier, Encoder, EvalError, EvalSet, Shard, batches};

/// What similarities are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The global embedding.
    Z,
    /// The embedding of the augmented views.
    H,
    /// `w z + (1 - w) h` with w in tenths, 1 to 9.
    Mix(u8),
}

impl Head {
    /// The heads of a model, in the order of tables.
    #[must_use]
    pub fn of(has_h: bool) -> Vec<Self> {
        if has_h {
            [Self::Z, Self::H]
                .into_iter()
                .chain((1..10).map(Self::Mix))
                .collect()
        } else {
            vec![Self::Z]
        }
    }

    /// `z`, `h`, `zh_0.1`, ...
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Z => "z".to_owned(),
            Self::H => "h".to_owned(),
            Self::Mix(tenths) => format!("zh_0.{tenths}"),
        }
    }
}

/// Cosine similarities `[B, C]` of a batch.
#[derive(Debug)]
pub struct Similarities {
    /// Head z.
    pub z: Tensor,
    /// Head h, of models that have one.
    pub h: Option<Tensor>,
}

impl Similarities {
    /// Compares image embeddings with class embeddings.
    ///
    /// # Errors
    /// A similarity is not finite.
    pub fn new(
        images: &super::Heads,
        classifier: &Classifier,
        set: &str,
    ) -> Result<Self, EvalError> {
        let compare = |image: &Tensor, classes: &Tensor, head| {
            let similarity = normalize(&image.to_kind(Kind::Float)).matmul(&classes.tr());
            check_finite(&similarity, "image embeddings", head, set).map(|()| similarity)
        };
        let h = match (&images.h, &classifier.h) {
            (Some(image), Some(classes)) => Some(compare(image, classes, "h")?),
            _ => None,
        };
        Ok(Self {
            z: compare(&images.z, &classifier.z, "z")?,
            h,
        })
    }

    /// The similarities of a head; of a head that the model lacks, z.
    pub fn of(&self, head: Head) -> Tensor {
        match (head, &self.h) {
            (Head::H, Some(h)) => h.shallow_clone(),
            (Head::Mix(tenths), Some(h)) => {
                let w = f64::from(tenths) / 10.0;
                &self.z * w + h * (1.0 - w)
            }
            (Head::Z, _) | (_, None) => self.z.shallow_clone(),
        }
    }
}

/// Sizes of batches and number of threads.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Images per batch.
    pub image_batch: usize,
    /// Texts per batch, about.
    pub text_batch: usize,
    /// Threads that decode images.
    pub threads: usize,
}

/// The counts of one head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadScore {
    /// The head.
    pub head: Head,
    /// Its counts.
    pub tally: Tally,
    /// Area under the ROC curve in percent, of sets reported by it.
    pub roc_auc: Option<f64>,
}

/// Scores a set over the ranks of `shard`; every rank returns the same scores. `progress` is told
/// how many of this rank's images are done, out of how many; with [`ControlFlow::Break`] it has the
/// rest left out.
///
/// # Errors
/// See [`EvalError`]. [`EvalError::SampleCount`] on every rank if one left images out.
pub fn score(
    encoder: &dyn Encoder,
    classifier: &Classifier,
    set: &EvalSet,
    settings: &Settings,
    shard: &Shard,
    mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<HeadScore>, EvalError> {
    let samples = set.samples.as_ref();
    let classes = set.class_names.len();
    let heads = Head::of(classifier.h.is_some());
    let batch_size = settings.image_batch.max(1);
    let units = samples.len().div_ceil(batch_size);
    let total = shard
        .units(units)
        .map(|unit| batch_size.min(samples.len() - unit * batch_size))
        .sum();
    let mut tallies = vec![Tally::new(classes); heads.len()];
    // Scores of single samples are kept only where the metric needs them; each rank fills its own.
    let ranked = if set.metric == Metric::RocAuc && classes == 2 {
        samples.len()
    } else {
        0
    };
    let mut margins = vec![vec![0.0_f64; ranked]; heads.len()];
    let mut done = 0;

    let side = encoder.image_size();
    let mine = shard.units(units);
    batches::for_each(samples, mine, batch_size, side, settings.threads, |batch| {
        let similarities = tch::no_grad(|| {
            let images = batch.images.to_device(encoder.device());
            let embeddings = encoder
                .encode_image(&images)
                .map_err(|e| EvalError::Model {
                    what: "images",
                    set: set.name.clone(),
                    cause: e.to_string(),
                })?;
            Similarities::new(&embeddings, classifier, &set.name)
        })?;
        let targets: Vec<i64> = batch.targets.iter().map(|&t| t as i64).collect();
        let targets = Tensor::from_slice(&targets).to_device(encoder.device());
        for (k, &head) in heads.iter().enumerate() {
            let similarity = similarities.of(head);
            for (&target, place) in batch
                .targets
                .iter()
                .zip(to_vec(&places(&similarity, &targets)))
            {
                tallies[k].count(target, place);
            }
            if ranked > 0 {
                let margin = similarity.select(1, 1) - similarity.select(1, 0);
                for (i, value) in f64s(&margin).into_iter().enumerate() {
                    margins[k][batch.first + i] = value;
                }
            }
        }
        done += batch.targets.len();
        Ok(progress(done, total))
    })?;

    let rows: Vec<i64> = tallies.iter().flat_map(Tally::to_row).collect();
    let counts = Tensor::from_slice(&rows).view([heads.len() as i64, -1]);
    let counts = shard.sum(counts.to_device(encoder.device()), &set.name)?;
    let margins = if ranked > 0 {
        let own = Tensor::from_slice(&margins.concat()).view([heads.len() as i64, -1]);
        Some(shard.sum(own.to_device(encoder.device()), &set.name)?)
    } else {
        None
    };
    heads
        .into_iter()
        .zip(0..)
        .map(|(head, k)| {
            let tally = Tally::from_row(&to_vec(&counts.get(k)));
            if tally.samples() != samples.len() as i64 {
                return Err(EvalError::SampleCount {
                    set: set.name.clone(),
                    samples: samples.len(),
                    seen: tally.samples(),
                });
            }
            let roc_auc = margins.as_ref().and_then(|margins| {
                let scores = f64s(&margins.get(k)).into_iter().enumerate();
                let scored: Vec<_> = scores.map(|(i, s)| (s, samples.target(i) == 1)).collect();
                roc_auc_percent(&scored)
            });
            Ok(HeadScore {
                head,
                tally,
                roc_auc,
            })
        })
        .collect()
}

fn to_vec(values: &Tensor) -> Vec<i64> {
    let values = values
        .to_device(tch::Device::Cpu)
        .to_kind(Kind::Int64)
        .contiguous();
    let mut out = vec![0; values.numel()];
    values.copy_data(&mut out, values.numel());
    out
}

fn f64s(values: &Tensor) -> Vec<f64> {
    let values = values
        .to_device(tch::Device::Cpu)
        .to_kind(Kind::Double)
        .contiguous();
    let mut out = vec![0.0; values.numel()];
    values.copy_data(&mut out, values.numel());
    out
}
