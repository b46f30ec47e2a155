//! Outputs of layers by name, for finding the first one that differs from another run's.
//!
//! The model says the name and output of its layers as it computes them; unless somebody on this thread
//! listens, nothing is kept and no name is made.

use std::cell::RefCell;

use tch::Tensor;

/// Which layers are kept, by name, and what they gave.
struct Listener {
    keep: fn(&str) -> bool,
    heard: Vec<(String, Tensor)>,
}

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Runs `f` and gives, beside its result, what the layers whose names `keep` wants gave on this thread, in the
/// order in which they were computed. Names are the module paths of the reference (`visual.layer1.0`, `transformer.resblocks.5`).
/// A layer that is run several times is there several times.
pub fn listen<R>(keep: fn(&str) -> bool, f: impl FnOnce() -> R) -> (R, Vec<(String, Tensor)>) {
    /// Puts back who listened before, also after a panic.
    struct Before(Option<Listener>);
    impl Drop for Before {
        fn drop(&mut self) {
            LISTENER.set(self.0.take());
        }
    }
    let heard = Vec::new();
    let before = Before(LISTENER.replace(Some(Listener { keep, heard })));
    let result = f();
    let heard = LISTENER
        .take()
        .map_or(Vec::new(), |listener| listener.heard);
    drop(before);
    (result, heard)
}

/// Says a layer's output. A copy is kept, as the next layer may work in place.
pub(super) fn layer(name: impl FnOnce() -> String, output: &Tensor) {
    LISTENER.with_borrow_mut(|listener| {
        if let Some(listener) = listener {
            let name = name();
            if (listener.keep)(&name) {
                listener.heard.push((name, output.detach().copy()));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_while_listening_is_kept() {
        let x = Tensor::from_slice(&[1.0]);
        layer(|| unreachable!("nobody listens"), &x);
        let ((), heard) = listen(
            |name| name != "d",
            || {
                layer(|| "a".to_owned(), &x);
                layer(|| "d".to_owned(), &x);
                let ((), inner) = listen(|_| true, || layer(|| "b".to_owned(), &x));
                assert_eq!(inner.len(), 1);
                layer(|| "c".to_owned(), &x);
            },
        );
        let names: Vec<&str> = heard.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        layer(|| unreachable!("nobody listens"), &x);
    }
}
