//! ResNet-50 (arXiv 1512.03385, stride in the 3x3 convolution) with timm's names and initialisation.

use std::rc::Rc;

use tch::Tensor;

use super::Result;
use super::batch_norm::{BatchNorm, SyncGroup};
use super::builder::Scope;
use super::layers::Conv;
use super::pass::Pass;
use super::segments::{Cost, Plan, Unit, run};
use super::trace;

/// Blocks of the four stages.
const DEPTHS: [i64; 4] = [3, 4, 6, 3];

/// ResNet-50 without a classifier; the feature is the average over the last map, 2048 wide.
#[derive(Debug)]
pub(super) struct ResNet50 {
    conv1: Conv,
    bn1: BatchNorm,
    blocks: Vec<Rc<Bottleneck>>,
}

/// 1x1, 3x3, 1x1 with a shortcut.
#[derive(Debug)]
struct Bottleneck {
    name: String,
    convs: [Conv; 3],
    norms: [BatchNorm; 3],
    shortcut: Option<(Conv, BatchNorm)>,
}

impl Bottleneck {
    fn new(
        scope: &Scope,
        [input, width]: [i64; 2],
        stride: i64,
        group: &SyncGroup,
    ) -> Result<Self> {
        let output = 4 * width;
        let conv = |i: i64, sizes, kernel, stride| {
            Conv::new(&scope.sub(format!("conv{i}")), sizes, kernel, stride)
        };
        // The last norm of a block starts at zero, so that a new block is the identity.
        let norm = |i: i64, width, weight| {
            BatchNorm::new(&scope.sub(format!("bn{i}")), width, weight, group)
        };
        let conv1 = conv(1, [input, width], 1, 1)?;
        let norm1 = norm(1, width, 1.0)?;
        let conv2 = conv(2, [width, width], 3, stride)?;
        let norm2 = norm(2, width, 1.0)?;
        let conv3 = conv(3, [width, output], 1, 1)?;
        let norm3 = norm(3, output, 0.0)?;
        let shortcut = if stride != 1 || input != output {
            let scope = scope.sub("downsample");
            let conv = Conv::new(&scope.sub(0), [input, output], 1, stride)?;
            Some((conv, BatchNorm::new(&scope.sub(1), output, 1.0, group)?))
        } else {
            None
        };
        let (convs, norms) = ([conv1, conv2, conv3], [norm1, norm2, norm3]);
        Ok(Self {
            name: scope.path(),
            convs,
            norms,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let layer = |i: usize, x: &Tensor| self.norms[i].forward(&self.convs[i].forward(x)?, pass);
        let y = layer(0, x)?.f_relu_()?;
        let y = layer(1, &y)?.f_relu_()?;
        let mut y = layer(2, &y)?;
        let sum = match &self.shortcut {
            Some((conv, norm)) => y.f_add_(&norm.forward(&conv.forward(x)?, pass)?)?,
            None => y.f_add_(x)?,
        };
        let y = relu_(sum)?;
        trace::layer(|| self.name.clone(), &y);
        Ok(y)
    }
}

/// ReLU in place.
fn relu_(mut x: Tensor) -> std::result::Result<Tensor, tch::TchError> {
    x.f_relu_()
}

impl ResNet50 {
    /// Width of the feature.
    pub(super) const WIDTH: i64 = 2048;

    pub(super) fn new(scope: &Scope, group: &SyncGroup) -> Result<Self> {
        let conv1 = Conv::new(&scope.sub("conv1"), [3, 64], 7, 2)?;
        let bn1 = BatchNorm::new(&scope.sub("bn1"), 64, 1.0, group)?;
        let mut blocks = Vec::new();
        let mut input = 64;
        for (stage, depth) in DEPTHS.into_iter().enumerate() {
            let width = 64 << stage;
            for i in 0..depth {
                let stride = if i == 0 && stage > 0 { 2 } else { 1 };
                let scope = scope.sub(format!("layer{}", stage + 1)).sub(i);
                blocks.push(Rc::new(Bottleneck::new(
                    &scope,
                    [input, width],
                    stride,
                    group,
                )?));
                input = 4 * width;
            }
        }
        Ok(Self { conv1, bn1, blocks })
    }

    /// Images `[N, 3, h, w]` to features `[N, 2048]`.
    pub(super) fn forward(&self, images: &Tensor, pass: Pass, plan: &Plan) -> Result<Tensor> {
        // Tensor cores take channels last; what follows keeps the order of its input.
        let images = if images.device().is_cuda() {
            let last = images.f_permute([0, 2, 3, 1])?.f_contiguous()?;
            last.f_permute([0, 3, 1, 2])?
        } else {
            images.shallow_clone()
        };
        let x = {
            let x = self.conv1.forward(&images)?;
            trace::layer(|| "visual.conv1".to_owned(), &x);
            relu_(self.bn1.forward(&x, pass)?)?
        };
        trace::layer(|| "visual.act1".to_owned(), &x);
        let x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        trace::layer(|| "visual.maxpool".to_owned(), &x);
        let units = self.blocks.iter().map(|block| {
            let block = Rc::clone(block);
            Unit::new(move |x, _| block.forward(x, pass))
        });
        let x = run(&x, units.collect(), plan, false, pass)?;
        Ok(x.f_mean_dim([2i64, 3].as_slice(), false, None)?)
    }

    /// Values that each block keeps for its backward pass, images `[n, 3, h, w]`: every convolution's
    /// result and, normalised, what the next one takes.
    pub(super) fn costs([n, h, w]: [i64; 3]) -> Vec<Cost> {
        let half = |x: i64| (x + 1) / 2;
        let (mut h, mut w) = (half(half(h)), half(half(w)));
        let mut input_width = 64;
        let mut costs = Vec::new();
        for (stage, depth) in DEPTHS.into_iter().enumerate() {
            let width = 64 << stage;
            for i in 0..depth {
                let before = n * h * w;
                if i == 0 && stage > 0 {
                    (h, w) = (half(h), half(w));
                }
                let after = n * h * w;
                let input = before * input_width;
                let branch = 2 * width * (before + after) + 4 * width * after;
                let shortcut = if i == 0 { 4 * width * after } else { 0 };
                let kept = input + branch + shortcut;
                costs.push(Cost { input, kept });
                input_width = 4 * width;
            }
        }
        costs
    }
}
