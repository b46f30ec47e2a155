//! ConvNeXt (arXiv 2201.03545) with timm's names, pooling and initialisation.
//!
//! Maps are `[N, C, H, W]` in name and channels-last in memory after the stem, as the norms and linear
//! layers of the blocks run over channels.

use std::rc::Rc;

use tch::Tensor;

use super::builder::{Init, Scope};
use super::layers::{Activation, Conv, LayerNorm, Linear};
use super::pass::Pass;
use super::segments::{Cost, Plan, Unit, run};
use super::trace;
use super::vision::ConvNextSize;
use super::{Error, Result};

/// Epsilon of timm's layer norms.
const EPS: f64 = 1e-6;
/// timm's truncated normal; its bounds of plus or minus 2 are a hundred deviations away.
const WEIGHT: Init = Init::Normal(0.02);
const ZERO: Init = Init::Const(0.0);
/// First value of the layer scale.
const SCALE: f64 = 1e-6;

/// ConvNeXt without a classifier; the feature is the normalised average over the last map.
#[derive(Debug)]
pub(super) struct ConvNext {
    stem: Down,
    blocks: Vec<Rc<Block>>,
    norm: LayerNorm,
    size: ConvNextSize,
}

/// A layer norm over channels beside a convolution whose stride is its kernel.
#[derive(Debug)]
struct Down {
    conv: Conv,
    norm: LayerNorm,
}

/// Depthwise convolution, norm, two linear layers, layer scale, shortcut.
#[derive(Debug)]
struct Block {
    name: String,
    /// Halves the map at the beginning of a stage.
    down: Option<Down>,
    gamma: Tensor,
    conv: Conv,
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// Layer norm over the channels of a map.
fn norm_channels(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let x = norm.forward(&x.f_permute([0, 2, 3, 1])?)?;
    Ok(x.f_permute([0, 3, 1, 2])?)
}

impl Block {
    fn new(scope: &Scope, width: i64, down: Option<Down>) -> Result<Self> {
        let gamma = scope.param("gamma", &[width], Init::Const(SCALE))?;
        let conv = Conv::depthwise(&scope.sub("conv_dw"), width, 7, WEIGHT)?;
        let norm = LayerNorm::new(&scope.sub("norm"), width, EPS)?;
        let linear = |name: &str, sizes| Linear::new(&scope.sub(name), sizes, WEIGHT, Some(ZERO));
        Ok(Self {
            name: scope.path(),
            down,
            gamma,
            conv,
            norm,
            fc1: linear("mlp.fc1", [width, 4 * width])?,
            fc2: linear("mlp.fc2", [4 * width, width])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.down {
            Some(down) => down.conv.forward(&norm_channels(&down.norm, x)?)?,
            None => x.shallow_clone(),
        };
        let y = self.conv.forward(&x)?.f_permute([0, 2, 3, 1])?;
        let y = self.fc1.forward(&self.norm.forward(&y)?)?;
        let y = self.fc2.forward(&Activation::Gelu.forward(y)?)?;
        let mut y = y.f_mul(&self.gamma)?.f_permute([0, 3, 1, 2])?;
        let y = if y.f_kind()? == x.f_kind()? {
            y.f_add_(&x)?
        } else {
            y.f_add(&x)?
        };
        trace::layer(|| self.name.clone(), &y);
        Ok(y)
    }
}

impl ConvNext {
    pub(super) fn new(scope: &Scope, size: ConvNextSize) -> Result<Self> {
        let [first, .., last] = size.widths;
        let stem = scope.sub("stem");
        let stem = Down {
            conv: Conv::patch(&stem.sub(0), [3, first], 4, WEIGHT)?,
            norm: LayerNorm::new(&stem.sub(1), first, EPS)?,
        };
        let mut blocks = Vec::new();
        let mut before = first;
        for (stage, (depth, width)) in size.depths.into_iter().zip(size.widths).enumerate() {
            let scope = scope.sub("stages").sub(stage);
            let mut down = None;
            if stage > 0 {
                let scope = scope.sub("downsample");
                down = Some(Down {
                    norm: LayerNorm::new(&scope.sub(0), before, EPS)?,
                    conv: Conv::patch(&scope.sub(1), [before, width], 2, WEIGHT)?,
                });
            }
            for i in 0..depth {
                let block = Block::new(&scope.sub("blocks").sub(i), width, down.take())?;
                blocks.push(Rc::new(block));
            }
            before = width;
        }
        let norm = LayerNorm::new(&scope.sub("head.norm"), last, EPS)?;
        Ok(Self {
            stem,
            blocks,
            norm,
            size,
        })
    }

    /// Images `[N, 3, h, w]` to features `[N, last width]`.
    pub(super) fn forward(&self, images: &Tensor, pass: Pass, plan: &Plan) -> Result<Tensor> {
        let (_, channels, h, w) = images.size4()?;
        if channels != 3 || h < 32 || w < 32 {
            return Err(Error::Dimensions(format!(
                "ConvNeXt takes images [N, 3, h, w] of at least 32 x 32, not {:?}",
                images.size()
            )));
        }
        let x = norm_channels(&self.stem.norm, &self.stem.conv.forward(images)?)?;
        trace::layer(|| "visual.stem".to_owned(), &x);
        let units = self.blocks.iter().map(|block| {
            let block = Rc::clone(block);
            Unit::new(move |x, _| block.forward(x))
        });
        let x = run(&x, units.collect(), plan, false, pass)?;
        self.norm
            .forward(&x.f_mean_dim([2i64, 3].as_slice(), false, None)?)
    }

    /// Values that each block keeps for its backward pass, images `[n, 3, h, w]`.
    pub(super) fn costs(&self, [n, h, w]: [i64; 3]) -> Vec<Cost> {
        let (mut h, mut w) = (h / 4, w / 4);
        let mut before = self.size.widths[0];
        let mut costs = Vec::new();
        for (stage, (depth, width)) in self.size.depths.iter().zip(self.size.widths).enumerate() {
            for i in 0..*depth {
                let mut input = n * h * w * width;
                let mut inner = 0;
                if stage > 0 && i == 0 {
                    input = n * h * w * before;
                    (h, w) = (h / 2, w / 2);
                    // The norm's result and the halved map.
                    inner = input + n * h * w * width;
                }
                // Convolution, norm, the hidden layer before and after its activation, the branch.
                let kept = input + inner + n * h * w * width * (1 + 1 + 4 + 4 + 1);
                costs.push(Cost { input, kept });
            }
            before = width;
        }
        costs
    }
}
