//! How a forward pass runs.

/// Mode of one forward pass through a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// Batch statistics and dropout, as in torch's train mode.
    pub(super) train: bool,
    /// Blocks recompute their activations in backward instead of keeping them.
    pub(super) checkpoint: bool,
    /// In training: the same samples went through before, and running statistics hold them already.
    pub(super) again: bool,
}

impl Pass {
    /// A pass in evaluation mode.
    pub(super) const EVAL: Self = Self {
        train: false,
        checkpoint: false,
        again: false,
    };

    /// A pass in training mode.
    pub(super) const fn train(checkpoint: bool) -> Self {
        Self {
            train: true,
            checkpoint,
            again: false,
        }
    }
}
