//! `rocket submit`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use rocket_common::error::{Error, Result};
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Experiment};
use rocket_common::host;
use rocket_common::run_dir::{self, Bundle, Manifest, RunDir};

use crate::backend::{Backends, Handover};
use crate::bundle::{self, Identity};
use crate::commands::machines;
use crate::doctor;
use crate::pin::{self, Changes, Mode, Pinned, Source};
use crate::runs::{Runs, make_root};
use crate::slurm::script::{self, Script};
use crate::slurm::{Slurm, preflight, secrets};
use crate::supervisor::verify;
use crate::{build, experiment, output, view};

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
    let plan = Plan::new(args, runs)?;
    for note in &plan.notes {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        let mut text = plan.describe();
        if plan.backend == BackendKind::Slurm {
            text.push_str("\n--- job.sbatch\n");
            text.push_str(&plan.script()?);
        }
        output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (run, job) = plan.carry_out(args)?;
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

/// Everything decided, nothing started.
struct Plan {
    source: Source,
    experiment: Experiment,
    /// The profile of the settings that was filled in.
    profile: Option<String>,
    experiment_path: PathBuf,
    /// As it lies in the pinned tree: paths of data as they were written.
    pinned: Pinned,
    snapshot: bool,
    /// As it lies in the run directory: paths of data absolute.
    yaml: String,
    root: PathBuf,
    run_id: String,
    again: bool,
    backend: BackendKind,
    secrets: Vec<secrets::Secret>,
    rocket: PathBuf,
    worker: Option<PathBuf>,
    notes: Vec<String>,
}

impl Plan {
    fn new(args: &Args, runs: &Runs) -> Result<Self> {
        let (experiment, profile) = experiment::load(&args.experiment, &args.sets())?;
        pin::check_name(&experiment.name)?;
        if args.no_start && experiment.command.is_some() {
            return Err(Error::new(
                ExitKind::Usage,
                "--no-start prepares a run of the trainer, and the experiment has a 'command' of its own",
            )
            .hint("start that command with the launcher directly"));
        }
        let backend = match experiment.cluster.backend {
            // Another launcher is none of Slurm's business.
            _ if args.no_start => BackendKind::Local,
            BackendKind::Auto if Slurm::is_here() => BackendKind::Slurm,
            BackendKind::Auto => BackendKind::Local,
            named => named,
        };
        args.machines.check(backend)?;
        if backend == BackendKind::Slurm && !args.dry_run && !Slurm::is_here() {
            return Err(Error::new(
                ExitKind::Usage,
                "'cluster.backend' is slurm, and 'sbatch' was not found: Slurm's programs are not on this machine's PATH",
            )
            .hint("submit on a login node of the cluster, or with --set cluster.backend=local"));
        }
        let experiment_path = args
            .experiment
            .canonicalize()
            .map_err(|error| Error::io("find", &args.experiment, error))?;
        let folder = experiment_path.parent().unwrap_or(Path::new("/"));
        let source = Source::discover(&[Path::new("."), folder])?;
        let absolute = experiment::with_absolute_paths(&experiment, source.root());
        let mut notes = Vec::new();
        match (backend, experiment::check_data(&absolute)) {
            (_, Ok(())) => {}
            // The nodes may see what this one does not.
            (BackendKind::Slurm, Err(error)) if error.kind() == ExitKind::Data => {
                notes.push(format!("{error}, as seen from this node"));
            }
            (_, Err(error)) => return Err(error),
        }

        let exempt = source.relative(&experiment_path);
        let changes = Changes::find(&source, exempt.as_deref())?;
        let mode = if args.snapshot {
            Mode::Snapshot
        } else {
            Mode::Head
        };
        if !args.snapshot {
            changes.refuse()?;
            notes.extend(changes.untracked_note());
        }
        let pinned = pin::create(
            &source,
            &changes,
            mode,
            &experiment.name,
            &experiment.to_yaml(),
        )?;
        notes.extend(pinned.notes.iter().cloned());

        check_eval_files(&experiment, &source, &pinned)?;
        let cluster = &experiment.cluster;
        let one_machine = !args.machines.is_used() && !args.no_start;
        if backend == BackendKind::Local && cluster.nodes > 1 && one_machine {
            notes.push(format!(
                "the local backend knows one machine: all {} ranks of cluster.nodes: {} run here",
                cluster.world_size(),
                cluster.nodes
            ));
        }

        let root = runs.of(&source)?;
        let (rocket, worker) = programs(&experiment, args, &source, &pinned, &mut notes)?;
        let run_id = choose_id(&root, &experiment.name, &pinned, args.again)?;
        if backend == BackendKind::Slurm && Slurm::is_here() {
            preflight::check(cluster)?;
            if let Some(kind) = doctor::own_file_system(&root) {
                notes.push(format!(
                    "the folder of runs, '{}', is on {kind}, which other nodes see only if it is exported to them; 'rocket doctor --job' tries it",
                    root.display()
                ));
            }
        }
        let secrets = match backend {
            BackendKind::Slurm => secrets::take(cluster, |name| std::env::var(name).ok())?,
            _ => Vec::new(),
        };
        Ok(Self {
            secrets,
            yaml: absolute.to_yaml(),
            source,
            experiment,
            profile,
            experiment_path,
            pinned,
            snapshot: args.snapshot,
            root,
            run_id,
            again: args.again,
            backend,
            rocket,
            worker,
            notes,
        })
    }

    fn describe(&self) -> String {
        let ranks = self.experiment.cluster.world_size();
        let programs = [Some(&self.rocket), self.worker.as_ref()];
        let programs: Vec<String> = programs
            .into_iter()
            .flatten()
            .map(|path| path.display().to_string())
            .collect();
        format!(
            "run         {}\ndirectory   {}\ncommit      {}\nmade from   {}{}\nprograms    {}\nbackend     {} with {ranks} ranks\n{}recipe      {}\n\n{}",
            self.run_id,
            self.root.join(&self.run_id).display(),
            self.pinned.commit,
            self.pinned.parent,
            match (self.snapshot, self.source.branch()) {
                (true, _) => " with the changes of the work tree".to_owned(),
                (false, Some(branch)) => format!(" ({branch})"),
                (false, None) => String::new(),
            },
            programs.join(", "),
            format!("{:?}", self.backend).to_lowercase(),
            self.on_slurm(),
            self.experiment.recipe_hash(),
            self.yaml,
        )
    }

    /// What Slurm is asked for and what it would do, in words.
    fn on_slurm(&self) -> String {
        let profile = self.profile.as_ref();
        let profile = profile.map_or(String::new(), |name| format!("profile     {name}\n"));
        match self.backend {
            BackendKind::Slurm => profile + &script::describe(&self.experiment.cluster),
            _ => profile,
        }
    }

    /// The script that Slurm would be given, and the same checks as if it were.
    fn script(&self) -> Result<String> {
        script::render(&Script {
            cluster: &self.experiment.cluster,
            run_id: &self.run_id,
            run_dir: &self.root.join(&self.run_id),
            rocket: &self
                .root
                .join("bundles/<content hash>")
                .join(bundle::ROCKET),
            submission: 0,
            token: "<token>",
            exclude: &[],
        })
    }

    /// Writes the pin, the bundle and the run directory, and hands the run over.
    fn carry_out(&self, args: &Args) -> Result<(RunDir, Option<String>)> {
        if self.backend == BackendKind::Slurm {
            // What cannot be said in a script is found before anything is written.
            self.script()?;
        }
        make_root(&self.root)?;
        let store = self.root.join(pin::STORE);
        pin::publish(&self.source, &self.pinned, &self.run_id, &store)?;
        let result = self
            .programs(args.build)
            .and_then(|bundle| self.make_run(bundle));
        let run = result.inspect_err(|_| {
            // Not if the directory exists: the ref then is another submit's as well.
            if !self.root.join(&self.run_id).exists() {
                pin::unpublish(&self.source, &self.run_id, &store);
            }
        })?;
        let manifest = run.manifest()?;
        let mut events = EventWriter::new(&run, "submit");
        events.append(Event::new(EventKind::Submitted {
            backend: self.backend,
        }))?;
        secrets::write(&self.root, &self.run_id, &self.secrets)?;
        args.machines.write(&run)?;
        if args.no_start {
            verify(&run, &manifest, &self.experiment)?;
            return Ok((run, None));
        }
        let backends = Backends::default();
        match backends
            .of(self.backend)
            .submit(&Handover::new(&run, &manifest, "submitted"))
        {
            Ok(job) => Ok((run, job)),
            Err(error) if self.backend == BackendKind::Slurm && error.kind() == ExitKind::Usage => {
                // Refused: as if it had never been. Nothing has run, and the mended experiment is
                // another run.
                let _ = secrets::remove(&self.root, &self.run_id);
                if std::fs::remove_dir_all(run.path()).is_ok() {
                    pin::unpublish(&self.source, &self.run_id, &store);
                }
                Err(error)
            }
            Err(error) => {
                let kind = if self.backend == BackendKind::Slurm {
                    EventKind::SupervisorLost
                } else {
                    EventKind::Failed { exit: error.kind() }
                };
                events.append(Event::new(kind).cause(error.to_string()))?;
                Err(error)
            }
        }
    }

    fn programs(&self, build: bool) -> Result<Bundle> {
        let bundles = self.root.join("bundles");
        if !build {
            return bundle::make(&bundles, &self.rocket, self.worker.as_deref());
        }
        let built = build::build(&self.source, &self.pinned, &self.root)?;
        let worker = self.worker.is_some().then_some(built.worker);
        bundle::make(&bundles, &built.rocket, worker.as_deref())
    }

    fn make_run(&self, bundle: Bundle) -> Result<RunDir> {
        let manifest = Manifest {
            schema: Manifest::SCHEMA,
            run_id: self.run_id.clone(),
            name: self.experiment.name.clone(),
            commit: self.pinned.commit.to_string(),
            parent_commit: self.pinned.parent.to_string(),
            snapshot: self.snapshot,
            experiment_sha256: bundle::sha256_text(&self.yaml),
            recipe_hash: self.experiment.recipe_hash(),
            bundle,
            created: Timestamp::now(),
            user: user(),
            host: host::name(),
            versions: BTreeMap::from([("rocket".into(), env!("CARGO_PKG_VERSION").into())]),
            backend: self.backend,
            experiment_path: self.experiment_path.clone(),
            repo: self.source.root().to_path_buf(),
        };
        RunDir::create(&self.root, &manifest, &self.yaml).map_err(|error| {
            if self.root.join(&self.run_id).exists() {
                exists(&self.run_id, self.again)
            } else {
                error
            }
        })
    }
}

/// The programs that would run, after a check that they were built from what is pinned.
fn programs(
    experiment: &Experiment,
    args: &Args,
    source: &Source,
    pinned: &Pinned,
    notes: &mut Vec<String>,
) -> Result<(PathBuf, Option<PathBuf>)> {
    let rocket = std::env::current_exe()
        .map_err(|error| Error::io("find", Path::new("/proc/self/exe"), error))?;
    if args.build {
        let worker = experiment
            .command
            .is_none()
            .then(|| rocket.with_file_name("rocket-worker"));
        return Ok((rocket, worker));
    }
    let repo = source.repository();
    notes.extend(Identity::own().check("rocket", repo, pinned)?);
    if experiment.command.is_some() {
        return Ok((rocket, None));
    }
    let worker = bundle::find_worker(&rocket)?;
    notes.extend(Identity::of_binary(&worker)?.check("rocket-worker", repo, pinned)?);
    Ok((rocket, Some(worker)))
}

/// Labels, prompts and catalog are read from the pinned tree: said now if they are not in it.
fn check_eval_files(experiment: &Experiment, source: &Source, pinned: &Pinned) -> Result<()> {
    let eval = &experiment.eval;
    if experiment.command.is_some() || eval.datasets.is_empty() {
        return Ok(());
    }
    let keys = [
        ("eval.catalog", &eval.catalog),
        ("eval.labels", &eval.labels),
        ("eval.templates", &eval.templates),
    ];
    for (key, path) in keys {
        if path.is_relative() && !pin::contains(source.repository(), pinned, path)? {
            return Err(Error::new(
                ExitKind::Experiment,
                format!(
                    "'{}' ({key}) is not in the pinned commit, from which the run would read it",
                    path.display()
                ),
            )
            .hint("commit it, take it along with --snapshot, or name it by an absolute path"));
        }
    }
    Ok(())
}

/// The first free id: the plain one, or with `again` the plain one or one with a number.
fn choose_id(root: &Path, name: &str, pinned: &Pinned, again: bool) -> Result<String> {
    let commit = pinned.commit.to_string();
    let first = run_dir::run_id(name, &commit, None);
    if !root.join(&first).exists() {
        return Ok(first);
    }
    if !again {
        return Err(exists(&first, false));
    }
    let free = (2..).map(|count| run_dir::run_id(name, &commit, Some(count)));
    Ok(free
        .into_iter()
        .find(|id| !root.join(id).exists())
        .unwrap_or(first))
}

fn exists(run_id: &str, again: bool) -> Error {
    let error = Error::new(
        ExitKind::Usage,
        format!("run {run_id} exists: this experiment was submitted at this commit before"),
    );
    if again {
        return error.hint("somebody submitted it at the same moment; try once more");
    }
    error
        .hint(format!(
            "look at it with 'rocket status {run_id}', go on with 'rocket resume {run_id}'"
        ))
        .hint("or run it once more with --again")
}

/// This process's user.
pub(crate) fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name)
}
