//! One recorded experiment run again: two forward passes with an AdamW step between.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};
use tch_distributed::{AdamW, Hyper, optim};

use super::fill;
use super::golden::Golden;
use super::recipe::Recipe;
use crate::loss::Alone;
use crate::model::{
    Batch, ChildEmbeddings, Embeddings, Entry, Error, Features, Model, MomentumEncoder, trace,
};

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
    /// Parameters of the momentum encoder after the step.
    pub(super) momentum: BTreeMap<String, Digest>,
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
            // What is never trained is in neither group.
            registry
                .trainable()
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

/// The model's features under the names of a momentum encoder's outputs.
fn named_momentum(features: &Features) -> Vec<(String, &Tensor)> {
    let mut all = vec![
        ("feats_image_momentum".to_owned(), &features.image),
        ("feats_text_momentum".to_owned(), &features.text),
    ];
    for (name, views) in [
        ("feats_image_local_momentum", &features.image_local),
        ("feats_text_local_momentum", &features.text_local),
    ] {
        let views = views.iter().enumerate();
        all.extend(views.map(|(i, view)| (format!("{name}.{i}"), view)));
    }
    all
}

/// What a golden file's model is run with.
struct Experiment<'a> {
    golden: &'a Golden,
    recipe: &'a Recipe,
    model: &'a Model,
    momentum: Option<MomentumEncoder>,
    batch: Batch,
}

/// Loss terms by name, and the loss to run backward from.
type Forward = (BTreeMap<String, f64>, Tensor);

impl Experiment<'_> {
    /// One forward pass of everything. Outputs are kept where there is a place for them.
    fn forward(&self, outputs: Option<&mut BTreeMap<String, Tensor>>) -> Result<Forward, String> {
        let say = |error: Error| error.to_string();
        let torch = |error: TchError| error.to_string();
        let (embeddings, told) =
            trace::listen(is_projection, || self.model.encode(&self.batch, true));
        let mut embeddings = embeddings.map_err(say)?;
        let mut features = None;
        if let Some(momentum) = &self.momentum {
            let of_batch = momentum.features(&self.batch).map_err(say)?;
            let targets = momentum.project(&of_batch).map_err(say)?;
            embeddings = embeddings.with_targets(targets).map_err(say)?;
            features = Some(of_batch);
        }
        let objective = self.recipe.objective();
        let loss = objective.compute(&embeddings, &Alone).map_err(torch)?;
        if let Some(outputs) = outputs {
            let more = features.as_ref().map(named_momentum).unwrap_or_default();
            for (name, tensor) in embeddings.named().into_iter().chain(more) {
                outputs.insert(name, tensor.f_detach().map_err(torch)?);
            }
            for (name, projection) in told {
                let modality = name.contains("image");
                let name = if modality { "h_image" } else { "h_text" };
                outputs.insert(name.to_owned(), projection);
            }
            scale_cosines(&embeddings, outputs).map_err(torch)?;
        }
        let terms = loss
            .terms
            .iter()
            .map(|(name, value)| Ok((name.clone(), value.f_double_value(&[])?)));
        let terms = terms.collect::<Result<_, _>>().map_err(torch)?;
        Ok((terms, loss.total))
    }

    /// Prototypes stay as they are in the first steps: they have no gradient.
    fn drop_frozen(&self) -> Result<(), String> {
        if self.recipe.train.swalip_freeze_proto_iters == 0 {
            return Ok(());
        }
        let frozen: Vec<Tensor> = self
            .model
            .registry()
            .parameters()
            .filter(|entry| entry.name.contains("prototypes"))
            .map(|entry| entry.tensor.shallow_clone())
            .collect();
        if frozen.is_empty() {
            return Ok(());
        }
        optim::drop_grads(&frozen).map_err(|error| error.to_string())
    }
}

/// SWALIPV1's projections, which no loss takes.
fn is_projection(name: &str) -> bool {
    name.starts_with("swalip_") && name.ends_with("_projector")
}

/// The original's loss multiplies SWALIPV1's cosines in place, so that they were recorded as logits.
fn scale_cosines(
    embeddings: &Embeddings,
    outputs: &mut BTreeMap<String, Tensor>,
) -> Result<(), TchError> {
    if let ChildEmbeddings::Prototypes { logit_scale, .. } = &embeddings.child {
        for name in ["p_image", "p_text"] {
            if let Some(cosines) = outputs.get_mut(name) {
                *cosines = cosines.f_mul(&logit_scale.f_detach()?)?;
            }
        }
    }
    Ok(())
}

fn digests<'a>(
    entries: impl Iterator<Item = (&'a Entry, Tensor)>,
) -> Result<BTreeMap<String, Digest>, String> {
    entries
        .filter(|(_, tensor)| tensor.defined())
        .map(|(entry, tensor)| Ok((entry.name.clone(), Digest::of(&tensor)?)))
        .collect::<Result<_, TchError>>()
        .map_err(|error| error.to_string())
}

fn with_values(entry: &Entry) -> (&Entry, Tensor) {
    (entry, entry.tensor.shallow_clone())
}

/// Runs the steps of a golden file on its model, one rank alone.
pub(super) fn run(
    golden: &Golden,
    recipe: &Recipe,
    model: &Model,
    tokens: &Tensor,
) -> Result<Outcome, String> {
    let momentum = match recipe.spec.momentum {
        true => Some(MomentumEncoder::new(model, &recipe.spec, &recipe.options)),
        false => None,
    };
    let experiment = Experiment {
        golden,
        recipe,
        model,
        momentum: momentum.transpose().map_err(|error| error.to_string())?,
        batch: batch(golden, model, tokens, recipe.options.kind).map_err(|e| e.to_string())?,
    };
    let registry = model.registry();
    let mut outputs = BTreeMap::new();
    let (loss_step1, total) = experiment.forward(Some(&mut outputs))?;
    let buffers = digests(registry.buffers().map(with_values))?;
    total.f_backward().map_err(|error| error.to_string())?;
    drop(total);
    experiment.drop_frozen()?;
    let grads = digests(registry.trainable().map(|e| (e, e.tensor.grad())))?;
    experiment.step()?;
    let step1 = digests(registry.parameters().map(with_values))?;
    let momentum = match &experiment.momentum {
        Some(momentum) => digests(momentum.registry().parameters().map(with_values))?,
        None => BTreeMap::new(),
    };
    let (loss_step2, _) = tch::no_grad(|| experiment.forward(None))?;
    Ok(Outcome {
        loss_step1,
        loss_step2,
        outputs,
        grads,
        step1,
        buffers,
        momentum,
    })
}

impl Experiment<'_> {
    /// One AdamW step, the momentum encoder's, and the clamp after them.
    fn step(&self) -> Result<(), String> {
        let (model, optimizer) = (self.model, &self.golden.optimizer);
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
        if let Some(momentum) = &self.momentum {
            momentum
                .update(model, self.recipe.spec.momentum_tau)
                .map_err(|error| error.to_string())?;
        }
        model
            .clamp_logit_scales()
            .map_err(|error| error.to_string())
    }
}
