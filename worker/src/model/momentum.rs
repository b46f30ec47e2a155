//! The momentum encoder: a moving average of the model that gives targets (BYOL, arXiv 2006.07733).

use rocket_common::experiment::{Child, Model as Spec};

use super::batch::Batch;
use super::clip::Model;
use super::embeddings::Targets;
use super::features::Features;
use super::options::Options;
use super::registry::Registry;
use super::{Error, Result};

/// A second model of the same section, whose parameters follow the first one's. It runs in training mode,
/// with running statistics of its own, and no gradient flows into it.
#[derive(Debug)]
pub struct MomentumEncoder(Model);

impl MomentumEncoder {
    /// A momentum encoder that starts with the values of `model`, buffers too, which is of the same
    /// section and options.
    ///
    /// # Errors
    /// If the child takes no targets, the sections differ, or torch fails.
    pub fn new(model: &Model, spec: &Spec, options: &Options) -> Result<Self> {
        if !spec.child.is_some_and(Child::takes_targets) {
            return Err(Error::Dimensions(
                "model.momentum gives targets to the children SIAMLIP and SWALIPV1; no other has use for \
                 them"
                    .to_owned(),
            ));
        }
        let options = Options {
            checkpoint_grad: false,
            ..options.clone()
        };
        let mut follower = Model::build(spec, &options, None)?;
        let state = model.registry().entries();
        follower.registry().load(
            state
                .iter()
                .map(|entry| (entry.name.as_str(), &entry.tensor)),
        )?;
        follower.freeze();
        Ok(Self(follower))
    }

    /// Takes over every value of the model, buffers too, as at the beginning.
    ///
    /// # Errors
    /// If torch fails.
    pub fn follow(&self, model: &Model) -> Result<()> {
        let state = model.registry().entries();
        self.registry().load(
            state
                .iter()
                .map(|entry| (entry.name.as_str(), &entry.tensor)),
        )
    }

    /// Its tensors by name, which are the model's names.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        self.0.registry()
    }

    /// Targets for a batch.
    ///
    /// # Errors
    /// As [`Model::encode`].
    pub fn encode(&self, batch: &Batch) -> Result<Targets> {
        self.project(&self.features(batch)?)
    }

    /// Features of a batch, without gradients. Running statistics of the towers move.
    ///
    /// # Errors
    /// As [`Model::features`].
    pub fn features(&self, batch: &Batch) -> Result<Features> {
        let _guard = tch::no_grad_guard();
        self.0.features(batch, true)
    }

    /// Targets out of features, without gradients. The heads that no target comes from are not run, so
    /// their running statistics stay at their first values.
    ///
    /// # Errors
    /// As [`Model::project`].
    pub fn project(&self, features: &Features) -> Result<Targets> {
        let _guard = tch::no_grad_guard();
        self.0.targets(features)?.ok_or(Error::Unresolved("child"))
    }

    /// Moves every parameter towards the model's: `tau` of its old value and the rest of the new one.
    /// Buffers stay its own. Due after the optimiser's step, before the logit scales are clamped.
    ///
    /// # Errors
    /// If torch fails.
    pub fn update(&self, model: &Model, tau: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let pairs = model
            .registry()
            .parameters()
            .zip(self.0.registry().parameters());
        for (new, old) in pairs {
            let step = new.tensor.f_detach()?.f_mul_scalar(1.0 - tau)?;
            let _ = old
                .tensor
                .shallow_clone()
                .f_mul_scalar_(tau)?
                .f_add_(&step)?;
        }
        Ok(())
    }
}
