//! Our own parameter registry: ordered names, parameters, buffers and aliases.
//!
//! The order is that of torch's `Module.state_dict()` of the reference model: depth first, the
//! tensors of a module (parameters, then buffers) before those of its children. A tied tensor
//! appears under its first name; every later name is an alias.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};
use tch::{Kind, TchError, Tensor};

/// What a tensor is to the optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trained by the optimiser.
    Parameter,
    /// State that is saved but not trained, such as running statistics.
    Buffer,
}

/// One distinct tensor under its first name.
#[derive(Debug)]
pub struct Entry {
    /// Full dotted name, as in the reference's `state_dict`.
    pub name: String,
    /// Parameter or buffer.
    pub role: Role,
    /// The tensor itself; the layers hold shallow clones of it.
    pub tensor: Tensor,
}

impl Entry {
    /// Whether the optimiser decays it: at least two dimensions, and none of `bias`, `ln`, `bn` in
    /// its name (the reference's rule, which decays `cls_token` and embeddings too).
    #[must_use]
    pub fn decays(&self) -> bool {
        self.tensor.dim() >= 2
            && !["bias", "ln", "bn"]
                .iter()
                .any(|part| self.name.contains(part))
    }
}

/// Ordered tensors of a model.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Vec<Entry>,
    /// Every name in `state_dict` order, with the index of its entry.
    names: Vec<(String, usize)>,
    by_name: BTreeMap<String, usize>,
}

/// Named tensors that do not fit a registry. All misfits are listed at once.
#[derive(Debug, Default, thiserror::Error)]
pub struct LoadError {
    /// Names the model has and the source lacks.
    pub missing: Vec<String>,
    /// Names the source has and the model lacks.
    pub unexpected: Vec<String>,
    /// `(name, shape of the model, shape of the source)`.
    pub mismatched: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// Two names of one tied tensor with different values.
    pub untied: Vec<(String, String)>,
}

impl LoadError {
    fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.mismatched.is_empty()
            && self.untied.is_empty()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let mut parts = Vec::new();
        let listed = |names: &[String]| {
            let more = names.len().saturating_sub(SHOWN);
            let shown = names[..names.len() - more].join(", ");
            if more > 0 {
                format!("{shown} and {more} more")
            } else {
                shown
            }
        };
        if !self.missing.is_empty() {
            parts.push(format!("missing: {}", listed(&self.missing)));
        }
        if !self.unexpected.is_empty() {
            parts.push(format!("unexpected: {}", listed(&self.unexpected)));
        }
        if !self.mismatched.is_empty() {
            let all: Vec<String> = self
                .mismatched
                .iter()
                .map(|(name, ours, theirs)| format!("{name} is {ours:?} here, {theirs:?} there"))
                .collect();
            parts.push(format!("of another shape: {}", listed(&all)));
        }
        if !self.untied.is_empty() {
            let all: Vec<String> = self
                .untied
                .iter()
                .map(|(later, first)| format!("{later} differs from {first}"))
                .collect();
            parts.push(format!("tied here, not there: {}", listed(&all)));
        }
        write!(f, "the tensors do not fit this model; {}", parts.join("; "))
    }
}

impl Registry {
    /// Adds a tensor under a new name, and returns a shallow clone for the layer.
    pub(super) fn push(&mut self, name: String, role: Role, tensor: Tensor) -> Tensor {
        debug_assert!(
            !self.by_name.contains_key(&name),
            "{name} is registered twice"
        );
        let clone = tensor.shallow_clone();
        let index = self.entries.len();
        self.entries.push(Entry {
            name: name.clone(),
            role,
            tensor,
        });
        self.by_name.insert(name.clone(), index);
        self.names.push((name, index));
        clone
    }

    /// Gives every tensor under `first.` a second name under `later.`, at this place in the order.
    pub(super) fn alias(&mut self, later: &str, first: &str) {
        let tied: Vec<(String, usize)> = self
            .names
            .iter()
            .filter_map(|(name, index)| {
                let rest = name.strip_prefix(first)?.strip_prefix('.')?;
                Some((format!("{later}.{rest}"), *index))
            })
            .collect();
        for (name, index) in tied {
            self.by_name.insert(name.clone(), index);
            self.names.push((name, index));
        }
    }

