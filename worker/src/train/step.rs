//! One optimiser step: `update_freq` micro-batches of encode, loss and backward, then AdamW.

use std::cell::Cell;
use std::sync::Arc;

use anyhow::Result;
use rocket_common::experiment::{Accumulate, Child, Experiment};
use tch::{Device, Kind, Tensor};
use tch_distributed::{Ddp, DdpOptions, GradScaler, ProcessGroup, autocast, optim, rng};

use super::accumulate;
use super::ranks::GroupRanks;
use crate::loss::{LossOutput, Objective};
use crate::model::{Batch, Embeddings, Model, MomentumEncoder, Options};
use crate::optim::NamedAdamW;
use crate::random::{Purpose, Stream};

/// What backward left behind: gradients in the parameters, and these.
#[derive(Debug, Default)]
pub struct Backward {
    /// Names of the loss terms.
    pub names: Vec<String>,
    /// Loss terms of this rank: by micro-batch, or one list where the loss is of the whole step.
    pub terms: Vec<Vec<f64>>,
    /// Euclidean norm of the averaged gradient, without the scale of the loss.
    pub grad_norm: f64,
    /// The gradient left the range of its type at this scale of the loss: the step is left out.
    pub overflow: bool,
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

    /// Whether loss and gradient are numbers. A gradient that only the scale of the loss drove out of
    /// its range is none of the run's fault.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        (self.overflow || self.grad_norm.is_finite())
            && self.terms.iter().flatten().all(|term| term.is_finite())
    }

    /// Takes down the terms of one loss.
    pub(super) fn record(&mut self, output: &LossOutput) -> Result<()> {
        self.names = output.terms.iter().map(|(name, _)| name.clone()).collect();
        let values: Vec<Tensor> = output
            .terms
            .iter()
            .map(|(_, term)| term.to_kind(Kind::Double))
            .collect();
        self.terms
            .push(Vec::<f64>::try_from(Tensor::stack(&values, 0))?);
        Ok(())
    }
}

/// The trained things of a rank.
#[derive(Debug)]
pub struct Trainer {
    /// Towers and projectors.
    pub model: Model,
    /// Their moving average, which makes the targets of BYOLIP.
    pub momentum: Option<MomentumEncoder>,
    /// Gradient averaging.
    pub ddp: Ddp,
    /// Optimiser.
    pub optimizer: NamedAdamW,
    /// Scale of the loss; idle unless forward and backward compute in float16.
    pub scaler: GradScaler,
    pub(super) objective: Objective,
    pub(super) settings: Settings,
    /// What is recomputed has been said.
    said: Cell<bool>,
}

/// How a trainer makes its steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub device: Device,
    pub seed: u64,
    pub update_freq: u64,
    pub accumulate: Accumulate,
    /// Type that forward and backward compute in where it is not float32.
    pub autocast: Option<Kind>,
    pub momentum_tau: f64,
    /// Steps in which learnt prototypes stay as they are.
    pub freeze_prototypes: u64,
}

impl Settings {
    /// The settings of an experiment on a device.
    pub(super) fn of(experiment: &Experiment, device: Device) -> Self {
        let train = &experiment.train;
        let learnt = experiment.model.child == Some(Child::Swalipv1);
        Self {
            device,
            seed: experiment.seed,
            update_freq: train.update_freq,
            accumulate: train.accumulate,
            autocast: super::precision::kind(train.precision, device),
            momentum_tau: experiment.model.momentum_tau,
            freeze_prototypes: if learnt {
                train.swalip_freeze_proto_iters
            } else {
                0
            },
        }
    }
}

impl Trainer {
    /// Builds the trained things of an experiment, the same on every rank of the group.
    ///
    /// # Errors
    /// When the model cannot be built, torch fails, or a peer is lost.
    pub fn build(
        experiment: &Experiment,
        device: Device,
        group: &Arc<ProcessGroup>,
    ) -> Result<Self> {
        let sync = (group.world_size() > 1).then(|| Arc::clone(group));
        let options = Options::of(experiment, device, sync);
        let model = Model::new(&experiment.model, &options)?;
        let parameters = trainable(&model);
        let ddp = Ddp::new(
            group,
            &parameters,
            &DdpOptions {
                bucket_bytes: (experiment.train.bucket_cap_mb * 1024.0 * 1024.0) as usize,
                ..DdpOptions::default()
            },
        )?;
        let momentum = experiment
            .model
            .momentum
            .then(|| MomentumEncoder::new(&model, &experiment.model, &options))
            .transpose()?;
        let settings = Settings::of(experiment, device);
        Ok(Self {
            optimizer: NamedAdamW::new(model.registry(), &experiment.optim)?,
            scaler: super::precision::scaler(settings.autocast, device)?,
            objective: Objective::of(experiment),
            model,
            momentum,
            ddp,
            settings,
            said: Cell::new(false),
        })
    }

