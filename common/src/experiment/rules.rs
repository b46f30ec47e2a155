//! What cannot be together. Ranges of single numbers are in [`super::ranges`].

use std::path::{Path, PathBuf};

use super::cluster_rules;
use super::diagnostic::{Place, Report};
use super::names;
use super::notify;
use super::published::set_name_problem;
use super::ranges;
use super::sections::{Dataset, Experiment};
use super::track_rules;
use super::tree::{Node, Value};
use super::vision::Vision;

/// Sections that `command` replaces.
pub(crate) const TRAINING: [&str; 7] =
    ["model", "data", "augment", "text", "optim", "train", "eval"];

/// Longest name of an experiment: run ids are file names and job names.
const MAX_NAME: usize = 100;

/// The rules' view: the experiment, what was written, and where complaints go.
pub(super) struct Rules<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) written: &'a Node,
    report: &'a mut Report,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// Checks an experiment, splits the model's name and expands variables in paths.
pub(crate) fn check(
    experiment: &mut Experiment,
    written: &Node,
    report: &mut Report,
    lookup: &dyn Fn(&str) -> Option<String>,
) {
    let json = serde_json::to_value(&*experiment).unwrap_or_default();
    for (key, message) in ranges::check(&json) {
        report.add(written.place_of(key), message);
    }
    if experiment.command.is_none() {
        resolve_model(experiment, written, report);
    }
    track_rules::check(experiment, written, report, lookup);
    let mut rules = Rules {
        experiment,
        written,
        report,
        lookup,
    };
    rules.name();
    let written_notify = rules.written.entry("notify").map(|entry| &entry.node);
    notify::check(&experiment.notify, written_notify, true, rules.report);
    cluster_rules::check(&experiment.cluster, rules.written, rules.report);
    if experiment.command.is_some() {
        rules.command();
        return;
    }
    rules.env();
    rules.model();
    rules.child();
    rules.recomputing();
    rules.augment();
    rules.text();
    rules.schedule();
    rules.eval();
    let data = &rules.experiment.data;
    let (dataset, root, metadata) = (data.dataset, &data.root, &data.metadata);
    let mut needed = |key: &str, path: &Path, needed: bool| {
        if path.as_os_str().is_empty() && !needed {
            return String::new();
        }
        rules.path(key, &path.to_string_lossy())
    };
    let root = needed("data.root", root, dataset.has_root());
    let metadata = needed("data.metadata", metadata, dataset != Dataset::Imagefolder);
    let optional = |rules: &mut Rules<'_>, key: &str, path: &Option<PathBuf>| {
        let path = path.as_ref()?;
        Some(PathBuf::from(rules.path(key, &path.to_string_lossy())))
    };
    let text_encoder = &rules.experiment.model.init_text_encoder;
    let text_encoder = optional(&mut rules, "model.init_text_encoder", text_encoder);
    let resume = &rules.experiment.train.resume;
    let resume = optional(&mut rules, "train.resume", resume);
    let index = &rules.experiment.data.index;
    let index = optional(&mut rules, "data.index", index);
    experiment.data.root = root.into();
    experiment.data.metadata = metadata.into();
    experiment.data.index = index;
    experiment.model.init_text_encoder = text_encoder;
    experiment.train.resume = resume;
}

/// Whether a value was written for a key: if there is none in the experiment, it was refused, and
/// that was said.
fn was_given(written: &Node, key: &str) -> bool {
    let empty = |node: &Node| matches!(&node.value, Value::Scalar { text, .. } if text.is_empty());
    written
        .get(key)
        .is_some_and(|node| !node.is_null() && !empty(node))
}

