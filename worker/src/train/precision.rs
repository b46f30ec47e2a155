//! Mixed precision (arXiv 1710.03740): which type forward and backward compute in, and what to do when
//! float16 cannot hold a gradient.

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Precision;
use tch::{Device, Kind};
use tch_distributed::{GradScaler, ScalerState};

/// Steps in a row that may overflow. The scale has fallen to 0.004 by then: what overflows still is not
/// the scale's fault.
pub const MOST_OVERFLOWS: u64 = 24;

/// Type that autocast goes to; `None` for float32.
#[must_use]
pub fn kind(precision: Precision, device: Device) -> Option<Kind> {
    match precision {
        Precision::Auto if device.is_cuda() => Some(Kind::Half),
        Precision::Auto | Precision::Float32 => None,
        Precision::Bf16 => Some(Kind::BFloat16),
        Precision::Fp16 => Some(Kind::Half),
    }
}

/// The scaler of a type: float16 alone needs one.
///
/// # Errors
/// When torch fails.
pub fn scaler(autocast: Option<Kind>, device: Device) -> tch_distributed::Result<GradScaler> {
    match autocast {
        Some(Kind::Half) => GradScaler::new(device, ScalerState::default()),
        _ => Ok(GradScaler::disabled()),
    }
}

/// Fails in a storm of overflows.
///
/// # Errors
/// Kind [`ExitKind::NotFinite`] after [`MOST_OVERFLOWS`] steps in a row that were left out.
pub fn judge(step: u64, in_a_row: u64, scale: f64) -> Result<(), Error> {
    if in_a_row < MOST_OVERFLOWS {
        return Ok(());
    }
    Err(Error::new(
        ExitKind::NotFinite,
        format!(
            "the gradients of {in_a_row} steps in a row, up to step {step}, overflowed float16, although the \
             loss was scaled by no more than {scale:.3e} in the end"
        ),
    )
    .hint("the weights are those of the last step that was taken; the checkpoints are intact")
    .hint("use train.precision: bf16 or float32, a lower optim.lr or a longer optim.warmup_epochs"))
}
