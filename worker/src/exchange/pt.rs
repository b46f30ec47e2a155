//! What the original saves: a dict of `epoch`, `state_dict`, `optimizer`, `scaler`, `best_acc1`, `args` and
//! `momentum_state_dict`; or a state dict alone, as others publish it.

use std::path::Path;

use rocket_common::error::Error;
use serde_json::{Map, Value as Json};
use tch_distributed::ScalerState;

use super::archive::{Archive, is_zip};
use super::optimizer::PtOptimizer;
use super::storages::Storages;
use super::{Result, Tensors, plain, refuse};
use crate::checkpoint::tensors;
use crate::data::pickle::{Dialect, Node, Pickle, PickleError, Value};

/// A checkpoint of torch.save. Names are without the prefix `module.` of DistributedDataParallel.
#[derive(Debug, Default)]
pub struct PtCheckpoint {
    /// Parameters and buffers, tied ones under each of their names.
    pub model: Tensors,
    /// Those of the momentum encoder.
    pub momentum: Option<Tensors>,
    /// AdamW's state.
    pub optimizer: Option<PtOptimizer>,
    /// The scaler's state; absent too where it was disabled.
    pub scaler: Option<ScalerState>,
    /// Epochs done.
    pub epoch: Option<u64>,
    /// Best top-1 so far in percent.
    pub best_acc1: Option<f64>,
    /// The original's command line, by the flags' names in snake_case.
    pub args: Option<Map<String, Json>>,
}

/// Reads a `.pt` or a `.safetensors` file, by what it holds and not by its name.
///
/// # Errors
/// As [`read_pt`].
pub fn read(path: &Path) -> Result<PtCheckpoint> {
    let safetensors = path.extension().is_some_and(|end| end == "safetensors");
    if !safetensors || is_zip(path)? {
        return read_pt(path);
    }
    let tensors = tensors::load(path).map_err(|error| {
        Error::new(
            rocket_common::exit::ExitKind::Checkpoint,
            format!("{error:#}"),
        )
    })?;
    Ok(PtCheckpoint {
        model: tensors.into_iter().collect(),
        ..PtCheckpoint::default()
    })
}

/// Reads a file of torch.save: the original's checkpoint, or a state dict.
///
/// # Errors
/// If the file cannot be read, is damaged, names a class that is no plain data, or holds no state dict.
pub fn read_pt(path: &Path) -> Result<PtCheckpoint> {
    let archive = Archive::open(path)?;
    let bytes = archive.bytes("data.pkl")?;
    let pickle = Pickle::read_as(&bytes, Dialect::Torch).map_err(|error| not_read(path, &error))?;
    let mut reader = Reader {
        path,
        pickle: &pickle,
        storages: Storages::new(&archive),
    };
    reader.checkpoint()
}

fn not_read(path: &Path, error: &PickleError) -> Error {
    let refused = refuse(path, format!("is not read: {error}"));
    match error {
        PickleError::Refused { .. } => refused.hint(
            "in Python, load it where it was made, and torch.save a dict of its state_dict() and plain values",
        ),
        _ => refused,
    }
}

struct Reader<'a, 'p> {
    path: &'a Path,
    pickle: &'a Pickle<'p>,
    storages: Storages<'a>,
}

impl Reader<'_, '_> {
    fn checkpoint(&mut self) -> Result<PtCheckpoint> {
        let (pickle, root) = (self.pickle, self.pickle.root());
        let Some(pairs) = pickle.pairs(root) else {
            return Err(refuse(
                self.path,
                "holds neither a checkpoint nor a state dict",
            ));
        };
        let Some(state_dict) = pickle.get(root, "state_dict") else {
            let tensors =
                |&(_, node): &(Node, Node)| matches!(pickle.value(node), Value::Tensor(_));
            if !pairs.is_empty() && pairs.iter().all(tensors) {
                return Ok(PtCheckpoint {
                    model: self.state_dict(root, "")?,
                    ..PtCheckpoint::default()
                });
            }
            let keys: Vec<&str> = pairs
                .iter()
                .take(12)
                .filter_map(|&(key, _)| pickle.text(key))
                .collect();
            return Err(refuse(
                self.path,
                format!(
                    "holds no state dict: it has no key 'state_dict', and not only tensors (it has {})",
                    keys.join(", ")
                ),
            ));
        };
        let present = |key: &str| {
            pickle
                .get(root, key)
                .filter(|&node| *pickle.value(node) != Value::None)
        };
        let momentum = present("momentum_state_dict")
            .map(|node| self.state_dict(node, "momentum_state_dict"))
            .transpose()?;
        let optimizer = present("optimizer")
            .map(|node| PtOptimizer::read(self.path, pickle, node, &mut self.storages))
            .transpose()?;
        let wrong = |key: &str, what: String| {
            refuse(self.path, format!("has a value under '{key}' that {what}"))
        };
        let object = |key: &str| {
            present(key)
                .map(|node| plain::object(pickle, node))
                .transpose()
                .map_err(|what| wrong(key, what))
        };
        let scaler = object("scaler")?.filter(|map| !map.is_empty());
        let scaler = scaler
            .map(|map| {
                serde_json::from_value(Json::Object(map))
                    .map_err(|_| wrong("scaler", "is none of torch's GradScaler".to_owned()))
            })
            .transpose()?;
        let epoch = match present("epoch").map(|node| pickle.value(node)) {
            None => None,
            Some(&Value::Int(epoch)) if epoch >= 0 => Some(epoch.unsigned_abs()),
            Some(_) => return Err(wrong("epoch", "is no whole number".to_owned())),
        };
        let args = object("args")?;
        let best = present("best_acc1").map(|node| (node, pickle.value(node)));
        let best_acc1 = match best {
            None => None,
            Some((_, &Value::Int(value))) => Some(value as f64),
            Some((_, &Value::Float(value))) => Some(value),
            Some((node, Value::Tensor(_))) => {
                let tensor = self.storages.tensor(pickle, node, "best_acc1")?;
                (tensor.numel() == 1).then(|| tensor.double_value(&[]))
            }
            Some(_) => return Err(wrong("best_acc1", "is no number".to_owned())),
        };
        Ok(PtCheckpoint {
            model: self.state_dict(state_dict, "state_dict")?,
            momentum,
            optimizer,
            scaler,
            epoch,
            best_acc1,
            args,
        })
    }

    /// The tensors of a dict, their names without `module.`.
    fn state_dict(&mut self, node: Node, key: &str) -> Result<Tensors> {
        let Some(pairs) = self.pickle.pairs(node) else {
            return Err(refuse(
                self.path,
                format!("has a value under '{key}' that is no dict"),
            ));
        };
        let mut names = std::collections::BTreeSet::new();
        let mut tensors = Vec::with_capacity(pairs.len());
        for &(name, value) in pairs {
            let Some(name) = self.pickle.text(name) else {
                return Err(refuse(
                    self.path,
                    format!("has a key under '{key}' that is no text"),
                ));
            };
            let name = name.strip_prefix("module.").unwrap_or(name);
            if !names.insert(name) {
                return Err(refuse(self.path, format!("has '{name}' twice in '{key}'")));
            }
            let tensor = self.storages.tensor(self.pickle, value, name)?;
            tensors.push((name.to_owned(), tensor));
        }
        Ok(tensors)
    }
}
