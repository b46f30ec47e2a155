//! `rocket status`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use rocket_common::error::Result;
use rocket_common::events;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{self, RunDir};
use serde::Serialize;

use crate::backend::Backends;
use crate::output::{Format, Report, Table};
use crate::runs::Runs;
use crate::view::{RunView, duration, rate};

/// Show where runs stand
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs, by id, beginning of an id, or experiment name; all if none is named
    #[arg(value_name = "RUN")]
    queries: Vec<String>,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let backends = Backends::default();
    let mut views = Vec::new();
    if args.queries.is_empty() {
        let found = run_dir::list(&runs.root()?)?;
        // The owners first, so that one question to the scheduler answers for all of them.
        let manifests: Vec<_> = found.iter().map(RunDir::manifest).collect();
        let users: BTreeSet<String> = manifests
            .iter()
            .flatten()
            .filter(|manifest| manifest.backend == BackendKind::Slurm)
            .map(|manifest| manifest.user.clone())
            .collect();
        backends.of(BackendKind::Slurm).prepare(&users);
        for (run, manifest) in found.iter().zip(manifests) {
            let view = manifest.and_then(|manifest| {
                let state = events::derive(&events::read(run)?);
                RunView::of(run, &manifest, state, &backends)
            });
            // One damaged run must not hide the others.
            match view {
                Ok(view) => views.push(view),
                Err(error) => eprintln!("warning: run {}: {error}", run.id()),
            }
        }
        views.sort_by_key(|view| view.submitted);
    } else {
        for query in &args.queries {
            views.push(RunView::read(&runs.find(query)?, &backends)?);
        }
    }
    if let Some(trouble) = views.iter().find_map(|view| view.trouble.as_ref()) {
        eprintln!("note: {trouble}");
    }
    args.format.print(&Status(views))?;
    Ok(ExitCode::SUCCESS)
}

/// All runs that were asked for.
#[derive(Serialize)]
struct Status(Vec<RunView>);

impl Report for Status {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(out, "no runs yet; start one with: rocket submit exp.yaml");
        }
        let mut table = Table::new(&[
            "RUN", "STATE", "ATTEMPT", "STEP", "EPOCH", "RATE", "LEFT", "SCORE",
        ])
        .right(&[2, 3, 4, 5, 6]);
        for view in &self.0 {
            table.row(row(view));
        }
        table.write(out)?;
        for view in &self.0 {
            let job = |words: &String| match &view.job {
                Some(job) => format!("job {job}: {words}"),
                None => words.clone(),
            };
            if let Some(cause) = view.waiting.as_ref().map(job).or(view.cause.clone()) {
                writeln!(out, "\n{}: {cause}", view.run)?;
                if let Some(hint) = &view.hint {
                    writeln!(out, "  hint: {hint}")?;
                }
            }
        }
        Ok(())
    }
}

fn row(view: &RunView) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let step = match view.total_steps {
        Some(total) => Some(format!("{}/{total}", view.step)),
        None => (view.step > 0).then(|| view.step.to_string()),
    };
    let main = view.main_score.as_deref();
    let score = main
        .and_then(|name| view.metrics.get_key_value(name))
        .or(view.metrics.iter().next())
        .map(|(name, value)| format!("{name} {:.2} %", value * 100.0));
    vec![
        view.run.clone(),
        if view.held {
            "held".into()
        } else {
            view.status.to_string()
        },
        or_dash(view.attempt.map(|number| number.to_string())),
        or_dash(step),
        or_dash(view.epoch.map(|epoch| format!("{epoch:.2}"))),
        or_dash(view.samples_per_second.filter(|rate| *rate > 0.0).map(rate)),
        or_dash(
            view.eta_seconds
                .map(|seconds| duration(Duration::from_secs(seconds))),
        ),
        or_dash(score),
    ]
}
