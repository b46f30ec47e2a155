//! `rocket-worker eval`: scores a checkpoint zero-shot on sets of the catalog.
//!
//! | file | what |
//! |---|---|
//! | `mod` | one process that scores a run's checkpoint, or a file's weights |
//! | `job` | one rank of an evaluation that `rocket eval` submitted |
//! | `subject` | which weights: of a run or a file; `retrieval` and `probe` take the same |
//! | `sets`, `weights` | what all need |

mod job;
pub(super) mod sets;
pub(super) mod subject;
mod weights;

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use rocket_common::atomic;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;

use crate::eval::{self, ClassifierCache, Details, Scorer, Settings, Shard, Stage, ZeroShot};
use subject::{About, Which};

/// What to score, and on what.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Names of sets in the catalog, or 'all' for those that are there; those of the experiment if absent.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    datasets: Vec<String>,
    /// Catalog in place of the experiment's. Relative paths in it begin in its own folder.
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Class names in place of the experiment's.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Prompts in place of the experiment's.
    #[arg(long, value_name = "FILE")]
    templates: Option<PathBuf>,
    /// Fetch MNIST, CIFAR-10, CIFAR-100 and STL-10 into the catalog's folders where they are missing, from where
    /// they are published, or from an address or folder that has the same files.
    #[arg(
        long,
        value_name = "URL|FOLDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    fetch: Option<String>,
    /// Write accuracies by class and confusions of z and h as well.
    #[arg(long)]
    details: bool,
    /// Folder for the results of '--weights'; those of a run go to its own.
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    output: Option<PathBuf>,
    /// Print JSON in place of tables.
    #[arg(long)]
    json: bool,
    /// Be a rank of an evaluation that 'rocket eval' submitted.
    #[arg(long, hide = true, conflicts_with_all = ["run", "weights"])]
    job: bool,
}

/// Scores, prints, and writes `eval/<set>-step-<n>.json` to the run directory.
///
/// # Errors
/// Every reason why a set cannot be scored. All sets are opened before the first is scored.
pub fn run(args: &Args) -> Result<ExitKind> {
    if args.job {
        return job::run();
    }
    let about = args.which.about()?;
    let files = files(args, &about);
    let opened = open(args, &files, &about.experiment)?;
    let subject = about.load(&args.which, args.output.as_deref())?;
    if let Some(note) = opened.left_out() {
        eprintln!("note: {note}");
    }
    let encoder = subject.encoder();
    let tokenize = eval::tokenizer();
    let shard = Shard::alone();
    let cache = match &subject.results {
        Some(dir) => {
            let weights = subject.model.registry().hash()?;
            let dir = dir.join("classifiers");
            Some(ClassifierCache::new(dir, &weights, &encoder.word()))
        }
        None => None,
    };
    let scorer = Scorer {
        encoder: &encoder,
        tokenize: &tokenize,
        settings: Settings {
            details: args.details,
            ..subject.settings
        },
        shard: &shard,
        cache: cache.as_ref(),
    };
    let mut results = Vec::new();
    for set in &opened.sets {
        let mut progress = Progress::new(&set.name);
        let scores = scorer.score(set, |stage| {
            if let Stage::Images(done, total) = stage {
                progress.say(done, total);
            }
            ControlFlow::Continue(())
        })?;
        let result = ZeroShot::new(set, subject.step, &subject.name, &scores);
        if let Some(dir) = &subject.results {
            std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
            if let Some(details) = Details::new(set, subject.step, &scores) {
                details.write(dir)?;
            }
            atomic::write_json(&dir.join(result.file_name()), &result)?;
        }
        if !args.json {
            write!(std::io::stdout(), "{}", result.table())?;
        }
        results.push(result);
    }
    if args.json {
        writeln!(
            std::io::stdout(),
            "{}",
            serde_json::to_string_pretty(&results)?
        )?;
    }
    Ok(ExitKind::Ok)
}

fn files(args: &Args, about: &About) -> sets::Files {
    let mut files = about.files();
    if let Some(catalog) = &args.catalog {
        files.catalog.clone_from(catalog);
        files.base = catalog.parent().unwrap_or(Path::new("")).to_owned();
    }
    for (given, file) in [
        (&args.labels, &mut files.labels),
        (&args.templates, &mut files.templates),
    ] {
        if let Some(given) = given {
            *file = sets::Names::given(given);
        }
    }
    files
}

fn open(args: &Args, files: &sets::Files, experiment: &Experiment) -> Result<sets::Opened> {
    let names = if args.datasets.is_empty() {
        &experiment.eval.datasets
    } else {
        &args.datasets
    };
    if names.is_empty() {
        let hint = "name some with --datasets, or all that are there with --datasets all";
        return Err(
            Error::new(ExitKind::Usage, "the experiment names no evaluation sets")
                .hint(hint)
                .into(),
        );
    }
    if let Some(from) = &args.fetch {
        let (catalog, ..) = files.read()?;
        let entries = catalog.entries().iter();
        let all: Vec<&str> = entries.map(|entry| entry.name.as_str()).collect();
        let named: Vec<&str> = names.iter().map(String::as_str).collect();
        let names = if named == [sets::ALL] { all } else { named };
        super::data::fetch::fetch_missing(from, &catalog, &names)?;
    }
    Ok(sets::open(files, names, false)?)
}

/// How far a set is, to stderr: at most every few seconds, rewritten in place on a terminal.
pub(super) struct Progress<'a> {
    name: &'a str,
    started: Instant,
    said: Option<Instant>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self {
            name,
            started: Instant::now(),
            said: None,
        }
    }

    pub(super) fn say(&mut self, done: usize, total: usize) {
        let terminal = std::io::stderr().is_terminal();
        let every = Duration::from_millis(if terminal { 200 } else { 10_000 });
        let since = self.said.unwrap_or(self.started).elapsed();
        if since < every && done < total {
            return;
        }
        self.said = Some(Instant::now());
        let rate = done as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let left = (total - done) as f64 / rate;
        let name = self.name;
        let line = format!("{name}: {done} of {total} images, {rate:.0}/s, {left:.0} s left");
        match (terminal, done < total) {
            (true, true) => eprint!("\r\x1b[K{line}"),
            (true, false) => eprintln!("\r\x1b[K{name}: {total} images, {rate:.0}/s"),
            (false, true) => eprintln!("{line}"),
            (false, false) => eprintln!("{name}: {total} images, {rate:.0}/s"),
        }
    }
}
