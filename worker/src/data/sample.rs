//! One sample from a source to tensors' memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::budget::{Budget, Share, decode_bytes};
use super::order::{GlobalPosition, Order};
use super::source::Source;
use crate::image::{ImageViews, Need, Picture, ViewPlan, decode_part, normalize_planes_into};
use crate::text::CaptionViews;

/// A sample whose image could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSample {
    /// Its number in the data set.
    pub sample: u64,
    /// Its name in the data set.
    pub name: String,
    /// Why, in words.
    pub cause: String,
}

/// Everything that decides what a sample looks like.
pub(super) struct Maker {
    pub(super) source: Arc<dyn Source>,
    pub(super) order: Order,
    pub(super) images: ImageViews,
    pub(super) captions: CaptionViews,
    /// Whether pictures may be decoded smaller where no view is harmed much.
    pub(super) may_reduce: bool,
    /// Bounds what all threads together hold of files and pictures.
    pub(super) budget: Budget,
}

/// What came of a slot.
pub(super) struct Made {
    /// The sample that fills it, if one could be found.
    pub(super) sample: Option<u64>,
    /// Bytes of image files that were read.
    pub(super) bytes: u64,
    /// Samples that should have filled it.
    pub(super) bad: Vec<BadSample>,
}

/// Replacements that are tried for one slot.
pub(super) const ATTEMPTS: u64 = 16;

impl Maker {
    /// Fills one slot: `images[v]` is `[3, h, w]` of view v, `tokens` is `[V, 77]`. An unreadable
    /// sample is replaced by one from outside of the step.
    pub(super) fn make(
        &self,
        position: GlobalPosition,
        slot: u64,
        sample: u64,
        images: &mut [&mut [f32]],
        tokens: &mut [i64],
    ) -> Made {
        let mut made = Made {
            sample: None,
            bytes: 0,
            bad: Vec::new(),
        };
        let mut candidate = Some(sample);
        for attempt in 0..=ATTEMPTS {
            let Some(sample) = candidate else { break };
            match self.picture(position.epoch, sample) {
                Ok(ready) => {
                    made.bytes += ready.bytes;
                    self.write(ready, position.epoch, sample, images, tokens);
                    made.sample = Some(sample);
                    break;
                }
                Err(cause) => made.bad.push(BadSample {
                    sample,
                    name: self.source.name(sample as usize),
                    cause,
                }),
            }
            candidate = self.order.replacement(position, slot, attempt);
        }
        made
    }

    /// Reads a sample's file, and decodes as much as its views need.
    fn picture(&self, epoch: u64, sample: u64) -> Result<Ready<'_>, String> {
        let mut file = Vec::new();
        self.source
            .read(sample as usize, &mut file)
            .map_err(|error| error.to_string())?;
        let mut ready = Ready {
            picture: Picture::black(0, 0),
            whole: (0, 0),
            plans: Vec::new(),
            bytes: file.len() as u64,
            _share: None,
        };
        let seed = self.order.seed;
        let mut need = |width: usize, height: usize| {
            let share = self.budget.take(decode_bytes(&file, width, height));
            ready._share = Some(share);
            ready.whole = (width, height);
            ready.plans = self.images.plan(width, height, seed, epoch, sample);
            Need::of(&ready.plans, self.may_reduce)
        };
        // A decoder that panics on a broken file has found a bad sample, not ended the run.
        let what = match catch_unwind(AssertUnwindSafe(|| decode_part(&file, &mut need))) {
            Ok(Ok(picture)) => {
                ready.picture = picture;
                return Ok(ready);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the decoder gave up".to_owned(),
        };
        let name = match self.source.place(sample as usize) {
            Ok(place) => place.file.display().to_string(),
            Err(_) => self.source.name(sample as usize),
        };
        Err(format!("{name}: {what}"))
    }

    fn write(
        &self,
        ready: Ready<'_>,
        epoch: u64,
        sample: u64,
        images: &mut [&mut [f32]],
        tokens: &mut [i64],
    ) {
        for (plan, out) in ready.plans.into_iter().zip(images) {
            normalize_planes_into(&plan.draw(&ready.picture, ready.whole), out);
        }
        let captions = self.source.captions(sample as usize);
        let texts = self
            .captions
            .texts(&captions, self.order.seed, epoch, sample);
        self.captions.tokens_into(&texts, tokens);
    }
}

/// A decoded picture and the views that will be drawn of it.
struct Ready<'a> {
    picture: Picture,
    /// Columns and rows in the file, of which the picture may hold less.
    whole: (usize, usize),
    plans: Vec<ViewPlan<'a>>,
    /// Of the file.
    bytes: u64,
    /// Of the memory for pictures, until the views are drawn.
    _share: Option<Share<'a>>,
}
