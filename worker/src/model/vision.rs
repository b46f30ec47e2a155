//! Vision towers by name or by free dimensions.

use rocket_common::experiment::{VISION_NAMES, Vision, VitDims};
use tch::Tensor;

use super::batch_norm::SyncGroup;
use super::builder::Scope;
use super::pass::Pass;
use super::resnet::ResNet50;
use super::vit::Vit;
use super::{Error, Result};

/// Sizes of a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VitSize {
    /// Width of the residual stream.
    pub width: i64,
    /// Number of blocks.
    pub depth: i64,
    /// Attention heads.
    pub heads: i64,
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Side of the image in pixels.
    pub image_size: i64,
    /// Width between the two layers of a block's MLP.
    pub hidden: i64,
}

/// A vision tower, with its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionSize {
    /// ResNet-50.
    ResNet50,
    /// Vision transformer.
    Vit(VitSize),
}

impl VisionSize {
    /// Sizes of the tower that an experiment asks for.
    ///
    /// # Errors
    /// If this version does not build the tower, or free dimensions do not divide.
    pub fn of(vision: &Vision) -> Result<Self> {
        if matches!(vision, Vision::Named(name) if name == "R50") {
            return Ok(Self::ResNet50);
        }
        let Some(dims) = vision.vit() else {
            let name = match vision {
                Vision::Named(name) => name.clone(),
                Vision::Vit(_) => "vit".to_owned(),
            };
            let known = VISION_NAMES
                .into_iter()
                .filter(|name| Vision::Named((*name).to_owned()).is_trainable());
            return Err(Error::UnknownVision {
                name,
                known: known.collect::<Vec<_>>().join(", "),
            });
        };
        let VitDims {
            width,
            depth,
            heads,
            patch,
            image_size,
            ..
        } = dims;
        let positive = [width, depth, heads, patch, image_size]
            .iter()
            .all(|x| *x > 0);
        if !positive || width % heads != 0 || image_size % patch != 0 {
            return Err(Error::Dimensions(format!(
                "model.vision: width {width} must be a multiple of heads {heads}, image_size \
                 {image_size} of patch {patch}, and all of them positive"
            )));
        }
        Ok(Self::Vit(VitSize {
            width,
            depth,
            heads,
            patch,
            image_size,
            hidden: 4 * width,
        }))
    }

    /// Width of the feature.
    #[must_use]
    pub fn width(self) -> i64 {
        match self {
            Self::ResNet50 => ResNet50::WIDTH,
            Self::Vit(size) => size.width,
        }
    }

    /// Side of the image in pixels that the recipe gives it.
    #[must_use]
    pub fn image_size(self) -> i64 {
        match self {
            Self::ResNet50 => 224,
            Self::Vit(size) => size.image_size,
        }
    }

    /// Whether the tower has batch norms: then which samples share a batch matters.
    #[must_use]
    pub fn mixes_samples(self) -> bool {
        matches!(self, Self::ResNet50)
    }
}

/// A vision tower.
#[derive(Debug)]
pub(super) enum Tower {
    ResNet50(Box<ResNet50>),
    Vit(Box<Vit>),
}

impl Tower {
    pub(super) fn new(scope: &Scope, size: VisionSize, group: &SyncGroup) -> Result<Self> {
        match size {
            VisionSize::ResNet50 => Ok(Self::ResNet50(Box::new(ResNet50::new(scope, group)?))),
            VisionSize::Vit(size) => Ok(Self::Vit(Box::new(Vit::new(scope, size)?))),
        }
    }

    /// Images `[N, 3, H, W]` to features `[N, width]`.
    pub(super) fn forward(&self, images: &Tensor, pass: Pass) -> Result<Tensor> {
        match self {
            Self::ResNet50(tower) => tower.forward(images, pass),
            Self::Vit(tower) => tower.forward(images, pass),
        }
    }
}
