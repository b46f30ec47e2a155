//! `rocket submit`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Reading;

use crate::commands::{machines, sweep};
use crate::experiment::Written;
use crate::runs::Runs;
use crate::submit::{Ground, Options};
use crate::{bundle, output, pin, view};

/// Pin an experiment to a commit and start it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The experiment file
    experiment: PathBuf,
    /// Override a key of the experiment, as in train.batch_size=32
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print what would run, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Take the changes of the work tree into the pinned commit
    #[arg(long)]
    snapshot: bool,
    /// Start the same experiment at the same commit once more
    #[arg(long)]
    again: bool,
    /// Build the programs from the pinned commit, in a clean checkout
    #[arg(long)]
    build: bool,
    /// Stay and print what happens until the run's end; exit with its result
    #[arg(long, visible_alias = "wait")]
    follow: bool,
    /// Prepare the run's directory, and leave it to another launcher to start the ranks
    #[arg(long, conflicts_with_all = ["follow", "nodes"])]
    no_start: bool,
    /// Who starts the ranks: slurm, local, or auto (sets cluster.backend)
    #[arg(long, value_name = "KIND")]
    backend: Option<String>,
    /// Do not ask before a sweep of more than 100 points
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    machines: machines::Args,
}

impl Args {
    /// `--set` and what the other options set.
    fn sets(&self) -> Vec<String> {
        let backend = self.backend.iter();
        let backend = backend.map(|kind| format!("cluster.backend={kind}"));
        let sets = self.sets.iter().cloned();
        sets.chain(backend).chain(self.machines.sets()).collect()
    }

    /// Refuses what is meant for one run.
    fn check_sweep(&self) -> Result<()> {
        let used = [
            (self.follow, "--follow"),
            (self.no_start, "--no-start"),
            (self.machines.is_used(), "--nodes"),
        ];
        match used.into_iter().find(|(used, _)| *used) {
            None => Ok(()),
            Some((_, option)) => Err(Error::new(
                ExitKind::Usage,
                format!("{option} is for one run, and the experiment has a 'sweep' of many"),
            )
            .hint("look at all of them with 'rocket sweep status'")),
        }
    }

    fn options(&self) -> Options {
        Options {
            snapshot: self.snapshot,
            again: self.again,
            build: self.build,
            dry_run: self.dry_run,
            no_start: self.no_start,
            machines: self.machines.clone(),
        }
    }
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    if let Some(node_rank) = args.machines.joins() {
        let which = machines::Which {
            experiment: &args.experiment,
            sets: &args.sets(),
            snapshot: args.snapshot,
            again: args.again,
            follow: args.follow,
        };
        return machines::join(node_rank, &which, runs);
    }
    let written = Written::of_file(&args.experiment, args.sets())?;
    let (experiment, profile) = match written.read()? {
        Reading::One(experiment, profile) => (*experiment, profile),
        Reading::Many(sweep) => {
            args.check_sweep()?;
            let ground = Ground::new(&args.experiment, &args.options(), runs)?;
            return sweep::submit(&sweep, &written, &ground, args.yes);
        }
    };
    let ground = Ground::new(&args.experiment, &args.options(), runs)?;
    let plan = ground.plan(experiment, profile, None)?;
    for note in ground.notes.iter().chain(&plan.notes) {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        output::print(&plan.preview()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (run, job) = plan.carry_out()?;
    let id = run.id();
    output::print(&format!(
        "run {id}\n{}  directory  {}\n  commit     {} ({})\n",
        job.map_or(String::new(), |job| format!("  job        {job}\n")),
        run.path().display(),
        &plan.pinned.commit.to_string()[..12],
        pin::ref_name(&id),
    ))?;
    if args.follow {
        view::wait_for_attempt(&run, None)?;
        return view::follow(&run);
    }
    if args.no_start {
        let cluster = &plan.experiment.cluster;
        let worker = run.manifest()?.bundle.dir.join(bundle::WORKER);
        let (nodes, ranks) = (cluster.nodes, cluster.ranks_per_node());
        output::print(&machines::launcher_lines(&run, &worker, nodes, ranks))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&format!(
        "  next       rocket status {id} | rocket logs {id} -f | rocket cancel {id}\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
