//! Batch normalisation over ranks against torch's own over the joined batch.

mod common;

use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::{Error, ProcessGroup, ReduceOp, rng, sync_batch_norm};

struct Case {
    x: Tensor,
    dy: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: [Tensor; 2],
}

impl Case {
    /// Channel means of 0 to 2.5 standard deviations: a careless variance shows, and single precision
    /// still holds the bound.
    fn new(shape: &[i64], kind: Kind) -> Case {
        rng::manual_seed(Device::Cpu, 3).unwrap();
        let c = [shape[1]];
        let mut per_channel = vec![1; shape.len()];
        per_channel[1] = -1;
        let offset = Tensor::arange(c[0], CPU).view(per_channel.as_slice());
        let grad = |t: Tensor| t.to_kind(kind).set_requires_grad(true);
        Case {
            x: (Tensor::randn(shape, CPU) * 2.0 + offset).to_kind(kind),
            dy: Tensor::randn(shape, CPU).to_kind(kind),
            weight: grad(Tensor::rand(c, CPU) + 0.5),
            bias: grad(Tensor::rand(c, CPU)),
            running: [
                Tensor::zeros(c, CPU).to_kind(kind),
                Tensor::ones(c, CPU).to_kind(kind),
            ],
        }
    }

    /// Output, and gradients of x, weight and bias, of `n` samples from `from`.
    fn run(&self, from: i64, n: i64, affine: bool, group: Option<&ProcessGroup>) -> Vec<Tensor> {
        let x = self.x.narrow(0, from, n).copy().set_requires_grad(true);
        for t in [&self.weight, &self.bias] {
            t.shallow_clone().zero_grad();
        }
        let (w, b) = if affine {
            (Some(&self.weight), Some(&self.bias))
        } else {
            (None, None)
        };
        let (mean, var) = (Some(&self.running[0]), Some(&self.running[1]));
        let y = sync_batch_norm(&x, w, b, mean, var, 0.1, 1e-5, true, group).unwrap();
        (&y * self.dy.narrow(0, from, n))
            .sum(self.x.kind())
            .backward();
        let mut out = vec![y.detach(), x.grad()];
        if affine {
            out.extend([self.weight.grad().copy(), self.bias.grad().copy()]);
        }
        out
    }
}

#[test]
fn equals_the_joined_batch() {
    with_ranks("equals_the_joined_batch", |r| {
        let (_store, group) = r.group();
        let shapes: [&[i64]; 3] = [&[16, 6, 5, 3], &[16, 6], &[16, 6, 7]];
        for (shape, kind, affine) in shapes.into_iter().flat_map(|s| {
            [
                (s, Kind::Float, true),
                (s, Kind::Float, false),
                (s, Kind::Double, true),
            ]
        }) {
            let (whole, split) = (Case::new(shape, kind), Case::new(shape, kind));
            let expected = whole.run(0, 16, affine, None);
            // Unequal parts: the last rank has all that is left.
            let own = 16 / r.world_size as i64 - 1;
            let from = own * r.rank as i64;
            let n = if r.rank + 1 == r.world_size {
                16 - from
            } else {
                own
            };
            let found = split.run(from, n, affine, Some(&group));
            let tolerance = if kind == Kind::Double { 1e-12 } else { 1e-6 };
            let close = |what: &str, a: &Tensor, b: &Tensor| {
                let off = difference(a, b);
                assert!(
                    off < tolerance,
                    "{what} of {shape:?} {kind:?} affine {affine}: {off:e}"
                );
            };
            close("output", &found[0], &expected[0].narrow(0, from, n));
            close("gradient of x", &found[1], &expected[1].narrow(0, from, n));
            for (i, what) in [(2, "gradient of weight"), (3, "gradient of bias")] {
                if affine {
                    group.all_reduce(&found[i], ReduceOp::Sum).unwrap();
                    close(what, &found[i], &expected[i]);
                }
            }
            close("running mean", &split.running[0], &whole.running[0]);
            close("running variance", &split.running[1], &whole.running[1]);
            assert!(agree(&group, &split.running));
        }
        group.barrier().unwrap();
    });
}

