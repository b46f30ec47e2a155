//! What every loss does to embeddings first.

use tch::{Kind, TchError, Tensor};

/// Smallest norm that is divided by, as in torch's `normalize`.
const NORM_EPS: f64 = 1e-12;

/// In float32 at least: half-precision embeddings are cast, others are left as they are.
pub(super) fn widen(x: &Tensor) -> Result<Tensor, TchError> {
    match x.f_kind()? {
        Kind::Half | Kind::BFloat16 => x.f_to_kind(Kind::Float),
        _ => Ok(x.shallow_clone()),
    }
}

/// Divides rows `[B, E]` by their Euclidean norm, in float32 at least.
pub(super) fn normalise(x: &Tensor) -> Result<Tensor, TchError> {
    let x = widen(x)?;
    let norm = x
        .f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?
        .f_clamp_min(NORM_EPS)?;
    x.f_div(&norm)
}

/// The same of every view.
pub(super) fn normalise_all(views: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    views.iter().map(normalise).collect()
}
