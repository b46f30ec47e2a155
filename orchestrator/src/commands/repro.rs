//! `rocket repro`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use globset::Glob;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::Serialize;

use crate::output::{self, Format, Report, Table};
use crate::repro::{self, Check, Derived, Expected, Results, Source};
use crate::runs::Runs;
use crate::submit::{self, Ground};

/// Reproduce a list of experiments of CLIP-rocket's code, such as its repro_exps.txt
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The list
    file: PathBuf,
    /// Show the runs of the list; this is the default
    #[arg(long, group = "action")]
    list: bool,
    /// Write an experiment file for each run into this folder
    #[arg(long, value_name = "DIR", group = "action")]
    write: Option<PathBuf>,
    /// Submit each run
    #[arg(long, group = "action")]
    submit: bool,
    /// Compare what the runs came to, over seeds, with expected numbers
    #[arg(long, group = "action")]
    check: bool,
    /// Only runs of a name, as in 'CL2L_R50_*CC3M*'
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// Override a key of every experiment, as in train.epochs=1
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Another beginning for paths of data, as in /path/to/cc3m=/datasets/cc3m
    #[arg(long = "map", value_name = "FROM=TO", value_parser = parse_map)]
    map: Vec<(String, String)>,
    /// With --submit: print what would run, and start nothing
    #[arg(long, requires = "submit")]
    dry_run: bool,
    /// With --submit: take the changes of the work tree into the pinned commits
    #[arg(long, requires = "submit")]
    snapshot: bool,
    /// With --submit: start runs that were submitted before once more
    #[arg(long, requires = "submit")]
    again: bool,
    /// With --check: expected numbers, lines of name,metric,value,tolerance
    #[arg(long, value_name = "FILE", requires = "check")]
    against: Option<PathBuf>,
    /// With --check: the folder of earlier runs of the same names
    #[arg(
        long,
        value_name = "DIR",
        requires = "check",
        conflicts_with = "against"
    )]
    against_runs: Option<PathBuf>,
    /// With --against-runs: how far off a mean may be, a fraction of 1
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.01,
        requires = "against_runs"
    )]
    tolerance: f64,
    /// With --check: print a table of Markdown
    #[arg(long, requires = "check", conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    format: Format,
}

/// `FROM=TO`.
pub(super) fn parse_map(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            let plain = |path: &str| path.trim_end_matches('/').to_owned();
            Ok((plain(from), plain(to)))
        }
        _ => Err("it has the form /path/in/the/list=/path/here".to_owned()),
    }
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let mut list = repro::read(&args.file, &args.map, &args.sets)?;
    if !args.only.is_empty() {
        list = only(list, &args.only)?;
    }
    if let Some(folder) = &args.write {
        return write(&list, &args.file, folder);
    }
    if args.submit {
        return submit(&list, args, runs);
    }
    if args.check {
        return check(&list, args, runs);
    }
    args.format.print(&Listed::of(&list))?;
    Ok(ExitCode::SUCCESS)
}

fn only(list: Vec<Derived>, globs: &[String]) -> Result<Vec<Derived>> {
    let mut matchers = Vec::new();
    for glob in globs {
        let compiled = Glob::new(glob).map_err(|error| {
            Error::new(
                ExitKind::Usage,
                format!("--only '{glob}' is no pattern: {error}"),
            )
        })?;
        matchers.push(compiled.compile_matcher());
    }
    let names: Vec<String> = list.iter().map(|run| run.experiment.name.clone()).collect();
    let kept: Vec<Derived> = list
        .into_iter()
        .filter(|run| {
            matchers
                .iter()
                .any(|glob| glob.is_match(&run.experiment.name))
        })
        .collect();
    if kept.is_empty() {
        let first = names.first().map_or("none", String::as_str);
        return Err(Error::new(
            ExitKind::Usage,
            format!("no run of the list has a name like {}", globs.join(" or ")),
        )
        .hint(format!("it has {} runs, the first is {first}", names.len())));
    }
    Ok(kept)
}

/// The runs as a table.
#[derive(Serialize)]
struct Listed<'a> {
    runs: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    line: usize,
    section: &'a [String],
    name: &'a str,
    model: String,
    dataset: &'static str,
    epochs: u64,
    seed: u64,
    recipe: String,
    command: &'a str,
    notes: &'a [String],
}

impl<'a> Listed<'a> {
    fn of(list: &'a [Derived]) -> Self {
        let line = |run: &'a Derived| {
            let experiment = &run.experiment;
            Line {
                line: run.line,
                section: &run.section,
                name: &experiment.name,
                model: experiment.model.full_name(),
                dataset: experiment.data.dataset.name(),
                epochs: experiment.train.epochs,
                seed: experiment.seed,
                recipe: experiment.recipe_hash(),
                command: &run.command,
                notes: &run.notes,
            }
        };
        Self {
            runs: list.iter().map(line).collect(),
        }
    }
}

