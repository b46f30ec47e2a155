//! Vision towers by name or by free dimensions.

use rocket_common::experiment::{Vision, VitDims};
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

/// Named vision transformers: (name, width, depth, heads, patch). 224 pixels, MLP of 4 widths.
const NAMED: [(&str, i64, i64, i64, i64); 6] = [
    ("VITS16", 384, 12, 6, 16),
    ("VITS32", 384, 12, 6, 32),
    ("VITS16MOCO", 384, 12, 12, 16),
    ("VITB16", 768, 12, 12, 16),
    ("VITB32", 768, 12, 12, 32),
    ("VITL16", 1024, 24, 16, 16),
];

impl VisionSize {
    /// Sizes of the tower that an experiment asks for.
    ///
    /// # Errors
    /// If the name is unknown, or free dimensions do not divide.
    pub fn of(vision: &Vision) -> Result<Self> {
        match vision {
            Vision::Named(name) => Self::named(name),
            Vision::Vit(VitDims {
                width,
                depth,
                heads,
                patch,
                image_size,
                ..
            }) => {
                let positive = [*width, *depth, *heads, *patch, *image_size]
                    .iter()
                    .all(|x| *x > 0);
                if !positive || width % heads != 0 || image_size % patch != 0 {
                    return Err(Error::Dimensions(format!(
                        "model.vision: width {width} must be a multiple of heads {heads}, \
                         image_size {image_size} of patch {patch}, and all of them positive"
                    )));
                }
                Ok(Self::Vit(VitSize {
                    width: *width,
                    depth: *depth,
                    heads: *heads,
                    patch: *patch,
                    image_size: *image_size,
                    hidden: 4 * width,
                }))
            }
        }
    }

    fn named(name: &str) -> Result<Self> {
        if name == "R50" {
            return Ok(Self::ResNet50);
        }
        let Some((_, width, depth, heads, patch)) = NAMED.into_iter().find(|row| row.0 == name)
        else {
            let known: Vec<&str> = std::iter::once("R50")
                .chain(NAMED.iter().map(|row| row.0))
                .collect();
            return Err(Error::UnknownVision {
                name: name.to_owned(),
                known: known.join(", "),
            });
        };
        Ok(Self::Vit(VitSize {
            width,
            depth,
            heads,
            patch,
            image_size: 224,
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
