//! What can go wrong, by kind.

use std::ffi::{CStr, c_char, c_int};

use tch::TchError;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, by what a program can do about it. The text is libtorch's own unless it is about arguments.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process did not answer in time. The group it happened in is dead.
    #[error("timed out: {0}")]
    Timeout(String),
    /// A connection broke or could not be made. The group it happened in is dead.
    #[error("distributed: {0}")]
    Distributed(String),
    /// Memory ran out, on the host or on an accelerator.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// A closure given to this crate panicked.
    #[error("{PANIC}{0}")]
    Panic(String),
    /// An argument that cannot be used; says which and why.
    #[error("{0}")]
    Invalid(String),
    /// A batch that cannot be normalised, since it has one value per channel.
    #[error("{0}")]
    TooFewValues(String),
    /// Any other error of libtorch.
    #[error("torch: {0}")]
    Torch(String),
}

const PANIC: &str = "a checkpointed closure panicked: ";

impl Error {
    /// Whether the process group in use can no longer be used by anyone.
    pub fn is_fatal_for_group(&self) -> bool {
        matches!(self, Error::Timeout(_) | Error::Distributed(_))
    }

    /// Sorts an error text of libtorch. Gloo and the store throw plain `std::runtime_error`s, and tch
    /// keeps the text alone, so that the text is all there is to go by.
    pub fn from_message(message: impl Into<String>) -> Error {
        let message = message.into();
        // An error of this crate on its way back through C++.
        for (prefix, make) in PREFIXES {
            if let Some(at) = message.find(prefix) {
                return make(message[at + prefix.len()..].to_owned());
            }
        }
        let text = message.to_ascii_lowercase();
        let has = |needles: &[&str]| needles.iter().any(|n| text.contains(n));
        if has(&[
            "not enough memory",
            "out of memory",
            "can't allocate memory",
            "bad_alloc",
        ]) {
            Error::OutOfMemory(message)
        } else if has(&[
            "connection closed",
            "connection reset",
            "connection refused",
            "broken pipe",
        ]) {
            Error::Distributed(message)
        } else if has(&["timed out", "timeout", "time out"]) {
            Error::Timeout(message)
        } else if has(&["connection", "gloo/", "socket", "nccl"]) {
            Error::Distributed(message)
        } else {
            Error::Torch(message)
        }
    }
}

type Make = fn(String) -> Error;
const PREFIXES: [(&str, Make); 4] = [
    (PANIC, Error::Panic),
    ("timed out: ", Error::Timeout),
    ("distributed: ", Error::Distributed),
    ("out of memory: ", Error::OutOfMemory),
];

/// Errors of tch's own calls, such as `Tensor::f_backward` through a collective.
impl From<TchError> for Error {
    fn from(error: TchError) -> Self {
        match error {
            TchError::Torch(message) => Error::from_message(first_part(&message)),
            other => Error::Torch(other.to_string()),
        }
    }
}

/// The text without the C++ backtrace that tch appends.
fn first_part(message: &str) -> &str {
    message
        .split("\nException raised from")
        .next()
        .unwrap_or(message)
}

unsafe extern "C" {
    fn tchd_last_error() -> *const c_char;
}

/// Turns a status of the shim into a result.
pub(crate) fn check(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim returns a NUL-terminated string that lives until this thread's next call into it.
    let message = unsafe { CStr::from_ptr(tchd_last_error()) }
        .to_string_lossy()
        .into_owned();
    Err(match (status, Error::from_message(message)) {
        (2, Error::Torch(message)) => Error::Distributed(message),
        (3, Error::Torch(message)) => Error::OutOfMemory(message),
        (_, error) => error,
    })
}

/// A `CString`, or an error that names what held a NUL byte.
pub(crate) fn c_string(what: &str, text: &str) -> Result<std::ffi::CString> {
    std::ffi::CString::new(text)
        .map_err(|_| Error::Invalid(format!("the {what} {text:?} contains a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_the_texts_that_libtorch_throws() {
        let kind = |text: &str| match Error::from_message(text) {
            Error::Timeout(_) => "timeout",
            Error::Distributed(_) => "distributed",
            Error::OutOfMemory(_) => "memory",
            Error::Panic(_) => "panic",
            Error::Invalid(_) => "invalid",
            Error::TooFewValues(_) => "values",
            Error::Torch(_) => "torch",
        };
        let table = [
            (
                "[unbound_buffer.cc:78] Timed out waiting 3000ms for recv operation to complete",
                "timeout",
            ),
            (
                "wait timeout after 3000ms, keys: /default_pg/0//cpu//0/0",
                "timeout",
            ),
            ("Wait timeout", "timeout"),
            (
                "The client socket has timed out after 1000ms while trying to connect to (h, 1)",
                "timeout",
            ),
            (
                "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242",
                "distributed",
            ),
            (
                "Read error [127.0.0.1]:4242: Connection reset by peer, timeout 30s",
                "distributed",
            ),
            (
                "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory",
                "memory",
            ),
            ("CUDA out of memory. Tried to allocate 20 MiB", "memory"),
            ("a checkpointed closure panicked: boom", "panic"),
            (
                "The size of tensor a (3) must match the size of tensor b (4)",
                "torch",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn an_error_keeps_its_kind_through_cpp() {
        let error = Error::from_message(Error::Timeout("slow peer".into()).to_string());
        assert!(matches!(error, Error::Timeout(text) if text == "slow peer"));
    }
}
