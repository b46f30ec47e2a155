//! Evaluation against torch, torchvision's own readers and scikit-learn, on sets in their published
//! files, and `prepare-eval` of sets with MATLAB's and HDF5 files, as SciPy and h5py write these
//! (`scripts/python-tests.sh`, `scripts/eval-data.sh`).

mod eval_support;
mod run_support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use eval_support::write_json;
use rocket_common::run_dir::RunDir;
use rocket_worker::checkpoint::tensors;
use serde_json::{Value, json};

/// The model of `python/eval_sets.py`.
const SMALL: &str = "
name: small
model:
  base: CL2L
  child: CL2L
  vision: {arch: vit, width: 64, depth: 2, heads: 2, patch: 8, image_size: 32}
  separate_proj: true
  embed_dim: 32
  cl2l_img_proj_type: linear
  cl2l_txt_proj_type: linear
  transformer_layers: 2
  transformer_width: 64
  transformer_heads: 2
data: {root: /data, metadata: /data/captions.npy}
cluster: {nodes: 1, gpus_per_node: 1}
";

fn built(what: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.build")
        .join(what)
}

/// Whether the packages and sets are there; where they must be, they are.
fn ready() -> bool {
    let needed = [built("python-tests/bin/python"), built("eval-data/sets")];
    let missing = needed.iter().find(|path| !path.exists());
    let Some(missing) = missing else { return true };
    let everything = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !everything,
        "{} is missing: scripts/eval-data.sh makes it",
        missing.display()
    );
    eprintln!(
        "skipped: {} is missing; scripts/eval-data.sh makes it",
        missing.display()
    );
    false
}

