//! Data-parallel gradients over c10d's reducer.

use std::ffi::{c_int, c_void};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, check};
use crate::process_group::ProcessGroup;
use crate::tensor::{Ptr, ptr, ptrs};

unsafe extern "C" {
    fn tchd_reducer_new(
        group: *mut c_void,
        params: *mut Ptr,
        n: usize,
        bucket_of: *const usize,
        bucket_len: *const usize,
        n_buckets: usize,
        bucket_bytes: i64,
        find_unused: bool,
        verify: bool,
        out: *mut *mut c_void,
    ) -> c_int;
    fn tchd_reducer_free(reducer: *mut c_void);
    fn tchd_reducer_backward(
        reducer: *mut c_void,
        loss: Ptr,
        find_unused: bool,
        reduce: bool,
    ) -> c_int;
    fn tchd_reducer_buckets(
        reducer: *mut c_void,
        user: *mut c_void,
        sink: extern "C" fn(*mut c_void, i64),
    ) -> c_int;
}

/// How gradients travel.
#[derive(Debug, Clone)]
pub struct DdpOptions {
    /// A bucket is closed once it holds this many bytes. One bucket for everything leaves nothing to
    /// overlap; very small ones pay latency for each.
    pub bucket_bytes: usize,
    /// Whether some parameters may get no gradient in a step. Costs a walk over the graph and a small
    /// all-reduce per step; without it such a step is an error that names the parameters.
    pub find_unused: bool,
}

impl Default for DdpOptions {
    fn default() -> Self {
        DdpOptions {
            bucket_bytes: 25 << 20,
            find_unused: false,
        }
    }
}

/// Averages gradients over ranks during the backward pass.
///
/// The order in which gradients are summed is a function of the parameters and options alone: buckets
/// are filled from the last parameter to the first, and stay so from the first step on. (Python's
/// `DistributedDataParallel` rebuilds its buckets after the first step, so that the first step after a
/// start sums in another order than the same step of an older process.) A run that is stopped and
/// resumed in new processes therefore goes on bit by bit.
///
/// No `static_graph` mode is needed: a parameter may be used any number of times, also in several
/// [`checkpoint`](crate::checkpoint()) segments, since the engine delivers its gradient once per pass.
///
/// ```no_run
/// # use tch_distributed::*; use tch::Tensor;
/// # fn f(group: &ProcessGroup, params: Vec<Tensor>, loss: impl Fn(usize) -> Tensor) -> Result<()> {
/// let ddp = Ddp::new(group, &params, &DdpOptions::default())?;
/// optim::drop_grads(&params)?;
/// ddp.backward_no_sync(&(loss(0) / 2.0))?; // accumulates on this rank
/// ddp.backward(&(loss(1) / 2.0))?; // gradients are now equal on all ranks
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Ddp {
    reducer: *mut c_void,
    find_unused: bool,
    layout: Vec<Vec<usize>>,
    // The reducer's parameters and group must outlive it.
    _params: Vec<Tensor>,
    _group: ProcessGroup,
}

// SAFETY: the reducer guards itself with a mutex; tensors are Send.
unsafe impl Send for Ddp {}

impl Ddp {
    /// Wraps `params`: leaves that require gradients, the same on all ranks in number, order and shape.
    /// Their values, on all ranks, become those of rank 0.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a tensor that takes no gradient; [`Torch`](Error::Torch) where
    /// ranks disagree about the parameters; [`Timeout`](Error::Timeout),
    /// [`Distributed`](Error::Distributed).
    pub fn new(group: &ProcessGroup, params: &[Tensor], options: &DdpOptions) -> Result<Ddp> {
        if params.is_empty() {
            return Err(Error::Invalid(
                "data-parallel training needs at least one parameter".into(),
            ));
        }
        if let Some(i) = params
            .iter()
            .position(|p| !p.requires_grad() || !p.is_leaf())
        {
            let text = format!("parameter {i} is not a leaf that requires a gradient");
            return Err(Error::Invalid(text));
        }
        let layout = bucket_layout(&described(params), options.bucket_bytes);
        let flat: Vec<usize> = layout.iter().flatten().copied().collect();
        let lengths: Vec<usize> = layout.iter().map(Vec::len).collect();
        let mut list = ptrs(params);
        let mut reducer = std::ptr::null_mut();
        let bucket_bytes = i64::try_from(options.bucket_bytes).unwrap_or(i64::MAX);
        // SAFETY: the group is live, and all lists are valid during the call with the given lengths.
        check(unsafe {
            tchd_reducer_new(
                group.raw(),
                list.as_mut_ptr(),
                list.len(),
                flat.as_ptr(),
                lengths.as_ptr(),
                lengths.len(),
                bucket_bytes,
                options.find_unused,
                group.world_size() > 1,
                &mut reducer,
            )
        })?;
        let ddp = Ddp {
            reducer,
            find_unused: options.find_unused,
            layout,
            _params: params.iter().map(Tensor::shallow_clone).collect(),
            _group: group.clone(),
        };
        group.broadcast_all(params, 0)?;
        Ok(ddp)
    }

