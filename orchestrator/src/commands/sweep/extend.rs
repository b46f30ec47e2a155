//! `rocket sweep extend`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Reading, Sweep};

use super::{carry_out, find};
use crate::experiment::Written;
use crate::output;
use crate::runs::Runs;
use crate::submit::{Ground, Options};
use crate::sweep::{self, New, Record, UNASKED, confirm};

/// Above so many points it is asked before they are compared with what is there.
const COMPARED: u64 = 10_000;

/// Submit points that a sweep does not have yet: of a changed file, or of more values
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sweep
    sweep: String,
    /// The changed experiment file; the one that was submitted if none is named
    #[arg(value_name = "EXPERIMENT")]
    experiment: Option<PathBuf>,
    /// Add a value, or [several], to a list of the sweep, as in optim.lr=1e-5
    #[arg(long = "add", value_name = "KEY=VALUE")]
    adds: Vec<String>,
    /// Override a key of the experiment, as in sweep.max_running=8
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Submit points that are there once more
    #[arg(long)]
    again: bool,
    /// Take the changes of the work tree into the pinned commits
    #[arg(long)]
    snapshot: bool,
    /// Print what would be submitted, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before more than 100 points
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let (_, record) = find(&args.sweep, runs)?;
    let adds = args.adds.iter().map(|text| match text.split_once('=') {
        Some((key, value)) => format!("sweep.{}+={value}", key.trim()),
        None => format!("sweep.{text}"),
    });
    let changes = args.sets.iter().cloned().chain(adds);
    let written = match &args.experiment {
        Some(path) => Written::of_file(path, changes.collect())?,
        None => {
            let sets = record.sets.iter().cloned().chain(changes).collect();
            Written::new(&record.experiment_path, record.text.clone(), sets)?
        }
    };
    let Reading::Many(sweep) = written.read()? else {
        return Err(Error::new(
            ExitKind::Usage,
            "the experiment has no 'sweep'; 'rocket submit' runs it alone",
        ));
    };
    if sweep.name() != record.id {
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "the file's sweep is called '{}', and '{}' is to be extended",
                sweep.name(),
                record.id
            ),
        )
        .hint("submit it as a sweep of its own, or set 'name' in its 'sweep'"));
    }
    let options = Options {
        snapshot: args.snapshot,
        again: args.again,
        dry_run: args.dry_run,
        ..Options::default()
    };
    let path = args.experiment.as_ref().unwrap_or(&record.experiment_path);
    let ground = Ground::new(existing(path, &record), &options, runs)?;
    with(&sweep, &written, &ground, &record, args.yes)
}

/// The file, or the repository where it is gone.
pub(super) fn existing<'a>(path: &'a PathBuf, record: &'a Record) -> &'a PathBuf {
    if path.exists() { path } else { &record.repo }
}

/// Submits those points of a changed sweep that are not there.
pub(super) fn with(
    sweep: &Sweep<'_>,
    written: &Written,
    ground: &Ground,
    there: &Record,
    yes: bool,
) -> Result<ExitCode> {
    check_limit(sweep, there)?;
    let members = sweep::members(&ground.root, &there.id)?;
    if sweep.count() > COMPARED {
        confirm(sweep.count(), &sweep.shape(), yes)?;
    }
    let new = New::find(sweep, &members, ground.options.again)?;
    if ground.options.dry_run {
        let names: String = new.names().map(|name| format!("  {name}\n")).collect();
        return output::print(&format!(
            "sweep {}: {} points are there, {} are new\n{names}",
            there.id,
            new.there,
            new.count()
        ))
        .map(|()| ExitCode::SUCCESS);
    }
    if new.count() > UNASKED {
        confirm(new.count(), &sweep.shape(), yes)?;
    }
    let record = Record {
        created: there.created,
        user: there.user.clone(),
        token: there.token.clone(),
        points: members.len() as u64 + new.count(),
        ..Record::new(sweep, &written.text, &written.sets, ground)
    };
    record.update(&ground.root)?;
    carry_out(sweep, ground, &record, &new)
}

/// Fewer at once than before cannot be held: points that wait do so in as many lanes as there were.
fn check_limit(sweep: &Sweep<'_>, there: &Record) -> Result<()> {
    let words = |limit: Option<u32>| match limit {
        Some(limit) => limit.to_string(),
        None => "none".to_owned(),
    };
    let fits = match (there.max_running, sweep.max_running()) {
        (None, None) => true,
        (Some(before), Some(now)) => now >= before,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(
        ExitKind::Usage,
        format!(
            "'max_running' of the sweep '{}' is {}, and can only be raised, not become {}",
            there.id,
            words(there.max_running),
            words(sweep.max_running())
        ),
    )
    .hint("submit the other points as a sweep of another name"))
}
