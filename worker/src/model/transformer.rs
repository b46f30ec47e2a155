//! Pre-norm transformer blocks, shared by the vision and the text tower.
//!
//! Shapes: N sequences, L tokens, D width, H heads.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::Result;
use super::builder::Scope;
use super::layers::{Activation, LayerNorm, Linear};
use super::pass::Pass;
use super::segments::{Cost, Output, Plan, Unit, run};
use super::trace;

/// Which tokens attend to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attend {
    /// Every token to every token.
    All,
    /// Every token to itself and those before it.
    Causal,
}

/// Noise on the residual stream of a block, in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Noise {
    /// Dropout of the block's input.
    pub(super) dropout: f64,
    /// Probability that a sample skips a branch; the others are scaled up.
    pub(super) drop_path: f64,
}

impl Noise {
    /// No noise.
    pub(super) const NONE: Self = Self {
        dropout: 0.0,
        drop_path: 0.0,
    };

    /// Whether it changes anything.
    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn input(self, x: &Tensor) -> Result<Tensor> {
        if self.dropout == 0.0 {
            return Ok(x.shallow_clone());
        }
        Ok(x.f_dropout(self.dropout, true)?)
    }

    /// `x + branch`, the branch dropped per sample.
    fn join(self, x: &Tensor, branch: &Tensor) -> Result<Tensor> {
        if self.drop_path == 0.0 {
            return Ok(x.f_add(branch)?);
        }
        let keep = 1.0 - self.drop_path;
        let mut shape = vec![1; branch.dim()];
        shape[0] = branch.size()[0];
        let mut mask = Tensor::f_empty(shape, (branch.f_kind()?, branch.device()))?;
        let mask = mask.f_bernoulli_float_(keep)?;
        let mask = if keep > 0.0 {
            mask.f_div_scalar(keep)?
        } else {
            mask
        };
        Ok(x.f_add(&branch.f_mul(&mask)?)?)
    }
}

/// Multi-head self-attention with one joint projection of queries, keys and values.
#[derive(Debug)]
pub(super) struct Attention {
    /// `[3 D, D]`.
    qkv: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    pub(super) fn new(qkv: Linear, out: Linear, heads: i64) -> Self {
        Self { qkv, out, heads }
    }

    /// `[N, L, D]` to `[N, L, D]`.
    fn forward(&self, x: &Tensor, attend: Attend) -> Result<Tensor> {
        let (n, l, d) = x.size3()?;
        let qkv = self
            .qkv
            .forward(x)?
            .f_view([n, l, 3, self.heads, d / self.heads])?;
        let qkv = qkv.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let causal = attend == Attend::Causal;
        let y = Tensor::f_scaled_dot_product_attention(
            &qkv[0],
            &qkv[1],
            &qkv[2],
            None::<&Tensor>,
            0.0,
            causal,
            None,
            false,
        )?;
        self.out
            .forward(&y.f_transpose(1, 2)?.f_reshape([n, l, d])?)
    }

    /// The result at one token of each sequence only: `[N, L, D]` to `[N, D]`. `mask` is true where
    /// the token attends, `[N, 1, 1, L]`.
    fn forward_at(&self, x: &Tensor, at: &At<'_>) -> Result<Tensor> {
        let (n, l, d) = x.size3()?;
        let part = |first: i64, count: i64| -> Result<Linear> {
            let rows = |t: &Tensor| t.f_narrow(0, first * d, count * d);
            Ok(Linear {
                weight: rows(&self.qkv.weight)?,
                bias: self.qkv.bias.as_ref().map(rows).transpose()?,
            })
        };
        let head = d / self.heads;
        let q = part(0, 1)?
            .forward(&at.pick(x)?)?
            .f_view([n, 1, self.heads, head])?;
        let kv = part(1, 2)?
            .forward(x)?
            .f_view([n, l, 2, self.heads, head])?;
        let kv = kv.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let q = q.f_transpose(1, 2)?;
        let mask = at.mask(l)?;
        let y = Tensor::f_scaled_dot_product_attention(
            &q,
            &kv[0],
            &kv[1],
            mask.as_ref(),
            0.0,
            false,
            None,
            false,
        )?;
        self.out.forward(&y.f_transpose(1, 2)?.f_reshape([n, d])?)
    }
}

/// The one token of each sequence whose feature is used.
#[derive(Debug, Clone, Copy)]
pub(super) enum At<'a> {
    /// The first, which attends to all.
    First,
    /// The one at an index `[N]` int64, which attends to itself and those before it.
    Index(&'a Tensor),
}

