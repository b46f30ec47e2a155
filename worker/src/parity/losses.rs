//! The losses alone, on embeddings by formula, at every recorded world size.

use std::collections::BTreeMap;

use rocket_common::experiment::LossAvgOrSum;
use serde::Deserialize;
use serde_json::Value;
use tch::{TchError, Tensor};

use super::fill::hash_values;
use super::report::Report;
use super::run::to_f64;
use super::{Group, Source};
use crate::loss::{Gathered, LossOptions, Normalised, contrastive};

/// Relative tolerance: float32 throughout, well conditioned.
const TOLERANCE: f64 = 1e-5;
/// Views of the recorded cases.
const AUGS: usize = 2;

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

/// What a case's name says: whether the names are base CLIP's, the views, and the options.
struct Kindred {
    clip: bool,
    augs: usize,
    options: LossOptions,
}

impl Kindred {
    /// Reads `CLIP`, `CL2L_avg_ls0`, `CL2L_sum_ls0.1_noaug`; `None` for what this version lacks.
    fn parse(name: &str) -> Option<Self> {
        let plain = LossOptions {
            label_smoothing: 0.0,
            join: LossAvgOrSum::Avg,
        };
        if name == "CLIP" {
            return Some(Self {
                clip: true,
                augs: 0,
                options: plain,
            });
        }
        let (mut augs, mut options) = (AUGS, plain);
        for part in name
            .strip_prefix("CL2L")?
            .split('_')
            .filter(|part| !part.is_empty())
        {
            match part {
                "avg" => options.join = LossAvgOrSum::Avg,
                "sum" => options.join = LossAvgOrSum::Sum,
                "noaug" => augs = 0,
                _ => options.label_smoothing = part.strip_prefix("ls")?.parse().ok()?,
            }
        }
        Some(Self {
            clip: false,
            augs,
            options,
        })
    }
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value.get("world1").is_some() && value.get("h_logit_scale").is_some()
}

/// Embeddings of one rank by name, as leaves that take gradients.
struct Leaves(BTreeMap<String, Tensor>);

impl Leaves {
    fn new(inputs: &Inputs, rank: usize, kindred: &Kindred) -> Result<Self, TchError> {
        let mut names: Vec<String> = if kindred.clip {
            vec!["z_image".into(), "z_text".into()]
        } else {
            vec!["z_image_global".into(), "z_text_global".into()]
        };
        for i in 0..kindred.augs {
            names.extend([format!("h_image_local.{i}"), format!("h_text_local.{i}")]);
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

    /// Our form of them.
    fn normalised(&self, kindred: &Kindred) -> Result<Normalised, TchError> {
        let leaf = |name: &str| {
            let lacking = || TchError::TensorNameNotFound(name.to_owned(), "inputs".to_owned());
            self.0
                .get(name)
                .map(Tensor::shallow_clone)
                .ok_or_else(lacking)
        };
        let views = |name: &str| {
            (0..kindred.augs)
                .map(|i| leaf(&format!("{name}.{i}")))
                .collect::<Result<Vec<_>, _>>()
        };
        let (image, text) = if kindred.clip {
            ("z_image", "z_text")
        } else {
            ("z_image_global", "z_text_global")
        };
        Normalised::from_parts(
            &leaf(image)?,
            &leaf(text)?,
            &views("h_image_local")?,
            &views("h_text_local")?,
            &leaf("logit_scale")?,
            &leaf("h_logit_scale")?,
        )
    }
}

/// Compares every case at every world size; cases of children that this version lacks are skipped by
/// name.
///
/// # Errors
/// If the file is of another format.
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
            .collect::<std::collections::BTreeSet<_>>()
        {
            let Some(kindred) = Kindred::parse(case) else {
                report.skip(case, "its loss is not in this version");
                continue;
            };
            world(&mut report, &inputs, case, &kindred, &ranks).map_err(|e| e.to_string())?;
        }
        groups.push(Group {
            name: name.clone(),
            report,
        });
    }
    Ok(groups)
}

/// One case on all ranks of a world, gathered within this process.
fn world(
    report: &mut Report,
    inputs: &Inputs,
    name: &str,
    kindred: &Kindred,
    ranks: &[BTreeMap<String, Case>],
) -> Result<(), TchError> {
    let payloads = (0..ranks.len())
        .map(|rank| {
            Leaves::new(inputs, rank, kindred)?
                .normalised(kindred)?
                .payload()?
                .f_detach()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let payloads = Tensor::f_stack(&payloads, 0)?;
    for (rank, cases) in ranks.iter().enumerate() {
        let Some(case) = cases.get(name) else {
            continue;
        };
        let leaves = Leaves::new(inputs, rank, kindred)?;
        let local = leaves.normalised(kindred)?;
        let all = if ranks.len() == 1 {
            Gathered::alone(&local)
        } else {
            Gathered::from_payloads(&payloads)?
        };
        let output = contrastive(&local, &all, rank, kindred.options)?;
        output.total.f_backward()?;
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
