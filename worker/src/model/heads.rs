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

/// One step of a [`Stack`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A linear layer to this width, with a bias or without.
    Linear(i64, bool),
    /// Batch norm.
    Norm,
    /// Batch norm, then ReLU.
    NormRelu,
}

#[derive(Debug)]
enum Layer {
    Linear(Linear),
    Norm(BatchNorm),
    NormRelu(BatchNorm),
}

/// Layers in a row, `[N, input]` to `[N, last width]`, named by their places as in torch's `Sequential`.
#[derive(Debug)]
pub(super) struct Stack(Vec<Layer>);

impl Stack {
    pub(super) fn new(
        scope: &Scope,
        input: i64,
        steps: &[Step],
        group: &SyncGroup,
    ) -> Result<Self> {
        let (mut width, mut place) = (input, 0);
        let mut layers = Vec::with_capacity(steps.len());
        for step in steps {
            let scope = scope.sub(place);
            layers.push(match *step {
                Step::Linear(output, bias) => {
                    let init = Linear::torch_default(width);
                    let linear = Linear::new(&scope, [width, output], init, bias.then_some(init))?;
                    width = output;
                    Layer::Linear(linear)
                }
                Step::Norm => Layer::Norm(BatchNorm::new(&scope, width, 1.0, group)?),
                Step::NormRelu => Layer::NormRelu(BatchNorm::new(&scope, width, 1.0, group)?),
            });
            // A ReLU has a place and no tensors.
            place += if matches!(step, Step::NormRelu) { 2 } else { 1 };
        }
        Ok(Self(layers))
    }

    pub(super) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for layer in &self.0 {
            x = match layer {
                Layer::Linear(linear) => linear.forward(&x)?,
                Layer::Norm(norm) => norm.forward(&x, pass)?,
                Layer::NormRelu(norm) => norm.forward(&x, pass)?.f_relu_()?,
            };
        }
        Ok(x)
    }
}
