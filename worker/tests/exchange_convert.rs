//! `rocket-worker convert` on a run's directory, and the original's command line.

mod run_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rocket_common::checkpoint::{Info, Position, dir_name};
use rocket_common::experiment::{self, Experiment};
use rocket_common::run_dir::RunDir;
use rocket_worker::checkpoint::{Snapshot, TrainState, save, tensors};
use rocket_worker::exchange::{
    Progress, args_of, experiment_of, load_for_training, load_text_encoder, model_name, read,
};
use rocket_worker::model::{Model, Options};
use rocket_worker::optim::NamedAdamW;
use tch::{Device, Tensor};
use tch_distributed::ScalerState;
use tempfile::TempDir;

/// Without projectors of their own the augmented views have CLIP's, under two names.
const YAML: &str = "
name: tiny
seed: 5
model:
  base: CL2L
  child: CL2L
  vision: {arch: vit, width: 16, depth: 1, heads: 2, patch: 16, image_size: 32}
  embed_dim: 8
  transformer_width: 16
  transformer_layers: 1
  transformer_heads: 2
data: {root: /nowhere, metadata: /nowhere/x.npy}
cluster: {nodes: 1, gpus_per_node: 1}
";

struct Run {
    root: TempDir,
    run: RunDir,
    model: Model,
    optim: BTreeMap<String, Tensor>,
}

fn parse(text: &str) -> Experiment {
    experiment::parse("exp.yaml", text, &[]).expect("a good experiment")
}

fn build(experiment: &Experiment) -> Model {
    Model::new(
        &experiment.model,
        &Options::of(experiment, Device::Cpu, None),
    )
    .expect("a model")
}

impl Run {
    /// A run that saved two steps into its fourth epoch.
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let experiment = parse(YAML);
        let run = run_support::create(root.path(), &experiment);
        let model = build(&experiment);
        let mut optimizer = NamedAdamW::new(model.registry(), &experiment.optim).unwrap();
        for entry in model.registry().trainable() {
            (&entry.tensor * 2.0).sum(tch::Kind::Float).backward();
        }
        optimizer.step(1e-3).unwrap();
        let values: Vec<(String, Tensor)> = (model.registry().entries().iter())
            .map(|entry| (entry.name.clone(), entry.tensor.detach()))
            .collect();
        let optim = optimizer.state();
        let momentum: Vec<(String, Tensor)> = (values.iter())
            .map(|(name, tensor)| (name.clone(), tensor.zeros_like()))
            .collect();
        let state = TrainState {
            step: 20,
            best_score: Some(0.25),
            scaler: Some(ScalerState {
                scale: 32.0,
                ..ScalerState::default()
            }),
            ..TrainState::default()
        };
        let snapshot = Snapshot {
            model: &values,
            optim: &optim,
            momentum: Some(&momentum),
            state: &state,
        };
        let info = Info {
            step: 20,
            position: Position {
                epoch: 3,
                offset: 8,
            },
            ..Info::default()
        };
        save(&run, 0, &snapshot, info).expect("saved");
        let optim = optim.into_iter().collect();
        Self {
            root,
            run,
            model,
            optim,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

fn convert(src: &Path, dst: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .arg("convert")
        .args([src, dst])
        .args(flags)
        .output()
        .expect("rocket-worker starts");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    let root = dst.parent().expect("a folder").display().to_string();
    (output.status.code(), said.replace(&root, "DIR"))
}

#[test]
fn a_run_becomes_a_checkpoint_of_the_original() {
    let run = Run::new();
    let dst = run.at("x.pt");
    let (code, said) = convert(run.run.path(), &dst, &[]);
    assert_eq!(code, Some(0), "{said}");
    insta::assert_snapshot!(said);
    let read_back = load_for_training(&dst, run.model.registry()).expect("read");
    assert_eq!(read_back.progress, Progress::Epochs(3));
    assert_eq!(read_back.best_score, Some(0.25));
    let optim = read_back.optim.expect("an optimiser");
    assert_eq!(optim.len(), run.optim.len());
    for (name, tensor) in &optim {
        assert!(tensor.equal(&run.optim[name]), "{name}");
    }
    assert_eq!(read_back.scaler.map(|scaler| scaler.scale), Some(32.0));
    // The momentum encoder too under every name.
    let momentum = read_back.momentum.expect("a momentum encoder");
    assert_eq!(momentum.len(), read_back.model.len());
    assert!(
        momentum
            .values()
            .all(|tensor| tensor.count_nonzero_dim_intlist([0i64; 0]).int64_value(&[]) == 0)
    );
    // Every name of a tied tensor, in the original's order, and stored once.
    let file = read(&dst).expect("read");
    let names: Vec<&str> = file.model.iter().map(|(name, _)| name.as_str()).collect();
    let wanted: Vec<&str> = run
        .model
        .registry()
        .state_dict()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, wanted);
    for (name, tensor) in &file.model {
        assert!(
            tensor.equal(run.model.registry().get(name).unwrap()),
            "{name}"
        );
    }
    let address = |wanted: &str| {
        file.model
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, t)| t.data_ptr())
    };
    assert_eq!(
        address("image_projector.weight"),
        address("l2l_image_projector.weight")
    );
    let args = file.args.expect("arguments");
    assert_eq!(
        (args["seed"].as_u64(), args["embed_dim"].as_u64()),
        (Some(5), Some(8))
    );

    // One checkpoint by its own folder; from there on there is no way back to a run, but to every file.
    let checkpoint = run.run.checkpoints_dir().join(dir_name(20));
    let dst = run.at("y.safetensors");
    let (code, said) = convert(&checkpoint, &dst, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(tensors::load(&dst).unwrap().len(), wanted.len());
    for source in [run.run.path(), checkpoint.as_path(), dst.as_path()] {
        assert_eq!(load_text_encoder(source).expect("a text tower").len(), 12);
    }
    let ours = load_for_training(&checkpoint, run.model.registry()).expect("read");
    assert_eq!(ours.progress, Progress::Steps(20));
}

