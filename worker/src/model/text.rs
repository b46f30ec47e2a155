//! The text transformer of CLIP (arXiv 2103.00020) with its names and initialisation.

use rocket_common::experiment::Model as Spec;
use tch::{Device, Tensor};

use super::Result;
use super::builder::{Init, Scope};
use super::groups::{CostModel, Group, groups};
use super::layers::{Activation, LayerNorm, Linear};
use super::pass::Pass;
use super::segments::{Cost, Plan};
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
    width: i64,
    pub(super) cost_model: CostModel,
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
        let accelerator = token_embedding.device() != Device::Cpu;
        let ln_final = LayerNorm::new(&scope.sub("ln_final"), width, EPS)?;
        Ok(Self {
            positional_embedding,
            token_embedding,
            blocks,
            ln_final,
            truncate,
            cost_model: CostModel::new(width, accelerator),
            width,
        })
    }

    /// Where each of `tokens` `[N, context_length]` ends: the first of the largest id in a row.
    pub(super) fn ends(&self, tokens: &Tensor) -> Result<Ends> {
        let (rows, context) = tokens.size2()?;
        let at = tokens.f_argmax(-1, false)?;
        let lengths = if self.truncate {
            let mut ends = vec![0i64; usize::try_from(rows).unwrap_or(0)];
            let host = at.f_to_device(Device::Cpu)?.f_contiguous()?;
            host.f_copy_data(&mut ends, host.numel())?;
            ends.iter().map(|end| end + 1).collect()
        } else {
            vec![context; usize::try_from(rows).unwrap_or(0)]
        };
        Ok(Ends { at, lengths })
    }

    /// Groups in which rows `first ..` of some lengths are computed. In training these are the cheapest;
    /// elsewhere all rows are one.
    fn groups(&self, lengths: &[i64], first: i64, pass: Pass) -> Vec<Group> {
        let model = if pass.train {
            self.cost_model
        } else {
            CostModel::ONE_GROUP
        };
        groups(lengths, first, model)
    }

    /// Tokens that are computed for rows of these ends, of which those from `noisy` on are augmented.
    fn plan_groups(&self, ends: &Ends, noisy: usize, pass: Pass) -> Vec<(Group, bool)> {
        let (clean, augmented) = ends.lengths.split_at(noisy.min(ends.lengths.len()));
        let offset = i64::try_from(clean.len()).unwrap_or(i64::MAX);
        let clean = self.groups(clean, 0, pass).into_iter();
        let augmented = self.groups(augmented, offset, pass).into_iter();
        let clean = clean.map(|group| (group, false));
        clean.chain(augmented.map(|group| (group, true))).collect()
    }

    /// Values that each block keeps for its backward pass, of captions that end there.
    pub(super) fn costs(&self, ends: &Ends, noisy: usize) -> Vec<Cost> {
        let groups = self.plan_groups(ends, noisy, Pass::TRAIN);
        let tokens = |(group, _): &(Group, bool)| group.length * group.rows.len() as i64;
        self.blocks.costs(groups.iter().map(tokens).sum())
    }

    /// The same of so many tokens, none of them left out.
    pub(super) fn costs_at_most(&self, tokens: usize) -> Vec<Cost> {
        self.blocks.costs(i64::try_from(tokens).unwrap_or(i64::MAX))
    }

    /// Token ids `[N, context_length]` to features `[N, D]`. Rows from `noisy` on get noise. Each group of
    /// rows is computed up to its longest caption, as the tokens after an end reach nothing.
    ///
    /// Groups change a row's feature by rounding alone: libtorch adds up products in an order that depends
    /// on the number of rows. A single group is computed as if there were no groups.
    pub(super) fn forward(
        &self,
        tokens: &Tensor,
        ends: &Ends,
        noisy: usize,
        noise: Noise,
        pass: Pass,
        plan: &Plan,
    ) -> Result<Tensor> {
        let groups = self.plan_groups(ends, noisy, pass);
        // One lookup for all: its gradient is as large as the whole vocabulary.
        let device = tokens.device();
        let mut parts = Vec::with_capacity(groups.len());
        for (group, noisy) in &groups {
            let index = group.index(device)?;
            let pick = |x: &Tensor| match (&index, group.rows.first()) {
                (Some(index), _) => x.f_index_select(0, index),
                (None, first) => {
                    x.f_narrow(0, first.copied().unwrap_or(0), group.rows.len() as i64)
                }
            };
            let tokens = pick(&tokens.f_narrow(1, 0, group.length)?)?;
            parts.push((
                tokens,
                pick(&ends.at)?,
                if *noisy { noise } else { Noise::NONE },
            ));
        }
        let flat = parts.iter().map(|(tokens, ..)| tokens.f_reshape([-1]));
        let flat = flat.collect::<std::result::Result<Vec<_>, _>>()?;
        let counts: Vec<i64> = flat.iter().map(|t| t.numel() as i64).collect();
        let flat = Tensor::f_cat(&flat, 0)?;
        let embedded = Tensor::f_embedding(&self.token_embedding, &flat, -1, false, false)?;
        let embedded = embedded.f_split_with_sizes(&counts, 0)?;
        let mut feats = Vec::with_capacity(parts.len());
        for (x, (tokens, ends, noise)) in embedded.into_iter().zip(parts) {
            let (rows, length) = tokens.size2()?;
            let places = self.positional_embedding.f_narrow(0, 0, length)?;
            let x = x.f_view([rows, length, self.width])?;
            trace::layer(|| "token_embedding".to_owned(), &x);
            let x = x.f_add(&places)?;
            let at = At::Index(&ends);
            let (blocks, causal) = (&self.blocks, Attend::Causal);
            feats.push(blocks.forward_at(&x, at, causal, noise, pass, plan)?);
        }
        let x = match feats.len() {
            1 => feats.remove(0),
            _ => Tensor::f_cat(&feats, 0)?,
        };
        let x = match back(&groups, device)? {
            Some(index) => x.f_index_select(0, &index)?,
            None => x,
        };
        self.ln_final.forward(&x)
    }
}

/// Ends of captions.
#[derive(Debug)]
pub(super) struct Ends {
    /// Place of each row's end, `[N]`.
    at: Tensor,
    /// Tokens of each row that are computed.
    lengths: Vec<i64>,
}

impl Group {
    /// Its rows as an index, unless they follow one another.
    fn index(&self, device: Device) -> Result<Option<Tensor>> {
        if self.rows.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
            return Ok(None);
        }
        Ok(Some(Tensor::f_from_slice(&self.rows)?.f_to_device(device)?))
    }
}

/// Where each row lies when groups follow one another; `None` if in its own place.
fn back(groups: &[(Group, bool)], device: Device) -> Result<Option<Tensor>> {
    let rows: Vec<i64> = groups.iter().flat_map(|(g, _)| g.rows.clone()).collect();
    let mut places: Vec<(i64, i64)> = rows.iter().copied().zip(0..).collect();
    places.sort_unstable();
    let places: Vec<i64> = places.into_iter().map(|(_, place)| place).collect();
    if places.iter().copied().eq(0..places.len() as i64) {
        return Ok(None);
    }
    Ok(Some(Tensor::f_from_slice(&places)?.f_to_device(device)?))
}
