//! The original's command line (`argparse.Namespace` in its checkpoints), from and to an experiment. Keys
//! of experiments are its flags in snake_case, so most of it is a matter of names.

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment, Model, Vision};
use serde_json::{Map, Value as Json, json};

use super::Result;

/// Sections whose keys are flags of the original.
const SECTIONS: [&str; 6] = ["model", "data", "augment", "text", "optim", "train"];
/// Keys of those sections that mean something else there: its own paths, and what is no flag.
const NOT_TAKEN: [&str; 7] = [
    "name",
    "root",
    "metadata",
    "workers",
    "resume",
    "init_text_encoder",
    "print_freq",
];

/// Flags of the original that an experiment says otherwise or not at all, with the original's defaults.
fn other_flags() -> [(&'static str, Json); 26] {
    [
        ("metadata_unpaired", Json::Null),
        ("bpe_path", json!("bpe_simple_vocab_16e6.txt.gz")),
        ("output_dir", json!("./")),
        ("attn_layer", json!("flash")),
        ("no_share_token", json!(false)),
        ("semi_paired", json!(false)),
        ("unpaired_ratio", json!(4)),
        ("ssl_scale", json!(1.0)),
        ("ssl_temp", json!(0.1)),
        ("resume", json!("")),
        ("init_text_encoder", Json::Null),
        ("start_epoch", json!(0)),
        ("workers", json!(10)),
        ("workers_unpaired", json!(5)),
        ("print_freq", json!(25)),
        ("evaluate", json!(false)),
        ("world_size", json!(1)),
        ("rank", json!(0)),
        ("local_rank", json!(0)),
        ("dist_url", json!("env://")),
        ("dist_backend", json!("nccl")),
        ("gpu", Json::Null),
        ("wandb", json!(false)),
        ("offline", json!(false)),
        ("name", json!("CLIP_ROCKET")),
        ("distributed", json!(true)),
    ]
}

/// Keys of an experiment's sections that the original has no flag for.
const NO_FLAGS: [&str; 31] = [
    "base",
    "vision",
    "child",
    "transformer_width",
    "transformer_heads",
    "context_length",
    "vocab_size",
    "max_bad",
    "fast_decode",
    "multicrop_min_scale",
    "truncate",
    "max_steps",
    "barlip_grad",
    "gather_with_grad",
    "accumulate",
    "precision",
    "checkpoint_segments",
    "deterministic",
    "checkpoint_memory",
    "checkpoint_every",
    "keep_last",
    "keep_best",
    "threads",
    "bucket_cap_mb",
    "collective_timeout_minutes",
    "name",
    "resume",
    "init_text_encoder",
    "print_freq",
    "workers",
    "seed",
];

/// `<base>_<vision>_<child>`; `None` for a vision tower of free dimensions, which has no name.
#[must_use]
pub fn model_name(model: &Model) -> Option<String> {
    match (&model.base, &model.vision, &model.child) {
        (Some(base), Some(Vision::Named(vision)), Some(child)) => {
            Some(format!("{}_{vision}_{}", base.name(), child.name()))
        }
        _ => None,
    }
}

/// The flags with which the original would train this experiment.
#[must_use]
pub fn args_of(experiment: &Experiment) -> Map<String, Json> {
    let sections = serde_json::to_value(experiment).unwrap_or_default();
    let mut args = Map::new();
    if let Some(name) = model_name(&experiment.model) {
        args.insert("model".to_owned(), name.into());
    }
    for section in SECTIONS {
        let keys = sections.get(section).and_then(Json::as_object);
        for (key, value) in keys.into_iter().flatten() {
            if !NO_FLAGS.contains(&key.as_str()) {
                args.insert(key.clone(), value.clone());
            }
        }
    }
    for (key, value) in other_flags() {
        args.entry(key).or_insert(value);
    }
    let float32 = experiment.train.precision == experiment::Precision::Float32;
    args.insert("disable_amp".to_owned(), float32.into());
    args.insert("seed".to_owned(), experiment.seed.into());
    args.insert("eval_freq".to_owned(), experiment.eval.eval_freq.into());
    let side = args.entry("multicrop_resize").or_insert(Json::Null);
    if side.is_null() {
        *side = experiment.strong_view_size().into();
    }
    args
}

/// The experiment that the original's flags describe. It names no data: it is there to build the model.
///
/// # Errors
/// Kind [`ExitKind::Experiment`]: the flags name no model, or one that is not here.
pub fn experiment_of(args: &Map<String, Json>) -> Result<Experiment> {
    let Some(model) = args.get("model").and_then(Json::as_str) else {
        return Err(Error::new(
            ExitKind::Experiment,
            "the checkpoint's arguments name no model",
        )
        .hint("give the experiment with --experiment"));
    };
    let defaults = serde_json::to_value(Experiment::named("converted")).unwrap_or_default();
    let mut tree = json!({"name": "converted", "data": {"root": "/", "metadata": "/"}});
    for section in SECTIONS {
        let known = defaults.get(section).and_then(Json::as_object);
        let mut taken: Map<String, Json> = known
            .into_iter()
            .flat_map(Map::keys)
            .filter(|key| !NOT_TAKEN.contains(&key.as_str()))
            .filter_map(|key| Some((key.clone(), args.get(key)?.clone())))
            .filter(|(_, value)| !value.is_null())
            .collect();
        match section {
            "model" => drop(taken.insert("name".to_owned(), model.into())),
            // Where its images lie, and how they are packed, says nothing of the model.
            "data" => continue,
            _ => {}
        }
        if let Some(tree) = tree.as_object_mut() {
            tree.insert(section.to_owned(), taken.into());
        }
    }
    // JSON is YAML.
    let text = tree.to_string();
    experiment::parse_with("the checkpoint's arguments", &text, &[], &|_| None).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Error::new(ExitKind::Experiment, lines.join("\n"))
            .hint("give the experiment with --experiment")
    })
}