    /// Runs backward from `loss` (a scalar). On return `grad` of each parameter, with what
    /// [`Ddp::backward_no_sync`] has added to it before, is the mean over ranks. Reduction of a bucket
    /// starts as soon as its last gradient is there, beside the rest of the backward pass.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout) or [`Distributed`](Error::Distributed) where a peer stalls or dies,
    /// [`Panic`](Error::Panic) from a checkpointed closure, [`Torch`](Error::Torch) where a parameter got
    /// no gradient. After any of them gradients are undefined and the group is not to be used again.
    pub fn backward(&self, loss: &Tensor) -> Result<()> {
        self.run(loss, true)
    }

    /// Runs backward from `loss` without talking to anyone; gradients add up in `grad` on this rank.
    ///
    /// # Errors
    /// As [`Ddp::backward`].
    pub fn backward_no_sync(&self, loss: &Tensor) -> Result<()> {
        self.run(loss, false)
    }

    /// The bucket layout: indices of parameters, bucket by bucket in the order of reduction.
    pub fn buckets(&self) -> &[Vec<usize>] {
        &self.layout
    }

    /// Bytes of each bucket as the reducer holds them, in the order of reduction.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch).
    pub fn bucket_bytes(&self) -> Result<Vec<i64>> {
        extern "C" fn sink(user: *mut c_void, bytes: i64) {
            // SAFETY: `user` is the vector below.
            unsafe { (*user.cast::<Vec<i64>>()).push(bytes) }
        }
        let mut sizes = Vec::<i64>::new();
        // SAFETY: the reducer is live and `sizes` outlives the call.
        check(unsafe { tchd_reducer_buckets(self.reducer, (&raw mut sizes).cast(), sink) })?;
        Ok(sizes)
    }

    fn run(&self, loss: &Tensor, reduce: bool) -> Result<()> {
        // SAFETY: the reducer is live and `loss` is valid during the call.
        check(unsafe { tchd_reducer_backward(self.reducer, ptr(loss), self.find_unused, reduce) })
    }
}

impl Drop for Ddp {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once; parameters and group are dropped after this.
        unsafe { tchd_reducer_free(self.reducer) }
    }
}

/// What of a parameter decides its bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Described {
    bytes: usize,
    kind: Kind,
    device: Device,
}

fn described(params: &[Tensor]) -> Vec<Described> {
    params
        .iter()
        .map(|p| {
            let kind = p.kind();
            Described {
                bytes: p.numel() * kind.elt_size_in_bytes(),
                kind,
                device: p.device(),
            }
        })
        .collect()
}

/// Fills buckets from the last parameter to the first, roughly the order in which gradients come. A
/// bucket holds one type on one device and is closed once it has `cap` bytes. Buckets are ordered by
/// their last-coming parameter, so that none waits for one that is ready later.
fn bucket_layout(params: &[Described], cap: usize) -> Vec<Vec<usize>> {
    let mut closed: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<(Kind, Device, usize, Vec<usize>)> = Vec::new();
    for (i, p) in params.iter().enumerate().rev() {
        let at = match open
            .iter()
            .position(|(k, d, ..)| (*k, *d) == (p.kind, p.device))
        {
            Some(at) => at,
            None => {
                open.push((p.kind, p.device, 0, Vec::new()));
                open.len() - 1
            }
        };
        let (_, _, bytes, indices) = &mut open[at];
        *bytes += p.bytes;
        indices.push(i);
        if *bytes >= cap {
            *bytes = 0;
            closed.push(std::mem::take(indices));
        }
    }
    closed.extend(
        open.into_iter()
            .map(|(.., indices)| indices)
            .filter(|b| !b.is_empty()),
    );
    closed.sort_by_key(|bucket| std::cmp::Reverse(bucket.last().copied()));
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(sizes: &[usize]) -> Vec<Described> {
        let one = |&n: &usize| Described {
            bytes: 4 * n,
            kind: Kind::Float,
            device: Device::Cpu,
        };
        sizes.iter().map(one).collect()
    }

    #[test]
    fn buckets_fill_from_the_last_parameter() {
        assert_eq!(
            bucket_layout(&floats(&[1, 1, 1, 1, 1]), 8),
            [vec![4, 3], vec![2, 1], vec![0]]
        );
        assert_eq!(
            bucket_layout(&floats(&[1, 100, 1]), 8),
            [vec![2, 1], vec![0]]
        );
        assert_eq!(
            bucket_layout(&floats(&[1, 2, 3]), usize::MAX),
            [vec![2, 1, 0]]
        );
        assert_eq!(bucket_layout(&floats(&[1, 2]), 0), [vec![1], vec![0]]);
    }

    #[test]
    fn types_do_not_mix() {
        let mut params = floats(&[1, 1, 1, 1]);
        params[1].kind = Kind::Double;
        params[3].kind = Kind::Double;
        assert_eq!(bucket_layout(&params, 8), [vec![3, 1], vec![2, 0]]);
    }
}
