//! AdamW (Loshchilov and Hutter 2019) by libtorch's fused kernel, and operations over lists of gradients.

use std::collections::HashMap;
use std::ffi::c_int;

use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result, check};
use crate::tensor::{Ptr, one_tensor, ptr, ptr_or_null, ptrs};

unsafe extern "C" {
    fn tchd_fused_adamw(
        params: *mut Ptr,
        grads: *mut Ptr,
        exp_avgs: *mut Ptr,
        exp_avg_sqs: *mut Ptr,
        steps: *mut Ptr,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        grad_scale: Ptr,
        found_inf: Ptr,
    ) -> c_int;
    fn tchd_drop_grads(params: *mut Ptr, n: usize) -> c_int;
    fn tchd_norm(tensors: *mut Ptr, n: usize, out: *mut Ptr) -> c_int;
    fn tchd_scale(tensors: *mut Ptr, n: usize, factor: Ptr) -> c_int;
}

/// What the parameters of one group share. May be changed between steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the two moving averages.
    pub betas: (f64, f64),
    /// Added to the root of the second average.
    pub eps: f64,
    /// Decoupled weight decay: a step first multiplies weights by `1 - lr * weight_decay`.
    pub weight_decay: f64,
}

impl Default for Hyper {
    /// The defaults of `torch.optim.AdamW`.
    fn default() -> Self {
        Hyper {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 1e-2,
        }
    }
}

/// Parameters and what they share.
#[derive(Debug)]
pub struct Group {
    params: Vec<Slot>,
    /// Used by the next step.
    pub hyper: Hyper,
}

#[derive(Debug)]
struct Slot {
    param: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
}

/// AdamW over groups of parameters.
///
/// State is made at once, not at the first step. A parameter without a gradient is left out of a step:
/// neither its weight nor its step count moves.
#[derive(Debug)]
pub struct AdamW {
    groups: Vec<Group>,
}

const PARTS: [&str; 3] = ["exp_avg", "exp_avg_sq", "step"];

impl AdamW {
    /// An optimiser over these groups, with empty averages.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn new(groups: Vec<(Vec<Tensor>, Hyper)>) -> Result<AdamW> {
        let slot = |param: Tensor| -> Result<Slot> {
            let _off = tch::no_grad_guard();
            Ok(Slot {
                exp_avg: param.f_zeros_like()?,
                exp_avg_sq: param.f_zeros_like()?,
                // The fused kernel wants it beside the parameter.
                step: Tensor::f_zeros([0i64; 0], (Kind::Float, param.device()))?,
                param,
            })
        };
        let group = |(params, hyper): (Vec<Tensor>, Hyper)| -> Result<Group> {
            Ok(Group {
                params: params.into_iter().map(slot).collect::<Result<_>>()?,
                hyper,
            })
        };
        Ok(AdamW {
            groups: groups.into_iter().map(group).collect::<Result<_>>()?,
        })
    }

    /// The groups, in the order given.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The groups, to change what their parameters share.
    pub fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// Sets the learning rate of all groups.
    pub fn set_lr(&mut self, lr: f64) {
        self.groups.iter_mut().for_each(|g| g.hyper.lr = lr);
    }

    /// One step from the gradients that the parameters hold.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn step(&mut self) -> Result<()> {
        self.step_scaled(None, None)
    }

    /// As [`AdamW::step`] with what gradient scaling left on the device, so that the host need not wait for
    /// it: gradients are first divided by `grad_scale`, in place, and where `found_inf` is 1 the step does
    /// nothing. Each is one f32 value on the parameters' device. [`GradScaler`](crate::GradScaler) needs
    /// neither: it unscales and decides itself.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn step_scaled(
        &mut self,
        grad_scale: Option<&Tensor>,
        found_inf: Option<&Tensor>,
    ) -> Result<()> {
        for group in &self.groups {
            let (mut p, mut g, mut m, mut v, mut s, mut held) =
                (vec![], vec![], vec![], vec![], vec![], vec![]);
            for slot in &group.params {
                let grad = slot.param.grad();
                if !grad.defined() {
                    continue;
                }
                p.push(ptr(&slot.param));
                g.push(ptr(&grad));
                m.push(ptr(&slot.exp_avg));
                v.push(ptr(&slot.exp_avg_sq));
                s.push(ptr(&slot.step));
                held.push(grad);
            }
            if p.is_empty() {
                continue;
            }
            let Hyper {
                lr,
                betas,
                eps,
                weight_decay,
            } = group.hyper;
            // SAFETY: five lists of `p.len()` live tensors each; `held` keeps the gradients alive.
            check(unsafe {
                tchd_fused_adamw(
                    p.as_mut_ptr(),
                    g.as_mut_ptr(),
                    m.as_mut_ptr(),
                    v.as_mut_ptr(),
                    s.as_mut_ptr(),
                    p.len(),
                    lr,
                    betas.0,
                    betas.1,
                    weight_decay,
                    eps,
                    ptr_or_null(grad_scale),
                    ptr_or_null(found_inf),
                )
            })?;
        }
        Ok(())
    }

    /// Makes all gradients undefined.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn zero_grad(&self) -> Result<()> {
        let params: Vec<Tensor> = self.slots().map(|s| s.param.shallow_clone()).collect();
        drop_grads(&params)
    }

    /// The averages and step counts as `("<i>.exp_avg" | "<i>.exp_avg_sq" | "<i>.step", tensor)`, where
    /// `i` counts parameters over all groups in order. The tensors share memory with the optimiser: write
    /// them away before the next step, or copy them.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let of = |(i, slot): (usize, &Slot)| {
            let names = PARTS.map(|part| format!("{i}.{part}"));
            names
                .into_iter()
                .zip(slot.parts().map(Tensor::shallow_clone))
                .collect::<Vec<_>>()
        };
        self.slots().enumerate().flat_map(of).collect()
    }

    /// Takes over averages and step counts that [`AdamW::state`] gave, by copy.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) where an entry is missing, has another shape or type, or belongs to no
    /// parameter; nothing has changed then.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let mut given: HashMap<&str, &Tensor> =
            state.iter().map(|(k, t)| (k.as_str(), t)).collect();
        let mut copies = Vec::new();
        for (i, slot) in self.slots().enumerate() {
            for (part, own) in PARTS.iter().zip(slot.parts()) {
                let name = format!("{i}.{part}");
                let Some(new) = given.remove(name.as_str()) else {
                    let text = format!("the optimiser state has no entry {name:?}");
                    return Err(Error::Invalid(text));
                };
                if (new.size(), new.kind()) != (own.size(), own.kind()) {
                    return Err(Error::Invalid(format!(
                        "entry {name:?} of the optimiser state is {:?} of shape {:?}, but this \
                         optimiser needs {:?} of shape {:?}",
                        new.kind(),
                        new.size(),
                        own.kind(),
                        own.size()
                    )));
                }
                copies.push((own.shallow_clone(), new));
            }
        }
        if let Some(name) = given.keys().min() {
            let text = format!("entry {name:?} of the optimiser state belongs to no parameter");
            return Err(Error::Invalid(text));
        }
        no_grad(|| {
            copies
                .into_iter()
                .try_for_each(|(mut own, new)| own.f_copy_(new))
        })?;
        Ok(())
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.groups.iter().flat_map(|g| &g.params)
    }
}

