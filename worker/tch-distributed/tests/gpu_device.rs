//! A GPU's memory, copies, generators and repeatability: `make gpu-test`.

mod common;

use common::gpu::gpu;
use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::{AdamW, Hyper, autocast, checkpoint, device, rng};

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn memory_is_counted() {
    let (kind, gpu) = gpu();
    let ((major, _), version) = device::capability(0).unwrap();
    assert!(major >= 5 && version >= 12000, "{major} {version}");
    let now = || device::memory(gpu).unwrap().unwrap();
    let before = now();
    assert!(before.total >= before.free && before.free > 0);
    let t = Tensor::zeros([64 << 18], (kind, gpu)); // 64 MiB
    assert!(now().allocated >= before.allocated + (64 << 20));
    drop(t);
    device::synchronize(gpu).unwrap();
    assert!(now().max_allocated >= before.allocated + (64 << 20));
    assert!(now().reserved >= 64 << 20);
    device::empty_cache(gpu).unwrap();
    device::reset_peak(gpu).unwrap();
    assert!(now().max_allocated < 64 << 20);
    assert!(device::select(1000).is_err());
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn pinned_copies_arrive() {
    let (_, gpu) = gpu();
    let t = Tensor::randn([1 << 20], CPU);
    let pinned = device::pin(&t).unwrap();
    assert_ne!(pinned.data_ptr(), t.data_ptr());
    assert_eq!(device::pin(&pinned).unwrap().data_ptr(), pinned.data_ptr());
    let there = device::upload(&pinned, gpu).unwrap();
    drop(pinned);
    let back = device::upload(&there, Device::Cpu).unwrap();
    assert_eq!(bits(&[back]), bits(&[t]));
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn generators_repeat_and_checkpoints_restore_them() {
    let (kind, gpu) = gpu();
    rng::manual_seed(gpu, 7).unwrap();
    let state = rng::state(gpu).unwrap();
    assert_eq!(state.device(), Device::Cpu);
    let draw = || bits(&[Tensor::randn([5], (kind, gpu)).to_device(Device::Cpu)]);
    let (first, second) = (draw(), draw());
    assert_ne!(first, second);
    rng::set_state(gpu, &state).unwrap();
    assert_eq!(draw(), first);

    let run = |segmented: bool, to: Kind| {
        rng::manual_seed(gpu, 3).unwrap();
        let w = Tensor::randn([32, 32], (kind, gpu)).set_requires_grad(true);
        let x = Tensor::randn([8, 32], (kind, gpu)).set_requires_grad(true);
        let v = w.shallow_clone();
        let f = move |t: &[Tensor]| {
            vec![
                t[0].matmul(&v)
                    .dropout(0.5, true)
                    .softmax(-1, None)
                    .matmul(&v),
            ]
        };
        let y = autocast(gpu, to, || {
            let inputs = [x.shallow_clone()];
            if segmented {
                checkpoint(&inputs, true, f).unwrap().remove(0)
            } else {
                f(&inputs).remove(0)
            }
        });
        y.unwrap()
            .to_kind(Kind::Float)
            .square()
            .sum(Kind::Float)
            .backward();
        let after = Tensor::rand([1], (kind, gpu));
        bits(&[w.grad(), x.grad(), after].map(|t| t.to_device(Device::Cpu)))
    };
    for to in [Kind::Float, Kind::BFloat16, Kind::Half] {
        assert_eq!(run(true, to), run(false, to), "{to:?}");
    }
}

#[test]
#[ignore = "needs a GPU; make gpu-test"]
fn deterministic_runs_are_the_same_bits() {
    let (_, gpu) = gpu();
    device::allow_tf32(false, false).unwrap();
    device::set_deterministic(true).unwrap();
    let run = |to: Kind| {
        rng::manual_seed(gpu, 9).unwrap();
        let make = |shape: &[i64]| {
            (Tensor::randn(shape, (Kind::Float, gpu)) * 0.1).set_requires_grad(true)
        };
        let (conv, table, head) = (make(&[16, 3, 3, 3]), make(&[10, 16]), make(&[16, 16]));
        let params = [&conv, &table, &head].map(Tensor::shallow_clone);
        let mut adamw = AdamW::new(vec![(Vec::from(params), Hyper::default())]).unwrap();
        for _ in 0..5 {
            let x = channels_last_of(&Tensor::randn([8, 3, 16, 16], (Kind::Float, gpu)));
            let ids = Tensor::randint(10, [8, 12], (Kind::Int64, gpu));
            adamw.zero_grad().unwrap();
            let loss = autocast(gpu, to, || {
                let image = x.conv2d::<Tensor>(&conv, None, 2, 1, 1, 1).relu().mean_dim(
                    [2i64, 3].as_slice(),
                    false,
                    Kind::Float,
                );
                // The gradient of a look-up adds in an order of its own unless told not to.
                let text = Tensor::embedding(&table, &ids, -1, false, false)
                    .dropout(0.1, true)
                    .sum_dim_intlist(1, false, Kind::Float);
                (image.matmul(&head) * text).square().mean(Kind::Float)
            });
            loss.unwrap().backward();
            adamw.step().unwrap();
        }
        bits(&[conv, table, head].map(|p| p.to_device(Device::Cpu)))
    };
    for to in [Kind::Float, Kind::BFloat16] {
        assert_eq!(run(to), run(to), "{to:?}");
    }
    device::set_deterministic(false).unwrap();
}
