//! Vision towers by name or by free dimensions.

use rocket_common::experiment::{CONVNEXT_STRIDE, ConvNextDims, VISION_NAMES, Vision, VitDims};
use tch::Tensor;

use super::batch_norm::SyncGroup;
use super::builder::Scope;
use super::convnext::ConvNext;
use super::pass::Pass;
use super::resnet::ResNet50;
use super::segments::{Cost, Plan};
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
    /// ConvNeXt.
    ConvNext(ConvNextSize),
}

/// Sizes of a ConvNeXt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvNextSize {
    /// Blocks of the four stages.
    pub depths: [i64; 4],
    /// Channels of the four stages.
    pub widths: [i64; 4],
    /// Side of the image in pixels.
    pub image_size: i64,
}

impl VisionSize {
    /// Sizes of the tower that an experiment asks for.
    ///
    /// # Errors
    /// If there is no tower of its name, or free dimensions do not divide.
    pub fn of(vision: &Vision) -> Result<Self> {
        if matches!(vision, Vision::Named(name) if name == "R50") {
            return Ok(Self::ResNet50);
        }
        if let Some(dims) = vision.vit() {
            return Self::of_vit(&dims);
        }
        if let Some(dims) = vision.convnext() {
            return Self::of_convnext(&dims);
        }
        let name = match vision {
            Vision::Named(name) => name.clone(),
            Vision::Vit(_) | Vision::ConvNext(_) => String::new(),
        };
        let known = VISION_NAMES.join(", ");
        Err(Error::UnknownVision { name, known })
    }

    fn of_vit(dims: &VitDims) -> Result<Self> {
        let hidden = dims.hidden();
        let VitDims {
            width,
            depth,
            heads,
            patch,
            image_size,
            ..
        } = *dims;
        let positive = [width, depth, heads, patch, image_size, hidden]
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
            hidden,
        }))
    }

    fn of_convnext(dims: &ConvNextDims) -> Result<Self> {
        let ConvNextDims {
            depths,
            widths,
            image_size,
            ..
        } = *dims;
        if depths.iter().chain(&widths).any(|x| *x <= 0) || image_size < CONVNEXT_STRIDE {
            return Err(Error::Dimensions(format!(
                "model.vision: depths {depths:?} and widths {widths:?} must be positive, and image_size \
                 {image_size} at least {CONVNEXT_STRIDE}"
            )));
        }
        Ok(Self::ConvNext(ConvNextSize {
            depths,
            widths,
            image_size,
        }))
    }

    /// Width of the feature.
    #[must_use]
    pub fn width(self) -> i64 {
        match self {
            Self::ResNet50 => ResNet50::WIDTH,
            Self::Vit(size) => size.width,
            Self::ConvNext(size) => size.widths[3],
        }
    }

    /// Side of the image in pixels that the recipe gives it.
    #[must_use]
    pub fn image_size(self) -> i64 {
        match self {
            Self::ResNet50 => 224,
            Self::Vit(size) => size.image_size,
            Self::ConvNext(size) => size.image_size,
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
    ConvNext(Box<ConvNext>),
}

impl Tower {
    pub(super) fn new(scope: &Scope, size: VisionSize, group: &SyncGroup) -> Result<Self> {
        Ok(match size {
            VisionSize::ResNet50 => Self::ResNet50(Box::new(ResNet50::new(scope, group)?)),
            VisionSize::Vit(size) => Self::Vit(Box::new(Vit::new(scope, size)?)),
            VisionSize::ConvNext(size) => Self::ConvNext(Box::new(ConvNext::new(scope, size)?)),
        })
    }

    /// Images `[N, 3, H, W]` to features `[N, width]`.
    pub(super) fn forward(&self, images: &Tensor, pass: Pass, plan: &Plan) -> Result<Tensor> {
        match self {
            Self::ResNet50(tower) => tower.forward(images, pass, plan),
            Self::Vit(tower) => tower.forward(images, pass, plan),
            Self::ConvNext(tower) => tower.forward(images, pass, plan),
        }
    }

    /// Values that each block keeps for its backward pass, images `[n, 3, h, w]`.
    pub(super) fn costs(&self, images: [i64; 3]) -> Vec<Cost> {
        match self {
            Self::ResNet50(_) => ResNet50::costs(images),
            Self::Vit(tower) => tower.costs(images[0]),
            Self::ConvNext(tower) => tower.costs(images),
        }
    }
}
