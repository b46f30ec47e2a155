//! The golden format of models: one JSON file, and tensors beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;
use tch::Tensor;

/// `models/<config>.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Golden {
    /// `<base>_<vision>_<child>`.
    pub model: String,
    /// The original's flags.
    pub argv: Vec<String>,
    /// Samples.
    pub batch: i64,
    /// Side of the images in pixels.
    pub image_size: i64,
    /// Which formula filled the weights.
    pub weights: String,
    /// The optimiser of the one step.
    pub optimizer: Optimizer,
    /// Parameters, tied ones counted once.
    pub total_params: usize,
    /// `[name, shape, kind]` in order.
    pub state_dict: Vec<(String, Vec<i64>, String)>,
    /// Later name to first name.
    pub aliases: BTreeMap<String, String>,
    /// Names that are decayed, in order.
    pub decay_params: Vec<String>,
    /// Names that are not, in order.
    pub no_decay_params: Vec<String>,
    /// Losses of the first batch, float32.
    pub loss_step1: BTreeMap<String, f64>,
    /// The same after one step.
    pub loss_step2: BTreeMap<String, f64>,
    /// As `loss_step1` in float64.
    pub loss_step1_f64: BTreeMap<String, f64>,
    /// As `loss_step2` in float64.
    pub loss_step2_f64: BTreeMap<String, f64>,
    /// What encoding gave.
    pub outputs: BTreeMap<String, Output>,
    /// What each parameter's gradient and first step were.
    pub params: BTreeMap<String, Param>,
    /// Buffers after the first forward pass.
    #[serde(default)]
    pub buffers_after_step1: BTreeMap<String, Summary>,
    /// Parameters of the momentum encoder after one step.
    #[serde(default)]
    pub momentum_params_after_step1: BTreeMap<String, Summary>,
}

/// The recorded optimiser.
#[derive(Debug, Deserialize)]
pub(super) struct Optimizer {
    /// Always `AdamW`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Learning rate.
    pub lr: f64,
    /// Betas.
    pub betas: (f64, f64),
    /// Epsilon.
    pub eps: f64,
    /// Weight decay of the decayed group.
    pub weight_decay: f64,
}

/// One recorded output.
#[derive(Debug, Deserialize)]
pub(super) struct Output {
    /// Shape.
    pub shape: Vec<i64>,
    /// Mean of all values.
    pub mean: f64,
    /// Euclidean norm of all values.
    pub l2: f64,
    /// Norm of the float32 to float64 difference over the float64 norm.
    pub reldiff_f64: f64,
    /// Whether the values are in the tensor file.
    #[serde(default)]
    pub stored: bool,
    /// The first values otherwise.
    #[serde(default)]
    pub first64: Vec<f64>,
}

/// One recorded parameter.
#[derive(Debug, Deserialize)]
pub(super) struct Param {
    /// Its gradient, if it had one.
    #[serde(flatten)]
    pub grad: Option<Grad>,
    /// Norm of the parameter after one step, float32.
    pub step1_l2: f64,
    /// Its first values, float32.
    pub step1_first8: Vec<f64>,
    /// Largest float32 to float64 difference of a value.
    #[serde(default)]
    pub step1_maxabsdiff_f64: f64,
}

/// A recorded gradient.
#[derive(Debug, Deserialize)]
pub(super) struct Grad {
    /// Norm, float32.
    #[serde(rename = "grad_l2")]
    pub l2: f64,
    /// First values, float32.
    #[serde(rename = "grad_first8")]
    pub first8: Vec<f64>,
    /// Norm, float64.
    #[serde(rename = "grad_l2_f64")]
    pub l2_f64: f64,
    /// Norm of the float32 to float64 difference over the float64 norm.
    #[serde(rename = "grad_reldiff_f64")]
    pub reldiff_f64: f64,
}

/// Norm and first values of a tensor.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    /// Euclidean norm.
    pub l2: f64,
    /// First values.
    pub first8: Vec<f64>,
}

/// Reads every tensor of a safetensors file.
///
/// # Errors
/// Names the file, and what is wrong with it.
pub(super) fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| wrong(&error))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(&error))?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let kind = match view.dtype() {
                safetensors::Dtype::F32 => tch::Kind::Float,
                safetensors::Dtype::F64 => tch::Kind::Double,
                safetensors::Dtype::I64 => tch::Kind::Int64,
                other => return Err(wrong(&format!("{name} has kind {other:?}"))),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
                .map_err(|error| wrong(&error))?;
            Ok((name, tensor))
        })
        .collect()
}
