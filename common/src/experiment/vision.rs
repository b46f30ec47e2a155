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
    /// A ConvNeXt of free dimensions.
    ConvNext(ConvNextDims),
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
    /// Width between the two layers of a block's MLP; four times `width` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<i64>,
}

/// The architecture of [`VitDims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VitArch {
    /// Vision transformer.
    Vit,
}

/// Dimensions of a ConvNeXt (timm's `ConvNeXt`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextDims {
    /// Always `convnext`.
    pub arch: ConvNextArch,
    /// Blocks of the four stages.
    pub depths: [i64; 4],
    /// Channels of the four stages.
    pub widths: [i64; 4],
    /// Side of the image in pixels.
    pub image_size: i64,
}

/// The architecture of [`ConvNextDims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConvNextArch {
    /// ConvNeXt.
    ConvNext,
}

/// Side of the image that a tower known by name takes, in pixels, unless its name ends with `AT384`.
pub const NAMED_IMAGE_SIZE: i64 = 224;

/// Pixels of an image's side that become one place of the last stage: the stem's 4 and three halvings.
pub const CONVNEXT_STRIDE: i64 = 32;

/// ViTs known by name: width, depth, heads, patch, hidden width, image size (timm's `vit_*_patch*_*` and
/// those that the reference registers). `VITS16MOCO` differs from `VITS16` in its heads alone; `VITG14` is
/// giant (g/14), `VITGG14` gigantic (G/14).
const VITS: [(&str, [i64; 6]); 20] = [
    ("VITT16", [192, 12, 3, 16, 768, 224]),
    ("VITS16", [384, 12, 6, 16, 1536, 224]),
    ("VITS32", [384, 12, 6, 32, 1536, 224]),
    ("VITS16MOCO", [384, 12, 12, 16, 1536, 224]),
    ("VITB8", [768, 12, 12, 8, 3072, 224]),
    ("VITB16", [768, 12, 12, 16, 3072, 224]),
    ("VITB32", [768, 12, 12, 32, 3072, 224]),
    ("VITL14", [1024, 24, 16, 14, 4096, 224]),
    ("VITL16", [1024, 24, 16, 16, 4096, 224]),
    ("VITL32", [1024, 24, 16, 32, 4096, 224]),
    ("VITH14", [1280, 32, 16, 14, 5120, 224]),
    ("VITG14", [1408, 40, 16, 14, 6144, 224]),
    ("VITGG14", [1664, 48, 16, 14, 8192, 224]),
    ("VITT16AT384", [192, 12, 3, 16, 768, 384]),
    ("VITS16AT384", [384, 12, 6, 16, 1536, 384]),
    ("VITS32AT384", [384, 12, 6, 32, 1536, 384]),
    ("VITB16AT384", [768, 12, 12, 16, 3072, 384]),
    ("VITB32AT384", [768, 12, 12, 32, 3072, 384]),
    ("VITL16AT384", [1024, 24, 16, 16, 4096, 384]),
    ("VITL32AT384", [1024, 24, 16, 32, 4096, 384]),
];

/// ConvNeXts known by name, by their depths; widths are 96, 192, 384, 768.
const CONVNEXTS: [(&str, [i64; 4]); 2] = [("CNEXTT", [3, 3, 9, 3]), ("CNEXTS", [3, 3, 27, 3])];

/// Every tower known by name.
pub const VISION_NAMES: [&str; 23] = [
    "R50",
    "VITS16",
    "VITS32",
    "VITS16MOCO",
    "VITB16",
    "VITB32",
    "VITL16",
    "CNEXTT",
    "CNEXTS",
    "VITT16",
    "VITB8",
    "VITL14",
    "VITL32",
    "VITH14",
    "VITG14",
    "VITGG14",
    "VITT16AT384",
    "VITS16AT384",
    "VITS32AT384",
    "VITB16AT384",
    "VITB32AT384",
    "VITL16AT384",
    "VITL32AT384",
];

