//! What can be compared: a run, a pinned commit, an experiment file.

use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::RunDir;

use super::Head;
use crate::backend::Backends;
use crate::pin::{self, Source, git_error};
use crate::report::facts::{Facts, programs};
use crate::report::flat;
use crate::runs::Runs;
use crate::view::Series;

/// Something to compare.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) head: Head,
    pub(crate) config: Vec<(String, String)>,
    pub(crate) series: Series,
    /// The commit whose tree is its code.
    pub(crate) code: Option<Oid>,
    /// Repositories that may hold it.
    pub(crate) repositories: Vec<PathBuf>,
    /// What could not be read.
    pub(crate) troubles: Vec<String>,
}

impl Subject {
    /// What a person means: an experiment file, `refs/rocket/<run>`, or a run.
    ///
    /// # Errors
    /// There is no such thing, or it cannot be read.
    pub(crate) fn find(query: &str, runs: &Runs, backends: &Backends) -> Result<Self> {
        let path = Path::new(query);
        let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if yaml && path.is_file() {
            return Self::file(query, path);
        }
        if let Some(id) = query.strip_prefix("refs/rocket/") {
            let root = runs.root()?;
            return match RunDir::open(root.join(id)) {
                Ok(run) => Self::run(&run, backends),
                Err(_) => Self::reference(query, &root),
            };
        }
        Self::run(&runs.find(query)?, backends)
    }

    fn run(run: &RunDir, backends: &Backends) -> Result<Self> {
        let facts = Facts::read(run, backends)?;
        let manifest = &facts.manifest;
        let (recipe_hash, ranks) = match &facts.experiment {
            Some(experiment) => (experiment.recipe_hash(), experiment.cluster.world_size()),
            None => (manifest.recipe_hash.clone(), 0),
        };
        let mut repositories = store_beside(run.path());
        repositories.push(manifest.repo.clone());
        Ok(Self {
            head: Head {
                run: facts.view.run.clone(),
                name: manifest.name.clone(),
                state: Some(facts.view.status.to_string()),
                commit: Some(manifest.commit.clone()),
                parent_commit: Some(manifest.parent_commit.clone()),
                snapshot: manifest.snapshot,
                programs: Some(programs(manifest)),
                recipe_hash,
                world_size: facts.view.world_size.unwrap_or(ranks),
                steps: Some(facts.view.step.max(last_step(&facts.series))),
                wall_seconds: facts.wall_seconds(),
                samples_per_second: facts.throughput(),
                attempts: Some(facts.attempts.len()),
            },
            config: facts.config,
            series: facts.series,
            code: Oid::from_str(&manifest.commit).ok(),
            repositories,
            troubles: facts.troubles,
        })
    }

    /// An experiment that was not submitted: its code is the last commit around it.
    fn file(query: &str, path: &Path) -> Result<Self> {
        let (experiment, _) = crate::experiment::load(path, &[])?;
        let folder = path.canonicalize().ok();
        let folder = folder.as_deref().and_then(Path::parent).unwrap_or(path);
        let source = Source::discover(&[folder]).ok();
        let experiment = match &source {
            // As a submit does it, so that only what differs shows.
            Some(source) => crate::experiment::with_absolute_paths(&experiment, source.root()),
            None => experiment,
        };
        let repo = source.as_ref().map(|source| source.root().to_path_buf());
        let code = source
            .as_ref()
            .and_then(|source| source.repository().head().ok()?.peel_to_commit().ok())
            .map(|commit| commit.id());
        Ok(Self::of(
            query,
            &experiment,
            code,
            repo.into_iter().collect(),
        ))
    }

    /// A pinned commit whose run directory is not here.
    fn reference(query: &str, root: &Path) -> Result<Self> {
        let store = root.join(pin::STORE);
        for place in [Path::new("."), &store] {
            let Ok(repo) = Repository::discover(place) else {
                continue;
            };
            let Ok(commit) = repo.find_reference(query).and_then(|r| r.peel_to_commit()) else {
                continue;
            };
            let read = || -> Result<String, git2::Error> {
                let entry = commit.tree()?.get_path(Path::new(pin::EXPERIMENT_PATH))?;
                let blob = entry.to_object(&repo)?.peel_to_blob()?;
                Ok(String::from_utf8_lossy(blob.content()).into_owned())
            };
            let text = read()
                .map_err(|error| git_error(&format!("read the experiment of {query}"), &error))?;
            let experiment = Experiment::from_resolved(&text)?;
            let repositories = vec![repo.path().to_path_buf(), store.clone()];
            return Ok(Self::of(
                query,
                &experiment,
                Some(commit.id()),
                repositories,
            ));
        }
        Err(Error::new(
            ExitKind::Usage,
            format!("there is no '{query}', neither in this repository nor among the runs"),
        )
        .hint("'rocket status' lists the runs"))
    }

    fn of(
        query: &str,
        experiment: &Experiment,
        code: Option<Oid>,
        repositories: Vec<PathBuf>,
    ) -> Self {
        Self {
            head: Head {
                run: query.to_owned(),
                name: experiment.name.clone(),
                state: None,
                commit: code.map(|id| id.to_string()),
                parent_commit: None,
                snapshot: false,
                programs: None,
                recipe_hash: experiment.recipe_hash(),
                world_size: experiment.cluster.world_size(),
                steps: None,
                wall_seconds: None,
                samples_per_second: None,
                attempts: None,
            },
            config: flat(experiment),
            series: Series::default(),
            code,
            repositories,
            troubles: Vec::new(),
        }
    }
}

fn store_beside(run: &Path) -> Vec<PathBuf> {
    run.parent()
        .map(|root| root.join(pin::STORE))
        .into_iter()
        .collect()
}

fn last_step(series: &Series) -> u64 {
    let curves = series.train.values().chain(series.eval.values());
    curves
        .filter_map(|curve| curve.last())
        .map(|(step, _)| *step)
        .max()
        .unwrap_or_default()
}
