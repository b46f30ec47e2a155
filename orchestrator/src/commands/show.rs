//! `rocket show`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use rocket_common::error::Result;
use rocket_common::events::{self, AttemptSummary, Event};
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::Manifest;
use serde::Serialize;

use crate::backend::Backends;
use crate::evaluation::Results;
use crate::goodput::{Context, Goodput};
use crate::output::{Format, Report, Table};
use crate::pin;
use crate::runs::Runs;
use crate::view::{RunView, cut, duration, event_line, read_metrics, time};

/// Width of a cause in the table of attempts; the history has it whole.
const CAUSE: usize = 60;

/// Show what a run is, what happened to it, and where its time went
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
    // What is missing of a directory leaves the rest to be shown.
    let experiment = Experiment::read(&run.experiment_path());
    let series = read_metrics(&run).unwrap_or_else(|error| {
        eprintln!("note: {error}");
        Default::default()
    });
    let goodput = Goodput::of(
        &events,
        Context {
            trainer: experiment.is_ok_and(|experiment| experiment.command.is_none())
                && manifest.evaluation.is_none(),
            recorded: &series.recorded,
            status: view.status,
            now: Timestamp::now(),
        },
    );
    args.format.print(&Show {
        status: view,
        manifest,
        attempts,
        goodput,
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
    goodput: Option<Goodput>,
    events: Vec<Event>,
    scores: Results,
}

impl Report for Show {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        self.what(out)?;
        if !self.attempts.is_empty() {
            writeln!(out, "\nattempts")?;
            self.attempts(out)?;
        }
        if let Some(goodput) = &self.goodput {
            self.goodput(out, goodput)?;
        }
        if !self.scores.0.is_empty() {
            writeln!(out, "\nscores")?;
            let mut table = Vec::new();
            self.scores.human(&mut table)?;
            for line in String::from_utf8_lossy(&table).lines() {
                writeln!(out, "{}", format!("  {line}").trim_end())?;
            }
        }
        writeln!(out, "\nhistory")?;
        for event in &self.events {
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

impl Show {
    /// What the run is.
    fn what(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            status, manifest, ..
        } = self;
        let snapshot = if manifest.snapshot {
            " with the changes of the work tree"
        } else {
            ""
        };
        writeln!(out, "run         {}", status.run)?;
        writeln!(out, "state       {}", status.state_cell())?;
        if let Some(cause) = &status.cause {
            writeln!(out, "cause       {cause}")?;
        }
        if let Some(hint) = &status.hint {
            writeln!(out, "hint        {hint}")?;
        }
        if let Some(step) = status.step_cell() {
            let checkpoint = status
                .checkpoint
                .map_or(String::new(), |step| format!(", last checkpoint at {step}"));
            writeln!(out, "step        {step}{checkpoint}")?;
        }
        for (name, value) in &status.metrics {
            writeln!(out, "score       {name} {:.2} %", value * 100.0)?;
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
        if let Some(sweep) = &manifest.sweep {
            let set = sweep
                .set
                .iter()
                .map(|(key, value)| format!(" {key}={value}"));
            let set: String = set.collect();
            writeln!(out, "sweep       {} point {}:{set}", sweep.id, sweep.point)?;
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
        if let Some(run) = manifest.reproduces.as_ref().and_then(|of| of.run.as_ref()) {
            writeln!(out, "reproduces  {run}")?;
        }
        if let (Some(of), Some(run)) = (&manifest.evaluation, manifest.evaluates()) {
            writeln!(out, "evaluates   step {} of {run}", of.step)?;
        }
        if let Some(imported) = &manifest.imported {
            writeln!(
                out,
                "imported    from {} on {}, by {} at {}",
                imported.dir.display(),
                manifest.host,
                imported.user,
                time(imported.time)
            )?;
        }
        writeln!(out, "directory   {}", status.dir.display())
    }

    /// Every attempt, and why it ended.
    fn attempts(&self, out: &mut dyn Write) -> io::Result<()> {
        let headings = [
            "  ", "STARTED", "LASTED", "RANKS", "NODES", "JOB", "STEP", "ENDING", "CAUSE",
        ];
        let mut table = Table::new(&headings).right(&[0, 2, 3, 6]);
        for attempt in &self.attempts {
            let lasted = attempt.started.duration_until(attempt.last_event);
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let nodes = match &attempt.nodes[..] {
                [] => "-".to_owned(),
                [one] => one.clone(),
                [first, rest @ ..] => format!("{first} +{}", rest.len()),
            };
            table.row(vec![
                format!("{:>4}", attempt.number),
                time(attempt.started),
                duration(lasted.unsigned_abs()),
                attempt.world_size.to_string(),
                nodes,
                or_dash(attempt.job.clone()),
                or_dash(attempt.step.map(|step| step.to_string())),
                or_dash(attempt.ending.as_ref().map(|name| name.replace('_', " "))),
                cut(attempt.cause.as_deref().unwrap_or_default(), CAUSE),
            ]);
        }
        table.write(out)
    }

    /// Where the time went.
    fn goodput(&self, out: &mut dyn Write, goodput: &Goodput) -> io::Result<()> {
        let wall = goodput.wall();
        writeln!(out, "\ntime since the submission")?;
        let line = |words: &str, seconds: f64, share: f64| {
            let time = duration(Duration::from_secs_f64(seconds));
            format!("  {words:<25} {time:>8} {:>6.1} %", 100.0 * share)
        };
        for (of, seconds) in goodput.uses() {
            writeln!(out, "{}", line(of.words(), seconds, seconds / wall))?;
        }
        writeln!(out, "{}", line("all", wall, 1.0))?;
        writeln!(
            out,
            "  goodput {:.1} %, of the time on nodes {:.1} %",
            100.0 * goodput.share(),
            100.0 * goodput.share_on_nodes()
        )
    }
}
