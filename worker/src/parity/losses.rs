//! The losses alone, on embeddings by formula, at every recorded world size.

use std::collections::{BTreeMap, BTreeSet};

use rocket_common::experiment::{Child, LossAvgOrSum, Train};
use serde::Deserialize;
use serde_json::Value;
use tch::{TchError, Tensor};

use super::fill::hash_values;
use super::report::Report;
use super::run::to_f64;
use super::{Group, Source};
use crate::loss::{LossOutput, Objective, Together};
use crate::model::{ChildEmbeddings, Embeddings, Views};

/// Relative tolerance: float32 throughout, well conditioned.
const TOLERANCE: f64 = 1e-5;
/// Views of the recorded cases.
const AUGS: usize = 2;

/// One rank's losses and gradients in a recorded case.
#[derive(Debug, Deserialize)]
struct Case {
    loss: BTreeMap<String, f64>,
    grads: BTreeMap<String, Vec<f64>>,
}

/// What is the same in all cases of a file.
#[derive(Debug, Deserialize)]
struct Inputs {
    batch_per_rank: i64,
    dim: i64,
    logit_scale: f64,
    h_logit_scale: f64,
}

/// What a case's name says.
#[derive(Debug, Clone)]
struct Kindred {
    child: Child,
    momentum: bool,
    augs: usize,
    train: Train,
}

impl Kindred {
    /// Reads `CLIP`, `CL2L_avg_ls0`, `CL2L_sum_ls0.1_noaug`, `SIAMLIP_momentum`; `None` for another name.
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('_');
        let child = match parts.next()? {
            "CLIP" => Child::Clip,
            "CL2L" => Child::Cl2l,
            "BARLIP" => Child::Barlip,
            "SIAMLIP" => Child::Siamlip,
            "SWALIP" => Child::Swalip,
            _ => return None,
        };
        let mut this = Self {
            child,
            momentum: false,
            augs: if child == Child::Clip { 0 } else { AUGS },
            train: Train::default(),
        };
        // Those children were recorded with the paper's options, which their names leave out.
        if !matches!(child, Child::Clip | Child::Cl2l) {
            this.train.loss_avg_or_sum = LossAvgOrSum::Sum;
            this.train.label_smoothing = if child == Child::Swalip { 0.0 } else { 0.1 };
        }
        for part in parts {
            match part {
                "avg" => this.train.loss_avg_or_sum = LossAvgOrSum::Avg,
                "sum" => this.train.loss_avg_or_sum = LossAvgOrSum::Sum,
                "noaug" => this.augs = 0,
                "momentum" => this.momentum = true,
                _ => this.train.label_smoothing = part.strip_prefix("ls")?.parse().ok()?,
            }
        }
        Some(this)
    }

    fn is_clip(&self) -> bool {
        self.child == Child::Clip
    }
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value.get("world1").is_some() && value.get("h_logit_scale").is_some()
}

/// Embeddings of one rank by name, as leaves that take gradients.
#[derive(Debug)]
struct Leaves(BTreeMap<String, Tensor>);

/// Names of the views of an embedding: image, text, strong views, augmented captions.
fn view_names(prefix: &str, ending: &str, augs: usize) -> [Vec<String>; 4] {
    let one = |modality: &str| vec![format!("{prefix}_{modality}{ending}")];
    let all = |modality: &str| {
        (0..augs)
            .map(|i| format!("{prefix}_{modality}_local{ending}.{i}"))
            .collect()
    };
    [one("image"), one("text"), all("image"), all("text")]
}

impl Leaves {
    fn new(inputs: &Inputs, rank: usize, kindred: &Kindred) -> Result<Self, TchError> {
        let mut names: Vec<String> = if kindred.is_clip() {
            vec!["z_image".into(), "z_text".into()]
        } else {
            vec!["z_image_global".into(), "z_text_global".into()]
        };
        let augs = kindred.augs;
        for i in 0..augs {
            names.extend([format!("h_image_local.{i}"), format!("h_text_local.{i}")]);
        }
        let child: &[(&str, &str)] = match (kindred.child, kindred.momentum) {
            (Child::Barlip, _) => &[("v", "")],
            (Child::Siamlip, false) => &[("v", ""), ("p", "")],
            (Child::Siamlip, true) => &[("v", ""), ("p", ""), ("v", "_momentum")],
            _ => &[],
        };
        for (prefix, ending) in child {
            names.extend(view_names(prefix, ending, augs).into_iter().flatten());
        }
        let shape = [inputs.batch_per_rank, inputs.dim];
        let n = usize::try_from(shape[0] * shape[1]).unwrap_or(0);
        let mut leaves = BTreeMap::new();
        for name in names {
            let values: Vec<f32> = hash_values(&format!("r{rank}/{name}"), n)
                .map(|v| v as f32)
                .collect();
            let leaf = Tensor::f_from_slice(&values)?
                .f_view(shape)?
                .f_set_requires_grad(true)?;
            leaves.insert(name, leaf);
        }
        let scales = [
            ("logit_scale", inputs.logit_scale),
            ("h_logit_scale", inputs.h_logit_scale),
        ];
        for (name, scale) in scales {
            let leaf = Tensor::f_from_slice(&[scale as f32])?.f_view([0i64; 0])?;
            leaves.insert(name.to_owned(), leaf.f_set_requires_grad(true)?);
        }
        Ok(Self(leaves))
    }

