//! Whether a run's numbers came out again.

use std::io::{self, Write};

use rocket_common::error::{Error, Result};
use rocket_common::events::Status;
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Machine, Manifest, ProgramsFrom, RunDir};
use serde::Serialize;

use crate::backend::Backends;
use crate::machine;
use crate::output::Report;
use crate::report::{FirstDifference, series_diff, within_up_to};
use crate::view::{RunView, Series, number, read_metrics};

/// What became of a reproduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Every value is the same to the bit.
    Identical,
    /// Losses are within the tolerance.
    Within,
    /// They are not.
    Differs,
    /// The reproduction is not as far as the original was.
    Unfinished,
    /// There is nothing that both recorded.
    Nothing,
}

/// Something that numbers depend on and that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// What.
    what: &'static str,
    /// Of the original.
    original: String,
    /// Of the reproduction.
    reproduction: String,
}

/// The original and its reproduction, compared.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    /// The run that was reproduced.
    original: String,
    /// The run that does it once more.
    run: String,
    /// Where that one stands.
    status: Status,
    /// In a word.
    outcome: Outcome,
    /// Number of values that both recorded at the same steps, of what is not about the machine.
    compared: usize,
    /// Last step that the original recorded.
    original_last: u64,
    /// Last step that the reproduction recorded.
    last: u64,
    /// Last recorded step up to which every value is the same to the bit.
    identical_up_to: u64,
    /// The first value that differs.
    first: Option<FirstDifference>,
    /// Greatest relative difference of the loss that is allowed.
    tolerance: f64,
    /// Greatest relative difference of the loss.
    loss_difference: Option<f64>,
    /// Last recorded step up to which the loss is within the tolerance.
    within_up_to: Option<u64>,
    /// Where the programs are from.
    programs: ProgramsFrom,
    /// What numbers depend on and is not the same.
    differences: Vec<Difference>,
    /// What numbers depend on and is the same.
    same: Vec<&'static str>,
}

impl Verdict {
    /// Compares a run with the one that it does once more.
    ///
    /// # Errors
    /// It is no reproduction, or its original is not here.
    pub(crate) fn of(run: &RunDir, tolerance: f64) -> Result<Self> {
        let manifest = run.manifest()?;
        let id = run.id();
        let Some(reproduces) = &manifest.reproduces else {
            return Err(Error::new(
                ExitKind::Usage,
                format!("run {id} is no reproduction of another one"),
            )
            .hint(format!(
                "'rocket reproduce {id}' makes one of it; 'rocket compare' compares any two runs"
            )));
        };
        let Some(original_id) = &reproduces.run else {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "run {id} is of a commit alone, so there are no numbers to compare it with"
                ),
            )
            .hint("take the original in with 'rocket import-run' and use 'rocket compare'"));
        };
        let root = run.path().parent().unwrap_or(run.path());
        let original = RunDir::open(root.join(original_id)).map_err(|error| {
            error.hint(format!(
                "run {id} can only be compared where its original is"
            ))
        })?;
        let before = original.manifest()?;
        let view = RunView::read(run, &Backends::default())?;
        let series = [read_metrics(&original)?, read_metrics(run)?];
        let (differences, same) = circumstances((&original, &before), (run, &manifest))?;
        let diff = series_diff((original_id, &series[0]), (&id, &series[1]));
        let (original_last, last) = (last_step(&series[0]), last_step(&series[1]));
        let curves = series.each_ref().map(|series| series.train.get("loss"));
        let within = match curves {
            [Some(a), Some(b)] => within_up_to(a, b, tolerance),
            _ => None,
        };
        let loss_difference = diff.as_ref().and_then(|diff| diff.loss_difference);
        let first = diff.as_ref().and_then(|diff| diff.first.clone());
        let outcome = match &diff {
            None => Outcome::Nothing,
            _ if last < original_last => Outcome::Unfinished,
            Some(diff) if diff.first.is_none() => Outcome::Identical,
            // NaN is within nothing.
            _ if loss_difference.is_some_and(|it| it <= tolerance) => Outcome::Within,
            _ => Outcome::Differs,
        };
        Ok(Self {
            original: original_id.clone(),
            run: id,
            status: view.status,
            outcome,
            compared: diff.as_ref().map_or(0, |diff| diff.compared),
            original_last,
            last,
            identical_up_to: diff.map_or(0, |diff| diff.identical_up_to),
            first,
            tolerance,
            loss_difference,
            within_up_to: within,
            programs: reproduces.programs,
            differences,
            same,
        })
    }

    /// Whether the numbers came out again, to the bit if `exact`.
    pub(crate) fn holds(&self, exact: bool) -> bool {
        match self.outcome {
            Outcome::Identical => true,
            Outcome::Within => !exact,
            _ => false,
        }
    }

    fn words(&self) -> String {
        match self.outcome {
            Outcome::Identical => "reproduced to the bit".into(),
            Outcome::Within => format!(
                "reproduced within the tolerance of {}, not to the bit",
                number(self.tolerance)
            ),
            Outcome::Differs => "not reproduced".into(),
            Outcome::Unfinished => format!(
                "not reproduced yet: it is {}, at step {} of the original's {}",
                self.status, self.last, self.original_last
            ),
            Outcome::Nothing => {
                "nothing to compare: the two runs recorded no numbers at the same steps".into()
            }
        }
    }
}

