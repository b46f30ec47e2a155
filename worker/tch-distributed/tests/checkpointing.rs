//! Activation checkpointing in one process.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::*;
use tch::{Device, Kind, Tensor, no_grad};
use tch_distributed::{
    Error, autocast, checkpoint, is_recomputing, output_is_unread, rng, sync_batch_norm,
    try_checkpoint,
};

fn leaf(shape: &[i64], seed: u64) -> Tensor {
    rng::manual_seed(Device::Cpu, seed).unwrap();
    (Tensor::randn(shape, CPU) * 0.3).set_requires_grad(true)
}

/// Tests that draw numbers do so one at a time: the default generator is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clones(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

/// Two layers with dropout between.
fn block(x: &Tensor, p: &[Tensor], dropout: f64) -> Tensor {
    x.matmul(&p[0])
        .gelu("none")
        .dropout(dropout, true)
        .matmul(&p[1])
}

/// Loss, and the gradients of the input and all parameters, of three blocks, the third sharing the
/// parameters of the first.
fn run(checkpointed: bool, dropout: f64) -> (Tensor, Vec<Tensor>) {
    let x = leaf(&[5, 8], 1);
    let params: Vec<_> = (0..4).map(|i| leaf(&[8, 8], 10 + i)).collect();
    rng::manual_seed(Device::Cpu, 99).unwrap();
    let mut h = x.shallow_clone();
    for i in [0, 2, 0] {
        let p = clones(&params[i..i + 2]);
        let f = move |t: &[Tensor]| vec![block(&t[0], &p, dropout)];
        h = if checkpointed {
            checkpoint(&[h], true, f).unwrap().remove(0)
        } else {
            f(&[h]).remove(0)
        };
    }
    let loss = h.square().sum(Kind::Float);
    loss.backward();
    let grads = params.iter().chain([&x]).map(|t| t.grad().copy()).collect();
    (loss, grads)
}

#[test]
fn gradients_are_bit_equal() {
    let _alone = alone();
    for dropout in [0.0, 0.5] {
        let (loss, grads) = run(false, dropout);
        let (loss_c, grads_c) = run(true, dropout);
        assert_eq!(bits(&[loss]), bits(&[loss_c]), "dropout {dropout}");
        assert_eq!(bits(&grads), bits(&grads_c), "dropout {dropout}");
        assert!(
            grads
                .iter()
                .all(|g| g.abs().sum(Kind::Float).double_value(&[]) > 0.0)
        );
    }
}

#[test]
fn the_generator_goes_on_as_without() {
    let _alone = alone();
    let draw = |checkpointed: bool| {
        let _ = run(checkpointed, 0.5);
        Tensor::rand([4], CPU)
    };
    assert_eq!(bits(&[draw(false)]), bits(&[draw(true)]));
}

#[test]
fn without_rng_dropout_differs() {
    let _alone = alone();
    // The reverse of the tests above: they could not see a generator that is not put back otherwise.
    let x = leaf(&[1000], 1);
    rng::manual_seed(Device::Cpu, 5).unwrap();
    let y = checkpoint(&[x.shallow_clone()], false, |t| {
        vec![t[0].dropout(0.5, true)]
    })
    .unwrap()
    .remove(0);
    y.sum(Kind::Float).backward();
    assert_ne!(values(&x.grad().ne(0.0)), values(&y.ne(0.0)));
}

#[test]
fn nested_segments_are_bit_equal() {
    let _alone = alone();
    let run = |inner: bool, outer: bool| {
        let x = leaf(&[5, 8], 1);
        let params: Vec<_> = (0..4).map(|i| leaf(&[8, 8], 20 + i)).collect();
        rng::manual_seed(Device::Cpu, 7).unwrap();
        let p = clones(&params);
        let both = move |t: &[Tensor]| {
            let mut h = t[0].shallow_clone();
            for i in [0, 2] {
                let q = clones(&p[i..i + 2]);
                let f = move |t: &[Tensor]| vec![block(&t[0], &q, 0.3)];
                h = if inner {
                    checkpoint(&[h], true, f).unwrap().remove(0)
                } else {
                    f(&[h]).remove(0)
                };
            }
            vec![h]
        };
        let y = if outer {
            checkpoint(&[x.shallow_clone()], true, both)
                .unwrap()
                .remove(0)
        } else {
            both(&[x.shallow_clone()]).remove(0)
        };
        y.square().sum(Kind::Float).backward();
        bits(
            &params
                .iter()
                .chain([&x])
                .map(Tensor::grad)
                .collect::<Vec<_>>(),
        )
    };
    let plain = run(false, false);
    assert_eq!(plain, run(false, true));
    assert_eq!(plain, run(true, false));
    assert_eq!(plain, run(true, true));
}

