//! How a forward pass runs.

/// Mode of one forward pass through a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// Batch statistics and dropout, as in torch's train mode.
    pub(super) train: bool,
    /// In training: the same samples went through before, and running statistics hold them already.
    pub(super) again: bool,
}

impl Pass {
    /// A pass in evaluation mode.
    pub(super) const EVAL: Self = Self {
        train: false,
        again: false,
    };

    /// A pass in training mode.
    pub(super) const TRAIN: Self = Self {
        train: true,
        again: false,
    };
}
