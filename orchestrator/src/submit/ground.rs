//! What the runs of one submit share.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::experiment::{Cluster, Experiment, Notify};
use rocket_common::run_dir::{Bundle, Reproduces, SweepPoint};

use super::{Options, Plan};
use crate::backend::Backends;
use crate::bundle::{self, Identity};
use crate::pin::{Changes, Mode, Pinned, Source};
use crate::runs::Runs;
use crate::settings::Configuration;
use crate::slurm::preflight;
use crate::{build, doctor};

/// A repository with its changes judged, a folder of runs, and programs that are found, checked and
/// bundled once however many runs there are.
pub(crate) struct Ground {
    pub(crate) source: Source,
    pub(crate) changes: Changes,
    pub(crate) options: Options,
    /// The file that runs are submitted from, absolute.
    pub(crate) experiment_path: PathBuf,
    /// The folder of all runs.
    pub(crate) root: PathBuf,
    /// What is worth saying of all runs, one sentence each.
    pub(crate) notes: Vec<String>,
    /// Who is told of every run, by the settings.
    pub(super) notify: Vec<Notify>,
    pub(super) backends: Backends,
    /// With and without the trainer.
    programs: RefCell<BTreeMap<bool, Programs>>,
    bundles: RefCell<BTreeMap<bool, Bundle>>,
    /// Partition and nodes that were found to be there.
    feasible: RefCell<BTreeSet<(Option<String>, u32)>>,
}

/// The programs that would run.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) rocket: PathBuf,
    pub(crate) worker: Option<PathBuf>,
}

impl Ground {
    /// Looks at the repository around the current directory or around the experiment's file, which
    /// itself may differ from HEAD.
    ///
    /// # Errors
    /// There is no repository, or tracked files differ from HEAD without `snapshot`.
    pub(crate) fn new(path: &Path, options: &Options, runs: &Runs) -> Result<Self> {
        let experiment_path = path
            .canonicalize()
            .map_err(|error| Error::io("find", path, error))?;
        let folder = experiment_path.parent().unwrap_or(Path::new("/"));
        let source = Source::discover(&[Path::new("."), folder])?;
        let exempt = source.relative(&experiment_path);
        let changes = Changes::find(&source, exempt.as_deref())?;
        let mut notes = Vec::new();
        if !options.snapshot {
            changes.refuse()?;
            notes.extend(changes.untracked_note());
        }
        let root = runs.of(&source)?;
        let settings = Configuration::read(Some(source.root()))?.settings;
        Ok(Self {
            source,
            changes,
            options: options.clone(),
            experiment_path,
            root,
            notes,
            notify: settings.notify().cloned().collect(),
            backends: Backends::default(),
            programs: RefCell::default(),
            bundles: RefCell::default(),
            feasible: RefCell::default(),
        })
    }

    /// For runs of commits that are pinned already: what the work tree holds does not matter. They are
    /// said to come from `experiment_path`.
    ///
    /// # Errors
    /// The folder of runs or the settings cannot be told.
    pub(crate) fn of_pins(
        source: Source,
        experiment_path: PathBuf,
        options: &Options,
        runs: &Runs,
    ) -> Result<Self> {
        Ok(Self {
            root: runs.of(&source)?,
            notify: Configuration::read(Some(source.root()))?
                .settings
                .notify()
                .cloned()
                .collect(),
            source,
            changes: Changes::default(),
            options: options.clone(),
            experiment_path,
            notes: Vec::new(),
            backends: Backends::default(),
            programs: RefCell::default(),
            bundles: RefCell::default(),
            feasible: RefCell::default(),
        })
    }

    /// Takes a bundle that is there for the programs of all runs, in place of those at hand.
    pub(crate) fn take_bundle(&self, bundle: Bundle) {
        let worker = bundle.dir.join(bundle::WORKER);
        let trains = bundle.files.contains_key(bundle::WORKER);
        let programs = Programs {
            rocket: bundle.dir.join(bundle::ROCKET),
            worker: trains.then_some(worker),
        };
        self.programs.borrow_mut().insert(trains, programs);
        self.bundles.borrow_mut().insert(trains, bundle);
    }

