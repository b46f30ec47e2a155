//! The experiment: what a researcher writes, validated and with its defaults filled.
//!
//! [`parse`] reads a file with its overrides and gives either an [`Experiment`] or every mistake with
//! its place. The serde structs of `sections.rs` and `cluster.rs` are the only description of the keys: names, types
//! and choices in messages are learnt from them.

mod after;
mod bytes;
mod cluster;
mod cluster_rules;
mod de;
mod diagnostic;
mod every;
mod limits;
mod lists;
mod model_rules;
mod names;
mod notify;
mod options;
mod profile;
mod published;
mod ranges;
mod resolved;
mod rules;
mod schema;
mod sections;
mod settings;
mod sweep;
mod sweep_read;
mod track;
mod track_rules;
mod tree;
mod vision;

pub use after::After;
pub use bytes::Bytes;
pub use cluster::{BackendKind, Cluster, DeviceKind};
pub use diagnostic::Diagnostic;
pub use every::Every;
pub use limits::{Memory, TimeLimit};
pub use lists::{DataList, named as named_list};
pub use names::all_names;
pub use notify::{Notify, NotifyEvent};
pub use options::{DEFAULT_SECRETS, Flag, MailType};
pub use profile::Here;
pub use published::{PUBLISHED_SETS, set_name_problem};
#[doc(hidden)]
pub use ranges::ranged_keys;
pub use resolved::{PATHS, RECIPE_SCHEMA};
pub use schema::all_keys;
pub use sections::*;
pub use settings::{Settings, SettingsFile};
pub use sweep::{Point, Reading, Sweep, parse_any, point_identity};
pub use track::{DEFAULT_TRACKING_NAME, Mlflow, Track, Wandb, WandbMode};
pub use vision::{
    CONVNEXT_STRIDE, ConvNextArch, ConvNextDims, NAMED_IMAGE_SIZE, VISION_NAMES, Vision, VitArch,
    VitDims,
};

use serde::Deserialize;

use diagnostic::{Place, Report};
use tree::{Entry, Node, Value};

/// Reads an experiment. `path` is the file as the user named it, for messages alone; `overrides` are
/// `key=value` texts (`optim.lr=1e-3`), whose values are read as YAML and win over the file, the later
/// over the earlier. `$X` and `${X}` in the paths of `data` are filled in from the environment.
///
/// If both `train.epochs` and `train.max_steps` are given, `max_steps` decides the length.
///
/// # Errors
/// Every mistake that could be found, in the order of the file, then of the overrides.
pub fn parse(path: &str, text: &str, overrides: &[String]) -> Result<Experiment, Vec<Diagnostic>> {
    parse_with(path, text, overrides, &|name| std::env::var(name).ok())
}

/// As [`parse`], with the environment given.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    path: &str,
    text: &str,
    overrides: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Experiment, Vec<Diagnostic>> {
    let context = Context {
        environment,
        settings: None,
    };
    context
        .parse(path, text, overrides)
        .map(|(experiment, _)| experiment)
}

/// As [`parse_with`], with what the settings' profile says filled in under what the experiment and its
/// overrides say; and the profile's name.
///
/// # Errors
/// As [`parse`].
pub fn parse_under(
    path: &str,
    text: &str,
    overrides: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
    settings: &Settings,
    here: &Here,
) -> Result<(Experiment, Option<String>), Vec<Diagnostic>> {
    let context = Context {
        environment,
        settings: Some((settings, here)),
    };
    context.parse(path, text, overrides)
}

/// What an experiment is read in.
#[derive(Clone, Copy)]
struct Context<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    settings: Option<(&'a Settings, &'a Here)>,
}

impl Context<'_> {
    fn parse(
        &self,
        path: &str,
        text: &str,
        overrides: &[String],
    ) -> Result<(Experiment, Option<String>), Vec<Diagnostic>> {
        let mut report = Report::default();
        match self.read(text, overrides, &mut report) {
            Some(read) if report.is_empty() => Ok(read),
            _ => {
                let names = self.settings.map(|(settings, _)| settings.names());
                let names = names.unwrap_or_default();
                Err(report.into_diagnostics(path, overrides, &names))
            }
        }
    }

    fn read(
        &self,
        text: &str,
        overrides: &[String],
        report: &mut Report,
    ) -> Option<(Experiment, Option<String>)> {
        let mut root = tree::root(text, report)?;
        for (index, text) in overrides.iter().enumerate() {
            apply_override(&mut root, index + 1, text, report);
        }
        self.finish(root, report)
    }

    /// From the tree with its overrides to the experiment.
    fn finish(&self, mut root: Node, report: &mut Report) -> Option<(Experiment, Option<String>)> {
        let profile = self
            .settings
            .and_then(|(settings, here)| settings.apply(&mut root, here, report));
        let written = root.clone();
        schema::clean_experiment(&mut root, report);
        if root.entry("name").is_none()
            && let Value::Map(entries) = &mut root.value
        {
            // Judged by the rules; the rest can be read and judged as well.
            let place = Place::default();
            let value = Value::Scalar {
                text: "unnamed".to_owned(),
                plain: true,
            };
            entries.push(Entry {
                key: "name".to_owned(),
                place,
                node: Node { place, value },
            });
        }
        match Experiment::deserialize(&root) {
            Ok(mut experiment) => {
                rules::check(&mut experiment, &written, report, self.environment);
                Some((experiment, profile))
            }
            Err(mistake) => {
                // Each key was read by itself before; this is a rule between keys of one section.
                report.add(mistake.place.unwrap_or_default(), mistake.text);
                None
            }
        }
    }
}

/// Puts `key=value` into the tree. `origin` counts the overrides from 1.
fn apply_override(root: &mut Node, origin: usize, text: &str, report: &mut Report) {
    let place = Place {
        origin,
        ..Place::default()
    };
    let Some((key, value)) = text.split_once('=') else {
        report.add(
            place,
            "an override has the form key=value, such as optim.lr=1e-3",
        );
        return;
    };
    let key = key.trim();
    if key.is_empty() || key.split('.').any(str::is_empty) {
        let message =
            format!("'{key}' is not a key; write section.key=value, such as optim.lr=1e-3");
        report.add(place, message);
        return;
    }
    let mut node = match tree::load(value) {
        Ok(node) if value.trim().is_empty() => Node {
            value: Value::Scalar {
                text: String::new(),
                plain: true,
            },
            ..node
        },
        Ok(node) => node,
        Err((_, message)) => {
            report.add(place, message);
            return;
        }
    };
    node.relocate(place);
    node.report_duplicates(key, report);
    if let Err(walked) = root.set(key, place, node) {
        report.add(
            place,
            format!("'{walked}' holds a value, not a group of keys"),
        );
    }
}
