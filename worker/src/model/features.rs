//! What the towers give the heads: the cut at which a step can be split, so that the loss of a large
//! batch needs the activations of one micro-batch at a time (arXiv 2101.06983).

use tch::Tensor;

use super::embeddings::Views;
use super::{Error, Result};

/// Features of every view of both modalities, `[B, vision width]` and `[B, text width]`.
pub type Features = Views;

impl Views {
    /// Every tensor, always in this order: image, text, strong views, augmented captions.
    #[must_use]
    pub fn tensors(&self) -> Vec<&Tensor> {
        [&self.image, &self.text]
            .into_iter()
            .chain(&self.image_local)
            .chain(&self.text_local)
            .collect()
    }

    /// The same function of every tensor.
    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let all = |views: &[Tensor]| views.iter().map(&f).collect::<Result<Vec<_>>>();
        Ok(Self {
            image: f(&self.image)?,
            text: f(&self.text)?,
            image_local: all(&self.image_local)?,
            text_local: all(&self.text_local)?,
        })
    }

    /// Samples of all parts, in their order.
    ///
    /// # Errors
    /// If there are no parts, their views differ in number, or torch fails.
    pub fn cat(parts: &[Self]) -> Result<Self> {
        let [first, ..] = parts else {
            return Err(Error::Dimensions("no features to join".to_owned()));
        };
        let views = |part: &Self| (part.image_local.len(), part.text_local.len());
        if parts.iter().any(|part| views(part) != views(first)) {
            return Err(Error::Dimensions(
                "the features to join have different numbers of views".to_owned(),
            ));
        }
        let joined = |view: &dyn Fn(&Self) -> Tensor| -> Result<Tensor> {
            Ok(Tensor::f_cat(
                &parts.iter().map(view).collect::<Vec<_>>(),
                0,
            )?)
        };
        let (images, texts) = views(first);
        Ok(Self {
            image: joined(&|part| part.image.shallow_clone())?,
            text: joined(&|part| part.text.shallow_clone())?,
            image_local: (0..images)
                .map(|i| joined(&|part| part.image_local[i].shallow_clone()))
                .collect::<Result<_>>()?,
            text_local: (0..texts)
                .map(|i| joined(&|part| part.text_local[i].shallow_clone()))
                .collect::<Result<_>>()?,
        })
    }

    /// The same values as leaves of a new graph, which collect the gradient that a loss gives them.
    ///
    /// # Errors
    /// If torch fails.
    pub fn leaves(&self) -> Result<Self> {
        self.map(|tensor| Ok(tensor.f_detach()?.f_set_requires_grad(true)?))
    }

    /// A scalar whose backward pass gives this micro-batch the gradients that `leaves` collected for its
    /// samples, those from `first` on: the sum of features times gradients. Its value means nothing.
    ///
    /// # Errors
    /// If `leaves` holds fewer samples or other views, or torch fails.
    pub fn surrogate(&self, leaves: &Self, first: i64) -> Result<Tensor> {
        let (ours, theirs) = (self.tensors(), leaves.tensors());
        if ours.len() != theirs.len() {
            return Err(Error::Dimensions(
                "the features and their leaves have different numbers of views".to_owned(),
            ));
        }
        let mut sum: Option<Tensor> = None;
        for (feats, leaf) in ours.into_iter().zip(theirs) {
            let grad = leaf.f_grad()?;
            // A head may be cut off from its tower (`detach_proj`): then there is nothing to pass on.
            if !grad.defined() {
                continue;
            }
            let count = feats.size().first().copied().unwrap_or(0);
            let term = feats.f_mul(&grad.f_narrow(0, first, count)?)?.f_sum(None)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&term)?,
                None => term,
            });
        }
        match sum {
            Some(sum) => Ok(sum),
            None => Ok(self.image.f_sum(None)?.f_mul_scalar(0.0)?),
        }
    }
}
