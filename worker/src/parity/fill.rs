//! Values by formula, so that golden files need not carry weights or images.

use tch::{Kind, TchError, Tensor};

use crate::model::Registry;

/// `n` values in [-1, 1) that depend on a name alone: splitmix64 over (crc32 of the name, index).
pub fn hash_values(name: &str, n: usize) -> impl Iterator<Item = f64> {
    let start = u64::from(crc32fast::hash(name.as_bytes())) << 32;
    (0..n as u64).map(move |i| {
        let mut z = start.wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

/// The value of a weight out of a hash value, by the first rule that fits its name and shape; `None`
/// for what keeps its first value (scalars, counters, weight-norm gains).
fn rule(name: &str, shape: &[i64]) -> Option<Box<dyn Fn(f64) -> f64>> {
    if shape.is_empty() || name.ends_with("weight_g") {
        return None;
    }
    if name.ends_with("running_mean") {
        return Some(Box::new(|v| 0.05 * v));
    }
    if name.ends_with("running_var") {
        return Some(Box::new(|v| 1.0 + 0.1 * v.abs()));
    }
    if shape.len() >= 2 {
        let fan_in: i64 = shape[1..].iter().product();
        let root = (fan_in as f64).sqrt();
        return Some(Box::new(move |v| v / root));
    }
    if name.ends_with("bias") {
        return Some(Box::new(|v| 0.02 * v));
    }
    Some(Box::new(|v| 1.0 + 0.1 * v))
}

/// Fills every tensor of a model, rounded to float32 whatever the model's kind. A tied tensor is filled
/// under its first name.
///
/// # Errors
/// If torch fails.
pub fn weights(registry: &Registry) -> Result<(), TchError> {
    let _guard = tch::no_grad_guard();
    for entry in registry.entries() {
        let shape = entry.tensor.size();
        let Some(rule) = rule(&entry.name, &shape) else {
            continue;
        };
        let values = hash_values(&entry.name, entry.tensor.numel());
        let values: Vec<f32> = values.map(|v| rule(v) as f32).collect();
        entry
            .tensor
            .shallow_clone()
            .f_copy_(&Tensor::f_from_slice(&values)?.f_view(&*shape)?)?;
    }
    Ok(())
}

/// A batch of images `[b, 3, side, side]`: a grid of 14 x 14 cells per channel.
///
/// # Errors
/// If torch fails.
pub fn images(name: &str, b: i64, side: i64, kind: Kind) -> Result<Tensor, TchError> {
    const CELLS: i64 = 14;
    let n = usize::try_from(b * 3 * CELLS * CELLS).unwrap_or(0);
    let values: Vec<f32> = hash_values(name, n).map(|v| (1.5 * v) as f32).collect();
    let cell = side / CELLS;
    Tensor::f_from_slice(&values)?
        .f_to_kind(kind)?
        .f_view([b, 3, CELLS, 1, CELLS, 1])?
        .f_expand([b, 3, CELLS, cell, CELLS, cell], false)?
        .f_reshape([b, 3, CELLS * cell, CELLS * cell])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first value for `image_global`, worked out by hand from the formula.
    #[test]
    fn hash_values_follow_the_formula() {
        let values: Vec<f64> = hash_values("image_global", 4).collect();
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        assert_eq!(
            values,
            hash_values("image_global", 9).take(4).collect::<Vec<_>>()
        );
        assert_ne!(values, hash_values("image_local_0", 4).collect::<Vec<_>>());
    }
}
