//! `rocket-worker data check EXPERIMENT`: is everything there that an experiment will train on?

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rocket_common::atomic;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use super::subject::Subject;
use crate::data::check::{CheckOptions, CheckReport, Problem, Sheet, Stage, check};
use crate::data::source::{self, Source, watched};
use crate::data::views;
use crate::image::Picture;
use crate::progress::{Progress, bytes, grouped};

/// What to look at, and how.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The experiment whose data are checked.
    #[arg(value_name = "EXPERIMENT")]
    experiment: Option<PathBuf>,
    #[command(flatten)]
    subject: Subject,
    /// Look at so many samples, chosen at random, in place of all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Which samples are chosen.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Threads; as many as there are processors if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// An image whose shorter side has fewer pixels counts as tiny.
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    tiny: u16,
    /// Problems that make the exit code 4: missing, broken, truncated, tiny, captionless, duplicate,
    /// lookalike, or 'none'.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "missing,broken,truncated,tiny,captionless,duplicate", value_parser = kind)]
    fail_on: Vec<Kind>,
    /// Draw samples with all their views and captions into a PNG.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Samples on the sheet.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100))]
    sheet_samples: u64,
    /// Write every sample with a problem into a file: number, name, problem.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A kind of problem, or none.
type Kind = Option<Problem>;

fn kind(text: &str) -> Result<Kind, String> {
    if text == "none" {
        return Ok(None);
    }
    let known = Problem::ALL.into_iter().find(|kind| kind.name() == text);
    known.map(Some).ok_or_else(|| {
        let names: Vec<&str> = Problem::ALL.iter().map(|kind| kind.name()).collect();
        format!("is none of {} and none", names.join(", "))
    })
}

/// Looks through the data set, and says what was found.
///
/// # Errors
/// If the data set cannot be opened, or a file cannot be written.
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    let experiment = args.subject.experiment(args.experiment.as_ref())?;
    let source = source::open(&experiment.data)?;
    let name = experiment.data.dataset.name();
    // What cannot be drawn is said before hours are spent.
    let drawn = args.sheet.as_ref().map(|path| {
        let (images, captions) = views(&experiment)?;
        anyhow::Ok((path, images, captions))
    });
    let drawn = drawn.transpose()?;
    let options = CheckOptions {
        sample: args.sample,
        seed: args.seed,
        threads: args.threads.map_or_else(processors, usize::from),
        tiny: args.tiny.into(),
    };
    let mut progress = Progress::new();
    let report = watched(
        || source.stalled(),
        |stage: Stage| {
            progress.update(stage.done, stage.of, |seconds| line(name, stage, seconds));
        },
        {
            let source = Arc::clone(&source);
            move |say| check(name, &*source, options, say)
        },
    );
    drop(progress);
    let report = report?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", report.text())?;
    }
    if let Some(path) = &args.list {
        list(path, &report, &*source)?;
    }
    if let Some((path, images, captions)) = drawn {
        let sheet = {
            let (source, args) = (Arc::clone(&source), (args.sheet_samples, args.seed));
            move |_: &mut (dyn FnMut(()) + Send)| {
                Sheet {
                    source: &*source,
                    dataset: name,
                    rows: args.0,
                    choice: args.1,
                    seed: experiment.seed,
                    epoch: 0,
                    images: &images,
                    captions: &captions,
                }
                .draw()
            }
        };
        write_png(path, &watched(|| source.stalled(), |()| {}, sheet)?)?;
        if !args.json {
            writeln!(out, "sheet: {}", path.display())?;
        }
    }
    let kinds: Vec<Problem> = args.fail_on.iter().copied().flatten().collect();
    if report.count(&kinds) == 0 {
        return Ok(ExitKind::Ok);
    }
    out.flush()?;
    Err(verdict(&report, &kinds).into())
}

/// Why the exit code is not 0.
fn verdict(report: &CheckReport, kinds: &[Problem]) -> Error {
    let found = report.problems.iter();
    let found = found.filter(|kind| kind.samples > 0 && kinds.contains(&kind.problem));
    let found: Vec<String> = found
        .map(|kind| format!("{} {}", grouped(kind.samples), kind.problem.name()))
        .collect();
    Error::new(
        ExitKind::Data,
        format!("the data set has problems: {}", found.join(", ")),
    )
    .hint("--list names all samples that have one, --fail-on chooses what counts")
}

fn line(name: &str, stage: Stage, seconds: f64) -> String {
    format!(
        "{name}: {} of {} samples, {} with problems, {:.0} samples/s, {}/s",
        grouped(stage.done),
        grouped(stage.of),
        grouped(stage.bad),
        stage.done as f64 / seconds,
        bytes(stage.bytes as f64 / seconds),
    )
}

fn list(path: &Path, report: &CheckReport, source: &dyn Source) -> Result<()> {
    let failed = |error| Error::io("write", path, error);
    let mut lines: Vec<(u32, Problem)> = report
        .problems
        .iter()
        .flat_map(|kind| kind.numbers.iter().map(|&sample| (sample, kind.problem)))
        .collect();
    lines.sort_unstable();
    let mut out = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    for (sample, problem) in lines {
        let name = source.name(sample as usize);
        let name = name.escape_debug();
        writeln!(out, "{sample}\t{name}\t{}", problem.name()).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(())
}

fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let mut file = Vec::new();
    let (width, height) = (picture.width as u32, picture.height as u32);
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.data)?;
    writer.finish()?;
    Ok(atomic::write_unsynced(path, &file)?)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
