//! `rocket-worker parity --against`: which layer is the first that differs.

use std::path::{Path, PathBuf};
use std::process::Command;

use rocket_worker::checkpoint::tensors;
use rocket_worker::exchange::{Form, PtCheckpoint, write_pt};
use rocket_worker::model::{Model, Options};
use tch::{Device, Tensor};

const EXPERIMENT: &str = "
name: layers
data: {root: /images, metadata: /captions.npy}
model:
  base: CL2L
  child: CL2L
  separate_proj: true
  vision: {arch: vit, width: 32, depth: 4, heads: 2, patch: 8, image_size: 32}
  transformer_width: 32
  transformer_layers: 4
  transformer_heads: 2
  embed_dim: 16
";

struct Bench {
    folder: tempfile::TempDir,
    weights: Vec<(String, Tensor)>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("exp.yaml");
        std::fs::write(&file, EXPERIMENT).expect("writes");
        let experiment =
            rocket_common::experiment::parse("exp.yaml", EXPERIMENT, &[]).expect("an experiment");
        let options = Options::of(&experiment, Device::Cpu, None);
        let model = Model::new(&experiment.model, &options).expect("a model");
        let weights = model.registry().state_dict();
        let weights = weights.map(|(name, tensor)| (name.to_owned(), tensor.detach().copy()));
        Self {
            folder,
            weights: weights.collect(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same weights, with one value of one tensor changed.
    fn changed(&self, which: &str) -> Vec<(String, Tensor)> {
        assert!(
            self.weights.iter().any(|(name, _)| name == which),
            "{which}"
        );
        let copy = |(name, tensor): &(String, Tensor)| {
            let tensor = tensor.copy();
            if name == which {
                let _ = tensor
                    .view([-1])
                    .narrow(0, 5, 1)
                    .g_add_(&Tensor::from(0.5f32));
            }
            (name.clone(), tensor)
        };
        self.weights.iter().map(copy).collect()
    }

    fn parity(&self, checkpoint: &Path, more: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .current_dir(self.folder.path())
            .args(["parity", "--experiment", "exp.yaml", "--against"])
            .arg(checkpoint)
            .args(more)
            .output()
            .expect("rocket-worker starts");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }
}

#[test]
fn the_first_layer_that_differs_is_named() {
    let bench = Bench::new();
    let right = bench.path("right.safetensors");
    tensors::save(&right, &bench.weights).expect("saves");
    let (code, said) = bench.parity(&right, &["--record", "right.layers.safetensors"]);
    assert_eq!(code, Some(0), "{said}");
    // The recording beside the checkpoint is the one that is taken.
    let (code, said) = bench.parity(&right, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("all agree"), "{said}");
    let cases = [
        ("visual.patch_embed.proj.bias", "visual.patch_embed"),
        ("visual.blocks.0.attn.qkv.weight", "visual.blocks.0"),
        ("visual.blocks.2.mlp.fc2.weight", "visual.blocks.2"),
        ("visual.blocks.3.norm1.bias", "visual.blocks.3"),
        ("visual.norm.weight", "visual"),
        ("image_projector.weight", "image_projector"),
        ("l2l_image_projector.layer2.bias", "l2l_image_projector"),
        ("positional_embedding", "transformer.resblocks.0"),
        (
            "transformer.resblocks.1.mlp.c_fc.weight",
            "transformer.resblocks.1",
        ),
        (
            "transformer.resblocks.3.attn.out_proj.bias",
            "transformer.resblocks.3",
        ),
        ("ln_final.bias", "ln_final"),
        ("text_projector.weight", "text_projector"),
    ];
    for (weight, layer) in cases {
        let wrong = bench.path("wrong.safetensors");
        tensors::save(&wrong, &bench.changed(weight)).expect("saves");
        let recorded = [
            "--recorded",
            "right.layers.safetensors",
            "--tolerance",
            "1e-5",
        ];
        let (code, said) = bench.parity(&wrong, &recorded);
        assert_eq!(code, Some(10), "{weight}: {said}");
        let want = format!("the first layer that differs is {layer}\n");
        assert!(said.contains(&want), "{weight}: {said}");
    }
}

/// The form of torch.save, and layers as the original lays them out: positions before samples in the text
/// tower, and whole sequences where this model computes one token.
#[test]
fn the_originals_files_and_layouts_are_understood() {
    let bench = Bench::new();
    let (right, layers) = (
        bench.path("right.pt"),
        bench.path("right.layers.safetensors"),
    );
    let checkpoint = |model| PtCheckpoint {
        model,
        ..PtCheckpoint::default()
    };
    let form = Form::Checkpoint { module: true };
    let same = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shallow_clone());
    let weights = bench.weights.iter().map(same).collect();
    write_pt(&right, &checkpoint(weights), form).expect("saves");
    let (code, said) = bench.parity(&right, &["--record", "right.layers.safetensors"]);
    assert_eq!(code, Some(0), "{said}");
    let mut recorded = tensors::load(&layers).expect("loads");
    for (name, tensor) in &mut recorded {
        if name.starts_with("transformer") && tensor.dim() == 3 {
            *tensor = tensor.transpose(0, 1).contiguous();
        }
    }
    // The last block of a tower gives one token here; the original's gives all.
    let last = "visual.blocks.3";
    let class = recorded[last].unsqueeze(1);
    let others = Tensor::ones([1, 16, 32], (tch::Kind::Float, Device::Cpu));
    recorded.insert(last.to_owned(), Tensor::cat(&[class, others], 1));
    recorded.insert(
        "transformer.unknown".to_owned(),
        Tensor::ones([1], (tch::Kind::Float, Device::Cpu)),
    );
    let recorded: Vec<_> = recorded.into_iter().collect();
    tensors::save(&layers, &recorded).expect("saves");
    let (code, said) = bench.parity(&right, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("1 of the recording have no counterpart"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_compared_is_said() {
    let bench = Bench::new();
    let right = bench.path("right.safetensors");
    tensors::save(&right, &bench.weights).expect("saves");
    let (code, said) = bench.parity(&right, &[]);
    assert_ne!(code, Some(0));
    assert!(said.contains("right.layers.safetensors"), "{said}");
    tensors::save(&bench.path("right.layers.safetensors"), &bench.weights).expect("saves");
    let (_, said) = bench.parity(&right, &[]);
    assert!(said.contains("'image' and 'tokens'"), "{said}");
    let fewer = &bench.weights[..9];
    tensors::save(&right, fewer).expect("saves");
    let (_, said) = bench.parity(&right, &[]);
    assert!(
        said.contains("is of another model") && said.contains("missing"),
        "{said}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(["parity", "--against"])
        .arg(&right)
        .output()
        .expect("rocket-worker starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("does not say which model") && said.contains("--model"),
        "{said}"
    );
}
