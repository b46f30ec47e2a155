//! Activation checkpointing of one block.

use tch::Tensor;
use tch_distributed::try_checkpoint;

use super::pass::Pass;
use super::{Error, Result};

/// Runs a block, and in a pass that checkpoints, keeps its input alone and runs it again in backward.
/// `random` blocks get the generator's state restored for the second run.
pub(super) fn checkpointed(
    x: &Tensor,
    pass: Pass,
    random: bool,
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Result<Tensor> {
    if !(pass.train && pass.checkpoint) {
        return run(x);
    }
    let inputs = [x.shallow_clone()];
    let outputs = try_checkpoint(&inputs, random, move |inputs| Ok(vec![run(&inputs[0])?]))?;
    outputs
        .into_iter()
        .next()
        .ok_or_else(|| Error::Dimensions("a checkpointed block gave no tensor".to_owned()))
}
