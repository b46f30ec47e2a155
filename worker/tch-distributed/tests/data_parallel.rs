//! The reducer: gradients of the joined batch, equal ranks, and sums whose order has no history.

mod common;

use std::path::Path;

use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::{
    AdamW, Ddp, DdpOptions, Error, Hyper, ProcessGroup, checkpoint, optim, rng, sync_batch_norm,
};

const WIDTH: i64 = 48;

type Layer = Box<dyn Fn(&[Tensor]) -> Vec<Tensor>>;

/// A tower of three layers with batch normalisation and dropout, applied to several views (so that each
/// parameter is used more than once), and a head.
struct Net {
    params: Vec<Tensor>,
    running: [Tensor; 2],
}

impl Net {
    fn new(seed: u64) -> Net {
        rng::manual_seed(Device::Cpu, seed).unwrap();
        let matrix = || (Tensor::randn([WIDTH, WIDTH], CPU) * 0.2).set_requires_grad(true);
        let mut params: Vec<Tensor> = (0..4).map(|_| matrix()).collect();
        params.push(Tensor::ones([WIDTH], CPU).set_requires_grad(true));
        params.push(Tensor::zeros([WIDTH], CPU).set_requires_grad(true));
        Net {
            params,
            running: [Tensor::zeros([WIDTH], CPU), Tensor::ones([WIDTH], CPU)],
        }
    }

    fn clones(&self, which: &[usize]) -> Vec<Tensor> {
        which
            .iter()
            .map(|&i| self.params[i].shallow_clone())
            .collect()
    }

    /// `x` `[B, WIDTH]`. The layers are checkpointed segments where `checkpointed`.
    fn tower(&self, x: &Tensor, group: &ProcessGroup, dropout: f64, checkpointed: bool) -> Tensor {
        let segment = |x: Tensor, f: Layer| {
            if checkpointed {
                checkpoint(&[x], true, f).unwrap().remove(0)
            } else {
                f(&[x]).remove(0)
            }
        };
        let p = self.clones(&[0]);
        let x = segment(
            x.shallow_clone(),
            Box::new(move |t| vec![t[0].matmul(&p[0]).tanh()]),
        );
        let p = self.clones(&[1, 4, 5]);
        let [mean, var] = self.running.each_ref().map(Tensor::shallow_clone);
        let group = group.clone();
        let norm = move |t: &[Tensor]| {
            let h = t[0].matmul(&p[0]);
            let (w, b, g) = (Some(&p[1]), Some(&p[2]), Some(&group));
            let y = sync_batch_norm(&h, w, b, Some(&mean), Some(&var), 0.1, 1e-5, true, g);
            vec![y.unwrap().gelu("none").dropout(dropout, true)]
        };
        let x = segment(x, Box::new(norm));
        let p = self.clones(&[2, 0]); // shares the first layer's matrix
        segment(
            x,
            Box::new(move |t| vec![t[0].matmul(&p[0]).tanh().matmul(&p[1])]),
        )
    }

    /// Mean over `[B]` samples and views.
    fn loss(&self, x: &Tensor, group: &ProcessGroup, dropout: f64, checkpointed: bool) -> Tensor {
        let views = (0..3).map(|v| {
            let y = self.tower(&(x * (1.0 + v as f64)), group, dropout, checkpointed);
            y.matmul(&self.params[3]).square().mean(Kind::Float)
        });
        views.sum::<Tensor>() / 3.0
    }
}

/// At least three buckets.
fn options() -> DdpOptions {
    DdpOptions {
        bucket_bytes: 9_000,
        ..DdpOptions::default()
    }
}

/// The rank's part of a batch that depends on the step alone.
fn batch(step: usize, micro: usize, rank: usize, per_rank: i64) -> Tensor {
    rng::manual_seed(Device::Cpu, (1000 * step + 10 * micro) as u64).unwrap();
    Tensor::randn([8 * per_rank, WIDTH], CPU).narrow(0, rank as i64 * per_rank, per_rank)
}

