//! Tensors in safetensors files (<https://github.com/huggingface/safetensors>): memory-mapped by
//! every tool of the field, and without code in them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

/// A tensor that lies contiguously in host memory, as safetensors wants to see it.
struct HostTensor {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl HostTensor {
    fn new(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let dtype = dtype_of(tensor.kind())?;
        let shape = tensor.size().iter().map(|side| *side as usize).collect();
        Ok(Self {
            tensor,
            dtype,
            shape,
        })
    }
}

impl View for &HostTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // SAFETY: the tensor is contiguous, on the CPU, and lives as long as `self`.
        Cow::Borrowed(unsafe {
            std::slice::from_raw_parts(self.tensor.data_ptr().cast::<u8>(), self.data_len())
        })
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// Writes `tensors` to `path`, in their order by name.
///
/// # Errors
/// When a tensor's type has no place in the format, or the file cannot be written.
pub fn save(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let host = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), HostTensor::new(tensor)?)))
        .collect::<Result<Vec<_>>>()?;
    let views = host.iter().map(|(name, tensor)| (*name, tensor));
    safetensors::serialize_to_file(views, None, path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => {
            anyhow!(error).context(format!("cannot write {}", path.display()))
        }
        other => anyhow!("cannot write {}: {other}", path.display()),
    })
}

/// Reads every tensor of `path` into host memory, in the order of names, so that what is said of them has
/// one order too.
///
/// # Errors
/// When the file cannot be read or is not a safetensors file.
pub fn load(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| anyhow!("{} is not a safetensors file: {error}", path.display()))?;
    file.iter()
        .map(|(name, view)| {
            let kind = kind_of(view.dtype())
                .with_context(|| format!("tensor '{name}' of {}", path.display()))?;
            let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
            Ok((
                name.to_owned(),
                Tensor::from_data_size(view.data(), &shape, kind),
            ))
        })
        .collect()
}

const KINDS: [(Kind, Dtype); 10] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Int16, Dtype::I16),
    (Kind::Int8, Dtype::I8),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

fn dtype_of(kind: Kind) -> Result<Dtype> {
    match KINDS.iter().find(|(known, _)| *known == kind) {
        Some((_, dtype)) => Ok(*dtype),
        None => bail!("tensors of type {kind:?} cannot be stored"),
    }
}

fn kind_of(dtype: Dtype) -> Result<Kind> {
    match KINDS.iter().find(|(_, known)| *known == dtype) {
        Some((kind, _)) => Ok(*kind),
        None => bail!("type {dtype:?} is not read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_bit_by_bit() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x.safetensors");
        let strided = Tensor::arange(6, (Kind::Float, Device::Cpu))
            .reshape([2, 3])
            .transpose(0, 1);
        let tensors = vec![
            ("strided".to_owned(), strided),
            ("scalar".to_owned(), Tensor::from(0.1f64)),
            ("counter".to_owned(), Tensor::from(7i64)),
            (
                "empty".to_owned(),
                Tensor::zeros([0, 4], (Kind::BFloat16, Device::Cpu)),
            ),
        ];
        save(&path, &tensors).expect("written");
        let loaded = load(&path).expect("read");
        assert_eq!(loaded.len(), tensors.len());
        for (name, tensor) in &tensors {
            assert_eq!(loaded[name].size(), tensor.size(), "{name}");
            assert_eq!(loaded[name].kind(), tensor.kind(), "{name}");
            assert!(loaded[name].equal(tensor), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_safetensors_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x.safetensors");
        fs::write(&path, b"not one").expect("written");
        let error = load(&path).expect_err("refused").to_string();
        assert!(
            error.contains("x.safetensors is not a safetensors file"),
            "{error}"
        );
    }
}
