//! `rocket reproduce`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::Reproduces;

use crate::output::Format;
use crate::pin::Source;
use crate::reproduce::{self, Allowed, Original, Verdict};
use crate::runs::Runs;
use crate::submit::{Ground, Options};
use crate::{archive, output, pin, view};

/// Do a run once more from its pinned commit, and say whether the numbers come out again
///
/// The new run has the original's commit, experiment and programs. With --check, RUN is such a run, and
/// it is compared with its original: value by value, to the bit. It exits with 0 if the numbers came out
/// again, or if the losses differ by no more than the tolerance; with 1 otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A run, refs/rocket/RUN, the id of a pinned commit, or an archive of 'rocket export'
    #[arg(value_name = "RUN")]
    what: String,
    /// Compare a reproduction with its original, and start nothing
    #[arg(long, conflicts_with_all = ["sets", "backend", "build", "these_programs", "dry_run", "follow"])]
    check: bool,
    /// Greatest relative difference of the loss that still counts as reproduced
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    tolerance: f64,
    /// Count nothing as reproduced but the same bits
    #[arg(long)]
    exact: bool,
    /// Override a key that decides no number, as in data.root=/datasets/cc3m
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Who starts the ranks: slurm, local, or auto (sets cluster.backend)
    #[arg(long, value_name = "KIND")]
    backend: Option<String>,
    /// Build the programs from the pinned commit, in a clean checkout
    #[arg(long)]
    build: bool,
    /// Take the programs at hand, even if they were made from other sources
    #[arg(long, conflicts_with = "build")]
    these_programs: bool,
    /// Print what would run, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Stay until the run's end, and say then whether the numbers came out again
    #[arg(long, visible_alias = "wait")]
    follow: bool,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    if !(args.tolerance >= 0.0 && args.tolerance.is_finite()) {
        return Err(Error::new(
            ExitKind::Usage,
            format!("--tolerance is {}, and must be 0 or more", args.tolerance),
        ));
    }
    if args.check {
        let verdict = Verdict::of(&runs.find(&args.what)?, args.tolerance)?;
        args.format.print(&verdict)?;
        return Ok(code(&verdict, args.exact));
    }
    let source = Source::discover(&[Path::new(".")])?;
    let original = Original::find(&args.what, runs, &source, archive::MOST)?;
    for note in &original.notes {
        eprintln!("note: {note}");
    }
    let backend = args.backend.iter();
    let backend = backend.map(|kind| format!("cluster.backend={kind}"));
    let sets: Vec<String> = args.sets.iter().cloned().chain(backend).collect();
    let experiment = reproduce::experiment(&original, &sets)?;
    let options = Options {
        again: true,
        build: args.build,
        dry_run: args.dry_run,
        ..Options::default()
    };
    let manifest = original.run.as_ref().map(|(_, manifest)| manifest);
    let path = manifest.map_or_else(
        || PathBuf::from(pin::EXPERIMENT_PATH),
        |manifest| manifest.experiment_path.clone(),
    );
    let ground = Ground::of_pins(source, path, &options, runs)?;
    let allowed = Allowed {
        build: args.build,
        others: args.these_programs,
    };
    let programs = reproduce::programs(&ground, &original, &experiment, allowed)?;
    // Of several reproductions of one run, each is compared with the run itself.
    let of = original.run.as_ref().map(|(run, manifest)| {
        let further = manifest.reproduces.as_ref();
        further
            .and_then(|of| of.run.clone())
            .unwrap_or_else(|| run.id())
    });
    let reproduces = Reproduces {
        run: of.clone(),
        programs,
    };
    let plan = ground.plan_pinned(experiment, original.pinned.clone(), reproduces)?;
    for note in &plan.notes {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        output::print(&plan.preview()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (run, job) = plan.carry_out()?;
    let id = run.id();
    let of = of.map_or(String::new(), |of| format!("  reproduces {of}\n"));
    output::print(&format!(
        "run {id}\n{}{of}  directory  {}\n  commit     {} ({})\n",
        job.map_or(String::new(), |job| format!("  job        {job}\n")),
        run.path().display(),
        &plan.pinned.commit.to_string()[..12],
        pin::ref_name(&id),
    ))?;
    if !args.follow {
        output::print(&format!(
            "  next       rocket status {id} | at its end: rocket reproduce --check {id}\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    view::wait_for_attempt(&run, None)?;
    let ended = view::follow(&run)?;
    if of.is_empty() {
        return Ok(ended);
    }
    let verdict = Verdict::of(&run, args.tolerance)?;
    args.format.print(&verdict)?;
    Ok(code(&verdict, args.exact))
}

fn code(verdict: &Verdict, exact: bool) -> ExitCode {
    if verdict.holds(exact) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