#[test]
fn runs_are_told_apart_and_counted() {
    let _alone = alone();
    let count = Rc::new(Cell::new((0, 0)));
    let in_closure = count.clone();
    let x = leaf(&[3], 1);
    let y = checkpoint(&[x.shallow_clone()], true, move |t| {
        let (first, again) = in_closure.get();
        in_closure.set(if is_recomputing() {
            (first, again + 1)
        } else {
            (first + 1, again)
        });
        let inner = checkpoint(&[t[0].shallow_clone()], true, |t| vec![&t[0] * 2.0]).unwrap();
        vec![inner[0].square()]
    })
    .unwrap()
    .remove(0);
    assert_eq!((count.get(), is_recomputing()), ((1, 0), false));
    y.sum(Kind::Float).backward();
    assert_eq!((count.get(), is_recomputing()), ((1, 1), false));
    assert!(difference(&x.grad(), &(&x * 8.0)) < 1e-6);
    drop(y);
    assert_eq!(
        Rc::strong_count(&count),
        1,
        "the closure is dropped with the graph"
    );
}

/// Of a segment in a segment that is run again the output is read the first time, but not the second.
#[test]
fn outputs_are_unread_where_they_are_known() {
    let _alone = alone();
    let x = leaf(&[3], 1);
    let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
    let (outer_seen, inner_seen) = (Rc::clone(&seen), Rc::clone(&seen));
    let y = checkpoint(&[x.shallow_clone()], false, move |t| {
        let inner_seen = Rc::clone(&inner_seen);
        let inner = checkpoint(t, false, move |t| {
            inner_seen.borrow_mut().push(("inner", output_is_unread()));
            vec![t[0].square()]
        });
        outer_seen.borrow_mut().push(("outer", output_is_unread()));
        vec![inner.unwrap().remove(0).square()]
    });
    y.unwrap().remove(0).sum(Kind::Float).backward();
    let want = [
        ("inner", false),
        ("outer", false),
        ("inner", false),
        ("outer", true),
        ("inner", true),
    ];
    assert_eq!(*seen.borrow(), want);
    assert!(!output_is_unread());
}

#[test]
fn no_grad_runs_once_and_keeps_nothing() {
    let _alone = alone();
    let count = Rc::new(Cell::new(0));
    let in_closure = count.clone();
    let p = leaf(&[3], 1);
    let y = no_grad(|| {
        checkpoint(&[Tensor::ones([3], CPU)], true, move |t| {
            in_closure.set(in_closure.get() + 1);
            vec![&t[0] * &p]
        })
    });
    assert!(!y.unwrap()[0].requires_grad());
    assert_eq!((count.get(), Rc::strong_count(&count)), (1, 1));
}

#[test]
fn outputs_keep_their_kind() {
    let _alone = alone();
    let x = leaf(&[4], 1);
    let p = leaf(&[4], 2);
    let outs = checkpoint(
        &[x.shallow_clone(), Tensor::ones([4], CPU)],
        true,
        move |t| {
            vec![
                &t[0] * &t[1],
                t[0].argmax(0, false),
                t[1].shallow_clone(),
                &p * 1.0,
                t[0].shallow_clone(),
            ]
        },
    )
    .unwrap();
    let requires: Vec<bool> = outs.iter().map(Tensor::requires_grad).collect();
    assert_eq!(requires, [true, false, false, true, true]);
    // Only one of the outputs is used: the others have no gradient in the backward pass.
    outs[4].sum(Kind::Float).backward();
    assert_eq!(values(&x.grad()), [1.0; 4]);
}

