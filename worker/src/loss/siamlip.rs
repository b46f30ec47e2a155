//! SiamLIP and BYOLIP: SimSiam (arXiv 2011.10566) and BYOL (arXiv 2006.07733) between modalities.

use tch::{TchError, Tensor};

use super::normalise::{normalise, normalise_all};
use crate::model::Views;

/// The mean of 2 + 2 A*A terms `2 - 2 cos(p, v)` across modalities: each prediction `p` of one modality
/// against each target `v` of the other, global with global and augmented with augmented. No gradient
/// flows into the targets.
pub(super) fn siamlip(p: &Views, v: &Views) -> Result<Tensor, TchError> {
    let global = cosines(&p.image, &v.text)?.f_add(&cosines(&p.text, &v.image)?)?;
    let pairs = p.image_local.len() * v.text_local.len() + p.text_local.len() * v.image_local.len();
    let all = if pairs == 0 {
        global
    } else {
        let image = cosines_of_all(&p.image_local, &v.text_local)?;
        let text = cosines_of_all(&p.text_local, &v.image_local)?;
        global.f_add(&image)?.f_add(&text)?
    };
    all.f_mul_scalar(-2.0 / (2 + pairs) as f64)?
        .f_add_scalar(2.0)
}

/// Mean over samples of the cosine of two embeddings `[B, D]`.
fn cosines(p: &Tensor, v: &Tensor) -> Result<Tensor, TchError> {
    inner(&normalise(p)?, &normalise(&v.f_detach()?)?)
}

/// The sum over all pairs of views of their cosines: the inner product of the views' sums.
fn cosines_of_all(p: &[Tensor], v: &[Tensor]) -> Result<Tensor, TchError> {
    let sum = |views: Vec<Tensor>| {
        Tensor::f_stack(&views, 0)?.f_sum_dim_intlist([0i64].as_slice(), false, None)
    };
    let v = v
        .iter()
        .map(Tensor::f_detach)
        .collect::<Result<Vec<_>, _>>()?;
    inner(&sum(normalise_all(p)?)?, &sum(normalise_all(&v)?)?)
}

fn inner(p: &Tensor, v: &Tensor) -> Result<Tensor, TchError> {
    p.f_mul(v)?
        .f_sum_dim_intlist([1i64].as_slice(), false, None)?
        .f_mean(None)
}
