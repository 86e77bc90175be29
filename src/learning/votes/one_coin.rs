//! The truth behind votes nobody has marked.
//!
//! The one-coin model of A. P. Dawid and A. M. Skene ("Maximum Likelihood Estimation of Observer
//! Error-Rates Using the EM Algorithm", 1979), with three things real models need: questions differ in
//! difficulty (J. Whitehill et al., "Whose Vote Should Count More", 2009; here a normal variable,
//! integrated out on a grid), those who are wrong are often wrong in the same way (a share of them
//! gives one common wrong answer), and who says nothing is taken not to know. Abilities are pooled over
//! kinds of task, and a question whose answer is known holds its place.

use super::{Case, Truth};

/// What questions are like.
#[derive(Clone, Copy)]
struct World {
    /// Standard deviation of a question's difficulty, in log-odds of a right answer.
    spread: f64,
    /// The share of wrong answers that are the common wrong one; `None` where none is more common.
    common: Option<f64>,
}

/// The worlds considered: as alike as in the original model, or as unlike as real ones are.
const WORLDS: [World; 2] = [
    World {
        spread: 0.0,
        common: None,
    },
    World {
        spread: 1.75,
        common: Some(0.6),
    },
];
/// How many answers are thinkable where nothing says.
const ALTERNATIVES: f64 = 10.0;
/// Gauss-Hermite grid of the standard normal, five points: place and weight.
const GRID: [(f64, f64); 5] = [
    (-2.856_970_013_872_8, 0.011_257_411_327_7),
    (-1.355_626_179_974_3, 0.222_075_922_005_6),
    (0.0, 0.533_333_333_333_3),
    (1.355_626_179_974_3, 0.222_075_922_005_6),
    (2.856_970_013_872_8, 0.011_257_411_327_7),
];
/// How much evidence (curvature of log-likelihood) pulls a kind's ability to the overall one.
const POOL: f64 = 3.0;
/// Evidence of the prior ability.
const PRIOR: f64 = 0.3;
/// Rounds of estimation; it starts at the majority.
const STEPS: usize = 20;

/// A question as this sees it.
pub(super) struct Question<'a> {
    pub(super) case: &'a Case,
    pub(super) options: Option<u8>,
    /// The right answer in the case's own numbering.
    pub(super) truth: Truth,
}

/// What was found.
pub(super) struct Found {
    /// Per kind and member, and last for no kind: log-odds of a right answer to a question of usual
    /// difficulty.
    pub(super) ability: Vec<Vec<f64>>,
    /// Per question: how likely each answer is the right one, and last that none is. The mark is not used here.
    pub(super) beliefs: Vec<Vec<f64>>,
    /// Logarithm of how likely the votes were.
    evidence: f64,
}

