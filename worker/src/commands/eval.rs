//! `rocket-worker eval`: scores a run's checkpoint zero-shot on sets of the catalog.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rocket_common::atomic;
use rocket_common::checkpoint::{self as store, Checkpoint};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::RunDir;
use tch::Device;

use crate::checkpoint;
use crate::eval::{
    self, Catalog, Classifier, EvalError, EvalSet, Labels, Settings, Shard, Templates, ZeroShot,
};
use crate::model::{Model, Options};

/// What to score, and on what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run directory.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which checkpoint: 'best' by z top-1 on the first set of the experiment, 'last', a step, or
    /// the path of a checkpoint's directory.
    #[arg(long, value_name = "best|last|STEP|PATH", default_value = "best")]
    checkpoint: String,
    /// Names of sets in the catalog; those of the experiment if absent.
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
    /// Threads that decode images; all processors if absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON in place of tables.
    #[arg(long)]
    json: bool,
}

/// Scores, prints, and writes `eval/<set>-step-<n>.json` to the run directory.
///
/// # Errors
/// Every reason why a set cannot be scored. All sets are opened before the first is scored.
pub fn run(args: &Args) -> Result<ExitKind> {
    let run = RunDir::open(&args.run)?;
    let experiment = Experiment::read(&run.experiment_path())?;
    let sets = open_sets(args, &run, &experiment)?;
    let checkpoint = choose(&run, &args.checkpoint)?;
    let threads = args.threads.unwrap_or_else(available);
    // Torch's threads are the experiment's: sums, and so near ties, depend on their number.
    tch::set_num_threads(i32::try_from(experiment.train.threads).unwrap_or(1).max(1));

    let model = Model::new(
        &experiment.model,
        &Options::of(&experiment, Device::Cpu, None),
    )?;
    let values = checkpoint::load_model(&checkpoint)?;
    model
        .registry()
        .load(values.iter().map(|(name, value)| (name.as_str(), value)))
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()))
        .with_context(|| format!("checkpoint {} is of another model", checkpoint.name()))?;
    drop(values);

    let batch = usize::try_from(experiment.eval.batch_size)
        .unwrap_or(1)
        .max(1);
    let settings = Settings {
        image_batch: batch,
        text_batch: batch,
        threads,
    };
    let tokenize = eval::tokenizer();
    let shard = Shard::alone();
    let mut results = Vec::new();
    for set in &sets {
        let mut progress = Progress::new(&set.name);
        let classifier = Classifier::new(
            &model,
            &set.prompts,
            &tokenize,
            settings.text_batch,
            &shard,
            &set.name,
        )?;
        let scores = eval::zeroshot::score(
            &model,
            &classifier,
            set,
            &settings,
            &shard,
            |done, total| {
                progress.say(done, total);
                ControlFlow::Continue(())
            },
        )?;
        let result = ZeroShot::new(set, checkpoint.step(), &checkpoint.name(), &scores);
        if checkpoint.dir().parent() == Some(run.checkpoints_dir().as_path()) {
            std::fs::create_dir_all(run.eval_dir())
                .map_err(|error| Error::io("create", &run.eval_dir(), error))?;
            atomic::write_json(&run.eval_dir().join(result.file_name()), &result)?;
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

/// Opens every set, and tells all that is wrong with them at once.
fn open_sets(args: &Args, run: &RunDir, experiment: &Experiment) -> Result<Vec<EvalSet>> {
    let names = if args.datasets.is_empty() {
        &experiment.eval.datasets
    } else {
        &args.datasets
    };
    if names.is_empty() {
        return Err(
            Error::new(ExitKind::Usage, "the experiment names no evaluation sets")
                .hint("name some with --datasets")
                .into(),
        );
    }
    let pin = std::env::var_os(rocket_common::protocol::env::PIN_DIR)
        .map_or_else(|| run.path().join("pin"), PathBuf::from);
    let (file, base) = match &args.catalog {
        Some(file) => (
            file.clone(),
            file.parent().unwrap_or(Path::new("")).to_owned(),
        ),
        // As in training: what lies outside the pinned tree is found from the user's clone.
        None => (pin.join(&experiment.eval.catalog), run.manifest()?.repo),
    };
    let catalog = Catalog::load(&file, &base)?;
    let labels = match &args.labels {
        Some(file) => Labels::load(file)?,
        None => Labels::load_if_there(&pin.join(&experiment.eval.labels))?,
    };
    let templates = match &args.templates {
        Some(file) => Templates::load(file)?,
        None => Templates::load_if_there(&pin.join(&experiment.eval.templates))?,
    };
    let mut sets = Vec::new();
    let mut problems: Vec<EvalError> = Vec::new();
    for name in names {
        match EvalSet::open(name, &catalog, &labels, &templates, eval::decoder()) {
            Ok(set) => sets.push(set),
            Err(problem) => problems.push(problem),
        }
    }
    match problems.first().map(EvalError::kind) {
        None => Ok(sets),
        Some(kind) => {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Error::new(kind, said.join("\nerror: ")).into())
        }
    }
}

/// The checkpoint that `wish` means, its checksums compared.
fn choose(run: &RunDir, wish: &str) -> Result<Checkpoint> {
    let dir = run.checkpoints_dir();
    if let Ok(step) = wish.parse::<u64>() {
        let path = dir.join(store::dir_name(step));
        if !path.is_dir() {
            return Err(Error::new(
                ExitKind::Usage,
                format!("the run has no checkpoint of step {step}"),
            )
            .hint(known_steps(&dir)?)
            .into());
        }
        return Ok(store::verify(&path)?);
    }
    match wish {
        "last" => last(&dir),
        "best" => best(&dir),
        path if Path::new(path).is_dir() => Ok(store::verify(&std::path::absolute(path)?)?),
        other => Err(Error::new(
            ExitKind::Usage,
            format!("--checkpoint '{other}' is neither 'best', 'last', a step, nor a directory"),
        )
        .hint(known_steps(&dir)?)
        .into()),
    }
}

fn last(dir: &Path) -> Result<Checkpoint> {
    let found = store::latest_good(dir)?;
    for damaged in &found.damaged {
        eprintln!(
            "warning: {} is passed over: {}",
            damaged.name, damaged.reason
        );
    }
    found.checkpoint.ok_or_else(|| {
        Error::new(
            ExitKind::Checkpoint,
            format!("there is no good checkpoint in '{}'", dir.display()),
        )
        .hint("the run saves one every train.checkpoint_every and at its end")
        .into()
    })
}

/// The good checkpoint with the highest score; of equal ones the later; the last if none has one.
fn best(dir: &Path) -> Result<Checkpoint> {
    let mut scored = Vec::new();
    for (step, path) in store::list(dir)? {
        match store::open(&path) {
            Ok(checkpoint) => {
                scored.extend(
                    checkpoint
                        .manifest()
                        .info
                        .metrics
                        .get(store::BEST_METRIC)
                        .map(|&s| (s, step, path)),
                );
            }
            Err(error) => eprintln!("warning: {error}"),
        }
    }
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    for (_, _, path) in &scored {
        match store::verify(path) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) => eprintln!("warning: {error}"),
        }
    }
    eprintln!("note: no good checkpoint has a score, so the last one is taken");
    last(dir)
}

fn known_steps(dir: &Path) -> Result<String> {
    let steps: Vec<String> = store::list(dir)?
        .iter()
        .map(|(step, _)| step.to_string())
        .collect();
    Ok(if steps.is_empty() {
        "it has no checkpoint yet".to_owned()
    } else {
        format!("it has those of steps {}", steps.join(", "))
    })
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How far a set is, to stderr: at most every few seconds, rewritten in place on a terminal.
struct Progress<'a> {
    name: &'a str,
    started: Instant,
    said: Option<Instant>,
}

impl<'a> Progress<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            started: Instant::now(),
            said: None,
        }
    }

    fn say(&mut self, done: usize, total: usize) {
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
