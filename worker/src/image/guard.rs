//! Decoders are other people's code, which files of strangers can drive into a panic: that is a broken
//! file, and neither a defect of this program nor its end.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::DecodeError;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within a decoder, whose panics are of no interest to people.
pub(crate) fn is_guarded() -> bool {
    GUARDED.get()
}

/// Says that a thread is within a decoder, as long as it lives.
struct Within {
    before: bool,
}

impl Drop for Within {
    fn drop(&mut self) {
        GUARDED.set(self.before);
    }
}

/// Decodes, and makes an error of a panic.
pub(super) fn guarded<T>(
    format: &'static str,
    decode: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _within = Within {
            before: GUARDED.replace(true),
        };
        decode()
    }));
    outcome.unwrap_or_else(|_| {
        Err(DecodeError::Broken {
            format,
            cause: "the decoder gave up".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_broken_file() {
        let broken = guarded::<()>("WebP", || {
            assert!(!is_guarded(), "a panic that nobody needs to read");
            Ok(())
        });
        assert_eq!(
            broken.map_err(|error| error.to_string()),
            Err("the WebP data is broken: the decoder gave up".to_owned())
        );
        assert!(!is_guarded());
        assert_eq!(guarded("WebP", || Ok(is_guarded())), Ok(true));
    }
}