/// Turns `model.name` into base, vision and child.
fn resolve_model(experiment: &mut Experiment, written: &Node, report: &mut Report) {
    let model = &mut experiment.model;
    let parts = ["base", "vision", "child"].map(|part| format!("model.{part}"));
    if let Some(name) = &model.name {
        if let Some(part) = parts.iter().find(|part| written.get(part).is_some()) {
            let message =
                format!("'{part}' and 'model.name' say the same thing; remove one of them");
            report.add(written.place_of(part), message);
        }
        match names::split(name) {
            Ok((base, vision, child)) => {
                model.base = Some(base);
                model.vision = Some(Vision::Named(vision.to_owned()));
                model.child = Some(child);
                model.name = None;
            }
            Err(wrong) => {
                report.add(
                    written.place_of("model.name"),
                    format!("'model.name' {wrong}"),
                );
            }
        }
        return;
    }
    let missing: Vec<&str> = [
        ("base", model.base.is_none()),
        ("vision", model.vision.is_none()),
        ("child", model.child.is_none()),
    ]
    .into_iter()
    .filter_map(|(part, missing)| missing.then_some(part))
    .collect();
    let refused = |part: &&str| was_given(written, &format!("model.{part}"));
    if missing.iter().chain(&["name"]).any(refused) {
        return;
    }
    if missing.len() == 3 {
        report.add(
            written.place_of("model"),
            "the experiment names no model; set 'model.name', such as CL2L_R50_CL2L, or 'base', 'vision' and 'child' in 'model'",
        );
    } else if !missing.is_empty() {
        let message = format!("'model' lacks '{}'", missing.join("' and '"));
        report.add(written.place_of("model"), message);
    }
}

