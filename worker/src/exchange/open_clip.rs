//! The form that open_clip (open_clip_torch) loads as `local-dir:<folder>`: `open_clip_config.json` and
//! `open_clip_model.safetensors`. Its towers are timm's and CLIP's own, and its projectors one linear layer
//! without bias, so only models of that shape have such a form.

use std::path::Path;

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment, Model as Spec, NAMED_IMAGE_SIZE, Vision};
use serde_json::{Value as Json, json};
use tch::Tensor;

use super::{Result, Tensors, refuse};
use crate::checkpoint::tensors;
use crate::image::{IMAGENET_MEAN, IMAGENET_STD};
use crate::model::Registry;

/// Names of the files in the folder.
pub const CONFIG_FILE: &str = "open_clip_config.json";
/// See [`CONFIG_FILE`].
pub const WEIGHTS_FILE: &str = "open_clip_model.safetensors";

/// timm's names for vision transformers with a class token: width, depth, heads, patch, hidden width, image
/// size.
const VITS: [([i64; 6], &str); 20] = [
    ([192, 12, 3, 16, 768, 224], "vit_tiny_patch16_224"),
    ([192, 12, 3, 16, 768, 384], "vit_tiny_patch16_384"),
    ([384, 12, 6, 8, 1536, 224], "vit_small_patch8_224"),
    ([384, 12, 6, 16, 1536, 224], "vit_small_patch16_224"),
    ([384, 12, 6, 16, 1536, 384], "vit_small_patch16_384"),
    ([384, 12, 6, 32, 1536, 224], "vit_small_patch32_224"),
    ([384, 12, 6, 32, 1536, 384], "vit_small_patch32_384"),
    ([768, 12, 12, 8, 3072, 224], "vit_base_patch8_224"),
    ([768, 12, 12, 16, 3072, 224], "vit_base_patch16_224"),
    ([768, 12, 12, 16, 3072, 384], "vit_base_patch16_384"),
    ([768, 12, 12, 32, 3072, 224], "vit_base_patch32_224"),
    ([768, 12, 12, 32, 3072, 384], "vit_base_patch32_384"),
    ([1024, 24, 16, 14, 4096, 224], "vit_large_patch14_224"),
    ([1024, 24, 16, 16, 4096, 224], "vit_large_patch16_224"),
    ([1024, 24, 16, 16, 4096, 384], "vit_large_patch16_384"),
    ([1024, 24, 16, 32, 4096, 224], "vit_large_patch32_224"),
    ([1024, 24, 16, 32, 4096, 384], "vit_large_patch32_384"),
    ([1280, 32, 16, 14, 5120, 224], "vit_huge_patch14_224"),
    ([1408, 40, 16, 14, 6144, 224], "vit_giant_patch14_224"),
    ([1664, 48, 16, 14, 8192, 224], "vit_gigantic_patch14_224"),
];

/// Which of a model's two embeddings is taken: open_clip has room for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Head {
    /// CLIP's projectors.
    Z,
    /// The projectors of the augmented views.
    H,
}

/// open_clip's tensors and its configuration.
///
/// # Errors
/// Kind [`ExitKind::Experiment`]: the model has no form in open_clip; the reason is said.
pub fn to_open_clip(registry: &Registry, spec: &Spec, head: Head) -> Result<(Tensors, Json)> {
    let (timm_name, pool) = timm_name(spec.vision.as_ref())?;
    let image_size = spec
        .vision
        .as_ref()
        .map_or(NAMED_IMAGE_SIZE, Vision::image_size);
    let prefix = match head {
        Head::Z => "",
        Head::H => "l2l_",
    };
    let image_projector = linear(registry, &format!("{prefix}image_projector"))?;
    let text_projector = linear(registry, &format!("{prefix}text_projector"))?;
    // Without projectors of their own the augmented views share CLIP's scale too.
    let scale = registry
        .get(&format!("{prefix}logit_scale"))
        .or_else(|| registry.get("logit_scale"))
        .ok_or_else(|| no_form("it has no logit scale"))?;
    let mut tensors: Tensors = Vec::new();
    let mut push = |name: String, tensor: &Tensor| tensors.push((name, tensor.detach()));
    push("logit_scale".to_owned(), scale);
    for (name, tensor) in registry.state_dict() {
        if let Some(rest) = name.strip_prefix("visual.") {
            push(format!("visual.trunk.{rest}"), tensor);
        } else if name == "positional_embedding"
            || ["transformer.", "token_embedding.", "ln_final."]
                .iter()
                .any(|part| name.starts_with(part))
        {
            push(name.to_owned(), tensor);
        }
    }
    push("visual.head.proj.weight".to_owned(), image_projector);
    // A matrix [width, embed_dim] there, the weight of a layer here.
    push(
        "text_projection".to_owned(),
        &text_projector.tr().contiguous(),
    );
    let config = json!({
        "model_cfg": {
            "embed_dim": spec.embed_dim,
            // Of the text tower: timm's towers have activations of their own.
            "quick_gelu": true,
            "vision_cfg": {
                "timm_model_name": timm_name,
                "timm_model_pretrained": false,
                "timm_pool": pool,
                "timm_proj": "linear",
                "image_size": image_size,
            },
            "text_cfg": {
                "context_length": spec.context_length,
                "vocab_size": spec.vocab_size,
                "width": spec.transformer_width,
                "heads": spec.transformer_heads,
                "layers": spec.transformer_layers,
            },
        },
        "preprocess_cfg": {
            "mean": IMAGENET_MEAN.map(decimal),
            "std": IMAGENET_STD.map(decimal),
            "interpolation": "bilinear",
            "resize_mode": "shortest",
        },
    });
    Ok((tensors, config))
}

