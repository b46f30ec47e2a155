//! `rocket-worker data prepare-eval`: an evaluation set's published archives become folders of classes.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use super::check_catalog;
use crate::eval::error::number_of;
use crate::eval::prepare::{self, RECIPES};
use crate::progress::{Progress, grouped};

/// Which set, from where, and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = sources())]
pub(super) struct Args {
    /// Name of the set in the catalog.
    #[arg(value_name = "SET")]
    set: String,
    /// The published archive, or a folder that holds the set's files, packed or unpacked.
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Folder to make, if it is another than the set's 'path' in the catalog.
    #[arg(value_name = "DEST")]
    dest: Option<PathBuf>,
    /// The catalog. Relative paths in it begin in its own folder.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "dataset_catalog.json",
        conflicts_with = "dest"
    )]
    catalog: PathBuf,
    /// Print JSON in place of sentences.
    #[arg(long)]
    json: bool,
}

fn sources() -> String {
    let mut text = "What each set is made of:\n".to_owned();
    for recipe in &RECIPES {
        text += &format!("  {:<15} {}\n", recipe.set, recipe.from);
    }
    text
}

/// Prepares the set, and says what is there now.
///
/// # Errors
/// Every reason why it cannot be prepared; see [`prepare::PrepareError`].
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    let dest = match &args.dest {
        Some(dest) => dest.clone(),
        None => {
            let catalog = check_catalog::load(&args.catalog)?;
            catalog.root(catalog.entry(&args.set)?)?
        }
    };
    let mut shown = Progress::new();
    let mut begun = None;
    let prepared = prepare::prepare(&args.set, &args.source, &dest, &mut |done, total| {
        // The files of an earlier call say nothing of the pace.
        let begun = *begun.get_or_insert_with(|| {
            shown.clear();
            done
        });
        let (new, wanted) = ((done - begun) as u64, (total - begun) as u64);
        shown.update(new, wanted, |seconds| {
            let (set, rate) = (&args.set, new as f64 / seconds);
            let (done, total) = (grouped(done as u64), grouped(total as u64));
            format!("{set}: {done} of {total} images, {rate:.0} images/s")
        });
    })
    .map_err(Error::from)?;
    drop(shown);
    let mut out = std::io::stdout();
    if args.json {
        let mut value = serde_json::to_value(&prepared.record)?;
        value["found_written"] = prepared.found_written.into();
        value["notes"] = prepared.notes.clone().into();
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(ExitKind::Ok);
    }
    let record = &prepared.record;
    let total: usize = record.images.values().sum();
    let already = match prepared.found_written {
        0 => String::new(),
        all if all == total => ", prepared already".to_owned(),
        some => format!(", {some} of them from an earlier call"),
    };
    let (set, dest) = (&args.set, dest.display());
    let images = |count| number_of(count, "image", "images");
    writeln!(out, "{set}: {} in {dest}{already}", images(total))?;
    for (split, &count) in &record.images {
        let classes = record.classes.get(split).copied().unwrap_or(0);
        let classes = number_of(classes, "class", "classes");
        writeln!(out, "  {split}: {}, {classes}", images(count))?;
    }
    for note in &prepared.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(ExitKind::Ok)
}
