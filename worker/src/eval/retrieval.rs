//! Retrieval: which image belongs to a text, and which text to an image. Recall at k is the share of
//! queries of which something that belongs to them is among the k nearest; an image with several captions
//! is found by any of them, and each caption is a query of its own (Karpathy and Fei-Fei 2015, arXiv
//! 1412.2306; the same in the evaluations of ALBEF, BLIP and open_clip).
//!
//! Shapes: N images, M texts, D embedding.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::captioned::Captioned;
use super::classifier::{Tokenize, check_finite, normalize};
use super::zeroshot::{Head, Settings};
use super::{Encoder, EvalError, Heads, batches};

/// Depths at which recall is taken.
pub const DEPTHS: [usize; 3] = [1, 5, 10];

/// Rows of the similarity matrix in memory at a time.
const BLOCK: i64 = 256;

/// Result of one checkpoint on one file of captions. Figures are percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// The file of captions.
    pub captions: String,
    /// Split of it, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Captions of each image that were taken, where not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captions_per_image: Option<usize>,
    /// Optimiser steps of the checkpoint; 0 if that is not known.
    pub step: u64,
    /// The checkpoint, by name or path.
    pub checkpoint: String,
    /// Images, N.
    pub images: usize,
    /// Texts, M.
    pub texts: usize,
    /// By head: z, h, mixtures.
    pub recall: Vec<Recall>,
}

/// Recall of one head at 1, 5 and 10, percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// `z`, `h`, `zh_0.1`, ...
    pub head: String,
    /// Texts found by an image.
    pub image_to_text: [f64; 3],
    /// Images found by a text.
    pub text_to_image: [f64; 3],
}

