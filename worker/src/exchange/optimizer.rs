//! The state of torch's AdamW, which counts parameters, and ours, which names them.

use std::collections::BTreeMap;
use std::path::Path;

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Optim;
use serde_json::{Map, Value as Json};
use tch::{Device, Kind, Tensor};

use super::pt_writer::group_options;
use super::storages::Storages;
use super::{Result, plain, refuse};
use crate::data::pickle::{Node, Pickle, Value};
use crate::model::{Entry, Registry};

/// `optimizer.state_dict()` of `torch.optim.AdamW`.
#[derive(Debug, Default)]
pub struct PtOptimizer {
    /// The groups in order; the original has decayed parameters, then the others.
    pub groups: Vec<Group>,
    /// By parameter number. One that never had a gradient has none.
    pub state: BTreeMap<i64, Moments>,
}

/// One group of parameters.
#[derive(Debug, Default)]
pub struct Group {
    /// Numbers of its parameters.
    pub params: Vec<i64>,
    /// `lr`, `betas`, `eps`, `weight_decay` and the rest.
    pub options: Map<String, Json>,
}

/// What AdamW keeps of a parameter.
#[derive(Debug)]
pub struct Moments {
    /// Moving average of the gradient.
    pub exp_avg: Tensor,
    /// Moving average of its square.
    pub exp_avg_sq: Tensor,
    /// Steps done, a float32 scalar.
    pub step: Tensor,
}

impl PtOptimizer {
    pub(super) fn read(
        path: &Path,
        pickle: &Pickle<'_>,
        node: Node,
        storages: &mut Storages<'_>,
    ) -> Result<Self> {
        let wrong = |what: &str| {
            refuse(
                path,
                format!("has an 'optimizer' that is none of torch's AdamW: {what}"),
            )
        };
        let (Some(state), Some(groups)) =
            (pickle.get(node, "state"), pickle.get(node, "param_groups"))
        else {
            return Err(wrong("it lacks 'state' or 'param_groups'"));
        };
        let mut read = Self::default();
        for &group in pickle
            .items(groups)
            .ok_or_else(|| wrong("'param_groups' is no list"))?
        {
            let mut options =
                plain::object(pickle, group).map_err(|what| wrong(&format!("a group {what}")))?;
            let params = options
                .remove("params")
                .as_ref()
                .and_then(Json::as_array)
                .and_then(|params| params.iter().map(Json::as_i64).collect())
                .ok_or_else(|| wrong("a group has no parameters"))?;
            if options.get("amsgrad") == Some(&Json::Bool(true)) {
                return Err(wrong("it uses amsgrad, which is not here"));
            }
            read.groups.push(Group { params, options });
        }
        for &(number, moments) in pickle
            .pairs(state)
            .ok_or_else(|| wrong("'state' is no dict"))?
        {
            let &Value::Int(number) = pickle.value(number) else {
                return Err(wrong("a parameter has no number"));
            };
            let mut part = |key: &str| -> Result<Tensor> {
                let name = format!("optimizer.state.{number}.{key}");
                let node = pickle
                    .get(moments, key)
                    .ok_or_else(|| wrong(&format!("parameter {number} has no '{key}'")))?;
                match *pickle.value(node) {
                    // torch before 1.12 counted steps in Python.
                    Value::Int(step) => Ok(Tensor::from(step as f32)),
                    Value::Float(step) => Ok(Tensor::from(step as f32)),
                    _ => storages.tensor(pickle, node, &name),
                }
            };
            let moments = Moments {
                exp_avg: part("exp_avg")?,
                exp_avg_sq: part("exp_avg_sq")?,
                step: part("step")?.to_kind(Kind::Float),
            };
            if moments.step.numel() != 1 {
                return Err(wrong(&format!(
                    "the step of parameter {number} is no number"
                )));
            }
            read.state.insert(number, moments);
        }
        Ok(read)
    }

