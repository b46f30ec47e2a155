//! Which blocks a batch runs again in backward.

use super::Result;
use super::batch::Batch;
use super::clip::Model;
use super::segments::{Checkpoint, CheckpointReport, Cost, Plan, within};
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
            Checkpoint::EveryBlock => {
                let every = || Plan::Blocks(Vec::new());
                return Ok(([every(), every()], None));
            }
            Checkpoint::Segments(count) => {
                return Ok(([Plan::Segments(count), Plan::Segments(count)], None));
            }
            Checkpoint::Memory {
                budget,
                element_bytes,
            } => (budget, element_bytes),
        };
        let mut vision: Vec<Cost> = Vec::new();
        for images in std::iter::once(&batch.image_global).chain(&batch.images_local) {
            let (n, _, h, w) = images.size4()?;
            let view = self.vision.costs([n, h, w]);
            if vision.is_empty() {
                vision = view;
            } else {
                let pairs = vision.iter_mut().zip(view);
                pairs.for_each(|(sum, view)| sum.add(view));
            }
        }
        let text = self.text.costs(ends, noisy);
        let (again, report) = within(budget, bytes, &[vision, text]);
        let mut again = again.into_iter().map(Plan::Blocks);
        let mut next = || again.next().unwrap_or(Plan::Keep);
        Ok(([next(), next()], Some(report)))
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
