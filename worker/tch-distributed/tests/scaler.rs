//! Gradient scaling against the rule that torch's documentation states, and its way through checkpoints.

mod common;

use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::{AdamW, Error, GradScaler, Hyper, ScalerState, Step};

fn small(scale: f64, growth_interval: i64) -> ScalerState {
    ScalerState {
        scale,
        growth_interval,
        ..ScalerState::default()
    }
}

fn parameter(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

/// Leaves `scale * grad` in `p`, as a backward pass from a scaled loss does.
fn backward(p: &Tensor, scaler: &GradScaler, grad: &[f32]) {
    let loss = (p * Tensor::from_slice(grad)).sum(Kind::Float);
    scaler.scale(&loss).unwrap().backward();
}

fn train(p: &Tensor, adamw: &mut AdamW, scaler: &mut GradScaler, grad: &[f32]) -> Step {
    adamw.zero_grad().unwrap();
    backward(p, scaler, grad);
    let step = scaler.step(adamw).unwrap();
    scaler.update().unwrap();
    step
}

#[test]
fn the_scale_follows_the_rule() {
    // An independent statement of the rule.
    let (mut scale, mut good, mut skipped, mut row) = (65536.0f32, 0, 0, 0);
    let p = parameter(&[1.0, -2.0]);
    let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
    let mut scaler = GradScaler::new(Device::Cpu, small(65536.0, 3)).unwrap();
    let overflows = |i: usize| [4, 5, 11, 20, 21, 22, 23].contains(&i);
    for i in 0..40 {
        let grad = if overflows(i) {
            [f32::INFINITY, 1.0]
        } else {
            [0.5, 1.0]
        };
        let before = values(&p);
        let step = train(&p, &mut adamw, &mut scaler, &grad);
        if overflows(i) {
            (scale, good, skipped, row) = (scale * 0.5, 0, skipped + 1, row + 1);
            assert_eq!((step, values(&p)), (Step::Skipped, before), "step {i}");
        } else {
            (good, row) = (good + 1, 0);
            if good == 3 {
                (scale, good) = (scale * 2.0, 0);
            }
            assert_eq!(step, Step::Taken, "step {i}");
            assert_ne!(values(&p), before, "step {i}");
        }
        let state = scaler.state().unwrap().unwrap();
        assert_eq!(
            (
                state.scale,
                state.growth_tracker,
                state.skipped,
                state.skipped_in_a_row
            ),
            (f64::from(scale), good, skipped, row),
            "step {i}"
        );
    }
    assert_eq!((scaler.skipped(), scaler.skipped_in_a_row()), (7, 0));
}

#[test]
fn a_storm_of_overflows_is_counted_and_moves_nothing() {
    let p = parameter(&[1.0]);
    let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
    let mut scaler = GradScaler::new(Device::Cpu, ScalerState::default()).unwrap();
    for i in 1..=30 {
        assert_eq!(
            train(&p, &mut adamw, &mut scaler, &[f32::NAN]),
            Step::Skipped
        );
        assert_eq!(scaler.skipped_in_a_row(), i);
    }
    assert_eq!(values(&p), [1.0]);
    assert_eq!(scaler.factor().unwrap(), 65536.0 * 0.5f64.powi(30));
    let (name, steps) = adamw.state().pop().unwrap();
    assert_eq!((name.as_str(), values(&steps)), ("0.step", vec![0.0]));
    // Growth stops where the scale would not be finite.
    let top = f64::from(f32::MAX);
    let mut scaler = GradScaler::new(Device::Cpu, small(top, 1)).unwrap();
    assert_eq!(train(&p, &mut adamw, &mut scaler, &[1e-38]), Step::Taken);
    assert_eq!(scaler.factor().unwrap(), top);
}

#[test]
fn a_scaled_step_is_the_plain_step() {
    // Powers of two scale without rounding: equal means equal bits. In half precision the plain gradient
    // of 2^-26 is zero, and the scaled one is not.
    let tiny = 2f32.powi(-26);
    let run = |scaler: &mut GradScaler| {
        let p = parameter(&[0.25, -1.5, 3.0]);
        let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
        for i in 0..5 {
            train(&p, &mut adamw, scaler, &[tiny, 0.5 + i as f32, -3.0]);
        }
        let mut all = vec![p];
        all.extend(adamw.state().into_iter().map(|(_, t)| t));
        bits(&all)
    };
    let plain = run(&mut GradScaler::disabled());
    assert_eq!(
        plain,
        run(&mut GradScaler::new(Device::Cpu, small(1024.0, 2)).unwrap())
    );

    let through_half = |scaler: &GradScaler| {
        let p = parameter(&[1.0]);
        let loss = scaler
            .scale(&(&p * Tensor::from_slice(&[tiny])).sum(Kind::Float))
            .unwrap();
        let grad = Tensor::run_backward(&[loss], &[&p], false, false).remove(0);
        values(&grad.to_kind(Kind::Half))
    };
    assert_eq!(through_half(&GradScaler::disabled()), [0.0]);
    let scaler = GradScaler::new(Device::Cpu, ScalerState::default()).unwrap();
    assert_eq!(through_half(&scaler), [2f64.powi(-10)]);
}

#[test]
fn a_disabled_scaler_does_nothing() {
    let mut scaler = GradScaler::disabled();
    let loss = Tensor::from(3.5f32);
    assert_eq!(scaler.scale(&loss).unwrap().data_ptr(), loss.data_ptr());
    let p = parameter(&[1.0]);
    let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
    assert_eq!(
        train(&p, &mut adamw, &mut scaler, &[f32::INFINITY]),
        Step::Taken
    );
    assert!(scaler.unscale(&[p], None).unwrap());
    assert_eq!(
        (scaler.state().unwrap(), scaler.factor().unwrap()),
        (None, 1.0)
    );
    scaler.set_state(&small(2.0, 5)).unwrap();
    assert!(!scaler.is_enabled());
}

#[test]
fn unscaling_reaches_every_type_and_happens_once() {
    let single = parameter(&[1.0, 2.0]);
    let double = Tensor::from_slice(&[1.0f64]).set_requires_grad(true);
    let none = parameter(&[7.0]);
    let mut scaler = GradScaler::new(Device::Cpu, small(8.0, 5)).unwrap();
    assert!(matches!(scaler.update(), Err(Error::Invalid(_))));
    let params = [single.shallow_clone(), none, double.shallow_clone()];
    let loss = single.sum(Kind::Double) * 3.0 + double.sum(Kind::Double) * 5.0;
    scaler.scale(&loss).unwrap().backward();
    assert!(scaler.unscale(&params, None).unwrap());
    assert_eq!(
        (values(&single.grad()), values(&double.grad())),
        (vec![3.0; 2], vec![5.0])
    );
    let twice = scaler.unscale(&params, None).unwrap_err();
    assert!(twice.to_string().contains("unscaled already"), "{twice}");
    scaler.update().unwrap();

    let half = Tensor::from_slice(&[1.0f32])
        .to_kind(Kind::Half)
        .set_requires_grad(true);
    half.sum(Kind::Float).backward();
    let error = scaler.unscale(&[half], None).unwrap_err();
    assert!(error.to_string().contains("float32"), "{error}");
}

#[test]
fn a_state_goes_round_and_bears_torchs_names() {
    let p = parameter(&[1.0]);
    let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
    let mut a = GradScaler::new(Device::Cpu, small(64.0, 4)).unwrap();
    for grad in [1.0, f32::NAN, 1.0, 1.0] {
        train(&p, &mut adamw, &mut a, &[grad]);
    }
    let text = serde_json::to_string(&a.state().unwrap().unwrap()).unwrap();
    assert_eq!(
        text,
        r#"{"scale":32.0,"growth_factor":2.0,"backoff_factor":0.5,"growth_interval":4,"_growth_tracker":2,"skipped":1,"skipped_in_a_row":0}"#
    );
    let mut b = GradScaler::new(Device::Cpu, ScalerState::default()).unwrap();
    b.set_state(&serde_json::from_str(&text).unwrap()).unwrap();
    for grad in [1.0, 1.0, f32::INFINITY] {
        for scaler in [&mut a, &mut b] {
            train(&p, &mut adamw, scaler, &[grad]);
        }
        assert_eq!(a.state().unwrap(), b.state().unwrap());
    }
    // What torch writes has no counters.
    let torchs = r#"{"scale":1024.0,"growth_factor":2.0,"backoff_factor":0.5,"growth_interval":2000,"_growth_tracker":17}"#;
    let state: ScalerState = serde_json::from_str(torchs).unwrap();
    assert_eq!((state.growth_tracker, state.skipped), (17, 0));
}

#[test]
fn impossible_states_are_refused() {
    let base = ScalerState::default();
    let table = [
        (ScalerState { scale: 0.0, ..base }, "scale 0"),
        (
            ScalerState {
                scale: f64::NAN,
                ..base
            },
            "scale NaN",
        ),
        (
            ScalerState {
                scale: 1e39,
                ..base
            },
            "scale 1000",
        ),
        (
            ScalerState {
                growth_factor: 1.0,
                ..base
            },
            "growth factor 1",
        ),
        (
            ScalerState {
                backoff_factor: 1.0,
                ..base
            },
            "backoff factor 1",
        ),
        (
            ScalerState {
                growth_interval: 0,
                ..base
            },
            "growth interval 0",
        ),
        (
            ScalerState {
                growth_tracker: 2000,
                ..base
            },
            "growth tracker 2000",
        ),
    ];
    for (state, words) in table {
        let error = GradScaler::new(Device::Cpu, state).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A gradient that is not finite on one rank alone: joined, or averaged over ranks, all skip.
#[test]
fn ranks_skip_together() {
    with_ranks("ranks_skip_together", |rank| {
        let (_store, group) = rank.group();
        let p = parameter(&[1.0, 2.0]);
        let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
        let mut scaler = GradScaler::new(Device::Cpu, small(1024.0, 2)).unwrap();
        let ddp =
            tch_distributed::Ddp::new(&group, &[p.shallow_clone()], &Default::default()).unwrap();
        for step in 0..6usize {
            let ill = step % 3 == 1 && rank.rank == rank.world_size - 1;
            let grad =
                Tensor::from_slice(&[if ill { f32::INFINITY } else { 0.5 }, rank.rank as f32]);
            adamw.zero_grad().unwrap();
            let loss = scaler.scale(&(&p * grad).sum(Kind::Float)).unwrap();
            let expected = if step % 3 == 1 {
                Step::Skipped
            } else {
                Step::Taken
            };
            if step < 3 {
                // Averaged: no further collective is needed.
                ddp.backward(&loss).unwrap();
            } else {
                ddp.backward_no_sync(&loss).unwrap();
                let finite = scaler.unscale(&[p.shallow_clone()], Some(&group)).unwrap();
                assert_eq!(finite, expected == Step::Taken);
            }
            assert_eq!(scaler.step(&mut adamw).unwrap(), expected, "step {step}");
            scaler.update().unwrap();
            assert!(agree(&group, &[Tensor::from(scaler.factor().unwrap())]));
            if step < 3 {
                assert!(agree(&group, &[p.shallow_clone()]));
            }
        }
        assert_eq!(scaler.skipped(), 2);
    });
}

/// The device-side way to the same step: the kernel divides and decides, and the host never waits.
#[test]
fn the_fused_step_takes_scale_and_verdict() {
    let run = |fused: bool| {
        let p = parameter(&[0.25, -1.5, 3.0]);
        let mut adamw = AdamW::new(vec![(vec![p.shallow_clone()], Hyper::default())]).unwrap();
        let mut scaler = GradScaler::new(Device::Cpu, small(256.0, 100)).unwrap();
        for grad in [1.0, f32::INFINITY, 3.0] {
            adamw.zero_grad().unwrap();
            backward(&p, &scaler, &[grad, 1.0, -1.0]);
            if fused {
                let found_inf = Tensor::from(if grad.is_finite() { 0f32 } else { 1.0 });
                let scale = Tensor::from(scaler.factor().unwrap() as f32);
                adamw.step_scaled(Some(&scale), Some(&found_inf)).unwrap();
                scaler.unscale(&[p.shallow_clone()], None).unwrap();
            } else {
                scaler.step(&mut adamw).unwrap();
            }
            scaler.update().unwrap();
        }
        let mut all = vec![p];
        all.extend(adamw.state().into_iter().map(|(_, t)| t));
        bits(&all)
    };
    assert_eq!(run(true), run(false));
}