impl Group {
    /// The parameters, in the order given.
    pub fn params(&self) -> impl ExactSizeIterator<Item = &Tensor> {
        self.params.iter().map(|s| &s.param)
    }
}

impl Slot {
    fn parts(&self) -> [&Tensor; 3] {
        [&self.exp_avg, &self.exp_avg_sq, &self.step]
    }
}

/// Makes the gradients of `params` undefined, as they are in a fresh process: zeros in their place would
/// turn a gradient of -0 into +0.
///
/// # Errors
/// [`Torch`](Error::Torch).
pub fn drop_grads(params: &[Tensor]) -> Result<()> {
    let mut list = ptrs(params);
    // SAFETY: the list is valid during the call.
    check(unsafe { tchd_drop_grads(list.as_mut_ptr(), list.len()) })
}

/// The gradients of those `params` that have one.
pub fn grads(params: &[Tensor]) -> Vec<Tensor> {
    params
        .iter()
        .map(Tensor::grad)
        .filter(Tensor::defined)
        .collect()
}

/// The 2-norm of all `tensors` together, as a scalar tensor; 0 for none.
///
/// # Errors
/// [`Torch`](Error::Torch).
pub fn norm(tensors: &[Tensor]) -> Result<Tensor> {
    let mut list = ptrs(tensors);
    // SAFETY: the list is valid during the call.
    one_tensor(|out| unsafe { tchd_norm(list.as_mut_ptr(), list.len(), out) })
}

/// Scales the gradients of `params` in place so that their joint 2-norm is at most `max_norm`, and gives
/// the norm they had, as `torch.nn.utils.clip_grad_norm_` does.
///
/// # Errors
/// [`Torch`](Error::Torch).
pub fn clip_grad_norm(params: &[Tensor], max_norm: f64) -> Result<Tensor> {
    let grads = grads(params);
    let total = norm(&grads)?;
    let factor = (max_norm / (&total + 1e-6)).f_clamp_max(1.0)?;
    let mut list = ptrs(&grads);
    // SAFETY: the list and the factor are valid during the call.
    check(unsafe { tchd_scale(list.as_mut_ptr(), list.len(), ptr(&factor)) })?;
    Ok(total)
}