    /// Runs forward and backward of step `step` (from 0) on its micro-batches. Gradients are
    /// averaged over ranks and micro-batches, and free of the scale of the loss; no parameter changes.
    ///
    /// # Errors
    /// When a batch cannot be had, torch fails, or a peer is lost.
    pub fn backward(
        &mut self,
        group: &ProcessGroup,
        step: u64,
        next: impl FnMut() -> Result<Batch>,
    ) -> Result<Backward> {
        self.optimizer.zero_grad()?;
        let mut backward = match self.settings.accumulate {
            Accumulate::Exact if self.settings.update_freq > 1 => {
                accumulate::exact(self, group, step, next)?
            }
            Accumulate::Exact | Accumulate::Micro => self.micro_batches(group, step, next)?,
        };
        if step < self.settings.freeze_prototypes {
            optim::drop_grads(&self.model.prototypes())?;
        }
        let parameters = self.parameters();
        backward.overflow = !self.scaler.unscale(&parameters, Some(group))?;
        backward.grad_norm = f64::try_from(optim::norm(&optim::grads(&parameters))?)?;
        Ok(backward)
    }

    /// Once, what `train.checkpoint_memory` makes of the first batch.
    pub(super) fn say_what_is_recomputed(&self, group: &ProcessGroup, batch: &Batch) -> Result<()> {
        if self.said.replace(true) || group.rank() > 0 {
            return Ok(());
        }
        if let Some(report) = self.model.checkpoint_report(batch)? {
            tracing::info!(
                "train.checkpoint_memory: {} of {} blocks are computed again in backward; activations of the blocks are estimated to take {:.2} GB",
                report.recomputed,
                report.blocks,
                report.bytes as f64 / 1e9
            );
        }
        Ok(())
    }

    /// Micro-batch after micro-batch, each with a loss of its own, as the original does.
    fn micro_batches(
        &mut self,
        group: &ProcessGroup,
        step: u64,
        mut next: impl FnMut() -> Result<Batch>,
    ) -> Result<Backward> {
        let ranks = GroupRanks(group);
        let mut backward = Backward::default();
        let count = self.settings.update_freq;
        for micro in 0..count {
            let batch = next()?;
            self.say_what_is_recomputed(group, &batch)?;
            self.seed(group.rank(), step, micro)?;
            let embeddings = self.autocast(|| self.encode(&batch))?;
            let output = self.objective.compute(&embeddings, &ranks)?;
            let loss = self.scaler.scale(&(&output.total / count as f64))?;
            if micro + 1 == count {
                self.ddp.backward(&loss)?;
            } else {
                self.ddp.backward_no_sync(&loss)?;
            }
            backward.record(&output)?;
        }
        Ok(backward)
    }

    /// Embeddings of a micro-batch, with the momentum encoder's as targets.
    fn encode(&self, batch: &Batch) -> Result<Embeddings> {
        let embeddings = self.model.encode(batch, true)?;
        match &self.momentum {
            Some(momentum) => Ok(embeddings.with_targets(momentum.encode(batch)?)?),
            None => Ok(embeddings),
        }
    }

    /// Dropout is a function of (seed, step, micro-batch, rank), not of what ran before.
    pub(super) fn seed(&self, rank: usize, step: u64, micro: u64) -> Result<()> {
        let purpose = Purpose::Dropout(rank as u32);
        let key = Stream::new(self.settings.seed, step, micro, purpose).bits();
        Ok(rng::manual_seed(self.settings.device, key)?)
    }

    /// Runs a part of forward in the type that the experiment chose.
    pub(super) fn autocast<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.settings.autocast {
            Some(kind) => autocast(self.settings.device, kind, f)?,
            None => f(),
        }
    }

    /// Parameters that take gradients.
    pub(super) fn parameters(&self) -> Vec<Tensor> {
        trainable(&self.model)
    }

    /// Applies the gradients at a learning rate, unless they overflowed.
    ///
    /// # Errors
    /// When torch fails.
    pub fn update(&mut self, lr: f64, overflow: bool) -> Result<()> {
        if !overflow {
            self.optimizer.step(lr)?;
        }
        self.scaler.update()?;
        // The reference's order: the average takes the weights before their scales are clamped.
        if let Some(momentum) = &self.momentum {
            momentum.update(&self.model, self.settings.momentum_tau)?;
        }
        self.model.clamp_logit_scales()?;
        Ok(())
    }
}

fn trainable(model: &Model) -> Vec<Tensor> {
    let entries = model.registry().trainable();
    entries.map(|entry| entry.tensor.shallow_clone()).collect()
}
