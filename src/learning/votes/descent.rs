//! Minimises a smooth function of many variables: limited-memory BFGS (J. Nocedal, "Updating
//! Quasi-Newton Matrices with Limited Storage", 1980) with a backtracking line search.

use std::collections::VecDeque;

/// How many past steps shape the direction of the next.
const MEMORY: usize = 8;
/// Sufficient decrease of a step, as a share of what the slope promises (L. Armijo, 1966).
const ARMIJO: f64 = 1e-4;
/// A step halved this often and still no better is the end.
const HALVINGS: usize = 25;

/// Walks from `start` to a minimum, at most `steps` steps. `function` writes the gradient into its second
/// argument and returns the value. Deterministic; where the function is not finite it does not go.
pub(super) fn minimise(
    start: Vec<f64>,
    steps: usize,
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Vec<f64> {
    let size = start.len();
    let mut at = start;
    let mut slope = vec![0.0; size];
    let mut value = function(&at, &mut slope);
    let mut past: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..steps {
        let mut direction = direction(&slope, &past);
        let mut descent = dot(&direction, &slope);
        if descent >= 0.0 || !descent.is_finite() {
            past.clear();
            direction = slope.iter().map(|g| -g).collect();
            descent = dot(&direction, &slope);
        }
        if descent > -1e-12 {
            break;
        }
        let longest = direction.iter().fold(0.0f64, |a, d| a.max(d.abs()));
        // The first step knows no scale.
        let mut length = if past.is_empty() {
            (0.5 / longest).min(1.0)
        } else {
            (4.0 / longest).min(1.0)
        };
        let mut next = vec![0.0; size];
        let mut next_slope = vec![0.0; size];
        let mut found = None;
        for _ in 0..HALVINGS {
            for ((n, a), d) in next.iter_mut().zip(&at).zip(&direction) {
                *n = a + length * d;
            }
            let v = function(&next, &mut next_slope);
            if v.is_finite() && v <= value + ARMIJO * length * descent {
                found = Some(v);
                break;
            }
            length *= 0.5;
        }
        let Some(better) = found else { break };
        let step: Vec<f64> = next.iter().zip(&at).map(|(n, a)| n - a).collect();
        let bend: Vec<f64> = next_slope.iter().zip(&slope).map(|(n, a)| n - a).collect();
        let curvature = dot(&step, &bend);
        if curvature > 1e-10 {
            if past.len() == MEMORY {
                past.pop_front();
            }
            past.push_back((step, bend, 1.0 / curvature));
        }
        let progress = value - better;
        at = next;
        slope = next_slope;
        value = better;
        if progress < 1e-7 * (1.0 + value.abs()) {
            break;
        }
    }
    at
}

/// The two-loop recursion.
fn direction(slope: &[f64], past: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = slope.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(past.len());
    for (step, bend, rho) in past.iter().rev() {
        let alpha = rho * dot(step, &q);
        add(&mut q, bend, -alpha);
        alphas.push(alpha);
    }
    if let Some((step, bend, _)) = past.back() {
        let scale = dot(step, bend) / dot(bend, bend).max(1e-300);
        q.iter_mut().for_each(|x| *x *= scale);
    }
    for ((step, bend, rho), alpha) in past.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(bend, &q);
        add(&mut q, step, alpha - beta);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add(to: &mut [f64], what: &[f64], times: f64) {
    for (t, w) in to.iter_mut().zip(what) {
        *t += times * w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bent_valley_is_walked_to_its_lowest_point() {
        let least = minimise(vec![-1.2, 1.0], 500, |x, g| {
            let (a, b) = (x[0], x[1]);
            g[0] = -2.0 * (1.0 - a) - 400.0 * a * (b - a * a);
            g[1] = 200.0 * (b - a * a);
            (1.0 - a).powi(2) + 100.0 * (b - a * a).powi(2)
        });
        assert!(
            (least[0] - 1.0).abs() < 1e-2 && (least[1] - 1.0).abs() < 1e-2,
            "{least:?}"
        );
    }

    #[test]
    fn a_function_that_is_not_finite_ends_where_it_began() {
        assert_eq!(minimise(vec![1.0], 10, |_, _| f64::NAN), vec![1.0]);
    }
}
