//! The same checkpoint scored here and by Python's open_clip, from image files and prompts to figures
//! (`scripts/python-tests.sh`).

mod eval_support;
mod python_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use eval_support::write_json;
use python_support::python;
use rocket_common::experiment;
use rocket_worker::exchange::{self, Tensors};
use rocket_worker::model::{Model, Options, Role};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const YAML: &str = "
name: small
model:
  name: CL2L_VITS32_CL2L
  transformer_layers: 2
  transformer_width: 128
  transformer_heads: 4
  embed_dim: 64
  separate_proj: true
  cl2l_img_proj_type: linear
  cl2l_txt_proj_type: linear
data: {root: /data, metadata: /data/captions.npy}
";

fn worker(args: &[&str], dir: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("rocket-worker starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A model whose class embeddings differ from each other.
fn write_weights(dir: &Path) {
    fs::write(dir.join("exp.yaml"), YAML).expect("written");
    let experiment = experiment::parse("exp.yaml", YAML, &[]).expect("an experiment");
    tch::manual_seed(3);
    let model = Model::new(
        &experiment.model,
        &Options::of(&experiment, Device::Cpu, None),
    )
    .expect("a model");
    for entry in model.registry().entries() {
        let mut tensor = entry.tensor.detach();
        if entry.role != Role::Buffer && tensor.kind() == Kind::Float && tensor.dim() > 0 {
            let spread = if tensor.dim() == 1 { 0.05 } else { 0.02 };
            let _ = tensor.g_add_(&(Tensor::randn_like(&tensor) * spread));
        }
    }
    let weights: Tensors = (model.registry().state_dict())
        .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
        .collect();
    exchange::write_safetensors(&dir.join("w.safetensors"), &weights).expect("written");
    for head in ["z", "h"] {
        let folder = format!("{head}.open_clip");
        let args = [
            "convert",
            "w.safetensors",
            &folder,
            "--to",
            "open_clip",
            "--head",
            head,
            "--experiment",
            "exp.yaml",
        ];
        worker(&args, dir);
    }
}

/// 18 classes of four of the photographs each, with captions for retrieval.
fn write_set(dir: &Path) {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny/images");
    let mut files: Vec<PathBuf> = fs::read_dir(photos)
        .expect("the photographs")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let words = [
        "temple", "roof", "gate", "wall", "petal", "stem", "leaf", "sky", "stone",
    ];
    let names: Vec<String> = (0..18)
        .map(|i| format!("{} number {i}", words[i % words.len()]))
        .collect();
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (i, file) in files.iter().enumerate() {
        let class = &names[(i * 5) % names.len()];
        let name = format!("{class}/{i:02}.jpg");
        fs::create_dir_all(dir.join("images").join(class)).expect("created");
        fs::copy(file, dir.join("images").join(&name)).expect("copied");
        images.push(json!({"id": 1000 - i, "file_name": name}));
        // One to three captions, and not in the order of the images.
        for k in 0..1 + i % 3 {
            let caption = format!(
                "{} {k} of a {}, seen {i} times",
                words[(i + k) % 9],
                words[i * 7 % 9]
            );
            annotations.insert(
                annotations.len() / 2,
                json!({"image_id": 1000 - i, "caption": caption}),
            );
        }
    }
    write_json(
        &dir.join("captions.json"),
        &json!({"images": images, "annotations": annotations}),
    );
    let prompts = [
        "a photo of a {}.",
        "{}",
        "a drawing of the {} from far away",
    ];
    write_json(&dir.join("names.json"), &json!(names));
    write_json(&dir.join("prompts.json"), &json!(prompts));
    write_json(&dir.join("labels.json"), &json!({"photos": names}));
    write_json(&dir.join("templates.json"), &json!({"photos": prompts}));
    let entry = json!({"path": "images", "type": "imagefolder", "test": "."});
    write_json(&dir.join("dataset_catalog.json"), &json!({"photos": entry}));
}

#[test]
fn figures_are_those_of_open_clip() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write_weights(dir);
    write_set(dir);
    python_support::run(&python, "evaluate.py", [dir]);
    let theirs: Value =
        serde_json::from_slice(&fs::read(dir.join("scores.json")).expect("scores")).expect("JSON");

    let ours = worker(
        &[
            "eval",
            "--weights",
            "w.safetensors",
            "--experiment",
            "exp.yaml",
            "--datasets",
            "photos",
            "--json",
        ],
        dir,
    );
    let ours: Value = serde_json::from_str(&ours).expect("JSON");
    let figures = ["top1", "top5", "mean_per_class"];
    let differ = compare(&ours[0]["heads"], &theirs["zero_shot"], &figures);
    assert!(
        differ > 3,
        "scores that could not differ show nothing: {ours:#}"
    );

    let args = [
        "retrieval",
        "--weights",
        "w.safetensors",
        "--experiment",
        "exp.yaml",
        "--captions",
        "captions.json",
        "--images",
        "images",
        "--json",
    ];
    let ours: Value = serde_json::from_str(&worker(&args, dir)).expect("JSON");
    assert_eq!((&ours["images"], &ours["texts"]), (&json!(72), &json!(144)));
    let recalls = ["image_to_text", "text_to_image"];
    let differ = compare(&ours["recall"], &theirs["retrieval"], &recalls);
    assert!(
        differ > 6,
        "scores that could not differ show nothing: {ours:#}"
    );

    // What open_clip loads is scored as well: head z alone.
    let args = [
        "eval",
        "--weights",
        "z.open_clip",
        "--datasets",
        "photos",
        "--json",
    ];
    let ours: Value = serde_json::from_str(&worker(&args, dir)).expect("JSON");
    compare(
        &ours[0]["heads"],
        &json!([theirs["zero_shot"][0]]),
        &figures,
    );
}

/// Compares every figure of every head to 1e-4, and gives how many different values there were.
fn compare(ours: &Value, theirs: &Value, figures: &[&str]) -> usize {
    let (ours, theirs) = (
        ours.as_array().expect("heads"),
        theirs.as_array().expect("heads"),
    );
    assert_eq!(ours.len(), theirs.len());
    let mut values = std::collections::BTreeSet::new();
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours["head"], theirs["head"]);
        for figure in figures {
            let list = |value: &Value| -> Vec<f64> {
                match value {
                    Value::Array(all) => {
                        all.iter().map(|v| v.as_f64().expect("a number")).collect()
                    }
                    value => vec![value.as_f64().expect("a number")],
                }
            };
            let (a, b) = (list(&ours[figure]), list(&theirs[figure]));
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter().zip(&b) {
                assert!(
                    (a - b).abs() <= 1e-4,
                    "{figure} of {}: {a} here, {b} there",
                    ours["head"]
                );
                values.insert(format!("{a:.6}"));
            }
        }
    }
    values.len()
}
