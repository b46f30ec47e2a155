//! Many runs at once: read side by side, since most of the time goes into waiting for a disk.

use std::collections::BTreeSet;

use rayon::prelude::*;
use rocket_common::error::{Error, Result};
use rocket_common::events;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{Manifest, RunDir};

use super::RunView;
use crate::backend::Backends;

/// Readers side by side. More than cores, since on a network disk each of them waits.
const READERS: usize = 16;

/// Runs that were read, and those that cannot be.
#[derive(Debug, Default)]
pub(crate) struct Many {
    /// In the order in which they were submitted.
    pub(crate) views: Vec<RunView>,
    /// Ids of damaged ones with what is wrong: none of them hides the others.
    pub(crate) damaged: Vec<(String, Error)>,
}

impl Many {
    /// Reads those runs whose manifest is wanted, with the heartbeats of at most so many ranks.
    pub(crate) fn read(
        runs: &[RunDir],
        backends: &Backends,
        ranks: u32,
        wanted: impl Fn(&Manifest) -> bool + Sync,
    ) -> Self {
        let work = || read(runs, backends, ranks, &wanted);
        match rayon::ThreadPoolBuilder::new().num_threads(READERS).build() {
            Ok(readers) => readers.install(work),
            // No more threads are to be had: rayon's own then do it, or this one.
            Err(_) => work(),
        }
    }

    /// Says on stderr what cannot be read.
    pub(crate) fn warn(&self) {
        for (id, error) in &self.damaged {
            eprintln!("warning: run {id}: {error}");
        }
    }
}

fn read(
    runs: &[RunDir],
    backends: &Backends,
    ranks: u32,
    wanted: &(impl Fn(&Manifest) -> bool + Sync),
) -> Many {
    // The manifests first: their owners are known before the scheduler is asked, once for all of them.
    let manifests: Vec<(&RunDir, Result<Manifest>)> = runs
        .par_iter()
        .map(|run| (run, run.manifest()))
        .filter(|(_, manifest)| manifest.as_ref().map_or(true, wanted))
        .collect();
    let users: BTreeSet<String> = manifests
        .iter()
        .filter_map(|(_, manifest)| manifest.as_ref().ok())
        .filter(|manifest| manifest.backend == BackendKind::Slurm)
        .map(|manifest| manifest.user.clone())
        .collect();
    backends.of(BackendKind::Slurm).prepare(&users);
    let read: Vec<(String, Result<RunView>)> = manifests
        .into_par_iter()
        .map(|(run, manifest)| {
            let view = manifest.and_then(|manifest| {
                let state = events::derive(&events::read(run)?);
                RunView::with(run, &manifest, state, backends, ranks)
            });
            (run.id(), view)
        })
        .collect();
    let mut many = Many::default();
    for (id, view) in read {
        match view {
            Ok(view) => many.views.push(view),
            Err(error) => many.damaged.push((id, error)),
        }
    }
    many.views.sort_by_key(|view| view.submitted);
    many
}
