//! `rocket eval`.

use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::RunDir;

use crate::backend::Backends;
use crate::evaluation::{Plan, Request, Results};
use crate::output::{self, Format};
use crate::runs::Runs;
use crate::slurm::{Slurm, preflight};
use crate::view;

/// Score a run's checkpoint zero-shot, by a job of its own at the run's commit
///
/// The evaluation is a run too, with the run's own programs, labels and prompts: it is queued again
/// after preemption, and 'rocket status', 'logs' and 'cancel' know it. Sets that have a result for the
/// checkpoint are not scored again. Results are in the run's eval/, in 'rocket show' and 'rocket report'.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// Sets of the catalog; every set that is there if none is named
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    datasets: Vec<String>,
    /// Which checkpoint: the best by z top-1 in training, the last, or that of a step
    #[arg(long, value_name = "best|last|STEP", default_value = "best")]
    checkpoint: String,
    /// Score sets again that have a result
    #[arg(long)]
    again: bool,
    /// Write accuracies by class and confusions as well
    #[arg(long)]
    details: bool,
    /// Override where and how it runs, as in cluster.time=2:00:00 or eval.precision=bf16
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Say what would be scored, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Stay and print what happens until the end; exit with its result
    #[arg(long, visible_alias = "wait")]
    follow: bool,
    /// Print the results that there are, and start nothing
    #[arg(long, conflicts_with_all = ["again", "details", "sets", "dry_run", "follow", "datasets"])]
    scores: bool,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    if args.scores {
        args.format.print(&Results::read(&run))?;
        return Ok(ExitCode::SUCCESS);
    }
    let manifest = run.manifest()?;
    let request = Request {
        checkpoint: &args.checkpoint,
        datasets: &args.datasets,
        again: args.again,
        details: args.details,
        sets: &args.sets,
    };
    let backends = Backends::default();
    let plan = Plan::new(&run, &manifest, &request, &backends)?;
    for note in &plan.notes {
        eprintln!("note: {note}");
    }
    if !plan.scored.is_empty() {
        eprintln!(
            "note: scored already, and not again without --again: {}",
            plan.scored.join(", ")
        );
    }
    for (set, other) in &plan.underway {
        eprintln!("note: {set} is being scored by {other}");
    }
    if plan.is_empty() {
        args.format
            .print(&Results::read(&run).of(plan.evaluation.step))?;
        return Ok(ExitCode::SUCCESS);
    }
    if manifest.backend == BackendKind::Slurm && !args.dry_run {
        if !Slurm::is_here() {
            return Err(Error::new(
                ExitKind::Usage,
                format!("run {} belongs to Slurm, and 'sbatch' was not found: its programs are not on this machine's PATH", run.id()),
            )
            .hint("evaluate on a login node of the cluster")
            .hint("or here, without a job: rocket-worker eval --run DIR"));
        }
        preflight::check(&plan.experiment.cluster)?;
    }
    let made = match args.dry_run {
        true => None,
        false => Some(plan.create()?),
    };
    let id = made.as_ref().map_or_else(|| plan.free_id(), RunDir::id);
    let ranks = plan.experiment.cluster.world_size();
    let plural = if ranks == 1 { "" } else { "s" };
    let mut text = format!(
        "evaluation {id}\n  checkpoint {} of {}\n  sets       {}{}\n  on         {ranks} rank{plural}, backend {:?}\n",
        plan.checkpoint(),
        run.id(),
        plan.evaluation.datasets.join(", "),
        if plan.evaluation.ready_only {
            " (those that are there)"
        } else {
            ""
        },
        manifest.backend,
    );
    let Some(made) = made else {
        output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    let job = plan.hand_over(&made, &backends)?;
    if let Some(job) = job {
        text.push_str(&format!("  job        {job}\n"));
    }
    if !args.follow {
        text.push_str(&format!(
            "  next       rocket status {id} | rocket logs {id} -f | rocket eval {} --scores\n",
            run.id()
        ));
        output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&text)?;
    view::wait_for_attempt(&made, None)?;
    let code = view::follow(&made)?;
    args.format
        .print(&Results::read(&run).of(plan.evaluation.step))?;
    Ok(code)
}
