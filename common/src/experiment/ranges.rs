//! Bounds of numbers, as a table.

use serde_json::Value;

/// What a number must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Range {
    /// At least this.
    AtLeast(f64),
    /// More than 0.
    Positive,
    /// 0 to 1, both included.
    Share,
    /// 0 to 1, without 1.
    BelowOne,
    /// More than 0, up to 1.
    PositiveShare,
    /// Exactly this, in this version.
    Only(f64, &'static str),
    /// Any number.
    Free,
}

use Range::{AtLeast, BelowOne, Free, Only, Positive, PositiveShare, Share};

/// Every key with a number. A test compares it with the keys of an experiment.
pub(crate) const RANGES: &[(&str, Range)] = &[
    ("seed", Free),
    ("model.embed_dim", AtLeast(1.0)),
    ("model.clip_hidden_dim", AtLeast(1.0)),
    ("model.transformer_layers", AtLeast(1.0)),
    ("model.transformer_width", AtLeast(1.0)),
    ("model.transformer_heads", AtLeast(1.0)),
    (
        "model.context_length",
        Only(77.0, "the length that captions are tokenized to"),
    ),
    (
        "model.vocab_size",
        Only(49408.0, "the size of CLIP's vocabulary"),
    ),
    ("model.momentum_tau", Share),
    ("model.barlip_proj_dim", AtLeast(1.0)),
    ("model.barlip_hidden_dim", AtLeast(1.0)),
    ("model.siamlip_proj_dim", AtLeast(1.0)),
    ("model.siamlip_hidden_dim", AtLeast(1.0)),
    ("model.swalip_proj_dim", AtLeast(1.0)),
    ("model.swalip_hidden_dim", AtLeast(1.0)),
    ("model.swalip_num_proto", AtLeast(1.0)),
    ("model.swalip_temperature", Positive),
    ("model.vision.width", AtLeast(1.0)),
    ("model.vision.depth", AtLeast(1.0)),
    ("model.vision.heads", AtLeast(1.0)),
    ("model.vision.patch", AtLeast(1.0)),
    ("model.vision.image_size", AtLeast(1.0)),
    ("model.vision.hidden", AtLeast(1.0)),
    ("model.vision.depths", AtLeast(1.0)),
    ("model.vision.widths", AtLeast(1.0)),
    ("data.workers", AtLeast(1.0)),
    ("data.max_bad", Share),
    ("data.read_timeout_seconds", Positive),
    ("augment.num_augs", AtLeast(0.0)),
    ("augment.multicrop_resize", AtLeast(1.0)),
    ("augment.multicrop_min_scale", PositiveShare),
    ("augment.multicrop_max_scale", PositiveShare),
    ("augment.weak_min_scale", PositiveShare),
    ("augment.blur_prob", Share),
    ("augment.solarize_prob", Share),
    ("augment.grayscale_prob", Share),
    ("text.no_text_augment_prob", Share),
    ("text.remove_stopwords_prob", Share),
    ("text.synonym_replacement_prob", Share),
    ("text.random_swap_prob", Share),
    ("text.random_deletion_prob", Share),
    ("text.text_dropout_prob", BelowOne),
    ("text.text_drop_path_prob", BelowOne),
    ("optim.lr", Positive),
    ("optim.lr_start", AtLeast(0.0)),
    ("optim.lr_end", AtLeast(0.0)),
    ("optim.warmup_epochs", AtLeast(0.0)),
    ("optim.wd", AtLeast(0.0)),
    ("optim.betas", BelowOne),
    ("optim.eps", Positive),
    ("train.epochs", AtLeast(1.0)),
    ("train.max_steps", AtLeast(1.0)),
    ("train.batch_size", AtLeast(1.0)),
    ("train.update_freq", AtLeast(1.0)),
    ("train.label_smoothing", BelowOne),
    ("train.barlip_lamb", AtLeast(0.0)),
    ("train.barlip_scale_loss", AtLeast(0.0)),
    ("train.swalip_weight", AtLeast(0.0)),
    ("train.sk_iters", AtLeast(0.0)),
    ("train.target_epsilon", Positive),
    ("train.swalip_freeze_proto_iters", AtLeast(0.0)),
    ("train.checkpoint_segments", AtLeast(1.0)),
    ("train.print_freq", AtLeast(1.0)),
    ("train.keep_last", AtLeast(1.0)),
    ("train.keep_best", AtLeast(0.0)),
    ("train.threads", AtLeast(1.0)),
    ("train.bucket_cap_mb", Positive),
    ("train.collective_timeout_minutes", Positive),
    ("eval.eval_freq", AtLeast(0.0)),
    ("eval.batch_size", AtLeast(1.0)),
    ("cluster.nodes", AtLeast(1.0)),
    ("cluster.gpus_per_node", AtLeast(0.0)),
    ("cluster.tasks_per_node", AtLeast(1.0)),
    ("cluster.cpus_per_task", AtLeast(1.0)),
    ("cluster.max_crashes", AtLeast(0.0)),
    ("cluster.max_node_failures", AtLeast(0.0)),
    ("cluster.max_idle_time_limits", AtLeast(0.0)),
    ("cluster.stop_grace_seconds", AtLeast(1.0)),
    ("cluster.hang_minutes", Positive),
];

impl Range {
    /// What is wrong with a number: "must be at least 1, not 0".
    fn complaint(self, number: f64) -> Option<String> {
        let (fits, wanted) = match self {
            AtLeast(least) => (number >= least, format!("at least {least}")),
            Positive => (number > 0.0, "greater than 0".into()),
            Share => ((0.0..=1.0).contains(&number), "between 0 and 1".into()),
            BelowOne => (
                (0.0..1.0).contains(&number),
                "at least 0 and less than 1".into(),
            ),
            PositiveShare => {
                let fits = number > 0.0 && number <= 1.0;
                (fits, "greater than 0 and at most 1".into())
            }
            Only(only, what) => (number == only, format!("{only}, {what}")),
            Free => return None,
        };
        (!fits).then(|| format!("must be {wanted}, not {number}"))
    }
}

/// Keys of the table.
#[doc(hidden)]
pub fn ranged_keys() -> impl Iterator<Item = &'static str> {
    RANGES.iter().map(|(key, _)| *key)
}

/// Every number out of its bounds: dotted key (with `[index]` in a list) and complaint.
pub(crate) fn check(experiment: &Value) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (key, range) in RANGES {
        let pointer = format!("/{}", key.replace('.', "/"));
        match experiment.pointer(&pointer) {
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let complaint = item.as_f64().and_then(|number| range.complaint(number));
                    let complaint = complaint.map(|text| format!("'{key}[{index}]' {text}"));
                    found.extend(complaint.map(|text| (*key, text)));
                }
            }
            Some(item) => {
                let complaint = item.as_f64().and_then(|number| range.complaint(number));
                found.extend(complaint.map(|text| (*key, format!("'{key}' {text}"))));
            }
            None => {}
        }
    }
    found
}
