//! Everything about one run decided, nothing started.

use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Eval, Experiment, PUBLISHED_SETS};
use rocket_common::run_dir::{self, Reproduces, SweepPoint};

use super::ground::Programs;
use super::{Ground, program};
use crate::experiment;
use crate::notify::{self, Hook};
use crate::pin::{self, Pinned, Source};
use crate::slurm::script::{self, Script};
use crate::slurm::{Slurm, secrets};

/// A run as it would be.
pub(crate) struct Plan<'a> {
    pub(super) ground: &'a Ground,
    pub(crate) experiment: Experiment,
    /// The profile of the settings that was filled in.
    profile: Option<String>,
    /// As it lies in the pinned tree: paths of data as they were written.
    pub(crate) pinned: Pinned,
    /// As it lies in the run directory: paths of data absolute.
    pub(super) yaml: String,
    pub(crate) run_id: String,
    /// Its place in a sweep.
    pub(super) sweep: Option<SweepPoint>,
    /// What it does once more.
    pub(crate) reproduces: Option<Reproduces>,
    pub(crate) backend: BackendKind,
    pub(super) secrets: Vec<secrets::Secret>,
    pub(super) hooks: Vec<Hook>,
    pub(super) programs: Programs,
    /// What is worth saying of this run, one sentence each.
    pub(crate) notes: Vec<String>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        ground: &'a Ground,
        experiment: Experiment,
        profile: Option<String>,
        sweep: Option<SweepPoint>,
    ) -> Result<Self> {
        Self::of(ground, experiment, None, profile, sweep)
    }

    /// Of a commit that is there already, if one is given.
    pub(super) fn of(
        ground: &'a Ground,
        experiment: Experiment,
        pinned: Option<Pinned>,
        profile: Option<String>,
        sweep: Option<SweepPoint>,
    ) -> Result<Self> {
        let Ground {
            source, options, ..
        } = ground;
        pin::check_name(&experiment.name)?;
        if options.no_start && experiment.command.is_some() {
            return Err(Error::new(
                ExitKind::Usage,
                "--no-start prepares a run of the trainer, and the experiment has a 'command' of its own",
            )
            .hint("start that command with the launcher directly"));
        }
        let backend = ground.backend(&experiment)?;
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
        let work_tree = pinned.is_none().then(|| source.root());
        let pinned = match pinned {
            Some(pinned) => pinned,
            None => pin::create(
                source,
                &ground.changes,
                ground.mode(),
                &experiment.name,
                &experiment.to_yaml(),
            )?,
        };
        notes.extend(pinned.notes.iter().cloned());
        check_eval_files(&experiment, source, &pinned, work_tree)?;
        notes.extend(program::check(&experiment, source, &pinned, backend)?);
        let cluster = &experiment.cluster;
        let one_machine = !options.machines.is_used() && !options.no_start;
        if backend == BackendKind::Local && cluster.nodes > 1 && one_machine {
            notes.push(format!(
                "the local backend knows one machine: all {} ranks of cluster.nodes: {} run here",
                cluster.world_size(),
                cluster.nodes
            ));
        }
        let programs = ground.programs(&experiment, &pinned, &mut notes)?;
        let run_id = choose_id(&ground.root, &experiment.name, &pinned, options.again)?;
        if backend == BackendKind::Slurm && Slurm::is_here() {
            ground.preflight(cluster, &mut notes)?;
        }
        let secrets = match backend {
            BackendKind::Slurm => secrets::take(cluster, |name| std::env::var(name).ok())?,
            _ => Vec::new(),
        };
        let hooks = notify::hooks(ground.notify.iter().chain([&experiment.notify]))?;
        Ok(Self {
            hooks,
            ground,
            yaml: absolute.to_yaml(),
            experiment,
            profile,
            pinned,
            run_id,
            sweep,
            reproduces: None,
            backend,
            secrets,
            programs,
            notes,
        })
    }

    /// What a dry run shows: the description, and the script of a job.
    ///
    /// # Errors
    /// Of [`Self::script`].
    pub(crate) fn preview(&self) -> Result<String> {
        let mut text = self.describe();
        if self.backend == BackendKind::Slurm {
            text.push_str("\n--- job.sbatch\n");
            text.push_str(&self.script()?);
        }
        Ok(text)
    }

    /// The run in words and as it would be stored.
    pub(crate) fn describe(&self) -> String {
        let source = &self.ground.source;
        let ranks = self.experiment.cluster.world_size();
        let programs = [Some(&self.programs.rocket), self.programs.worker.as_ref()];
        let programs: Vec<String> = programs
            .into_iter()
            .flatten()
            .map(|path| path.display().to_string())
            .collect();
        format!(
            "run         {}\ndirectory   {}\ncommit      {}\nmade from   {}{}\nprograms    {}\nbackend     {} with {ranks} ranks\n{}recipe      {}\n\n{}",
            self.run_id,
            self.dir().display(),
            self.pinned.commit,
            self.pinned.parent,
            match (self.ground.options.snapshot, source.branch()) {
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
    pub(crate) fn script(&self) -> Result<String> {
        script::render(&Script {
            cluster: &self.experiment.cluster,
            run_id: &self.run_id,
            lane: self.sweep.as_ref().and_then(|sweep| sweep.lane.as_deref()),
            run_dir: &self.dir(),
            rocket: &self
                .ground
                .root
                .join("bundles/<content hash>")
                .join(crate::bundle::ROCKET),
            submission: 0,
            token: "<token>",
            exclude: &[],
        })
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.ground.root.join(&self.run_id)
    }
}

impl Ground {
    /// Who would start the ranks.
    ///
    /// # Errors
    /// Slurm is asked for, and not here.
    pub(crate) fn backend(&self, experiment: &Experiment) -> Result<BackendKind> {
        let options = &self.options;
        let backend = match experiment.cluster.backend {
            // Another launcher is none of Slurm's business.
            _ if options.no_start => BackendKind::Local,
            BackendKind::Auto if Slurm::is_here() => BackendKind::Slurm,
            BackendKind::Auto => BackendKind::Local,
            named => named,
        };
        options.machines.check(backend)?;
        if backend == BackendKind::Slurm && !options.dry_run && !Slurm::is_here() {
            return Err(Error::new(
                ExitKind::Usage,
                "'cluster.backend' is slurm, and 'sbatch' was not found: Slurm's programs are not on this machine's PATH",
            )
            .hint("submit on a login node of the cluster, or with --set cluster.backend=local"));
        }
        Ok(backend)
    }
}

/// Labels, prompts and catalog are read from the pinned tree: said now if they are not in it. For published
/// sets the worker has labels and prompts of its own where there are no files of the default names; but files
/// that lie in the work tree, and were not committed, were meant to be.
fn check_eval_files(
    experiment: &Experiment,
    source: &Source,
    pinned: &Pinned,
    work_tree: Option<&Path>,
) -> Result<()> {
    let eval = &experiment.eval;
    if experiment.command.is_some() || eval.datasets.is_empty() {
        return Ok(());
    }
    let keys = [
        ("eval.catalog", &eval.catalog),
        ("eval.labels", &eval.labels),
        ("eval.templates", &eval.templates),
    ];
    let default = Eval::default();
    let published = |set: &String| PUBLISHED_SETS.contains(&set.as_str());
    let published = eval.datasets.iter().all(published);
    let forgotten = |path: &Path| work_tree.is_some_and(|tree| tree.join(path).exists());
    for (key, path) in keys {
        let needless = published && (*path == default.labels || *path == default.templates);
        if needless && !forgotten(path) {
            continue;
        }
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

pub(super) fn exists(run_id: &str, again: bool) -> Error {
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
