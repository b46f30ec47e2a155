//! `rocket status`.

use std::cmp::Reverse;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use ratatui::crossterm::terminal;
use rocket_common::error::Result;
use rocket_common::run_dir::{self, Manifest, RunDir};
use serde::Serialize;

use crate::backend::Backends;
use crate::output::{Format, Report, Table};
use crate::report;
use crate::runs::Runs;
use crate::view::{Many, RunView, cut, moment, watch};

/// So many explanations stand below the table when nobody asked for certain runs.
const EXPLAINED: usize = 5;
/// Width of explanations in the table where there is no terminal.
const WHY: usize = 60;
/// The least width of them.
const LEAST: usize = 16;

/// Show where runs stand
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs by id, beginning of an id or experiment name, patterns such as 'cl2l-*', sweeps; all if none is named
    #[arg(value_name = "RUN|SWEEP")]
    queries: Vec<String>,
    /// Only runs that stand there; 'active' is all that may still go on by itself
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = PossibleValuesParser::new(STATES))]
    state: Vec<String>,
    /// Only runs of this sweep
    #[arg(long, value_name = "SWEEP")]
    sweep: Option<String>,
    /// Only runs that were not over by then: a time ago such as 3d or 12h, or a date
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Show it anew, every so many seconds, until Ctrl-C
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    #[command(flatten)]
    format: Format,
}

const STATES: [&str; 10] = [
    "active",
    "pending",
    "held",
    "running",
    "stopping",
    "stopped",
    "lost",
    "finished",
    "failed",
    "cancelled",
];

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let backends = Backends::default();
    if let Some(seconds) = args.watch {
        return watch(seconds, args.format, |first| {
            read(args, runs, &backends, first)
        });
    }
    let status = read(args, runs, &backends, true)?;
    args.format.print(&status)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads what was asked for; the first time it says on stderr what cannot be read.
fn read(args: &Args, runs: &Runs, backends: &Backends, first: bool) -> Result<Status> {
    let found: Vec<RunDir> = if args.queries.is_empty() {
        run_dir::list(&runs.root()?)?
    } else {
        report::select(runs, &args.queries)?
    };
    let none = found.is_empty();
    let of_sweep = |manifest: &Manifest| match &args.sweep {
        Some(sweep) => (manifest.sweep.as_ref()).is_some_and(|point| point.id == *sweep),
        None => true,
    };
    // JSON has the memory of every rank.
    let ranks = if args.format.json { u32::MAX } else { 1 };
    let mut many = Many::read(&found, backends, ranks, of_sweep);
    if args.queries.len() == 1
        && many.views.is_empty()
        && let Some((_, error)) = many.damaged.pop()
    {
        return Err(error);
    }
    if first {
        many.warn();
    }
    let mut views = many.views;
    if !args.queries.is_empty() {
        // In the order in which they were asked for.
        let place = |view: &RunView| found.iter().position(|run| run.path() == view.dir);
        views.sort_by_key(place);
    }
    views.retain(|view| {
        let stands = |state: &String| match state.as_str() {
            "active" => !view.status.is_settled(),
            state => view.state_cell() == state,
        };
        let since = |since: Timestamp| view.ended.is_none_or(|ended| ended >= since);
        (args.state.is_empty() || args.state.iter().any(stands)) && args.since.is_none_or(since)
    });
    if args.watch.is_some() && args.queries.is_empty() {
        // A window shows the beginning: what still moves, and the newest.
        views.sort_by_key(|view| (view.status.is_settled(), Reverse(view.submitted)));
    }
    if first && let Some(trouble) = views.iter().find_map(|view| view.trouble.as_ref()) {
        eprintln!("note: {trouble}");
    }
    Ok(Status {
        views,
        none,
        named: !args.queries.is_empty(),
    })
}

/// All runs that were asked for.
#[derive(Serialize)]
#[serde(transparent)]
struct Status {
    views: Vec<RunView>,
    /// There are no runs at all.
    #[serde(skip)]
    none: bool,
    /// Certain runs were asked for.
    #[serde(skip)]
    named: bool,
}

impl Report for Status {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.none {
            return writeln!(out, "no runs yet; start one with: rocket submit exp.yaml");
        }
        if self.views.is_empty() {
            return writeln!(
                out,
                "no such run; without a filter, 'rocket status' shows all"
            );
        }
        let whys: Vec<Option<String>> = self.views.iter().map(RunView::why).collect();
        let mut headings = HEADINGS.to_vec();
        if whys.iter().any(Option::is_some) {
            headings.push("WHY");
        }
        let mut table = Table::new(&headings).right(&[2, 3, 4, 5, 6]);
        let rows: Vec<Vec<String>> = self.views.iter().map(row).collect();
        let width = why_width(&rows);
        let mut is_cut = Vec::new();
        for (view, (mut row, why)) in self.views.iter().zip(rows.into_iter().zip(&whys)) {
            if let Some(why) = why {
                let short = cut(why, width);
                if short != *why || view.hint.is_some() {
                    is_cut.push((view, why));
                }
                row.push(short);
            }
            table.row(row);
        }
        table.write(out)?;
        let shown = if self.named || is_cut.len() <= EXPLAINED {
            is_cut.len()
        } else {
            0
        };
        for (view, why) in &is_cut[..shown] {
            writeln!(out, "\n{}: {why}", view.run)?;
            if let Some(hint) = &view.hint {
                writeln!(out, "  hint: {hint}")?;
            }
        }
        if shown < is_cut.len() {
            writeln!(
                out,
                "\n'rocket status RUN' says more of a run that has a reason"
            )?;
        }
        Ok(())
    }
}

/// Columns; a last one says why.
const HEADINGS: [&str; 8] = [
    "RUN",
    "STATE",
    "ATTEMPT",
    "STEP",
    "EPOCH",
    "SAMPLES/S",
    "ETA",
    "SCORE",
];

fn row(view: &RunView) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    vec![
        view.run.clone(),
        view.state_cell().to_owned(),
        or_dash(view.attempt.map(|number| number.to_string())),
        or_dash(view.step_cell()),
        or_dash(view.epoch_cell()),
        or_dash(view.rate_cell()),
        or_dash(view.eta_cell()),
        or_dash(view.score_cell()),
    ]
}

/// What a terminal leaves beside the other columns.
fn why_width(rows: &[Vec<String>]) -> usize {
    if !io::stdout().is_terminal() {
        return WHY;
    }
    let Ok((columns, _)) = terminal::size() else {
        return WHY;
    };
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        let widest = cells.max().unwrap_or_default();
        widest.max(HEADINGS[column].len()) + 2
    };
    let taken: usize = (0..HEADINGS.len()).map(width).sum();
    usize::from(columns).saturating_sub(taken).max(LEAST)
}

#[cfg(test)]
mod tests {
    use rocket_common::events::Status;

    use super::STATES;

    #[test]
    fn every_state_can_be_asked_for() {
        for state in Status::ALL {
            assert!(STATES.contains(&state.name()), "{state}");
        }
    }
}
