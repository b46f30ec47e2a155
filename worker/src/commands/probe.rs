//! `rocket-worker probe`: a linear probe on a checkpoint's frozen features.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::atomic;
use rocket_common::checkpoint::sha256_hex;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::eval::Progress;
use super::eval::subject::{Subject, Which};
use crate::checkpoint::tensors;
use crate::eval::probe::{self, Fit, Probe, Split, Tried};
use crate::eval::{self, EvalError, EvalSet, Split as Part, batches};

/// What to probe, and on what.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Names of sets in the catalog, each with a split for training.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true)]
    datasets: Vec<String>,
    /// Catalog in place of the experiment's. Relative paths in it begin in its own folder.
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Strength of the regularisation, which is not searched for then: 1/C of scikit-learn.
    #[arg(long, value_name = "LAMBDA", value_parser = positive)]
    lambda: Option<f64>,
    /// Seed of which images are kept back for the search.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compute features that are kept from before again.
    #[arg(long)]
    again: bool,
    /// Folder for the results and features of '--weights'; those of a run go to its own.
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    output: Option<PathBuf>,
    /// Print JSON in place of lines.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (value > 0.0 && value.is_finite())
        .then_some(value)
        .ok_or_else(|| "not a number above 0".to_owned())
}

/// `eval/probe-<dataset>-step-<n>.json`. Figures are percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Probed {
    dataset: String,
    step: u64,
    checkpoint: String,
    /// Samples that the probe was fitted to.
    train_samples: usize,
    /// Samples that it is scored on.
    test_samples: usize,
    /// Width of the features.
    features: i64,
    classes: usize,
    /// Strength of the regularisation.
    lambda: f64,
    /// What the search tried, on the samples that were kept back.
    search: Vec<Tried>,
    metric: eval::metrics::Metric,
    top1: f64,
    mean_per_class: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    roc_auc: Option<f64>,
}

/// Fits, scores, prints, and writes `eval/probe-<set>-step-<n>.json` to the run directory.
///
/// # Errors
/// A set lacks a split, or cannot be read; or the weights cannot.
pub fn run(args: &Args) -> Result<ExitKind> {
    let about = args.which.about()?;
    let mut files = about.files();
    if let Some(catalog) = &args.catalog {
        files.catalog.clone_from(catalog);
        files.base = catalog.parent().unwrap_or(Path::new("")).to_owned();
    }
    let (catalog, labels, templates) = files.read()?;
    let open = |name: &String, part| {
        EvalSet::open_split(name, part, &catalog, &labels, &templates, eval::decoder())
    };
    let mut sets = Vec::new();
    for name in &args.datasets {
        sets.push((open(name, Part::Train)?, open(name, Part::Test)?));
    }
    // The weights' hash leaves out what no tensor shows, such as the number of heads.
    let model = serde_json::to_string(&about.experiment.model)?;
    let subject = about.load(&args.which, args.output.as_deref())?;
    let mut results = Vec::new();
    for (train, test) in &sets {
        let result = probe_set(args, &subject, &model, train, test)?;
        if let Some(dir) = &subject.results {
            std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
            let name = format!("probe-{}-step-{}.json", result.dataset, result.step);
            atomic::write_json(&dir.join(name), &result)?;
        }
        if !args.json {
            writeln!(
                std::io::stdout(),
                "{}: linear probe on {} features: top-1 {:.2} %, mean per class {:.2} %{}, lambda {:.3e}, {} + {} images",
                result.dataset,
                result.features,
                result.top1,
                result.mean_per_class,
                result
                    .roc_auc
                    .map_or(String::new(), |auc| format!(", ROC-AUC {auc:.2} %")),
                result.lambda,
                result.train_samples,
                result.test_samples,
            )?;
        }
        results.push(result);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&results)?;
        writeln!(std::io::stdout(), "{text}")?;
    }
    Ok(ExitKind::Ok)
}

