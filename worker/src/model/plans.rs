//! Which blocks a batch runs again in backward.

use tch::Tensor;

use super::Result;
use super::batch::Batch;
use super::clip::Model;
use super::segments::{
    Checkpoint, CheckpointReport, Cost, Plan, all_but_last, estimate, sum, within,
};
use super::text::Ends;

impl Model {
    /// Which blocks of the two towers (vision, text) are run again in backward.
    pub(super) fn plans(
        &self,
        batch: &Batch,
        ends: &Ends,
        noisy: usize,
    ) -> Result<([Plan; 2], Option<CheckpointReport>)> {
        let (budget, bytes) = match self.checkpoint {
            Checkpoint::Keep => return Ok(([Plan::Keep, Plan::Keep], None)),
            // As the original, which keeps the text tower's.
            Checkpoint::Vision => {
                let views = self.vision_costs(batch)?;
                // Of views that go through by themselves the others' last blocks would be kept all along.
                let again = if views.len() == 1 || self.joins(batch) {
                    all_but_last(&sum(&views))
                } else {
                    Vec::new()
                };
                return Ok(([Plan::Blocks(again), Plan::Keep], None));
            }
            Checkpoint::Segments(count) => {
                return Ok(([Plan::Segments(count), Plan::Segments(count)], None));
            }
            Checkpoint::Memory {
                budget,
                element_bytes,
            } => (budget, element_bytes),
        };
        let vision = sum(&self.vision_costs(batch)?);
        // Batch norms exchange statistics when a block runs again, so every rank must run the same blocks of
        // the vision tower: captions count there as if all were of full length. What that leaves of the
        // budget is the text tower's, whose captions are this rank's own.
        let longest = self.text.costs_at_most(batch.tokens.numel());
        let (mut again, _) = within(budget, bytes, &[vision.clone(), longest]);
        again.truncate(1);
        let used = estimate(bytes, &vision, &again[0]);
        let text = self.text.costs(ends, noisy);
        let rest = budget.saturating_sub(used.bytes);
        let (of_text, text) = within(rest, bytes, &[text]);
        let mut again = again.into_iter().chain(of_text).map(Plan::Blocks);
        let mut next = || again.next().unwrap_or(Plan::Keep);
        let report = CheckpointReport {
            blocks: used.blocks + text.blocks,
            recomputed: used.recomputed + text.recomputed,
            bytes: used.bytes.saturating_add(text.bytes),
        };
        Ok(([next(), next()], Some(report)))
    }

    /// Costs of the vision tower's blocks, view by view.
    fn vision_costs(&self, batch: &Batch) -> Result<Vec<Vec<Cost>>> {
        let costs = |images: &Tensor| {
            let (n, _, h, w) = images.size4()?;
            Ok(self.vision.costs([n, h, w]))
        };
        batch.views().map(costs).collect()
    }

    /// What `checkpoint_memory` makes of a batch; `None` without it.
    ///
    /// # Errors
    /// If the batch's sizes do not fit.
    pub fn checkpoint_report(&self, batch: &Batch) -> Result<Option<CheckpointReport>> {
        let (b, views, context) = batch.tokens.size3()?;
        let tokens = batch.tokens.f_transpose(0, 1)?;
        let ends = self.text.ends(&tokens.f_reshape([views * b, context])?)?;
        let noisy = usize::try_from(views * b).unwrap_or(usize::MAX);
        Ok(self.plans(batch, &ends, noisy)?.1)
    }
}
