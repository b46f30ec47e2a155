//! `rocket sweep status`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use rocket_common::error::Result;
use rocket_common::events::{self, Status};
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{self, RunDir, SweepPoint};
use serde::Serialize;

use super::find;
use crate::backend::Backends;
use crate::output::{Format, Report, Table};
use crate::runs::Runs;
use crate::sweep::{self, Member, Record, turn};
use crate::view::{RunView, duration};

/// Show where the points of a sweep stand, or all sweeps
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sweep; all if none is named
    sweep: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    match &args.sweep {
        Some(query) => {
            let (root, record) = find(query, runs)?;
            let members = sweep::members(&root, &record.id)?;
            let one = One::read(record, members);
            let mut views = one.runs.iter().map(|row| &row.view);
            if let Some(trouble) = views.find_map(|view| view.trouble.as_ref()) {
                eprintln!("note: {trouble}");
            }
            args.format.print(&one)?;
        }
        None => {
            let root = runs.root()?;
            args.format.print(&All::read(&root)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One sweep.
#[derive(Serialize)]
struct One {
    /// Its id.
    sweep: String,
    /// How its points come about.
    shape: String,
    /// How many run at once.
    max_running: Option<u32>,
    /// How many there are, submitted or not.
    points: u64,
    /// The experiment file.
    experiment: std::path::PathBuf,
    submitted: Timestamp,
    /// Number of points in each state.
    states: BTreeMap<String, u64>,
    runs: Vec<Row>,
}

/// A point.
#[derive(Serialize)]
struct Row {
    point: u64,
    set: BTreeMap<String, String>,
    #[serde(flatten)]
    view: RunView,
}

impl One {
    fn read(record: Record, members: Vec<Member>) -> Self {
        let backends = Backends::default();
        let users: BTreeSet<String> = members
            .iter()
            .filter(|member| member.manifest.backend == BackendKind::Slurm)
            .map(|member| member.manifest.user.clone())
            .collect();
        backends.of(BackendKind::Slurm).prepare(&users);
        let mut states: BTreeMap<String, u64> = BTreeMap::new();
        let mut runs = Vec::new();
        for Member {
            run,
            manifest,
            point,
        } in members
        {
            let view = events::read(&run).and_then(|events| {
                RunView::of(&run, &manifest, events::derive(&events), &backends)
            });
            match view {
                Ok(view) => {
                    *states.entry(view.status.to_string()).or_default() += 1;
                    let SweepPoint { point, set, .. } = point;
                    runs.push(Row { point, set, view });
                }
                // One damaged run must not hide the others.
                Err(error) => eprintln!("warning: run {}: {error}", run.id()),
            }
        }
        Self {
            sweep: record.id,
            shape: record.shape,
            max_running: record.max_running,
            points: record.points,
            experiment: record.experiment_path,
            submitted: record.created,
            states,
            runs,
        }
    }

    /// `4 running, 7 pending, 1 failed`.
    fn counts(&self) -> String {
        counts(&self.states, self.points, self.runs.len() as u64)
    }
}

impl Report for One {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "sweep {}: {} points ({}){}: {}\n",
            self.sweep,
            self.points,
            self.shape,
            limit(self.max_running),
            self.counts()
        )?;
        let keys: BTreeSet<&String> = self.runs.iter().flat_map(|row| row.set.keys()).collect();
        let mut headings = vec!["POINT"];
        headings.extend(keys.iter().map(|key| key.as_str()));
        headings.extend(["STATE", "STEP", "LEFT", "SCORE", "RUN"]);
        let at = 1 + keys.len();
        let mut table = Table::new(&headings).right(&[0, at + 1, at + 2]);
        for row in &self.runs {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let view = &row.view;
            let mut cells = vec![row.point.to_string()];
            cells.extend(keys.iter().map(|key| or_dash(row.set.get(*key).cloned())));
            let step = match view.total_steps {
                Some(total) => Some(format!("{}/{total}", view.step)),
                None => (view.step > 0).then(|| view.step.to_string()),
            };
            let left = view.eta_seconds;
            let score = view
                .main_score
                .as_ref()
                .and_then(|name| view.metrics.get_key_value(name))
                .or(view.metrics.iter().next());
            cells.extend([
                view.status.to_string(),
                or_dash(step),
                or_dash(left.map(|seconds| duration(Duration::from_secs(seconds)))),
                or_dash(score.map(|(name, value)| format!("{name} {:.2} %", value * 100.0))),
                view.run.clone(),
            ]);
            table.row(cells);
        }
        table.write(out)?;
        // Many wait for the same; what waits for its turn says nothing that the table does not.
        let mut waiting: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
        for Row { point, view, .. } in &self.runs {
            let words = view.waiting.as_deref();
            if let Some(words) = words.filter(|words| *words != turn::words(&self.sweep)) {
                let key = (words, view.hint.as_deref());
                waiting.entry(key).or_default().push(point.to_string());
            }
        }
        for ((words, hint), points) in waiting {
            let many = if points.len() == 1 { "point" } else { "points" };
            writeln!(out, "\n{many} {}: {words}", points.join(", "))?;
            if let Some(hint) = hint {
                writeln!(out, "  hint: {hint}")?;
            }
        }
        for Row { point, view, .. } in &self.runs {
            if let (Status::Failed | Status::Lost, Some(cause)) = (view.status, &view.cause) {
                writeln!(out, "\npoint {point}: {cause}")?;
                if let Some(hint) = &view.hint {
                    writeln!(out, "  hint: {hint}")?;
                }
            }
        }
        Ok(())
    }
}

fn limit(most: Option<u32>) -> String {
    most.map_or(String::new(), |most| format!(", at most {most} at once"))
}

fn counts(states: &BTreeMap<String, u64>, points: u64, submitted: u64) -> String {
    let mut words: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    if points > submitted {
        words.push(format!("{} not submitted", points - submitted));
    }
    if words.is_empty() {
        "no point was submitted".into()
    } else {
        words.join(", ")
    }
}

/// Every sweep.
#[derive(Serialize)]
struct All(Vec<Summary>);

#[derive(Serialize)]
struct Summary {
    sweep: String,
    shape: String,
    max_running: Option<u32>,
    points: u64,
    submitted: Timestamp,
    states: BTreeMap<String, u64>,
}

impl All {
    /// From one look at every run, without the scheduler: how many points are in which state is as the
    /// events tell it.
    fn read(root: &std::path::Path) -> Result<Self> {
        let mut states: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for run in run_dir::list(root)? {
            if let Some((sweep, state)) = state_of(&run) {
                *states.entry(sweep).or_default().entry(state).or_default() += 1;
            }
        }
        let mut all: Vec<Summary> = sweep::ids(root)
            .into_iter()
            .filter_map(|id| {
                let record = Record::read(root, &id)
                    .inspect_err(|error| eprintln!("warning: sweep {id}: {error}"))
                    .ok()?;
                Some(Summary {
                    states: states.remove(&id).unwrap_or_default(),
                    sweep: id,
                    shape: record.shape,
                    max_running: record.max_running,
                    points: record.points,
                    submitted: record.created,
                })
            })
            .collect();
        all.sort_by_key(|summary| summary.submitted);
        Ok(Self(all))
    }
}

fn state_of(run: &RunDir) -> Option<(String, String)> {
    let sweep = run.manifest().ok()?.sweep?.id;
    let state = events::derive(&events::read(run).ok()?);
    Some((sweep, state.status.to_string()))
}

impl Report for All {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(
                out,
                "no sweeps yet; submit an experiment with 'sweep: {{optim.lr: [1e-3, 3e-3]}}'"
            );
        }
        let mut table =
            Table::new(&["SWEEP", "POINTS", "AT ONCE", "STATES", "SHAPE"]).right(&[1, 2]);
        for one in &self.0 {
            let submitted = one.states.values().sum();
            table.row(vec![
                one.sweep.clone(),
                one.points.to_string(),
                one.max_running
                    .map_or_else(|| "-".into(), |most| most.to_string()),
                counts(&one.states, one.points, submitted),
                one.shape.clone(),
            ]);
        }
        table.write(out)
    }
}
