//! From the file that a user names to the resolved experiment.

use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Data, Dataset, Diagnostic, Experiment, Reading};

use crate::settings::Configuration;

/// Reads and resolves an experiment file with `--set` overrides, over what the settings' profile for
/// its cluster says; and the name of that profile.
///
/// # Errors
/// Every fault of the file at once, each as an `error:` line of its own.
pub(crate) fn load(path: &Path, sets: &[String]) -> Result<(Experiment, Option<String>)> {
    resolve(path, &read_text(path)?, sets)
}

/// The text of an experiment file.
///
/// # Errors
/// It cannot be read.
fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let invalid = error.kind() == std::io::ErrorKind::InvalidData;
        let error = Error::io("read the experiment", path, error);
        if invalid {
            error.hint("an experiment is a YAML file in UTF-8")
        } else {
            error
        }
    })
}

/// As [`load`], of a text that `path` is named for in messages and by whose folder settings are found.
///
/// # Errors
/// Every fault at once, each as an `error:` line of its own.
pub(crate) fn resolve(
    path: &Path,
    text: &str,
    sets: &[String],
) -> Result<(Experiment, Option<String>)> {
    let Configuration { settings, here } = around(path)?;
    let shown = path.display().to_string();
    experiment::parse_under(&shown, text, sets, &environment, &settings, &here).map_err(faults)
}

/// A file that may hold a sweep, with what it is read in.
pub(crate) struct Written {
    shown: String,
    pub(crate) text: String,
    pub(crate) sets: Vec<String>,
    configuration: Configuration,
}

impl Written {
    /// A file's own text.
    ///
    /// # Errors
    /// It cannot be read, or the settings are wrong.
    pub(crate) fn of_file(path: &Path, sets: Vec<String>) -> Result<Self> {
        Self::new(path, read_text(path)?, sets)
    }

    /// A text that `path` is named for in messages.
    ///
    /// # Errors
    /// The settings are wrong.
    pub(crate) fn new(path: &Path, text: String, sets: Vec<String>) -> Result<Self> {
        Ok(Self {
            shown: path.display().to_string(),
            text,
            sets,
            configuration: around(path)?,
        })
    }

    /// One experiment or a sweep.
    ///
    /// # Errors
    /// Every fault at once, each as an `error:` line of its own.
    pub(crate) fn read(&self) -> Result<Reading<'_>> {
        let Configuration { settings, here } = &self.configuration;
        let Self {
            shown, text, sets, ..
        } = self;
        experiment::parse_any(shown, text, sets, &environment, settings, here).map_err(faults)
    }
}

fn around(path: &Path) -> Result<Configuration> {
    let folder = path.canonicalize().ok();
    let folder = folder.as_deref().and_then(Path::parent);
    Configuration::around(&[Path::new("."), folder.unwrap_or(Path::new("."))])
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn faults(faults: Vec<Diagnostic>) -> Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Error::new(ExitKind::Experiment, lines.join("\nerror: "))
}

/// The same experiment with the paths of its data and of what it starts from absolute: relative ones are
/// meant from the top of the repository. What the evaluation reads from the pinned tree stays relative.
pub(crate) fn with_absolute_paths(experiment: &Experiment, root: &Path) -> Experiment {
    let mut experiment = experiment.clone();
    let data = [&mut experiment.data.root, &mut experiment.data.metadata];
    let starts = [
        &mut experiment.data.index,
        &mut experiment.train.resume,
        &mut experiment.model.init_text_encoder,
    ];
    for path in data.into_iter().chain(starts.into_iter().flatten()) {
        *path = absolute(path, root);
    }
    experiment
}

/// Between the shards of a WebDataset that a pattern alone cannot name.
const SHARDS: &str = "::";

/// A path, or each of several that are joined: as `merged_opendata` has them, which may have their formats
/// before them, or as shards are.
fn absolute(path: &Path, root: &Path) -> PathBuf {
    let several = |joint: &'static str| path.to_str().filter(|text| text.contains(joint));
    for joint in [Dataset::JOINT, SHARDS] {
        if let Some(text) = several(joint) {
            let parts = text.split(joint);
            let parts = parts.map(|part| absolute(Path::new(part), root).display().to_string());
            return parts.collect::<Vec<_>>().join(joint).into();
        }
    }
    if let Some((Some(format), path)) = path.to_str().map(experiment::named_list) {
        let path = absolute(Path::new(path), root);
        return format!("{}={}", format.name(), path.display()).into();
    }
    let given = !path.as_os_str().is_empty() && path.is_relative();
    if given { root.join(path) } else { path.into() }
}

/// Checks that the lists and the folders of the data are there.
fn check_lists(data: &Data) -> Result<()> {
    let lists = data
        .lists()
        .map_err(|wrong| Error::new(ExitKind::Experiment, wrong))?;
    for one in lists {
        if one.dataset.has_root() {
            check_path("data.root", &one.root, true)?;
        }
        let given = !one.list.as_os_str().is_empty();
        if one.dataset.has_list() || (one.dataset == Dataset::Imagefolder && given) {
            check_path("data.metadata", &one.list, false)?;
        }
    }
    Ok(())
}

fn check_path(key: &str, path: &Path, folder: bool) -> Result<()> {
    let what = if folder {
        "the folder of the images"
    } else {
        "the file of the captions"
    };
    if path.as_os_str().is_empty() {
        return Err(Error::new(
            ExitKind::Experiment,
            format!("'{key}', {what}, is not set"),
        ));
    }
    if (folder && path.is_dir()) || (!folder && path.is_file()) {
        return Ok(());
    }
    let problem = match (path.exists(), folder) {
        (false, _) => "is not there",
        (true, true) => "is not a folder",
        (true, false) => "is not a file",
    };
    Err(Error::new(
        ExitKind::Data,
        format!("'{}' ({key}), {what}, {problem}", path.display()),
    )
    .hint("relative paths are meant from the top of the repository"))
}

/// Checks that the data is there, and what the run starts from, while somebody is looking.
///
/// # Errors
/// Kind [`ExitKind::Data`]: which key names what is not there.
pub(crate) fn check_data(experiment: &Experiment) -> Result<()> {
    if experiment.command.is_some() {
        return Ok(());
    }
    let data = &experiment.data;
    check_lists(data)?;
    if let Some(index) = data.index.as_ref().filter(|index| !index.is_file()) {
        return Err(Error::new(
            ExitKind::Data,
            format!(
                "'{}' (data.index), the index of the captions, is not there",
                index.display()
            ),
        )
        .hint("make it: rocket-worker data prepare EXPERIMENT"));
    }
    let starts = [
        ("train.resume", &experiment.train.resume),
        (
            "model.init_text_encoder",
            &experiment.model.init_text_encoder,
        ),
    ];
    for (key, path) in starts {
        if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
            return Err(Error::new(
                ExitKind::Data,
                format!(
                    "'{}' ({key}), the checkpoint to start from, is not there",
                    path.display()
                ),
            )
            .hint("relative paths are meant from the top of the repository"));
        }
    }
    Ok(())
}