    /// Distinct tensors in order, each under its first name.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Parameters in the order of torch's `named_parameters`.
    pub fn parameters(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.role == Role::Parameter)
    }

    /// Parameters that receive a gradient in training, in the same order.
    pub fn trainable(&self) -> impl Iterator<Item = &Entry> {
        self.parameters()
            .filter(|entry| entry.tensor.requires_grad())
    }

    /// Buffers in order.
    pub fn buffers(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.role == Role::Buffer)
    }

    /// `(later name, first name)` of every tied tensor.
    #[must_use]
    pub fn aliases(&self) -> Vec<(&str, &str)> {
        self.names
            .iter()
            .map(|(name, index)| (name.as_str(), self.entries[*index].name.as_str()))
            .filter(|(name, first)| name != first)
            .collect()
    }

    /// Every name, aliases too, in the reference's order.
    pub fn state_dict(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names
            .iter()
            .map(|(name, index)| (name.as_str(), &self.entries[*index].tensor))
    }

    /// The tensor under a name or an alias.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name
            .get(name)
            .map(|index| &self.entries[*index].tensor)
    }

    /// Number of values of all parameters, a tied one counted once.
    #[must_use]
    pub fn total_params(&self) -> usize {
        self.parameters().map(|entry| entry.tensor.numel()).sum()
    }

    /// Trainable parameters `(decayed, not decayed)`, each in order.
    #[must_use]
    pub fn decay_split(&self) -> (Vec<&Entry>, Vec<&Entry>) {
        self.trainable().partition(|entry| entry.decays())
    }

    /// Copies named tensors into the model. A tied tensor may come under any of its names.
    ///
    /// # Errors
    /// [`LoadError`] with every missing and unexpected name and every shape that differs; nothing
    /// is copied then.
    pub fn load<'a>(
        &self,
        source: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    ) -> Result<(), super::Error> {
        let mut error = LoadError::default();
        let mut chosen: BTreeMap<usize, (&str, &Tensor)> = BTreeMap::new();
        for (name, tensor) in source {
            let Some(&index) = self.by_name.get(name) else {
                error.unexpected.push(name.to_owned());
                continue;
            };
            let ours = self.entries[index].tensor.size();
            if ours != tensor.size() {
                error
                    .mismatched
                    .push((name.to_owned(), ours, tensor.size()));
                continue;
            }
            match chosen.get(&index) {
                Some((first, tied)) if !same_values(tied, tensor)? => {
                    error.untied.push((name.to_owned(), (*first).to_owned()));
                }
                Some(_) => {}
                None => {
                    chosen.insert(index, (name, tensor));
                }
            }
        }
        let misfits: BTreeSet<&str> = error
            .mismatched
            .iter()
            .map(|(name, _, _)| name.as_str())
            .collect();
        error.missing = self
            .entries
            .iter()
            .enumerate()
            .filter(|(index, entry)| {
                !chosen.contains_key(index) && !misfits.contains(entry.name.as_str())
            })
            .map(|(_, entry)| entry.name.clone())
            .collect();
        if !error.is_empty() {
            return Err(error.into());
        }
        let _guard = tch::no_grad_guard();
        for (index, (_, tensor)) in chosen {
            self.entries[index].tensor.shallow_clone().f_copy_(tensor)?;
        }
        Ok(())
    }

    /// SHA-256 over the name, kind, shape and value of every distinct tensor, in hexadecimal.
    ///
    /// # Errors
    /// If a tensor cannot be brought to the CPU.
    pub fn hash(&self) -> Result<String, TchError> {
        let mut hasher = Sha256::new();
        let mut bytes = Vec::new();
        for Entry { name, tensor, .. } in &self.entries {
            hasher.update(name.as_bytes());
            hasher.update(format!(" {:?} {:?}\n", tensor.f_kind()?, tensor.size()).as_bytes());
            let here = tensor
                .f_detach()?
                .f_to_device(tch::Device::Cpu)?
                .f_contiguous()?;
            let kind = here.f_kind()?;
            bytes.resize(here.numel() * kind.elt_size_in_bytes(), 0);
            here.f_copy_data_u8(&mut bytes, here.numel())?;
            hasher.update(&bytes);
        }
        Ok(hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    /// Sets every gradient to zero, in place: a gradient may be a view of a reducer's bucket.
    ///
    /// # Errors
    /// If torch refuses.
    pub fn zero_grad(&self) -> Result<(), TchError> {
        for entry in self.trainable() {
            let mut grad = entry.tensor.f_grad()?;
            if grad.defined() {
                let _ = grad.f_zero_()?;
            }
        }
        Ok(())
    }

    /// Turns off the gradient of every parameter under a prefix that this recipe never reaches.
    pub(super) fn freeze(&mut self, prefix: &str) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.name.starts_with(prefix))
        {
            if entry.role == Role::Parameter {
                let _ = entry.tensor.set_requires_grad(false);
            }
        }
    }
}

/// Whether two tensors of one shape hold the same values.
fn same_values(a: &Tensor, b: &Tensor) -> Result<bool, TchError> {
    let a = a.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?;
    let b = b.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?;
    a.f_equal(&b)
}
