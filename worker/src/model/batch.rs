//! What a step takes in.

use tch::{Device, Tensor};
use tch_distributed::device::{pin, upload};

use super::Result;

/// One micro-batch of one rank.
///
/// B samples, V views of a caption (1 + `num_augs` for base CL2L, 1 for CLIP), A = V - 1.
#[derive(Debug)]
pub struct Batch {
    /// Weak view, `[B, 3, H, W]`, normalised.
    pub image_global: Tensor,
    /// A strong views, each `[B, 3, h, w]`.
    pub images_local: Vec<Tensor>,
    /// Token ids, `[B, V, context_length]` int64; view 0 is the global caption.
    pub tokens: Tensor,
}

impl Batch {
    /// What a loader made, on the CPU.
    #[must_use]
    pub fn from_host(host: &crate::data::HostBatch) -> Self {
        let (mut images, tokens) = host.to_tensors();
        let images_local = images.split_off(1);
        Self {
            image_global: images.remove(0),
            images_local,
            tokens,
        }
    }

    /// The images of all views, the weak one first.
    pub(super) fn views(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.image_global).chain(&self.images_local)
    }

    /// The same batch on a device. To a GPU the copies go from pinned memory, beside what it computes.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let copy = |tensor: &Tensor| -> Result<Tensor> {
            if device == Device::Cpu {
                return Ok(tensor.f_to_device(device)?);
            }
            Ok(upload(&pin(tensor)?, device)?)
        };
        Ok(Self {
            image_global: copy(&self.image_global)?,
            images_local: self.images_local.iter().map(copy).collect::<Result<_>>()?,
            tokens: copy(&self.tokens)?,
        })
    }
}
