//! SwALIP and SwALIPV1: SwAV (arXiv 2006.09882) between modalities, with the batch or learnt vectors as
//! prototypes.
//!
//! Shapes: B samples of this rank, W ranks, K prototypes, A augmented views; N problems that are solved at
//! once, so that the number of collectives does not grow with the number of pairs of views.

use tch::{TchError, Tensor};

use super::contrastive::{Gathered, Normalised};
use super::normalise::widen;
use super::ranks::Ranks;

/// Options of both losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SwalipOptions {
    /// Factor of the loss.
    pub(super) weight: f64,
    /// Iterations of Sinkhorn-Knopp.
    pub(super) sk_iters: u32,
    /// Entropy regularisation of Sinkhorn-Knopp.
    pub(super) target_epsilon: f64,
}

/// Assignments of samples to prototypes, by Sinkhorn-Knopp over the samples of all ranks: out of cosines
/// `[N, B, K]`, rows that sum to 1 and use the prototypes alike. `1 + sk_iters` collectives.
fn sinkhorn_knopp(
    cosines: &Tensor,
    options: SwalipOptions,
    ranks: &dyn Ranks,
) -> Result<Tensor, TchError> {
    let _guard = tch::no_grad_guard();
    let sum = |q: &Tensor, dims: &[i64]| q.f_sum_dim_intlist(dims, true, None);
    let over_ranks = |part: Tensor| {
        if ranks.size() == 1 {
            Ok(part)
        } else {
            ranks.sum(&part, false)
        }
    };
    let (_, b, prototypes) = cosines.size3()?;
    let (samples, prototypes) = (b as f64 * ranks.size() as f64, prototypes as f64);
    let mut q = cosines
        .f_detach()?
        .f_div_scalar(options.target_epsilon)?
        .f_exp()?;
    q = q.f_div(&over_ranks(sum(&q, &[1, 2])?)?)?;
    for _ in 0..options.sk_iters {
        // Every prototype gets 1/K of all weight, then every sample 1/(W B).
        q = q
            .f_div(&over_ranks(sum(&q, &[1])?)?)?
            .f_div_scalar(prototypes)?;
        q = q.f_div(&sum(&q, &[2])?)?.f_div_scalar(samples)?;
    }
    q.f_mul_scalar(samples)
}

/// Mean over problems and samples of the cross-entropy of logits and assignments, both `[N, B, K]`.
fn cross_entropy(logits: &Tensor, assignments: &Tensor) -> Result<Tensor, TchError> {
    logits
        .f_log_softmax(-1, None)?
        .f_mul(assignments)?
        .f_sum_dim_intlist([-1i64].as_slice(), false, None)?
        .f_mean(None)?
        .f_neg()
}

/// SwALIP: each augmented view is assigned to the embeddings of all augmented views of the other modality,
/// gathered over ranks (K = W B), and must predict the assignment of the other pair of views.
pub(super) fn swalip(
    local: &Normalised,
    all: &Gathered,
    options: SwalipOptions,
    ranks: &dyn Ranks,
) -> Result<Tensor, TchError> {
    let augs = local.image_local.len();
    if augs != 2 || local.text_local.len() != 2 {
        return Err(TchError::Shape(format!(
            "SWALIP swaps the targets of two augmented views; there are {augs}"
        )));
    }
    let mut cosines = Vec::with_capacity(8);
    for (here, there) in [
        (&local.image_local, &all.text_local),
        (&local.text_local, &all.image_local),
    ] {
        for here in here {
            for there in there {
                cosines.push(here.f_linear(there, None::<&Tensor>)?);
            }
        }
    }
    // [modality * view here * view there, B, W B].
    let cosines = Tensor::f_stack(&cosines, 0)?;
    let (n, b, k) = cosines.size3()?;
    let targets = sinkhorn_knopp(&cosines, options, ranks)?
        .f_view([2, 2, 2, b, k])?
        .f_flip([1i64, 2])?
        .f_reshape([n, b, k])?;
    cross_entropy(&cosines.f_mul(&local.h_logit_scale)?, &targets)
}

/// SwALIPV1: each modality predicts the other's assignment to learnt prototypes. `image` and `text` are
/// cosines with the prototypes, `[B, K]`; the assignments are made of `targets`, or of these themselves.
pub(super) fn prototypes(
    (image, text): (&Tensor, &Tensor),
    targets: Option<&(Tensor, Tensor)>,
    logit_scale: &Tensor,
    options: SwalipOptions,
    ranks: &dyn Ranks,
) -> Result<Tensor, TchError> {
    let cosines = widen(&Tensor::f_stack(&[image, text], 0)?)?;
    let targets = match targets {
        Some((image, text)) => widen(&Tensor::f_stack(&[image, text], 0)?)?,
        None => cosines.f_detach()?,
    };
    let targets = sinkhorn_knopp(&targets, options, ranks)?.f_flip([0i64])?;
    cross_entropy(&cosines.f_mul(&widen(logit_scale)?)?, &targets)
}
