//! Exact accumulation: the loss of a whole step over its micro-batches (arXiv 2101.06983).
//!
//! The towers run twice. First without a graph, micro-batch by micro-batch, which leaves the features of
//! the whole step; the heads and the loss take these as one batch, and backward gives the gradient of
//! every feature. Then each micro-batch runs again with its graph, and backward goes on from its
//! features' gradients. Batch norms of heads see the whole step, those of towers their micro-batch.

use anyhow::Result;
use tch::{Kind, Tensor};
use tch_distributed::ProcessGroup;

use super::ranks::GroupRanks;
use super::step::{Backward, Trainer};
use crate::model::{Batch, Features};

/// Runs forward and backward of a step. Gradients are averaged over ranks and carry the loss's scale.
///
/// # Errors
/// When a batch cannot be had, torch fails, or a peer is lost.
pub(super) fn exact(
    trainer: &Trainer,
    group: &ProcessGroup,
    step: u64,
    mut next: impl FnMut() -> Result<Batch>,
) -> Result<Backward> {
    let rank = group.rank();
    let mut batches = Vec::new();
    let mut online = Vec::new();
    let mut targets = Vec::new();
    for micro in 0..trainer.settings.update_freq {
        let batch = next()?;
        trainer.say_what_is_recomputed(group, &batch)?;
        trainer.seed(rank, step, micro)?;
        let _guard = tch::no_grad_guard();
        trainer.autocast(|| {
            online.push(trainer.model.features(&batch, true)?);
            if let Some(momentum) = &trainer.momentum {
                targets.push(momentum.features(&batch)?);
            }
            Ok(())
        })?;
        batches.push(batch);
    }
    let leaves = Features::cat(&online)?.leaves()?;
    drop(online);

    let mut backward = Backward::default();
    let embeddings = trainer.autocast(|| {
        let embeddings = trainer.model.project(&leaves, true)?;
        match &trainer.momentum {
            Some(momentum) => {
                let targets = momentum.project(&Features::cat(&targets)?)?;
                Ok(embeddings.with_targets(targets)?)
            }
            None => Ok(embeddings),
        }
    })?;
    let output = trainer.objective.compute(&embeddings, &GroupRanks(group))?;
    let loss = trainer.scaler.scale(&output.total)?;
    trainer.ddp.backward_no_sync(&loss)?;
    backward.record(&output)?;
    drop((embeddings, output, loss));

    let heads: Vec<Tensor> = trainer
        .parameters()
        .into_iter()
        .filter(|parameter| parameter.grad().defined())
        .collect();
    let mut first = 0;
    let count = batches.len();
    for (micro, batch) in batches.into_iter().enumerate() {
        trainer.seed(rank, step, micro as u64)?;
        let features = trainer.autocast(|| Ok(trainer.model.features_again(&batch)?))?;
        let mut surrogate = features.surrogate(&leaves, first)?;
        first += batch.image_global.size()[0];
        if micro + 1 < count {
            trainer.ddp.backward_no_sync(&surrogate)?;
            continue;
        }
        // The reducer waits for every parameter; the heads' gradients are there, and get nothing more.
        for head in &heads {
            surrogate = surrogate.f_add(&head.f_sum(Kind::Float)?.f_mul_scalar(0.0)?)?;
        }
        trainer.ddp.backward(&surrogate)?;
    }
    Ok(backward)
}