    /// The state that a run of ours saved, numbered as the original numbers it. A parameter without a step
    /// behind it has no state there.
    ///
    /// # Errors
    /// If a trained parameter's part is absent.
    pub fn from_named(
        registry: &Registry,
        named: &BTreeMap<String, Tensor>,
        optim: &Optim,
    ) -> Result<Self> {
        let (decayed, plain) = registry.decay_split();
        let mut numbered = Self::default();
        let mut number = 0;
        for (entries, weight_decay) in [(decayed, optim.wd), (plain, 0.0)] {
            let mut group = Group {
                params: Vec::with_capacity(entries.len()),
                options: group_options(optim, weight_decay),
            };
            for entry in entries {
                let part = |part: &str| {
                    let key = format!("{}.{part}", entry.name);
                    named.get(&key).map(Tensor::shallow_clone).ok_or_else(|| {
                        Error::new(
                            ExitKind::Checkpoint,
                            format!("the optimiser state is of another model: it has no '{key}'"),
                        )
                    })
                };
                let step = part("step")?;
                if step.double_value(&[]) > 0.0 {
                    let moments = Moments {
                        exp_avg: part("exp_avg")?,
                        exp_avg_sq: part("exp_avg_sq")?,
                        step,
                    };
                    numbered.state.insert(number, moments);
                }
                group.params.push(number);
                number += 1;
            }
            numbered.groups.push(group);
        }
        Ok(numbered)
    }

    /// The state as `<parameter>.exp_avg`, `<parameter>.exp_avg_sq`, `<parameter>.step`. A parameter
    /// that never had a gradient gets zeros, which is what it starts from.
    ///
    /// # Errors
    /// If the groups have other parameters than the model, in number or in shape.
    pub fn by_name(&self, registry: &Registry) -> Result<BTreeMap<String, Tensor>> {
        let (decayed, plain) = registry.decay_split();
        let ours = [decayed, plain];
        let sizes = |groups: &mut dyn Iterator<Item = usize>| {
            groups
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(" and ")
        };
        if self.groups.len() != ours.len()
            || self
                .groups
                .iter()
                .zip(&ours)
                .any(|(theirs, ours)| theirs.params.len() != ours.len())
        {
            return Err(Error::new(
                ExitKind::Checkpoint,
                format!(
                    "the optimiser state is of another model: it has groups of {} parameters, where {} are \
                     expected (decayed, and not decayed)",
                    sizes(&mut self.groups.iter().map(|group| group.params.len())),
                    sizes(&mut ours.iter().map(Vec::len)),
                ),
            ));
        }
        let mut named = BTreeMap::new();
        for (group, entries) in self.groups.iter().zip(ours) {
            for (number, entry) in group.params.iter().zip(entries) {
                for (part, tensor) in self.moments(*number, entry)? {
                    named.insert(format!("{}.{part}", entry.name), tensor);
                }
            }
        }
        Ok(named)
    }

    fn moments(&self, number: i64, entry: &Entry) -> Result<[(&'static str, Tensor); 3]> {
        let size = entry.tensor.size();
        let [exp_avg, exp_avg_sq, step] = match self.state.get(&number) {
            Some(moments) => {
                for theirs in [&moments.exp_avg, &moments.exp_avg_sq] {
                    if theirs.size() != size {
                        return Err(Error::new(
                            ExitKind::Checkpoint,
                            format!(
                                "the optimiser state is of another model: parameter {number} is '{}' of \
                                 shape {size:?} here, and of shape {:?} there",
                                entry.name,
                                theirs.size()
                            ),
                        ));
                    }
                }
                [
                    moments.exp_avg.shallow_clone(),
                    moments.exp_avg_sq.shallow_clone(),
                    moments.step.reshape([0i64; 0]),
                ]
            }
            None => {
                let zeros = || Tensor::zeros(&size, (Kind::Float, Device::Cpu));
                [zeros(), zeros(), Tensor::from(0f32)]
            }
        };
        Ok([
            ("exp_avg", exp_avg),
            ("exp_avg_sq", exp_avg_sq),
            ("step", step),
        ])
    }
}
