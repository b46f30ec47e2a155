//! Gradient scaling for training in half precision (Micikevicius et al. 2018), with the arithmetic and the
//! state of `torch.amp.GradScaler`.

use std::ffi::c_int;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::error::{Error, Result, check};
use crate::optim::{AdamW, grads};
use crate::process_group::{ProcessGroup, ReduceOp};
use crate::tensor::{Ptr, ptr, ptrs};

unsafe extern "C" {
    fn tchd_unscale(grads: *mut Ptr, n: usize, inv_scale: Ptr, found_inf: Ptr) -> c_int;
    fn tchd_update_scale(
        scale: Ptr,
        growth_tracker: Ptr,
        found_inf: Ptr,
        growth_factor: f64,
        backoff_factor: f64,
        growth_interval: i64,
    ) -> c_int;
}

/// All that a [`GradScaler`] has to remember. The first five have the names and meanings that they have in
/// the `state_dict` of `torch.amp.GradScaler`; the counters are absent there and read as 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScalerState {
    /// What the loss is multiplied by.
    pub scale: f64,
    /// What `scale` is multiplied by after `growth_interval` good steps on end.
    pub growth_factor: f64,
    /// What `scale` is multiplied by after a step with a gradient that is not finite.
    pub backoff_factor: f64,
    /// See `growth_factor`.
    pub growth_interval: i64,
    /// Good steps since `scale` last changed.
    #[serde(rename = "_growth_tracker")]
    pub growth_tracker: i64,
    /// Steps skipped since training began.
    #[serde(default)]
    pub skipped: u64,
    /// Steps skipped on end, up to the last one.
    #[serde(default)]
    pub skipped_in_a_row: u64,
}

impl Default for ScalerState {
    /// The defaults of `torch.amp.GradScaler`.
    fn default() -> Self {
        ScalerState {
            scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            growth_tracker: 0,
            skipped: 0,
            skipped_in_a_row: 0,
        }
    }
}

/// What became of an optimiser's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Weights have moved.
    Taken,
    /// A gradient was not finite; weights, averages and step counts are as they were.
    Skipped,
}

/// Scales the loss so that small gradients survive half precision, and skips steps that overflow.
///
/// ```no_run
/// # use tch_distributed::*; use tch::Tensor;
/// # fn f(ddp: &Ddp, group: &ProcessGroup, params: &[Tensor], adamw: &mut AdamW, scaler: &mut GradScaler,
/// #      loss: Tensor) -> Result<()> {
/// ddp.backward(&scaler.scale(&loss)?)?;
/// scaler.unscale(params, Some(group))?; // from here on gradients have their true size
/// optim::clip_grad_norm(params, 1.0)?;
/// let step = scaler.step(adamw)?; // Taken, or Skipped
/// scaler.update()?;
/// # Ok(()) }
/// ```
///
/// A disabled one changes nothing, to the bit, and never skips.
#[derive(Debug)]
pub struct GradScaler(Option<Enabled>);

#[derive(Debug)]
struct Enabled {
    /// The growth factor and its like, and the counters; `scale` and `growth_tracker` are the tensors'.
    state: ScalerState,
    scale: Tensor,          // [] f32
    growth_tracker: Tensor, // [] i32
    found_inf: Tensor,      // [] f32
    found: Found,
}

/// What is known of the gradients of this step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    Unknown,
    Finite,
    NotFinite,
}

impl GradScaler {
    /// A scaler for gradients on `device`, in this state; [`ScalerState::default`] to begin with.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a state that cannot be, with what is wrong;
    /// [`Torch`](Error::Torch).
    pub fn new(device: Device, state: ScalerState) -> Result<GradScaler> {
        validate(&state)?;
        let tracker = i32::try_from(state.growth_tracker)
            .map_err(|_| invalid(format!("growth tracker {}", state.growth_tracker)))?;
        let float = |value: f64| Tensor::f_full([0i64; 0], value, (Kind::Float, device));
        Ok(GradScaler(Some(Enabled {
            state,
            scale: float(state.scale)?,
            growth_tracker: Tensor::f_full([0i64; 0], i64::from(tracker), (Kind::Int, device))?,
            found_inf: float(0.0)?,
            found: Found::Unknown,
        })))
    }

    /// A scaler that does nothing.
    pub fn disabled() -> GradScaler {
        GradScaler(None)
    }

