//! Precision and the optimiser on a GPU: `make gpu-test`.

mod common;

use common::gpu::gpu;
use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::{AdamW, GradScaler, Hyper, ScalerState, Step, autocast, rng};

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn autocast_is_as_on_the_cpu() {
    let (_, device) = gpu();
    for kind in [Kind::BFloat16, Kind::Half] {
        precision::products_are_in(kind, device);
        precision::the_rest_is_in_f32(kind, device);
    }
}

/// Weights and averages after a few steps.
fn adamw(device: Device, amp: bool) -> Vec<Tensor> {
    rng::manual_seed(Device::Cpu, 2).unwrap();
    let start = [Tensor::randn([37, 11], CPU), Tensor::randn([5], CPU)];
    let params = start.map(|t| t.to_device(device).set_requires_grad(true));
    let decayed = Hyper {
        weight_decay: 0.1,
        lr: 1e-2,
        ..Hyper::default()
    };
    let groups = params
        .iter()
        .map(|p| (vec![p.shallow_clone()], decayed))
        .collect();
    let mut adamw = AdamW::new(groups).unwrap();
    for step in 0..5 {
        adamw.zero_grad().unwrap();
        let scale = if amp { 64.0 } else { 1.0 };
        for p in &params {
            let target = Tensor::randn(p.size(), CPU).to_device(device);
            ((p - target).square().sum(Kind::Float) * scale).backward();
        }
        if amp {
            let flag = |v: f32| Tensor::from(v).to_device(device);
            adamw
                .step_scaled(Some(&flag(64.0)), Some(&flag(f32::from(step == 3))))
                .unwrap();
        } else if step != 3 {
            adamw.step().unwrap();
        }
    }
    let state = adamw.state().into_iter().map(|(_, t)| t);
    params
        .into_iter()
        .chain(state)
        .map(|t| t.to_device(Device::Cpu))
        .collect()
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn fused_adamw_equals_the_cpus() {
    let (_, device) = gpu();
    for amp in [false, true] {
        for (i, (a, b)) in adamw(device, amp)
            .iter()
            .zip(&adamw(Device::Cpu, false))
            .enumerate()
        {
            let off = difference(a, b);
            assert!(off < 1e-5, "tensor {i}, amp {amp}: {off}");
        }
    }
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn half_precision_trains_and_skips_overflows() {
    let (kind, device) = gpu();
    rng::manual_seed(device, 4).unwrap();
    let x = Tensor::randn([64, 32], (kind, device));
    let target = Tensor::randn([64, 8], (kind, device));
    let w1 = (Tensor::randn([32, 64], (kind, device)) * 0.1).set_requires_grad(true);
    let w2 = (Tensor::randn([64, 8], (kind, device)) * 0.1).set_requires_grad(true);
    let params = vec![w1.shallow_clone(), w2.shallow_clone()];
    let mut adamw = AdamW::new(vec![(
        params,
        Hyper {
            lr: 1e-2,
            ..Hyper::default()
        },
    )])
    .unwrap();
    // 2^40 overflows half precision in the backward pass: it must come down by itself.
    let state = ScalerState {
        scale: 2f64.powi(40),
        growth_interval: 20,
        ..ScalerState::default()
    };
    let mut scaler = GradScaler::new(device, state).unwrap();
    let mut losses = Vec::new();
    for _ in 0..80 {
        adamw.zero_grad().unwrap();
        let y = autocast(device, Kind::Half, || x.matmul(&w1).relu().matmul(&w2)).unwrap();
        assert_eq!(y.kind(), Kind::Half);
        let loss = (y.to_kind(Kind::Float) - &target)
            .square()
            .mean(Kind::Float);
        scaler.scale(&loss).unwrap().backward();
        let before = bits(&[w1.to_device(Device::Cpu)]);
        let step = scaler.step(&mut adamw).unwrap();
        assert_eq!(
            step == Step::Skipped,
            before == bits(&[w1.to_device(Device::Cpu)])
        );
        scaler.update().unwrap();
        losses.push(loss.double_value(&[]));
    }
    assert!(
        scaler.skipped() > 10 && scaler.skipped() < 60,
        "{}",
        scaler.skipped()
    );
    assert!(losses[79] < 0.5 * losses[0], "{losses:?}");
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn attention_takes_a_fused_kernel() {
    let (_, device) = gpu();
    let qkv: Vec<Tensor> = (0..3)
        .map(|_| Tensor::randn([2, 8, 77, 64], (Kind::Half, device)))
        .collect();
    let none: Option<Tensor> = None;
    let choice = Tensor::internal_fused_sdp_choice(
        &qkv[0],
        &qkv[1],
        &qkv[2],
        none.as_ref(),
        0.0,
        true,
        None,
        false,
    );
    // sdp::SDPBackend: 0 is the plain formula, 1 flash, 2 memory-efficient, 3 cuDNN's.
    assert!((1..=3).contains(&choice), "{choice}");
    let fused = Tensor::scaled_dot_product_attention(
        &qkv[0],
        &qkv[1],
        &qkv[2],
        none.as_ref(),
        0.0,
        true,
        None,
        false,
    );
    let [q, k, v] = [0, 1, 2].map(|i| qkv[i].to_device(Device::Cpu).to_kind(Kind::Float));
    let plain = Tensor::scaled_dot_product_attention(&q, &k, &v, none, 0.0, true, None, false);
    let off = difference(&fused.to_device(Device::Cpu), &plain);
    assert!(off < 5e-3, "{off}");
}
