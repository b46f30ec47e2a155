//! Scoring a set: similarities of images and classes by head, counted.
//!
//! Heads are z (CLIP), h (CL2L) and the mixtures `w z + (1 - w) h` of their cosine similarities for
//! w = .1, ..., .9 (arXiv 2305.08675, sec. 4; `eval_zeroshot.py` of its code).

use std::ops::ControlFlow;

use tch::{Device, Kind, Tensor};

use super::classifier::{check_finite, normalize};
use super::metrics::{Metric, Tally, places, roc_auc_percent};
use super::{Classifier, Encoder, EvalError, EvalSet, Shard, batches};
use crate::values::to_vec;

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

impl Similarities {
    /// For each head the place of each image's own class, as [`places`] has it. On the CPU in one pass
    /// over the similarities: eleven heads would otherwise go over them some fifty times.
    fn places(&self, heads: &[Head], targets: &[usize]) -> Vec<Vec<i64>> {
        let on_cpu = self.z.device() == Device::Cpu && self.z.kind() == Kind::Float;
        if !on_cpu {
            let index: Vec<i64> = targets.iter().map(|&target| target as i64).collect();
            let index = Tensor::from_slice(&index).to_device(self.z.device());
            let of = |&head: &Head| to_vec::<i64>(&places(&self.of(head), &index));
            return heads.iter().map(of).collect();
        }
        let z = to_vec::<f32>(&self.z);
        let h = self.h.as_ref().map(to_vec::<f32>);
        let classes = z.len() / targets.len().max(1);
        let row = |values: &[f32], i: usize| values[i * classes..(i + 1) * classes].to_vec();
        let mut all = vec![Vec::with_capacity(targets.len()); heads.len()];
        let mut mixed = vec![0.0; classes];
        for (i, &target) in targets.iter().enumerate() {
            let z = row(&z, i);
            let h = h.as_ref().map_or_else(|| z.clone(), |h| row(h, i));
            for (places, &head) in all.iter_mut().zip(heads) {
                places.push(match head {
                    Head::Z => place(&z, target),
                    Head::H => place(&h, target),
                    Head::Mix(tenths) if self.h.is_some() => {
                        // Rounded as torch rounds a float32 tensor times a number.
                        let w = f64::from(tenths) / 10.0;
                        let (w, rest) = (w as f32, (1.0 - w) as f32);
                        for ((mixed, z), h) in mixed.iter_mut().zip(&z).zip(&h) {
                            *mixed = z * w + h * rest;
                        }
                        place(&mixed, target)
                    }
                    Head::Mix(_) => place(&z, target),
                });
            }
        }
        all
    }
}

/// Place of a class in a row of similarities; see [`places`].
fn place(similarity: &[f32], target: usize) -> i64 {
    let own = similarity[target];
    let before = similarity[..target].iter().filter(|&&other| other >= own);
    let after = similarity[target + 1..]
        .iter()
        .filter(|&&other| other > own);
    (before.count() + after.count()) as i64
}

/// The best class of each row of similarities `[B, C]`, of equal ones the first, as `[B]` int64.
fn best(similarity: &Tensor) -> Tensor {
    let classes = similarity.size()[1];
    let largest = similarity.amax([1_i64].as_slice(), true);
    let index = Tensor::arange(classes, (Kind::Int64, similarity.device()));
    let none = Tensor::from(classes).to_device(similarity.device());
    let at = index.where_self(&similarity.eq_tensor(&largest), &none);
    at.amin([1_i64].as_slice(), false)
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
    /// Keep which class each image was taken for.
    pub details: bool,
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

/// What came of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Counts by head: z, h, mixtures.
    pub heads: Vec<HeadScore>,
    /// The class that each image was taken for, by [`DETAILED`] head, if that was asked for.
    pub predicted: Vec<(Head, Vec<usize>)>,
}

/// Heads of which accuracies by class and confusions are written.
const DETAILED: [Head; 2] = [Head::Z, Head::H];

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
) -> Result<Scores, EvalError> {
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
    let detailed: Vec<Head> = heads
        .iter()
        .copied()
        .filter(|head| settings.details && DETAILED.contains(head))
        .collect();
    let mut predicted = vec![vec![0_i64; samples.len()]; detailed.len()];
    let mut done = 0;

    let side = encoder.image_size();
    let mine = shard.units(units);
    let device = encoder.device();
    batches::for_each(samples, mine, batch_size, side, settings.threads, |batch| {
        let similarities = tch::no_grad(|| {
            let embeddings = batch
                .with_images(device, |images| encoder.encode_image(images))
                .map_err(|e| EvalError::Model {
                    what: "images",
                    set: set.name.clone(),
                    cause: e.to_string(),
                })?;
            Similarities::new(&embeddings, classifier, &set.name)
        })?;
        for (tally, places) in tallies
            .iter_mut()
            .zip(similarities.places(&heads, &batch.targets))
        {
            for (&target, place) in batch.targets.iter().zip(places) {
                tally.count(target, place);
            }
        }
        if ranked > 0 {
            for (margins, &head) in margins.iter_mut().zip(&heads) {
                let similarity = similarities.of(head);
                let margin = similarity.select(1, 1) - similarity.select(1, 0);
                margins[batch.first..batch.first + batch.len()].copy_from_slice(&to_vec(&margin));
            }
        }
        for (predicted, &head) in predicted.iter_mut().zip(&detailed) {
            let best = to_vec::<i64>(&best(&similarities.of(head)));
            predicted[batch.first..batch.first + batch.len()].copy_from_slice(&best);
        }
        done += batch.len();
        Ok(progress(done, total))
    })?;

    let rows: Vec<i64> = tallies.iter().flat_map(Tally::to_row).collect();
    let counts = Tensor::from_slice(&rows).view([heads.len() as i64, -1]);
    let counts = shard.sum(counts.to_device(device), &set.name)?;
    // Each element is this rank's or zero, so that sums join the parts.
    let join = |own: Tensor| shard.sum(own.to_device(device), &set.name);
    let margins = (ranked > 0)
        .then(|| join(Tensor::from_slice(&margins.concat()).view([heads.len() as i64, -1])))
        .transpose()?;
    let predicted = (!detailed.is_empty())
        .then(|| join(Tensor::from_slice(&predicted.concat()).view([detailed.len() as i64, -1])))
        .transpose()?;
    let heads = heads
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
                let scores = to_vec::<f64>(&margins.get(k)).into_iter().enumerate();
                let scored: Vec<_> = scores.map(|(i, s)| (s, samples.target(i) == 1)).collect();
                roc_auc_percent(&scored)
            });
            Ok(HeadScore {
                head,
                tally,
                roc_auc,
            })
        })
        .collect::<Result<_, EvalError>>()?;
    let predicted = predicted.map_or_else(Vec::new, |predicted| {
        let of = |k| {
            to_vec::<i64>(&predicted.get(k))
                .into_iter()
                .map(|class| class as usize)
        };
        let heads = detailed.into_iter().zip(0..);
        heads.map(|(head, k)| (head, of(k).collect())).collect()
    });
    Ok(Scores { heads, predicted })
}