    /// Whether this one scales.
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// `loss` times the scale; gradients flow through it. A disabled scaler gives `loss` itself.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn scale(&self, loss: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Some(own) => Ok(loss.f_mul(&own.scale)?),
            None => Ok(loss.shallow_clone()),
        }
    }

    /// Divides the gradients of `params` by the scale, in place, and says whether all are finite; once per
    /// step, after the last backward pass. All ranks of `group` hear the same answer, also where only one
    /// has such a gradient; without a group the answer is this rank's own, which suffices where gradients
    /// were averaged over ranks.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for the second call in a step, or for gradients that are in half
    /// precision themselves; [`Timeout`](Error::Timeout), [`Distributed`](Error::Distributed),
    /// [`Torch`](Error::Torch).
    pub fn unscale(&mut self, params: &[Tensor], group: Option<&ProcessGroup>) -> Result<bool> {
        let Some(own) = &mut self.0 else {
            return Ok(true);
        };
        if own.found != Found::Unknown {
            return Err(Error::Invalid(
                "gradients were unscaled already in this step; update the scaler before the next"
                    .into(),
            ));
        }
        let grads = grads(params);
        if let Some(i) = grads.iter().position(|g| g.kind() == Kind::Half) {
            return Err(Error::Invalid(format!(
                "gradient {i} is itself in half precision and has overflowed or underflowed before it \
                 could be unscaled; keep parameters in float32 and use autocast"
            )));
        }
        // As torch computes it: the reciprocal in f64, then rounded.
        let inv_scale = no_grad(|| {
            own.scale
                .f_to_kind(Kind::Double)?
                .f_reciprocal()?
                .f_to_kind(Kind::Float)
        })?;
        let _ = own.found_inf.f_zero_()?;
        let mut list = ptrs(&grads);
        // SAFETY: the list and both tensors are valid during the call.
        check(unsafe {
            tchd_unscale(
                list.as_mut_ptr(),
                list.len(),
                ptr(&inv_scale),
                ptr(&own.found_inf),
            )
        })?;
        if let Some(group) = group.filter(|g| g.world_size() > 1) {
            group.all_reduce(&own.found_inf, ReduceOp::Max)?;
        }
        let finite = f64::try_from(&own.found_inf)? == 0.0;
        own.found = if finite {
            Found::Finite
        } else {
            Found::NotFinite
        };
        Ok(finite)
    }

    /// One step of `adamw`, unless a gradient is not finite. Unscales first, on this rank alone, where
    /// [`GradScaler::unscale`] was not called in this step.
    ///
    /// # Errors
    /// As [`GradScaler::unscale`] and [`AdamW::step`].
    pub fn step(&mut self, adamw: &mut AdamW) -> Result<Step> {
        if matches!(&self.0, Some(own) if own.found == Found::Unknown) {
            let params: Vec<Tensor> = adamw
                .groups()
                .iter()
                .flat_map(|g| g.params().map(Tensor::shallow_clone))
                .collect();
            self.unscale(&params, None)?;
        }
        if matches!(&self.0, Some(own) if own.found == Found::NotFinite) {
            return Ok(Step::Skipped);
        }
        adamw.step()?;
        Ok(Step::Taken)
    }

    /// Grows or backs off the scale by what this step's gradients were, and counts. Once per step, last.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) where nothing was unscaled in this step; [`Torch`](Error::Torch).
    pub fn update(&mut self) -> Result<()> {
        let Some(own) = &mut self.0 else {
            return Ok(());
        };
        match own.found {
            Found::Unknown => {
                return Err(Error::Invalid(
                    "no gradients were unscaled since the scaler was last updated".into(),
                ));
            }
            Found::Finite => own.state.skipped_in_a_row = 0,
            Found::NotFinite => {
                own.state.skipped += 1;
                own.state.skipped_in_a_row += 1;
            }
        }
        own.found = Found::Unknown;
        // SAFETY: three live tensors.
        check(unsafe {
            tchd_update_scale(
                ptr(&own.scale),
                ptr(&own.growth_tracker),
                ptr(&own.found_inf),
                own.state.growth_factor,
                own.state.backoff_factor,
                own.state.growth_interval,
            )
        })
    }

    /// The factor in use; 1 for a disabled scaler.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn factor(&self) -> Result<f64> {
        self.0
            .as_ref()
            .map_or(Ok(1.0), |own| Ok(f64::try_from(&own.scale)?))
    }

    /// Steps skipped since training began.
    pub fn skipped(&self) -> u64 {
        self.0.as_ref().map_or(0, |own| own.state.skipped)
    }

    /// Steps skipped on end, up to the last one: a storm where it keeps growing.
    pub fn skipped_in_a_row(&self) -> u64 {
        self.0.as_ref().map_or(0, |own| own.state.skipped_in_a_row)
    }

    /// All there is to remember, between steps; `None` for a disabled scaler.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn state(&self) -> Result<Option<ScalerState>> {
        let Some(own) = &self.0 else {
            return Ok(None);
        };
        Ok(Some(ScalerState {
            scale: f64::try_from(&own.scale)?,
            growth_tracker: i64::try_from(&own.growth_tracker)?,
            ..own.state
        }))
    }

    /// Goes on from `state`. A disabled scaler has none and ignores it, as torch's does.
    ///
    /// # Errors
    /// As [`GradScaler::new`]; nothing has changed then.
    pub fn set_state(&mut self, state: &ScalerState) -> Result<()> {
        if let Some(own) = &self.0 {
            *self = GradScaler::new(own.scale.device(), *state)?;
        }
        Ok(())
    }
}

fn validate(state: &ScalerState) -> Result<()> {
    let good = |x: f64| x.is_finite() && x > 0.0;
    let single = state.scale as f32;
    if !good(f64::from(single)) {
        return Err(invalid(format!("scale {}", state.scale)));
    }
    if !good(state.growth_factor) || state.growth_factor <= 1.0 {
        return Err(invalid(format!(
            "growth factor {}, which must be above 1",
            state.growth_factor
        )));
    }
    if !good(state.backoff_factor) || state.backoff_factor >= 1.0 {
        return Err(invalid(format!(
            "backoff factor {}, which must be below 1",
            state.backoff_factor
        )));
    }
    if state.growth_interval < 1 || state.growth_interval > i64::from(i32::MAX) {
        return Err(invalid(format!(
            "growth interval {}",
            state.growth_interval
        )));
    }
    if state.growth_tracker < 0 || state.growth_tracker >= state.growth_interval {
        return Err(invalid(format!(
            "growth tracker {}, which must be below the growth interval {}",
            state.growth_tracker, state.growth_interval
        )));
    }
    Ok(())
}

fn invalid(what: String) -> Error {
    Error::Invalid(format!("a gradient scaler cannot have {what}"))
}
