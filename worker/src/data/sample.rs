//! One sample from a source to tensors' memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::order::{GlobalPosition, Order};
use super::source::Source;
use crate::image::{ImageViews, Picture, decode, normalize_into};
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
            match self.picture(sample) {
                Ok((picture, bytes)) => {
                    made.bytes += bytes;
                    self.write(&picture, position.epoch, sample, images, tokens);
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

    fn picture(&self, sample: u64) -> Result<(Picture, u64), String> {
        let sample = sample as usize;
        let mut bytes = Vec::new();
        self.source
            .read(sample, &mut bytes)
            .map_err(|error| error.to_string())?;
        // A decoder that panics on a broken file has found a bad sample, not ended the run.
        let what = match catch_unwind(AssertUnwindSafe(|| decode(&bytes))) {
            Ok(Ok(picture)) if picture.width > 0 && picture.height > 0 => {
                return Ok((picture, bytes.len() as u64));
            }
            Ok(Ok(_)) => "it holds no pixels".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the decoder gave up".to_owned(),
        };
        let file = match self.source.place(sample) {
            Ok(place) => place.file.display().to_string(),
            Err(_) => self.source.name(sample),
        };
        Err(format!("{file}: {what}"))
    }

    fn write(
        &self,
        picture: &Picture,
        epoch: u64,
        sample: u64,
        images: &mut [&mut [f32]],
        tokens: &mut [i64],
    ) {
        let seed = self.order.seed;
        for (view, out) in images.iter_mut().enumerate() {
            normalize_into(&self.images.draw(picture, view, seed, epoch, sample), out);
        }
        let captions = self.source.captions(sample as usize);
        let texts = self.captions.texts(&captions, seed, epoch, sample);
        self.captions.tokens_into(&texts, tokens);
    }
}
