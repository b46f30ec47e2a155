//! Reads `sweep:` and judges it: every list by itself, every value by the type of its key.

use super::diagnostic::{Place, Report};
use super::sections::Experiment;
use super::sweep::{Axis, Reading, Sweep, flow};
use super::tree::{Entry, Node, Value, join};
use super::{Context, apply_override, schema, tree};
use crate::run_dir::suggest;

/// Keys of `sweep` that are not keys of the experiment.
const OWN: [&str; 3] = ["name", "max_running", "zip"];

/// Keys that a point cannot differ in from another, and why.
const NOT_SWEPT: [(&str, &str); 7] = [
    ("name", "decides nothing: points are named by what they set"),
    ("notify", "decides nothing that could be compared"),
    ("track", "decides nothing that could be compared"),
    ("cluster.backend", "is one for the whole sweep"),
    ("cluster.comment", "decides nothing that could be compared"),
    (
        "cluster.mail_type",
        "decides nothing that could be compared",
    ),
    (
        "cluster.mail_user",
        "decides nothing that could be compared",
    ),
];

/// Groups whose keys are free, or that are read as a whole.
const OPEN: [&str; 4] = [
    "cluster.env",
    "cluster.extra",
    "cluster.srun_extra",
    "model.vision",
];

/// Longest name of a sweep: names of lanes begin with it.
const LONGEST_NAME: usize = 64;

/// One list of values, and where it was written.
struct Listed {
    key: String,
    place: Place,
    values: Vec<Node>,
}

pub(super) fn read<'a>(
    context: Context<'a>,
    path: &'a str,
    text: &str,
    overrides: &'a [String],
    report: &mut Report,
) -> Option<Reading<'a>> {
    let mut root = tree::root(text, report)?;
    let mut sweep = take(&mut root);
    if let Some(entry) = &mut sweep {
        flatten(&mut entry.node);
    }
    for (index, text) in overrides.iter().enumerate() {
        let key = text.split('=').next().unwrap_or_default().trim();
        match text.trim_start().strip_prefix("sweep.") {
            Some(text) => override_sweep(&mut sweep, index + 1, text, report),
            None => apply_override(&mut root, index + 1, text, report),
        }
        if key == "sweep" {
            // All of it at once.
            sweep = take(&mut root);
            if let Some(entry) = &mut sweep {
                flatten(&mut entry.node);
            }
        }
    }
    let Some(entry) = sweep else {
        let (experiment, profile) = context.finish(root, report)?;
        return Some(Reading::One(Box::new(experiment), profile));
    };
    let mut reader = Reader {
        report,
        dropped: false,
    };
    let (own, axes) = reader.sweep(&entry);
    reader.overridden(&axes, overrides);
    let whole = !reader.dropped && !axes.is_empty();
    let experiment = root.entry("name").map(|entry| &entry.node);
    let experiment = match experiment.map(|node| &node.value) {
        Some(Value::Scalar { text, .. }) => Some(text.clone()),
        _ => None,
    };
    let sweep = Sweep {
        context,
        path,
        overrides,
        name: own.name.or(experiment).unwrap_or_default(),
        max_running: own.max_running,
        axes,
        root,
    };
    if whole {
        // What is wrong with the file itself is wrong with any of its points. Without one of the lists,
        // what it would have set could be missed.
        let mut base = sweep.root.clone();
        for axis in &sweep.axes {
            for (key, value) in axis.keys.iter().zip(axis.rows.first()?) {
                let _ = base.set(key, value.place, value.clone());
            }
        }
        sweep.context.finish(base, report);
    }
    Some(Reading::Many(sweep))
}

/// Takes `sweep` out of an experiment.
fn take(root: &mut Node) -> Option<Entry> {
    let Value::Map(entries) = &mut root.value else {
        return None;
    };
    let at = entries.iter().position(|entry| entry.key == "sweep")?;
    Some(entries.remove(at))
}

