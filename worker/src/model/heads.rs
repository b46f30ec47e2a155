//! Projectors between a tower and an embedding.

use rocket_common::experiment::ProjType;
use tch::Tensor;

use super::Result;
use super::batch_norm::{BatchNorm, SyncGroup};
use super::builder::{Init, Scope};
use super::layers::Linear;
use super::pass::Pass;

/// A projector `[N, input]` to `[N, output]`.
#[derive(Debug)]
pub(super) enum Projector {
    /// One linear layer without bias.
    Linear(Linear),
    /// Linear, BN, ReLU, linear, BN, ReLU, linear.
    Mlp(Box<Mlp>),
}

/// The layers of an MLP projector.
#[derive(Debug)]
pub(super) struct Mlp {
    hidden: [(Linear, BatchNorm); 2],
    last: Linear,
}

/// Sizes and kind of a projector.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProjectorSize {
    pub(super) kind: ProjType,
    pub(super) input: i64,
    pub(super) hidden: i64,
    pub(super) output: i64,
    /// First values of a linear projector.
    pub(super) init: Init,
}

impl Projector {
    pub(super) fn new(scope: &Scope, size: ProjectorSize, group: &SyncGroup) -> Result<Self> {
        let ProjectorSize {
            kind,
            input,
            hidden,
            output,
            init,
        } = size;
        if kind == ProjType::Linear {
            return Ok(Self::Linear(Linear::new(
                scope,
                [input, output],
                init,
                None,
            )?));
        }
        let linear = |i: i64, [input, output]: [i64; 2]| {
            let init = Linear::torch_default(input);
            Linear::new(
                &scope.sub(format!("layer{i}")),
                [input, output],
                init,
                Some(init),
            )
        };
        let norm = |i: i64| BatchNorm::new(&scope.sub(format!("bn{i}")), hidden, 1.0, group);
        let hidden_layers = [
            (linear(1, [input, hidden])?, norm(1)?),
            (linear(2, [hidden, hidden])?, norm(2)?),
        ];
        let last = linear(3, [hidden, output])?;
        Ok(Self::Mlp(Box::new(Mlp {
            hidden: hidden_layers,
            last,
        })))
    }

    pub(super) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        match self {
            Self::Linear(linear) => linear.forward(x),
            Self::Mlp(mlp) => {
                let mut x = x.shallow_clone();
                for (linear, norm) in &mlp.hidden {
                    x = norm.forward(&linear.forward(&x)?, pass)?.f_relu_()?;
                }
                mlp.last.forward(&x)
            }
        }
    }
}
