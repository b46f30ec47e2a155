//! From a sweep to its runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Point, Sweep, point_identity};
use rocket_common::run_dir::SweepPoint;

use super::{Member, Record};
use crate::submit::Ground;

/// So many points are submitted without a question.
pub(crate) const UNASKED: u64 = 100;
/// Mistakes that are shown at once.
const SHOWN: usize = 10;

/// Points of a sweep that are to be submitted.
pub(crate) struct New {
    /// Number in the sweep's file, number in the sweep, name.
    points: Vec<(u64, u64, String)>,
    /// Points that a run has been submitted for.
    pub(crate) there: u64,
    /// Points that are the same experiment as another one.
    pub(crate) doubles: u64,
}

/// What was submitted.
pub(crate) struct Submission {
    /// Runs with the scheduler's jobs.
    pub(crate) runs: Vec<(String, Option<String>)>,
    /// What is worth saying, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// Asks before very many runs are submitted.
///
/// # Errors
/// The answer is no, or nobody is there to answer.
pub(crate) fn confirm(count: u64, shape: &str, yes: bool) -> Result<()> {
    if yes || count <= UNASKED {
        return Ok(());
    }
    let many = match count {
        u64::MAX => "more points than can be counted".to_owned(),
        count => format!("{count} points"),
    };
    let question = format!("the sweep has {many} ({shape}), and each becomes a run");
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(ExitKind::Usage, question)
            .hint("if that is meant, submit with --yes")
            .hint("lists multiply; those that go together belong into 'zip'"));
    }
    eprint!("{question}. Submit them? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Error::new(ExitKind::Usage, "nothing was submitted"))
}

impl New {
    /// Judges every point, and finds those that no run was submitted for; with `again` all.
    ///
    /// # Errors
    /// Every mistake of the points.
    pub(crate) fn find(sweep: &Sweep<'_>, members: &[Member], again: bool) -> Result<Self> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let done: BTreeSet<String> = members
            .iter()
            .filter(|_| !again)
            .map(|member| {
                let set = member.point.set.iter();
                let set = set.map(|(key, text)| (key.as_str(), text.as_str()));
                point_identity(&member.manifest.recipe_hash, set)
            })
            .collect();
        let mut next = members
            .iter()
            .map(|member| member.point.point + 1)
            .max()
            .unwrap_or_default();
        let mut new = Self {
            points: Vec::new(),
            there: 0,
            doubles: 0,
        };
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut wrong: BTreeMap<String, String> = BTreeMap::new();
        for number in 0..sweep.count() {
            let point = match sweep.point(number) {
                Ok(point) => point,
                Err(found) => {
                    for one in found {
                        let text = one.to_string();
                        wrong.entry(text).or_insert_with(|| set_of(sweep, number));
                    }
                    continue;
                }
            };
            let set = point.set.iter();
            let set = set.map(|(key, text)| (key.as_str(), text.as_str()));
            let identity = point_identity(&point.experiment.recipe_hash(), set);
            if !seen.insert(identity.clone()) {
                new.doubles += 1;
            } else if done.contains(&identity) {
                new.there += 1;
            } else {
                let mut name = point.experiment.name;
                if !names.insert(name.clone()) {
                    name = numbered(&name, next);
                }
                new.points.push((number, next, name));
                next += 1;
            }
        }
        if wrong.is_empty() {
            return Ok(new);
        }
        let more = wrong.len().saturating_sub(SHOWN);
        let mut lines: Vec<String> = wrong
            .iter()
            .take(SHOWN)
            .map(|(text, set)| format!("{text} (in the point {set})"))
            .collect();
        if more > 0 {
            lines.push(format!("and {more} more mistakes like these"));
        }
        Err(Error::new(ExitKind::Experiment, lines.join("\nerror: ")))
    }

    /// Number of points to be submitted.
    pub(crate) fn count(&self) -> u64 {
        self.points.len() as u64
    }

    /// Names of the first runs, for people.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.points.iter().map(|(_, _, name)| name.as_str())
    }

    /// Submits them in their order.
    ///
    /// # Errors
    /// One is refused: those before it were submitted, and the message says how many.
    pub(crate) fn submit(
        &self,
        sweep: &Sweep<'_>,
        record: &Record,
        ground: &Ground,
    ) -> Result<Submission> {
        let mut submission = Submission {
            runs: Vec::new(),
            notes: Vec::new(),
        };
        let terminal = std::io::stderr().is_terminal();
        for (at, number, name) in &self.points {
            let done = submission.runs.len();
            if terminal && self.points.len() > 3 {
                eprint!("\rsubmitting {} of {} ...", done + 1, self.points.len());
            }
            let result = self.one(sweep, record, ground, (*at, *number, name), &mut submission);
            if let Err(error) = result {
                if terminal {
                    eprintln!();
                }
                let error = error.context(format!("point {number} ({})", set_of(sweep, *at)));
                return Err(match done {
                    0 => error,
                    _ => error.hint(format!(
                        "{done} of {} points were submitted; 'rocket sweep resume {id}' submits the others, 'rocket sweep cancel {id}' ends it",
                        self.points.len(),
                        id = record.id
                    )),
                });
            }
        }
        if terminal && self.points.len() > 3 {
            eprintln!();
        }
        Ok(submission)
    }

    fn one(
        &self,
        sweep: &Sweep<'_>,
        record: &Record,
        ground: &Ground,
        (at, number, name): (u64, u64, &str),
        submission: &mut Submission,
    ) -> Result<()> {
        let Point {
            set,
            mut experiment,
            profile,
        } = sweep.point(at).map_err(|found| {
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            Error::new(ExitKind::Experiment, lines.join("\nerror: "))
        })?;
        name.clone_into(&mut experiment.name);
        let place = SweepPoint {
            id: record.id.clone(),
            point: number,
            set: set.into_iter().collect(),
            lane: record.lane(number),
        };
        let plan = ground.plan(experiment, profile, Some(place))?;
        let (run, job) = plan.carry_out()?;
        submission.runs.push((run.id(), job));
        for note in &plan.notes {
            if !submission.notes.contains(note) {
                submission.notes.push(note.clone());
            }
        }
        Ok(())
    }
}

/// A name that no other point has.
fn numbered(name: &str, number: u64) -> String {
    let end = format!("-p{number}");
    let room = 64_usize.saturating_sub(end.len());
    let cut: String = name.chars().take(room).collect();
    format!("{}{end}", cut.trim_end_matches(['.', '-']))
}

/// `optim.lr=1e-3 seed=0`.
fn set_of(sweep: &Sweep<'_>, number: u64) -> String {
    let set: Vec<String> = sweep
        .set(number)
        .iter()
        .map(|(key, text)| format!("{key}={text}"))
        .collect();
    set.join(" ")
}
