//! `rocket sweep`, and the submit of an experiment that holds a sweep.

mod cancel;
mod extend;
mod resume;
mod status;

use std::process::ExitCode;

use rocket_common::error::Result;
use rocket_common::experiment::{BackendKind, Sweep};

use crate::experiment::Written;
use crate::output;
use crate::runs::{Runs, make_root};
use crate::submit::Ground;
use crate::sweep::{self, New, Record, confirm};

/// So many runs are listed by name.
const LISTED: usize = 20;

/// See, cancel, resume or extend a sweep
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Status(status::Args),
    Cancel(cancel::Args),
    Resume(resume::Args),
    Extend(extend::Args),
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    match &args.command {
        Command::Status(args) => status::run(args, runs),
        Command::Cancel(args) => cancel::run(args, runs),
        Command::Resume(args) => resume::run(args, runs),
        Command::Extend(args) => extend::run(args, runs),
    }
}

/// Submits all points of a sweep that was not submitted before; with `--again` one that was, too.
pub(crate) fn submit(
    sweep: &Sweep<'_>,
    written: &Written,
    ground: &Ground,
    yes: bool,
) -> Result<ExitCode> {
    let options = &ground.options;
    if let Ok(there) = Record::read(&ground.root, sweep.name()) {
        if options.again {
            return extend::with(sweep, written, ground, &there, yes);
        }
        return Err(sweep::taken(&there));
    }
    if !options.dry_run {
        confirm(sweep.count(), &sweep.shape(), yes)?;
    }
    let members = sweep::members(&ground.root, sweep.name())?;
    let mut record = Record::new(sweep, &written.text, &written.sets, ground);
    if options.dry_run {
        return describe(sweep, ground, &record);
    }
    let new = New::find(sweep, &members, options.again)?;
    record.points = members.len() as u64 + new.count();
    make_root(&ground.root)?;
    record.create(&ground.root)?;
    carry_out(sweep, ground, &record, &new).inspect_err(|_| {
        if sweep::members(&ground.root, &record.id).is_ok_and(|members| members.is_empty()) {
            record.remove(&ground.root);
        }
    })
}

/// Submits what is new, and says so.
fn carry_out(sweep: &Sweep<'_>, ground: &Ground, record: &Record, new: &New) -> Result<ExitCode> {
    let mut text = format!("sweep {}\n", record.id);
    text.push_str(&format!(
        "  points     {} ({}){}\n",
        record.points,
        record.shape,
        match record.max_running {
            Some(most) => format!(", at most {most} at once"),
            None => String::new(),
        }
    ));
    if new.there > 0 {
        text.push_str(&format!(
            "  there      {} were submitted before and are left as they are (--again submits them once more)\n",
            new.there
        ));
    }
    if new.doubles > 0 {
        text.push_str(&format!(
            "  the same   {} that say in other words what another says are left out\n",
            new.doubles
        ));
    }
    let submission = new.submit(sweep, record, ground)?;
    for note in ground.notes.iter().chain(&submission.notes) {
        eprintln!("note: {note}");
    }
    for (at, (run, job)) in submission.runs.iter().take(LISTED).enumerate() {
        let label = if at == 0 { "submitted" } else { "" };
        let job = job.as_ref();
        let job = job.map_or(String::new(), |job| format!(" as job {job}"));
        text.push_str(&format!("  {label:<10} {run}{job}\n"));
    }
    match submission.runs.len() {
        0 => text.push_str("  submitted  nothing: every point is there\n"),
        many if many > LISTED => {
            text.push_str(&format!("  {:<10} and {} more\n", "", many - LISTED));
        }
        _ => {}
    }
    let id = &record.id;
    text.push_str(&format!(
        "  next       rocket sweep status {id} | rocket sweep cancel {id}\n"
    ));
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What would be submitted: every point, and the first in full.
fn describe(sweep: &Sweep<'_>, ground: &Ground, record: &Record) -> Result<ExitCode> {
    let mut text = format!(
        "sweep       {}\npoints      {} ({}){}\n",
        record.id,
        sweep.count(),
        sweep.shape(),
        match record.max_running {
            Some(most) => format!(", at most {most} at once"),
            None => String::new(),
        }
    );
    if sweep.count() > sweep::UNASKED {
        text.push_str("            more than 100: a submit asks first, or wants --yes\n");
    }
    let shown = sweep.count().min(LISTED as u64);
    let mut first = None;
    for number in 0..shown {
        let point = sweep.point(number).map_err(crate::experiment::faults)?;
        text.push_str(&format!("{number:<11} {}\n", point.experiment.name));
        first.get_or_insert(point);
    }
    if sweep.count() > shown {
        text.push_str(&format!("            and {} more\n", sweep.count() - shown));
    }
    if let Some(point) = first {
        let place = rocket_common::run_dir::SweepPoint {
            id: record.id.clone(),
            point: 0,
            set: point.set.into_iter().collect(),
            lane: record.lane(0),
        };
        let plan = ground.plan(point.experiment, point.profile, Some(place))?;
        for note in ground.notes.iter().chain(&plan.notes) {
            eprintln!("note: {note}");
        }
        text.push_str(&format!("\n--- the first point\n{}", plan.describe()));
        if plan.backend == BackendKind::Slurm {
            text.push_str("\n--- job.sbatch\n");
            text.push_str(&plan.script()?);
        }
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of runs, and the sweep that is meant.
fn find(query: &str, runs: &Runs) -> Result<(std::path::PathBuf, Record)> {
    let root = runs.root()?;
    let record = sweep::find(&root, query)?;
    Ok((root, record))
}