#[test]
fn half_precision_keeps_its_type() {
    with_ranks("half_precision_keeps_its_type", |r| {
        let (_store, group) = r.group();
        let case = Case::new(&[8, 4, 3], Kind::Float);
        let part = |t: &Tensor| {
            let n = 8 / r.world_size as i64;
            t.narrow(0, r.rank as i64 * n, n).to_kind(Kind::BFloat16)
        };
        let x = part(&case.x).set_requires_grad(true);
        let (w, b) = (Some(&case.weight), Some(&case.bias));
        let y = sync_batch_norm(&x, w, b, None, None, 0.1, 1e-5, true, Some(&group)).unwrap();
        (&y * part(&case.dy)).sum(Kind::Float).backward();
        assert_eq!(
            (y.kind(), x.grad().kind()),
            (Kind::BFloat16, Kind::BFloat16)
        );
        assert_eq!(case.weight.grad().kind(), Kind::Float);
        let whole = case.x.batch_norm(w, b, None, None, true, 0.1, 1e-5, false);
        assert!(difference(&y, &part(&whole)) < 0.05);
        group.barrier().unwrap();
    });
}

#[test]
fn evaluation_and_single_ranks_are_torchs_own() {
    let case = Case::new(&[4, 3, 2], Kind::Float);
    let [mean, var] = &case.running;
    let (w, b, m, v) = (Some(&case.weight), Some(&case.bias), Some(mean), Some(var));
    let y = sync_batch_norm(&case.x, w, b, m, v, 0.1, 1e-5, false, None).unwrap();
    let expected = case.x.batch_norm(w, b, m, v, false, 0.1, 1e-5, false);
    assert_eq!(bits(&[y]), bits(&[expected]));
    assert_eq!(
        values(mean),
        [0.0; 3],
        "evaluation leaves the running values alone"
    );
    let one = Tensor::ones([1, 3], CPU);
    let error = sync_batch_norm(&one, w, b, m, v, 0.1, 1e-5, true, None).unwrap_err();
    assert!(matches!(error, Error::TooFewValues(_)), "{error:?}");
}

#[test]
fn weight_and_bias_come_one_without_the_other() {
    with_ranks("weight_and_bias_come_one_without_the_other", |r| {
        let (_store, group) = r.group();
        let case = Case::new(&[8, 4], Kind::Float);
        let (w, b) = (&case.weight, &case.bias);
        for (w, b) in [(Some(w), None), (None, Some(b)), (None, None)] {
            let run = |group: Option<&ProcessGroup>| {
                let x = case.x.copy().set_requires_grad(true);
                let given: Vec<&Tensor> = [w, b].into_iter().flatten().collect();
                given.iter().for_each(|t| t.shallow_clone().zero_grad());
                let y = sync_batch_norm(&x, w, b, None, None, 0.1, 1e-5, true, group).unwrap();
                (&y * &case.dy).sum(Kind::Float).backward();
                let mut all = vec![y.detach(), x.grad()];
                all.extend(given.iter().map(|t| t.grad().copy()));
                all
            };
            // Every rank holds the same batch: its statistics are those of one.
            for (found, expected) in run(Some(&group)).iter().zip(&run(None)) {
                let off = difference(found, expected);
                assert!(
                    off < 1e-6,
                    "weight {} bias {}: {off:e}",
                    w.is_some(),
                    b.is_some()
                );
            }
        }
        group.barrier().unwrap();
    });
}

#[test]
fn channels_last_stays_and_changes_no_value() {
    with_ranks("channels_last_stays_and_changes_no_value", |r| {
        let (_store, group) = r.group();
        rng::manual_seed(Device::Cpu, 8 + r.rank as u64).unwrap();
        let x = Tensor::randn([4, 6, 5, 3], CPU);
        let dy = Tensor::randn([4, 6, 5, 3], CPU);
        let run = |x: Tensor| {
            let x = x.set_requires_grad(true);
            let y = sync_batch_norm(&x, None, None, None, None, 0.1, 1e-5, true, Some(&group));
            let y = y.unwrap();
            (&y * &dy).sum(Kind::Float).backward();
            (y.stride(), [y.detach(), x.grad()])
        };
        let (plain_strides, plain) = run(x.copy());
        let (strides, last) = run(channels_last_of(&x));
        assert_eq!(strides, channels_last_of(&x).stride());
        assert_ne!(strides, plain_strides);
        for (a, b) in last.iter().zip(&plain) {
            assert!(difference(a, b) < 1e-5);
        }
    });
}