#[test]
fn what_cannot_be_converted_is_said() {
    let run = Run::new();
    let to = |name: &str, flags: &[&str]| convert(run.run.path(), &run.at(name), flags);
    insta::assert_debug_snapshot!(to("x.onnx", &[]));
    insta::assert_debug_snapshot!(to("folder", &["--to", "open_clip"]));
    // A copy of a checkpoint's folder has no run around it that says the experiment.
    let lonely = run.at("lonely");
    fs::create_dir(&lonely).unwrap();
    let checkpoint = run.run.checkpoints_dir().join(dir_name(20));
    for entry in fs::read_dir(checkpoint).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), lonely.join(entry.file_name())).unwrap();
    }
    insta::assert_debug_snapshot!(convert(&lonely, &run.at("x.pt"), &[]));
    insta::assert_debug_snapshot!(convert(&run.at("nothing.pt"), &run.at("x.pt"), &[]));
    // A projector that open_clip has no form for.
    let yaml = "name: r50\nmodel: {name: CL2L_VITS32_CL2L, separate_proj: true, transformer_layers: 1}\n\
                data: {root: /nowhere, metadata: /nowhere/x.npy}\n";
    fs::write(run.at("mlp.yaml"), yaml).unwrap();
    let model = build(&parse(yaml));
    let values: Vec<(String, Tensor)> = (model.registry().state_dict())
        .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
        .collect();
    tensors::save(&run.at("mlp.safetensors"), &values).unwrap();
    let experiment = run.at("mlp.yaml").display().to_string();
    let flags = [
        "--to",
        "open_clip",
        "--head",
        "h",
        "--experiment",
        &experiment,
    ];
    insta::assert_debug_snapshot!(convert(
        &run.at("mlp.safetensors"),
        &run.at("folder"),
        &flags
    ));
    assert!(!run.at("folder").exists());
}

/// What is too many in an optimiser's state was counted and not named.
#[test]
fn an_optimiser_of_another_model_is_refused_with_the_names() {
    let run = Run::new();
    let experiment = parse(YAML);
    let mut optimizer = NamedAdamW::new(run.model.registry(), &experiment.optim).unwrap();
    let copy = || -> BTreeMap<String, Tensor> {
        let named = run.optim.iter();
        named
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect()
    };
    let mut other = copy();
    let step = other.remove("logit_scale.step").expect("a step count");
    let error = optimizer.load_state(&other).expect_err("one is missing");
    assert!(
        error
            .to_string()
            .ends_with("missing [logit_scale.step], too many []"),
        "{error}"
    );
    other.insert("l2l_scale.step".to_owned(), step);
    other.extend(copy());
    let error = optimizer.load_state(&other).expect_err("one is too many");
    assert!(
        error
            .to_string()
            .ends_with("missing [], too many [l2l_scale.step]"),
        "{error}"
    );
}

#[test]
fn an_experiment_survives_the_originals_command_line() {
    let yaml = "name: x\nseed: 7\nmodel: {name: CL2L_VITB32_CL2L, separate_proj: true, embed_dim: 128, transformer_layers: 6, \
                cl2l_img_proj_type: linear}\naugment: {num_augs: 3, weak_min_scale: 0.4}\n\
                optim: {lr: 1e-4, wd: 0.2, betas: [0.8, 0.9]}\ntrain: {label_smoothing: 0.1, batch_size: 32, precision: float32}\n\
                data: {root: /nowhere, metadata: /nowhere/x.npy}\n";
    let experiment = parse(yaml);
    assert_eq!(
        model_name(&experiment.model).as_deref(),
        Some("CL2L_VITB32_CL2L")
    );
    let args = args_of(&experiment);
    assert_eq!(args["disable_amp"], true);
    let back = experiment_of(&args).expect("an experiment");
    assert_eq!(back.model, experiment.model);
    assert_eq!((back.augment.num_augs, &back.optim), (3, &experiment.optim));
    assert_eq!(back.train.label_smoothing, 0.1);
    // The flags of the original, and no others.
    insta::assert_snapshot!(
        args.keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" ")
    );
    // A tower of free dimensions has no name that the original knows.
    let free = args_of(&parse(YAML));
    assert!(!free.contains_key("model"));
    insta::assert_snapshot!(experiment_of(&free).expect_err("no model"));
}
