//! Process groups and their plain collectives.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use tch::{Kind, Tensor};

use crate::error::{Error, Result, c_string, check};
use crate::store::{Store, millis};
use crate::tensor::{Ptr, one_tensor, ptr, ptrs};

unsafe extern "C" {
    fn tchd_group_gloo(
        store: *mut c_void,
        name: *const c_char,
        rank: c_int,
        world_size: c_int,
        timeout_ms: i64,
        interface: *const c_char,
        address: *const c_char,
        threads: c_int,
        out: *mut *mut c_void,
    ) -> c_int;
    fn tchd_group_free(group: *mut c_void);
    fn tchd_all_reduce(group: *mut c_void, t: Ptr, op: c_int, timeout_ms: i64) -> c_int;
    fn tchd_all_gather(group: *mut c_void, t: Ptr, timeout_ms: i64, out: *mut Ptr) -> c_int;
    fn tchd_broadcast(group: *mut c_void, t: Ptr, root: c_int, timeout_ms: i64) -> c_int;
    fn tchd_broadcast_many(
        group: *mut c_void,
        tensors: *mut Ptr,
        n: usize,
        buffer_bytes: i64,
        root: c_int,
    ) -> c_int;
    fn tchd_barrier(group: *mut c_void, timeout_ms: i64) -> c_int;
}

/// How the values of the ranks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// Their mean; floating-point tensors only.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// What the other ranks of a Gloo group connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// The address that this machine's host name resolves to; the loopback where it does not.
    #[default]
    HostName,
    /// The address of a network interface, such as `lo` or `ib0`.
    Interface(String),
    /// A local address in digits, IPv4 or IPv6, or a name that resolves to one.
    Address(String),
}

/// What a Gloo group needs besides its ranks.
#[derive(Debug, Clone)]
pub struct GlooOptions {
    /// How long a collective waits for the other ranks.
    pub timeout: Duration,
    /// What the other ranks connect to.
    pub endpoint: Endpoint,
    /// Distinguishes groups that share a store. Groups of one name must be made once per store.
    pub name: String,
    /// Threads that run collectives beside the caller's.
    pub threads: usize,
}

impl GlooOptions {
    /// The defaults, with this timeout.
    pub fn new(timeout: Duration) -> GlooOptions {
        GlooOptions {
            timeout,
            endpoint: Endpoint::HostName,
            name: "default".into(),
            threads: 2,
        }
    }

    /// Talks over this network interface.
    pub fn interface(mut self, name: impl Into<String>) -> GlooOptions {
        self.endpoint = Endpoint::Interface(name.into());
        self
    }

    /// Talks over this local address: the interface that has it carries the bytes.
    pub fn address(mut self, address: impl Into<String>) -> GlooOptions {
        self.endpoint = Endpoint::Address(address.into());
        self
    }

    /// Gives the group a name, needed where one store serves several groups.
    pub fn name(mut self, name: impl Into<String>) -> GlooOptions {
        self.name = name.into();
        self
    }
}

struct Handle(*mut c_void);

// SAFETY: c10d's ProcessGroup may be called from any thread; the order of calls is the callers' matter.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { tchd_group_free(self.0) }
    }
}

/// Processes that compute together. Every rank must call the same collectives in the same order.
///
/// After an error a group is dead: drop it and make a new one in new processes, or leave.
/// Clones share the group. Which library carries the bytes is decided at construction and nowhere else.
#[derive(Clone)]
pub struct ProcessGroup {
    handle: Arc<Handle>,
    rank: usize,
    world_size: usize,
    call_timeout: Option<Duration>,
}

impl std::fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessGroup(rank {} of {})", self.rank, self.world_size)
    }
}

