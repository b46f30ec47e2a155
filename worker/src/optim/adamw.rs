//! AdamW over a model's registry: two groups as in the reference, state under the parameters' names.

use std::collections::BTreeMap;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Optim;
use tch::Tensor;
use tch_distributed::{AdamW, Hyper};

use crate::model::Registry;

/// AdamW whose state is saved by parameter name, so that a change of the parameters' order cannot
/// hand one parameter's averages to another.
#[derive(Debug)]
pub struct NamedAdamW {
    inner: AdamW,
    names: Vec<String>,
}

impl NamedAdamW {
    /// Decayed and undecayed parameters of a model, the latter with a weight decay of 0.
    ///
    /// # Errors
    /// When torch cannot allocate the state.
    pub fn new(registry: &Registry, optim: &Optim) -> Result<Self> {
        let hyper = |weight_decay| Hyper {
            lr: optim.lr,
            betas: (optim.betas[0], optim.betas[1]),
            eps: optim.eps,
            weight_decay,
        };
        let (decayed, plain) = registry.decay_split();
        let names = decayed
            .iter()
            .chain(&plain)
            .map(|entry| entry.name.clone())
            .collect();
        let tensors = |entries: Vec<&crate::model::Entry>| {
            entries
                .into_iter()
                .map(|entry| entry.tensor.shallow_clone())
                .collect::<Vec<_>>()
        };
        let inner = AdamW::new(vec![
            (tensors(decayed), hyper(optim.wd)),
            (tensors(plain), hyper(0.0)),
        ])?;
        Ok(Self { inner, names })
    }

    /// Forgets the gradients.
    ///
    /// # Errors
    /// When torch fails.
    pub fn zero_grad(&self) -> Result<()> {
        Ok(self.inner.zero_grad()?)
    }

    /// One step at a learning rate.
    ///
    /// # Errors
    /// When torch fails.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        self.inner.set_lr(lr);
        Ok(self.inner.step()?)
    }

    /// Averages and step counts as `<parameter>.exp_avg`, `<parameter>.exp_avg_sq`, `<parameter>.step`.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.inner
            .state()
            .into_iter()
            .map(|(key, tensor)| (self.by_name(&key).unwrap_or(key), tensor))
            .collect()
    }

    /// Puts saved averages and step counts back.
    ///
    /// # Errors
    /// Kind [`ExitKind::Checkpoint`] that lists the names that are missing or too many.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let wanted: Vec<(String, String)> = self
            .inner
            .state()
            .into_iter()
            .map(|(key, _)| (self.by_name(&key).unwrap_or_else(|| key.clone()), key))
            .collect();
        let missing: Vec<&str> = wanted
            .iter()
            .filter(|(name, _)| !state.contains_key(name))
            .map(|(name, _)| name.as_str())
            .collect();
        let too_many: Vec<&str> = state
            .keys()
            .map(String::as_str)
            .filter(|key| !wanted.iter().any(|(name, _)| name == key))
            .collect();
        if !missing.is_empty() || !too_many.is_empty() {
            return Err(Error::new(
                ExitKind::Checkpoint,
                format!(
                    "the optimiser state is of another model: {} tensors where {} are expected, missing [{}], too many [{}]",
                    state.len(),
                    wanted.len(),
                    missing.join(", "),
                    too_many.join(", ")
                ),
            )
            .hint("to begin with the weights and a new optimiser, resume from a file of 'rocket-worker convert CHECKPOINT weights.safetensors'")
            .into());
        }
        let ordered: Vec<(String, Tensor)> = wanted
            .into_iter()
            .map(|(name, key)| (key, state[&name].shallow_clone()))
            .collect();
        Ok(self.inner.load_state(&ordered)?)
    }

    /// `<index>.<part>` as `<parameter>.<part>`.
    fn by_name(&self, key: &str) -> Option<String> {
        let (index, part) = key.split_once('.')?;
        let name = self.names.get(index.parse::<usize>().ok()?)?;
        Some(format!("{name}.{part}"))
    }
}
