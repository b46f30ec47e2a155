//! `rocket drill`: rehearses an experiment small, once straight and once for each fault that a cluster
//! has in store, and compares what was computed to the bit.

mod fault;
mod numbers;
mod report;
mod shrink;
mod subject;

pub use fault::{Fault, NodeStrike, Place, Strike, strike_writer};
pub use numbers::Numbers;
pub use report::{Certificate, Trial};
pub use shrink::{Change, Size, shrink};
pub use subject::{Caller, Subject};

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::Repository;
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir;

use crate::slurm::Client;
use crate::{experiment, pin, runs};

/// A straight run shorter than this leaves no time to hit anything.
const SHORTEST: Duration = Duration::from_secs(3);
/// What the steps are made to take where they are too short.
const WANTED: Duration = Duration::from_secs(6);
/// Steps of the first try.
const FIRST: u64 = 36;
/// No drill has more.
const MOST: u64 = 20_000;
/// Longest wait for any sign; on Slurm a job waits for nodes and for credentials to expire.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The experiment file.
    pub experiment: PathBuf,
    /// The user's own overrides.
    pub sets: Vec<String>,
    /// Where.
    pub backend: BackendKind,
    /// Ranks.
    pub ranks: u32,
    /// Optimiser steps; found out if absent.
    pub steps: Option<u64>,
    /// Take changes of the work tree along.
    pub snapshot: bool,
    /// Keep the runs.
    pub keep: bool,
}

/// Rehearses. Progress goes to stderr.
///
/// # Errors
/// The experiment cannot be run at all. A fault that leaves a trace is no error here.
pub fn drill(request: &Request, root: &Path, rocket: &Path) -> Result<Certificate> {
    let (experiment, _profile) = experiment::load(&request.experiment, &request.sets)?;
    if experiment.command.is_some() {
        return Err(Error::new(
            ExitKind::Usage,
            "a drill compares losses and checkpoints, and an experiment with 'command:' has none that rocket knows",
        ));
    }
    let place = match request.backend {
        BackendKind::Slurm => Place::Slurm(Client::default()),
        BackendKind::Auto | BackendKind::Local => Place::Local,
    };
    subject::catch_interrupts();
    let mut folder = Folder::new(root, rocket)?;
    let mut size = Size {
        ranks: request.ranks,
        steps: request.steps.unwrap_or(FIRST),
    };
    let mut stage = Stage {
        request,
        caller: folder.caller.clone(),
        place,
        shrunk: Vec::new(),
        steps: size.steps,
    };
    let mut straight = stage.straight(&experiment, size)?;
    if request.steps.is_none() && straight.training < SHORTEST {
        size.steps = enough(size.steps, straight.training);
        eprintln!(
            "its {} steps took {:.1} s, too short to hit anything: once more with {} steps ...",
            stage.steps,
            straight.training.as_secs_f64(),
            size.steps
        );
        straight = stage.straight(&experiment, size)?;
    }
    let trials: Vec<Trial> = Fault::ALL
        .into_iter()
        .map(|fault| stage.trial(fault, &straight.numbers))
        .collect();
    let certified = trials.iter().all(|trial| trial.identical);
    folder.keep = request.keep || !certified;
    Ok(Certificate {
        experiment: request.experiment.clone(),
        ranks: size.ranks,
        steps: size.steps,
        place: match &stage.place {
            Place::Local => format!("on {}", rocket_common::host::name()),
            Place::Slurm(_) => "by Slurm".into(),
        },
        shrunk: stage.shrunk,
        straight_seconds: straight.seconds.as_secs_f64(),
        trials,
        kept: folder.keep.then(|| folder.caller.root.clone()),
        certified,
    })
}

/// Steps that take as long as is wanted, from how long some took.
fn enough(steps: u64, took: Duration) -> u64 {
    let each = took.as_secs_f64().max(1e-3) / steps as f64;
    ((WANTED.as_secs_f64() / each).ceil() as u64).clamp(steps, MOST)
}

/// What is the same for all runs of a drill.
struct Stage<'a> {
    request: &'a Request,
    caller: Caller,
    place: Place,
    shrunk: Vec<Change>,
    steps: u64,
}

/// The run that nothing is done to.
struct Straight {
    numbers: Numbers,
    seconds: Duration,
    /// From the first step to the last.
    training: Duration,
}