fn probe_set(
    args: &Args,
    subject: &Subject,
    model: &str,
    train: &EvalSet,
    test: &EvalSet,
) -> Result<Probed> {
    let train_split = features(args, subject, model, train, Part::Train)?;
    let test_split = features(args, subject, model, test, Part::Test)?;
    let classes = train.class_names.len();
    let fit = Fit::new(classes as i64);
    let (lambda, search) = match args.lambda {
        Some(lambda) => (lambda, Vec::new()),
        None => search(args.seed, &train_split, &fit, train),
    };
    let probe = Probe::fit(&train_split, lambda, &fit, None);
    let scores = probe.scores(&test_split.features);
    let (tally, auc) = probe::tally(&scores, &test_split.targets);
    Ok(Probed {
        dataset: test.name.clone(),
        step: subject.step,
        checkpoint: subject.name.clone(),
        train_samples: train_split.targets.len(),
        test_samples: test_split.targets.len(),
        features: train_split.features.size()[1],
        classes,
        lambda,
        search,
        metric: test.metric,
        top1: tally.top1_percent(),
        mean_per_class: tally.mean_per_class_percent(),
        roc_auc: auc.filter(|_| test.metric == eval::metrics::Metric::RocAuc),
    })
}

fn search(seed: u64, all: &Split, fit: &Fit, set: &EvalSet) -> (f64, Vec<Tried>) {
    let (front, back) = probe::divide(&all.targets, seed);
    let part = |of: &[i64]| Split {
        features: all
            .features
            .index_select(0, &Tensor::from_slice(of).to_device(all.features.device())),
        targets: of
            .iter()
            .map(|&index| all.targets[index as usize])
            .collect(),
    };
    let (front, back) = (part(&front), part(&back));
    let mut last: Option<Probe> = None;
    probe::search(|lambda| {
        // A probe of another strength is a good place to begin.
        let probe = Probe::fit(&front, lambda, fit, last.as_ref());
        let (tally, auc) = probe::tally(&probe.scores(&back.features), &back.targets);
        last = Some(probe);
        probe::figure(set.metric, &tally, auc)
    })
}

/// Features of the image tower, before the projectors, kept beside the results under everything that they
/// depend on. `model` is the experiment's section.
fn features(
    args: &Args,
    subject: &Subject,
    model: &str,
    set: &EvalSet,
    part: Part,
) -> Result<Split> {
    let samples = set.samples.as_ref();
    let targets: Vec<i64> = (0..samples.len())
        .map(|i| samples.target(i) as i64)
        .collect();
    let kept = if let Some(dir) = &subject.results
        && let Some(images) = samples.identity()
    {
        let weights = subject.model.registry().hash()?;
        let word = subject.encoder().word();
        let part = part.key();
        let key = format!("2 {weights} {model} {word} {part} {images} {targets:?}");
        let key = sha256_hex(key.as_bytes());
        let name = format!("{}-{part}-{}.safetensors", set.name, &key[..32]);
        Some(dir.join("features").join(name))
    } else {
        None
    };
    if let Some(path) = kept.as_ref().filter(|path| path.is_file() && !args.again)
        && let Ok(mut found) = tensors::load(path)
        && let Some(features) = found.remove("features")
        && features.size().first() == Some(&(targets.len() as i64))
    {
        eprintln!(
            "note: the features of {} ({}) are kept from before; --again computes them anew",
            set.name,
            part.key()
        );
        return Ok(Split { features, targets });
    }
    let name = format!("{} ({})", set.name, part.key());
    let mut progress = Progress::new(&name);
    let encoder = subject.encoder();
    let batch = subject.settings.image_batch;
    let side = eval::Encoder::image_size(&encoder);
    let device = eval::Encoder::device(&encoder);
    let mut parts = Vec::new();
    let units = 0..samples.len().div_ceil(batch);
    batches::for_each(
        samples,
        units,
        batch,
        side,
        subject.settings.threads,
        |batch| {
            let feats = batch.with_images(device, |images| encoder.features(images));
            parts.push(feats.map_err(|error| EvalError::Model {
                what: "images",
                set: set.name.clone(),
                cause: error.to_string(),
            })?);
            progress.say(batch.first + batch.len(), samples.len());
            Ok(std::ops::ControlFlow::Continue(()))
        },
    )?;
    let features = Tensor::cat(&parts, 0).to_kind(Kind::Float);
    if features.isfinite().all().int64_value(&[]) != 1 {
        return Err(EvalError::NotFinite {
            what: "features",
            head: "the image tower",
            set: set.name.clone(),
        }
        .into());
    }
    if let Some(path) = kept {
        keep(&path, &features)?;
    }
    Ok(Split { features, targets })
}

fn keep(path: &Path, features: &Tensor) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
    }
    let aside = path.with_extension(format!("tmp-{}", atomic::unique()));
    tensors::save(&aside, &[("features".to_owned(), features.shallow_clone())])?;
    Ok(std::fs::rename(&aside, path).map_err(|error| Error::io("write", path, error))?)
}
