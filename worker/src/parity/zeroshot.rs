//! Zero-shot evaluation recorded from the original: embeddings of images and classes, their
//! similarities and the predictions of every head.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::golden::read_tensors;
use super::recipe::Recipe;
use super::report::Report;
use super::{Group, Source, fill, run};
use crate::eval::labels::Template;
use crate::eval::zeroshot::Similarities;
use crate::eval::{Classifier, Encoder, Head, Heads, Prompts, Shard, tokenizer};
use crate::values::to_vec;

/// Tolerance of float32 values, relative to the root mean square of their tensor.
const TOLERANCE: f64 = 1e-4;
/// Tolerance of similarities that are computed from recorded embeddings, one product away.
const TOLERANCE_PRODUCT: f64 = 2e-6;

/// The JSON of a golden.
#[derive(Debug, Deserialize)]
struct Golden {
    /// Flags of the original's command line.
    argv: Vec<String>,
    /// How weights are filled.
    variant: String,
    /// How images are made: `image('<name>',<count>)`.
    images: String,
    datasets: BTreeMap<String, Dataset>,
}

#[derive(Debug, Deserialize)]
struct Dataset {
    n_labels: usize,
    n_templates: usize,
    labels: Vec<Label>,
    templates: Vec<String>,
    tokens_first_label: Vec<Vec<i64>>,
    z_sim: Vec<Vec<f64>>,
    h_sim: Option<Vec<Vec<f64>>>,
    pred: BTreeMap<String, Vec<i64>>,
    class_cos_z: Option<Vec<Vec<f64>>>,
}

/// A class name, or its synonyms.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Label {
    One(String),
    Several(Vec<String>),
}

impl Label {
    fn names(&self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::Several(names) => names.clone(),
        }
    }
}

/// Tokens of a text.
type Tokenize<'a> = &'a dyn Fn(&str) -> Vec<i64>;

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value.get("datasets").is_some() && value.get("argv").is_some()
}

/// Checks a golden file and the tensors beside it.
///
/// # Errors
/// The files are not of this format, or ask for what this version does not have.
pub fn check(source: &Source) -> Result<Vec<Group>, String> {
    let golden = Golden::deserialize(&source.value).map_err(|error| error.to_string())?;
    if golden.variant != "hash" {
        return Err(format!(
            "the fill '{}' is not in this version",
            golden.variant
        ));
    }
    let mut flags = golden.argv.clone();
    let at = flags
        .iter()
        .position(|flag| flag == "--model")
        .filter(|at| at + 1 < flags.len());
    let at = at.ok_or("'argv' names no --model")?;
    let name = flags.drain(at..at + 2).nth(1).unwrap_or_default();
    let tensors = read_tensors(&source.path.with_extension("safetensors"))?;
    let recipe = Recipe::parse(&name, &flags, Kind::Float)?;
    let model = run::build(&recipe).map_err(|error| error.to_string())?;
    let (images, count) = golden.image_recipe()?;
    let side = model.vision_size().image_size();
    let images = fill::images(&images, count, side, Kind::Float).map_err(|e| e.to_string())?;
    let tokenize = tokenizer();

    let encoded = tch::no_grad(|| Encoder::encode_image(&model, &images));
    let encoded = encoded.map_err(|error| error.to_string())?;
    let recorded = Heads {
        z: tensor(&tensors, "image/z_image")?,
        h: tensors.get("image/h_image").map(Tensor::shallow_clone),
    };
    let mut report = Report::default();
    compare(&mut report, "image/z_image", &encoded.z, &recorded.z);
    if let (Some(got), Some(want)) = (&encoded.h, &recorded.h) {
        compare(&mut report, "image/h_image", got, want);
    }
    report.equal(
        "image/h_image exists",
        encoded.h.is_some(),
        recorded.h.is_some(),
    );
    let mut groups = vec![Group {
        name: "images".to_owned(),
        report,
    }];
    for (name, data) in &golden.datasets {
        let mut report = Report::default();
        check_recorded(&mut report, name, data, &tensors, &recorded)?;
        groups.push(Group {
            name: format!("{name}, from recorded embeddings"),
            report,
        });
        let mut report = Report::default();
        check_model(
            &mut report,
            name,
            data,
            &tensors,
            (&model, &tokenize),
            &encoded,
        )?;
        groups.push(Group {
            name: format!("{name}, from texts and images"),
            report,
        });
    }
    Ok(groups)
}

