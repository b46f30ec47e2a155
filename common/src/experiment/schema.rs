//! Which keys there are. Learnt from the serde structs themselves, so that nothing can drift from them.

use serde::de::{DeserializeOwned, Deserializer, Visitor};

use super::cluster::Cluster;
use super::de::Mistake;
use super::diagnostic::Report;
use super::notify::Notify;
use super::sections::{Augment, Data, Eval, Experiment, Model, Optim, Text, Train};
use super::track::{Mlflow, Track, Wandb};
use super::tree::{Entry, Node, Value, join};
use super::vision::{ConvNextDims, VitDims};
use crate::run_dir::suggest;

/// Keys of a struct, in order.
#[must_use]
pub(crate) fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Capture) {
        Err(Captured(keys)) => keys,
        // Only a type that is no struct could get here.
        Ok(_) => &[],
    }
}

/// A group of keys at the top of an experiment.
struct Section {
    name: &'static str,
    keys: fn() -> &'static [&'static str],
    clean: fn(&mut Node, &str, &mut Report),
}

macro_rules! sections {
    ($($name:literal $type:ty,)*) => {
        &[$(Section { name: $name, keys: keys::<$type>, clean: clean::<$type> },)*]
    };
}

/// Every section. A test compares them with the fields of [`Experiment`].
const SECTIONS: &[Section] = sections! {
    "model" Model,
    "data" Data,
    "augment" Augment,
    "text" Text,
    "optim" Optim,
    "train" Train,
    "eval" Eval,
    "cluster" Cluster,
    "track" Track,
    "notify" Notify,
};

/// Keys outside of sections.
const LONE_KEYS: [&str; 3] = ["name", "seed", "command"];

/// Flags of CLIP-rocket that have no key, without their dashes, and what to do instead.
const ELSEWHERE: [(&str, &str); 8] = [
    (
        "disable_amp",
        "write 'precision: float32' in 'train' instead",
    ),
    (
        "attn_layer",
        "attention is always the fastest that the device has",
    ),
    (
        "no_share_token",
        "it has no effect in CLIP-rocket; remove it",
    ),
    ("ssl_scale", "it has no effect in CLIP-rocket; remove it"),
    ("ssl_temp", "it has no effect in CLIP-rocket; remove it"),
    ("semi_paired", UNPAIRED),
    ("unpaired_ratio", UNPAIRED),
    ("metadata_unpaired", UNPAIRED),
];
const UNPAIRED: &str = "unpaired images are not trained on: in CLIP-rocket they are joined to batches whose captions they outnumber, which fails";

/// Every dotted key of an experiment, in order: `name`, `seed`, `model.name`, ...
#[must_use]
pub fn all_keys() -> Vec<String> {
    let mut all = Vec::new();
    for key in keys::<Experiment>() {
        match SECTIONS.iter().find(|section| section.name == *key) {
            Some(section) => all.extend((section.keys)().iter().map(|inner| join(key, inner))),
            None => all.push((*key).to_owned()),
        }
    }
    all
}

/// Reports unknown keys and values of a wrong type, every one, and takes them out of the tree: what
/// stays can be read into an [`Experiment`], but for a missing name.
pub(crate) fn clean_experiment(root: &mut Node, report: &mut Report) {
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    entries.retain_mut(|entry| {
        if let Some(section) = SECTIONS.iter().find(|section| section.name == entry.key) {
            (section.clean)(&mut entry.node, section.name, report);
            return true;
        }
        if LONE_KEYS.contains(&entry.key.as_str()) {
            return keep_if_readable::<Experiment>(entry, "", report);
        }
        if entry.key == "sweep" {
            report.add(
                entry.place,
                "'sweep' makes many experiments of this one, and here a single one is wanted; 'rocket submit' takes all of them",
            );
        } else {
            report.add(entry.place, unknown("", &entry.key, keys::<Experiment>()));
        }
        false
    });
}

/// Reads a group of keys that was cleaned.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Mistake> {
    T::deserialize(node)
}