impl VitDims {
    /// Dimensions of a ViT known by name; `None` for other towers.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (_, [width, depth, heads, patch, hidden, image_size]) =
            VITS.into_iter().find(|(known, _)| *known == name)?;
        Some(Self {
            arch: VitArch::Vit,
            width,
            depth,
            heads,
            patch,
            image_size,
            hidden: Some(hidden),
        })
    }

    /// Width between the two layers of a block's MLP.
    #[must_use]
    pub fn hidden(&self) -> i64 {
        self.hidden.unwrap_or(self.width.saturating_mul(4))
    }
}

impl ConvNextDims {
    /// Dimensions of a ConvNeXt known by name; `None` for other towers.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (_, depths) = CONVNEXTS.into_iter().find(|(known, _)| *known == name)?;
        Some(Self {
            arch: ConvNextArch::ConvNext,
            depths,
            widths: [96, 192, 384, 768],
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
            Self::ConvNext(_) => None,
        }
    }

    /// Dimensions, if it is a ConvNeXt, by name or not.
    #[must_use]
    pub fn convnext(&self) -> Option<ConvNextDims> {
        match self {
            Self::Named(name) => ConvNextDims::named(name),
            Self::ConvNext(dims) => Some(dims.clone()),
            Self::Vit(_) => None,
        }
    }

    /// Side of the image it takes, in pixels.
    #[must_use]
    pub fn image_size(&self) -> i64 {
        match self {
            Self::Named(_) => self.vit().map_or(NAMED_IMAGE_SIZE, |dims| dims.image_size),
            Self::Vit(dims) => dims.image_size,
            Self::ConvNext(dims) => dims.image_size,
        }
    }
}

/// Dimensions of either architecture, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyDims {
    arch: Arch,
    image_size: i64,
    width: Option<i64>,
    depth: Option<i64>,
    heads: Option<i64>,
    patch: Option<i64>,
    hidden: Option<i64>,
    depths: Option<[i64; 4]>,
    widths: Option<[i64; 4]>,
}

/// Architectures that take free dimensions.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Arch {
    Vit,
    ConvNext,
}

impl AnyDims {
    fn into_vision<E: Error>(self) -> Result<Vision, E> {
        let lacks = |key: &'static str| move || E::missing_field(key);
        let foreign = |key| {
            Err(E::custom(format!(
                "has '{key}', which this architecture does not"
            )))
        };
        match self.arch {
            Arch::Vit if self.depths.is_some() => foreign("depths"),
            Arch::Vit if self.widths.is_some() => foreign("widths"),
            Arch::Vit => Ok(Vision::Vit(VitDims {
                arch: VitArch::Vit,
                width: self.width.ok_or_else(lacks("width"))?,
                depth: self.depth.ok_or_else(lacks("depth"))?,
                heads: self.heads.ok_or_else(lacks("heads"))?,
                patch: self.patch.ok_or_else(lacks("patch"))?,
                image_size: self.image_size,
                hidden: self.hidden,
            })),
            Arch::ConvNext => {
                let given = [
                    ("width", self.width),
                    ("depth", self.depth),
                    ("heads", self.heads),
                    ("patch", self.patch),
                    ("hidden", self.hidden),
                ];
                if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                    return foreign(key);
                }
                Ok(Vision::ConvNext(ConvNextDims {
                    arch: ConvNextArch::ConvNext,
                    depths: self.depths.ok_or_else(lacks("depths"))?,
                    widths: self.widths.ok_or_else(lacks("widths"))?,
                    image_size: self.image_size,
                }))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Vision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByNameOrDims;

        impl<'de> Visitor<'de> for ByNameOrDims {
            type Value = Vision;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name such as R50 or VITB16, or the dimensions of a ViT or ConvNeXt")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Vision, E> {
                Ok(Vision::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vision, A::Error> {
                AnyDims::deserialize(MapAccessDeserializer::new(map))?.into_vision()
            }
        }

        // Unlike an untagged enum this passes the dimensions' own errors on.
        deserializer.deserialize_any(ByNameOrDims)
    }
}
