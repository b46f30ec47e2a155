//! Groups over NCCL. On a GPU: `make gpu-test`.

mod common;

use common::gpu::with_gpu_ranks;
use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::batch_norm::over_ranks;
use tch_distributed::{Ddp, DdpOptions, ReduceOp, functional, optim, rng};

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn collectives() {
    with_gpu_ranks("collectives", |r| {
        let (_store, group, on_gpu) = r.nccl();
        let w = r.world_size as f64;
        let own = r.rank as f64 + 1.0;
        // The same group serves both devices.
        for options in [on_gpu, CPU] {
            let fresh = || Tensor::full([3], own, options);
            let total = w * (w + 1.0) / 2.0;
            for (op, expected) in [
                (ReduceOp::Sum, total),
                (ReduceOp::Avg, total / w),
                (ReduceOp::Min, 1.0),
                (ReduceOp::Max, w),
            ] {
                let t = fresh();
                group.all_reduce(&t, op).unwrap();
                assert_eq!(values(&t), [expected; 3], "{op:?}");
            }
            let all = group.all_gather(&fresh()).unwrap();
            assert_eq!(all.size(), [r.world_size as i64, 3]);
            assert_eq!(
                values(&all.select(1, 0)),
                (1..=r.world_size).map(|i| i as f64).collect::<Vec<_>>()
            );
            let t = fresh();
            group.broadcast(&t, 0).unwrap();
            assert_eq!(values(&t), [1.0; 3]);
            let many = [fresh(), fresh().to_kind(Kind::Int64)];
            group.broadcast_all(&many, r.world_size - 1).unwrap();
            assert_eq!(values(&many[1]), [w; 3]);
            let x = fresh().set_requires_grad(true);
            functional::all_gather(&group, &x)
                .unwrap()
                .sum(Kind::Float)
                .backward();
            assert_eq!(values(&x.grad()), [w; 3]);
        }
        group.barrier().unwrap();
    });
}

/// The fused kernels against torch's own batch normalisation of the joined batch, on the CPU.
#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn fused_batch_norm_equals_the_joined_batch_on_the_cpu() {
    with_gpu_ranks("fused_batch_norm_equals_the_joined_batch_on_the_cpu", |r| {
        let (_store, group, (_, device)) = r.nccl();
        let share = 6i64;
        let n = share * r.world_size as i64;
        for (channels_last, kind, bound) in [
            (false, Kind::Float, 2e-5),
            (true, Kind::Float, 2e-5),
            (true, Kind::Half, 4e-3),
            (false, Kind::BFloat16, 3e-2),
        ] {
            rng::manual_seed(Device::Cpu, 5).unwrap();
            let rounded = |t: Tensor| t.to_kind(kind).to_kind(Kind::Float);
            let x = rounded(Tensor::randn([n, 8, 5, 3], CPU) * 2.0 + 1.0).set_requires_grad(true);
            let dy = rounded(Tensor::randn([n, 8, 5, 3], CPU));
            let leaf = |t: Tensor| t.set_requires_grad(true);
            let (weight, bias) = (
                leaf(Tensor::rand([8], CPU) + 0.5),
                leaf(Tensor::rand([8], CPU)),
            );
            let stats = || [Tensor::zeros([8], CPU), Tensor::ones([8], CPU)];

            let [mean, var] = stats();
            let y = x.batch_norm(
                Some(&weight),
                Some(&bias),
                Some(&mean),
                Some(&var),
                true,
                0.1,
                1e-5,
                false,
            );
            (&y * &dy).sum(Kind::Float).backward();

            let from = share * r.rank as i64;
            let mine = |t: &Tensor| {
                let t = t
                    .detach()
                    .narrow(0, from, share)
                    .to_kind(kind)
                    .to_device(device);
                if channels_last {
                    channels_last_of(&t)
                } else {
                    t
                }
            };
            let there = |t: &Tensor| leaf(t.detach().to_device(device));
            let (gx, gw, gb) = (leaf(mine(&x)), there(&weight), there(&bias));
            let [gmean, gvar] = stats().map(|t| t.to_device(device));
            let gy = over_ranks(
                &gx,
                Some(&gw),
                Some(&gb),
                Some(&gmean),
                Some(&gvar),
                0.1,
                1e-5,
                &group,
            )
            .unwrap();
            assert_eq!(gy.kind(), kind);
            (&gy * mine(&dy)).sum(Kind::Float).backward();

            let back = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Float);
            let part = |t: &Tensor| t.narrow(0, from, share);
            for t in [&gw, &gb] {
                // Those of this rank's batch; joined they are the batch's.
                group.all_reduce(&t.grad(), ReduceOp::Sum).unwrap();
            }
            for (name, got, expected) in [
                ("y", back(&gy), part(&y)),
                ("dx", back(&gx.grad()), part(&x.grad())),
                ("dweight", back(&gw.grad()), weight.grad()),
                ("dbias", back(&gb.grad()), bias.grad()),
                ("mean", back(&gmean), mean),
                ("var", back(&gvar), var),
            ] {
                let off = difference(&got, &expected);
                assert!(
                    off < bound,
                    "{name} of {kind:?}, channels last {channels_last}: {off}"
                );
            }
        }
    });
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn gradients_are_those_of_the_joined_batch() {
    with_gpu_ranks("gradients_are_those_of_the_joined_batch", |r| {
        let (_store, group, (_, device)) = r.nccl();
        rng::manual_seed(Device::Cpu, 11).unwrap();
        let n = 4 * r.world_size as i64;
        let x = Tensor::randn([n, 32], CPU);
        let params: Vec<Tensor> = (0..4).map(|_| Tensor::randn([32, 32], CPU) * 0.2).collect();
        let loss = |p: &[Tensor], x: &Tensor| {
            p.iter()
                .fold(x.shallow_clone(), |x, w| x.matmul(w).tanh())
                .square()
                .mean(Kind::Float)
        };
        let whole: Vec<Tensor> = params
            .iter()
            .map(|p| p.copy().set_requires_grad(true))
            .collect();
        loss(&whole, &x).backward();

        let own: Vec<Tensor> = params
            .iter()
            .map(|p| p.to_device(device).set_requires_grad(true))
            .collect();
        let options = DdpOptions {
            bucket_bytes: 6000,
            ..DdpOptions::default()
        };
        let ddp = Ddp::new(&group, &own, &options).unwrap();
        let half = |i: i64| x.narrow(0, 4 * r.rank as i64 + 2 * i, 2).to_device(device);
        for _ in 0..2 {
            optim::drop_grads(&own).unwrap();
            ddp.backward_no_sync(&(loss(&own, &half(0)) / 2.0)).unwrap();
            ddp.backward(&(loss(&own, &half(1)) / 2.0)).unwrap();
            let grads: Vec<Tensor> = own
                .iter()
                .map(|p| p.grad().to_device(Device::Cpu))
                .collect();
            assert!(agree(&group, &grads));
            for (a, b) in grads.iter().zip(&whole) {
                let off = difference(a, &b.grad());
                assert!(off < 1e-5, "{off}");
            }
        }
    });
}
