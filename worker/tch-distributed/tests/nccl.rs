//! NCCL's part where there is no GPU: it is built, it needs nothing at link time, and it says what is missing.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tch_distributed::{Error, NcclOptions, ProcessGroup, Store, cuda, device, nccl};

/// The shared object; none where this was built without NCCL's headers, which must not be so in CI.
fn object() -> Option<std::path::PathBuf> {
    match nccl::find() {
        Ok(path) => Some(path),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("not tested: {error}");
            None
        }
    }
}

fn dynamic(path: &Path) -> String {
    let out = Command::new("readelf")
        .arg("-d")
        .arg(path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn needed(path: &Path) -> Vec<String> {
    let text = dynamic(path);
    let names = text.lines().filter(|line| line.contains("(NEEDED)"));
    names
        .filter_map(|line| line.split_once('[')?.1.split_once(']'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn neither_the_program_nor_the_object_asks_for_cuda() {
    let own = needed(&std::env::current_exe().unwrap());
    assert!(own.iter().any(|name| name == "libtorch_cpu.so"), "{own:?}");
    let mut all = own;
    if let Some(path) = object() {
        let of_object = needed(&path);
        assert!(
            !of_object.is_empty() && of_object.iter().all(|n| !n.contains("torch")),
            "{of_object:?}"
        );
        assert!(!dynamic(&path).contains("RUNPATH"));
        all.extend(of_object);
    }
    for name in all {
        let foreign = ["cuda", "nccl", "cublas", "cudnn", "nvrtc"]
            .iter()
            .find(|n| name.contains(**n));
        assert_eq!(foreign, None, "{name} is needed");
    }
}

#[test]
fn without_a_gpu_a_group_is_refused_in_words() {
    if cuda::load_if_present().unwrap() && cuda::device_count() > 0 {
        return; // tests/gpu_groups.rs has the rest
    }
    let patience = Duration::from_secs(5);
    let store = Store::tcp("127.0.0.1", 0, 1, true, patience).unwrap();
    let error = ProcessGroup::nccl(&store, 0, 1, &NcclOptions::new(0, patience)).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("ProcessGroupNCCL needs a GPU: "), "{text}");
    let error = device::select(0).unwrap_err().to_string();
    assert!(error.starts_with("training on CUDA needs a "), "{error}");
}

#[test]
fn the_object_loads_with_cuda_alone() {
    let Some(path) = object() else { return };
    let with_cuda = cuda::load_if_present().unwrap();
    let result = nccl::load_object(&path);
    if with_cuda {
        // Every symbol is found, GPU or not.
        return result.unwrap();
    }
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("cannot load NCCL's part") && error.contains("undefined symbol"),
        "{error}"
    );
    let error = nccl::load_object(Path::new("/nowhere/x.so")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.so"), "{error}");
}

#[test]
fn devices_that_are_not_there() {
    use tch::{Device, Kind, Tensor};
    assert_eq!(device::memory(Device::Cpu).unwrap(), None);
    device::reset_peak(Device::Cpu).unwrap();
    device::empty_cache(Device::Cpu).unwrap();
    device::synchronize(Device::Cpu).unwrap();
    let t = Tensor::rand([3], (Kind::Float, Device::Cpu));
    assert_eq!(
        device::upload(&t, Device::Cpu).unwrap().data_ptr(),
        t.data_ptr()
    );
    if cuda::device_count() == 0 {
        assert_eq!(device::pin(&t).unwrap().data_ptr(), t.data_ptr());
        let error = device::memory(Device::Cuda(0)).unwrap_err().to_string();
        assert_eq!(error, "there is no CUDA device 0");
        assert!(device::upload(&t, Device::Cuda(0)).is_err());
        assert!(tch_distributed::rng::state(Device::Cuda(0)).is_err());
    }
}

#[test]
fn the_switches_reach_torch() {
    use tch::{Device, Kind, Tensor};
    device::allow_tf32(false, true).unwrap();
    device::set_deterministic(true).unwrap();
    // On the CPU this operation has no deterministic form; it says so only in that mode.
    let input = Tensor::zeros([1, 1, 4, 4], (Kind::Float, Device::Cpu));
    let put = || {
        input.f_put(
            &Tensor::from_slice(&[0i64, 0]),
            &Tensor::from_slice(&[1f32, 2.0]),
            false,
        )
    };
    let error = put().unwrap_err().to_string();
    assert!(
        error.contains("does not have a deterministic implementation"),
        "{error}"
    );
    device::set_deterministic(false).unwrap();
    assert!(put().is_ok());
}