impl Stage<'_> {
    fn submit(&self) -> Result<Subject> {
        let mut sets: Vec<String> = self
            .shrunk
            .iter()
            .map(|change| format!("{}={}", change.key, change.to))
            .collect();
        sets.extend(self.request.sets.iter().cloned());
        self.caller
            .submit(&self.request.experiment, &sets, self.request.snapshot)
    }

    fn straight(
        &mut self,
        experiment: &rocket_common::experiment::Experiment,
        size: Size,
    ) -> Result<Straight> {
        self.shrunk = shrink(experiment, size, self.request.backend, &self.request.sets);
        self.steps = size.steps;
        eprintln!("straight: {} steps by {} ranks ...", size.steps, size.ranks);
        let subject = self.submit()?;
        let guard = EndRun(&self.caller, subject.run.id());
        subject.reach(1, PATIENCE)?;
        let first = Instant::now();
        subject.reach(size.steps, PATIENCE)?;
        let training = first.elapsed();
        subject.finish(PATIENCE)?;
        drop(guard);
        Ok(Straight {
            numbers: Numbers::read(&subject.run, size.steps)?,
            seconds: subject.started.elapsed(),
            training,
        })
    }

    /// Tries a fault; whatever goes wrong is told in the trial.
    fn trial(&self, fault: Fault, wanted: &Numbers) -> Trial {
        let words = fault.words(&self.place);
        eprintln!("{words} ...");
        let mut trial = Trial::untried(fault, words);
        match self.strike(fault, wanted, &mut trial) {
            Ok(()) => trial.identical = trial.problem.is_none(),
            Err(error) => trial.problem = Some(error.to_string()),
        }
        trial
    }

    fn strike(&self, fault: Fault, wanted: &Numbers, trial: &mut Trial) -> Result<()> {
        let subject = self.submit()?;
        let _guard = EndRun(&self.caller, subject.run.id());
        trial.run = Some(subject.run.id());
        // Not at a save, and early enough for what follows.
        let step = (self.steps * 2 / 5).max(1);
        let strike = fault::strike(
            fault,
            &subject,
            &self.place,
            &self.caller,
            step,
            self.request.ranks,
            PATIENCE,
        )?;
        trial.hit = Some(strike.hit.clone());
        let (from, furthest) = resumption(&subject, strike.step)?;
        trial.resumed_from = from;
        trial.repeated = Some(furthest.saturating_sub(from.unwrap_or(0)));
        subject.reach(furthest.min(self.steps), PATIENCE)?;
        trial.seconds_lost = Some(strike.at.elapsed().as_secs_f64());
        subject.finish(PATIENCE)?;
        trial.problem = wanted.difference(&Numbers::read(&subject.run, self.steps)?);
        Ok(())
    }
}

/// Waits for the ranks to start again; gives the step that they go on from, and the furthest step that
/// was done before.
fn resumption(subject: &Subject, struck: u64) -> Result<(Option<u64>, u64)> {
    let mut furthest = struck;
    let from = subject.wait("resumption", PATIENCE, |this| {
        let restores = this.restores()?;
        if restores.len() > 1 {
            return Ok(restores.last().copied());
        }
        furthest = furthest.max(numbers::last_step(&this.run));
        Ok(None)
    })?;
    Ok((from, furthest))
}

/// Ends a run that is left before its end, so that nothing of a drill goes on behind a person's back.
struct EndRun<'a>(&'a Caller, String);

impl Drop for EndRun<'_> {
    fn drop(&mut self) {
        let done = run_dir::find(&self.0.root, &self.1).is_ok_and(|run| run.is_done());
        if !done {
            // Refused for a run that is over, which is fine.
            let _ = self
                .0
                .call(&["cancel".into(), self.1.clone(), "--now".into()]);
        }
    }
}

/// The folder of a drill's runs, within the runs root. It goes when it is dropped, with the refs of its
/// runs, unless it is to be kept.
struct Folder {
    caller: Caller,
    keep: bool,
}

impl Folder {
    fn new(root: &Path, rocket: &Path) -> Result<Self> {
        runs::make_root(root)?;
        let path = root.join(format!(".drill-{}", &atomic::unique()[..8]));
        let failed = |error| Error::io("create", &path, error);
        fs::create_dir(&path).map_err(failed)?;
        let this = Self {
            caller: Caller {
                rocket: rocket.to_path_buf(),
                root: path.clone(),
            },
            keep: false,
        };
        // The programs are large, and kept by content: those of real runs serve.
        let bundles = root.join("bundles");
        fs::create_dir_all(&bundles)
            .and_then(|()| std::os::unix::fs::symlink(&bundles, path.join("bundles")))
            .map_err(failed)?;
        Ok(this)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for run in run_dir::list(&self.caller.root).unwrap_or_default() {
            let repository = run
                .manifest()
                .ok()
                .and_then(|manifest| Repository::open(manifest.repo).ok());
            let reference = repository
                .as_ref()
                .and_then(|repository| repository.find_reference(&pin::ref_name(&run.id())).ok());
            if let Some(mut reference) = reference {
                let _ = reference.delete();
            }
        }
        let _ = fs::remove_dir_all(&self.caller.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_steps_are_made_many() {
        let of = |steps, millis| enough(steps, Duration::from_millis(millis));
        assert_eq!(of(36, 360), 600);
        assert_eq!(of(36, 3600), 60);
        assert_eq!(of(36, 0), MOST);
    }
}
