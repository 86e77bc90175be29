//! Telling what is true of deployments from what is chance.

/// No effect is believed faster than this much evidence allows.
const LEAST_SHRINK: f64 = 20.0;
/// Variance of single rewards below which there is nothing to tell.
const LEAST_NOISE: f64 = 1e-4;

/// One effect of one deployment, measured twice: value and evidence in either half.
pub(super) type Twice = [(f64, f64); 2];

/// Effects that differ between deployments: how much truly, how much by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Variance {
    /// The variance of true effects.
    pub(super) spread: f64,
    /// The variance of one observation around them.
    pub(super) noise: f64,
}

impl Variance {
    /// How much evidence the belief that there is no effect is worth.
    pub(super) fn shrink(self) -> f64 {
        (self.noise / self.spread).max(LEAST_SHRINK)
    }
}

/// Sums over effects measured twice. An effect that is real shows in both halves of the evidence,
/// chance does not (C. Spearman, "Correlation calculated from faulty data", 1910). What deployments
/// share, be it difficulty or the very same prompts, is taken out half by half first, so deployments
/// that err together need no model of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Halves {
    agree: f64,
    differ: f64,
    chance: f64,
    total: f64,
    freedom: f64,
}

impl Halves {
    /// Takes in one effect of several deployments. Deployments with less than `least` evidence in a
    /// half are left out, since their values say next to nothing.
    pub(super) fn add(&mut self, deployments: &[Twice], least: f64) {
        let told = |twice: &&Twice| twice.iter().all(|(_, evidence)| *evidence >= least);
        let told: Vec<&Twice> = deployments.iter().filter(told).collect();
        if told.len() < 2 {
            return;
        }
        let shared = |which: fn(&Twice) -> (f64, f64)| {
            let add = |(sum, total): (f64, f64), (value, evidence): (f64, f64)| {
                (sum + value * evidence, total + evidence)
            };
            let (sum, total) = told.iter().map(|twice| which(twice)).fold((0.0, 0.0), add);
            sum / total
        };
        let (left, right) = (shared(|twice| twice[0]), shared(|twice| twice[1]));
        // Taking the shared part out of few deployments takes out some of what is their own.
        let count = told.len() as f64;
        let own = count / (count - 1.0);
        for [(a, n), (b, m)] in told {
            let (a, b) = (a - left, b - right);
            let weight = n * m / (n + m);
            self.agree += own * weight * a * b;
            self.differ += weight * (a - b) * (a - b);
            self.chance += own * weight * weight / (n * m);
            self.total += weight;
        }
        self.freedom += count - 1.0;
    }

    /// What follows; no spread at all without evidence. The variance of true effects is believed
    /// `caution` standard errors below what was measured, so that chance alone seldom moves a choice.
    pub(super) fn variance(&self, caution: f64) -> Variance {
        if self.total <= 0.0 || self.freedom <= 0.0 {
            return Variance::default();
        }
        let noise = (self.differ / self.freedom).max(LEAST_NOISE);
        let error = noise * self.chance.sqrt() / self.total;
        Variance {
            spread: (self.agree / self.total - caution * error).max(0.0),
            noise,
        }
    }
}
