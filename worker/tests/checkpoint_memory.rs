//! What `train.checkpoint_memory` promises, against what the process really takes.

use rocket_common::experiment::{Base, Child, Model as Spec, Vision, VitArch, VitDims};
use rocket_worker::model::{Batch, Model, Options};
use tch::{Device, Kind, Tensor};

/// Bytes that the process holds (`VmRSS`), or held at most (`VmHWM`).
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(key));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes.and_then(|n| n.parse::<u64>().ok()).expect("kB") * 1024
}

fn batch(n: i64) -> Batch {
    let tokens = Tensor::zeros([n, 1, 77], (Kind::Int64, Device::Cpu));
    let _ = tokens.narrow(2, 5, 1).fill_(49407);
    Batch {
        image_global: Tensor::randn([n, 3, 64, 64], (Kind::Float, Device::Cpu)),
        images_local: Vec::new(),
        tokens,
    }
}

fn step(model: &Model, batch: &Batch) {
    let embeddings = model.encode(batch, true).expect("encodes");
    let loss = embeddings.z_image.square().sum(Kind::Float) + embeddings.z_text.sum(Kind::Float);
    loss.backward();
}

/// Bytes that a step takes at most beyond what the process holds before it, and the bytes that were
/// estimated for the blocks.
fn peak(budget: u64) -> (u64, u64) {
    let spec = Spec {
        base: Some(Base::Clip),
        child: Some(Child::Clip),
        vision: Some(Vision::Vit(VitDims {
            arch: VitArch::Vit,
            width: 256,
            depth: 6,
            heads: 4,
            patch: 8,
            image_size: 64,
            hidden: None,
        })),
        transformer_layers: 1,
        transformer_width: 32,
        transformer_heads: 1,
        embed_dim: 16,
        ..Spec::default()
    };
    let options = Options {
        checkpoint_grad: true,
        checkpoint_memory: Some(budget),
        truncate: true,
        ..Options::default()
    };
    let model = Model::new(&spec, &options).expect("a model");
    // Gradients are there from then on.
    step(&model, &batch(1));
    let batch = batch(32);
    let report = model
        .checkpoint_report(&batch)
        .expect("sizes")
        .expect("a budget");
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    let before = status("VmRSS");
    step(&model, &batch);
    (status("VmHWM").saturating_sub(before), report.bytes)
}

#[test]
fn the_peak_follows_the_budget() {
    const MIB: u64 = 1 << 20;
    tch::set_num_threads(1);
    // Beside the blocks' activations: gradients on their way, the patches, what the allocator keeps.
    let slack = 40 * MIB;
    let (whole, all) = peak(u64::MAX);
    assert!(all > 150 * MIB, "{all}");
    assert!(
        whole.abs_diff(all) < all / 3,
        "estimated {all}, took {whole}"
    );
    for budget in [120 * MIB, 80 * MIB] {
        let (taken, estimated) = peak(budget);
        assert!(estimated <= budget, "{estimated}");
        assert!(taken <= budget + slack, "budget {budget}, took {taken}");
        assert!(
            taken + 20 * MIB < whole,
            "budget {budget}, took {taken} of {whole}"
        );
    }
}
