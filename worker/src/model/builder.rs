//! Registers the tensors of a model under dotted names and gives them their first values.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use super::Result;
use super::registry::{Registry, Role};

/// Held from seeding the generator to the last draw.
static DRAWING: Mutex<()> = Mutex::new(());

/// First values of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Init {
    /// All one value.
    Const(f64),
    /// Normal with mean 0.
    Normal(f64),
    /// Uniform in plus or minus the bound.
    Uniform(f64),
}

/// What all scopes of one model share.
#[derive(Debug)]
struct Shared {
    registry: RefCell<Registry>,
    kind: Kind,
    device: Device,
    /// `None` leaves parameters without first values, for whoever fills them all.
    seed: Option<u64>,
}

/// A place in the tree of names.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    shared: Rc<Shared>,
    prefix: String,
}

impl Scope {
    /// The root of a new registry. Without a seed, parameters have no first values but zero.
    pub(super) fn root(kind: Kind, device: Device, seed: Option<u64>) -> Self {
        let registry = RefCell::new(Registry::default());
        Self {
            shared: Rc::new(Shared {
                registry,
                kind,
                device,
                seed,
            }),
            prefix: String::new(),
        }
    }

    /// The scope of a child module.
    pub(super) fn sub(&self, name: impl std::fmt::Display) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
            prefix: self.full(name),
        }
    }

    /// The dotted name of this module.
    pub(super) fn path(&self) -> String {
        self.prefix.clone()
    }

    fn full(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Registers a parameter. Its values depend on the seed and its own name alone, so that adding
    /// a module does not change the others.
    pub(super) fn param(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let name = self.full(name);
        let mut value = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
        if let Some(seed) = self.shared.seed {
            // The generator is the process's: models that two threads build must not share its draws.
            let drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
            tch::manual_seed(seed_of(seed, &name));
            let _ = match init {
                Init::Const(constant) => value.f_fill_(constant)?,
                Init::Normal(std) => value.f_normal_(0.0, std)?,
                Init::Uniform(bound) => value.f_uniform_(-bound, bound)?,
            };
            drop(drawing);
        }
        let value = value
            .f_to_kind(self.shared.kind)?
            .f_to_device(self.shared.device)?
            .f_set_requires_grad(true)?;
        Ok(self
            .shared
            .registry
            .borrow_mut()
            .push(name, Role::Parameter, value))
    }

    /// Registers a parameter that no optimiser trains.
    pub(super) fn frozen(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        Ok(self.param(name, shape, init)?.f_set_requires_grad(false)?)
    }

    /// Registers a buffer of one value; `Kind::Int64` ones keep their kind.
    pub(super) fn buffer(
        &self,
        name: &str,
        shape: &[i64],
        value: f64,
        integer: bool,
    ) -> Result<Tensor> {
        let kind = if integer {
            Kind::Int64
        } else {
            self.shared.kind
        };
        let tensor = Tensor::f_full(shape, value, (kind, self.shared.device))?;
        Ok(self
            .shared
            .registry
            .borrow_mut()
            .push(self.full(name), Role::Buffer, tensor))
    }

    /// Gives the tensors of one child a second name under another.
    pub(super) fn alias(&self, later: &str, first: &str) {
        let (later, first) = (self.full(later), self.full(first));
        self.shared.registry.borrow_mut().alias(&later, &first);
    }

    /// Ends building.
    pub(super) fn into_registry(self) -> Registry {
        self.shared.registry.take()
    }
}

/// A generator seed out of an experiment seed and a name (FNV-1a, then splitmix64's finaliser).
fn seed_of(seed: u64, name: &str) -> i64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z = name.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).cast_signed()
}
