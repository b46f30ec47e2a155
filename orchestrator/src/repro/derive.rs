//! From a command of the original to an experiment.

use std::collections::BTreeMap;

use rocket_common::experiment::{self, Child, Diagnostic, Experiment};

use super::flags::{Fate, Flag};
use super::words::Given;

/// What is given where paths of the original stand for the user's.
pub(crate) type Map = Vec<(String, String)>;

/// An experiment with what became of the flags that are no key of it.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) experiment: Experiment,
    /// One sentence each.
    pub(super) notes: Vec<String>,
}

/// A key with its value as YAML, and the flag that says so.
struct Setting {
    key: &'static str,
    value: String,
    flag: String,
}

/// The original's defaults where ours are others, or where we have none.
const DEFAULTS: [(&str, &str); 4] = [
    ("data.dataset", "yfcc15m"),
    ("data.root", "datasets/yfcc100m"),
    ("data.metadata", "datasets/yfcc15m_v1/yfcc15m.pkl"),
    // The original evaluates on it after every --eval-freq epochs.
    ("eval.datasets", "[imagenet]"),
];
/// Nodes without --nodes, in run_with_submitit.py.
const NODES: (&str, &str) = ("cluster.nodes", "8");
/// Name without --name.
const NAME: &str = "CLIP_ROCKET";

