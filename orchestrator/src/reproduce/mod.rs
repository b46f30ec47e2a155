//! Doing a run once more: from its pinned commit, with its programs or with others that were made from the
//! same sources, and at the end the question whether the numbers came out again.

mod original;
mod verdict;

pub(crate) use original::Original;
pub(crate) use verdict::Verdict;

use std::collections::BTreeMap;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment};
use rocket_common::run_dir::{Manifest, ProgramsFrom};

use crate::bundle::{self, Identity};
use crate::experiment::faults;
use crate::pin::Pinned;
use crate::submit::{Ground, Programs};

/// The experiment of a pinned commit, with overrides of what decides no number.
///
/// # Errors
/// It cannot be read, or an override makes it another experiment.
pub(crate) fn experiment(original: &Original, sets: &[String]) -> Result<Experiment> {
    let commit = &original.pinned.commit.to_string()[..8];
    let name = format!("the experiment of commit {commit}");
    let parse = |sets: &[String]| {
        let lookup = |name: &str| std::env::var(name).ok();
        experiment::parse_with(&name, &original.experiment, sets, &lookup).map_err(faults)
    };
    let pinned = parse(&[])?;
    let wanted = parse(sets)?;
    if wanted.recipe_hash() != pinned.recipe_hash() || wanted.name != pinned.name {
        let one_by_one = sets.iter().filter(|set| {
            let one = parse(std::slice::from_ref(set));
            one.is_ok_and(|one| {
                one.recipe_hash() != pinned.recipe_hash() || one.name != pinned.name
            })
        });
        let keys: Vec<&str> = one_by_one.filter_map(|set| set.split('=').next()).collect();
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "with --set {} it would be another experiment, and no reproduction of this one",
                if keys.is_empty() {
                    sets.join(" --set ")
                } else {
                    keys.join(" and ")
                }
            ),
        )
        .hint("only what decides no number can be set, such as data.root or cluster.partition")
        .hint("'rocket submit' runs other experiments"));
    }
    Ok(wanted)
}

/// How the programs may be found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Build them from the commit.
    pub(crate) build: bool,
    /// Those at hand, whatever they are.
    pub(crate) others: bool,
}

/// Decides with which programs the run is done once more, and has the ground take them.
///
/// # Errors
/// Kind [`ExitKind::Pin`]: the original's are gone, and those at hand were made from other sources.
pub(crate) fn programs(
    ground: &Ground,
    original: &Original,
    experiment: &Experiment,
    allowed: Allowed,
) -> Result<ProgramsFrom> {
    if allowed.build {
        // From the commit itself.
        return Ok(ProgramsFrom::Sources);
    }
    let manifest = original.run.as_ref().map(|(_, manifest)| manifest);
    if let Some(manifest) = manifest.filter(|manifest| bundle::is_there(&manifest.bundle)) {
        // Young again before it is read: 'rocket gc' leaves it alone.
        bundle::touch(&manifest.bundle.dir);
        bundle::verify(&manifest.bundle).map_err(|error| {
            error.hint(
                "--build builds the programs from the commit, --these-programs takes those at hand",
            )
        })?;
        ground.take_bundle(manifest.bundle.clone());
        return Ok(ProgramsFrom::Original);
    }
    let rocket = std::env::current_exe()
        .map_err(|error| Error::io("find", "/proc/self/exe".as_ref(), error))?;
    let trains = experiment.command.is_none();
    let worker = trains.then(|| bundle::find_worker(&rocket)).transpose()?;
    let at_hand = Programs {
        rocket: rocket.clone(),
        worker: worker.clone(),
    };
    let Some(worker) = worker else {
        // The program itself lies in the commit; rocket only looks after it.
        ground.take_programs(at_hand);
        return Ok(ProgramsFrom::Others);
    };
    let files = bundle::files(&rocket, Some(&worker))?;
    if manifest.is_some_and(|manifest| manifest.bundle.files == files) {
        ground.take_programs(at_hand);
        return Ok(ProgramsFrom::Original);
    }
    let identity = Identity::of_binary(&worker)?;
    let differ = match recorded(manifest) {
        Some(sources) => identity
            .is_known()
            .then(|| differing(&identity.sources, sources)),
        None => of_tree(ground, &identity, &original.pinned)?,
    };
    match differ {
        Some(paths) if paths.is_empty() => {
            ground.take_programs(at_hand);
            Ok(ProgramsFrom::Sources)
        }
        _ if allowed.others => {
            ground.take_programs(at_hand);
            Ok(ProgramsFrom::Others)
        }
        differ => Err(refused(manifest, differ)),
    }
}

/// What the original's trainer was built from, as its archive says.
fn recorded(manifest: Option<&Manifest>) -> Option<&BTreeMap<String, String>> {
    let sources = &manifest?.imported.as_ref()?.sources;
    (!sources.is_empty()).then_some(sources)
}

/// Which sources of the pinned tree are others; `None` if it is another project's tree.
fn of_tree(ground: &Ground, identity: &Identity, pinned: &Pinned) -> Result<Option<Vec<String>>> {
    identity.differences(ground.source.repository(), pinned)
}

fn differing(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let names = a
        .keys()
        .chain(b.keys().filter(|name| !a.contains_key(*name)));
    let differ = names.filter(|name| a.get(*name) != b.get(*name));
    differ.cloned().collect()
}

fn refused(manifest: Option<&Manifest>, differ: Option<Vec<String>>) -> Error {
    let gone = match manifest {
        Some(manifest) => format!(
            "the programs of run {} are not here any more",
            manifest.run_id
        ),
        None => "the programs that the commit was run with are not known".to_owned(),
    };
    let others = match differ {
        Some(paths) => format!(
            "rocket-worker at hand was built from other sources; these differ: {}",
            paths.join(", ")
        ),
        None => "it cannot be told whether rocket-worker at hand is the same".to_owned(),
    };
    Error::new(ExitKind::Pin, format!("{gone}, and {others}"))
        .hint("--build builds them from the commit, where it holds the sources of rocket")
        .hint("check out and build the version that the run had; or --these-programs takes those at hand, and the verdict says what came of it")
}
