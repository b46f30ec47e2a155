//! `rocket-worker parity FILE...`: this build against numbers recorded from the original; and with
//! `--against CHECKPOINT`, one model's layers against recorded ones.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use super::parity_against::{self, Against};
use crate::parity::{self, Group};

/// Failing values shown per group.
const SHOWN: usize = 5;

/// Golden files to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Golden files (JSON or JSON lines), or folders of them; tensors are read from beside them.
    #[arg(required_unless_present = "against", conflicts_with = "against")]
    files: Vec<PathBuf>,
    /// Threads of torch's operators.
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// Also list what was skipped, and why.
    #[arg(long)]
    skipped: bool,
    #[command(flatten)]
    against: Against,
}

/// Checks every file, prints a line per group of values with the worst deviation, and ends with
/// [`ExitKind::Parity`] if any value is over its tolerance or any file could not be checked.
///
/// # Errors
/// With `--against`, a checkpoint or recording that cannot be read or is of another model. What goes wrong
/// with a golden file is printed, and counts as a failure.
pub fn run(args: &Args) -> Result<ExitKind> {
    tch::set_num_threads(args.threads.max(1));
    if let Some(checkpoint) = &args.against.against {
        return parity_against::run(checkpoint, &args.against);
    }
    let mut files = BTreeSet::new();
    for path in &args.files {
        if path.is_dir() {
            below(path, &mut files)?;
            continue;
        }
        // A tensor file is read with its JSON file.
        files.insert(match path.extension() {
            Some(extension) if extension == "safetensors" => path.with_extension("json"),
            _ => path.clone(),
        });
    }
    if files.is_empty() {
        return Err(Error::new(
            ExitKind::Usage,
            "there are no golden files (.json, .jsonl) in the folders that were named",
        )
        .into());
    }
    let mut failed = 0;
    for file in &files {
        println!("{}", file.display());
        let passed = match parity::check(file) {
            Ok(groups) => {
                groups.iter().for_each(|group| print(group, args.skipped));
                !groups.is_empty() && groups.iter().all(|group| group.report.passed())
            }
            Err(error) => {
                println!("  error: {error}");
                false
            }
        };
        failed += usize::from(!passed);
    }
    if failed > 0 {
        println!("parity: {failed} of {} files failed", files.len());
        return Ok(ExitKind::Parity);
    }
    println!("parity: {} files passed", files.len());
    Ok(ExitKind::Ok)
}

/// Adds the golden files of a folder and those below it.
fn below(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for path in list(folder).map_err(|error| Error::io("read", folder, error))? {
        if path.is_dir() {
            below(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json" || extension == "jsonl")
        {
            files.insert(path);
        }
    }
    Ok(())
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// One line: name, counts, the value that deviates most as a share of its tolerance; then failures.
fn print(group: &Group, skipped: bool) {
    let report = &group.report;
    let verdict = if report.passed() { "ok" } else { "FAILED" };
    let checked = report.checks.len();
    print!(
        "  {:<18} {verdict:<6} {checked} checked, {} skipped",
        group.name,
        report.skipped.len()
    );
    match report.worst() {
        Some(worst) if worst.share > 0.0 => {
            println!(
                "; worst {}: {:.3} of tolerance ({})",
                worst.name, worst.share, worst.said
            );
        }
        Some(_) => println!("; all equal"),
        None => println!("; nothing was compared"),
    }
    let failures: Vec<_> = report
        .checks
        .iter()
        .filter(|check| !check.passed())
        .collect();
    for check in failures.iter().take(SHOWN) {
        println!("    {}: {}", check.name, check.said);
    }
    if failures.len() > SHOWN {
        println!("    and {} more", failures.len() - SHOWN);
    }
    if skipped {
        for (name, why) in &report.skipped {
            println!("    skipped {name}: {why}");
        }
    }
}