#[test]
fn a_captured_result_is_refused() {
    let _alone = alone();
    let x = leaf(&[3], 1);
    let between = &x * 2.0;
    let error = checkpoint(&[Tensor::ones([3], CPU)], true, move |t| {
        vec![&t[0] * &between]
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("captured a tensor computed outside of it (by MulBackward"),
        "{text}"
    );
    assert!(text.contains("pass such tensors as inputs"), "{text}");
}

#[test]
fn panics_become_errors() {
    let _alone = alone();
    let error = checkpoint(&[leaf(&[3], 1)], true, |_| panic!("boom {}", 1)).unwrap_err();
    assert!(
        matches!(&error, Error::Panic(text) if text == "boom 1"),
        "{error:?}"
    );

    let y = checkpoint(&[leaf(&[3], 1)], true, |t| {
        assert!(!is_recomputing(), "boom again");
        vec![&t[0] * 2.0]
    })
    .unwrap()
    .remove(0);
    let error = Error::from(y.sum(Kind::Float).f_backward().unwrap_err());
    assert!(
        matches!(&error, Error::Panic(text) if text.contains("boom again")),
        "{error:?}"
    );
    assert!(!is_recomputing());
    // The engine is still usable.
    let x = leaf(&[3], 1);
    x.sum(Kind::Float).backward();
    assert_eq!(values(&x.grad()), [1.0; 3]);
}

#[test]
fn errors_of_the_closure_keep_their_kind() {
    let _alone = alone();
    let fail = |_: &[Tensor]| Err(Error::Timeout("slow peer".into()));
    let error = try_checkpoint(&[leaf(&[3], 1)], true, fail).unwrap_err();
    assert!(
        matches!(&error, Error::Timeout(text) if text == "slow peer"),
        "{error:?}"
    );
}

#[test]
fn autocast_is_put_back() {
    let _alone = alone();
    let x = leaf(&[4, 8], 1);
    let w = leaf(&[8, 8], 2);
    let grads = |checkpointed: bool| {
        for t in [&x, &w] {
            t.shallow_clone().zero_grad();
        }
        let p = w.shallow_clone();
        let f = move |t: &[Tensor]| vec![t[0].matmul(&p)];
        let y = autocast(Device::Cpu, Kind::BFloat16, || {
            let input = [x.shallow_clone()];
            if checkpointed {
                checkpoint(&input, true, f).unwrap().remove(0)
            } else {
                f(&input).remove(0)
            }
        })
        .unwrap();
        assert_eq!(y.kind(), Kind::BFloat16);
        // Backward runs outside of autocast, as it should.
        y.to_kind(Kind::Float).square().sum(Kind::Float).backward();
        bits(&[x.grad(), w.grad()])
    };
    assert_eq!(grads(false), grads(true));
}

#[test]
fn running_statistics_move_once() {
    let _alone = alone();
    let run = |checkpointed: bool| {
        let (mean, var) = (Tensor::zeros([6], CPU), Tensor::ones([6], CPU));
        let x = leaf(&[8, 6, 3, 3], 1);
        let w = leaf(&[6], 2);
        let (m, v, wc) = (mean.shallow_clone(), var.shallow_clone(), w.shallow_clone());
        let f = move |t: &[Tensor]| {
            let y = sync_batch_norm(
                &t[0],
                Some(&wc),
                None,
                Some(&m),
                Some(&v),
                0.1,
                1e-5,
                true,
                None,
            );
            vec![y.unwrap().relu()]
        };
        let input = [x.shallow_clone()];
        let y = if checkpointed {
            checkpoint(&input, true, f).unwrap().remove(0)
        } else {
            f(&input).remove(0)
        };
        y.square().sum(Kind::Float).backward();
        bits(&[mean, var, x.grad(), w.grad()])
    };
    assert_eq!(run(false), run(true));
}

/// The point of it all: what segments saved for backward is gone once they have run.
#[test]
fn memory_is_saved_while_forward_goes_on() {
    const MIB: usize = 1 << 20;
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let grown = |checkpointed: bool| {
        // Eight segments that save four results of 8 MiB each; large blocks go back to the system.
        let x = Tensor::ones([2 * MIB as i64], CPU).set_requires_grad(true);
        let f = |t: &[Tensor]| vec![t[0].sin().exp().tanh().sigmoid()];
        let mut h = x.shallow_clone();
        let before = resident();
        for _ in 0..8 {
            h = if checkpointed {
                checkpoint(&[h], false, f).unwrap().remove(0)
            } else {
                f(&[h]).remove(0)
            };
        }
        let grown = resident() - before;
        h.sum(Kind::Float).backward();
        assert!(x.grad().defined());
        grown
    };
    let _alone = alone();
    let (plain, saved) = (grown(false), grown(true));
    assert!(plain > 200 * MIB, "{} MiB", plain / MIB);
    assert!(saved < 110 * MIB, "{} MiB", saved / MIB);
}