/// Flags of a command, those of a point after them, and a suffix for the name, to an experiment.
///
/// # Errors
/// Every mistake, one sentence each.
pub(super) fn derive(
    flags: &[Given],
    suffix: &str,
    map: &Map,
    sets: &[String],
) -> Result<Derived, Vec<String>> {
    let mut notes = Vec::new();
    let mut wrong = Vec::new();
    let mut settings: Vec<Setting> = Vec::new();
    let mut name = NAME.to_owned();
    let mut seen: BTreeMap<&str, &[String]> = BTreeMap::new();
    for given in flags {
        let Given { flag, values } = given;
        if let Some(before) = seen.insert(flag.name, values)
            && before != values.as_slice()
            && !before.is_empty()
        {
            notes.push(format!(
                "{} is given more than once: {} counts",
                flag.name,
                values.join(" ")
            ));
        }
        let mut set = |key, value: String| {
            settings.retain(|setting: &Setting| setting.key != key);
            settings.push(Setting {
                key,
                value,
                flag: shown(flag, values),
            });
        };
        let first = values.first().map_or("", String::as_str);
        match flag.fate {
            Fate::Key(key) => set(key, first.to_owned()),
            Fate::Text(key) => set(key, quoted(key, &mapped(key, first, map))),
            Fate::Pair(key) => set(key, format!("[{}]", values.join(", "))),
            Fate::Set(key, value) => set(key, value.to_owned()),
            Fate::Nothing(_, why) => notes.push(format!("{} {why}", flag.name)),
            Fate::Refused(_, why) => wrong.push(format!("{}: {why}", flag.name)),
            Fate::Own(_) => match (flag.name, first) {
                ("--name", given) => name = given.to_owned(),
                ("--start-epoch", "0") | ("--resume", "") => {}
                ("--start-epoch", _) => wrong.push(
                    "--start-epoch: a run goes on where its checkpoint stands; --resume names one"
                        .to_owned(),
                ),
                ("--resume", path) => set("train.resume", quoted("train.resume", path)),
                // Any other word is the mean.
                ("--loss-avg-or-sum", "sum") => set("train.loss_avg_or_sum", "sum".to_owned()),
                ("--loss-avg-or-sum", _) => set("train.loss_avg_or_sum", "avg".to_owned()),
                (other, _) => wrong.push(format!("{other} is not understood")),
            },
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    for (key, value) in DEFAULTS.into_iter().chain([NODES]) {
        if !settings.iter().any(|setting| setting.key == key) {
            let value = match key {
                "data.root" | "data.metadata" => quoted(key, &mapped(key, value, map)),
                _ => value.to_owned(),
            };
            settings.push(Setting {
                key,
                value,
                flag: format!("the original's default of {key}"),
            });
        }
    }
    drop_idle(&mut settings, &mut notes);
    if sets
        .iter()
        .any(|set| PARTS.iter().any(|part| set.starts_with(part)))
    {
        take_apart(&mut settings);
    }
    settings.push(Setting {
        key: "name",
        value: quoted("name", &format!("{name}{suffix}")),
        flag: format!("--name {name}"),
    });
    let experiment = read(&settings, sets)?;
    notes.sort();
    notes.dedup();
    Ok(Derived { experiment, notes })
}

/// Parts of a model's name that can be given by themselves.
const PARTS: [&str; 3] = ["model.base", "model.vision", "model.child"];

/// The model by its parts, of which an override can be one, and not by its name.
fn take_apart(settings: &mut Vec<Setting>) {
    let Some(place) = settings.iter().position(|one| one.key == "model.name") else {
        return;
    };
    let name = settings[place].value.trim_matches('"').to_owned();
    let parts: Vec<&str> = name.split('_').collect();
    if parts.len() == PARTS.len() {
        let flag = settings.remove(place).flag;
        settings.extend(PARTS.iter().zip(parts).map(|(key, part)| Setting {
            key,
            value: quoted(key, part),
            flag: flag.clone(),
        }));
    }
}

/// Takes out what the model's child does not read, which is refused in an experiment and has no effect in
/// the original.
fn drop_idle(settings: &mut Vec<Setting>, notes: &mut Vec<String>) {
    let model = settings.iter().find(|setting| setting.key == "model.name");
    let name = model.map(|setting| setting.value.trim_matches('"').to_owned());
    let child = name.as_deref().and_then(|name| name.rsplit('_').next());
    let Some(child) = child.and_then(Child::of_name) else {
        return;
    };
    settings.retain(|setting| {
        let idle = !child.reads(setting.key);
        if idle {
            let flag = setting.flag.split(' ').next().unwrap_or_default();
            notes.push(format!("{flag} has no effect on child {}", child.name()));
        }
        !idle
    });
}

fn read(settings: &[Setting], sets: &[String]) -> Result<Experiment, Vec<String>> {
    let own = settings
        .iter()
        .map(|setting| format!("{}={}", setting.key, setting.value));
    let overrides: Vec<String> = own.chain(sets.iter().cloned()).collect();
    let said = |mistake: &Diagnostic| {
        let place = overrides.iter().position(|text| *text == mistake.source);
        match place.and_then(|place| settings.get(place)) {
            Some(setting) => format!("{}: {}", setting.flag, mistake.message),
            None if mistake.is_override => format!("--set {}: {}", mistake.source, mistake.message),
            None => mistake.message.clone(),
        }
    };
    // Paths of the original are no variables of this environment.
    experiment::parse_with("", "", &overrides, &|_| None)
        .map_err(|mistakes| mistakes.iter().map(said).collect())
}

fn shown(flag: &Flag, values: &[String]) -> String {
    let mut words = vec![flag.name];
    words.extend(values.iter().map(String::as_str));
    words.join(" ")
}

/// A path, or each of several joined ones, with the beginning that the map gives.
fn mapped(key: &str, value: &str, map: &Map) -> String {
    if !["data.root", "data.metadata"].contains(&key) {
        return value.to_owned();
    }
    let joint = experiment::Dataset::JOINT;
    let parts = value.split(joint).map(|part| {
        let longest = map
            .iter()
            .filter_map(|(from, to)| Some((from.len(), to, part.strip_prefix(from.as_str())?)))
            .filter(|(_, _, rest)| rest.is_empty() || rest.starts_with('/'))
            .max_by_key(|(length, ..)| *length);
        longest.map_or_else(|| part.to_owned(), |(_, to, rest)| format!("{to}{rest}"))
    });
    parts.collect::<Vec<_>>().join(joint)
}

/// A text as YAML reads it back. In the paths in which a dollar sign would name a variable, it is doubled.
fn quoted(key: &str, text: &str) -> String {
    let text = match experiment::PATHS.contains(&key) {
        true => text.replace('$', "$$"),
        false => text.to_owned(),
    };
    serde_json::Value::from(text).to_string()
}
