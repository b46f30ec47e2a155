//! One embedding per class and head: the mean over prompts of normalised embeddings, normalised.
//!
//! Shapes: C classes, P texts, D embedding, T tokens.

use std::ops::ControlFlow;

use tch::{Device, Kind, Tensor};

use super::{EvalError, Prompts, Shard};

/// Embeddings of one modality, before normalisation.
#[derive(Debug)]
pub struct Heads {
    /// The global (CLIP) embedding `[B, D]`.
    pub z: Tensor,
    /// The embedding of the augmented views (CL2L) `[B, D]`, of models that have one.
    pub h: Option<Tensor>,
}

/// Reason for a failed encoding.
pub type EncodeError = Box<dyn std::error::Error + Send + Sync>;

/// A model in evaluation mode. Called under `no_grad`.
pub trait Encoder {
    /// Embeds normalised images `[B, 3, H, W]` on [`Encoder::device`].
    ///
    /// # Errors
    /// Whatever stops the model.
    fn encode_image(&self, images: &Tensor) -> Result<Heads, EncodeError>;

    /// Embeds token rows `[B, T]` int64 on [`Encoder::device`].
    ///
    /// # Errors
    /// Whatever stops the model.
    fn encode_text(&self, tokens: &Tensor) -> Result<Heads, EncodeError>;

    /// Where inputs must lie.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Side of the images in pixels.
    fn image_size(&self) -> usize;
}

/// Class embeddings `[C, D]` per head, each row of length 1, float32.
#[derive(Debug)]
pub struct Classifier {
    /// Head z.
    pub z: Tensor,
    /// Head h, of models that have one.
    pub h: Option<Tensor>,
}

/// Text to a row of token ids; all rows have one length.
pub type Tokenize<'a> = dyn Fn(&str) -> Vec<i64> + 'a;

