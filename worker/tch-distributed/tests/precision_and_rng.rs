//! Autocast, generators and the loading of CUDA.

mod common;

use common::*;
use tch::{Device, Kind, Tensor};
use tch_distributed::{Error, autocast, cuda, rng};

fn product_kind() -> Kind {
    let a = Tensor::ones([2, 2], CPU);
    a.matmul(&a).kind()
}

#[test]
fn autocast_holds_inside_and_ends_outside() {
    let inside = autocast(Device::Cpu, Kind::BFloat16, || {
        let nested = autocast(Device::Cpu, Kind::Half, product_kind).unwrap();
        let off = autocast(Device::Cpu, Kind::Float, product_kind).unwrap();
        // A norm stays in f32, as torch's lists say.
        let sum = Tensor::ones([4], CPU).norm().kind();
        [product_kind(), nested, off, sum, product_kind()]
    });
    use Kind::{BFloat16, Float, Half};
    assert_eq!(inside.unwrap(), [BFloat16, Half, Float, Float, BFloat16]);
    assert_eq!(product_kind(), Float);

    let caught = std::panic::catch_unwind(|| autocast(Device::Cpu, BFloat16, || panic!("inside")));
    assert!(caught.is_err());
    assert_eq!(product_kind(), Float);
    let error = autocast(Device::Cpu, Kind::Int64, || ()).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
}

#[test]
fn gradients_of_weights_under_autocast_are_f32() {
    let w = Tensor::ones([3, 3], CPU).set_requires_grad(true);
    let y = autocast(Device::Cpu, Kind::BFloat16, || {
        Tensor::ones([2, 3], CPU).matmul(&w)
    })
    .unwrap();
    y.sum(Kind::Float).backward();
    assert_eq!(
        (w.grad().kind(), values(&w.grad())),
        (Kind::Float, vec![2.0; 9])
    );
}

#[test]
fn generators_repeat() {
    // The only test of this file that draws numbers: the default generator is the process's.
    let draw = || bits(&[Tensor::randn([5], CPU), Tensor::rand([5], CPU)]);
    rng::manual_seed(Device::Cpu, 7).unwrap();
    let first = draw();
    let state = rng::state(Device::Cpu).unwrap();
    let second = draw();
    assert_ne!(first, second);
    rng::set_state(Device::Cpu, &state).unwrap();
    assert_eq!(draw(), second);
    rng::manual_seed(Device::Cpu, 7).unwrap();
    assert_eq!(draw(), first);
    assert!(rng::set_state(Device::Cpu, &Tensor::zeros([3], CPU)).is_err());
}

#[test]
fn cuda_is_loaded_where_it_is() {
    assert!(
        !cuda::load_if_present().unwrap() || tch::Cuda::is_available() || tch::utils::has_cuda()
    );
}