    /// Takes these programs for all runs, unchecked.
    pub(crate) fn take_programs(&self, programs: Programs) {
        let trains = programs.worker.is_some();
        self.programs.borrow_mut().insert(trains, programs);
    }

    /// Decides everything about a run of a commit that is pinned already, and starts nothing.
    ///
    /// # Errors
    /// It cannot run.
    pub(crate) fn plan_pinned(
        &self,
        experiment: Experiment,
        pinned: Pinned,
        reproduces: Reproduces,
    ) -> Result<Plan<'_>> {
        let mut plan = Plan::of(self, experiment, Some(pinned), None, None)?;
        plan.reproduces = Some(reproduces);
        Ok(plan)
    }

    /// Decides everything about one run, and starts nothing. `sweep`: the place that it has in one.
    ///
    /// # Errors
    /// It cannot run, or was submitted before.
    pub(crate) fn plan(
        &self,
        experiment: Experiment,
        profile: Option<String>,
        sweep: Option<SweepPoint>,
    ) -> Result<Plan<'_>> {
        Plan::new(self, experiment, profile, sweep)
    }

    pub(super) fn mode(&self) -> Mode {
        match self.options.snapshot {
            true => Mode::Snapshot,
            false => Mode::Head,
        }
    }

    /// The programs that would run, after a check that they were built from what is pinned.
    pub(super) fn programs(
        &self,
        experiment: &Experiment,
        pinned: &Pinned,
        notes: &mut Vec<String>,
    ) -> Result<Programs> {
        let trains = experiment.command.is_none();
        if let Some(programs) = self.programs.borrow().get(&trains) {
            return Ok(programs.clone());
        }
        let rocket = std::env::current_exe()
            .map_err(|error| Error::io("find", Path::new("/proc/self/exe"), error))?;
        let mut worker = None;
        if self.options.build {
            worker = trains.then(|| rocket.with_file_name("rocket-worker"));
        } else {
            let repo = self.source.repository();
            notes.extend(Identity::own().check("rocket", repo, pinned)?);
            if trains {
                let found = bundle::find_worker(&rocket)?;
                let identity = Identity::of_binary(&found)?;
                notes.extend(identity.check("rocket-worker", repo, pinned)?);
                worker = Some(found);
            }
        }
        let programs = Programs { rocket, worker };
        self.programs.borrow_mut().insert(trains, programs.clone());
        Ok(programs)
    }

    /// The bundle of the programs.
    pub(super) fn bundle(&self, programs: &Programs, pinned: &Pinned) -> Result<Bundle> {
        let trains = programs.worker.is_some();
        if let Some(bundle) = self.bundles.borrow().get(&trains) {
            return Ok(bundle.clone());
        }
        let store = self.root.join(bundle::FOLDER);
        let bundle = if self.options.build {
            let built = build::build(&self.source, pinned, &self.root)?;
            let worker = trains.then_some(built.worker);
            bundle::make(&store, &built.rocket, worker.as_deref())?
        } else {
            bundle::make(&store, &programs.rocket, programs.worker.as_deref())?
        };
        self.bundles.borrow_mut().insert(trains, bundle.clone());
        Ok(bundle)
    }

    /// The bundle of the programs, made anew if it is not there any more.
    pub(super) fn bundle_again(&self, programs: &Programs, pinned: &Pinned) -> Result<Bundle> {
        let trains = programs.worker.is_some();
        self.bundles.borrow_mut().remove(&trains);
        self.bundle(programs, pinned)
    }

    /// Asks Slurm whether it could start such a run, once for each kind.
    pub(super) fn preflight(&self, cluster: &Cluster, notes: &mut Vec<String>) -> Result<()> {
        let first = self.feasible.borrow().is_empty();
        let kind = (cluster.partition.clone(), cluster.nodes);
        if !self.feasible.borrow().contains(&kind) {
            preflight::check(cluster)?;
            self.feasible.borrow_mut().insert(kind);
        }
        if let Some(kind) = first.then(|| doctor::own_file_system(&self.root)).flatten() {
            notes.push(format!(
                "the folder of runs, '{}', is on {kind}, which other nodes see only if it is exported to them; 'rocket doctor --job' tries it",
                self.root.display()
            ));
        }
        Ok(())
    }
}
