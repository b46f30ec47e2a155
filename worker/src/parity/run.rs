//! One recorded experiment run again: two forward passes with an AdamW step between.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};
use tch_distributed::{AdamW, Hyper};

use super::fill;
use super::golden::Golden;
use super::recipe::Recipe;
use crate::loss::Alone;
use crate::model::{Batch, Entry, Error, Model};

/// Norm and first values of a tensor, in float64.
#[derive(Debug, Clone)]
pub(super) struct Digest {
    pub(super) l2: f64,
    pub(super) first: Vec<f64>,
}

impl Digest {
    fn of(tensor: &Tensor) -> Result<Self, TchError> {
        let flat = tensor.f_detach()?.f_reshape([-1])?;
        let first = flat.f_narrow(0, 0, flat.size1()?.min(8))?;
        let l2 = if flat.kind() == Kind::Int64 {
            flat.f_to_kind(Kind::Double)?.f_norm()?
        } else {
            // Squares are summed in float64 without a copy of the tensor in it.
            flat.f_norm_scalaropt_dtype(2.0, Kind::Double)?
        };
        Ok(Self {
            l2: l2.f_double_value(&[])?,
            first: to_f64(&first)?,
        })
    }
}

/// Values of a tensor, in float64.
pub(super) fn to_f64(tensor: &Tensor) -> Result<Vec<f64>, TchError> {
    let tensor = tensor
        .f_detach()?
        .f_to_kind(Kind::Double)?
        .f_reshape([-1])?
        .f_contiguous()?;
    let mut values = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

/// What the run gave.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) loss_step1: BTreeMap<String, f64>,
    pub(super) loss_step2: BTreeMap<String, f64>,
    pub(super) outputs: BTreeMap<String, Tensor>,
    pub(super) grads: BTreeMap<String, Digest>,
    pub(super) step1: BTreeMap<String, Digest>,
    pub(super) buffers: BTreeMap<String, Digest>,
}

/// Names and sizes of the built model.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) total_params: usize,
    pub(super) state_dict: Vec<(String, Vec<i64>, String)>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) decay: Vec<String>,
    pub(super) no_decay: Vec<String>,
}

impl Names {
    /// Those of a model.
    pub(super) fn of(model: &Model) -> Self {
        let registry = model.registry();
        let names = |keep: fn(&Entry) -> bool| {
            registry
                .parameters()
                .filter(|e| keep(e))
                .map(|e| e.name.clone())
                .collect()
        };
        Self {
            total_params: registry.total_params(),
            state_dict: registry
                .state_dict()
                .map(|(name, tensor)| {
                    let kind = if tensor.kind() == Kind::Int64 {
                        "int64"
                    } else {
                        "float32"
                    };
                    (name.to_owned(), tensor.size(), kind.to_owned())
                })
                .collect(),
            // The goldens leave counters out of the aliases.
            aliases: registry
                .aliases()
                .into_iter()
                .filter(|(later, _)| !later.ends_with("num_batches_tracked"))
                .map(|(later, first)| (later.to_owned(), first.to_owned()))
                .collect(),
            decay: names(Entry::decays),
            no_decay: names(|entry| !entry.decays()),
        }
    }
}

/// Builds the model of a golden file and fills it by formula.
pub(super) fn build(recipe: &Recipe) -> Result<Model, Error> {
    let model = Model::new(&recipe.spec, &recipe.options)?;
    fill::weights(model.registry())?;
    Ok(model)
}

/// The recorded batch: images by formula, tokens from the file.
fn batch(golden: &Golden, model: &Model, tokens: &Tensor, kind: Kind) -> Result<Batch, TchError> {
    let image = |name: &str| fill::images(name, golden.batch, golden.image_size, kind);
    let tokens = if tokens.dim() == 2 {
        tokens.f_unsqueeze(1)?
    } else {
        tokens.shallow_clone()
    };
    Ok(Batch {
        image_global: image("image_global")?,
        images_local: (0..model.num_augs())
            .map(|i| image(&format!("image_local_{i}")))
            .collect::<Result<_, _>>()?,
        tokens,
    })
}

/// Runs the steps of a golden file on its model, one rank alone.
pub(super) fn run(
    golden: &Golden,
    recipe: &Recipe,
    model: &Model,
    tokens: &Tensor,
) -> Result<Outcome, String> {
    let say = |error: Error| error.to_string();
    let torch = |error: TchError| error.to_string();
    let batch = batch(golden, model, tokens, recipe.options.kind).map_err(torch)?;
    let forward = |outputs: Option<&mut BTreeMap<String, Tensor>>| {
        let embeddings = model.encode(&batch, true).map_err(say)?;
        let loss = recipe
            .objective()
            .compute(&embeddings, &Alone)
            .map_err(torch)?;
        if let Some(outputs) = outputs {
            for (name, tensor) in embeddings.named() {
                outputs.insert(name, tensor.f_detach().map_err(torch)?);
            }
        }
        let terms = loss
            .terms
            .iter()
            .map(|(name, value)| Ok((name.clone(), value.f_double_value(&[]).map_err(torch)?)));
        Ok::<_, String>((
            terms.collect::<Result<BTreeMap<_, _>, String>>()?,
            loss.total,
        ))
    };
    let mut outputs = BTreeMap::new();
    let (loss_step1, total) = forward(Some(&mut outputs))?;
    let digests = |entries: &mut dyn Iterator<Item = (&Entry, Tensor)>| {
        entries
            .filter(|(_, tensor)| tensor.defined())
            .map(|(entry, tensor)| Ok((entry.name.clone(), Digest::of(&tensor)?)))
            .collect::<Result<BTreeMap<_, _>, TchError>>()
    };
    let registry = model.registry();
    let buffers = digests(&mut registry.buffers().map(|e| (e, e.tensor.shallow_clone())));
    let buffers = buffers.map_err(torch)?;
    total.f_backward().map_err(torch)?;
    drop(total);
    let grads = digests(&mut registry.trainable().map(|e| (e, e.tensor.grad()))).map_err(torch)?;
    step(golden, model)?;
    let step1 = digests(&mut registry.trainable().map(|e| (e, e.tensor.shallow_clone())));
    let step1 = step1.map_err(torch)?;
    let (loss_step2, _) = tch::no_grad(|| forward(None))?;
    Ok(Outcome {
        loss_step1,
        loss_step2,
        outputs,
        grads,
        step1,
        buffers,
    })
}

/// One AdamW step, and the clamp after it.
fn step(golden: &Golden, model: &Model) -> Result<(), String> {
    let optimizer = &golden.optimizer;
    if optimizer.kind != "AdamW" {
        return Err(format!(
            "optimiser {} is not in this version",
            optimizer.kind
        ));
    }
    let (decay, no_decay) = model.registry().decay_split();
    let group = |entries: Vec<&Entry>, weight_decay| {
        let tensors = entries
            .into_iter()
            .map(|entry| entry.tensor.shallow_clone())
            .collect();
        let (lr, betas, eps) = (optimizer.lr, optimizer.betas, optimizer.eps);
        (
            tensors,
            Hyper {
                lr,
                betas,
                eps,
                weight_decay,
            },
        )
    };
    let groups = vec![group(decay, optimizer.weight_decay), group(no_decay, 0.0)];
    let mut adamw = AdamW::new(groups).map_err(|error| error.to_string())?;
    adamw.step().map_err(|error| error.to_string())?;
    adamw.zero_grad().map_err(|error| error.to_string())?;
    model
        .clamp_logit_scales()
        .map_err(|error| error.to_string())
}