/// Embeds all images and texts, and counts. `progress` is told how many images are done.
///
/// # Errors
/// See [`EvalError`].
pub fn score(
    encoder: &dyn Encoder,
    set: &Captioned,
    tokenize: &Tokenize,
    settings: &Settings,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Recall>, EvalError> {
    let texts = embed_texts(encoder, set, tokenize, settings.text_batch)?;
    let images = embed_images(encoder, set, settings, &mut progress)?;
    let heads = Head::of(texts.h.is_some() && images.h.is_some());
    Ok(recalls(&images, &texts, set, &heads))
}

const SET: &str = "the captioned images";

fn embed_images(
    encoder: &dyn Encoder,
    set: &Captioned,
    settings: &Settings,
    progress: &mut dyn FnMut(usize),
) -> Result<Heads, EvalError> {
    let batch = settings.image_batch.max(1);
    let units = 0..set.images.len().div_ceil(batch);
    let mut parts = Vec::new();
    let side = encoder.image_size();
    batches::for_each(set, units, batch, side, settings.threads, |batch| {
        let heads = tch::no_grad(|| {
            batch.with_images(encoder.device(), |images| encoder.encode_image(images))
        });
        parts.push(unit(heads.map_err(|error| EvalError::Model {
            what: "images",
            set: SET.to_owned(),
            cause: error.to_string(),
        })?));
        progress(batch.first + batch.len());
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    join(&parts, "image embeddings")
}

fn embed_texts(
    encoder: &dyn Encoder,
    set: &Captioned,
    tokenize: &Tokenize,
    batch: usize,
) -> Result<Heads, EvalError> {
    let mut parts = Vec::new();
    for texts in set.texts.chunks(batch.max(1)) {
        let rows: Vec<Vec<i64>> = texts.iter().map(|text| tokenize(text)).collect();
        let length = rows.first().map_or(0, Vec::len) as i64;
        let tokens = Tensor::from_slice(&rows.concat())
            .view([rows.len() as i64, length])
            .to_device(encoder.device());
        let heads = tch::no_grad(|| encoder.encode_text(&tokens));
        parts.push(unit(heads.map_err(|error| EvalError::Model {
            what: "captions",
            set: SET.to_owned(),
            cause: error.to_string(),
        })?));
    }
    join(&parts, "text embeddings")
}

fn unit(heads: Heads) -> Heads {
    let unit = |rows: Tensor| normalize(&rows.to_kind(Kind::Float));
    Heads {
        z: unit(heads.z),
        h: heads.h.map(unit),
    }
}

fn join(parts: &[Heads], what: &'static str) -> Result<Heads, EvalError> {
    let z = Tensor::cat(&parts.iter().map(|part| &part.z).collect::<Vec<_>>(), 0);
    check_finite(&z, what, "z", SET)?;
    let h: Option<Vec<&Tensor>> = parts.iter().map(|part| part.h.as_ref()).collect();
    let h = h.map(|h| Tensor::cat(&h, 0));
    if let Some(h) = &h {
        check_finite(h, what, "h", SET)?;
    }
    Ok(Heads { z, h })
}

/// Recalls of heads from embeddings of length 1, images `[N, D]` and texts `[M, D]`. Of equal similarities
/// the one with the lower index comes first.
fn recalls(images: &Heads, texts: &Heads, set: &Captioned, heads: &[Head]) -> Vec<Recall> {
    let device = images.z.device();
    let ranges = set.captions_of();
    let image_of: Vec<i64> = set.image_of.iter().map(|&image| image as i64).collect();
    let mut found = vec![([0_u64; 3], [0_u64; 3]); heads.len()];
    // Texts found by images: the best place of any of an image's captions.
    for (first, rows) in blocks(set.images.len()) {
        for (head, found) in heads.iter().zip(&mut found) {
            let similarity = similarities(images, texts, *head, first, rows);
            for row in 0..rows {
                let range = &ranges[(first + row) as usize];
                let row = similarity.get(row);
                let own = row.narrow(0, range.start as i64, range.len() as i64);
                let (best, at) = (own.max(), range.start as i64 + first_max(&own));
                let better = row.gt_tensor(&best).sum(Kind::Int64);
                let before = row.narrow(0, 0, at).eq_tensor(&best).sum(Kind::Int64);
                count(&mut found.0, (better + before).int64_value(&[]));
            }
        }
    }
    // Images found by texts.
    let (texts_n, images_n) = (set.texts.len(), set.images.len() as i64);
    let index = Tensor::arange(images_n, (Kind::Int64, device));
    for (first, rows) in blocks(texts_n) {
        let own_index = Tensor::from_slice(&image_of[first as usize..(first + rows) as usize]);
        let own_index = own_index.to_device(device).unsqueeze(1);
        for (head, found) in heads.iter().zip(&mut found) {
            let similarity = similarities(texts, images, *head, first, rows);
            let own = similarity.gather(1, &own_index, false);
            let ties = similarity
                .eq_tensor(&own)
                .logical_and(&index.lt_tensor(&own_index));
            let better = similarity.gt_tensor(&own).logical_or(&ties);
            let places = better.sum_dim_intlist([1_i64].as_slice(), false, Kind::Int64);
            let places = places.to_device(Device::Cpu);
            for row in 0..rows {
                count(&mut found.1, places.int64_value(&[row]));
            }
        }
    }
    let percent = |found: [u64; 3], of: usize| found.map(|n| 100.0 * n as f64 / of.max(1) as f64);
    heads
        .iter()
        .zip(found)
        .map(|(head, (texts_found, images_found))| Recall {
            head: head.name(),
            image_to_text: percent(texts_found, set.images.len()),
            text_to_image: percent(images_found, texts_n),
        })
        .collect()
}

/// Index of the first of the largest values.
fn first_max(values: &Tensor) -> i64 {
    let at = values.eq_tensor(&values.max()).nonzero();
    at.int64_value(&[0, 0])
}

fn blocks(rows: usize) -> impl Iterator<Item = (i64, i64)> {
    let rows = rows as i64;
    (0..rows)
        .step_by(BLOCK as usize)
        .map(move |first| (first, BLOCK.min(rows - first)))
}

/// Similarities of some rows of `from` with all of `to`, by a head.
fn similarities(from: &Heads, to: &Heads, head: Head, first: i64, rows: i64) -> Tensor {
    let of = |from: &Tensor, to: &Tensor| from.narrow(0, first, rows).matmul(&to.tr());
    let z = || of(&from.z, &to.z);
    match (head, &from.h, &to.h) {
        (Head::H, Some(a), Some(b)) => of(a, b),
        (Head::Mix(tenths), Some(a), Some(b)) => {
            let w = f64::from(tenths) / 10.0;
            z() * w + of(a, b) * (1.0 - w)
        }
        _ => z(),
    }
}

fn count(found: &mut [u64; 3], place: i64) {
    for (found, depth) in found.iter_mut().zip(DEPTHS) {
        *found += u64::from(place < depth as i64);
    }
}

impl Retrieval {
    /// Name of the file in the run directory's `eval/`: captions, and what was chosen of them.
    #[must_use]
    pub fn file_name(&self) -> String {
        let stem = std::path::Path::new(&self.captions).file_stem();
        let mut name = stem.unwrap_or_default().to_string_lossy().into_owned();
        if let Some(split) = &self.split {
            let _ = write!(name, "-{}", split.replace('/', "_"));
        }
        if let Some(captions) = self.captions_per_image {
            let _ = write!(name, "-{captions}");
        }
        format!("retrieval-{name}-step-{}.json", self.step)
    }

    /// A table for the terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let split = self.split.as_ref();
        let mut text = format!(
            "{}{}: {} images, {} texts, {}\n  {:<8}{:>30}{:>30}\n  {:<8}",
            self.captions,
            split.map_or(String::new(), |split| format!(" ({split})")),
            self.images,
            self.texts,
            self.checkpoint,
            "",
            "image to text, recall % at",
            "text to image, recall % at",
            "head"
        );
        for _ in 0..2 {
            for depth in DEPTHS {
                let _ = write!(text, "{depth:>10}");
            }
        }
        text.push('\n');
        for recall in &self.recall {
            let _ = write!(text, "  {:<8}", recall.head);
            for value in recall.image_to_text.iter().chain(&recall.text_to_image) {
                let _ = write!(text, "{value:>10.2}");
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A split of the same file was written over another's figures.
    #[test]
    fn results_of_other_splits_and_numbers_of_captions_have_files_of_their_own() {
        let file = |split: Option<&str>, captions_per_image| {
            Retrieval {
                captions: "dataset_coco.json".into(),
                split: split.map(Into::into),
                captions_per_image,
                step: 20,
                checkpoint: "step-00000020".into(),
                images: 5000,
                texts: 25000,
                recall: Vec::new(),
            }
            .file_name()
        };
        assert_eq!(file(None, None), "retrieval-dataset_coco-step-20.json");
        assert_eq!(
            file(Some("val"), None),
            "retrieval-dataset_coco-val-step-20.json"
        );
        assert_eq!(
            file(Some("test"), Some(5)),
            "retrieval-dataset_coco-test-5-step-20.json"
        );
    }
}
