//! Vision towers against timm, and their first values.

use rocket_common::experiment::{ConvNextDims, VISION_NAMES};
use serde_json::Value;

use super::checkpointing::convnext;
use super::*;
use crate::parity::{fill_weights, hash_values};

/// `convnext.json`: timm 1.0.31's `ConvNeXt(num_classes=0, depths=(1, 2, 2, 1), dims=(8, 12, 16, 24))` on
/// torch 2.13, weights and images filled by formula under our names: two images `[3, 64, 64]` of 1.5 times
/// the hash values of `image_global`, and the loss the sum of the features times the hash values of
/// `weights`.
#[test]
fn convnext_is_timms() {
    let _turn = turn();
    let golden: Value = serde_json::from_str(include_str!("convnext.json")).unwrap();
    let model = Model::new(
        &spec(Base::Clip, Child::Clip, convnext(), false),
        &options(0),
    )
    .unwrap();
    fill_weights(model.registry()).unwrap();
    let ours: Vec<Value> = model
        .registry()
        .state_dict()
        .filter(|(name, _)| name.starts_with("visual."))
        .map(|(name, tensor)| serde_json::json!([name, tensor.size()]))
        .collect();
    assert_eq!(golden["names"], Value::Array(ours));
    let values = |name: &str, scale: f64, shape: &[i64]| {
        let n = shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = hash_values(name, n).map(|v| (scale * v) as f32).collect();
        Tensor::from_slice(&values).view(shape)
    };
    let images = values("image_global", 1.5, &[2, 3, 64, 64]);
    let batch = Batch {
        image_global: images,
        images_local: Vec::new(),
        tokens: batch(0, Kind::Float).tokens.narrow(0, 0, 2),
    };
    let feats = model.features(&batch, true).unwrap().image;
    let want: Vec<f64> = serde_json::from_value(golden["features"].clone()).unwrap();
    let want = Tensor::from_slice(&want).view([2, 24]);
    let far = (&feats - want).abs().max().double_value(&[]);
    assert!(far < 2e-5, "{far}");
    (&feats * values("weights", 1.0, &[2, 24]))
        .sum(Kind::Float)
        .backward();
    for (name, want) in golden["grad_l2"].as_object().expect("gradients") {
        let want = want.as_f64().expect("a number");
        let got = model.registry().get(name).expect("a tensor").grad();
        let got = got.to_kind(Kind::Double).norm().double_value(&[]);
        assert!(
            (got - want).abs() <= 1e-4 * want.max(1e-4),
            "{name}: {got} {want}"
        );
    }
}

#[test]
fn first_values_are_timms() {
    let _turn = turn();
    let wide = Vision::ConvNext(ConvNextDims {
        widths: [16, 32, 64, 96],
        ..convnext().convnext().expect("dimensions")
    });
    let model = Model::new(&spec(Base::Clip, Child::Clip, wide, false), &options(0)).unwrap();
    let std = |model: &Model, name: &str| {
        let tensor = model.registry().get(name).expect("a tensor");
        (tensor * tensor)
            .mean(Kind::Double)
            .sqrt()
            .double_value(&[])
    };
    for name in [
        "stages.2.blocks.1.conv_dw",
        "stages.3.blocks.0.mlp.fc1",
        "stages.3.downsample.1",
    ] {
        let got = std(&model, &format!("visual.{name}.weight"));
        assert!((got - 0.02).abs() < 0.002, "{name} {got}");
    }
    assert_eq!(std(&model, "visual.stem.0.bias"), 0.0);
    assert!((std(&model, "visual.stages.0.blocks.0.gamma") - 1e-6).abs() < 1e-9);

    let model = Model::new(&spec(Base::Clip, Child::Clip, vit(), false), &options(0)).unwrap();
    let normal = std(&model, "visual.blocks.1.attn.qkv.weight");
    assert!((normal - 0.02).abs() < 0.001, "{normal}");
    // torch's convolution: uniform within 1 / sqrt(fan in), whose deviation is that over sqrt 3.
    let patch = std(&model, "visual.patch_embed.proj.weight");
    assert!(
        (patch - (3.0f64 * 192.0).powf(-0.5)).abs() < 0.002,
        "{patch}"
    );
    assert!(std(&model, "visual.cls_token") < 3e-6);
}

#[test]
fn every_name_has_sizes() {
    for name in VISION_NAMES {
        let size = VisionSize::of(&Vision::Named(name.to_owned())).expect(name);
        let side = if name.ends_with("AT384") { 384 } else { 224 };
        assert_eq!(size.image_size(), side, "{name}");
        assert_eq!(Vision::Named(name.to_owned()).image_size(), side);
    }
    let giant = VisionSize::of(&Vision::Named("VITG14".to_owned())).unwrap();
    let VisionSize::Vit(giant) = giant else {
        panic!("a ViT");
    };
    assert_eq!(
        (giant.width, giant.hidden, giant.depth),
        (1408, 1408 * 48 / 11, 40)
    );
}
