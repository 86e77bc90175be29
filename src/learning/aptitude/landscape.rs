//! How much the traits of prompts matter, judged from all deployments together.

use std::collections::BTreeMap;

use super::variance::{Halves, Twice, Variance};
use super::{Aptitude, Cell, FORMS, Half, Traits, key};

/// The largest adjustment, up or down.
pub const MOST_ADJUSTMENT: f64 = 0.25;
/// How many observations of every form the kind's level is worth when a form's difficulty is judged.
const DIFFICULTY_SHRINK: f64 = 10.0;
/// How many standard errors the variance of what forms do to deployments is believed below what was
/// measured. None chooses best where forms matter and worst where they do not.
const FORM_CAUTION: f64 = 0.5;
/// The same for the length. More, as there is but one slope to a deployment to measure it by.
const LENGTH_CAUTION: f64 = 2.0;
/// The least evidence in half a cell that tells anything.
const LEAST_EVIDENCE: f64 = 1.0;
/// The least variation of length that a slope is taken from: about ten prompts an octave apart.
const LEAST_VARIATION: f64 = 10.0;

/// A change to what is believed of a deployment's quality on a kind of task.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Adjustment {
    /// To be added to the quality on the kind, −0.25 to 0.25; 0 without evidence.
    pub mean: f64,
    /// How uncertain the mean is, as a variance; 0 where the kind's own uncertainty says all there is.
    pub variance: f64,
    /// Observations of this form of asking behind it, older ones counting less; 0 on kinds where traits
    /// do not matter.
    pub evidence: f64,
}

/// What holds of a kind for every deployment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ground {
    /// How far the rewards on a form lie from the level of whoever answers.
    difficulty: [f64; FORMS],
    /// How far deployments differ on a form, past level and difficulty.
    form: Variance,
    /// What each doubling of the length changes for everyone.
    slope: f64,
    /// How far deployments differ in that.
    length: Variance,
}

/// How much the traits of prompts matter on each kind of task: derived from the aptitudes of all
/// deployments now and then, off the way of a query, and not kept on disk. The default adjusts nothing.
///
/// An empirical Bayes estimate: B. Efron and C. Morris, "Data analysis using Stein's estimator and its
/// generalizations", 1975. The variances come from split halves of the evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Landscape {
    grounds: BTreeMap<u16, Ground>,
}

impl Landscape {
    /// Judges each kind of task that at least two deployments have evidence on.
    pub fn fit<'a>(aptitudes: impl IntoIterator<Item = &'a Aptitude>) -> Self {
        let mut by_kind: BTreeMap<u16, Vec<&[Half; 2]>> = BTreeMap::new();
        for aptitude in aptitudes {
            for (key, kind) in &aptitude.kinds {
                by_kind.entry(*key).or_default().push(&kind.halves);
            }
        }
        let judge = |(key, all): (u16, Vec<_>)| ground(&all).map(|ground| (key, ground));
        Self {
            grounds: by_kind.into_iter().filter_map(judge).collect(),
        }
    }

    /// What a prompt's form of asking changes in a deployment's quality on the kind.
    ///
    /// With the deployment's mean m on the kind and the form's difficulty d, its n observations on the
    /// form that sum to s are believed by (s − n·(m + d)) / (n + k), where k is the ratio of the
    /// variance of single rewards to that of true effects.
    pub fn adjustment(&self, aptitude: &Aptitude, kind: Option<u16>, traits: Traits) -> Adjustment {
        self.sum(aptitude, kind, traits, false)
    }

    /// The same with what the prompt's length changes added: the slope of the deployment's rewards over
    /// the length, past the slope of all, believed likewise, its evidence being the variation of length.
    ///
    /// It makes the quality more exact, and tells well which prompts of a kind are worth a stronger
    /// deployment; among many deployments of nearly the same quality the choice gains nothing by it.
    pub fn adjustment_with_length(
        &self,
        aptitude: &Aptitude,
        kind: Option<u16>,
        traits: Traits,
    ) -> Adjustment {
        self.sum(aptitude, kind, traits, true)
    }

    fn sum(
        &self,
        aptitude: &Aptitude,
        kind: Option<u16>,
        traits: Traits,
        long: bool,
    ) -> Adjustment {
        let key = key(kind);
        let matters =
            |ground: &&Ground| ground.form.spread > 0.0 || long && ground.length.spread > 0.0;
        let Some(ground) = self.grounds.get(&key).filter(matters) else {
            return Adjustment::default();
        };
        let Some(whole) = aptitude.whole(key) else {
            return Adjustment::default();
        };
        let mut adjustment = ground.by_form(&whole, traits);
        if long {
            let length = ground.by_length(&whole, traits);
            adjustment.mean += length.mean;
            adjustment.variance += length.variance;
        }
        adjustment.mean = adjustment.mean.clamp(-MOST_ADJUSTMENT, MOST_ADJUSTMENT);
        adjustment
    }

    /// The standard deviations of true effects on a kind, as far as they are sure: of a form of asking,
    /// and of a doubling of the length. 0 where that does not matter.
    pub fn spread(&self, kind: Option<u16>) -> (f64, f64) {
        self.grounds.get(&key(kind)).map_or((0.0, 0.0), |ground| {
            (ground.form.spread.sqrt(), ground.length.spread.sqrt())
        })
    }
}