impl At<'_> {
    /// `[N, L, D]` to `[N, D]`.
    pub(super) fn pick(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::First => Ok(x.f_select(1, 0)?),
            Self::Index(index) => {
                let (n, _, d) = x.size3()?;
                let index = index.f_view([n, 1, 1])?.f_expand([n, 1, d], false)?;
                Ok(x.f_gather(1, &index, false)?.f_squeeze_dim(1)?)
            }
        }
    }

    fn mask(&self, l: i64) -> Result<Option<Tensor>> {
        let Self::Index(index) = self else {
            return Ok(None);
        };
        let places = Tensor::f_arange(l, (Kind::Int64, index.device()))?;
        Ok(Some(places.f_le_tensor(&index.f_view([-1, 1, 1, 1])?)?))
    }
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Debug)]
pub(super) struct Block {
    /// Its module's dotted name.
    pub(super) name: String,
    pub(super) norm1: LayerNorm,
    pub(super) attention: Attention,
    pub(super) norm2: LayerNorm,
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
    pub(super) activation: Activation,
}

impl Block {
    /// Widths of the stream and of the MLP's hidden layer.
    fn sizes(&self) -> (i64, i64) {
        let hidden = self.fc1.weight.size();
        match hidden[..] {
            [hidden, width] => (width, hidden),
            _ => (0, 0),
        }
    }

    fn mlp(&self, x: &Tensor, output: Output) -> Result<Tensor> {
        let hidden = self.activation.forward(self.fc1.forward(x)?)?;
        match output {
            Output::Read => self.fc2.forward(&hidden),
            Output::Unread => self.fc2.forward_unread(&hidden),
        }
    }

    /// `[N, L, D]` to `[N, L, D]`.
    fn forward(&self, x: &Tensor, attend: Attend, noise: Noise, output: Output) -> Result<Tensor> {
        let x = noise.input(x)?;
        let x = noise.join(
            &x,
            &self.attention.forward(&self.norm1.forward(&x)?, attend)?,
        )?;
        self.second(&x, noise, output)
    }

    /// The same at one token of each sequence: `[N, L, D]` to `[N, D]`.
    fn forward_at(&self, x: &Tensor, at: At<'_>, noise: Noise, output: Output) -> Result<Tensor> {
        let x = noise.input(x)?;
        let y = self.attention.forward_at(&self.norm1.forward(&x)?, &at)?;
        let x = noise.join(&at.pick(&x)?, &y)?;
        self.second(&x, noise, output)
    }

    /// `x + mlp(norm(x))`, which is the block's output.
    fn second(&self, x: &Tensor, noise: Noise, output: Output) -> Result<Tensor> {
        let y = noise.join(x, &self.mlp(&self.norm2.forward(x)?, output)?)?;
        if output == Output::Read {
            trace::layer(|| self.name.clone(), &y);
        }
        Ok(y)
    }
}

/// Blocks in a row.
#[derive(Debug)]
pub(super) struct Blocks(Vec<Rc<Block>>);

impl Blocks {
    /// Builds `depth` blocks under the scopes `0`, `1`, ...
    pub(super) fn new(
        scope: &Scope,
        depth: i64,
        build: impl Fn(&Scope) -> Result<Block>,
    ) -> Result<Self> {
        let blocks = (0..depth)
            .map(|i| build(&scope.sub(i)).map(Rc::new))
            .collect::<Result<_>>()?;
        Ok(Self(blocks))
    }

    /// `[N, L, D]` to the feature at one token, `[N, D]`. The last block computes that token only,
    /// as nothing else of its output is used.
    pub(super) fn forward_at(
        &self,
        x: &Tensor,
        at: At<'_>,
        attend: Attend,
        noise: Noise,
        pass: Pass,
        plan: &Plan,
    ) -> Result<Tensor> {
        let noise = if pass.train { noise } else { Noise::NONE };
        let Some((last, before)) = self.0.split_last() else {
            return at.pick(x);
        };
        let mut units: Vec<Unit> = Vec::with_capacity(self.0.len());
        for block in before {
            let block = Rc::clone(block);
            units.push(Unit::new(move |x, output| {
                block.forward(x, attend, noise, output)
            }));
        }
        let last = Rc::clone(last);
        units.push(match at {
            At::First => Unit::new(move |x, output| last.forward_at(x, At::First, noise, output)),
            At::Index(index) => {
                let index = index.shallow_clone();
                Unit::new(move |x, output| last.forward_at(x, At::Index(&index), noise, output))
            }
        });
        run(x, units, plan, !noise.is_none(), pass)
    }

    /// Values that each block keeps for its backward pass, of so many tokens in all: its input, what both
    /// norms give, queries, keys and values, attention's result, the stream between the branches, and the
    /// MLP's hidden layer before and after its activation. The last has queries and an MLP for one token
    /// of a sequence only, which is left out.
    pub(super) fn costs(&self, tokens: i64) -> Vec<Cost> {
        let cost = |(i, block): (usize, &Rc<Block>)| {
            let (width, hidden) = block.sizes();
            let of = |values: i64| tokens * values;
            let values = if i + 1 == self.0.len() {
                4 * width
            } else {
                8 * width + 2 * hidden
            };
            Cost {
                input: of(width),
                kept: of(values),
            }
        };
        self.0.iter().enumerate().map(cost).collect()
    }
}