/// Cleans one group of keys that is read into `T`.
pub(crate) fn clean<T: DeserializeOwned>(node: &mut Node, path: &str, report: &mut Report) {
    if node.is_null() {
        node.value = Value::Map(Vec::new());
    }
    let place = node.place;
    let Value::Map(entries) = &mut node.value else {
        report.add(place, format!("'{path}' must be a group of keys"));
        *node = Node::empty_map(place);
        return;
    };
    let known = keys::<T>();
    entries.retain_mut(|entry| {
        if !known.contains(&entry.key.as_str()) {
            report.add(entry.place, unknown(path, &entry.key, known));
            return false;
        }
        if path == "model" && entry.key == "vision" && matches!(entry.node.value, Value::Map(_)) {
            return clean_dims(entry, report);
        }
        if path == "track" && matches!(entry.node.value, Value::Map(_)) {
            match entry.key.as_str() {
                "wandb" => clean::<Wandb>(&mut entry.node, "track.wandb", report),
                "mlflow" => clean::<Mlflow>(&mut entry.node, "track.mlflow", report),
                _ => {}
            }
        }
        if matches!(entry.node.value, Value::Map(_)) {
            clean_each::<T>(entry, path, report);
        }
        keep_if_readable::<T>(entry, path, report)
    });
}

/// Cleans the dimensions of a vision tower. Says whether they are complete.
fn clean_dims(entry: &mut Entry, report: &mut Report) -> bool {
    const PATH: &str = "model.vision";
    let arch = entry.node.get("arch");
    let text = arch.and_then(|node| match &node.value {
        Value::Scalar { text, .. } => Some(text.as_str()),
        _ => None,
    });
    match (arch, text) {
        (Some(_), Some("convnext")) => clean_complete::<ConvNextDims>(entry, PATH, &[], report),
        (Some(node), found) if found != Some("vit") => {
            let found = found.unwrap_or("a group");
            let meant = suggest(found, ["vit", "convnext"]);
            let meant = meant.map(|name| format!("; did you mean '{name}'?"));
            let message = format!(
                "'{PATH}.arch' must be 'vit' or 'convnext', not '{found}'{}",
                meant.unwrap_or_default()
            );
            report.add(node.place, message);
            false
        }
        _ => clean_complete::<VitDims>(entry, PATH, &["hidden"], report),
    }
}

/// Cleans a group of which every key must be there but for those that are `optional`.
fn clean_complete<T: DeserializeOwned>(
    entry: &mut Entry,
    path: &str,
    optional: &[&str],
    report: &mut Report,
) -> bool {
    let keys_of = |entry: &Entry| -> Vec<String> {
        let entries = entry.node.entries();
        entries.iter().map(|one| one.key.clone()).collect()
    };
    let needed = |key: &&&str| !optional.contains(*key);
    let given = keys_of(entry);
    clean::<T>(&mut entry.node, path, report);
    for key in keys::<T>().iter().filter(needed) {
        if !given.iter().any(|given| given == key) {
            report.add(entry.place, format!("'{path}' lacks the key '{key}'"));
        }
    }
    let left = keys_of(entry);
    let mut all = keys::<T>().iter().filter(needed);
    all.all(|key| left.iter().any(|left| left == key))
}

/// Takes the values of a wrong type out of a group whose keys are free, such as `cluster.env`.
fn clean_each<T: DeserializeOwned>(entry: &mut Entry, path: &str, report: &mut Report) {
    let group = entry.clone();
    let Value::Map(inner) = &mut entry.node.value else {
        return;
    };
    let alone = |one: &Entry| {
        let mut group = group.clone();
        group.node.value = Value::Map(vec![one.clone()]);
        group
    };
    // If even the empty group is wrong, it is said once, of the whole.
    let mut nothing = group.clone();
    nothing.node.value = Value::Map(Vec::new());
    if keep_if_readable::<T>(&nothing, path, &mut Report::default()) {
        inner.retain(|one| keep_if_readable::<T>(&alone(one), path, report));
    }
}