/// `optim: {lr: [...]}` as `optim.lr: [...]`, so that an override finds it.
fn flatten(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    let mut flat = Vec::new();
    for mut entry in std::mem::take(entries) {
        if entry.key == "zip" {
            match &mut entry.node.value {
                Value::List(groups) => groups.iter_mut().for_each(flatten),
                _ => flatten(&mut entry.node),
            }
            flat.push(entry);
            continue;
        }
        match entry.node.value {
            Value::Map(_) => {
                flatten(&mut entry.node);
                if let Value::Map(inner) = entry.node.value {
                    flat.extend(inner.into_iter().map(|inner| Entry {
                        key: join(&entry.key, &inner.key),
                        ..inner
                    }));
                }
            }
            _ => flat.push(entry),
        }
    }
    *entries = flat;
}

/// `--set sweep.optim.lr=[1e-3, 1e-4]` replaces a list, `sweep.optim.lr+=1e-5` adds to one.
fn override_sweep(sweep: &mut Option<Entry>, origin: usize, text: &str, report: &mut Report) {
    let place = Place {
        origin,
        ..Place::default()
    };
    let Some((key, value)) = text.split_once('=') else {
        let message = "an override has the form key=value, such as sweep.optim.lr=[1e-3, 1e-4]";
        report.add(place, message);
        return;
    };
    let (key, adds) = match key.strip_suffix('+') {
        Some(key) => (key.trim(), true),
        None => (key.trim(), false),
    };
    let mut node = match tree::load(value) {
        Ok(node) => node,
        Err((_, message)) => {
            report.add(place, message);
            return;
        }
    };
    node.relocate(place);
    let entry = sweep.get_or_insert_with(|| Entry {
        key: "sweep".to_owned(),
        place,
        node: Node::empty_map(place),
    });
    if entry.node.is_null() {
        entry.node.value = Value::Map(Vec::new());
    }
    let (group, key) = match key.strip_prefix("zip.") {
        Some(key) => {
            let Value::Map(entries) = &mut entry.node.value else {
                return;
            };
            let at = entries.iter().position(|entry| entry.key == "zip");
            let at = at.unwrap_or_else(|| {
                entries.push(Entry {
                    key: "zip".to_owned(),
                    place,
                    node: Node::empty_map(place),
                });
                entries.len() - 1
            });
            (&mut entries[at].node, key)
        }
        None => (&mut entry.node, key),
    };
    let Value::Map(entries) = &mut group.value else {
        let message = "'sweep.zip' holds several groups; change them in the file";
        report.add(place, message);
        return;
    };
    let there = entries.iter_mut().find(|entry| entry.key == key);
    match there {
        Some(there) if adds => {
            let Value::List(values) = &mut there.node.value else {
                report.add(place, format!("'sweep.{key}' is no list to add to"));
                return;
            };
            match node.value {
                Value::List(more) => values.extend(more),
                _ => values.push(node),
            }
        }
        None if adds => {
            let known: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            let known = known.iter().filter(|key| !OWN.contains(key)).copied();
            let known: Vec<&str> = known.collect();
            let message = format!(
                "'{key}' is no list of the sweep, to which a value could be added; it has {}",
                known.join(", ")
            );
            report.add(place, message);
        }
        Some(there) => {
            there.place = place;
            there.node = node;
        }
        None => entries.push(Entry {
            key: key.to_owned(),
            place,
            node,
        }),
    }
}

/// What a sweep says of itself.
#[derive(Default)]
struct Own {
    name: Option<String>,
    max_running: Option<u32>,
}

struct Reader<'a> {
    report: &'a mut Report,
    /// A list could not be taken.
    dropped: bool,
}

