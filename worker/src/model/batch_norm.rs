//! Batch normalisation, over one rank or over all.

use std::sync::Arc;

use tch::Tensor;
use tch_distributed::{ProcessGroup, is_recomputing, sync_batch_norm};

use super::Result;
use super::builder::{Init, Scope};
use super::pass::Pass;

/// Ranks over which batch statistics are taken; `None` for this one alone.
pub type SyncGroup = Option<Arc<ProcessGroup>>;

/// Momentum of the running statistics, torch's default.
const MOMENTUM: f64 = 0.1;
/// Added to the variance, torch's default.
const EPS: f64 = 1e-5;

/// Batch normalisation over every dimension but the second, with an affine transform unless it is plain.
#[derive(Debug)]
pub(super) struct BatchNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    group: SyncGroup,
}

impl BatchNorm {
    /// Registers the five tensors of torch's `BatchNorm`; the weight starts at `weight`.
    pub(super) fn new(scope: &Scope, width: i64, weight: f64, group: &SyncGroup) -> Result<Self> {
        let weight = scope.param("weight", &[width], Init::Const(weight))?;
        let bias = scope.param("bias", &[width], Init::Const(0.0))?;
        Ok(Self {
            weight: Some(weight),
            bias: Some(bias),
            ..Self::plain(scope, width, group)?
        })
    }

    /// Without an affine transform: registers the running statistics alone.
    pub(super) fn plain(scope: &Scope, width: i64, group: &SyncGroup) -> Result<Self> {
        Ok(Self {
            weight: None,
            bias: None,
            running_mean: scope.buffer("running_mean", &[width], 0.0, false)?,
            running_var: scope.buffer("running_var", &[width], 1.0, false)?,
            num_batches_tracked: scope.buffer("num_batches_tracked", &[], 0.0, true)?,
            group: group.clone(),
        })
    }

    /// Normalises `[N, C]` or `[N, C, H, W]`. Running statistics and their counter move once per forward
    /// pass, not when a pass is run again for its activations.
    pub(super) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let counts = pass.train && !pass.again;
        if counts && !is_recomputing() {
            let _ = self.num_batches_tracked.shallow_clone().f_add_scalar_(1)?;
        }
        // Without running statistics those of the batch are used, which in training they are anyway.
        let running = |statistic| (!pass.again).then_some(statistic);
        Ok(sync_batch_norm(
            x,
            self.weight.as_ref(),
            self.bias.as_ref(),
            running(&self.running_mean),
            running(&self.running_var),
            MOMENTUM,
            EPS,
            pass.train,
            self.group.as_deref(),
        )?)
    }
}
