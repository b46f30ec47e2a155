//! `rocket-worker data check --catalog`: which evaluation sets are ready, missing or malformed.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::exit::ExitKind;

use crate::eval::check::{self, State};
use crate::eval::{Catalog, Labels, Templates};

/// Which catalog, and which of its sets.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Check the evaluation sets of this catalog instead. Relative paths in it begin in its own folder.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = "dataset_catalog.json",
        conflicts_with_all = [
            "experiment", "set", "dataset", "root", "metadata", "sample", "seed", "threads", "tiny",
            "fail_on", "sheet", "sheet_samples", "list",
        ],
    )]
    pub(super) catalog: Option<PathBuf>,
    /// With --catalog: only these sets.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "catalog"
    )]
    datasets: Vec<String>,
    /// With --catalog: class names; labels.json beside the catalog, if it is there, and behind it the published ones.
    #[arg(long, value_name = "FILE", requires = "catalog")]
    labels: Option<PathBuf>,
    /// With --catalog: prompts; templates.json beside the catalog, if it is there, and behind it the published ones.
    #[arg(long, value_name = "FILE", requires = "catalog")]
    templates: Option<PathBuf>,
    /// With --catalog: decode this many images of each set, evenly taken; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "catalog")]
    decode: usize,
    /// With --catalog: fetch MNIST, CIFAR-10, CIFAR-100 and STL-10 into its folders where they are missing, from
    /// where they are published, or from an address or folder that has the same files.
    #[arg(
        long,
        value_name = "URL|FOLDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        requires = "catalog"
    )]
    fetch: Option<String>,
}

/// Checks the sets and prints a table or JSON. The exit code is that of data if a set is malformed,
/// or if one that was named is not ready.
///
/// # Errors
/// The catalog, or labels and prompts, cannot be read, or lack a set that was named; or a set that is to be
/// fetched cannot be had.
pub(super) fn run(file: &Path, args: &Args, json: bool) -> Result<ExitKind> {
    let catalog = load(file)?;
    let beside = |name: &str| file.with_file_name(name);
    let labels = match &args.labels {
        Some(file) => Labels::load(file)?,
        None => Labels::load_if_there(&beside("labels.json"))?,
    };
    let templates = match &args.templates {
        Some(file) => Templates::load(file)?,
        None => Templates::load_if_there(&beside("templates.json"))?,
    };
    let names: Vec<&str> = if args.datasets.is_empty() {
        catalog.entries().iter().map(|e| e.name.as_str()).collect()
    } else {
        args.datasets.iter().map(String::as_str).collect()
    };
    if let Some(from) = &args.fetch {
        super::fetch::fetch_missing(from, &catalog, &names)?;
    }
    let check = |name| check::check(name, &catalog, &labels, &templates, args.decode);
    let checked = names
        .into_iter()
        .map(check)
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&checked)?)?;
    } else {
        write!(out, "{}", check::table(&checked))?;
    }
    let bad = checked.iter().any(|set| match set.state {
        State::Ready => false,
        State::Missing => !args.datasets.is_empty(),
        State::Malformed => true,
    });
    Ok(if bad { ExitKind::Data } else { ExitKind::Ok })
}

/// Reads a catalog, whose relative paths begin in its own folder.
///
/// # Errors
/// Its own.
pub(super) fn load(file: &Path) -> Result<Catalog> {
    let folder = file.parent().unwrap_or(Path::new("")).join(".");
    Ok(Catalog::load(file, &std::path::absolute(folder)?)?)
}
