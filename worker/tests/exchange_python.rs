//! Checkpoints to and from Python's own torch, safetensors and open_clip (`scripts/python-tests.sh`).

mod python_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use python_support::python;
use rocket_common::experiment::{self, Experiment};
use rocket_worker::checkpoint::tensors;
use rocket_worker::exchange::{
    self, Form, Progress, PtCheckpoint, PtOptimizer, Tensors, args_of, load_for_training,
    load_text_encoder, read_pt, write_pt,
};
use rocket_worker::model::{Model, Options, Role};
use rocket_worker::optim::NamedAdamW;
use tch::{Device, Kind, Tensor};
use tch_distributed::ScalerState;

/// The model of `python/exchange.py`.
const SMALL: &str = "
name: small
model:
  base: CL2L
  child: CL2L
  vision: {arch: vit, width: 32, depth: 2, heads: 2, patch: 8, image_size: 16}
  separate_proj: true
  embed_dim: 16
  clip_proj_type: mlp
  clip_hidden_dim: 24
  cl2l_img_proj_type: linear
  cl2l_txt_proj_type: linear
  transformer_layers: 2
  transformer_width: 32
  transformer_heads: 2
data: {root: /data, metadata: /data/captions.npy}
";

fn experiment_of(text: &str) -> Experiment {
    experiment::parse("exp.yaml", text, &[]).expect("a good experiment")
}

fn model_of(experiment: &Experiment) -> Model {
    tch::set_num_threads(2);
    Model::new(
        &experiment.model,
        &Options::of(experiment, Device::Cpu, None),
    )
    .expect("a model")
}

/// Runs `exchange.py` in a folder.
#[track_caller]
fn run(python: &Path, command: &str, dir: &Path) {
    python_support::run(python, "exchange.py", [Path::new(command), dir]);
}

/// Runs `rocket-worker convert`; gives its code and what it said.
fn convert(args: &[&Path], flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .arg("convert")
        .args(args)
        .args(flags)
        .output()
        .expect("rocket-worker starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The part of a file of truths under a prefix.
fn part(truth: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let prefix = format!("{prefix}/");
    truth
        .iter()
        .filter_map(|(name, tensor)| {
            Some((
                name.strip_prefix(&prefix)?.to_owned(),
                tensor.shallow_clone(),
            ))
        })
        .collect()
}

#[track_caller]
fn assert_same(found: &BTreeMap<String, Tensor>, want: &BTreeMap<String, Tensor>) {
    let names = |map: &BTreeMap<String, Tensor>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(want));
    for (name, want) in want {
        let found = &found[name];
        assert_eq!(
            (found.size(), found.kind()),
            (want.size(), want.kind()),
            "{name}"
        );
        assert!(found.equal(want), "{name}");
    }
}

#[test]
fn what_python_saves_is_read_bit_by_bit() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    run(&python, "write", dir.path());

    let truth = tensors::load(&at("original.safetensors")).expect("truths");
    let model = model_of(&experiment_of(SMALL));
    let read = load_for_training(&at("original.pt"), model.registry()).expect("read");
    assert_same(&read.model, &part(&truth, "model"));
    assert_same(
        &read.momentum.expect("a momentum encoder"),
        &part(&truth, "momentum"),
    );
    let optim = read.optim.expect("an optimiser");
    assert_same(&optim, &part(&truth, "optim"));
    assert_eq!(
        (read.progress, read.best_score),
        (Progress::Epochs(5), Some(0.345))
    );
    let scaler: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(at("scaler.json")).unwrap()).unwrap();
    let found = read.scaler.expect("a scaler");
    assert_eq!(scaler["scale"], found.scale);
    assert_eq!(scaler["growth_interval"], found.growth_interval);
    assert_eq!(scaler["_growth_tracker"], found.growth_tracker);
    // All of it fits: training can go on.
    let all = read
        .model
        .iter()
        .map(|(name, value)| (name.as_str(), value));
    model.registry().load(all).expect("it fits");
    let mut optimizer = NamedAdamW::new(model.registry(), &experiment_of(SMALL).optim).unwrap();
    optimizer.load_state(&optim).expect("it fits");

    let text = load_text_encoder(&at("original.pt")).expect("a text tower");
    assert_eq!(text.len(), 2 * 12);
    assert!(
        text.keys()
            .all(|name| name.starts_with("transformer.resblocks."))
    );
    let args = read_pt(&at("original.pt"))
        .unwrap()
        .args
        .expect("arguments");
    assert_eq!(args["model"], "CL2L_VITB16_CL2L");

    let views = part(
        &tensors::load(&at("views.safetensors")).expect("truths"),
        "views",
    );
    for file in ["views.pt", "views_without_checksums.pt"] {
        let read: BTreeMap<_, _> = read_pt(&at(file)).expect(file).model.into_iter().collect();
        assert_same(&read, &views);
    }
    assert_eq!(read_pt(&at("defaultdict.pt")).unwrap().model.len(), 1);

    let refusal = |name: &str| {
        let error = read_pt(&at(name)).expect_err(name);
        let said = format!("{error}; {}", error.hints().join("; "));
        said.replace(&dir.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(refusal("legacy.pt"));
    insta::assert_snapshot!(refusal("module.pt"));
    insta::assert_snapshot!(refusal("script.pt"));

    // Another architecture: the command says which names differ.
    std::fs::write(
        at("other.yaml"),
        SMALL
            .replace("depth: 2", "depth: 3")
            .replace("embed_dim: 16", "embed_dim: 8"),
    )
    .unwrap();
    let (src, dst, other) = (at("original.pt"), at("never.pt"), at("other.yaml"));
    let (code, said) = convert(&[&src, &dst], &["--experiment", other.to_str().unwrap()]);
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("is of another model: the tensors do not fit this model; missing: visual.blocks.2.norm1.weight"), "{said}");
    assert!(
        said.contains("image_projector.layer3.weight is [8, 24] here, [16, 24] there"),
        "{said}"
    );
    assert!(!dst.exists());
}