#[test]
fn gradients_are_those_of_the_joined_batch() {
    with_ranks("gradients_are_those_of_the_joined_batch", |r| {
        let (store, group) = r.group();
        // Each rank is also a world of one, over the joined batch.
        let alone = {
            let own = tch_distributed::Store::tcp(
                "127.0.0.1",
                0,
                1,
                true,
                std::time::Duration::from_secs(30),
            );
            let options = tch_distributed::GlooOptions::new(std::time::Duration::from_secs(30));
            ProcessGroup::gloo(&own.unwrap(), 0, 1, &options.interface("lo")).unwrap()
        };
        for checkpointed in [false, true] {
            // Other weights on every rank: the reducer hands out those of rank 0.
            let net = Net::new(100 + r.rank as u64);
            let ddp = Ddp::new(&group, &net.params, &options()).unwrap();
            assert!(ddp.buckets().len() >= 3, "{:?}", ddp.buckets());
            assert_eq!(ddp.bucket_bytes().unwrap().len(), ddp.buckets().len());
            assert!(agree(&group, &net.params));
            let joined = Net::new(100);
            assert_eq!(bits(&joined.params), bits(&net.params));

            for step in 0..3 {
                optim::drop_grads(&net.params).unwrap();
                optim::drop_grads(&joined.params).unwrap();
                for micro in 0..2 {
                    let parts: Vec<_> = (0..r.world_size)
                        .map(|i| batch(step, micro, i, 4))
                        .collect();
                    let loss = net.loss(&parts[r.rank], &group, 0.0, checkpointed) / 2.0;
                    let whole = joined.loss(&Tensor::cat(&parts, 0), &alone, 0.0, false) / 2.0;
                    whole.backward();
                    if micro == 0 {
                        ddp.backward_no_sync(&loss).unwrap();
                        let own = optim::grads(&net.params);
                        assert!(!agree(&group, &own), "no_sync must not talk");
                    } else {
                        ddp.backward(&loss).unwrap();
                    }
                }
                assert!(agree(&group, &optim::grads(&net.params)), "step {step}");
                for (i, (a, b)) in net.params.iter().zip(&joined.params).enumerate() {
                    let off = difference(&a.grad(), &b.grad());
                    assert!(
                        off < 1e-6,
                        "step {step} parameter {i} checkpointed {checkpointed}: {off:e}"
                    );
                }
                for (a, b) in net.running.iter().zip(&joined.running) {
                    assert!(
                        difference(a, b) < 1e-6,
                        "running statistics, checkpointed {checkpointed}"
                    );
                }
            }
        }
        group.barrier().unwrap();
        drop(store);
    });
}

#[test]
fn checkpointing_changes_no_bit_of_the_reduced_gradients() {
    with_ranks(
        "checkpointing_changes_no_bit_of_the_reduced_gradients",
        |r| {
            let (_store, group) = r.group();
            let run = |checkpointed: bool| {
                // Here no segment uses a parameter twice and none shares: sums have one order either way.
                let params: Vec<Tensor> = Net::new(1).clones(&[0, 1, 2]);
                let ddp = Ddp::new(&group, &params, &options()).unwrap();
                let mut x = batch(0, 0, r.rank, 4);
                for p in &params {
                    let p = p.shallow_clone();
                    let f =
                        move |t: &[Tensor]| vec![t[0].matmul(&p).gelu("none").dropout(0.2, true)];
                    x = if checkpointed {
                        checkpoint(&[x], true, f).unwrap().remove(0)
                    } else {
                        f(&[x]).remove(0)
                    };
                }
                ddp.backward(&x.square().sum(Kind::Float)).unwrap();
                bits(&optim::grads(&params))
            };
            assert_eq!(run(false), run(true));
            group.barrier().unwrap();
        },
    );
}

/// Steps `from..to` of a training run from what `dir` holds of it; the state after it goes there.
fn train(r: &Rank, from: usize, to: usize, bucket_bytes: usize, load: Option<&Path>, save: &Path) {
    let (_store, group) = r.group();
    let net = Net::new(7 + r.rank as u64);
    let hyper = Hyper {
        lr: 3e-3,
        ..Hyper::default()
    };
    let mut adamw = AdamW::new(vec![
        (net.clones(&[0, 1, 2, 3]), hyper),
        (net.clones(&[4, 5]), hyper),
    ])
    .unwrap();
    let parts = |adamw: &AdamW| -> Vec<(String, Tensor)> {
        let name = |(i, t): (usize, &Tensor)| (format!("net.{i}"), t.detach());
        let mut all: Vec<_> = net
            .params
            .iter()
            .chain(&net.running)
            .enumerate()
            .map(name)
            .collect();
        all.extend(adamw.state());
        all
    };
    if let Some(path) = load {
        let found = Tensor::read_safetensors(path).unwrap();
        let (own, state): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(k, _)| k.starts_with("net."));
        assert_eq!(own.len(), 8);
        for (name, mut t) in parts(&adamw) {
            if let Some((_, value)) = own.iter().find(|(k, _)| *k == name) {
                tch::no_grad(|| t.copy_(value));
            }
        }
        adamw.load_state(&state).unwrap();
    }
    let ddp = Ddp::new(
        &group,
        &net.params,
        &DdpOptions {
            bucket_bytes,
            ..options()
        },
    )
    .unwrap();
    for step in from..to {
        adamw.zero_grad().unwrap();
        for micro in 0..2 {
            let x = batch(step, micro, r.rank, 4);
            rng::manual_seed(Device::Cpu, (step * 100 + micro * 10 + r.rank) as u64).unwrap();
            let loss = net.loss(&x, &group, 0.1, true) / 2.0;
            if micro == 0 {
                ddp.backward_no_sync(&loss)
            } else {
                ddp.backward(&loss)
            }
            .unwrap();
        }
        adamw.step().unwrap();
        assert!(agree(&group, &net.params), "ranks differ after step {step}");
        assert!(
            agree(&group, &net.running),
            "running statistics differ after step {step}"
        );
    }
    if r.rank == 0 {
        if bucket_bytes == options().bucket_bytes {
            assert!(ddp.buckets().len() >= 3);
        }
        Tensor::write_safetensors(&parts(&adamw), save).unwrap();
    }
    group.barrier().unwrap();
}

