//! BarLIP: Barlow Twins (arXiv 2103.03230) between modalities.

use rocket_common::experiment::BarlipGrad;
use tch::{TchError, Tensor};

use super::normalise::widen;
use super::ranks::Ranks;
use crate::model::Views;

/// Options of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BarlipOptions {
    /// Weight of the off-diagonal terms.
    pub(super) lamb: f64,
    /// Factor of the whole.
    pub(super) scale: f64,
    /// Gradient over several ranks.
    pub(super) grad: BarlipGrad,
}

/// The mean over the pair of global views and the A*A pairs of augmented ones of
/// `scale * sum((C - I)^2)`, off-diagonal terms by `lamb`, with C `[D, D]` the cross-correlation of a pair
/// over the samples of all ranks.
///
/// The reference sums C over ranks out of autograd's sight, so that a rank's gradient is that of its own
/// part of C; averaged over W ranks that is 1/W of the true gradient. As every rank computes the same loss,
/// W times that is the true one, without a collective in backward.
pub(super) fn barlip(
    v: &Views,
    options: BarlipOptions,
    ranks: &dyn Ranks,
) -> Result<Tensor, TchError> {
    let mut loss = pair(&v.image, &v.text, options, ranks)?;
    // Pair after pair: C takes 256 MB at D = 8192, so that there is nothing to gain from fewer collectives.
    for image in &v.image_local {
        for text in &v.text_local {
            loss = loss.f_add(&pair(image, text, options, ranks)?)?;
        }
    }
    let pairs = 1 + v.image_local.len() * v.text_local.len();
    let loss = loss.f_div_scalar(pairs as f64)?;
    if options.grad == BarlipGrad::Reference || ranks.size() == 1 {
        return Ok(loss);
    }
    // The value to the bit, with W times the gradient.
    let value = loss.f_detach()?;
    let nothing = loss.f_sub(&value)?;
    value.f_add(&nothing.f_mul_scalar(ranks.size() as f64)?)
}

/// The loss of one pair of embeddings `[B, D]`.
fn pair(
    image: &Tensor,
    text: &Tensor,
    options: BarlipOptions,
    ranks: &dyn Ranks,
) -> Result<Tensor, TchError> {
    let (b, _) = image.size2()?;
    let c = widen(image)?
        .f_tr()?
        .f_matmul(&widen(text)?)?
        .f_div_scalar(b as f64)?;
    let c = if ranks.size() == 1 {
        c
    } else {
        ranks.sum(&c, false)?.f_div_scalar(ranks.size() as f64)?
    };
    let diagonal = c
        .f_diagonal(0, 0, 1)?
        .f_sub_scalar(1.0)?
        .f_square()?
        .f_sum(None)?;
    // In place, so that one tensor of this size is kept for backward.
    let _ = c.f_diagonal(0, 0, 1)?.f_zero_()?;
    let others = c.f_square()?.f_sum(None)?;
    diagonal
        .f_add(&others.f_mul_scalar(options.lamb)?)?
        .f_mul_scalar(options.scale)
}
