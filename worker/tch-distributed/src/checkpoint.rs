//! Activation checkpointing: memory for time (Chen et al. 2016).

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

use crate::error::{Error, Result, check};
use crate::tensor::{Ptr, ptrs};

type Run = extern "C" fn(*mut c_void, bool, *mut Ptr, usize, *mut c_void, *mut c_void) -> bool;

unsafe extern "C" {
    fn tchd_checkpoint(
        run: Run,
        drop: extern "C" fn(*mut c_void),
        closure: *mut c_void,
        preserve_rng: bool,
        inputs: *mut Ptr,
        n: usize,
        user: *mut c_void,
        sink: extern "C" fn(*mut c_void, Ptr),
    ) -> c_int;
    fn tchd_push_tensor(list: *mut c_void, t: Ptr);
    fn tchd_set_message(message: *mut c_void, text: *const c_char, n: usize);
}

thread_local! {
    static RECOMPUTING: Cell<bool> = const { Cell::new(false) };
    static UNREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the code that asks is being run again for the backward pass, by [`checkpoint`] or
/// [`try_checkpoint`]. What must happen once per forward pass, such as the update of running statistics,
/// asks this.
pub fn is_recomputing() -> bool {
    RECOMPUTING.get()
}

/// Whether the segment that the code which asks is directly part of is being run again: the values of its
/// outputs are known then, and nobody reads these; only their gradients are asked. A segment in a segment
/// that is being run again has its outputs read the first time, as what follows it takes them.
pub fn output_is_unread() -> bool {
    UNREAD.get()
}

type Closure = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>>;

/// Runs `f` on `inputs` without keeping what its backward pass needs; that is computed again, by running
/// `f` again, when gradients arrive.
///
/// - `f` must compute the same both times. With `preserve_rng` the default generators (of the CPU and of
///   the inputs' device) are put back for the second run, so that dropout repeats itself; autocast is put
///   back always.
/// - `f` may capture parameters and other leaves; they get their gradients once per backward pass, as if
///   nothing were checkpointed. A captured tensor that was itself computed from something that requires
///   gradients is an error: pass it as an input.
/// - Under [`autocast`](crate::autocast()) a segment keeps no casts of parameters. The gradients of one that
///   is used several times are added in f32 then, where without a segment they are added in half precision;
///   all else is the same to the bit.
/// - Segments may be nested. A second derivative is not available.
/// - Under `no_grad` this is `f(inputs)`.
///
/// With CUDA `f` may be run again, and dropped, on a thread of the autograd engine while the thread that
/// called backward waits; call backward on the thread that made the segments.
///
/// # Errors
/// [`Panic`](Error::Panic) where `f` panics, here or from the backward call;
/// [`Torch`](Error::Torch) where a captured tensor is not a leaf, or `f` gives another number of tensors
/// when run again.
pub fn checkpoint(
    inputs: &[Tensor],
    preserve_rng: bool,
    f: impl Fn(&[Tensor]) -> Vec<Tensor> + 'static,
) -> Result<Vec<Tensor>> {
    try_checkpoint(inputs, preserve_rng, move |inputs| Ok(f(inputs)))
}

/// As [`checkpoint`], for a closure that can fail; its error comes back from here, or from the backward
/// call as an error of the same kind.
///
/// # Errors
/// As [`checkpoint`], and those of `f`.
pub fn try_checkpoint(
    inputs: &[Tensor],
    preserve_rng: bool,
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + 'static,
) -> Result<Vec<Tensor>> {
    let closure: Closure = Box::new(f);
    let closure = Box::into_raw(Box::new(closure)).cast();
    let mut list = ptrs(inputs);
    let mut outputs = Vec::<Tensor>::new();
    let user = (&raw mut outputs).cast();
    // SAFETY: the shim takes over `closure` and frees it by `drop_closure`; the rest is valid during the
    // call. `run` and `sink` do not unwind.
    check(unsafe {
        let (inputs, n) = (list.as_mut_ptr(), list.len());
        tchd_checkpoint(
            run,
            drop_closure,
            closure,
            preserve_rng,
            inputs,
            n,
            user,
            sink,
        )
    })?;
    Ok(outputs)
}

extern "C" fn sink(user: *mut c_void, output: Ptr) {
    // SAFETY: `user` is the vector of `try_checkpoint`, and the shim gives the tensor away.
    unsafe { (*user.cast::<Vec<Tensor>>()).push(Tensor::from_ptr(output)) }
}

extern "C" fn drop_closure(closure: *mut c_void) {
    // SAFETY: made by `try_checkpoint` and dropped once.
    let closure = unsafe { Box::from_raw(closure.cast::<Closure>()) };
    // A panic in a drop ends here: C++ called us.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(closure)));
}

extern "C" fn run(
    closure: *mut c_void,
    recompute: bool,
    inputs: *mut Ptr,
    n: usize,
    outputs: *mut c_void,
    message: *mut c_void,
) -> bool {
    let before = RECOMPUTING.get();
    // A first run inside a second one is part of the second.
    RECOMPUTING.set(before || recompute);
    let unread_before = UNREAD.replace(recompute);
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the closure lives until `drop_closure`; the shim passes `n` live tensors, of which the
        // clones are counted references.
        let (f, inputs) = unsafe {
            let inputs = std::slice::from_raw_parts(inputs, n);
            (
                &*closure.cast::<Closure>(),
                inputs.iter().map(|&t| Tensor::clone_from_ptr(t)),
            )
        };
        f(&inputs.collect::<Vec<_>>())
    }));
    RECOMPUTING.set(before);
    UNREAD.set(unread_before);
    let error = match result {
        Ok(Ok(tensors)) => {
            for mut t in tensors {
                // SAFETY: the shim copies the reference that `t` holds.
                unsafe { tchd_push_tensor(outputs, t.as_mut_ptr()) }
            }
            return true;
        }
        Ok(Err(error)) => error,
        Err(payload) => Error::Panic(panic_text(payload.as_ref())),
    };
    let text = error.to_string();
    // SAFETY: the shim copies the text.
    unsafe { tchd_set_message(message, text.as_ptr().cast(), text.len()) }
    false
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}