/// Reads a folder that open_clip loads: its tensors under the original's names, and the experiment of its
/// model, which is CLIP's with a tower of timm's. Its one embedding is head z.
///
/// # Errors
/// The folder is not whole, or the model is of another shape; the reason is said.
pub fn from_open_clip(dir: &Path) -> anyhow::Result<(Tensors, Experiment)> {
    let config_path = dir.join(CONFIG_FILE);
    let config: Json = rocket_common::atomic::read_json(&config_path)
        .map_err(|error| error.with_kind(ExitKind::Checkpoint))?;
    let experiment = experiment_of(&config["model_cfg"]).map_err(|why| {
        refuse(
            &config_path,
            format!("is of a model that has no form here: {why}"),
        )
    })?;
    let mut tensors: Tensors = Vec::new();
    for (name, tensor) in tensors::load(&dir.join(WEIGHTS_FILE))? {
        if let Some(rest) = name.strip_prefix("visual.trunk.") {
            tensors.push((format!("visual.{rest}"), tensor));
        } else if name == "visual.head.proj.weight" {
            tensors.push(("image_projector.weight".to_owned(), tensor));
        } else if name == "text_projection" {
            let weight = tensor.tr().contiguous();
            tensors.push(("text_projector.weight".to_owned(), weight));
        } else {
            tensors.push((name, tensor));
        }
    }
    Ok((tensors, experiment))
}

fn experiment_of(model: &Json) -> Result<Experiment, String> {
    let (vision, text) = (&model["vision_cfg"], &model["text_cfg"]);
    let number = |group: &Json, key: &str| {
        let found = group[key].as_i64();
        found.ok_or_else(|| format!("its configuration has no number '{key}'"))
    };
    let Some(timm) = vision["timm_model_name"].as_str() else {
        return Err("its vision tower is open_clip's own, and towers here are timm's".to_owned());
    };
    if model["quick_gelu"].as_bool() != Some(true) {
        return Err(
            "its text tower has GELU ('quick_gelu' is not true), and here it has QuickGELU"
                .to_owned(),
        );
    }
    if model.get("custom_text").and_then(Json::as_bool) == Some(true) {
        return Err("its text tower is not CLIP's ('custom_text')".to_owned());
    }
    let vision = match timm {
        "resnet50" => "R50".to_owned(),
        "convnext_tiny" => "CNEXTT".to_owned(),
        "convnext_small" => "CNEXTS".to_owned(),
        name => {
            let known = VITS.iter().find(|(_, known)| *known == name);
            let ([width, depth, heads, patch, hidden, image_size], _) =
                known.ok_or_else(|| format!("timm's '{name}' is no tower of these experiments"))?;
            format!(
                "{{arch: vit, width: {width}, depth: {depth}, heads: {heads}, patch: {patch}, hidden: {hidden}, image_size: {image_size}}}"
            )
        }
    };
    let yaml = format!(
        "{{name: open_clip, model: {{base: CLIP, child: CLIP, vision: {vision}, embed_dim: {}, context_length: {}, vocab_size: {}, transformer_width: {}, transformer_heads: {}, transformer_layers: {}}}, data: {{root: /, metadata: /}}}}",
        number(model, "embed_dim")?,
        number(text, "context_length")?,
        number(text, "vocab_size")?,
        number(text, "width")?,
        number(text, "heads")?,
        number(text, "layers")?,
    );
    experiment::parse_with(CONFIG_FILE, &yaml, &[], &|_| None).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        lines.join("; ")
    })
}

/// The decimal number that was meant, of three places: not the nearest float32 with all of its own.
fn decimal(value: f32) -> f64 {
    (f64::from(value) * 1e3).round() / 1e3
}

/// timm's name of a tower, and its pooling in open_clip's words.
fn timm_name(vision: Option<&Vision>) -> Result<(&'static str, &'static str)> {
    if let Some(Vision::Named(name)) = vision {
        match name.as_str() {
            "R50" => return Ok(("resnet50", "avg")),
            "CNEXTT" => return Ok(("convnext_tiny", "avg")),
            "CNEXTS" => return Ok(("convnext_small", "avg")),
            _ => {}
        }
    }
    let dims = vision.and_then(Vision::vit);
    dims.and_then(|dims| {
        let hidden = dims.hidden.unwrap_or(4 * dims.width);
        let sizes = [dims.width, dims.depth, dims.heads, dims.patch, hidden, dims.image_size];
        VITS.iter().find(|(known, _)| *known == sizes)
    })
    .map(|(_, name)| (*name, "token"))
    .ok_or_else(|| {
        no_form("timm has no vision tower of these dimensions by name (R50, ConvNeXt and timm's ViTs have one; VITS16MOCO with its 12 heads has none)")
    })
}

/// The weight of a projector that is one linear layer.
fn linear<'a>(registry: &'a Registry, name: &str) -> Result<&'a Tensor> {
    registry.get(&format!("{name}.weight")).ok_or_else(|| {
        let why = if registry.get(&format!("{name}.layer1.weight")).is_some() {
            format!("its '{name}' is an MLP, and open_clip's projectors are one linear layer without bias")
        } else {
            format!("it has no '{name}'")
        };
        let other = if name.starts_with("l2l_") { "z" } else { "h" };
        no_form(&why).hint(format!(
            "--head {other} takes the other projectors; .pt and .safetensors hold every model"
        ))
    })
}

fn no_form(why: &str) -> Error {
    Error::new(
        ExitKind::Experiment,
        format!("this model has no form that open_clip loads: {why}"),
    )
}