fn last_step(series: &Series) -> u64 {
    let curves = series.train.values();
    let last = curves.filter_map(|curve| curve.last());
    last.map(|(step, _)| *step).max().unwrap_or_default()
}

/// What numbers depend on besides the commit: what differs, and what is the same.
fn circumstances(
    original: (&RunDir, &Manifest),
    reproduction: (&RunDir, &Manifest),
) -> Result<(Vec<Difference>, Vec<&'static str>)> {
    let machines = [
        machine::of_run(original.0, original.1)?,
        machine::of_run(reproduction.0, reproduction.1)?,
    ];
    let mut rows: Vec<(&'static str, String, String)> = Vec::new();
    type Cell = fn(&Machine) -> String;
    let cells: [(&'static str, Cell); 4] = [
        ("processor", |machine| machine.processor.clone()),
        ("ranks", |machine| machine.world_size.to_string()),
        ("threads per rank", |machine| machine.threads.to_string()),
        ("libtorch", |machine| machine.libtorch.clone()),
    ];
    if let [Some(a), Some(b)] = &machines {
        rows.extend(cells.map(|(what, cell)| (what, cell(a), cell(b))));
    }
    let files = |manifest: &Manifest| {
        // The orchestrator computes no number.
        let mut files = manifest.bundle.files.clone();
        files.remove(crate::bundle::ROCKET);
        files
    };
    let (a, b) = (files(original.1), files(reproduction.1));
    if !(a.is_empty() && b.is_empty()) {
        let name = |manifest: &Manifest| {
            let name = manifest.bundle.dir.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let (a, b) = if a == b {
            (String::new(), String::new())
        } else {
            (name(original.1), name(reproduction.1))
        };
        rows.push(("programs", a, b));
    }
    let same = rows.iter().filter(|(_, a, b)| a == b);
    let same = same.map(|(what, ..)| *what).collect();
    let differences = rows
        .into_iter()
        .filter(|(_, a, b)| a != b)
        .map(|(what, original, reproduction)| Difference {
            what,
            original,
            reproduction,
        })
        .collect();
    Ok((differences, same))
}

impl Report for Verdict {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "original      {}", self.original)?;
        writeln!(out, "reproduction  {} ({})", self.run, self.status)?;
        match (&self.first, self.compared) {
            (_, 0) => {}
            (None, compared) => writeln!(
                out,
                "numbers       all {compared} values bit-identical up to step {}",
                self.identical_up_to
            )?,
            (Some(first), compared) => {
                writeln!(
                    out,
                    "numbers       {compared} values, bit-identical up to step {}; at step {} {} is {} and {}",
                    self.identical_up_to, first.step, first.metric, first.a, first.b
                )?;
                if let Some(difference) = self.loss_difference {
                    let up_to = self.within_up_to.unwrap_or_default();
                    writeln!(
                        out,
                        "loss          differs by at most {difference:.1e} of its value; within {} up to step {up_to}",
                        number(self.tolerance)
                    )?;
                }
            }
        }
        for Difference {
            what,
            original,
            reproduction,
        } in &self.differences
        {
            writeln!(
                out,
                "differs       {what}: {original}, and now {reproduction}"
            )?;
        }
        if !self.same.is_empty() {
            writeln!(out, "same          {}", self.same.join(", "))?;
        }
        let unexpected = matches!(self.outcome, Outcome::Within | Outcome::Differs)
            && self.differences.is_empty()
            && !self.same.is_empty();
        if unexpected {
            writeln!(
                out,
                "note          with all of that the same, bit-identical numbers were to be expected"
            )?;
        }
        writeln!(out, "verdict       {}", self.words())
    }
}