/// Estimates abilities and beliefs in the world under which the votes are likelier; `prior` is the ability
/// of each member before any vote.
pub(super) fn estimate(questions: &[Question<'_>], kinds: usize, prior: &[f64]) -> Found {
    let [alike, unlike] = WORLDS.map(|world| within(world, questions, kinds, prior));
    // Without evidence, real questions.
    if alike.evidence > unlike.evidence {
        alike
    } else {
        unlike
    }
}

fn within(world: World, questions: &[Question<'_>], kinds: usize, prior: &[f64]) -> Found {
    let members = prior.len();
    let mut ability = vec![prior.to_vec(); kinds + 1];
    let mut beliefs = Vec::with_capacity(questions.len());
    let mut evidence = 0.0;
    for step in 0..=STEPS {
        let last = step == STEPS;
        let mut slope = vec![vec![0.0; members]; kinds + 1];
        let mut bend = vec![vec![0.0; members]; kinds + 1];
        for question in questions {
            let kind = question.case.kind.unwrap_or(kinds).min(kinds);
            let Some(of_kind) = ability.get(kind) else {
                continue;
            };
            let (joint, likely) = joint(world, question, of_kind, step == 0, !last);
            if last {
                evidence += likely;
                beliefs.push(collapse(&joint));
                continue;
            }
            let (Some(slope), Some(bend)) = (slope.get_mut(kind), bend.get_mut(kind)) else {
                continue;
            };
            for (level, (place, _)) in joint.iter().zip(GRID) {
                let weight: f64 = level.iter().sum();
                let mut credit = |member: Option<usize>, right: f64| {
                    let Some(member) = member else { return };
                    let (Some(a), Some(g), Some(h)) = (
                        of_kind.get(member),
                        slope.get_mut(member),
                        bend.get_mut(member),
                    ) else {
                        return;
                    };
                    let p = chance(*a, world.spread * place);
                    *g += right - weight * p;
                    *h += weight * p * (1.0 - p);
                };
                for vote in &question.case.votes {
                    credit(vote.member, level.get(vote.cluster).copied().unwrap_or(0.0));
                }
                for member in &question.case.silent {
                    credit(*member, 0.0);
                }
            }
        }
        if !last {
            climb(&mut ability, &slope, &bend, prior);
        }
    }
    Found {
        ability,
        beliefs,
        evidence,
    }
}

/// One Newton step of each ability, pooled over kinds, and of the overall one.
fn climb(ability: &mut [Vec<f64>], slope: &[Vec<f64>], bend: &[Vec<f64>], prior: &[f64]) {
    for (member, prior) in prior.iter().enumerate() {
        let evidence: Vec<f64> = bend
            .iter()
            .map(|b| b.get(member).copied().unwrap_or(0.0))
            .collect();
        let mut mean = (0.0, 0.0);
        for (own, seen) in ability.iter().zip(&evidence) {
            let share = seen / (seen + POOL);
            mean.0 += share * own.get(member).copied().unwrap_or(*prior);
            mean.1 += share;
        }
        let overall = (mean.0 + 0.1 * prior) / (mean.1 + 0.1);
        for ((own, g), h) in ability.iter_mut().zip(slope).zip(&evidence) {
            let Some(own) = own.get_mut(member) else {
                continue;
            };
            let g = g.get(member).copied().unwrap_or(0.0);
            let pull = g - POOL * (*own - overall) - PRIOR * (*own - prior);
            let next = *own + (pull / (h + POOL + PRIOR)).clamp(-1.0, 1.0);
            *own = if next.is_finite() {
                next.clamp(-4.0, 6.0)
            } else {
                *prior
            };
        }
    }
}

fn chance(ability: f64, ease: f64) -> f64 {
    (1.0 / (1.0 + (-(ability + ease)).exp())).clamp(0.02, 0.995)
}

/// Per level of difficulty and answer (last: none of them), how likely both together; and the logarithm
/// of how likely the votes were.
fn joint(
    world: World,
    question: &Question<'_>,
    ability: &[f64],
    start: bool,
    held: bool,
) -> (Vec<Vec<f64>>, f64) {
    let case = question.case;
    let answers = case.answers;
    let alternatives = question.options.map_or(ALTERNATIVES, f64::from).max(3.0);
    let unseen = (alternatives - answers as f64).max(0.5);
    let share = world.common.unwrap_or(1.0 / (alternatives - 1.0));
    let common = (share * (alternatives - 2.0) / (1.0 - share)).ln();
    let other = ((1.0 - share) / (alternatives - 2.0)).ln();
    let mut count = vec![0.0; answers];
    for vote in &case.votes {
        if let Some(count) = count.get_mut(vote.cluster) {
            *count += 1.0;
        }
    }
    // Which wrong answer is the common one is not known either: a sum over all but the right one.
    let weigh: Vec<f64> = count.iter().map(|n| (common * n).exp()).collect();
    let all: f64 = weigh.iter().sum::<f64>() + unseen;
    let mut levels: Vec<Vec<f64>> = Vec::with_capacity(GRID.len());
    for (place, weight) in GRID {
        let mut wrong = weight.ln();
        let mut scores = vec![0.0; answers + 1];
        for vote in &case.votes {
            let own = vote
                .member
                .and_then(|m| ability.get(m))
                .copied()
                .unwrap_or(0.5);
            let p = chance(own, world.spread * place);
            let miss = (1.0 - p).ln() + other;
            wrong += miss;
            if let Some(score) = scores.get_mut(vote.cluster) {
                *score += p.ln() - miss;
            }
        }
        for (a, score) in scores.iter_mut().enumerate() {
            let own = weigh.get(a).copied();
            *score += wrong + (all - own.unwrap_or(1.0)).max(1e-12).ln();
            if own.is_none() {
                *score += unseen.ln();
            }
            if start {
                *score += count.get(a).map_or(-3.0, |n| 2.0 * n.max(0.5).ln());
            }
            if held {
                let kept = match question.truth {
                    Truth::Unknown => true,
                    Truth::Cluster(c) => usize::from(c) == a,
                    Truth::NoneOfThem => own.is_none(),
                };
                if !kept {
                    *score = f64::NEG_INFINITY;
                }
            }
        }
        levels.push(scores);
    }
    let top = levels
        .iter()
        .flatten()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in levels.iter_mut().flatten() {
        *score = (*score - top).exp();
        sum += *score;
    }
    levels.iter_mut().flatten().for_each(|p| *p /= sum);
    (levels, top + sum.ln() - (alternatives - 1.0).ln())
}

fn collapse(levels: &[Vec<f64>]) -> Vec<f64> {
    let mut belief = vec![0.0; levels.first().map_or(0, Vec::len)];
    for level in levels {
        for (b, p) in belief.iter_mut().zip(level) {
            *b += p;
        }
    }
    belief
}
