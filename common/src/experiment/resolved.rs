//! The resolved form: stored, shown, hashed and run.

use std::path::Path;

use serde_json::{Map, Value};

use super::cluster::Cluster;
use super::notify::Notify;
use super::rules::TRAINING;
use super::sections::{Augment, Data, Eval, Experiment, Model, Optim, Text, Train};
use super::track::{Mlflow, Track, Wandb};
use super::vision::Vision;
use crate::checkpoint::sha256_hex;
use crate::error::{Error, Result};
use crate::exit::ExitKind;

/// Version of what [`Experiment::recipe_hash`] covers. It rises when a default changes, a key is
/// renamed, or the same keys begin to mean other numbers.
pub const RECIPE_SCHEMA: u32 = 1;

/// Keys that decide where data lie, how long things take or what is kept, and no number of training.
const NOT_RECIPE: [&str; 17] = [
    "/data/root",
    "/data/metadata",
    "/data/workers",
    "/data/max_bad",
    "/data/index",
    "/data/read_timeout_seconds",
    "/train/print_freq",
    // Where activations are recomputed; that they are, `checkpoint_grad`, has counted from the first.
    "/train/checkpoint_segments",
    "/train/checkpoint_memory",
    "/train/checkpoint_every",
    "/train/keep_last",
    "/train/keep_best",
    "/train/collective_timeout_minutes",
    "/name",
    "/track",
    "/notify",
    "/eval",
];

