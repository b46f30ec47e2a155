//! Values of tensors in Rust's own memory.

use tch::kind::Element;
use tch::{Device, Tensor};

/// All values, row by row, whatever the device and kind of the tensor.
///
/// # Panics
/// The tensor is undefined, or its device fails.
pub(crate) fn to_vec<T: Element>(tensor: &Tensor) -> Vec<T> {
    let values = tensor.to_device(Device::Cpu).to_kind(T::KIND).contiguous();
    let mut out = vec![T::ZERO; values.numel()];
    values.copy_data(&mut out, values.numel());
    out
}
