//! Which data set a command is about: an experiment's, or one that is described by flags.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment};

/// The data set.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// Overrides, as for 'rocket submit'.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Without an experiment: the format, as in data.dataset.
    #[arg(long, value_name = "FORMAT")]
    dataset: Option<String>,
    /// Without an experiment: folder of the images, as in data.root.
    #[arg(long, value_name = "FOLDER", requires = "dataset")]
    root: Option<PathBuf>,
    /// Without an experiment: file of the captions, as in data.metadata.
    #[arg(long, value_name = "FILE", requires = "dataset")]
    metadata: Option<PathBuf>,
}

impl Subject {
    /// The experiment that was named; one with the reference's defaults around a data set that was
    /// described.
    ///
    /// # Errors
    /// All mistakes of the experiment, or if there is none or one too many.
    pub(super) fn experiment(&self, file: Option<&PathBuf>) -> Result<Experiment> {
        let usage = |what: &str| {
            Error::new(ExitKind::Usage, what)
                .hint("name an experiment, or give --dataset with --root and --metadata, as far as the format has them")
        };
        match (file, &self.dataset) {
            (Some(_), Some(_)) => {
                Err(usage("an experiment and --dataset exclude each other").into())
            }
            (None, None) => Err(usage("there is no data set to check").into()),
            (Some(path), None) => read(path, &self.set),
            (None, Some(dataset)) => {
                let paths = [("root", &self.root), ("metadata", &self.metadata)];
                let paths = paths.into_iter().filter_map(|(key, path)| {
                    let path = path.as_ref()?.to_string_lossy().into_owned();
                    // JSON's strings are YAML's.
                    let path = serde_json::Value::String(path);
                    Some(format!("data.{key}={path}"))
                });
                let given = std::iter::once(format!("data.dataset={dataset}")).chain(paths);
                let overrides: Vec<String> = given.chain(self.set.iter().cloned()).collect();
                parse("the flags", FRAME, &overrides)
            }
        }
    }
}

/// Reads an experiment.
///
/// # Errors
/// If there is no such file, or all mistakes in it.
pub(super) fn read(path: &Path, overrides: &[String]) -> Result<Experiment> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::io("read the experiment", path, error).with_kind(ExitKind::Experiment)
    })?;
    parse(&path.display().to_string(), &text, overrides)
}

/// What stands around a data set that is described by flags.
const FRAME: &str = "name: check\nmodel: {name: CL2L_R50_CL2L}\ntrain: {epochs: 1}\n";

fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Experiment> {
    experiment::parse(name, text, overrides).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Error::new(ExitKind::Experiment, lines.join("\nerror: ")).into()
    })
}
