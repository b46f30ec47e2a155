//! Whether the sets of a catalog can be scored as they lie there, before anything runs.

use std::fmt::Write as _;

use serde::Serialize;

use super::catalog::SetKind;
use super::classes::Matched;
use super::error::number_of;
use super::labels::Origin;
use super::{Catalog, EvalError, EvalSet, Labels, Split, Templates, decoder, filelist, published};

/// Side of the pictures that images are decoded to, to see that they can be.
const SIDE: usize = 32;

/// What became of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It can be scored.
    Ready,
    /// Its data is not there.
    Missing,
    /// Its data is there, but not as it must be.
    Malformed,
}

/// A checked set.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// Name in the catalog.
    pub set: String,
    /// What became of it.
    pub state: State,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Images of the split that is scored.
    pub images: Option<usize>,
    /// Images of the split for training.
    pub train_images: Option<usize>,
    /// Number of classes.
    pub classes: Option<usize>,
    /// Texts of all classes together.
    pub texts: Option<usize>,
    /// How folders and labels were matched.
    pub matched: Option<Matched>,
    /// What differs from the published set.
    pub notes: Vec<String>,
}

/// Checks one set. `decode` images of it, evenly taken, are decoded.
///
/// # Errors
/// Only if the catalog has no such set.
pub fn check(
    set: &str,
    catalog: &Catalog,
    labels: &Labels,
    templates: &Templates,
    decode: usize,
) -> Result<Checked, EvalError> {
    catalog.entry(set)?;
    let mut checked = Checked {
        set: set.to_owned(),
        state: State::Ready,
        problem: None,
        images: None,
        train_images: None,
        classes: None,
        texts: None,
        matched: None,
        notes: Vec::new(),
    };
    if let Err(problem) = fill(&mut checked, catalog, labels, templates, decode) {
        checked.state = if is_missing(&problem, catalog, set) {
            State::Missing
        } else {
            State::Malformed
        };
        checked.problem = Some(problem.to_string());
    }
    Ok(checked)
}

/// Whether a set could not be opened because its data is not there.
pub fn is_missing(problem: &EvalError, catalog: &Catalog, set: &str) -> bool {
    match problem {
        EvalError::MissingFolder { .. } | EvalError::MissingFile { .. } => true,
        EvalError::Io { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
        // A variable that is not set.
        EvalError::Form { .. } => catalog.entry(set).is_ok_and(|e| catalog.root(e).is_err()),
        _ => false,
    }
}

fn fill(
    checked: &mut Checked,
    catalog: &Catalog,
    labels: &Labels,
    templates: &Templates,
    decode: usize,
) -> Result<(), EvalError> {
    let name = checked.set.clone();
    let entry = catalog.entry(&name)?;
    let root = catalog.root(entry)?;
    let open = |split| EvalSet::open_split(&name, split, catalog, labels, templates, decoder());
    let set = open(Split::Test)?;
    checked.images = Some(set.samples.len());
    checked.classes = Some(set.class_names.len());
    checked.texts = Some(set.prompts.by_class.iter().map(Vec::len).sum());
    checked.matched = Some(set.matched);
    if entry.kind == SetKind::FileList {
        let list = filelist::read(&root, catalog.split(entry, Split::Test)?)?;
        let missing: Vec<_> = list
            .images
            .iter()
            .filter(|image| !image.is_file())
            .collect();
        if let Some(first) = missing.first() {
            return Err(EvalError::Malformed {
                file: filelist::files(&root, catalog.split(entry, Split::Test)?)[0].clone(),
                problem: format!(
                    "lists {} images of {} that are not there; the first is {}",
                    missing.len(),
                    list.images.len(),
                    first.display()
                ),
            });
        }
    }
    let mut pixels = vec![0.0; 3 * SIDE * SIDE];
    let count = set.samples.len();
    for i in 0..decode.min(count) {
        set.samples
            .pixels(i * count / decode.min(count), SIDE, &mut pixels)?;
    }
    notes(checked, &set, labels, templates)?;
    if entry.train.is_some() || entry.kind == SetKind::Special {
        match open(Split::Train) {
            Ok(train) => checked.train_images = Some(train.samples.len()),
            Err(error) if is_missing(&error, catalog, &name) => checked
                .notes
                .push("there is no training split, which only linear probes need".to_owned()),
            Err(error) => return Err(error),
        }
        let published = published::facts(&name).map(|facts| facts.images.train);
        if let (Some(found), Some(published)) = (checked.train_images, published)
            && found != published
        {
            checked.notes.push(format!(
                "{} for training; the published set has {published}",
                number_of(found, "image", "images")
            ));
        }
    }
    Ok(())
}

fn notes(
    checked: &mut Checked,
    set: &EvalSet,
    labels: &Labels,
    templates: &Templates,
) -> Result<(), EvalError> {
    let notes = &mut checked.notes;
    if let Some(facts) = published::facts(&set.name)
        && facts.images.test != set.samples.len()
    {
        notes.push(format!(
            "{}; the published set has {}",
            number_of(set.samples.len(), "image", "images"),
            facts.images.test
        ));
    }
    let classes = set.class_names.len();
    let mut images = vec![0_usize; classes];
    (0..set.samples.len()).for_each(|i| images[set.samples.target(i)] += 1);
    let empty = images.iter().filter(|&&n| n == 0).count();
    if empty > 0 {
        notes.push(format!("{empty} of {classes} classes have no image"));
    }
    if set.matched == Matched::SortedOrder {
        notes.push(
            "labels are given to folders by sorted order, since the folders bear other names"
                .to_owned(),
        );
    }
    let (_, origin) = labels.of(&set.name)?;
    if let (Origin::File(file), Some(_)) = (&origin, published::facts(&set.name)) {
        notes.push(format!("class names from {}", file.display()));
    }
    let (prompts, origin) = templates.of(&set.name)?;
    if let Origin::File(file) = &origin {
        let own = Templates::published(&set.name).is_some_and(|own| own == prompts);
        let other = published::names().find(|name| {
            *name != set.name && Templates::published(name).is_some_and(|of| of == prompts)
        });
        match other {
            Some(other) if !own => notes.push(format!(
                "prompts from {}, which are those published for {other}",
                file.display()
            )),
            _ if published::facts(&set.name).is_some() => {
                notes.push(format!("prompts from {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// One line per set, and below it what is to be said of it.
#[must_use]
pub fn table(checked: &[Checked]) -> String {
    let number = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let width = checked
        .iter()
        .map(|set| set.set.len())
        .max()
        .unwrap_or(0)
        .max(3);
    let mut out = format!(
        "{:<width$}  {:<9}  {:>8}  {:>8}  {:>7}  {:>7}\n",
        "set", "state", "images", "train", "classes", "texts"
    );
    for set in checked {
        let state = match set.state {
            State::Ready => "ready",
            State::Missing => "missing",
            State::Malformed => "malformed",
        };
        let _ = writeln!(
            out,
            "{:<width$}  {:<9}  {:>8}  {:>8}  {:>7}  {:>7}",
            set.set,
            state,
            number(set.images),
            number(set.train_images),
            number(set.classes),
            number(set.texts)
        );
        for line in set.problem.iter().flat_map(|problem| problem.lines()) {
            let _ = writeln!(out, "    {line}");
        }
        for note in &set.notes {
            let _ = writeln!(out, "    note: {note}");
        }
    }
    let of = |state| checked.iter().filter(|set| set.state == state).count();
    let _ = writeln!(
        out,
        "{} ready, {} missing, {} malformed",
        of(State::Ready),
        of(State::Missing),
        of(State::Malformed)
    );
    out
}
