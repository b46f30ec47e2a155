//! When the session saves: every rank checks that all hold the same, the lead writes.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};
use rocket_common::checkpoint::{BEST_METRIC, Info, Keep, Position, Published, prune};
use rocket_common::events::EventKind;
use rocket_common::protocol::Phase;
use tch::Tensor;
use tch_distributed::ReduceOp;

use super::session::Session;
use crate::checkpoint::{self, Snapshot};
use crate::model::Registry;

impl Session<'_> {
    /// Saves the state after the current step, and says whether it did: not if that is saved already,
    /// nor before the first step, when there is nothing to lose.
    pub(super) fn save(&mut self) -> Result<bool> {
        if self.state.step == 0 || self.saved_step == Some(self.state.step) {
            return Ok(false);
        }
        self.pulse.phase(Phase::Saving);
        let started = Instant::now();
        self.check_ranks_agree()?;
        if self.context.is_lead() {
            self.write(started)?;
        }
        // The others wait for the disk too: a rank must not be steps ahead of what can be resumed.
        self.group.barrier()?;
        self.saved_step = Some(self.state.step);
        self.saved_at = Instant::now();
        self.pace.restart(self.state.step);
        self.pulse.phase(Phase::Training);
        Ok(true)
    }

    fn write(&mut self, started: Instant) -> Result<()> {
        let named = |registry: &Registry| -> Vec<(String, Tensor)> {
            let entries = registry.entries().iter();
            entries
                .map(|entry| (entry.name.clone(), entry.tensor.shallow_clone()))
                .collect()
        };
        let model = named(self.trainer.model.registry());
        let optim = self.trainer.optimizer.state();
        let momentum = self.trainer.momentum.as_ref();
        let momentum = momentum.map(|momentum| named(momentum.registry()));
        let snapshot = Snapshot {
            model: &model,
            optim: &optim,
            momentum: momentum.as_deref(),
            state: &self.state,
        };
        let info = self.info();
        let mut published =
            checkpoint::save(&self.run, self.context.attempt, &snapshot, info.clone())?;
        if let Published::Already(checkpoint) = &mut published {
            // Saved before its evaluation, by an attempt that was stopped right there.
            self.fence()?;
            checkpoint.add_metrics(&info.metrics)?;
        }
        let (name, bytes) = (
            published.checkpoint().name(),
            published.checkpoint().manifest().bytes(),
        );
        if let Some(metrics) = &mut self.metrics {
            crate::track::Tracker::flush(metrics)?;
        }
        if matches!(published, Published::New(_)) {
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(
                "saved {name} ({:.1} MB in {seconds:.1} s)",
                bytes as f64 / 1e6
            );
            self.event(
                EventKind::Checkpoint {
                    name,
                    seconds,
                    bytes,
                },
                |event| event,
            )?;
        }
        let keep = Keep {
            last: self.experiment.train.keep_last,
            best: self.experiment.train.keep_best,
            metric: BEST_METRIC.to_owned(),
        };
        prune(&self.run, self.context.attempt, &keep)?;
        Ok(())
    }

    fn info(&self) -> Info {
        let (epoch, step) = (
            self.state.step / self.plan.steps_per_epoch,
            self.state.step % self.plan.steps_per_epoch,
        );
        let mut metrics = BTreeMap::new();
        if let Some((step, score)) = self.last_score
            && step == self.state.step
        {
            metrics.insert(BEST_METRIC.to_owned(), score);
        }
        Info {
            step: self.state.step,
            position: Position {
                epoch,
                offset: step * self.state.samples_per_step,
            },
            attempt: self.context.attempt,
            world_size: self.context.world_size,
            threads: self.experiment.train.threads,
            processor: processor(),
            versions: BTreeMap::from([
                (
                    "rocket-worker".to_owned(),
                    env!("CARGO_PKG_VERSION").to_owned(),
                ),
                ("libtorch".to_owned(), crate::TORCH_VERSION.to_owned()),
            ]),
            metrics,
        }
    }

    /// Fails if ranks hold different weights: they would never meet again, and nobody would see it.
    fn check_ranks_agree(&self) -> Result<()> {
        let hash = self.trainer.model.registry().hash()?;
        let words: Vec<i64> = hash
            .as_bytes()
            .chunks(8)
            .map(|chunk| {
                chunk
                    .iter()
                    .fold(0i64, |word, byte| word << 8 | i64::from(*byte))
            })
            .collect();
        let low = Tensor::from_slice(&words);
        let high = low.copy();
        self.group.all_reduce(&low, ReduceOp::Min)?;
        self.group.all_reduce(&high, ReduceOp::Max)?;
        if low.equal(&high) {
            return Ok(());
        }
        bail!(
            "ranks hold different weights after step {} (this one's hash is {hash}); nothing was saved",
            self.state.step
        )
    }
}

/// The processor's model, which decides how sums are rounded.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || std::env::consts::ARCH.to_owned(),
            |(_, name)| name.trim().to_owned(),
        )
}