impl Report for Listed<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut section: &[String] = &[];
        let mut table =
            Table::new(&["LINE", "NAME", "MODEL", "DATA", "EPOCHS", "SEED"]).right(&[0, 4, 5]);
        for (index, run) in self.runs.iter().enumerate() {
            if run.section != section || index == 0 {
                section = run.section;
                let title = section.join(" / ");
                table.row(vec![String::new(), title]);
            }
            table.row(vec![
                run.line.to_string(),
                run.name.to_owned(),
                run.model.clone(),
                run.dataset.to_owned(),
                run.epochs.to_string(),
                run.seed.to_string(),
            ]);
        }
        table.write(out)?;
        let mut notes: Vec<(&String, usize)> = Vec::new();
        for note in self.runs.iter().flat_map(|run| run.notes) {
            match notes.iter_mut().find(|(known, _)| *known == note) {
                Some((_, count)) => *count += 1,
                None => notes.push((note, 1)),
            }
        }
        writeln!(out, "\n{} runs; every flag has a key", self.runs.len())?;
        if !notes.is_empty() {
            writeln!(out, "but for these:")?;
        }
        for (note, count) in notes {
            writeln!(out, "  {count:>3} x {note}")?;
        }
        Ok(())
    }
}

/// Name of the list in the files that come from it.
fn origin(list: &Path) -> String {
    let name = list.file_name().unwrap_or(list.as_os_str());
    name.to_string_lossy().into_owned()
}

fn write(list: &[Derived], from: &Path, folder: &Path) -> Result<ExitCode> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io("make", folder, error))?;
    let origin = origin(from);
    let file = |run: &Derived| folder.join(format!("{}.yaml", run.experiment.name));
    let mut same = 0;
    // All of them or none: what somebody changed is found before anything is written.
    for run in list {
        let path = file(run);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(text) if text == run.to_file(&origin) => same += 1,
            Ok(_) => {
                return Err(Error::new(
                    ExitKind::Usage,
                    format!("'{}' exists and says something else", path.display()),
                )
                .hint("remove it, or write into another folder"));
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        }
    }
    for run in list {
        rocket_common::atomic::write(&file(run), run.to_file(&origin).as_bytes())?;
    }
    output::print(&format!(
        "{} experiments in {} ({same} were there)\n",
        list.len(),
        folder.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn submit(list: &[Derived], args: &Args, runs: &Runs) -> Result<ExitCode> {
    let options = submit::Options {
        snapshot: args.snapshot,
        again: args.again,
        dry_run: args.dry_run,
        ..submit::Options::default()
    };
    // What all have in common (the repository, its changes, the programs) is looked at once.
    let ground = Ground::new(&args.file, &options, runs)?;
    for note in &ground.notes {
        eprintln!("note: {note}");
    }
    let origin = origin(&args.file);
    let mut failed = 0;
    for run in list {
        let text = run.to_file(&origin);
        let name = &run.experiment.name;
        // One that cannot be submitted must not keep the others from it.
        let done = crate::experiment::resolve(&args.file, &text, &[]).and_then(|read| {
            let plan = ground.plan(read.0, read.1, None)?;
            for note in &plan.notes {
                eprintln!("note: {name}: {note}");
            }
            if args.dry_run {
                return Ok(format!("{name}: would run as {}\n", plan.run_id));
            }
            let (run, job) = plan.carry_out()?;
            let job = job.map_or(String::new(), |job| format!(" (job {job})"));
            Ok(format!("run {}{job}\n", run.id()))
        });
        match done {
            Ok(said) => output::print(&said)?,
            Err(error) => {
                failed += 1;
                eprintln!("error: {name}: {error}");
                for hint in error.hints() {
                    eprintln!("hint: {hint}");
                }
            }
        }
    }
    if failed > 0 {
        return Err(Error::new(
            ExitKind::Usage,
            format!("{failed} of {} runs were not submitted", list.len()),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(list: &[Derived], args: &Args, runs: &Runs) -> Result<ExitCode> {
    let results = Results::read(&runs.root()?)?;
    let source = match (&args.against, &args.against_runs) {
        (Some(file), _) => Source::File(Expected::read(file)?),
        (None, Some(folder)) => Source::Runs(Results::read(folder)?, args.tolerance),
        (None, None) => Source::None,
    };
    let check = Check::new(list, &results, &source);
    if args.markdown {
        output::print(&check.markdown())?;
    } else {
        args.format.print(&check)?;
    }
    Ok(if check.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