impl Reader<'_> {
    fn sweep(&mut self, entry: &Entry) -> (Own, Vec<Axis>) {
        let mut own = Own::default();
        let mut axes = Vec::new();
        let mut seen: Vec<(String, bool)> = Vec::new();
        if !matches!(entry.node.value, Value::Map(_)) && !entry.node.is_null() {
            let message = "'sweep' must be a group of keys: keys of the experiment, such as optim.lr, each with a list of values";
            self.report.add(entry.node.place, message);
            return (own, axes);
        }
        for inner in entry.node.entries() {
            match inner.key.as_str() {
                "name" if !matches!(inner.node.value, Value::List(_)) => {
                    own.name = self.name(&inner.node);
                }
                "max_running" => own.max_running = self.max_running(&inner.node),
                "zip" => axes.extend(self.zip(&inner.node, &mut seen)),
                _ => axes.extend(self.list(inner, "sweep", &mut seen, false).map(|one| Axis {
                    keys: vec![one.key],
                    rows: one.values.into_iter().map(|value| vec![value]).collect(),
                })),
            }
        }
        if axes.is_empty() && self.report.is_empty() {
            let message = "'sweep' has no list of values; write keys of the experiment, such as optim.lr: [1e-3, 3e-3]";
            self.report.add(entry.place, message);
        }
        (own, axes)
    }

    fn name(&mut self, node: &Node) -> Option<String> {
        let text = flow(node);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_plain && text.chars().all(plain) && text.len() <= LONGEST_NAME {
            return Some(text);
        }
        let shown = text.escape_debug();
        self.report.add(
            node.place,
            format!("'sweep.name' must be 1 to {LONGEST_NAME} letters, digits, '-', '_' or '.', a letter or digit first, not '{shown}'"),
        );
        None
    }

    fn max_running(&mut self, node: &Node) -> Option<u32> {
        let number = match &node.value {
            Value::Scalar { text, plain: true } => text.parse().ok().filter(|number| *number > 0),
            _ => None,
        };
        if number.is_none() {
            let shown = flow(node);
            self.report.add(
                node.place,
                format!("'sweep.max_running' must be a whole number of at least 1, how many points may run at once, not '{shown}'"),
            );
        }
        number
    }

    /// One group of lists that go together, or several such groups.
    fn zip(&mut self, node: &Node, seen: &mut Vec<(String, bool)>) -> Vec<Axis> {
        match &node.value {
            Value::Map(_) => self.zipped(node, seen).into_iter().collect(),
            Value::List(groups) => groups
                .iter()
                .filter_map(|group| self.zipped(group, seen))
                .collect(),
            Value::Scalar { .. } => {
                let message =
                    "'sweep.zip' must be a group of keys, whose lists go together value by value";
                self.report.add(node.place, message);
                Vec::new()
            }
        }
    }

    fn zipped(&mut self, node: &Node, seen: &mut Vec<(String, bool)>) -> Option<Axis> {
        if !matches!(node.value, Value::Map(_)) {
            self.dropped = true;
            let message = "'sweep.zip' must be a group of keys, or a list of such groups, whose lists go together value by value";
            self.report.add(node.place, message);
        }
        let lists: Vec<Listed> = node
            .entries()
            .iter()
            .filter_map(|entry| self.list(entry, "sweep.zip", seen, true))
            .collect();
        let first = lists.first()?;
        let differs = lists
            .iter()
            .find(|list| list.values.len() != first.values.len());
        if let Some(other) = differs {
            let message = format!(
                "the lists of 'sweep.zip' go together value by value, and '{}' has {}, '{}' {}",
                first.key,
                first.values.len(),
                other.key,
                other.values.len()
            );
            self.dropped = true;
            self.report.add(other.place, message);
            return None;
        }
        let rows = (0..first.values.len())
            .map(|at| lists.iter().map(|list| list.values[at].clone()).collect())
            .collect();
        Some(Axis {
            keys: lists.into_iter().map(|list| list.key).collect(),
            rows,
        })
    }

    fn list(
        &mut self,
        entry: &Entry,
        group: &str,
        seen: &mut Vec<(String, bool)>,
        zipped: bool,
    ) -> Option<Listed> {
        let key = &entry.key;
        let mut add = |place, message: String| {
            self.dropped = true;
            self.report.add(place, message);
            None
        };
        if let Some((_, why)) = NOT_SWEPT.iter().find(|(known, _)| {
            known == key
                || key
                    .strip_prefix(known)
                    .is_some_and(|rest| rest.starts_with('.'))
        }) {
            return add(entry.place, format!("'{key}' cannot be swept: it {why}"));
        }
        if let Some(wrong) = unknown(key, group) {
            return add(entry.place, wrong);
        }
        match seen.iter().find(|(known, _)| known == key) {
            Some((_, before)) if *before != zipped => {
                let message = format!("'{key}' is both in the grid and in 'zip'; remove one");
                return add(entry.place, message);
            }
            Some(_) => {
                return add(entry.place, format!("'{key}' is given twice; remove one"));
            }
            None => seen.push((key.clone(), zipped)),
        }
        let Value::List(values) = &entry.node.value else {
            let message = format!(
                "'{group}.{key}' must be a list of values, such as [{0}], not {1}",
                flow(&entry.node),
                match entry.node.is_null() {
                    true => "nothing".to_owned(),
                    false => format!("'{}'", flow(&entry.node)),
                }
            );
            return add(entry.node.place, message);
        };
        if values.is_empty() {
            let message = format!("'{group}.{key}' is an empty list: no point would be left");
            return add(entry.node.place, message);
        }
        self.values(key, values, zipped);
        Some(Listed {
            key: key.clone(),
            place: entry.place,
            values: values.clone(),
        })
    }

    /// Each value by the type of its key, at its own place; and none twice.
    fn values(&mut self, key: &str, values: &[Node], zipped: bool) {
        let mut seen = std::collections::HashSet::new();
        for value in values {
            let text = flow(value);
            if !zipped && !seen.insert(text.clone()) {
                let message = format!("'{key}' is given '{text}' twice");
                self.report.add(value.place, message);
                continue;
            }
            // Dimensions of a model are judged together, in the point that has all of them.
            if key.starts_with("model.vision.") {
                continue;
            }
            let mut alone = Node::empty_map(value.place);
            if alone.set(key, value.place, value.clone()).is_ok() {
                schema::clean_experiment(&mut alone, self.report);
            }
        }
    }

    /// `--set optim.lr=1` has no effect where the points set it.
    fn overridden(&mut self, axes: &[Axis], overrides: &[String]) {
        let swept: Vec<&String> = axes.iter().flat_map(|axis| &axis.keys).collect();
        for (index, text) in overrides.iter().enumerate() {
            let key = text.split('=').next().unwrap_or_default().trim();
            if swept.iter().any(|swept| *swept == key) {
                let place = Place {
                    origin: index + 1,
                    ..Place::default()
                };
                let message = format!(
                    "'{key}' has no effect here, since the points of the sweep set it; say sweep.{key}=[...] for other values"
                );
                self.report.add(place, message);
            }
        }
    }
}

/// What is wrong with a key that is to be swept.
fn unknown(key: &str, group: &str) -> Option<String> {
    let all = schema::all_keys();
    let opened = OPEN.iter().any(|open| {
        key.strip_prefix(open)
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
    });
    if opened || all.iter().any(|known| known == key) {
        return None;
    }
    let sections = schema::keys::<Experiment>();
    if sections.contains(&key) {
        return Some(format!(
            "'{key}' is a section; sweep its keys, such as '{}'",
            all.iter()
                .find(|known| known.starts_with(&format!("{key}.")))
                .map_or(key, String::as_str)
        ));
    }
    let said = format!("unknown key '{key}' in '{group}'");
    let plain = key.replace('-', "_");
    let ends = |known: &&String| known.rsplit('.').next() == Some(&plain);
    let own = OWN.into_iter().filter(|_| group == "sweep");
    let meant = all
        .iter()
        .find(ends)
        .map(String::as_str)
        .or_else(|| suggest(&plain, all.iter().map(String::as_str).chain(own)));
    Some(match meant {
        Some(meant) => format!("{said}; did you mean '{meant}'?"),
        None => format!("{said}; write a key of the experiment with its section, such as optim.lr"),
    })
}
