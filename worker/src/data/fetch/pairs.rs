//! Fetching the images of a list: what is asked for, and what comes of it on the disk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::hosts::Politeness;
use super::journal::{Header, Journal};
use super::list::{Pairs, survey};
use super::metadata;
use super::picture::{PictureOptions, Resize};
use super::report::PairsReport;
use super::request::RequestOptions;
use super::run::Run;

/// How a list is fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct PairsOptions {
    /// The published list.
    pub list: PathBuf,
    /// Which list it is.
    pub pairs: Pairs,
    /// Folder for images, metadata and journal.
    pub folder: PathBuf,
    /// Requests at a time, over all hosts.
    pub connections: usize,
    /// And to one host.
    pub politeness: Politeness,
    /// Requests for an image that may fail in a way that passes.
    pub tries: u32,
    /// Pause before the second try; it doubles from try to try.
    pub pause: Duration,
    /// How images are kept.
    pub picture: PictureOptions,
    /// How they are asked for.
    pub request: RequestOptions,
    /// Ask again for what failed in an earlier run.
    pub retry_failed: bool,
    /// Threads for pixels.
    pub threads: usize,
}

/// Fetches what is not there yet, until all rows are settled or we are asked to stop.
///
/// # Errors
/// If the list cannot be read, the folder belongs to another list, or the disk refuses. What an image
/// lacks is no error: it is in the report.
pub fn fetch_pairs(options: &PairsOptions) -> Result<PairsReport> {
    let facts = survey(&options.list)?;
    std::fs::create_dir_all(&options.folder)
        .map_err(|error| Error::io("create", &options.folder, error))?;
    let header = Header {
        version: 1,
        set: options.pairs.name().to_owned(),
        list_sha256: facts.sha256,
        rows: facts.rows,
        pictures: form(options.picture),
    };
    let mut journal = Journal::open(&options.folder, &header)?;
    if options.retry_failed {
        journal.reopen_failed();
    }
    let began = Instant::now();
    // One thread suffices for the network: what costs time are pixels, and they have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ExitKind::Internal, format!("cannot start: {error}")))?;
    let mut run = Run::new(options, journal, facts.rows)?;
    let stopped = runtime.block_on(run.go())?;
    // What still runs writes whole files or none.
    runtime.shutdown_background();
    metadata::write(&options.folder, &options.list, options.pairs, &run.journal)?;
    let report = PairsReport::new(
        options,
        &run.journal,
        run.received,
        began.elapsed(),
        stopped,
    );
    atomic::write_json(&options.folder.join("report.json"), &report)?;
    Ok(report)
}

/// How images are kept, as the journal says it.
fn form(options: PictureOptions) -> String {
    let size = match options.resize {
        None => "as they are".to_owned(),
        Some(Resize::Shorter(side)) => format!("shorter side at most {side}"),
        Some(Resize::Longer(side)) => format!("longer side at most {side}"),
    };
    let (quality, least) = (options.quality, options.min_side);
    format!("{size}, quality {quality}, at least {least} pixels")
}