/// Runs a script of `python/`; gives what it printed.
#[track_caller]
fn python(script: &str, args: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(script);
    let output = Command::new(built("python-tests/bin/python"))
        .env("PYTHONPATH", built("eval-data/site"))
        .arg(script)
        .args(args)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Runs `rocket-worker`; gives what it printed.
#[track_caller]
fn worker(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(args)
        .env_remove("ROCKET_PIN_DIR")
        .output()
        .expect("rocket-worker starts");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A run whose last checkpoint has the weights of a safetensors file.
fn run_of(root: &Path, weights: &Path) -> RunDir {
    let experiment = run_support::experiment(SMALL);
    let run = run_support::create(root, &experiment);
    let model = run_support::model(&experiment, 0);
    let read = tensors::load(weights).expect("weights");
    model
        .registry()
        .load(read.iter().map(|(name, value)| (name.as_str(), value)))
        .expect("the weights fit");
    run_support::save(&run, &model, 40, &[]);
    run
}

/// Figures by set and head, and the number of images.
type Figures = BTreeMap<String, (u64, BTreeMap<String, Value>)>;

/// Scores the last checkpoint on sets of a catalog, with the labels and prompts that lie beside it.
fn evaluate(run: &RunDir, catalog: &Path, sets: &str) -> Figures {
    let text = |path: &Path| path.display().to_string();
    let out = worker(&[
        "eval",
        "--run",
        &text(run.path()),
        "--checkpoint",
        "last",
        "--catalog",
        &text(catalog),
        "--labels",
        &text(&catalog.with_file_name("labels.json")),
        "--templates",
        &text(&catalog.with_file_name("templates.json")),
        "--datasets",
        sets,
        "--json",
    ]);
    let results: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    results
        .iter()
        .map(|result| {
            let heads = result["heads"].as_array().expect("heads");
            let heads = heads.iter().map(|head| {
                (
                    head["head"].as_str().expect("a name").to_owned(),
                    head.clone(),
                )
            });
            let samples = result["samples"].as_u64().expect("samples");
            (
                result["dataset"].as_str().expect("a name").to_owned(),
                (samples, heads.collect()),
            )
        })
        .collect()
}

#[test]
fn figures_on_published_files_are_those_of_python() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("created");
    let sets = fs::canonicalize(built("eval-data/sets")).expect("sets");
    for set in ["mnist", "cifar10", "stl10", "emoji"] {
        symlink(sets.join(set), data.join(set)).expect("linked");
    }
    for (set, source) in [
        ("country211", "country211/country211.tgz"),
        ("hateful_memes", "memes"),
    ] {
        let (source, dest) = (sets.join(source), data.join(set));
        worker(&[
            "data",
            "prepare-eval",
            set,
            source.to_str().expect("text"),
            dest.to_str().expect("text"),
        ]);
    }
    // The repository's catalog and the demo's set, with the demo's labels and prompts beside them.
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let catalog = data.join("dataset_catalog.json");
    let text = fs::read_to_string(repository.join("dataset_catalog.json")).expect("a catalog");
    let text = text.replace("${ROCKET_DATASETS}", &data.display().to_string());
    let mut entries: Value = serde_json::from_str(&text).expect("JSON");
    let demo = fs::read(repository.join("demo/dataset_catalog.json")).expect("a catalog");
    let demo: Value = serde_json::from_slice(&demo).expect("JSON");
    entries["emoji"] = demo["emoji"].clone();
    entries["emoji"]["path"] = data.join("emoji").display().to_string().into();
    write_json(&catalog, &entries);
    for file in ["labels.json", "templates.json"] {
        fs::copy(repository.join("demo").join(file), data.join(file)).expect("copied");
    }
    let checked = worker(&[
        "data",
        "check",
        "--catalog",
        catalog.to_str().expect("text"),
    ]);
    let checked = checked.replace(&dir.path().display().to_string(), "[DIR]");
    insta::assert_snapshot!(
        "figures_on_published_files_are_those_of_python__check",
        checked
    );

    let weights = dir.path().join("small.safetensors");
    let theirs = python("eval_sets.py", &[&data, &weights]);
    let theirs: Value = serde_json::from_str(&theirs).expect("JSON");
    let run = run_of(dir.path(), &weights);
    let names = "mnist,cifar10,stl10,country211,hateful_memes,emoji";
    let ours = evaluate(&run, &catalog, names);
    assert_eq!(ours.len(), 6);
    for (set, (samples, heads)) in &ours {
        let theirs = &theirs[set];
        assert_eq!(theirs["samples"].as_u64(), Some(*samples), "{set}");
        assert_eq!(heads.len(), 11, "{set}");
        for (head, figures) in heads {
            for (figure, theirs) in theirs[head].as_object().expect("figures") {
                let (ours, theirs) = (figures[figure].as_f64(), theirs.as_f64());
                let (ours, theirs) = (ours.expect("a figure"), theirs.expect("a figure"));
                assert!(
                    (ours - theirs).abs() <= 1e-4,
                    "{set} {head} {figure}: {ours} and {theirs}"
                );
            }
        }
        println!(
            "{set}: {samples} images, z {}, h {}",
            heads["z"], heads["h"]
        );
    }
    // The model has learnt something, so that the figures are not those of one class.
    let top1 = ours["mnist"].1["z"]["top1"].as_f64().expect("a figure");
    assert!(top1 > 15.0, "{top1}");

    // The same images in the binary version of CIFAR-10, without the one for Python.
    let binary = data.join("binary");
    fs::create_dir(&binary).expect("created");
    symlink(
        sets.join("cifar10/cifar-10-batches-bin"),
        binary.join("cifar-10-batches-bin"),
    )
    .expect("linked");
    write_json(
        &catalog,
        &json!({"cifar10": {"path": binary, "type": "special"}}),
    );
    assert_eq!(
        evaluate(&run, &catalog, "cifar10")["cifar10"],
        ours["cifar10"]
    );
}

#[test]
fn label_files_of_matlab_and_hdf5_are_read() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let sources = dir.path().join("sources");
    python("eval_sources.py", &[&sources]);
    let mut said = String::new();
    for set in ["cars", "cars_old", "flowers", "imagenet", "patch_camelyon"] {
        let (source, dest) = (sources.join(set), dir.path().join(set));
        let name = set.strip_suffix("_old").unwrap_or(set);
        said += &worker(&[
            "data",
            "prepare-eval",
            name,
            source.to_str().expect("text"),
            dest.to_str().expect("text"),
        ]);
        let mut files: Vec<String> = walk(&dest)
            .iter()
            .map(|file| {
                file.strip_prefix(&dest)
                    .expect("below")
                    .display()
                    .to_string()
            })
            .collect();
        files.sort();
        said += &(files.join("\n") + "\n\n");
    }
    insta::assert_snapshot!(said.replace(&dir.path().display().to_string(), "[DIR]"));
    let pixels = fs::read(dir.path().join("patch_camelyon/val/tumor/img_1.png")).expect("an image");
    let picture = rocket_worker::image::decode(&pixels).expect("a PNG");
    // Pixel i of image 1 is (i + 1) mod 256 in each of its numbers, as the script writes it.
    let want: Vec<u8> = (0..96 * 96 * 3).map(|i| ((i + 1) % 256) as u8).collect();
    assert_eq!(picture.data, want);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