/// Whether a dotted key is covered by [`Experiment::recipe_hash`].
pub(super) fn decides_numbers(key: &str) -> bool {
    let pointer = format!("/{}", key.replace('.', "/"));
    let under = |group: &str| {
        pointer
            .strip_prefix(group)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !under("/cluster") && !NOT_RECIPE.into_iter().any(under)
}

/// Keys that hold paths in which `$NAME` stands for a variable, and `$$` for a dollar sign.
pub const PATHS: [&str; 5] = [
    "data.root",
    "data.metadata",
    "data.index",
    "model.init_text_encoder",
    "train.resume",
];

impl Experiment {
    /// An experiment of a name with every default, which names no model and no data yet.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            seed: 0,
            model: Model::default(),
            data: Data::default(),
            augment: Augment::default(),
            text: Text::default(),
            optim: Optim::default(),
            train: Train::default(),
            eval: Eval::default(),
            cluster: Cluster::default(),
            track: Track::default(),
            notify: Notify::default(),
            command: None,
        }
    }

    /// The resolved experiment as YAML: every key with its value, always in the same order.
    /// Reading it with [`Experiment::from_resolved`] or [`super::parse`] gives the same experiment.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut value = serde_yaml::to_value(self).unwrap_or_default();
        if let Some(map) = value.as_mapping_mut() {
            let unused = |key: &str| {
                (self.command.is_some() && TRAINING.contains(&key))
                    || (key == "track" && self.track == Track::default())
                    || (key == "notify" && self.notify == Notify::default())
            };
            map.retain(|key, _| key.as_str().is_none_or(|key| !unused(key)));
            // A dollar sign that is meant stays one when the file is submitted again.
            for (section, key) in PATHS.iter().filter_map(|path| path.split_once('.')) {
                let data = map.get_mut(section).and_then(|data| data.get_mut(key));
                if let Some(serde_yaml::Value::String(path)) = data {
                    *path = path.replace('$', "$$");
                }
            }
        }
        // A tree of texts, numbers, lists and maps: YAML can say all of it.
        serde_yaml::to_string(&value).unwrap_or_default()
    }

    /// The same experiment as a person would write it: the keys that differ from their defaults, in order.
    #[must_use]
    pub fn to_short_yaml(&self) -> String {
        use serde_yaml::Value;

        let read = |text: &str| serde_yaml::from_str(text).unwrap_or(Value::Null);
        let mut short: Value = read(&self.to_yaml());
        let named = Self::named("");
        let mut defaults = read(&named.to_yaml());
        if let Some(map) = defaults.as_mapping_mut() {
            // Left out where they are the default as a whole.
            let value = |section: &Track| serde_yaml::to_value(section).unwrap_or(Value::Null);
            map.insert("track".into(), value(&named.track));
        }
        if let Some(map) = short.as_mapping_mut() {
            for (section, keys) in map.iter_mut() {
                let default = defaults.get(section);
                let (Some(keys), Some(default)) = (keys.as_mapping_mut(), default) else {
                    continue;
                };
                keys.retain(|key, value| default.get(key) != Some(value));
            }
            let trackers = [
                ("wandb", serde_yaml::to_value(Wandb::default())),
                ("mlflow", serde_yaml::to_value(Mlflow::default())),
            ];
            for (key, default) in trackers {
                let tracker = map.get_mut("track").and_then(|track| track.get_mut(key));
                let default = default.unwrap_or(Value::Null);
                if let Some(Value::Mapping(keys)) = tracker {
                    keys.retain(|key, value| default.get(key) != Some(value));
                    if keys.is_empty() {
                        map["track"][key] = true.into();
                    }
                }
            }
            let parts = (self.model.base, &self.model.vision, self.model.child);
            if let (Some(base), Some(Vision::Named(vision)), Some(child)) = parts
                && let Some(Value::Mapping(model)) = map.get_mut("model")
            {
                let name = format!("{}_{vision}_{}", base.name(), child.name());
                model.retain(|key, _| {
                    !["base", "vision", "child"].contains(&key.as_str().unwrap_or_default())
                });
                let rest = std::mem::take(model);
                model.insert("name".into(), name.into());
                model.extend(rest);
            }
            let idle = |value: &Value| value.as_mapping().is_some_and(|keys| keys.is_empty());
            let zero = |value: &Value| value.as_u64() == Some(0);
            map.retain(|key, value| !idle(value) && (key != "seed" || !zero(value)));
        }
        serde_yaml::to_string(&short).unwrap_or_default()
    }

    /// Reads what [`Experiment::to_yaml`] wrote.
    ///
    /// # Errors
    /// Kind [`ExitKind::Experiment`]: it was written by another version, or changed by hand.
    pub fn from_resolved(text: &str) -> Result<Self> {
        // Validated again: a file changed by hand must not get further than this.
        let path = "experiment.yaml";
        super::parse_with(path, text, &[], &|_| None).map_err(|diagnostics| {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            Error::new(ExitKind::Experiment, lines.join("\n"))
                .hint("a run's experiment is not to be edited; submit a changed copy instead")
        })
    }

    /// Reads a run's `experiment.yaml`.
    ///
    /// # Errors
    /// Kind [`ExitKind::Experiment`]: it cannot be read, or is not a resolved experiment.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::io("read", path, error).with_kind(ExitKind::Experiment))?;
        Self::from_resolved(&text)
    }

    /// Side of the strong views in pixels.
    #[must_use]
    pub fn strong_view_size(&self) -> i64 {
        self.augment
            .multicrop_resize
            .unwrap_or_else(|| self.image_size())
    }

    /// Side of the weak view, and of images in evaluation, in pixels.
    #[must_use]
    pub fn image_size(&self) -> i64 {
        let vision = self.model.vision.as_ref();
        vision.map_or(super::NAMED_IMAGE_SIZE, super::Vision::image_size)
    }

    /// Samples of an optimiser step over all ranks: W * B * `update_freq`.
    #[must_use]
    pub fn global_batch(&self) -> u64 {
        u64::from(self.cluster.world_size())
            .saturating_mul(self.train.batch_size.unsigned_abs())
            .saturating_mul(self.train.update_freq)
    }

    /// `<schema>-<16 hex>`, equal for experiments that are meant to give equal numbers: the same
    /// model, data set, views, optimiser, lengths, seed and number of ranks. Paths, spacings of
    /// checkpoints and progress, evaluation and the place where it runs do not count. Values equal to
    /// their defaults are left out, so that a key added later changes no hash.
    #[must_use]
    pub fn recipe_hash(&self) -> String {
        let canonical = sorted(&self.recipe()).to_string();
        let digest = sha256_hex(canonical.as_bytes());
        format!("{RECIPE_SCHEMA}-{}", digest.get(..16).unwrap_or_default())
    }

    /// What [`Experiment::recipe_hash`] covers: only values that differ from their defaults.
    #[must_use]
    pub fn recipe(&self) -> Value {
        let mut canonical = self.clone();
        canonical.cluster = Cluster::default();
        if canonical.augment.multicrop_resize == Some(self.image_size()) {
            canonical.augment.multicrop_resize = None;
        }
        if let Some(Vision::Vit(dims)) = &mut canonical.model.vision
            && dims.hidden == Some(dims.width.saturating_mul(4))
        {
            dims.hidden = None;
        }
        let json = |experiment: &Self| serde_json::to_value(experiment).unwrap_or_default();
        let defaults = json(&Self::named(""));
        let mut value = json(&canonical);
        for pointer in NOT_RECIPE {
            if let Some((parent, key)) = pointer.rsplit_once('/')
                && let Some(Value::Object(parent)) = value.pointer_mut(parent)
            {
                parent.remove(key);
            }
        }
        let mut recipe = difference(&value, &defaults).unwrap_or_else(|| Value::Object(Map::new()));
        // Where ranks run does not matter; how many do makes the batch.
        recipe["world_size"] = self.cluster.world_size().into();
        recipe
    }
}

/// What of a value differs from its defaults; `None` if nothing does.
fn difference(value: &Value, defaults: &Value) -> Option<Value> {
    match (value, defaults) {
        (Value::Object(value), Value::Object(defaults)) => {
            let none = Value::Null;
            let different = value.iter().filter_map(|(key, value)| {
                let default = defaults.get(key).unwrap_or(&none);
                Some((key.clone(), difference(value, default)?))
            });
            let different: Map<String, Value> = different.collect();
            (!different.is_empty()).then_some(Value::Object(different))
        }
        _ => (value != defaults).then(|| value.clone()),
    }
}

/// Keys in alphabetical order, so that the order of fields is free to change.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries.into_iter();
            Value::Object(
                entries
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