/// Tries one key by itself: whatever is wrong with the others, this one is judged.
fn keep_if_readable<T: DeserializeOwned>(entry: &Entry, path: &str, report: &mut Report) -> bool {
    let alone = Node {
        place: entry.node.place,
        value: Value::Map(vec![entry.clone()]),
    };
    match T::deserialize(&alone) {
        Ok(_) => true,
        // The others are missing here by intent.
        Err(mistake) if mistake.missing.is_some_and(|key| key != entry.key) => true,
        Err(Mistake {
            place,
            within,
            text,
            ..
        }) => {
            let key = format!("{path}{within}");
            let key = key.strip_prefix('.').unwrap_or(&key);
            report.add(place.unwrap_or(entry.place), format!("'{key}' {text}"));
            false
        }
    }
}

/// The sentence about a key that does not exist.
fn unknown(path: &str, key: &str, known: &[&'static str]) -> String {
    let place = match path {
        "" => String::new(),
        _ => format!(" in '{path}'"),
    };
    let said = format!("unknown key '{key}'{place}");
    if key == "<<" {
        return format!("{said}; merge keys are not read, write the keys out");
    }
    let plain = key.replace('-', "_");
    let elsewhere = ELSEWHERE.into_iter().find(|(flag, _)| *flag == plain);
    if let Some((_, instead)) = elsewhere {
        return format!("{said}; {instead}");
    }
    match nearest(path, &plain, known) {
        Some(meant) => format!("{said}; did you mean '{meant}'?"),
        None if known.is_empty() => format!("{said}, which has no keys yet"),
        None => format!("{said}; its keys are {}", known.join(", ")),
    }
}

/// The key that was meant: the same word in another section, else the nearest here, else anywhere.
fn nearest(path: &str, key: &str, known: &[&'static str]) -> Option<String> {
    if let Some(meant) = known.iter().find(|known| **known == key) {
        return Some((*meant).to_owned());
    }
    let all = all_keys();
    let last = |dotted: &str| dotted.rsplit('.').next().map(str::to_owned);
    let elsewhere = all
        .iter()
        .find(|dotted| last(dotted).as_deref() == Some(key));
    // `batch_size` is in 'train' and in 'eval': where a section is named, the first is as good.
    if let Some(elsewhere) = elsewhere {
        return Some(elsewhere.clone());
    }
    // A section's name in front: 'train.lr' written with a dot at the top.
    if path.is_empty() && all.iter().any(|dotted| dotted == key) {
        let (section, inner) = key.split_once('.')?;
        return Some(format!("{section}: {{{inner}: ...}}"));
    }
    if let Some(meant) = suggest(key, known.iter().copied()) {
        return Some(meant.to_owned());
    }
    let words: Vec<String> = all.iter().filter_map(|dotted| last(dotted)).collect();
    let meant = suggest(key, words.iter().map(String::as_str))?;
    let at = words.iter().position(|word| word == meant)?;
    Some(all[at].clone())
}

/// Gives away the keys that a derived `Deserialize` asks for.
struct Capture;

#[derive(Debug)]
struct Captured(&'static [&'static str]);

impl std::fmt::Display for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Captured {}

impl serde::de::Error for Captured {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Capture {
    type Error = Captured;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Captured> {
        Err(Captured(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Captured> {
        Err(Captured(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_lone_keys_are_the_fields_of_an_experiment() {
        let mut said: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
        said.extend(LONE_KEYS);
        said.sort_unstable();
        let mut fields = keys::<Experiment>().to_vec();
        fields.sort_unstable();
        assert_eq!(said, fields);
        assert_eq!(keys::<VitDims>()[..2], ["arch", "width"]);
    }

    #[test]
    fn no_key_is_said_to_be_missing_that_exists() {
        for key in all_keys() {
            let word = key.rsplit('.').next().unwrap_or_default();
            assert!(ELSEWHERE.iter().all(|(flag, _)| *flag != word), "{key}");
        }
    }
}
