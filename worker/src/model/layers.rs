//! Layers without state of their own. Shapes: N samples, L tokens, D width.

use tch::{Kind, Tensor};

use super::Result;
use super::builder::{Init, Scope};
use super::dense::{dense, dense_unread};

/// `y = x W^T + b`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// Registers `weight` `[output, input]` and, unless `bias` is `None`, `bias` `[output]`.
    pub(super) fn new(
        scope: &Scope,
        [input, output]: [i64; 2],
        weight: Init,
        bias: Option<Init>,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", &[output, input], weight)?,
            bias: bias
                .map(|init| scope.param("bias", &[output], init))
                .transpose()?,
        })
    }

    /// torch's own default: Kaiming uniform with a = sqrt 5, which is plus or minus input^-.5.
    pub(super) fn torch_default(input: i64) -> Init {
        Init::Uniform((input as f64).powf(-0.5))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        dense(x, &self.weight, self.bias.as_ref())
    }

    /// Something of the output's shape with the output's gradient, for where nobody reads the output.
    pub(super) fn forward_unread(&self, x: &Tensor) -> Result<Tensor> {
        dense_unread(x, &self.weight, self.bias.as_ref())
    }
}

/// Layer normalisation over the last dimension, in float32 at least.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(scope: &Scope, width: i64, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", &[width], Init::Const(1.0))?,
            bias: scope.param("bias", &[width], Init::Const(0.0))?,
            width,
            eps,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let norm = |x: &Tensor| {
            x.f_layer_norm(
                self.width,
                Some(&self.weight),
                Some(&self.bias),
                self.eps,
                false,
            )
        };
        if matches!(kind, Kind::Half | Kind::BFloat16) {
            return Ok(norm(&x.f_to_kind(Kind::Float)?)?.f_to_kind(kind)?);
        }
        Ok(norm(x)?)
    }
}

/// Convolution.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
    groups: i64,
}

impl Conv {
    /// Without bias, as in ResNet: registers `weight` `[output, input, kernel, kernel]`, Kaiming normal by
    /// fan out for ReLU.
    pub(super) fn new(
        scope: &Scope,
        [input, output]: [i64; 2],
        kernel: i64,
        stride: i64,
    ) -> Result<Self> {
        let std = (2.0 / (output * kernel * kernel) as f64).sqrt();
        let shape = [output, input, kernel, kernel];
        let weight = scope.param("weight", &shape, Init::Normal(std))?;
        Ok(Self {
            weight,
            bias: None,
            stride,
            padding: kernel / 2,
            groups: 1,
        })
    }

    /// Of patches side by side, its kernel being its stride: registers `weight` `[output, input, kernel,
    /// kernel]` and `bias` `[output]`, which starts at zero.
    pub(super) fn patch(
        scope: &Scope,
        [input, output]: [i64; 2],
        kernel: i64,
        weight: Init,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", &[output, input, kernel, kernel], weight)?,
            bias: Some(scope.param("bias", &[output], Init::Const(0.0))?),
            stride: kernel,
            padding: 0,
            groups: 1,
        })
    }

    /// Of each channel by itself: registers `weight` `[width, 1, kernel, kernel]` and `bias` `[width]`,
    /// which starts at zero.
    pub(super) fn depthwise(scope: &Scope, width: i64, kernel: i64, weight: Init) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", &[width, 1, kernel, kernel], weight)?,
            bias: Some(scope.param("bias", &[width], Init::Const(0.0))?),
            stride: 1,
            padding: kernel / 2,
            groups: width,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let bias = self.bias.as_ref();
        Ok(x.f_conv2d(&self.weight, bias, stride, padding, [1, 1], self.groups)?)
    }
}

/// Activation between the two linear layers of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// The exact Gaussian error linear unit (timm's ViT).
    Gelu,
    /// `x sigmoid(1.702 x)` (CLIP's text tower).
    QuickGelu,
}

impl Activation {
    /// Applies it. `x` is overwritten where that saves a copy: hand over a tensor nobody else needs.
    pub(super) fn forward(self, mut x: Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => Ok(x.f_gelu("none")?),
            // silu(1.702 x) / 1.702 is the same function with one fused kernel and one saved tensor.
            Self::QuickGelu => {
                let scaled = x.f_mul_scalar_(1.702)?;
                Ok(scaled.f_silu()?.f_mul_scalar_(1.0 / 1.702)?)
            }
        }
    }
}