impl Golden {
    /// Name and number of the images.
    fn image_recipe(&self) -> Result<(String, i64), String> {
        let inner = self
            .images
            .strip_prefix("image(")
            .and_then(|s| s.strip_suffix(')'));
        inner
            .and_then(|inner| inner.split_once(','))
            .and_then(|(name, count)| {
                let name = name.trim().trim_matches('\'').to_owned();
                Some((name, count.trim().parse().ok()?))
            })
            .ok_or_else(|| format!("the images '{}' are not understood", self.images))
    }
}

/// From the recorded embeddings to similarities and predictions: no model in between.
fn check_recorded(
    report: &mut Report,
    name: &str,
    data: &Dataset,
    tensors: &BTreeMap<String, Tensor>,
    images: &Heads,
) -> Result<(), String> {
    let classifier = Classifier {
        z: tensor(tensors, &format!("{name}/z_text"))?,
        h: tensors
            .get(&format!("{name}/h_text"))
            .map(Tensor::shallow_clone),
    };
    report.equal(
        &format!("{name}/n_labels"),
        data.labels.len(),
        data.n_labels,
    );
    report.equal(
        &format!("{name}/n_templates"),
        data.templates.len(),
        data.n_templates,
    );
    report.equal(
        &format!("{name}/classes"),
        classifier.z.size()[0],
        data.n_labels as i64,
    );
    if let Some(want) = &data.class_cos_z {
        let cosines = classifier.z.matmul(&classifier.z.tr());
        let label = format!("{name}/class_cos_z");
        values(report, &label, &cosines, want, TOLERANCE_PRODUCT)?;
    }
    let found = Similarities::new(images, &classifier, name).map_err(|e| e.to_string())?;
    for (head, key, rows) in similarity_rows(data) {
        let label = format!("recorded {name}/{key}");
        values(report, &label, &found.of(head), rows, TOLERANCE_PRODUCT)?;
        let stored = tensor(tensors, &format!("{name}/{key}"))?;
        values(
            report,
            &format!("{label} stored"),
            &stored,
            rows,
            TOLERANCE_PRODUCT,
        )?;
    }
    // Predictions follow from the recorded similarities exactly.
    let recorded = Similarities {
        z: tensor(tensors, &format!("{name}/z_sim"))?,
        h: tensors
            .get(&format!("{name}/h_sim"))
            .map(Tensor::shallow_clone),
    };
    let heads = Head::of(recorded.h.is_some());
    report.equal(&format!("{name}/heads"), heads.len(), data.pred.len());
    for head in heads {
        let best = recorded.of(head).argmax(1, false);
        for (i, (got, want)) in to_vec::<i64>(&best)
            .into_iter()
            .zip(predictions(data, head)?)
            .enumerate()
        {
            report.equal(
                &format!("recorded {name}/pred/{}[{i}]", head.name()),
                got,
                *want,
            );
        }
    }
    Ok(())
}

