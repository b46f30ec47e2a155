//! Zero-shot evaluation while training, over all ranks.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use rocket_common::events::EventKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::{Phase, StopReason};
use serde_json::Map;
use tch::Tensor;
use tch_distributed::{ProcessGroup, ReduceOp};

use super::session::Session;
use super::stop;
use crate::eval::{
    self, Catalog, EvalSet, Head, Labels, Scorer, Settings, Shard, Templates, ZeroShot,
};
use crate::track::{RecordKind, Tracker};

/// The sets that an experiment is evaluated on in training, opened.
pub struct EvalSets {
    sets: Vec<EvalSet>,
    settings: Settings,
}

impl EvalSets {
    /// Opens the sets that `eval.datasets` names. The files that describe them begin in the pinned
    /// tree, the folders of their images in the user's clone, `repo`, as those of the training data do.
    ///
    /// # Errors
    /// Everything that keeps a set from being scored, before any step is made; and a name in `eval.after`
    /// that the catalog does not have.
    pub fn open(experiment: &Experiment, pin_dir: &Path, repo: &Path) -> Result<Self> {
        let section = &experiment.eval;
        let settings = Settings {
            image_batch: section.batch_size as usize,
            text_batch: section.batch_size as usize,
            threads: experiment.data.workers.max(1),
            details: false,
        };
        let after = section.after.sets();
        if section.datasets.is_empty() && after.is_empty() {
            return Ok(Self {
                sets: Vec::new(),
                settings,
            });
        }
        let catalog = Catalog::load(&pin_dir.join(&section.catalog), repo)?;
        for name in after {
            // Whether its images are there is asked when their time comes.
            catalog.entry(name)?;
        }
        let labels = Labels::load_if_there(&pin_dir.join(&section.labels))?;
        let templates = Templates::load_if_there(&pin_dir.join(&section.templates))?;
        let sets = section
            .datasets
            .iter()
            .map(|name| EvalSet::open(name, &catalog, &labels, &templates, eval::decoder()))
            .collect::<Result<_, _>>()?;
        Ok(Self { sets, settings })
    }
}

impl Session<'_> {
    /// Scores every set, writes the results, and saves a checkpoint with the score of the first.
    /// A stop that some rank was asked for cuts it short: nothing is published then, and the next
    /// attempt evaluates anew.
    pub(super) fn evaluate(&mut self) -> Result<Option<StopReason>> {
        self.pulse.phase(Phase::Evaluating);
        let step = self.state.step;
        let model = &self.trainer.model;
        let pulse = &mut self.pulse;
        let group = std::sync::Arc::clone(&self.group);
        let sum = summing(&group);
        let shard = Shard::new(group.rank(), group.world_size(), &sum);
        let precision = self.experiment.eval.precision;
        let encoder = eval::Autocast {
            model,
            kind: eval::kind(precision, self.device),
        };
        let tokenize = eval::tokenizer();
        let scorer = Scorer {
            encoder: &encoder,
            tokenize: &tokenize,
            settings: self.eval_sets.settings,
            shard: &shard,
            // These weights are scored once.
            cache: None,
        };
        let mut results = Vec::new();
        for set in &self.eval_sets.sets {
            let scores = scorer.score(set, |_| {
                pulse.alive();
                match stop::wish() {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                }
            });
            let scores = match scores {
                // All ranks see the same sum, so that all come here together.
                Err(error) if eval::was_interrupted(&error) => {
                    return match stop::agree(&group)? {
                        Some(reason) => Ok(Some(reason)),
                        None => Err(error.into()),
                    };
                }
                scores => scores?,
            };
            results.push(ZeroShot::new(
                set,
                step,
                &format!("step-{step:08}"),
                &scores,
            ));
        }
        for result in &results {
            self.publish(result)?;
        }
        self.state.last_eval_step = step;
        if let Some(score) = results
            .first()
            .and_then(|first| Some(first.head(Head::Z)?.top1 / 100.0))
        {
            self.last_score = Some((step, score));
            self.state.best_score =
                Some(self.state.best_score.map_or(score, |best| best.max(score)));
        }
        self.pace.restart(step);
        // An attempt that was stopped before this evaluation has saved this step, without the score.
        self.saved_step = None;
        self.save()?;
        stop::agree(&group)
    }

    /// Writes one set's result to `eval/`, metrics, events and the log, on the lead.
    fn publish(&mut self, result: &ZeroShot) -> Result<()> {
        let Some(metrics) = &mut self.metrics else {
            return Ok(());
        };
        self.run.fence_check(self.context.attempt)?;
        let mut values = Map::new();
        values.insert("epoch".to_owned(), self.plan.epoch(self.state.step).into());
        for head in &result.heads {
            for (figure, value) in [("top1", head.top1), ("top5", head.top5)] {
                let name = format!("{}/{}_{figure}", result.dataset, head.head);
                values.insert(name, value.into());
            }
        }
        metrics.record(RecordKind::Eval, self.state.step, &values)?;
        rocket_common::atomic::write_json(&self.run.eval_dir().join(result.file_name()), result)?;
        for line in result.table().lines() {
            tracing::info!("{line}");
        }
        let metrics = result.event_metrics();
        self.event(EventKind::Evaluated { metrics }, |event| event)
    }
}

/// Sums over all ranks, as the evaluation asks for it.
pub fn summing(
    group: &ProcessGroup,
) -> impl Fn(&Tensor) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>> + '_ {
    move |tensor| {
        let total = tensor.copy();
        group.all_reduce(&total, ReduceOp::Sum)?;
        Ok(total)
    }
}
