//! L-BFGS (Liu and Nocedal 1989) for smooth convex functions, with a backtracking line search that ensures
//! sufficient decrease. Deterministic: the same function and start give the same steps.

use std::collections::VecDeque;

use tch::{Kind, Tensor};

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest element of the gradient at the minimum.
    pub gradient: f64,
    /// Steps at most.
    pub steps: usize,
}

/// Pairs of steps and changes of the gradient that are kept.
const HISTORY: usize = 10;
/// Share of the linear decrease that a step must bring (Armijo).
const DECREASE: f64 = 1e-4;

/// Where the search ended.
#[derive(Debug)]
pub struct Minimum {
    /// The point, as the start was shaped.
    pub at: Tensor,
    /// Largest element of the gradient there.
    pub gradient: f64,
    /// Steps that were made.
    pub steps: usize,
}

/// Minimises from `start`; `function` gives value and gradient at a point.
pub fn minimise(
    start: &Tensor,
    limits: Limits,
    mut function: impl FnMut(&Tensor) -> (f64, Tensor),
) -> Minimum {
    let mut at = start.copy();
    let (mut value, mut gradient) = function(&at);
    let mut kept: VecDeque<(Tensor, Tensor, f64)> = VecDeque::new();
    let mut steps = 0;
    while steps < limits.steps && largest(&gradient) > limits.gradient {
        let mut direction = -two_loops(&gradient, &kept);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoilt the history: begin anew, downhill.
            kept.clear();
            direction = -gradient.copy();
            slope = -dot(&gradient, &gradient);
        }
        // The first step has no scale of its own yet.
        let mut length = if kept.is_empty() {
            (1.0 / largest(&gradient).max(1e-30)).min(1.0)
        } else {
            1.0
        };
        let step = loop {
            let next = &at + &direction * length;
            let (next_value, next_gradient) = function(&next);
            if next_value <= value + DECREASE * length * slope {
                break Some((next, next_value, next_gradient));
            }
            length *= 0.5;
            if length < 1e-12 {
                break None;
            }
        };
        // No point along the way is lower: the minimum, as far as rounding lets it be seen.
        let Some((next, next_value, next_gradient)) = step else {
            break;
        };
        let (moved, turned) = (&next - &at, &next_gradient - &gradient);
        let curvature = dot(&moved, &turned);
        if curvature > 1e-10 * dot(&turned, &turned) {
            if kept.len() == HISTORY {
                kept.pop_front();
            }
            kept.push_back((moved, turned, curvature));
        }
        (at, value, gradient) = (next, next_value, next_gradient);
        steps += 1;
    }
    Minimum {
        gradient: largest(&gradient),
        at,
        steps,
    }
}

/// The inverse Hessian, as the history has it, times the gradient.
fn two_loops(gradient: &Tensor, kept: &VecDeque<(Tensor, Tensor, f64)>) -> Tensor {
    let mut q = gradient.copy();
    let mut weights = Vec::with_capacity(kept.len());
    for (moved, turned, curvature) in kept.iter().rev() {
        let weight = dot(moved, &q) / curvature;
        q -= turned * weight;
        weights.push(weight);
    }
    if let Some((_, turned, curvature)) = kept.back() {
        q *= *curvature / dot(turned, turned);
    }
    for ((moved, turned, curvature), weight) in kept.iter().zip(weights.into_iter().rev()) {
        let back = dot(turned, &q) / curvature;
        q += moved * (weight - back);
    }
    q
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum(Kind::Double).double_value(&[])
}

fn largest(values: &Tensor) -> f64 {
    values.abs().max().double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_minimum_of_a_narrow_valley_is_found() {
        // Rosenbrock's function is not convex, which makes it a hard case: the minimum is at (1, 1).
        let start = Tensor::from_slice(&[-1.2_f64, 1.0]);
        let limits = Limits {
            gradient: 1e-9,
            steps: 500,
        };
        let found = minimise(&start, limits, |at| {
            let (x, y) = (at.double_value(&[0]), at.double_value(&[1]));
            let value = (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2);
            let gradient = [
                -2.0 * (1.0 - x) - 400.0 * x * (y - x * x),
                200.0 * (y - x * x),
            ];
            (value, Tensor::from_slice(&gradient).to_device(Device::Cpu))
        });
        for i in 0..2 {
            assert!(
                (found.at.double_value(&[i]) - 1.0).abs() < 1e-8,
                "{found:?}"
            );
        }
        assert!(found.steps < 100, "{}", found.steps);
    }
}
