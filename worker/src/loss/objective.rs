//! What a model is trained on: the contrastive loss, and what its child adds.

use rocket_common::experiment::{Child, Experiment, LossAvgOrSum, Train};
use tch::{Kind, TchError, Tensor};
use tch_distributed::autocast;

use super::barlip::{BarlipOptions, barlip};
use super::contrastive::{ContrastiveOptions, Gathered, Normalised, contrastive};
use super::ranks::Ranks;
use super::siamlip::siamlip;
use super::swalip::{SwalipOptions, prototypes, swalip};
use crate::model::{ChildEmbeddings, Embeddings};

/// A loss with its parts.
#[derive(Debug)]
pub struct LossOutput {
    /// The scalar to run backward from.
    pub total: Tensor,
    /// Every term, accuracy and scale under the reference's name, detached scalars; `loss` is first.
    pub terms: Vec<(String, Tensor)>,
}

/// The child's part of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ChildLoss {
    None,
    Barlip(BarlipOptions),
    Siamlip,
    Swalip(SwalipOptions),
    Prototypes(SwalipOptions),
}

/// The loss of an experiment.
///
/// Over W ranks a rank's loss is that of its own rows against the rows of all; averaging the gradients
/// over ranks is the caller's matter. With `gather_with_grad` and BARLIP's corrected gradient those
/// averages are the gradients of one process on the joined batch. By default they are the reference's:
/// gathered rows carry no gradient when W > 1, and BARLIP's gradient is 1/W of the true one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    contrastive: ContrastiveOptions,
    gather_with_grad: bool,
    child: ChildLoss,
}

impl Objective {
    /// The loss of a resolved experiment.
    #[must_use]
    pub fn of(experiment: &Experiment) -> Self {
        Self::new(
            experiment.model.child.unwrap_or(Child::Clip),
            &experiment.train,
        )
    }

    /// The loss of a child with the options of a `train` section.
    #[must_use]
    pub fn new(child: Child, train: &Train) -> Self {
        let swalip = SwalipOptions {
            weight: train.swalip_weight,
            sk_iters: train.sk_iters,
            target_epsilon: train.target_epsilon,
        };
        Self {
            contrastive: ContrastiveOptions {
                label_smoothing: train.label_smoothing,
                // The original doubles only what has terms of augmented views.
                join: match child {
                    Child::Clip | Child::Swalipv1 => LossAvgOrSum::Avg,
                    _ => train.loss_avg_or_sum,
                },
            },
            gather_with_grad: train.gather_with_grad,
            child: match child {
                Child::Clip | Child::Cl2l => ChildLoss::None,
                Child::Barlip => ChildLoss::Barlip(BarlipOptions {
                    lamb: train.barlip_lamb,
                    scale: train.barlip_scale_loss,
                    grad: train.barlip_grad,
                }),
                Child::Siamlip => ChildLoss::Siamlip,
                Child::Swalip => ChildLoss::Swalip(swalip),
                Child::Swalipv1 => ChildLoss::Prototypes(swalip),
            },
        }
    }

    /// The loss of this rank's embeddings, in float32 at least: half-precision embeddings are cast, and an
    /// autocast around the call does not reach into it. Every rank must call it in the same order.
    ///
    /// # Errors
    /// If the embeddings are not those of this loss's child, a peer is lost, or torch fails.
    /// [`tch_distributed::Error::from`] tells these apart.
    pub fn compute(
        &self,
        embeddings: &Embeddings,
        ranks: &dyn Ranks,
    ) -> Result<LossOutput, TchError> {
        autocast(embeddings.z_image.device(), Kind::Float, || {
            self.compute_here(embeddings, ranks)
        })
        .map_err(|error| TchError::Torch(error.to_string()))?
    }

    fn compute_here(
        &self,
        embeddings: &Embeddings,
        ranks: &dyn Ranks,
    ) -> Result<LossOutput, TchError> {
        let local = Normalised::new(embeddings)?;
        let all = Gathered::of(&local, ranks, self.gather_with_grad)?;
        let mut output = contrastive(&local, &all, ranks.rank(), self.contrastive)?;
        let added = match (&self.child, &embeddings.child) {
            (ChildLoss::None, _) => return Ok(output),
            (ChildLoss::Barlip(options), ChildEmbeddings::Barlip { v }) => {
                Added::new("barlip_loss", barlip(v, *options, ranks)?, 1.0)
            }
            (ChildLoss::Siamlip, ChildEmbeddings::Siamlip { v, p, targets }) => {
                let targets = targets.as_ref().unwrap_or(v);
                Added::new("siamlip_loss", siamlip(p, targets)?, 1.0)
            }
            (ChildLoss::Swalip(options), ChildEmbeddings::None) => {
                let loss = swalip(&local, &all, *options, ranks)?;
                Added::new("swalip_loss", loss, options.weight)
            }
            (
                ChildLoss::Prototypes(options),
                ChildEmbeddings::Prototypes {
                    image,
                    text,
                    targets,
                    logit_scale,
                },
            ) => {
                let cosines = (image, text);
                let loss = prototypes(cosines, targets.as_ref(), logit_scale, *options, ranks)?;
                let mut added = Added::new("swalip_loss", loss, options.weight);
                added.scale = Some(("swalip_logit_scale", logit_scale.shallow_clone()));
                added
            }
            (child, _) => {
                return Err(TchError::Shape(format!(
                    "the embeddings are not those of the model whose loss is {child:?}"
                )));
            }
        };
        added.to(&mut output)?;
        Ok(output)
    }
}

/// What a child adds to the contrastive loss.
struct Added {
    name: &'static str,
    loss: Tensor,
    weight: f64,
    scale: Option<(&'static str, Tensor)>,
}

impl Added {
    fn new(name: &'static str, loss: Tensor, weight: f64) -> Self {
        Self {
            name,
            loss,
            weight,
            scale: None,
        }
    }

    fn to(self, output: &mut LossOutput) -> Result<(), TchError> {
        output.total = self.loss.f_mul_scalar(self.weight)?.f_add(&output.total)?;
        for (name, value) in &mut output.terms {
            if name == "loss" {
                *value = output.total.f_detach()?;
            }
        }
        let terms = std::iter::once((self.name, self.loss)).chain(self.scale);
        for (at, (name, value)) in terms.enumerate() {
            output
                .terms
                .insert(1 + at, (name.to_owned(), value.f_detach()?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_augmented_views_is_doubled() {
        let train = Train {
            loss_avg_or_sum: LossAvgOrSum::Sum,
            ..Train::default()
        };
        let join = |child| Objective::new(child, &train).contrastive.join;
        for child in [Child::Clip, Child::Swalipv1] {
            assert_eq!(join(child), LossAvgOrSum::Avg);
        }
        for child in [Child::Cl2l, Child::Barlip, Child::Siamlip, Child::Swalip] {
            assert_eq!(join(child), LossAvgOrSum::Sum);
        }
    }
}
