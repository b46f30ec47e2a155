//! The CLIP and CL2L losses (arXiv 2103.00020, arXiv 2305.08675).
//!
//! Shapes: B samples of this rank, W ranks, A augmented views, E embedding width. The gathered batch
//! has W B rows; the labels of this rank's rows are its own block of them.

use rocket_common::experiment::LossAvgOrSum;
use tch::{Kind, Reduction, TchError, Tensor};

use super::LossOutput;
use super::normalise::{normalise, normalise_all, widen};
use super::ranks::Ranks;
use crate::model::Embeddings;

/// L2-normalised embeddings of one rank, ready to be gathered.
#[derive(Debug)]
pub(super) struct Normalised {
    /// Weak views, `[B, E]`.
    pub(super) image: Tensor,
    /// Global captions, `[B, E]`.
    pub(super) text: Tensor,
    /// Strong views, A of `[B, E]`.
    pub(super) image_local: Vec<Tensor>,
    /// Augmented captions, A of `[B, E]`.
    pub(super) text_local: Vec<Tensor>,
    /// Factor of the global logits.
    pub(super) logit_scale: Tensor,
    /// Factor of the local logits.
    pub(super) h_logit_scale: Tensor,
}

impl Normalised {
    /// Normalises what the model encoded.
    pub(super) fn new(embeddings: &Embeddings) -> Result<Self, TchError> {
        Ok(Self {
            image: normalise(&embeddings.z_image)?,
            text: normalise(&embeddings.z_text)?,
            image_local: normalise_all(&embeddings.h_image_local)?,
            text_local: normalise_all(&embeddings.h_text_local)?,
            logit_scale: widen(&embeddings.logit_scale)?,
            h_logit_scale: widen(&embeddings.h_logit_scale)?,
        })
    }

    /// Everything that is gathered as one tensor `[2 + 2A, B, E]`, so that one collective does.
    fn payload(&self) -> Result<Tensor, TchError> {
        let mut all = vec![&self.image, &self.text];
        all.extend(&self.image_local);
        all.extend(&self.text_local);
        Tensor::f_stack(&all, 0)
    }
}

/// Normalised embeddings of all ranks, `[W B, E]` each, rank after rank.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Of the weak views.
    pub(super) image: Tensor,
    /// Of the global captions.
    pub(super) text: Tensor,
    /// Of the strong views.
    pub(super) image_local: Vec<Tensor>,
    /// Of the augmented captions.
    pub(super) text_local: Vec<Tensor>,
}

impl Gathered {
    /// Gathers this rank's embeddings and the others'. One rank alone takes its own as they are, with
    /// their gradient; over several they carry gradient, this rank's own block included, only `with_grad`:
    /// without is the reference's semantics.
    pub(super) fn of(
        local: &Normalised,
        ranks: &dyn Ranks,
        with_grad: bool,
    ) -> Result<Self, TchError> {
        if ranks.size() == 1 {
            Ok(Self::alone(local))
        } else {
            Self::from_payloads(&ranks.gather(&local.payload()?, with_grad)?)
        }
    }

    fn alone(local: &Normalised) -> Self {
        let views = |views: &[Tensor]| views.iter().map(Tensor::shallow_clone).collect();
        Self {
            image: local.image.shallow_clone(),
            text: local.text.shallow_clone(),
            image_local: views(&local.image_local),
            text_local: views(&local.text_local),
        }
    }

    /// Out of the gathered payloads `[W, 2 + 2A, B, E]`.
    fn from_payloads(all: &Tensor) -> Result<Self, TchError> {
        let (ranks, views, b, e) = all.size4()?;
        // [W, V, B, E] -> V of [W B, E].
        let mut views_all = all
            .f_transpose(0, 1)?
            .f_reshape([views, ranks * b, e])?
            .f_unbind(0)?
            .into_iter();
        let augs = usize::try_from(views).unwrap_or(0).saturating_sub(2) / 2;
        let mut next = || {
            views_all.next().ok_or_else(|| {
                TchError::Shape(format!("payloads need 2 + 2A views, not {:?}", all.size()))
            })
        };
        Ok(Self {
            image: next()?,
            text: next()?,
            image_local: (0..augs).map(|_| next()).collect::<Result<_, _>>()?,
            text_local: (0..augs).map(|_| next()).collect::<Result<_, _>>()?,
        })
    }
}

/// What the loss does beyond the embeddings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ContrastiveOptions {
    /// Label smoothing of the local terms.
    pub(super) label_smoothing: f64,
    /// How the modalities join.
    pub(super) join: LossAvgOrSum,
}

