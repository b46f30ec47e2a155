//! `rocket-worker data check --catalog`: which evaluation sets are ready, missing or malformed.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use crate::eval::check::{self, State};
use crate::eval::{Catalog, Labels, Templates};

/// Which catalog, and which of its sets.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check the evaluation sets of this catalog. Relative paths in it begin in its own folder.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "dataset_catalog.json")]
    pub catalog: Option<PathBuf>,
    /// Only these sets of the catalog.
    #[arg(value_name = "SET", requires = "catalog")]
    pub sets: Vec<String>,
    /// Class names; labels.json beside the catalog, if it is there, and behind it the published ones.
    #[arg(long, value_name = "FILE", requires = "catalog")]
    pub labels: Option<PathBuf>,
    /// Prompts; templates.json beside the catalog, if it is there, and behind it the published ones.
    #[arg(long, value_name = "FILE", requires = "catalog")]
    pub templates: Option<PathBuf>,
    /// Decode this many images of each set, evenly taken; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "catalog")]
    pub decode: usize,
    /// Print JSON in place of the table.
    #[arg(long, requires = "catalog")]
    pub json: bool,
}

/// Checks the sets and prints a table or JSON. The exit code is that of data if a set is malformed,
/// or if one that was named is not ready.
///
/// # Errors
/// The catalog, or labels and prompts, cannot be read, or lack a set that was named.
pub fn run(args: &Args) -> Result<ExitKind> {
    let Some(file) = &args.catalog else {
        return Err(Error::new(ExitKind::Usage, "there is nothing to check")
            .hint("--catalog checks the evaluation sets")
            .into());
    };
    let beside = file.parent().unwrap_or(Path::new(""));
    let base = std::path::absolute(beside.join("."))?;
    let catalog = Catalog::load(file, &base)?;
    let labels = match &args.labels {
        Some(file) => Labels::load(file)?,
        None => Labels::load_if_there(&beside.join("labels.json"))?,
    };
    let templates = match &args.templates {
        Some(file) => Templates::load(file)?,
        None => Templates::load_if_there(&beside.join("templates.json"))?,
    };
    let names: Vec<&str> = if args.sets.is_empty() {
        catalog.entries().iter().map(|e| e.name.as_str()).collect()
    } else {
        for name in &args.sets {
            catalog.entry(name)?;
        }
        args.sets.iter().map(String::as_str).collect()
    };
    let mut checked = Vec::new();
    for name in names {
        checked.push(check::check(
            name,
            &catalog,
            &labels,
            &templates,
            args.decode,
        )?);
    }
    if args.json {
        writeln!(
            std::io::stdout(),
            "{}",
            serde_json::to_string_pretty(&checked)?
        )?;
    } else {
        write!(std::io::stdout(), "{}", check::table(&checked))?;
    }
    let bad = checked.iter().any(|set| match set.state {
        State::Ready => false,
        State::Missing => !args.sets.is_empty(),
        State::Malformed => true,
    });
    Ok(if bad { ExitKind::Data } else { ExitKind::Ok })
}
