//! A micro-batch in host memory.

use tch::Tensor;

use super::order::GlobalPosition;
use super::sample::BadSample;
use crate::text::CONTEXT_LENGTH;

/// A micro-batch of one rank.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// Where its step begins.
    pub position: GlobalPosition,
    /// Which of the step's micro-batches it is, from 0.
    pub micro_batch: u64,
    /// The samples, in order; a replacement in the place of an unreadable one.
    pub samples: Vec<u64>,
    /// Unreadable samples that were replaced.
    pub bad: Vec<BadSample>,
    /// Per view `[B, 3, s, s]`, normalised; the first is the global one.
    pub images: Vec<Vec<f32>>,
    /// Side s of each view in pixels.
    pub sizes: Vec<usize>,
    /// `[B, V, 77]`.
    pub tokens: Vec<i64>,
    /// V.
    pub caption_views: usize,
}

impl HostBatch {
    /// Number of samples, B.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Image views `[B, 3, s, s]` (the first is the global one) and tokens `[B, V, 77]` on the CPU.
    pub fn to_tensors(&self) -> (Vec<Tensor>, Tensor) {
        let count = self.len() as i64;
        let images = self
            .images
            .iter()
            .zip(&self.sizes)
            .map(|(values, &size)| {
                Tensor::from_slice(values).view([count, 3, size as i64, size as i64])
            })
            .collect();
        let views = self.caption_views as i64;
        let tokens = Tensor::from_slice(&self.tokens).view([count, views, CONTEXT_LENGTH as i64]);
        (images, tokens)
    }
}
