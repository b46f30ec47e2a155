//! What computes in which type under autocast, on the CPU as on CUDA, and how it goes through checkpoints.

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use tch::{Device, Kind, Tensor, no_grad};
use tch_distributed::{autocast, autocast_kind, checkpoint, without_autocast};

const HALVES: [Kind; 2] = [Kind::BFloat16, Kind::Half];

fn under<R>(kind: Kind, f: impl FnOnce() -> R) -> R {
    autocast(Device::Cpu, kind, f).unwrap()
}

#[test]
fn products_are_in_half_precision() {
    for kind in HALVES {
        precision::products_are_in(kind, Device::Cpu);
    }
}

#[test]
fn norms_softmax_and_losses_are_in_f32() {
    for kind in HALVES {
        precision::the_rest_is_in_f32(kind, Device::Cpu);
        let x = (Tensor::rand([4, 6], CPU) + 0.5).to_kind(kind);
        // The values are those of f32 throughout, not those of half precision made longer.
        let long = x.to_kind(Kind::Float);
        let a = under(kind, || x.softmax(-1, None));
        assert_eq!(bits(&[a]), bits(&[long.softmax(-1, None)]));
        // A type that was asked for is given.
        assert_eq!(
            under(kind, || x.softmax(-1, Kind::Double)).kind(),
            Kind::Double
        );
    }
    // Outside nothing has changed, and f64 is left alone inside.
    let x = Tensor::rand([4, 6], (Kind::BFloat16, Device::Cpu));
    assert_eq!(x.softmax(-1, None).kind(), Kind::BFloat16);
    let x = Tensor::rand([4, 6], (Kind::Double, Device::Cpu));
    assert_eq!(
        under(Kind::BFloat16, || x
            .layer_norm::<Tensor>([6], None, None, 1e-5, false)
            .kind()),
        Kind::Double
    );
}

#[test]
fn it_can_be_asked_and_left_for_a_while() {
    let now = || autocast_kind(Device::Cpu).unwrap();
    let product = || {
        Tensor::ones([2, 2], CPU)
            .matmul(&Tensor::ones([2, 2], CPU))
            .kind()
    };
    assert_eq!(now(), None);
    let seen = under(Kind::BFloat16, || {
        let cuda = autocast(Device::Cuda(0), Kind::Half, || {
            let inside = || (now(), product(), autocast_kind(Device::Cuda(0)).unwrap());
            (
                without_autocast(inside).unwrap(),
                autocast_kind(Device::Cuda(0)).unwrap(),
            )
        });
        (now(), product(), cuda.unwrap())
    });
    let off = (None, Kind::Float, None);
    let on = Some(Kind::BFloat16);
    assert_eq!(seen, (on, Kind::BFloat16, (off, Some(Kind::Half))));
    assert_eq!(now(), None);
    assert!(autocast_kind(Device::Mps).is_err());
}

/// What a segment leaves: the loss, and the gradients of three weights and the input.
fn step(kind: Kind, segmented: bool, backward_under: Kind, shared: bool) -> Vec<Tensor> {
    // Not drawn: the tests beside this one share the generator.
    let leaf = |first: f64, rows: i64| {
        let values = (Tensor::arange(rows * 8, CPU) * 1.7 + first).sin() * 1.3;
        values.view([rows, 8]).set_requires_grad(true)
    };
    let (before, w, v, x) = (leaf(0.1, 8), leaf(0.2, 8), leaf(0.3, 8), leaf(0.4, 4));
    let last = if shared { &w } else { &v };
    let [a, b] = [&w, last].map(Tensor::shallow_clone);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    // A product, a norm, a softmax and a product.
    let f = move |t: &[Tensor]| {
        list.lock()
            .unwrap()
            .push(autocast_kind(Device::Cpu).unwrap());
        let h = t[0]
            .matmul(&a)
            .layer_norm::<Tensor>([8], None, None, 1e-5, false);
        vec![h.softmax(-1, None).matmul(&b)]
    };
    let y = under(kind, || {
        let inputs = [x.matmul(&before)];
        let mut out = if segmented {
            checkpoint(&inputs, true, f).unwrap()
        } else {
            f(&inputs)
        };
        without_autocast(|| {
            out.remove(0)
                .to_kind(Kind::Float)
                .square()
                .mean(Kind::Float)
        })
        .unwrap()
    });
    assert_eq!(y.kind(), Kind::Float);
    under(backward_under, || y.backward());
    assert_eq!(
        *seen.lock().unwrap(),
        vec![Some(kind); 1 + usize::from(segmented)]
    );
    let mut all = vec![y.detach(), before.grad(), w.grad(), x.grad()];
    if !shared {
        all.push(v.grad());
    }
    all
}

#[test]
fn segments_run_again_under_the_autocast_they_ran_under() {
    for kind in HALVES {
        // Also where backward is called under another autocast, which it should not be.
        for outside in [Kind::Float, Kind::BFloat16, Kind::Half] {
            assert_eq!(
                bits(&step(kind, true, outside, false)),
                bits(&step(kind, false, outside, false)),
                "{kind:?} {outside:?}"
            );
        }
        // A weight that is used twice is cast once without a segment, and its two gradients are added in
        // half precision; in a segment each is made f32 first.
        let [a, b] = [true, false].map(|s| step(kind, s, Kind::Float, true));
        for (a, b) in a.iter().zip(&b) {
            let off = difference(a, b);
            assert!(off < 0.02, "{kind:?}: {off}");
        }
    }
    assert_eq!(autocast_kind(Device::Cpu).unwrap(), None);
}

/// A kept cast that was made without a graph must not cut off the gradients of a later use.
#[test]
fn a_use_without_gradients_does_not_hide_a_parameter() {
    let w = Tensor::ones([3, 3], CPU).set_requires_grad(true);
    let x = Tensor::ones([2, 3], CPU);
    let y = under(Kind::BFloat16, || {
        let _ = no_grad(|| x.matmul(&w));
        x.matmul(&w)
    });
    assert!(y.requires_grad());
    y.sum(Kind::Float).backward();
    assert_eq!(values(&w.grad()), vec![2.0; 9]);
}