#[test]
fn python_loads_what_is_written_and_goes_on_alike() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let experiment = experiment_of(SMALL);
    let model = model_of(&experiment);
    let registry = model.registry();
    tch::manual_seed(3);
    let gradients = || -> BTreeMap<String, Tensor> {
        let random = |tensor: &Tensor| Tensor::randn(tensor.size(), (Kind::Float, Device::Cpu));
        registry
            .trainable()
            .map(|entry| (entry.name.clone(), random(&entry.tensor)))
            .collect()
    };
    let put = |gradients: &BTreeMap<String, Tensor>| {
        for entry in registry.trainable() {
            let wanted = (&entry.tensor * &gradients[&entry.name]).sum(Kind::Float);
            wanted.backward();
        }
    };
    for entry in registry
        .buffers()
        .filter(|entry| entry.tensor.kind() == Kind::Float)
    {
        let _ = entry.tensor.shallow_clone().uniform_(0.5, 1.5);
    }
    let mut optimizer = NamedAdamW::new(registry, &experiment.optim).unwrap();
    for _ in 0..2 {
        put(&gradients());
        optimizer.step(1e-2).unwrap();
        optimizer.zero_grad().unwrap();
    }
    let weights = |copy: fn(&Tensor) -> Tensor| -> Tensors {
        registry
            .state_dict()
            .map(|(name, tensor)| (name.to_owned(), copy(tensor)))
            .collect()
    };
    let named: BTreeMap<_, _> = optimizer.state().into_iter().collect();
    let checkpoint = PtCheckpoint {
        model: weights(Tensor::detach),
        momentum: Some(weights(|tensor| tensor.detach().copy())),
        optimizer: Some(PtOptimizer::from_named(registry, &named, &experiment.optim).unwrap()),
        scaler: Some(ScalerState {
            scale: 512.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            growth_tracker: 17,
            ..ScalerState::default()
        }),
        epoch: Some(3),
        best_acc1: Some(12.5),
        args: Some(args_of(&experiment)),
    };
    write_pt(
        &at("checkpoint.pt"),
        &checkpoint,
        Form::Checkpoint { module: true },
    )
    .expect("written");
    write_pt(&at("weights.pt"), &checkpoint, Form::StateDict).expect("written");
    // What is written is what is read.
    let again = load_for_training(&at("checkpoint.pt"), registry).expect("read");
    assert_same(
        &again.model,
        &checkpoint
            .model
            .iter()
            .map(|(n, t)| (n.clone(), t.shallow_clone()))
            .collect(),
    );
    assert_same(&again.optim.unwrap(), &named);
    assert_eq!(again.scaler, checkpoint.scaler);

    std::fs::write(at("small.yaml"), SMALL).unwrap();
    let (src, dst, yaml) = (
        at("checkpoint.pt"),
        at("weights.safetensors"),
        at("small.yaml"),
    );
    let (code, said) = convert(&[&src, &dst], &["--experiment", yaml.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = convert(&[&src, &dst], &[]);
    assert_eq!(
        (code, said.contains("exists already")),
        (Some(2), true),
        "{said}"
    );

    let last = gradients();
    let given: Tensors = (checkpoint
        .model
        .iter()
        .map(|(name, tensor)| (format!("model/{name}"), tensor.copy())))
    .chain(
        last.iter()
            .map(|(name, tensor)| (format!("grad/{name}"), tensor.shallow_clone())),
    )
    .collect();
    tensors::save(&at("rust.safetensors"), &given).unwrap();
    run(&python, "check", dir.path());

    put(&last);
    optimizer.step(1e-2).unwrap();
    let stepped = part(&tensors::load(&at("stepped.safetensors")).unwrap(), "model");
    for entry in registry.parameters() {
        let off = (&entry.tensor - &stepped[&entry.name])
            .abs()
            .max()
            .double_value(&[]);
        assert!(off <= 1e-6, "{}: {off}", entry.name);
    }
}

#[test]
fn open_clip_embeds_as_the_model_does() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    tch::manual_seed(4);
    let images = Tensor::randn([2, 3, 224, 224], (Kind::Float, Device::Cpu));
    let tokens = Tensor::randint_low(1, 49000, [2, 77], (Kind::Int64, Device::Cpu));
    let _ = tokens.get(0).get(0).fill_(49406).shallow_clone();
    for row in 0..2 {
        let _ = tokens.get(row).get(9 + row).fill_(49407);
    }
    let mut inputs = vec![("images".to_owned(), images.shallow_clone())];
    inputs.push(("tokens".to_owned(), tokens.shallow_clone()));
    tensors::save(&at("inputs.safetensors"), &inputs).unwrap();

    let mut ours = Vec::new();
    for (name, head) in [("R50", "z"), ("VITS16", "h")] {
        let text = format!(
            "name: {name}\nmodel: {{name: CL2L_{name}_CL2L, transformer_layers: 2, separate_proj: true, \
             cl2l_img_proj_type: linear, cl2l_txt_proj_type: linear}}\n\
             data: {{root: /data, metadata: /data/captions.npy}}\n"
        );
        let experiment = experiment_of(&text);
        let model = model_of(&experiment);
        for entry in model.registry().entries() {
            // Statistics that are no longer those of a new layer, and every parameter with a part in it.
            let mut tensor = entry.tensor.detach();
            if entry.role == Role::Buffer && tensor.kind() == Kind::Float {
                let _ = tensor.uniform_(0.5, 1.5);
            } else if tensor.dim() == 1 {
                let _ = tensor.g_add_(&(Tensor::randn_like(&tensor) * 0.05));
            }
        }
        let weights: Tensors = (model.registry().state_dict())
            .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
            .collect();
        let (src, yaml) = (
            at(&format!("{name}.safetensors")),
            at(&format!("{name}.yaml")),
        );
        exchange::write_safetensors(&src, &weights).unwrap();
        std::fs::write(&yaml, text).unwrap();
        let folder = format!("open_clip_{name}");
        let flags = [
            "--to",
            "open_clip",
            "--head",
            head,
            "--experiment",
            yaml.to_str().unwrap(),
        ];
        let (code, said) = convert(&[&src, &at(&folder)], &flags);
        assert_eq!(code, Some(0), "{said}");
        let (image, text) = (
            model.encode_image(&images).unwrap(),
            model.encode_text(&tokens).unwrap(),
        );
        let (image, text) = match head {
            "z" => (image.z, text.z),
            _ => (image.h.unwrap(), text.h.unwrap()),
        };
        let scale = if head == "z" {
            "logit_scale"
        } else {
            "l2l_logit_scale"
        };
        let scale = model.registry().get(scale).unwrap().exp();
        ours.push((folder, [("image", image), ("text", text), ("scale", scale)]));
    }
    run(&python, "open_clip", dir.path());
    let theirs = tensors::load(&at("embedded.safetensors")).unwrap();
    for (folder, parts) in ours {
        for (part, ours) in parts {
            let theirs = &theirs[&format!("{folder}/{part}")];
            assert_eq!(ours.size(), theirs.size(), "{folder} {part}");
            let size = ours.abs().max().double_value(&[]);
            let off = (&ours - theirs).abs().max().double_value(&[]) / size;
            println!("{folder} {part}: {off:.1e}");
            assert!(size > 0.0 && off <= 1e-4, "{folder} {part}: {off}");
        }
    }
}