impl Classifier {
    /// Encodes the prompts of every class. Batches are whole classes of together about
    /// `text_batch` texts, shared over the ranks of `shard`. `progress` is told after each of them; with
    /// [`ControlFlow::Break`] it has the rest left out.
    ///
    /// # Errors
    /// The model fails, or an embedding is not finite. [`EvalError::Interrupted`] on every rank if one
    /// left classes out.
    pub fn new(
        encoder: &dyn Encoder,
        prompts: &Prompts,
        tokenize: &Tokenize,
        text_batch: usize,
        shard: &Shard,
        set: &str,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self, EvalError> {
        let units = units(prompts, text_batch);
        let classes = prompts.by_class.len() as i64;
        // One table for both heads `[C, 2D]`: one sum over ranks joins it.
        let mut table: Option<Tensor> = None;
        let mut has_h = false;
        let mut mine: Vec<usize> = shard.units(units.len()).collect();
        let idle = mine.is_empty();
        if idle {
            // A rank without work still must know the shape of what it takes part in summing.
            mine.push(0);
        }
        let mut done = 0_i64;
        for unit in mine {
            let (first, last) = units[unit];
            let texts = &prompts.by_class[first..last];
            let heads = encode(encoder, tokenize, texts, set)?;
            has_h = heads.h.is_some();
            let rows = match heads.h {
                Some(h) => Tensor::cat(&[heads.z, h], 1),
                None => heads.z,
            };
            let table = table.get_or_insert_with(|| {
                Tensor::zeros([classes, rows.size()[1]], (Kind::Float, rows.device()))
            });
            if !idle {
                table
                    .narrow(0, first as i64, (last - first) as i64)
                    .copy_(&rows);
                done += 1;
            }
            if progress().is_break() {
                break;
            }
        }
        let table = table.unwrap_or_else(|| Tensor::zeros([0, 0], (Kind::Float, Device::Cpu)));
        let done = Tensor::from_slice(&[done]).to_device(table.device());
        if shard.sum(done, set)?.int64_value(&[0]) < units.len() as i64 {
            return Err(EvalError::Interrupted {
                set: set.to_owned(),
            });
        }
        let this = Self::of_table(&shard.sum(table, set)?, has_h);
        this.check(set)?;
        Ok(this)
    }

    /// Both heads side by side `[C, 2D]`, or the only one.
    pub(super) fn table(&self) -> Tensor {
        match &self.h {
            Some(h) => Tensor::cat(&[&self.z, h], 1),
            None => self.z.shallow_clone(),
        }
    }

    /// Reads back [`Classifier::table`].
    pub(super) fn of_table(table: &Tensor, has_h: bool) -> Self {
        let mut heads = table.chunk(if has_h { 2 } else { 1 }, 1).into_iter();
        let z = heads.next().unwrap_or_default();
        Self { z, h: heads.next() }
    }

    pub(super) fn check(&self, set: &str) -> Result<(), EvalError> {
        check_finite(&self.z, "class embeddings", "z", set)?;
        match &self.h {
            Some(h) => check_finite(h, "class embeddings", "h", set),
            None => Ok(()),
        }
    }
}

/// Ranges of classes with about `text_batch` texts each; a pure function of the prompts.
fn units(prompts: &Prompts, text_batch: usize) -> Vec<(usize, usize)> {
    let mut units = Vec::new();
    let (mut first, mut texts) = (0, 0);
    for (i, class) in prompts.by_class.iter().enumerate() {
        if i > first && texts + class.len() > text_batch {
            units.push((first, i));
            (first, texts) = (i, 0);
        }
        texts += class.len();
    }
    if first < prompts.by_class.len() {
        units.push((first, prompts.by_class.len()));
    }
    units
}

/// Class embeddings of some classes.
fn encode(
    encoder: &dyn Encoder,
    tokenize: &Tokenize,
    texts: &[Vec<String>],
    set: &str,
) -> Result<Heads, EvalError> {
    let rows: Vec<Vec<i64>> = texts.iter().flatten().map(|text| tokenize(text)).collect();
    let length = rows.first().map_or(0, Vec::len) as i64;
    let tokens = Tensor::from_slice(&rows.concat())
        .view([rows.len() as i64, length])
        .to_device(encoder.device());
    let heads = tch::no_grad(|| encoder.encode_text(&tokens)).map_err(|e| EvalError::Model {
        what: "prompts",
        set: set.to_owned(),
        cause: e.to_string(),
    })?;
    Ok(Heads {
        z: class_means(&heads.z, texts),
        h: heads.h.map(|h| class_means(&h, texts)),
    })
}

/// `[P, D]` embeddings of texts, class after class, to `[C, D]`.
fn class_means(embeddings: &Tensor, texts: &[Vec<String>]) -> Tensor {
    let unit = normalize(&embeddings.to_kind(Kind::Float));
    let mut first = 0;
    let means: Vec<Tensor> = texts
        .iter()
        .map(|class| {
            let rows = unit.narrow(0, first, class.len() as i64);
            first += class.len() as i64;
            rows.mean_dim([0_i64].as_slice(), false, Kind::Float)
        })
        .collect();
    normalize(&Tensor::stack(&means, 0))
}

/// Rows at length 1. A row of zeros becomes NaN, which [`check_finite`] reports.
pub(super) fn normalize(rows: &Tensor) -> Tensor {
    rows / rows.norm_scalaropt_dim(2, [-1_i64].as_slice(), true)
}

/// Refuses NaN and infinity: a comparison with NaN is false, so that it would pass for a rank.
pub(super) fn check_finite(
    rows: &Tensor,
    what: &'static str,
    head: &'static str,
    set: &str,
) -> Result<(), EvalError> {
    if rows.isfinite().all().int64_value(&[]) == 1 {
        Ok(())
    } else {
        Err(EvalError::NotFinite {
            what,
            head,
            set: set.to_owned(),
        })
    }
}
