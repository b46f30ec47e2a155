//! `rocket-worker data make-yfcc15m`: the list of samples of YFCC15M.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use crate::data::mapped::Mapped;
use crate::data::npy::whole_numbers;
use crate::data::yfcc15m::{IDS, Ids, ListError, make, subset};
use crate::progress::Progress;

/// Bytes that are read or written at a time.
const BUFFER: usize = 1 << 20;

/// Makes `yfcc15m.pkl`, as the original's `make_dataset.py` does.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The list to write
    #[arg(value_name = "yfcc15m.pkl")]
    output: PathBuf,
    /// Ids of the images that were downloaded
    #[arg(long, value_name = "flickr_unique_ids.npy")]
    ids: PathBuf,
    /// OpenAI's subset
    #[arg(long, value_name = "yfcc100m_subset_data.tsv")]
    subset: PathBuf,
    /// YFCC100M's list, unpacked; '-' reads it from standard input
    #[arg(long, value_name = "yfcc100m_dataset.txt")]
    dataset: PathBuf,
}

/// Makes the list.
///
/// # Errors
/// If a file cannot be read, or the list cannot be written.
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    let downloaded = downloaded(&args.ids)?;
    let wanted =
        subset(open(&args.subset)?).map_err(|error| failed("read", &args.subset, error))?;
    println!(
        "{} images were downloaded, {} are in the subset",
        downloaded.len(),
        wanted.len()
    );
    let mut aside = args.output.clone().into_os_string();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let out = File::create(&aside).map_err(|error| Error::io("write", &aside, error))?;
    let mut shown = Progress::new();
    let made = make(
        open(&args.dataset)?,
        &downloaded,
        &wanted,
        BufWriter::with_capacity(BUFFER, &out),
        |lines, samples| {
            shown.update(lines, IDS as u64, |_| {
                format!("{lines} of {IDS} lines, {samples} samples")
            });
        },
    );
    shown.clear();
    let made = made
        .map_err(|error| failed("read", &args.dataset, error))
        .and_then(|samples| {
            out.sync_all()
                .and_then(|()| std::fs::rename(&aside, &args.output))
                .map_err(|error| Error::io("write", &args.output, error))?;
            Ok(samples)
        });
    if made.is_err() {
        // What is left of it is of no use.
        let _ = std::fs::remove_file(&aside);
    }
    println!("{}: {} samples", args.output.display(), made?);
    Ok(ExitKind::Ok)
}

fn downloaded(file: &Path) -> Result<Ids> {
    let bytes = Mapped::open(file).map_err(|error| data("read", file, error))?;
    let wrong = |what: String| {
        Error::new(ExitKind::Data, format!("'{}' {what}", file.display()))
            .hint("it is flickr_unique_ids.npy: the ids of the images that were downloaded")
    };
    let mut ids = Ids::default();
    for id in whole_numbers(&bytes).map_err(|error| wrong(error.to_string()))? {
        if !ids.insert(id) {
            return Err(wrong(format!("holds {id}, which is no id of YFCC100M")).into());
        }
    }
    Ok(ids)
}

fn open(file: &Path) -> Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, std::io::stdin())));
    }
    let opened = File::open(file).map_err(|error| data("read", file, error))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, opened)))
}

fn data(action: &str, file: &Path, error: std::io::Error) -> Error {
    Error::io(action, file, error).with_kind(ExitKind::Data)
}

fn failed(action: &str, file: &Path, error: ListError) -> Error {
    match error {
        ListError::Io(error) => data(action, file, error),
        error => Error::new(ExitKind::Data, format!("'{}' {error}", file.display())),
    }
}
