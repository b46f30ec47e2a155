//! One optimiser step: `update_freq` micro-batches of encode, loss and backward, then AdamW.

use anyhow::Result;
use rocket_common::experiment::Experiment;
use tch::{Device, Kind, Tensor};
use tch_distributed::{Ddp, ProcessGroup, optim, rng};

use super::ranks::GroupRanks;
use crate::loss::{LossOutput, Objective};
use crate::model::{Batch, Model};
use crate::optim::NamedAdamW;
use crate::random::{Purpose, Stream};

/// What backward left behind: gradients in the parameters, and these.
#[derive(Debug)]
pub struct Backward {
    /// Names of the loss terms.
    pub names: Vec<String>,
    /// Loss terms of this rank by micro-batch.
    pub terms: Vec<Vec<f64>>,
    /// Euclidean norm of the averaged gradient.
    pub grad_norm: f64,
}

impl Backward {
    /// Means of the terms over the micro-batches.
    #[must_use]
    pub fn means(&self) -> Vec<f64> {
        let count = self.terms.len().max(1) as f64;
        (0..self.names.len())
            .map(|index| self.terms.iter().map(|terms| terms[index]).sum::<f64>() / count)
            .collect()
    }

    /// Whether loss and gradient are numbers.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.grad_norm.is_finite() && self.terms.iter().flatten().all(|term| term.is_finite())
    }
}

/// The trained things of a rank.
#[derive(Debug)]
pub struct Trainer {
    /// Towers and projectors.
    pub model: Model,
    /// Gradient averaging.
    pub ddp: Ddp,
    /// Optimiser.
    pub optimizer: NamedAdamW,
    device: Device,
    seed: u64,
    update_freq: u64,
    objective: Objective,
}

impl Trainer {
    /// Joins the trained things by an experiment's options.
    #[must_use]
    pub fn new(
        model: Model,
        ddp: Ddp,
        optimizer: NamedAdamW,
        experiment: &Experiment,
        device: Device,
    ) -> Self {
        Self {
            model,
            ddp,
            optimizer,
            device,
            seed: experiment.seed,
            update_freq: experiment.train.update_freq,
            objective: Objective::of(experiment),
        }
    }

    /// Runs forward and backward of step `step` (from 0) on its micro-batches. Gradients are
    /// averaged over ranks and micro-batches; no parameter changes.
    ///
    /// # Errors
    /// When a batch cannot be had, torch fails, or a peer is lost.
    pub fn backward(
        &self,
        group: &ProcessGroup,
        step: u64,
        mut next: impl FnMut() -> Result<Batch>,
    ) -> Result<Backward> {
        self.optimizer.zero_grad()?;
        let mut names = Vec::new();
        let mut terms = Vec::new();
        for micro in 0..self.update_freq {
            let batch = next()?;
            // Dropout is a function of (seed, step, micro-batch, rank), not of what ran before.
            let key = Stream::new(
                self.seed,
                step,
                micro,
                Purpose::Dropout(group.rank() as u32),
            )
            .bits();
            rng::manual_seed(self.device, key)?;
            let output = self.forward(group, &batch)?;
            let loss = &output.total / self.update_freq as f64;
            if micro + 1 == self.update_freq {
                self.ddp.backward(&loss)?;
            } else {
                self.ddp.backward_no_sync(&loss)?;
            }
            names = output.terms.iter().map(|(name, _)| name.clone()).collect();
            let values: Vec<Tensor> = output
                .terms
                .iter()
                .map(|(_, term)| term.to_kind(Kind::Double))
                .collect();
            terms.push(Vec::<f64>::try_from(Tensor::stack(&values, 0))?);
        }
        Ok(Backward {
            names,
            terms,
            grad_norm: self.grad_norm()?,
        })
    }

    /// Applies the gradients at a learning rate.
    ///
    /// # Errors
    /// When torch fails.
    pub fn update(&mut self, lr: f64) -> Result<()> {
        self.optimizer.step(lr)?;
        self.model.clamp_logit_scales()?;
        Ok(())
    }

    fn forward(&self, group: &ProcessGroup, batch: &Batch) -> Result<LossOutput> {
        let embeddings = self.model.encode(batch, true)?;
        let output = self.objective.compute(&embeddings, &GroupRanks(group));
        // A peer lost within the loss is a lost peer.
        Ok(output.map_err(tch_distributed::Error::from)?)
    }

    fn grad_norm(&self) -> Result<f64> {
        let parameters: Vec<Tensor> = self
            .model
            .registry()
            .trainable()
            .map(|entry| entry.tensor.shallow_clone())
            .collect();
        Ok(f64::try_from(optim::norm(&optim::grads(&parameters))?)?)
    }
}