impl ProcessGroup {
    /// A group over Gloo, for tensors on the CPU. Returns once all ranks are connected.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout) where not all ranks come in time,
    /// [`Distributed`](Error::Distributed) or [`Torch`](Error::Torch) where this machine has no such
    /// interface or address.
    pub fn gloo(
        store: &Store,
        rank: usize,
        world_size: usize,
        options: &GlooOptions,
    ) -> Result<ProcessGroup> {
        if rank >= world_size {
            let text = format!("rank {rank} is not below the world size {world_size}");
            return Err(Error::Invalid(text));
        }
        let name = c_string("group name", &options.name)?;
        let (interface, address) = match &options.endpoint {
            Endpoint::HostName => ("", ""),
            Endpoint::Interface(name) => (name.as_str(), ""),
            Endpoint::Address(address) => ("", address.as_str()),
        };
        let interface = c_string("network interface", interface)?;
        let address = c_string("address", address)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the store is live and all pointers are valid during the call.
        check(unsafe {
            tchd_group_gloo(
                store.handle(),
                name.as_ptr(),
                rank as c_int,
                world_size as c_int,
                millis(Some(options.timeout)),
                interface.as_ptr(),
                address.as_ptr(),
                options.threads.max(1) as c_int,
                &mut handle,
            )
        })?;
        Ok(ProcessGroup {
            handle: Arc::new(Handle(handle)),
            rank,
            world_size,
            call_timeout: None,
        })
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// The same group, whose calls wait for `timeout` instead of the group's own.
    pub fn within(&self, timeout: Duration) -> ProcessGroup {
        ProcessGroup {
            call_timeout: Some(timeout),
            ..self.clone()
        }
    }

    /// Replaces `t` (any shape, the same on all ranks) by its reduction over ranks. Not seen by autograd.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout), [`Distributed`](Error::Distributed).
    pub fn all_reduce(&self, t: &Tensor, op: ReduceOp) -> Result<()> {
        let code = match op {
            ReduceOp::Sum | ReduceOp::Avg => 0,
            ReduceOp::Min => 3,
            ReduceOp::Max => 4,
        };
        if op == ReduceOp::Avg && !is_float(t) {
            let text = format!(
                "all_reduce by Avg needs a floating-point tensor, not {:?}",
                t.kind()
            );
            return Err(Error::Invalid(text));
        }
        // SAFETY: the group is live and `t` is valid during the call.
        check(unsafe { tchd_all_reduce(self.raw(), ptr(t), code, self.timeout_ms()) })?;
        if op == ReduceOp::Avg {
            // Gloo has no mean of its own.
            let _ = t.detach().f_div_scalar_(self.world_size as f64)?;
        }
        Ok(())
    }

    /// `t` of every rank (`[...]`, the same shape on all) as one tensor `[W, ...]`, in the order of ranks.
    /// Not seen by autograd.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout), [`Distributed`](Error::Distributed).
    pub fn all_gather(&self, t: &Tensor) -> Result<Tensor> {
        // SAFETY: the group is live and `t` is valid during the call.
        one_tensor(|out| unsafe { tchd_all_gather(self.raw(), ptr(t), self.timeout_ms(), out) })
    }

    /// Replaces `t` by that of rank `root`.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout), [`Distributed`](Error::Distributed).
    pub fn broadcast(&self, t: &Tensor, root: usize) -> Result<()> {
        self.check_root(root)?;
        // SAFETY: the group is live and `t` is valid during the call.
        check(unsafe { tchd_broadcast(self.raw(), ptr(t), root as c_int, self.timeout_ms()) })
    }

    /// Replaces all `tensors` by those of rank `root`, packed into few messages.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout), [`Distributed`](Error::Distributed).
    pub fn broadcast_all(&self, tensors: &[Tensor], root: usize) -> Result<()> {
        self.check_root(root)?;
        if tensors.is_empty() {
            return Ok(());
        }
        let mut list = ptrs(tensors);
        // SAFETY: the group is live and the list is valid during the call.
        check(unsafe {
            let root = root as c_int;
            tchd_broadcast_many(self.raw(), list.as_mut_ptr(), list.len(), 250 << 20, root)
        })
    }

    /// Returns once every rank has called it.
    ///
    /// # Errors
    /// [`Timeout`](Error::Timeout), [`Distributed`](Error::Distributed).
    pub fn barrier(&self) -> Result<()> {
        // SAFETY: the group is live.
        check(unsafe { tchd_barrier(self.raw(), self.timeout_ms()) })
    }

    pub(crate) fn raw(&self) -> *mut c_void {
        self.handle.0
    }

    pub(crate) fn timeout_ms(&self) -> i64 {
        millis(self.call_timeout)
    }

    fn check_root(&self, root: usize) -> Result<()> {
        if root < self.world_size {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "root {root} is not below the world size {}",
            self.world_size
        )))
    }
}

fn is_float(t: &Tensor) -> bool {
    matches!(
        t.kind(),
        Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double
    )
}
