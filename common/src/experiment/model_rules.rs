//! What of a model cannot be together: its parts, and what its child's loss rests on.

use serde_json::Value;

use super::rules::Rules;
use super::sections::{Base, Child, Experiment};
use super::vision::{CONVNEXT_STRIDE, VISION_NAMES, Vision};
use crate::run_dir::suggest;

/// Children on augmented views, whose contrastive loss has terms of these.
const OF_VIEWS: &[Child] = &[Child::Cl2l, Child::Barlip, Child::Siamlip, Child::Swalip];

/// Keys that some children read, and no other.
const OF_CHILDREN: &[(&str, &[Child])] = &[
    (
        "model.separate_proj_child",
        &[Child::Barlip, Child::Siamlip],
    ),
    ("model.barlip_proj_dim", &[Child::Barlip]),
    ("model.barlip_hidden_dim", &[Child::Barlip]),
    ("model.siamlip_proj_dim", &[Child::Siamlip]),
    ("model.siamlip_hidden_dim", &[Child::Siamlip]),
    ("model.siamlip_no_last_bn", &[Child::Siamlip]),
    ("model.swalip_proj_dim", &[Child::Swalipv1]),
    ("model.swalip_hidden_dim", &[Child::Swalipv1]),
    ("model.swalip_num_proto", &[Child::Swalipv1]),
    ("model.swalip_no_shared_proto", &[Child::Swalipv1]),
    ("model.swalip_temperature", &[Child::Swalipv1]),
    ("model.swalip_learn_temperature", &[Child::Swalipv1]),
    ("train.loss_avg_or_sum", OF_VIEWS),
    ("train.label_smoothing", OF_VIEWS),
    ("train.barlip_lamb", &[Child::Barlip]),
    ("train.barlip_scale_loss", &[Child::Barlip]),
    ("train.barlip_grad", &[Child::Barlip]),
    ("train.swalip_weight", &[Child::Swalip, Child::Swalipv1]),
    ("train.sk_iters", &[Child::Swalip, Child::Swalipv1]),
    ("train.target_epsilon", &[Child::Swalip, Child::Swalipv1]),
    ("train.swalip_freeze_proto_iters", &[Child::Swalipv1]),
];