impl Ground {
    fn by_form(&self, whole: &Half, traits: Traits) -> Adjustment {
        let place = traits.form() as usize;
        let (Some(level), Some(cell), Some(difficulty)) = (
            level(whole),
            whole.forms.get(place),
            self.difficulty.get(place),
        ) else {
            return Adjustment::default();
        };
        let (sum, weight) = numbers(*cell);
        let mut adjustment = Adjustment {
            evidence: weight,
            ..Adjustment::default()
        };
        if self.form.spread > 0.0 {
            let worth = weight + self.form.shrink();
            adjustment.mean = (sum - weight * (level + difficulty)) / worth;
            adjustment.variance = self.form.noise / worth;
        }
        adjustment
    }

    fn by_length(&self, whole: &Half, traits: Traits) -> Adjustment {
        let weight = f64::from(whole.total().weight);
        if self.length.spread <= 0.0 || weight <= 0.0 {
            return Adjustment::default();
        }
        let (variation, covariation) = whole.variation();
        let worth = variation + self.length.shrink();
        let far = traits.length() - f64::from(whole.length[0]) / weight;
        Adjustment {
            mean: (covariation - variation * self.slope) / worth * far,
            variance: self.length.noise / worth * far * far,
            evidence: weight,
        }
    }
}

fn ground(all: &[&[Half; 2]]) -> Option<Ground> {
    let known: Vec<(f64, &[Half; 2])> = all
        .iter()
        .filter_map(|halves| Some((level(&halves[0].plus(&halves[1]))?, *halves)))
        .collect();
    if known.len() < 2 {
        return None;
    }
    let mut difficulty = [0.0; FORMS];
    let mut forms = Halves::default();
    for (place, shared) in difficulty.iter_mut().enumerate() {
        let (mut past, mut evidence) = (0.0, DIFFICULTY_SHRINK);
        let mut effects: Vec<Twice> = Vec::with_capacity(known.len());
        for (level, halves) in &known {
            let twice = halves.map(|half| {
                let (sum, weight) = numbers(half.forms.get(place).copied().unwrap_or_default());
                past += sum - weight * level;
                evidence += weight;
                (
                    if weight > 0.0 {
                        sum / weight - level
                    } else {
                        0.0
                    },
                    weight,
                )
            });
            effects.push(twice);
        }
        *shared = past / evidence;
        forms.add(&effects, LEAST_EVIDENCE);
    }
    let mut lengths = Halves::default();
    let slopes: Vec<Twice> = known
        .iter()
        .map(|(_, halves)| {
            halves.map(|half| {
                let (variation, covariation) = half.variation();
                (
                    if variation > 0.0 {
                        covariation / variation
                    } else {
                        0.0
                    },
                    variation,
                )
            })
        })
        .collect();
    lengths.add(&slopes, LEAST_VARIATION);
    let add = |(sum, total): (f64, f64), (slope, variation): &(f64, f64)| {
        (sum + slope * variation, total + variation)
    };
    let (sum, total) = slopes.as_flattened().iter().fold((0.0, 0.0), add);
    Some(Ground {
        difficulty,
        form: forms.variance(FORM_CAUTION),
        slope: sum / total.max(LEAST_VARIATION),
        length: lengths.variance(LENGTH_CAUTION),
    })
}

/// A deployment's mean reward on a kind; `None` without evidence.
fn level(whole: &Half) -> Option<f64> {
    let (sum, weight) = numbers(whole.total());
    (weight > 0.0).then(|| sum / weight)
}

fn numbers(cell: Cell) -> (f64, f64) {
    (f64::from(cell.sum), f64::from(cell.weight))
}
