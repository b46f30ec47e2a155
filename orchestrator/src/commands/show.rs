//! `rocket show`.

use std::io::{self, Write};
use std::process::ExitCode;

use rocket_common::error::Result;
use rocket_common::events::{self, AttemptSummary, Event};
use rocket_common::run_dir::Manifest;
use serde::Serialize;

use crate::backend::Backends;
use crate::evaluation::Results;
use crate::output::{Format, Report};
use crate::pin;
use crate::runs::Runs;
use crate::view::{RunView, event_line, time};

/// Show what a run is and what happened to it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let manifest = run.manifest()?;
    let events = events::read(&run)?;
    let state = events::derive(&events);
    let attempts = state.attempts.clone();
    let view = RunView::of(&run, &manifest, state, &Backends::default())?;
    args.format.print(&Show {
        status: view,
        manifest,
        attempts,
        events,
        scores: Results::read(&run),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A run in full.
#[derive(Serialize)]
struct Show {
    status: RunView,
    manifest: Manifest,
    attempts: Vec<AttemptSummary>,
    events: Vec<Event>,
    scores: Results,
}

impl Report for Show {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            status,
            manifest,
            events,
            scores,
            ..
        } = self;
        let snapshot = if manifest.snapshot {
            " with the changes of the work tree"
        } else {
            ""
        };
        writeln!(out, "run         {}", status.run)?;
        writeln!(out, "state       {}", status.status)?;
        if let Some(cause) = &status.cause {
            writeln!(out, "cause       {cause}")?;
        }
        if let Some(hint) = &status.hint {
            writeln!(out, "hint        {hint}")?;
        }
        if let Some(supervisor) = &status.supervisor {
            writeln!(
                out,
                "supervisor  process {} on {}",
                supervisor.pid, supervisor.host
            )?;
        }
        if let Some(job) = &status.job {
            let waiting = status
                .waiting
                .as_deref()
                .map_or(String::new(), |w| format!(" ({w})"));
            writeln!(out, "job         {job}{waiting}")?;
        }
        if !status.excluded.is_empty() {
            writeln!(out, "excluded    {}", status.excluded.join(", "))?;
        }
        if let Some(trouble) = &status.trouble {
            writeln!(out, "note        {trouble}")?;
        }
        writeln!(out, "experiment  {}", manifest.experiment_path.display())?;
        writeln!(
            out,
            "commit      {} ({})",
            manifest.commit,
            pin::ref_name(&manifest.run_id)
        )?;
        writeln!(out, "made from   {}{snapshot}", manifest.parent_commit)?;
        writeln!(out, "programs    {}", manifest.bundle.dir.display())?;
        writeln!(out, "directory   {}", status.dir.display())?;
        if let Some(of) = &manifest.evaluation {
            let run = of.run.file_name().unwrap_or_default().to_string_lossy();
            writeln!(out, "evaluates   step {} of {run}", of.step)?;
        }
        if !scores.0.is_empty() {
            writeln!(out, "\nscores")?;
            scores.human(out)?;
        }
        writeln!(out, "\nhistory")?;
        for event in events {
            let attempt = event
                .attempt
                .map_or_else(|| "  ".into(), |n| format!("{n:>2}"));
            writeln!(
                out,
                "  {}  {attempt}  {}",
                time(event.time),
                event_line(event)
            )?;
        }
        Ok(())
    }
}
