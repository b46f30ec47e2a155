//! Vision towers: by name, or by dimensions.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// The vision tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Vision {
    /// A size known by name: `R50`, `VITB16`, ...
    Named(String),
    /// A ViT of free dimensions.
    Vit(VitDims),
}

/// Dimensions of a ViT (timm's `VisionTransformer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitDims {
    /// Always `vit`.
    pub arch: VitArch,
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
}

/// The only architecture that takes free dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VitArch {
    /// Vision transformer.
    Vit,
}

/// Side of the image that every tower known by name takes, in pixels.
pub const NAMED_IMAGE_SIZE: i64 = 224;

/// ViTs known by name: width, depth, heads, patch. `VITS16MOCO` differs from `VITS16` in its heads
/// alone (timm's `vit_*_patch*_224`).
const VITS: [(&str, [i64; 4]); 6] = [
    ("VITS16", [384, 12, 6, 16]),
    ("VITS32", [384, 12, 6, 32]),
    ("VITS16MOCO", [384, 12, 12, 16]),
    ("VITB16", [768, 12, 12, 16]),
    ("VITB32", [768, 12, 12, 32]),
    ("VITL16", [1024, 24, 16, 16]),
];

/// Every tower known by name, trainable here or not yet.
pub const VISION_NAMES: [&str; 9] = [
    "R50",
    "VITS16",
    "VITS32",
    "VITS16MOCO",
    "VITB16",
    "VITB32",
    "VITL16",
    "CNEXTT",
    "CNEXTS",
];

impl VitDims {
    /// Dimensions of a ViT known by name; `None` for other towers.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (_, [width, depth, heads, patch]) =
            VITS.into_iter().find(|(known, _)| *known == name)?;
        Some(Self {
            arch: VitArch::Vit,
            width,
            depth,
            heads,
            patch,
            image_size: NAMED_IMAGE_SIZE,
        })
    }
}

impl Vision {
    /// Dimensions, if it is a ViT, by name or not.
    #[must_use]
    pub fn vit(&self) -> Option<VitDims> {
        match self {
            Self::Named(name) => VitDims::named(name),
            Self::Vit(dims) => Some(dims.clone()),
        }
    }

    /// Side of the image it takes, in pixels.
    #[must_use]
    pub fn image_size(&self) -> i64 {
        match self {
            Self::Named(_) => NAMED_IMAGE_SIZE,
            Self::Vit(dims) => dims.image_size,
        }
    }

    /// Whether this version can train it.
    #[must_use]
    pub fn is_trainable(&self) -> bool {
        self.vit().is_some() || matches!(self, Self::Named(name) if name == "R50")
    }
}

impl<'de> Deserialize<'de> for Vision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByNameOrDims;

        impl<'de> Visitor<'de> for ByNameOrDims {
            type Value = Vision;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name such as R50 or VITB16, or the dimensions of a ViT")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Vision, E> {
                Ok(Vision::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vision, A::Error> {
                VitDims::deserialize(MapAccessDeserializer::new(map)).map(Vision::Vit)
            }
        }

        // Unlike an untagged enum this passes the dimensions' own errors on.
        deserializer.deserialize_any(ByNameOrDims)
    }
}
