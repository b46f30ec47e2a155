//! One model's layers against recorded ones: which is the first that differs.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use crate::model::{Encoded, Error, Model, trace};

/// Inputs in a recording; every other tensor is a layer's output.
pub const INPUTS: [&str; 2] = ["image", "tokens"];

/// Tensors by name.
pub type Recording = BTreeMap<String, Tensor>;

/// One layer's output, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Module path of the reference.
    pub name: String,
    /// Norm of the difference over the recorded norm; `None` where the shapes do not fit.
    pub deviation: Option<f64>,
    /// Our shape and the recorded one.
    pub shapes: (Vec<i64>, Vec<i64>),
}

/// Every layer that both sides have, in the order in which they are computed: the image's, then the text's.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Those layers.
    pub layers: Vec<Layer>,
    /// Layers of the recording that this model does not tell of.
    pub left_out: usize,
    tolerance: f64,
}

impl Comparison {
    /// Whether a layer differs by more than is tolerated; NaN does.
    #[must_use]
    pub fn differs(&self, layer: &Layer) -> bool {
        !layer.deviation.is_some_and(|share| share <= self.tolerance)
    }

    /// The first layer that differs.
    #[must_use]
    pub fn first(&self) -> Option<&Layer> {
        self.layers.iter().find(|layer| self.differs(layer))
    }

    /// The layer that deviates most.
    #[must_use]
    pub fn worst(&self) -> Option<&Layer> {
        let rank = |layer: &&Layer| match layer.deviation {
            Some(share) if !share.is_nan() => share,
            _ => f64::INFINITY,
        };
        self.layers
            .iter()
            .max_by(|a, b| rank(a).total_cmp(&rank(b)))
    }
}

/// What the model's layers give in evaluation mode on the recording's `image` `[N, 3, H, W]` and `tokens`
/// `[N, 77]`, in the order in which they are computed.
///
/// # Errors
/// If there is neither input, one does not fit the model, or torch fails.
pub fn layers(model: &Model, inputs: &Recording) -> Result<Vec<(String, Tensor)>, Error> {
    let [image, tokens] = INPUTS.map(|name| inputs.get(name));
    if image.is_none() && tokens.is_none() {
        return Err(Error::Dimensions(
            "a recording holds its inputs, 'image' and 'tokens'; this one has neither".to_owned(),
        ));
    }
    let mut all = Vec::new();
    let mut tower = |heads: [&str; 3], encode: &dyn Fn() -> Result<Encoded, Error>| {
        let (encoded, told) = trace::listen(|_| true, encode);
        let Encoded { feats, z, h } = encoded?;
        all.extend(told);
        for (name, output) in heads.into_iter().zip([Some(feats), Some(z), h]) {
            all.extend(output.map(|output| (name.to_owned(), output)));
        }
        Ok::<_, Error>(())
    };
    if let Some(image) = image {
        let image = image.f_to_kind(Kind::Float)?;
        tower(
            ["visual", "image_projector", "l2l_image_projector"],
            &|| model.encode_image(&image),
        )?;
    }
    if let Some(tokens) = tokens {
        tower(
            ["ln_final", "text_projector", "l2l_text_projector"],
            &|| model.encode_text(tokens),
        )?;
    }
    Ok(all)
}

/// Compares the model's layers with a recording's; `tolerance` is relative, by norms.
///
/// # Errors
/// As [`layers`], and if the two have no layer in common.
pub fn compare(model: &Model, recording: &Recording, tolerance: f64) -> Result<Comparison, Error> {
    let _guard = tch::no_grad_guard();
    let ours = layers(model, recording)?;
    let mut comparison = Comparison {
        tolerance,
        ..Comparison::default()
    };
    for (name, got) in &ours {
        let Some(want) = recording.get(name) else {
            continue;
        };
        comparison.layers.push(Layer {
            name: name.clone(),
            deviation: deviation(name, got, want, recording.get("tokens"))?,
            shapes: (got.size(), want.size()),
        });
    }
    if comparison.layers.is_empty() {
        return Err(Error::Dimensions(format!(
            "the recording has no layer of this model, whose first is '{}'",
            ours.first().map_or("", |(name, _)| name)
        )));
    }
    comparison.left_out = recording
        .keys()
        .filter(|name| !INPUTS.contains(&name.as_str()))
        .filter(|name| ours.iter().all(|(ours, _)| ours != *name))
        .count();
    Ok(comparison)
}

/// Norm of the difference over the recorded norm, in the recorded layout that fits best.
fn deviation(
    name: &str,
    got: &Tensor,
    want: &Tensor,
    tokens: Option<&Tensor>,
) -> Result<Option<f64>, TchError> {
    let got = got.f_to_kind(Kind::Double)?;
    let want = want.f_to_kind(Kind::Double)?;
    let mut best: Option<f64> = None;
    for want in layouts(name, &got, &want, tokens)? {
        let difference = got.f_sub(&want)?.f_norm()?.f_double_value(&[])?;
        let share = difference / want.f_norm()?.f_double_value(&[])?.max(f64::MIN_POSITIVE);
        best = Some(match best {
            Some(before) if before <= share => before,
            _ => share,
        });
    }
    Ok(best)
}

/// The recorded tensor as this model may lay it out: as it is; with samples before positions (the original's
/// text tower has positions first); with channels last; and, where this model computes one token of each
/// sequence only, that token.
fn layouts(
    name: &str,
    got: &Tensor,
    want: &Tensor,
    tokens: Option<&Tensor>,
) -> Result<Vec<Tensor>, TchError> {
    let mut all = vec![want.shallow_clone()];
    if want.dim() == 3 {
        all.push(want.f_transpose(0, 1)?);
    }
    if want.dim() == 4 {
        all.push(want.f_permute([0, 2, 3, 1])?);
    }
    if want.dim() == 3 && got.dim() == 2 {
        let mut picked = Vec::new();
        for sequences in &all {
            let (n, length, _) = sequences.size3()?;
            let ends = match tokens {
                Some(tokens) if !name.starts_with("visual") => tokens.f_argmax(-1, false)?,
                // The class token.
                _ => Tensor::f_zeros([n], (Kind::Int64, want.device()))?,
            };
            let fits = ends.size() == [n] && i64::try_from(&ends.f_max()?)? < length;
            if fits {
                let rows = Tensor::f_arange(n, (Kind::Int64, want.device()))?;
                picked.push(sequences.f_index(&[Some(rows), Some(ends)])?);
            }
        }
        all.extend(picked);
    }
    all.retain(|want| want.size() == got.size());
    Ok(all)
}