/// 4 ranks, at least 3 buckets, two micro-batches: stopped and gone on in new processes, after each of
/// several steps, ends in the same bits as straight through.
#[test]
fn resuming_changes_no_bit() {
    const TEST: &str = "resuming_changes_no_bit";
    let Some(r) = Rank::from_env() else {
        let dir = tempfile::tempdir().unwrap();
        for phase in [
            "straight", "first-1", "rest-1", "first-4", "rest-4", "other",
        ] {
            launch(TEST, 4, phase, dir.path());
        }
        let end = |phase: &str| {
            let state = Tensor::read_safetensors(dir.path().join(phase)).unwrap();
            let of = |(name, t): (String, Tensor)| (name, bits(&[t]));
            state
                .into_iter()
                .map(of)
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let straight = end("straight");
        for phase in ["rest-1", "rest-4"] {
            let differing: Vec<_> = straight
                .iter()
                .filter(|(k, v)| end(phase)[*k] != **v)
                .collect();
            assert!(
                differing.is_empty(),
                "{phase}: {:?}",
                differing.iter().map(|d| d.0).collect::<Vec<_>>()
            );
        }
        // The test can fail: another layout of buckets sums in another order, which shows.
        assert_ne!(straight, end("other"));
        return;
    };
    let at = |name: &str| r.dir.join(name);
    let bytes = options().bucket_bytes;
    match r.phase.as_str() {
        "straight" => train(&r, 0, 6, bytes, None, &at("straight")),
        "other" => train(&r, 0, 6, usize::MAX, None, &at("other")),
        phase => {
            let (part, k) = phase.split_once('-').unwrap();
            let (k, first) = (k.parse().unwrap(), at(&format!("first-{k}")));
            match part {
                "first" => train(&r, 0, k, bytes, None, &first),
                _ => train(&r, k, 6, bytes, Some(&first), &at(phase)),
            }
        }
    }
}

#[test]
fn unused_parameters() {
    with_ranks("unused_parameters", |r| {
        let (_store, group) = r.group();
        let params: Vec<Tensor> = (0..3)
            .map(|_| Tensor::ones([4], CPU).set_requires_grad(true))
            .collect();
        {
            let find = DdpOptions {
                find_unused: true,
                bucket_bytes: 16,
            };
            let ddp = Ddp::new(&group, &params, &find).unwrap();
            for _ in 0..3 {
                optim::drop_grads(&params).unwrap();
                // The first is used by all, the second by rank 0, the third by none.
                let mut y = (&params[0] * (r.rank + 1) as f64).sum(Kind::Float);
                if r.rank == 0 {
                    y += params[1].sum(Kind::Float);
                }
                ddp.backward(&y).unwrap();
                let w = r.world_size as f64;
                assert_eq!(values(&params[0].grad()), [(w + 1.0) / 2.0; 4]);
                assert_eq!(values(&params[1].grad()), [1.0 / w; 4]);
                assert!(!params[2].grad().defined());
            }
        }
        // The hooks of the dropped one are gone. Without `find_unused` it is an error, at once.
        let ddp = Ddp::new(&group, &params, &DdpOptions::default()).unwrap();
        let error = ddp.backward(&params[0].sum(Kind::Float)).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::Torch(_)) && text.contains("did not receive grad"),
            "{text}"
        );
        group.barrier().unwrap();
    });
}

#[test]
fn wrong_parameters_are_refused() {
    with_ranks("wrong_parameters_are_refused", |r| {
        let (_store, group) = r.group();
        let constant = [Tensor::ones([2], CPU)];
        let text = Ddp::new(&group, &constant, &options())
            .unwrap_err()
            .to_string();
        assert_eq!(text, "parameter 0 is not a leaf that requires a gradient");
        assert!(matches!(
            Ddp::new(&group, &[], &options()),
            Err(Error::Invalid(_))
        ));
        let shape = [2 + r.rank as i64];
        let different = [Tensor::ones(shape, CPU).set_requires_grad(true)];
        let result = Ddp::new(&group, &different, &options());
        // c10d compares with rank 0, which cannot know.
        assert!(r.rank == 0 || result.is_err());
    });
}