    fn leaf(&self, name: &str) -> Result<Tensor, TchError> {
        let lacking = || TchError::TensorNameNotFound(name.to_owned(), "inputs".to_owned());
        self.0
            .get(name)
            .map(Tensor::shallow_clone)
            .ok_or_else(lacking)
    }

    fn all(&self, names: &[String]) -> Result<Vec<Tensor>, TchError> {
        names.iter().map(|name| self.leaf(name)).collect()
    }

    fn views(&self, prefix: &str, ending: &str, augs: usize) -> Result<Views, TchError> {
        let [image, text, image_local, text_local] = view_names(prefix, ending, augs);
        Ok(Views {
            image: self.leaf(&image[0])?,
            text: self.leaf(&text[0])?,
            image_local: self.all(&image_local)?,
            text_local: self.all(&text_local)?,
        })
    }

    /// Our form of them.
    fn embeddings(&self, kindred: &Kindred) -> Result<Embeddings, TchError> {
        let augs = kindred.augs;
        let ending = if kindred.is_clip() { "" } else { "_global" };
        let [.., images, texts] = view_names("h", "", augs);
        let child = match kindred.child {
            Child::Barlip => ChildEmbeddings::Barlip {
                v: self.views("v", "", augs)?,
            },
            Child::Siamlip => ChildEmbeddings::Siamlip {
                v: self.views("v", "", augs)?,
                p: self.views("p", "", augs)?,
                targets: match kindred.momentum {
                    true => Some(self.views("v", "_momentum", augs)?),
                    false => None,
                },
            },
            _ => ChildEmbeddings::None,
        };
        Ok(Embeddings {
            feats_image: Tensor::new(),
            feats_text: Tensor::new(),
            feats_image_local: Vec::new(),
            feats_text_local: Vec::new(),
            z_image: self.leaf(&format!("z_image{ending}"))?,
            z_text: self.leaf(&format!("z_text{ending}"))?,
            h_image_local: self.all(&images)?,
            h_text_local: self.all(&texts)?,
            logit_scale: self.leaf("logit_scale")?,
            h_logit_scale: self.leaf("h_logit_scale")?,
            child,
        })
    }
}

/// Compares every case at every world size.
///
/// # Errors
/// If the file is of another format, or holds a case of no known child.
pub fn check(source: &Source) -> Result<Vec<Group>, String> {
    let inputs = Inputs::deserialize(&source.value).map_err(|error| error.to_string())?;
    let worlds = source.value.as_object().ok_or("not an object")?;
    let mut groups = Vec::new();
    for (name, ranks) in worlds.iter().filter(|(name, _)| name.starts_with("world")) {
        let ranks = Vec::<BTreeMap<String, Case>>::deserialize(ranks).map_err(|e| e.to_string())?;
        let mut report = Report::default();
        for case in ranks
            .iter()
            .flat_map(BTreeMap::keys)
            .collect::<BTreeSet<_>>()
        {
            let kindred = Kindred::parse(case)
                .ok_or_else(|| format!("the loss of case '{case}' is not in this version"))?;
            world(&mut report, &inputs, case, &kindred, &ranks).map_err(|e| e.to_string())?;
        }
        groups.push(Group {
            name: name.clone(),
            report,
        });
    }
    Ok(groups)
}

/// Losses and leaves of one case on every rank, each rank a thread.
fn compute(
    inputs: &Inputs,
    kindred: &Kindred,
    size: usize,
) -> Result<Vec<(Leaves, LossOutput)>, TchError> {
    let objective = Objective::new(kindred.child, &kindred.train);
    let leaves = (0..size)
        .map(|rank| Leaves::new(inputs, rank, kindred))
        .collect::<Result<Vec<_>, _>>()?;
    let one = |leaves: Leaves, ranks: Together| {
        let output = objective.compute(&leaves.embeddings(kindred)?, &ranks)?;
        output.total.f_backward()?;
        Ok((leaves, output))
    };
    let pairs = leaves.into_iter().zip(Together::new(size));
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .map(|(leaves, ranks)| scope.spawn(|| one(leaves, ranks)))
            .collect();
        let gone = |_| TchError::Torch("the thread of a rank panicked".to_owned());
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(gone)?)
            .collect()
    })
}

/// One case on all ranks of a world.
fn world(
    report: &mut Report,
    inputs: &Inputs,
    name: &str,
    kindred: &Kindred,
    ranks: &[BTreeMap<String, Case>],
) -> Result<(), TchError> {
    let computed = compute(inputs, kindred, ranks.len())?;
    for (rank, (cases, (leaves, output))) in ranks.iter().zip(&computed).enumerate() {
        let Some(case) = cases.get(name) else {
            report.equal(&format!("rank {rank} {name}"), "no case", "a case");
            continue;
        };
        let at = format!("rank {rank} {name}");
        for (term, &want) in &case.loss {
            let got = output.terms.iter().find(|(name, _)| name == term);
            let got = got.map_or(Ok(f64::NAN), |(_, value)| value.f_double_value(&[]))?;
            report.close(&format!("{at} {term}"), got, want, TOLERANCE * want.abs());
        }
        for (input, want) in &case.grads {
            let got = match leaves
                .0
                .get(input)
                .map(Tensor::grad)
                .filter(Tensor::defined)
            {
                Some(grad) => to_f64(&grad)?,
                None => Vec::new(),
            };
            report.equal(&format!("{at} d{input}: values"), got.len(), want.len());
            let scale = want.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
            for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                let tolerance = TOLERANCE * scale.max(want.abs());
                report.close(&format!("{at} d{input}[{i}]"), got, want, tolerance);
            }
        }
    }
    Ok(())
}