impl Rules<'_> {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        self.report.add(self.written.place_of(path), message);
    }

    fn name(&mut self) {
        let name = &self.experiment.name;
        if self.written.get("name").is_none() {
            let message = "the experiment has no 'name'; runs are named after it";
            self.report.add(Place::default(), message);
            return;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_plain = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts_plain || !name.chars().all(plain) || name.len() > MAX_NAME {
            let shown = name.escape_debug();
            self.add(
                "name",
                format!("'name' must be 1 to {MAX_NAME} letters, digits, '-', '_' or '.', a letter or digit first, not '{shown}'"),
            );
        }
    }

    fn command(&mut self) {
        let experiment = self.experiment;
        let program = experiment.command.as_deref().and_then(|argv| argv.first());
        if program.is_none_or(|program| program.trim().is_empty()) {
            self.add(
                "command",
                "'command' is empty; it is the program and its arguments",
            );
        }
        for section in TRAINING {
            if self
                .written
                .entry(section)
                .is_some_and(|entry| !entry.node.is_null())
            {
                let message = format!(
                    "'{section}' has no effect beside 'command', which runs a program of its own; remove one of them"
                );
                let place = self.written.entry(section).map(|entry| entry.place);
                self.report.add(place.unwrap_or_default(), message);
            }
        }
    }

    /// Variables that the trainer is not given as the experiment says.
    fn env(&mut self) {
        const TAKEN: [(&str, &str); 5] = [
            ("OMP_NUM_THREADS", "is what 'train.threads' says; use that"),
            ("MKL_NUM_THREADS", "is what 'train.threads' says; use that"),
            ("OMP_THREAD_LIMIT", "is what 'train.threads' says; use that"),
            (
                "LD_LIBRARY_PATH",
                "would put other libraries under the pinned program",
            ),
            (
                "LD_PRELOAD",
                "would put other libraries under the pinned program",
            ),
        ];
        for (name, why) in TAKEN {
            let given = self.experiment.cluster.env.contains_key(name);
            if given {
                let key = format!("cluster.env.{name}");
                self.add(&key, format!("'{key}' {why}"));
            }
        }
    }

    fn augment(&mut self) {
        let augment = &self.experiment.augment;
        if augment.multicrop_min_scale > augment.multicrop_max_scale {
            let (least, most) = (augment.multicrop_min_scale, augment.multicrop_max_scale);
            self.add(
                "augment.multicrop_max_scale",
                format!("'augment.multicrop_max_scale' is {most}, less than 'augment.multicrop_min_scale', {least}"),
            );
        }
        if augment.weak_augment && augment.strong_augment {
            self.add(
                "augment.strong_augment",
                "'augment.weak_augment' and 'augment.strong_augment' exclude each other; remove one",
            );
        }
        if augment.byol_augment && augment.num_augs != 2 {
            self.add(
                "augment.byol_augment",
                format!("'augment.byol_augment' is a pair of views: it needs 'augment.num_augs' 2, not {}", augment.num_augs),
            );
        }
        let vit = self.experiment.model.vision.as_ref().and_then(Vision::vit);
        if let (Some(side), Some(dims)) = (augment.multicrop_resize, vit)
            && side != dims.image_size
        {
            self.add(
                "augment.multicrop_resize",
                format!("'augment.multicrop_resize' must be {}, the image size of the ViT, which takes no other; not {side}", dims.image_size),
            );
        }
    }

    fn text(&mut self) {
        let text = &self.experiment.text;
        if !text.text_augment {
            return;
        }
        let weights = [
            text.no_text_augment_prob,
            text.synonym_replacement_prob,
            text.random_swap_prob,
            text.random_deletion_prob,
        ];
        if weights.iter().sum::<f64>() <= 0.0 {
            self.add(
                "text.text_augment",
                "'text.text_augment' is on, but the weights of all its operations are 0; set text.synonym_replacement_prob, text.random_swap_prob or text.random_deletion_prob",
            );
        }
    }

    fn schedule(&mut self) {
        let (optim, train) = (&self.experiment.optim, &self.experiment.train);
        // With `max_steps` the epochs are not known before the data are.
        let known = train.max_steps.is_none() && train.epochs > 0;
        if known && optim.warmup_epochs > train.epochs as f64 {
            let (warmup, epochs) = (optim.warmup_epochs, train.epochs);
            self.add(
                "optim.warmup_epochs",
                format!("'optim.warmup_epochs' is {warmup}, more than the {epochs} epochs of 'train.epochs'"),
            );
        }
    }

    fn eval(&mut self) {
        let datasets = &self.experiment.eval.datasets;
        for (index, name) in datasets.iter().enumerate() {
            if datasets[..index].contains(name) {
                self.add(
                    "eval.datasets",
                    format!("'eval.datasets' names '{name}' twice"),
                );
            }
        }
        let named = [
            ("eval.datasets", datasets.as_slice()),
            ("eval.after", self.experiment.eval.after.sets()),
        ];
        for (key, sets) in named {
            for problem in sets.iter().filter_map(|name| set_name_problem(name)) {
                self.add(key, format!("'{key}': {problem}"));
            }
        }
    }

    /// A path with its `$X` and `${X}` filled in.
    fn path(&mut self, key: &str, path: &str) -> String {
        if path.is_empty() {
            if was_given(self.written, key) {
                return String::new();
            }
            self.add(
                key,
                if key.starts_with("data.") {
                    format!("'{key}' is missing; it says where the training data are")
                } else {
                    format!("'{key}' is empty; it is the path of a checkpoint")
                },
            );
            return String::new();
        }
        match expand(path, self.lookup) {
            Ok(path) => path,
            Err(wrong) => {
                self.add(key, format!("'{key}' {wrong}"));
                path.to_owned()
            }
        }
    }
}

/// Fills in `$X` and `${X}`; `$$` is a dollar sign.
pub(crate) fn expand(
    path: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(inner) => inner
                .split_once('}')
                .ok_or_else(|| format!("opens '${{' and does not close it: '{path}'"))?,
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !word(c)).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if name.is_empty() {
            return Err(format!(
                "has a '$' without a name: '{path}'; write '$$' for a dollar sign"
            ));
        }
        let value = lookup(name).filter(|value| !value.is_empty());
        let value = value
            .ok_or_else(|| format!("needs the environment variable '{name}', which is not set"))?;
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}