impl Rules<'_> {
    /// The key that says which child it is.
    fn child_key(&self) -> &'static str {
        if self.written.get("model.name").is_some() {
            "model.name"
        } else {
            "model.child"
        }
    }

    pub(super) fn model(&mut self) {
        let model = &self.experiment.model;
        if model.transformer_heads > 0 && model.transformer_width % model.transformer_heads != 0 {
            let (width, heads) = (model.transformer_width, model.transformer_heads);
            self.add(
                "model.transformer_heads",
                format!("'model.transformer_heads' must divide the width of the text tower, {width}; {heads} does not"),
            );
        }
        if let Some(vision) = &model.vision {
            self.vision(vision);
        }
        let at = self.child_key();
        if let (Some(base), Some(child)) = (model.base, model.child) {
            let (base_name, child_name) = (base.name(), child.name());
            if child.base() != base {
                let why = match base {
                    Base::Clip => "needs the augmented views that base CLIP does not make",
                    Base::Cl2l => "leaves the augmented views of base CL2L without a loss",
                };
                let meant = child.base().name();
                self.add(
                    at,
                    format!("child {child_name} {why}; use base {meant} with it, not {base_name}"),
                );
            }
        }
    }

    fn vision(&mut self, vision: &Vision) {
        match vision {
            Vision::Named(name) if !VISION_NAMES.contains(&name.as_str()) => {
                let meant = suggest(name, VISION_NAMES);
                let meant = meant.map(|meant| format!("; did you mean '{meant}'?"));
                let known = VISION_NAMES.join(", ");
                let message = format!(
                    "'model.vision' must be one of {known}, or the dimensions of a ViT or ConvNeXt, not '{name}'{}",
                    meant.unwrap_or_default()
                );
                self.add("model.vision", message);
            }
            Vision::Named(_) => {}
            Vision::ConvNext(dims) => {
                // Smaller ones leave the last stage without a place.
                if dims.image_size > 0 && dims.image_size < CONVNEXT_STRIDE {
                    let size = dims.image_size;
                    self.add(
                        "model.vision.image_size",
                        format!("'model.vision.image_size' must be at least {CONVNEXT_STRIDE}, what one place of a ConvNeXt's last stage covers; not {size}"),
                    );
                }
            }
            Vision::Vit(dims) => {
                let divides = |part: i64, whole: i64| part > 0 && whole % part == 0;
                if dims.heads > 0 && !divides(dims.heads, dims.width) {
                    let (heads, width) = (dims.heads, dims.width);
                    self.add(
                        "model.vision.heads",
                        format!(
                            "'model.vision.heads' must divide the width, {width}; {heads} does not"
                        ),
                    );
                }
                if dims.patch > 0 && !divides(dims.patch, dims.image_size) {
                    let (patch, size) = (dims.patch, dims.image_size);
                    self.add(
                        "model.vision.patch",
                        format!("'model.vision.patch' must divide the image size, {size}; {patch} does not"),
                    );
                }
            }
        }
    }

    /// What the child's loss needs, and what it has no use for.
    pub(super) fn child(&mut self) {
        let experiment = self.experiment;
        let (model, train) = (&experiment.model, &experiment.train);
        let Some(child) = model.child else {
            return;
        };
        let num_augs = experiment.augment.num_augs;
        if child == Child::Swalip {
            if num_augs != 2 {
                let at = if self.written.get("augment.num_augs").is_some() {
                    "augment.num_augs"
                } else {
                    self.child_key()
                };
                self.add(
                    at,
                    format!("child SWALIP swaps targets between a pair of augmented views: it needs 'augment.num_augs' 2, not {num_augs}"),
                );
            }
            if train.label_smoothing > 0.0 {
                self.add(
                    "train.label_smoothing",
                    "child SWALIP needs 'train.label_smoothing' 0: its targets are soft already",
                );
            }
        }
        if model.momentum && !child.takes_targets() {
            let name = child.name();
            self.add(
                "model.momentum",
                format!("'model.momentum' makes targets, which the loss of child {name} does not take; SIAMLIP (then it is BYOLIP) and SWALIPV1 do"),
            );
        }
        // Then nothing but the CLIP projector reaches the text tower.
        let alone = match child {
            Child::Clip => true,
            Child::Cl2l | Child::Swalip => num_augs == 0,
            Child::Barlip | Child::Siamlip | Child::Swalipv1 => false,
        };
        if model.detach_proj && alone {
            self.add(
                "model.detach_proj",
                format!("'model.detach_proj' leaves the text tower without any gradient: child {} has no other loss of captions", child.name()),
            );
        }
        let defaults = serde_json::to_value(Experiment::named("")).unwrap_or_default();
        let ours = serde_json::to_value(experiment).unwrap_or_default();
        let changed = |key: &str| {
            let at = format!("/{}", key.replace('.', "/"));
            let of = |value: &Value| value.pointer(&at).cloned();
            of(&ours) != of(&defaults)
        };
        for (key, children) in OF_CHILDREN {
            if !children.contains(&child) && changed(key) {
                let names: Vec<&str> = children.iter().map(|child| child.name()).collect();
                let (of, not) = (names.join(" or "), child.name());
                let text = format!(
                    "'{key}' is a matter of child {of} and has no effect on {not}; remove it"
                );
                self.add(key, text);
            }
        }
        if !model.momentum && changed("model.momentum_tau") {
            self.add(
                "model.momentum_tau",
                "'model.momentum_tau' has no effect without 'model.momentum'; set that, or remove it",
            );
        }
    }

    /// Recomputing activations, and the type that is computed in.
    pub(super) fn recomputing(&mut self) {
        let train = &self.experiment.train;
        let keys = [
            (
                "train.checkpoint_segments",
                train.checkpoint_segments.is_some(),
            ),
            ("train.checkpoint_memory", train.checkpoint_memory.is_some()),
        ];
        if keys.iter().all(|(_, given)| *given) {
            self.add(
                "train.checkpoint_memory",
                "'train.checkpoint_segments' and 'train.checkpoint_memory' both say what is recomputed; remove one",
            );
        }
        for (key, given) in keys {
            if given && !self.experiment.train.checkpoint_grad {
                self.add(
                    key,
                    format!("'{key}' has no effect without 'train.checkpoint_grad: true'"),
                );
            }
        }
    }
}
