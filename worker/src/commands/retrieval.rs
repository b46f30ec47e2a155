//! `rocket-worker retrieval`: recall between images and their captions.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use rocket_common::atomic;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use super::eval::Progress;
use super::eval::subject::Which;
use crate::eval;
use crate::eval::captioned::{Captioned, Choice};
use crate::eval::retrieval::{self, Retrieval};

/// What to score, and on what.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The captions: COCO's (captions_val2017.json), or Karpathy's splits (dataset_flickr30k.json,
    /// dataset_coco.json).
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// Folder of the images.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Split of Karpathy's files [default: test]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Take the first N captions of each image; all if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    captions_per_image: Option<u32>,
    /// Folder for the results of '--weights'; those of a run go to its own.
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    output: Option<PathBuf>,
    /// Print JSON in place of a table.
    #[arg(long)]
    json: bool,
}

/// Scores, prints, and writes `eval/retrieval-<captions>[-<split>][-<captions per image>]-step-<n>.json` to the run directory.
///
/// # Errors
/// The captions or the weights cannot be read, or an image.
pub fn run(args: &Args) -> Result<ExitKind> {
    let about = args.which.about()?;
    let choice = Choice {
        split: args.split.as_deref(),
        captions_per_image: args.captions_per_image.map(|n| n as usize),
    };
    let set = Captioned::open(&args.captions, &args.images, &choice, eval::decoder())?;
    let subject = about.load(&args.which, args.output.as_deref())?;
    let encoder = subject.encoder();
    let tokenize = eval::tokenizer();
    let mut progress = Progress::new("images");
    let total = set.images.len();
    let recall = retrieval::score(&encoder, &set, &tokenize, &subject.settings, |done| {
        progress.say(done, total);
    })?;
    let result = Retrieval {
        captions: args
            .captions
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        split: args.split.clone(),
        captions_per_image: choice.captions_per_image,
        step: subject.step,
        checkpoint: subject.name,
        images: set.images.len(),
        texts: set.texts.len(),
        recall,
    };
    if let Some(dir) = &subject.results {
        std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        atomic::write_json(&dir.join(result.file_name()), &result)?;
    }
    let text = if args.json {
        serde_json::to_string_pretty(&result)? + "\n"
    } else {
        result.table()
    };
    write!(std::io::stdout(), "{text}")?;
    Ok(ExitKind::Ok)
}
