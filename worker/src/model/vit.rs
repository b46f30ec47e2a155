//! Vision transformer (arXiv 2010.11929) with timm's names, class token and initialisation.

use tch::Tensor;

use super::builder::{Init, Scope};
use super::dense::dense;
use super::layers::{Activation, LayerNorm, Linear};
use super::pass::Pass;
use super::segments::{Cost, Plan};
use super::trace;
use super::transformer::{At, Attend, Attention, Block, Blocks, Noise};
use super::vision::VitSize;
use super::{Error, Result};

/// Epsilon of timm's layer norms.
const EPS: f64 = 1e-6;
/// timm's truncated normal; its bounds of plus or minus 2 are a hundred deviations away.
const STD: f64 = 0.02;

/// ViT without a classifier; the feature is the normalised class token.
#[derive(Debug)]
pub(super) struct Vit {
    cls_token: Tensor,
    pos_embed: Tensor,
    /// A convolution's weight `[D, 3, P, P]`, applied as a linear layer of the flattened patches.
    patch_weight: Tensor,
    patch_bias: Tensor,
    blocks: Blocks,
    norm: LayerNorm,
    size: VitSize,
}

impl Vit {
    pub(super) fn new(scope: &Scope, size: VitSize) -> Result<Self> {
        let VitSize {
            width,
            depth,
            heads,
            patch,
            image_size,
            hidden,
        } = size;
        let side = image_size / patch;
        let cls_token = scope.param("cls_token", &[1, 1, width], Init::Normal(1e-6))?;
        let places = [1, side * side + 1, width];
        let pos_embed = scope.param("pos_embed", &places, Init::Normal(STD))?;
        let proj = scope.sub("patch_embed.proj");
        let init = Linear::torch_default(3 * patch * patch);
        let patch_weight = proj.param("weight", &[width, 3, patch, patch], init)?;
        let patch_bias = proj.param("bias", &[width], init)?;
        let blocks = Blocks::new(&scope.sub("blocks"), depth, |scope| {
            let linear = |name: &str, sizes| {
                let (weight, bias) = (Init::Normal(STD), Some(Init::Const(0.0)));
                Linear::new(&scope.sub(name), sizes, weight, bias)
            };
            let norm1 = LayerNorm::new(&scope.sub("norm1"), width, EPS)?;
            let qkv = linear("attn.qkv", [width, 3 * width])?;
            let out = linear("attn.proj", [width, width])?;
            Ok(Block {
                name: scope.path(),
                norm1,
                attention: Attention::new(qkv, out, heads),
                norm2: LayerNorm::new(&scope.sub("norm2"), width, EPS)?,
                fc1: linear("mlp.fc1", [width, hidden])?,
                fc2: linear("mlp.fc2", [hidden, width])?,
                activation: Activation::Gelu,
            })
        })?;
        let norm = LayerNorm::new(&scope.sub("norm"), width, EPS)?;
        Ok(Self {
            cls_token,
            pos_embed,
            patch_weight,
            patch_bias,
            blocks,
            norm,
            size,
        })
    }

    /// Images `[N, 3, S, S]` to features `[N, D]`.
    pub(super) fn forward(&self, images: &Tensor, pass: Pass, plan: &Plan) -> Result<Tensor> {
        let VitSize {
            width,
            patch,
            image_size,
            ..
        } = self.size;
        let (n, channels, h, w) = images.size4()?;
        if channels != 3 || h != image_size || w != image_size {
            return Err(Error::Dimensions(format!(
                "the vision transformer takes images [N, 3, {image_size}, {image_size}], not {:?}",
                images.size()
            )));
        }
        let side = image_size / patch;
        // [N, 3, side, P, side, P] -> [N, side, side, 3, P, P]: one row per patch.
        let patches = images
            .f_view([n, 3, side, patch, side, patch])?
            .f_permute([0, 2, 4, 1, 3, 5])?
            .f_reshape([n, side * side, 3 * patch * patch])?;
        let weight = self.patch_weight.f_view([width, -1])?;
        let tokens = dense(&patches, &weight, Some(&self.patch_bias))?;
        trace::layer(|| "visual.patch_embed".to_owned(), &tokens);
        let cls = self.cls_token.f_expand([n, 1, width], false)?;
        let x = Tensor::f_cat(&[cls, tokens], 1)?.f_add(&self.pos_embed)?;
        let x = self
            .blocks
            .forward_at(&x, At::First, Attend::All, Noise::NONE, pass, plan)?;
        self.norm.forward(&x)
    }

    /// Values that each block keeps for its backward pass, of `n` images.
    pub(super) fn costs(&self, n: i64) -> Vec<Cost> {
        let side = self.size.image_size / self.size.patch;
        self.blocks.costs(n * (side * side + 1))
    }
}
