//! The text transformer of CLIP (arXiv 2103.00020) with its names and initialisation.

use rocket_common::experiment::Model as Spec;
use tch::Tensor;

use super::Result;
use super::builder::{Init, Scope};
use super::layers::{Activation, LayerNorm, Linear};
use super::pass::Pass;
use super::trace;
use super::transformer::{At, Attend, Attention, Block, Blocks, Noise};

/// Epsilon of torch's layer norm.
const EPS: f64 = 1e-5;

/// Causal transformer over token ids; the feature is taken at the end-of-text token.
#[derive(Debug)]
pub(super) struct TextTower {
    positional_embedding: Tensor,
    token_embedding: Tensor,
    blocks: Blocks,
    ln_final: LayerNorm,
    truncate: bool,
}

/// Embedded captions, before the blocks.
#[derive(Debug)]
pub(super) struct Embedded {
    /// `[N, L, D]`.
    x: Tensor,
    /// End-of-text position of each row, `[N]`.
    end: Tensor,
}

impl Embedded {
    /// Rows `first .. first + count`.
    pub(super) fn rows(&self, first: i64, count: i64) -> Result<Self> {
        Ok(Self {
            x: self.x.f_narrow(0, first, count)?,
            end: self.end.f_narrow(0, first, count)?,
        })
    }
}

impl TextTower {
    /// Registers the positions; they come first of all tensors in the reference's order.
    pub(super) fn positions(scope: &Scope, spec: &Spec) -> Result<Tensor> {
        let shape = [spec.context_length, spec.transformer_width];
        scope.param("positional_embedding", &shape, Init::Normal(0.01))
    }

    /// Registers the rest. `scope` is the model's root.
    pub(super) fn new(
        scope: &Scope,
        spec: &Spec,
        positional_embedding: Tensor,
        truncate: bool,
    ) -> Result<Self> {
        let (width, layers) = (spec.transformer_width, spec.transformer_layers);
        let attn = (width as f64).powf(-0.5);
        let proj = attn * ((2 * layers) as f64).powf(-0.5);
        let fc = ((2 * width) as f64).powf(-0.5);
        let blocks = Blocks::new(&scope.sub("transformer.resblocks"), layers, |scope| {
            let linear = |name: &str, sizes: [i64; 2], std, bias| {
                Linear::new(&scope.sub(name), sizes, Init::Normal(std), Some(bias))
            };
            let (zero, wide) = (Init::Const(0.0), 4 * width);
            let qkv = Linear {
                weight: scope.param(
                    "attn.in_proj_weight",
                    &[3 * width, width],
                    Init::Normal(attn),
                )?,
                bias: Some(scope.param("attn.in_proj_bias", &[3 * width], zero)?),
            };
            let out = linear("attn.out_proj", [width, width], proj, zero)?;
            let norm1 = LayerNorm::new(&scope.sub("ln_1"), width, EPS)?;
            let fc1 = linear("mlp.c_fc", [width, wide], fc, Linear::torch_default(width))?;
            let fc2 = linear(
                "mlp.c_proj",
                [wide, width],
                proj,
                Linear::torch_default(wide),
            )?;
            Ok(Block {
                name: scope.path(),
                norm1,
                attention: Attention::new(qkv, out, spec.transformer_heads),
                norm2: LayerNorm::new(&scope.sub("ln_2"), width, EPS)?,
                fc1,
                fc2,
                activation: Activation::QuickGelu,
            })
        })?;
        let shape = [spec.vocab_size, width];
        let token_embedding =
            scope
                .sub("token_embedding")
                .param("weight", &shape, Init::Normal(0.02))?;
        let ln_final = LayerNorm::new(&scope.sub("ln_final"), width, EPS)?;
        Ok(Self {
            positional_embedding,
            token_embedding,
            blocks,
            ln_final,
            truncate,
        })
    }

    /// Token ids `[N, context_length]` to embeddings `[N, L, D]`; L is the longest row up to its
    /// end-of-text token (the first of the largest id), as the tokens after it reach nothing.
    pub(super) fn embed(&self, tokens: &Tensor) -> Result<Embedded> {
        let end = tokens.f_argmax(-1, false)?;
        let (_, context) = tokens.size2()?;
        let length = if self.truncate {
            end.f_max()?.f_int64_value(&[])? + 1
        } else {
            context
        };
        let tokens = tokens.f_narrow(1, 0, length)?;
        let places = self.positional_embedding.f_narrow(0, 0, length)?;
        let x = Tensor::f_embedding(&self.token_embedding, &tokens, -1, false, false)?;
        trace::layer(|| "token_embedding".to_owned(), &x);
        Ok(Embedded {
            x: x.f_add(&places)?,
            end,
        })
    }

    /// Features `[N, D]`.
    pub(super) fn forward(&self, text: &Embedded, noise: Noise, pass: Pass) -> Result<Tensor> {
        let at = At::Index(&text.end);
        let x = self
            .blocks
            .forward_at(&text.x, at, Attend::Causal, noise, pass)?;
        self.ln_final.forward(&x)
    }
}
