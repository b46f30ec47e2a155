//! Writes what [`super::read_pt`] reads, as torch.save and the original's training do.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rocket_common::atomic;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use serde_json::Value as Json;
use tch_distributed::ScalerState;

use super::pickler::{Pickled, Py, keyed, pickle};
use super::zip_writer::ZipFile;
use super::{PtCheckpoint, PtOptimizer, Result, Tensors};

/// What is written of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The dict that the original's training saves and resumes from.
    Checkpoint {
        /// Names begin with `module.`, as DistributedDataParallel writes them.
        module: bool,
    },
    /// The state dict alone.
    StateDict,
}

/// Writes a checkpoint. The file appears under its name when it is whole.
///
/// # Errors
/// If the file cannot be written, or a tensor's type has no place in it.
pub fn write_pt(path: &Path, checkpoint: &PtCheckpoint, form: Form) -> Result<()> {
    let value = match form {
        Form::StateDict => state_dict(&checkpoint.model, false),
        Form::Checkpoint { module } => checkpoint_dict(checkpoint, module),
    };
    let pickled = pickle(&value).map_err(|error| {
        Error::new(
            ExitKind::Checkpoint,
            format!("cannot write '{}': {error}", path.display()),
        )
    })?;
    whole(path, |aside| write_zip(aside, &pickled))
}

/// Writes a file aside, and gives it its name when it is on the disk.
///
/// # Errors
/// What `write` fails with, or if the file cannot be renamed.
pub(super) fn whole(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let failed = |error| Error::io("write", path, error).with_kind(ExitKind::Checkpoint);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside: PathBuf = path.with_file_name(format!(".{name}.{}", atomic::unique()));
    let written = write(&aside).and_then(|()| fs::rename(&aside, path));
    if let Err(error) = written {
        // Nothing to be done about a file that cannot be removed either.
        let _ = fs::remove_file(&aside);
        return Err(failed(error));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    atomic::sync_dir(parent.unwrap_or(Path::new(".")))
}

fn write_zip(path: &Path, pickled: &Pickled) -> std::io::Result<()> {
    let mut zip = ZipFile::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
    zip.record("archive/data.pkl", &pickled.pickle)?;
    zip.record("archive/byteorder", b"little")?;
    for (index, storage) in pickled.storages.iter().enumerate() {
        let length = storage.numel() * storage.kind().elt_size_in_bytes();
        let bytes: &[u8] = if length == 0 {
            &[]
        } else {
            // SAFETY: contiguous, on the CPU, and alive as long as `pickled`.
            unsafe { std::slice::from_raw_parts(storage.data_ptr().cast::<u8>(), length) }
        };
        zip.record(&format!("archive/data/{index}"), bytes)?;
    }
    zip.record("archive/version", b"3\n")?;
    let mut out = zip.finish()?;
    out.flush()?;
    out.get_ref().sync_all()
}

fn checkpoint_dict(checkpoint: &PtCheckpoint, module: bool) -> Py {
    let mut pairs = vec![
        ("epoch", Py::Int(checkpoint.epoch.unwrap_or(0) as i64)),
        ("state_dict", state_dict(&checkpoint.model, module)),
    ];
    if let Some(optimizer) = &checkpoint.optimizer {
        pairs.push(("optimizer", optimizer_dict(optimizer)));
    }
    // An empty dict is what a disabled scaler saves and loads.
    pairs.push((
        "scaler",
        checkpoint
            .scaler
            .as_ref()
            .map_or(Py::Dict(Vec::new()), scaler_dict),
    ));
    pairs.push(("best_acc1", Py::Float(checkpoint.best_acc1.unwrap_or(0.0))));
    if let Some(args) = &checkpoint.args {
        let flags = args.iter().map(|(key, value)| (key, Py::from_json(value)));
        pairs.push(("args", Py::Namespace(keyed(flags))));
    }
    if let Some(momentum) = &checkpoint.momentum {
        pairs.push(("momentum_state_dict", state_dict(momentum, module)));
    }
    Py::dict(pairs)
}

fn state_dict(tensors: &Tensors, module: bool) -> Py {
    let prefix = if module { "module." } else { "" };
    Py::state_dict(
        tensors
            .iter()
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor)),
    )
}

fn optimizer_dict(optimizer: &PtOptimizer) -> Py {
    let state = optimizer.state.iter().map(|(number, moments)| {
        let parts = [
            ("step", &moments.step),
            ("exp_avg", &moments.exp_avg),
            ("exp_avg_sq", &moments.exp_avg_sq),
        ];
        let parts = parts.map(|(name, tensor)| (name, Py::Tensor(tensor.shallow_clone())));
        (Py::Int(*number), Py::dict(parts))
    });
    let groups = optimizer.groups.iter().map(|group| {
        let mut options: Vec<(&str, Py)> = group
            .options
            .iter()
            .map(|(key, value)| match (key.as_str(), Py::from_json(value)) {
                ("betas", Py::List(betas)) => ("betas", Py::Tuple(betas)),
                pair => pair,
            })
            .collect();
        let params = group.params.iter().map(|&number| Py::Int(number));
        options.push(("params", Py::List(params.collect())));
        Py::dict(options)
    });
    Py::dict([
        ("state", Py::Dict(state.collect())),
        ("param_groups", Py::List(groups.collect())),
    ])
}

fn scaler_dict(scaler: &ScalerState) -> Py {
    Py::dict([
        ("scale", Py::Float(scaler.scale)),
        ("growth_factor", Py::Float(scaler.growth_factor)),
        ("backoff_factor", Py::Float(scaler.backoff_factor)),
        ("growth_interval", Py::Int(scaler.growth_interval)),
        ("_growth_tracker", Py::Int(scaler.growth_tracker)),
    ])
}

/// What torch's AdamW notes of a group, for the numbers that an experiment has.
pub(super) fn group_options(
    optim: &rocket_common::experiment::Optim,
    weight_decay: f64,
) -> serde_json::Map<String, Json> {
    let pairs = [
        ("lr", optim.lr.into()),
        ("betas", optim.betas.to_vec().into()),
        ("eps", optim.eps.into()),
        ("weight_decay", weight_decay.into()),
        ("amsgrad", false.into()),
        ("maximize", false.into()),
        ("foreach", Json::Null),
        ("capturable", false.into()),
        ("differentiable", false.into()),
        ("fused", Json::Null),
        ("decoupled_weight_decay", true.into()),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