/// From texts and images through the model to similarities and predictions.
fn check_model(
    report: &mut Report,
    name: &str,
    data: &Dataset,
    tensors: &BTreeMap<String, Tensor>,
    (model, tokenize): (&dyn Encoder, Tokenize),
    images: &Heads,
) -> Result<(), String> {
    let templates: Vec<Template> = data
        .templates
        .iter()
        .map(|text| Template::parse(text))
        .collect::<Result<_, _>>()?;
    let labels: Vec<Vec<String>> = data.labels.iter().map(Label::names).collect();
    let prompts = Prompts::new(&labels, &templates);
    let first = prompts.by_class.first().map_or(&[][..], Vec::as_slice);
    report.equal(
        &format!("{name}/tokens"),
        data.tokens_first_label.len(),
        first.len(),
    );
    for (i, (text, want)) in first.iter().zip(&data.tokens_first_label).enumerate() {
        let got = tokenize(text);
        let at = (0..got.len().max(want.len())).find(|&k| got.get(k) != want.get(k));
        let at = at.map_or_else(|| "equal".to_owned(), |k| format!("differ at {k}"));
        report.equal(&format!("{name}/tokens[{i}]"), at, "equal".to_owned());
    }

    let classifier = Classifier::new(
        model,
        &prompts,
        tokenize,
        64,
        &Shard::alone(),
        name,
        &mut || ControlFlow::Continue(()),
    )
    .map_err(|error| error.to_string())?;
    let heads = [
        ("z_text", Some(&classifier.z)),
        ("h_text", classifier.h.as_ref()),
    ];
    for (key, got) in heads {
        let name = format!("{name}/{key}");
        match (got, tensors.get(&name)) {
            (Some(got), Some(want)) => compare(report, &name, got, want),
            (got, want) => report.equal(&format!("{name} exists"), got.is_some(), want.is_some()),
        }
    }
    let found = Similarities::new(images, &classifier, name).map_err(|e| e.to_string())?;
    for (head, key, rows) in similarity_rows(data) {
        values(
            report,
            &format!("{name}/{key}"),
            &found.of(head),
            rows,
            TOLERANCE,
        )?;
    }
    for head in Head::of(found.h.is_some()) {
        let similarity = found.of(head);
        let best = to_vec::<i64>(&similarity.argmax(1, false));
        for (i, (got, want)) in best.into_iter().zip(predictions(data, head)?).enumerate() {
            let label = format!("{name}/pred/{}[{i}]", head.name());
            // Classes nearer to each other than rounding may change places.
            let at = |class: i64| similarity.double_value(&[i as i64, class]);
            let near = *want >= 0 && *want < similarity.size()[1] && at(got) - at(*want) < 1e-6;
            if got != *want && near {
                report.skip(&label, "its two best classes are equal but for rounding");
            } else {
                report.equal(&label, got, *want);
            }
        }
    }
    Ok(())
}

fn similarity_rows(data: &Dataset) -> Vec<(Head, &'static str, &Vec<Vec<f64>>)> {
    let h = data.h_sim.iter().map(|rows| (Head::H, "h_sim", rows));
    std::iter::once((Head::Z, "z_sim", &data.z_sim))
        .chain(h)
        .collect()
}

fn predictions(data: &Dataset, head: Head) -> Result<&Vec<i64>, String> {
    let key = match head {
        Head::Z => "z_sim".to_owned(),
        Head::H => "h_sim".to_owned(),
        Head::Mix(_) => head.name(),
    };
    data.pred
        .get(&key)
        .ok_or_else(|| format!("'pred' has no '{key}'"))
}

fn tensor(tensors: &BTreeMap<String, Tensor>, name: &str) -> Result<Tensor, String> {
    let found = tensors
        .get(name)
        .ok_or_else(|| format!("the safetensors file has no '{name}'"))?;
    Ok(found.shallow_clone())
}

/// Compares a table with one written in JSON, each value on its own.
fn values(
    report: &mut Report,
    name: &str,
    got: &Tensor,
    want: &[Vec<f64>],
    tolerance: f64,
) -> Result<(), String> {
    let (rows, columns) = got.size2().map_err(|error| error.to_string())?;
    if want.len() as i64 != rows || want.iter().any(|row| row.len() as i64 != columns) {
        report.equal(
            name,
            format!("{} rows", want.len()),
            format!("{rows} x {columns}"),
        );
        return Ok(());
    }
    let all: Vec<f64> = want.concat();
    let rms = (all.iter().map(|v| v * v).sum::<f64>() / all.len().max(1) as f64).sqrt();
    for (k, (got, want)) in to_vec::<f64>(got).into_iter().zip(all).enumerate() {
        let place = format!("{name}[{}][{}]", k as i64 / columns, k as i64 % columns);
        report.close(&place, got, want, tolerance * rms);
    }
    Ok(())
}

/// Compares two tensors, each value on its own.
fn compare(report: &mut Report, name: &str, got: &Tensor, want: &Tensor) {
    if got.size() != want.size() {
        report.equal(
            name,
            format!("{:?}", got.size()),
            format!("{:?}", want.size()),
        );
        return;
    }
    let want = to_vec::<f64>(want);
    let rms = (want.iter().map(|v| v * v).sum::<f64>() / want.len().max(1) as f64).sqrt();
    for (k, (got, want)) in to_vec::<f64>(got).into_iter().zip(want).enumerate() {
        report.close(&format!("{name}[{k}]"), got, want, TOLERANCE * rms);
    }
}