/// Cross-entropy and top-1 in per cent of logits `[N, classes]`.
fn entropy(
    logits: &Tensor,
    labels: &Tensor,
    label_smoothing: f64,
) -> Result<(Tensor, Tensor), TchError> {
    let loss = logits.f_cross_entropy_loss(
        labels,
        None::<&Tensor>,
        Reduction::Mean,
        -100,
        label_smoothing,
    )?;
    let right = logits
        .f_detach()?
        .f_argmax(-1, false)?
        .f_eq_tensor(labels)?;
    let accuracy = right
        .f_to_kind(loss.f_kind()?)?
        .f_mean(None)?
        .f_mul_scalar(100.0)?;
    Ok((loss, accuracy))
}

/// One direction of the local terms: the mean over all A*A pairs of (view here, view there).
fn local_entropy(
    here: &[Tensor],
    there: &[Tensor],
    scale: &Tensor,
    labels: &Tensor,
    label_smoothing: f64,
) -> Result<(Tensor, Tensor), TchError> {
    let augs = here.len() as i64;
    let (b, all) = (labels.size1()?, there[0].size()[0]);
    let here = Tensor::f_cat(here, 0)?.f_mul(scale)?;
    let there = Tensor::f_cat(there, 0)?;
    // Row (view, sample), column (view, sample of all): one cross-entropy over every pair of views.
    let logits = here
        .f_linear(&there, None::<&Tensor>)?
        .f_view([augs * b * augs, all])?;
    let labels = labels
        .f_view([1, b, 1])?
        .f_expand([augs, b, augs], false)?
        .f_reshape([-1])?;
    entropy(&logits, &labels, label_smoothing)
}

/// CLIP's and CL2L's loss. Without augmented views it is CLIP's to the bit.
pub(super) fn contrastive(
    local: &Normalised,
    all: &Gathered,
    rank: usize,
    options: ContrastiveOptions,
) -> Result<LossOutput, TchError> {
    let b = local.image.size()[0];
    let place = (Kind::Int64, local.image.device());
    let labels = Tensor::f_arange(b, place)?.f_add_scalar(b * rank as i64)?;
    let global = |here: &Tensor, there: &Tensor| {
        let logits = here
            .f_mul(&local.logit_scale)?
            .f_linear(there, None::<&Tensor>)?;
        entropy(&logits, &labels, 0.0)
    };
    let (image_global, image_accuracy) = global(&local.image, &all.text)?;
    let (text_global, text_accuracy) = global(&local.text, &all.image)?;
    let augs = local.image_local.len();

    let mut terms: Vec<(&str, Tensor)> = Vec::new();
    let (image, text) = if augs == 0 {
        (image_global.shallow_clone(), text_global.shallow_clone())
    } else {
        let direction = |here: &[Tensor], there: &[Tensor]| {
            let smoothing = options.label_smoothing;
            local_entropy(here, there, &local.h_logit_scale, &labels, smoothing)
        };
        let (image_local, image_local_accuracy) = direction(&local.image_local, &all.text_local)?;
        let (text_local, text_local_accuracy) = direction(&local.text_local, &all.image_local)?;
        let join = |global: &Tensor, views: &Tensor| {
            let augs = augs as f64;
            global
                .f_add(&views.f_mul_scalar(augs)?)?
                .f_div_scalar(1.0 + augs)
        };
        let joined = (
            join(&image_global, &image_local)?,
            join(&text_global, &text_local)?,
        );
        terms.extend([
            ("clip_loss_image_local", image_local),
            ("clip_loss_text_local", text_local),
            ("clip_acc_image_local", image_local_accuracy),
            ("clip_acc_text_local", text_local_accuracy),
        ]);
        joined
    };
    let mean = image.f_add(&text)?.f_div_scalar(2.0)?;
    let total = match options.join {
        LossAvgOrSum::Avg => mean.shallow_clone(),
        LossAvgOrSum::Sum => mean.f_mul_scalar(2.0)?,
    };
    let mut named = vec![
        ("loss", total.shallow_clone()),
        ("clip_loss", mean),
        ("clip_loss_image", image),
        ("clip_loss_text", text),
        ("clip_loss_image_global", image_global),
        ("clip_loss_text_global", text_global),
        ("clip_acc", image_accuracy.shallow_clone()),
        ("clip_acc_image_global", image_accuracy),
        ("clip_acc_text_global", text_accuracy),
        ("logit_scale", local.logit_scale.shallow_clone()),
        ("h_logit_scale", local.h_logit_scale.shallow_clone()),
    ];
    named.append(&mut terms);
    let terms = named
        .into_iter()
        .map(|(name, value)| Ok((name.to_owned(), value.f_detach()?)))
        .collect::<Result<_, TchError>>()?;
    Ok(LossOutput { total, terms })
}
