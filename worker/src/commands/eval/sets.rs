//! The sets of an evaluation, opened; what is wrong with any of them is told before one is scored.

use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Eval;
use rocket_common::run_dir::suggest;

use crate::eval::check::is_missing;
use crate::eval::{self, Catalog, EvalError, EvalSet, Labels, Templates};

/// The name of the choice of every set.
pub(in crate::commands) const ALL: &str = "all";

/// Where sets, class names and prompts are described.
#[derive(Debug)]
pub(in crate::commands) struct Files {
    /// The catalog.
    pub(in crate::commands) catalog: PathBuf,
    /// Where its relative paths begin.
    pub(in crate::commands) base: PathBuf,
    /// Class names.
    pub(in crate::commands) labels: Names,
    /// Prompts.
    pub(in crate::commands) templates: Names,
}

/// A file of class names or prompts; what it lacks is taken from the published ones.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Names {
    file: PathBuf,
    /// Whether somebody named it: then it must be there.
    given: bool,
}

impl Names {
    /// A file that was named on the command line.
    pub(in crate::commands) fn given(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            given: true,
        }
    }

    fn usual(file: PathBuf) -> Self {
        Self { file, given: false }
    }
}

impl Files {
    /// As an experiment names them: within the pinned tree, or anywhere by absolute paths. The folders of
    /// the images are found from the user's clone, `repo`, as the training data are.
    pub(in crate::commands) fn of(eval: &Eval, pin: &Path, repo: &Path) -> Self {
        Self {
            catalog: pin.join(&eval.catalog),
            base: repo.to_owned(),
            labels: Names::usual(pin.join(&eval.labels)),
            templates: Names::usual(pin.join(&eval.templates)),
        }
    }
}

impl Files {
    /// Reads all of them.
    ///
    /// # Errors
    /// One that must be there is not, or is not in its form.
    pub(in crate::commands) fn read(&self) -> Result<(Catalog, Labels, Templates), EvalError> {
        let catalog = Catalog::load(&self.catalog, &self.base)?;
        let labels = match &self.labels {
            Names { file, given: true } => Labels::load(file)?,
            Names { file, .. } => Labels::load_if_there(file)?,
        };
        let templates = match &self.templates {
            Names { file, given: true } => Templates::load(file)?,
            Names { file, .. } => Templates::load_if_there(file)?,
        };
        Ok((catalog, labels, templates))
    }
}

/// Sets that were asked for.
pub(in crate::commands) struct Opened {
    /// Those that can be scored, in the order asked for.
    pub(in crate::commands) sets: Vec<EvalSet>,
    /// Those that are not there, with what is missing.
    pub(in crate::commands) left_out: Vec<(String, String)>,
}

impl Opened {
    /// A sentence about those that are not there, if there are any.
    pub(in crate::commands) fn left_out(&self) -> Option<String> {
        match self.left_out.as_slice() {
            [] => None,
            [(set, why)] => Some(format!("{set} is left out: {why}")),
            several => {
                let names: Vec<&str> = several.iter().map(|(set, _)| set.as_str()).collect();
                Some(format!(
                    "{} sets are left out, since they are not there: {}; 'rocket-worker data check \
                     --catalog' says what each of them lacks",
                    several.len(),
                    names.join(", ")
                ))
            }
        }
    }
}

/// Opens sets by name; `ready_only` leaves out what is not there. `names` may be `all`, which does too.
///
/// # Errors
/// All that is wrong with all sets, at once; or no set is left.
pub(in crate::commands) fn open(
    files: &Files,
    names: &[String],
    ready_only: bool,
) -> Result<Opened> {
    let (catalog, labels, templates) = files.read()?;
    let known = || catalog.entries().iter().map(|entry| entry.name.clone());
    let all = names == [ALL];
    let names: Vec<String> = if all {
        known().collect()
    } else {
        names.to_vec()
    };
    let known: Vec<String> = known().collect();
    let mut opened = Opened {
        sets: Vec::new(),
        left_out: Vec::new(),
    };
    let mut problems: Vec<(ExitKind, String)> = Vec::new();
    for name in &names {
        match EvalSet::open(name, &catalog, &labels, &templates, eval::decoder()) {
            Ok(set) => opened.sets.push(set),
            Err(problem) if (all || ready_only) && is_not_there(&problem, &catalog, name) => {
                opened.left_out.push((name.clone(), problem.to_string()));
            }
            Err(problem) => {
                let mut said = problem.to_string();
                if !known.contains(name)
                    && let Some(near) = suggest(name, known.iter().map(String::as_str))
                {
                    said.push_str(&format!("\nhint: did you mean '{near}'?"));
                }
                problems.push((problem.kind(), said));
            }
        }
    }
    if let Some((kind, _)) = problems.first() {
        let said: Vec<&str> = problems.iter().map(|(_, said)| said.as_str()).collect();
        return Err(Error::new(*kind, said.join("\nerror: ")));
    }
    if opened.sets.is_empty() && !opened.left_out.is_empty() {
        let reasons: Vec<&str> = opened
            .left_out
            .iter()
            .map(|(_, why)| why.as_str())
            .collect();
        return Err(Error::new(
            ExitKind::Data,
            format!("no evaluation set is there:\n  {}", reasons.join("\n  ")),
        ));
    }
    Ok(opened)
}

/// Whether a set has simply not been fetched or described, in contrast to one that lies there broken.
fn is_not_there(problem: &EvalError, catalog: &Catalog, set: &str) -> bool {
    matches!(
        problem,
        EvalError::UnknownSet { .. } | EvalError::NotListed { .. }
    ) || is_missing(problem, catalog, set)
}
