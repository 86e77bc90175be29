//! The posterior mode of difficulties and abilities, and what remains uncertain.

use super::super::ability::{Ability, Cluster, ROWS};
use super::{Member, Spot};

/// Rounds of Newton steps, from scratch: the result depends on the evidence alone.
const ROUNDS: usize = 4;
/// Spread of abilities in a pool nothing is known of, in log-odds.
const SPREAD: f64 = 1.0;
/// How many models that guess is worth against those seen.
const SPREAD_WORTH: f64 = 6.0;
/// Observations of its siblings after which a model of which nothing is declared begins half-way at what they show.
const KINSHIP: f64 = 20.0;
/// Spread of how one model takes to different kinds.
const TASTE: f64 = 0.28;
/// How many cells the guess of it is worth.
const TASTE_WORTH: f64 = 24.0;
/// Newton steps on one cell: a strong taste is far from where the first step looks from.
const STEPS: usize = 3;
/// Spread of one model's ability over clusters within a kind, and of the clusters' difficulty.
const CLUSTER_TASTE: f64 = 0.2;
const CLUSTER_DIFFICULTY: f64 = 0.5;
/// Spread of difficulty over kinds, and of the mean difficulty of all.
const DIFFICULTY: f64 = 1.0;
const MEAN_DIFFICULTY: f64 = 1.8;
/// A model not seen yet is taken to be this much better than the pool's middle.
const WELCOME: f64 = 0.2;
/// Queries over which what is learned is to pay.
const HORIZON: f64 = 1_000.0;
/// The standard deviation of samples, as a share of the bonus that would be optimal against a single
/// alternative of known quality. With many to try, each need not be tried to the end.
const TEMPER: f64 = 0.35;
/// How much more, as variance, a model is tried that has been asked less than its share.
const CATCH_UP: f64 = 0.02;

/// One model's evidence on one kind at the present estimates.
#[derive(Clone, Copy, Default)]
struct Cell {
    weight: f64,
    reward: f64,
}

impl Cell {
    /// By how much rewards exceed what log-odds predict, and how much they tell (Fisher's information).
    fn against(self, log_odds: f64) -> (f64, f64) {
        let p = logistic(log_odds);
        (self.reward - self.weight * p, self.weight * p * (1.0 - p))
    }
}

/// A member while the pool is read.
struct Reading {
    cells: [Cell; ROWS],
    /// What is declared: where ability is centred and with what precision.
    centre: f64,
    declared: f64,
    /// Those of its family whose evidence moves its centre, where it would be without them, and how far it moved.
    siblings: Vec<usize>,
    alone: f64,
    inherited: f64,
    ability: f64,
    /// What all kinds tell of its ability: a precision.
    told: f64,
    /// What each kind says of its ability, and all together: see [`Fit::listen`].
    says: [(f64, f64); ROWS],
    said: (f64, f64),
    weight: f64,
}

/// The terms of the model, on the way to their posterior mode.
pub(super) struct Fit {
    members: Vec<Reading>,
    /// Kinds of task with evidence.
    seen: Vec<usize>,
    difficulty: [f64; ROWS],
    middle: f64,
    declared_middle: f64,
    /// Variance of abilities.
    spread: f64,
    /// Variance of tastes.
    taste: f64,
    /// What one observation tells of log-odds.
    precision: f64,
}

impl Fit {
    /// Reads the members' evidence, each faded to its share.
    pub(super) fn new(members: &[Member<'_>], keeps: &[f64]) -> Self {
        let count = members.len().max(1) as f64;
        let middle = members.iter().map(|m| m.prior.log_odds()).sum::<f64>() / count;
        let spread = SPREAD * SPREAD;
        let members: Vec<Reading> = members
            .iter()
            .zip(keeps)
            .enumerate()
            .map(|(at, (member, keep))| {
                let declared = member.prior.precision();
                let trust = declared / (declared + 1.0 / spread);
                let cells = member.ability.rows.map(|sum| Cell {
                    weight: sum.weight * keep,
                    reward: sum.reward * keep,
                });
                let centre = trust * (member.prior.log_odds() - middle);
                Reading {
                    cells,
                    centre,
                    declared,
                    siblings: siblings(members, at),
                    alone: centre,
                    inherited: 0.0,
                    ability: 0.0,
                    told: 0.0,
                    says: [(0.0, 0.0); ROWS],
                    said: (0.0, 0.0),
                    weight: cells.iter().map(|cell| cell.weight).sum(),
                }
            })
            .collect();
        let seen = (0..ROWS)
            .filter(|row| members.iter().any(|m| cell(m, *row).weight > 0.0))
            .collect();
        let mut fit = Self {
            members,
            seen,
            difficulty: [middle; ROWS],
            middle,
            declared_middle: middle,
            spread,
            taste: TASTE * TASTE,
            precision: super::PRECISION,
        };
        for _ in 0..ROUNDS {
            fit.difficulties();
            fit.families();
            fit.abilities();
            fit.spread();
            fit.tastes();
        }
        fit.listen();
        fit.precision = fit.usual_precision();
        fit
    }

    fn prior_precision(&self, member: &Reading) -> f64 {
        member.declared.max(1.0 / self.spread)
    }

    /// A Newton step on the difficulty of each kind, given abilities.
    fn difficulties(&mut self) {
        let narrow = 1.0 / (DIFFICULTY * DIFFICULTY);
        let wide = 1.0 / (MEAN_DIFFICULTY * MEAN_DIFFICULTY);
        let seen = self.seen.len() as f64;
        let sum: f64 = self
            .seen
            .iter()
            .filter_map(|row| self.difficulty.get(*row))
            .sum();
        self.middle = (sum * narrow + self.declared_middle * wide) / (seen * narrow + wide);
        self.difficulty = std::array::from_fn(|row| {
            let now = self.difficulty.get(row).copied().unwrap_or(self.middle);
            if !self.seen.contains(&row) {
                return self.middle;
            }
            let (mut slope, mut bend) = ((self.middle - now) * narrow, narrow);
            for member in &self.members {
                let cell = cell(member, row);
                if cell.weight > 0.0 {
                    let (excess, told) = cell.against(now + member.ability);
                    slope += excess;
                    bend += told;
                }
            }
            (now + (slope / bend).clamp(-1.5, 1.5)).clamp(-6.0, 6.0)
        });
    }

    /// Moves the centre of each model of which nothing is declared to what its siblings have shown so far.
    fn families(&mut self) {
        for at in 0..self.members.len() {
            let Some(member) = self.members.get(at).filter(|m| !m.siblings.is_empty()) else {
                continue;
            };
            let siblings = member.siblings.iter();
            let shown = siblings.filter_map(|sibling| self.members.get(*sibling));
            let (centre, share) = inherit(member.alone, shown.map(|m| (m.weight, m.ability)));
            if let Some(member) = self.members.get_mut(at) {
                (member.centre, member.inherited) = (centre, share);
            }
        }
    }

    /// How far the centre of each has moved to that of its siblings, 0..1.
    pub(super) fn inherited(&self) -> Vec<f64> {
        self.members.iter().map(|member| member.inherited).collect()
    }

    /// A Newton step on the ability of each model, given difficulties. A kind tells no more than a
    /// model's taste for it leaves.
    fn abilities(&mut self) {
        let (difficulty, spread, taste) = (self.difficulty, self.spread, self.taste);
        for member in &mut self.members {
            let precision = member.declared.max(1.0 / spread);
            let mut slope = (member.centre - member.ability) * precision;
            let mut bend = precision;
            for row in &self.seen {
                let cell = cell(member, *row);
                if cell.weight > 0.0 {
                    let hard = difficulty.get(*row).copied().unwrap_or(0.0);
                    let (excess, told) = cell.against(hard + member.ability);
                    let share = 1.0 / (1.0 + taste * told);
                    slope += excess * share;
                    bend += told * share;
                }
            }
            member.told = bend - precision;
            member.ability = (member.ability + (slope / bend).clamp(-1.5, 1.5)).clamp(-5.0, 5.0);
        }
    }

    /// The variance of abilities, from the models themselves and the guess.
    fn spread(&mut self) {
        let (mut sum, mut count) = (SPREAD_WORTH * SPREAD * SPREAD, SPREAD_WORTH);
        for member in &self.members {
            let variance = 1.0 / (member.told + 1.0 / self.spread);
            let known = 1.0 - variance / self.spread;
            let off = member.ability - member.centre;
            sum += known * (off * off + variance);
            count += known;
        }
        self.spread = (sum / count).clamp(0.05, 9.0);
    }

    /// The variance of tastes, from the cells themselves and the guess.
    fn tastes(&mut self) {
        let (mut sum, mut count) = (TASTE_WORTH * TASTE * TASTE, TASTE_WORTH);
        for member in &self.members {
            for row in self.seen.iter().filter(|row| **row < ROWS - 1) {
                let cell = cell(member, *row);
                if cell.weight > 0.0 {
                    let hard = self.hard(*row) + member.ability;
                    let (off, variance) = Self::add((0.0, self.taste), cell, hard, 0.0);
                    let known = (1.0 - variance / self.taste).clamp(0.0, 1.0);
                    sum += known * (off * off + variance);
                    count += known;
                }
            }
        }
        self.taste = (sum / count).clamp(0.01, 4.0);
    }

    /// How wide to sample each model, before what its uncertainty is worth. Who has been asked less than an
    /// equal share is tried a little more, as in MOSS (J.-Y. Audibert and S. Bubeck, "Minimax Policies for
    /// Adversarial and Stochastic Bandits", 2009), so that bad luck at the start is not for ever.
    pub(super) fn stretch(&self) -> Vec<f64> {
        let all: f64 = self.members.iter().map(|m| m.weight).sum();
        let equal = all / self.members.len().max(1) as f64;
        self.members
            .iter()
            .map(|m| {
                let behind = (equal / (m.weight + 1.0)).ln().max(0.0);
                (TEMPER * TEMPER + CATCH_UP * behind).sqrt()
            })
            .collect()
    }

    /// What one observation tells of log-odds, on average over the evidence.
    fn usual_precision(&self) -> f64 {
        let (mut told, mut weight) = (0.0, 1e-9);
        for member in &self.members {
            for row in &self.seen {
                let cell = cell(member, *row);
                told += cell.against(self.hard(*row) + member.ability).1;
                weight += cell.weight;
            }
        }
        if weight < 1.0 {
            super::PRECISION
        } else {
            told / weight
        }
    }

    fn spot(&self, hard: f64, belief: (f64, f64), stretch: f64, evidence: f64) -> Spot {
        let (ability, variance) = belief;
        let deviation = variance.sqrt();
        Spot {
            centre: hard + ability,
            deviation,
            reach: deviation * stretch * bonus(variance * self.precision * HORIZON),
            evidence,
        }
    }

    fn hard(&self, row: usize) -> f64 {
        self.difficulty.get(row).copied().unwrap_or(self.middle)
    }

    /// What each kind says of each model's ability, as a precision and that times a centre; a kind says no
    /// more than a model's taste for it leaves.
    fn listen(&mut self) {
        let (difficulty, taste) = (self.difficulty, self.taste);
        for member in &mut self.members {
            for row in &self.seen {
                let cell = cell(member, *row);
                if cell.weight > 0.0 {
                    let hard = difficulty.get(*row).copied().unwrap_or(0.0);
                    let (excess, told) = cell.against(hard + member.ability);
                    let share = 1.0 / (1.0 + taste * told);
                    let says = (told * share, (told * member.ability + excess) * share);
                    member.said = (member.said.0 + says.0, member.said.1 + says.1);
                    if let Some(place) = member.says.get_mut(*row) {
                        *place = says;
                    }
                }
            }
        }
    }

    /// What the other kinds say of a model on this one: the centre and variance of ability and taste.
    fn elsewhere(&self, member: &Reading, row: usize) -> (f64, f64) {
        let prior = self.prior_precision(member);
        let own = member.says.get(row).copied().unwrap_or_default();
        let precision = prior + (member.said.0 - own.0).max(0.0);
        let sum = (member.centre + WELCOME) * prior + member.said.1 - own.1;
        // What has no kind has no taste of its own either.
        let taste = if row < ROWS - 1 { self.taste } else { 0.0 };
        (sum / precision, 1.0 / precision + taste)
    }

    /// Adds a cell's evidence to a normal belief on ability.
    fn add(belief: (f64, f64), cell: Cell, hard: f64, ability: f64) -> (f64, f64) {
        if cell.weight <= 0.0 {
            return belief;
        }
        let mut at = ability;
        let mut precision = 1.0 / belief.1;
        for _ in 0..STEPS {
            let (excess, told) = cell.against(hard + at);
            precision = 1.0 / belief.1 + told;
            let mode = (belief.0 / belief.1 + told * at + excess) / precision;
            at += (mode - at).clamp(-1.5, 1.5);
        }
        (at, 1.0 / precision)
    }

    /// What is believed of every member on one kind.
    pub(super) fn spots(&self, row: usize, stretch: &[f64]) -> Vec<Spot> {
        let hard = self.hard(row);
        let spot = |(member, stretch): (&Reading, &f64)| {
            let cell = cell(member, row);
            let belief = self.elsewhere(member, row);
            let belief = Self::add(belief, cell, hard, member.ability);
            self.spot(hard, belief, *stretch, cell.weight)
        };
        self.members.iter().zip(stretch).map(spot).collect()
    }

    /// The same for a cluster: the rest of its kind is the prior of its own evidence.
    pub(super) fn cluster(
        &self,
        members: &[Member<'_>],
        keeps: &[f64],
        row: usize,
        key: u64,
        stretch: &[f64],
    ) -> Vec<Spot> {
        let own: Vec<Cell> = members
            .iter()
            .zip(keeps)
            .map(|(m, k)| own(m.ability, row, key, *k))
            .collect();
        let hard = self.hard(row);
        let (mut slope, mut bend) = (0.0, 1.0 / (CLUSTER_DIFFICULTY * CLUSTER_DIFFICULTY));
        for (member, own) in self.members.iter().zip(&own) {
            let (excess, told) = own.against(hard + member.ability);
            slope += excess;
            bend += told;
        }
        let here = hard + (slope / bend).clamp(-1.5, 1.5);
        let spot = |((member, own), stretch): ((&Reading, &Cell), &f64)| {
            let all = cell(member, row);
            let rest = Cell {
                weight: (all.weight - own.weight).max(0.0),
                reward: (all.reward - own.reward).max(0.0),
            };
            let (centre, variance) =
                Self::add(self.elsewhere(member, row), rest, hard, member.ability);
            let belief = (centre, variance + CLUSTER_TASTE * CLUSTER_TASTE);
            self.spot(
                here,
                Self::add(belief, *own, here, member.ability),
                *stretch,
                own.weight,
            )
        };
        self.members
            .iter()
            .zip(&own)
            .zip(stretch)
            .map(spot)
            .collect()
    }
}

/// The places of those whose evidence says something of a member of which nothing is declared.
fn siblings(members: &[Member<'_>], of: usize) -> Vec<usize> {
    let heir = members.get(of).filter(|member| member.inherits);
    let Some(family) = heir.and_then(|member| member.family) else {
        return Vec::new();
    };
    let kin = |at: &usize| *at != of && members.get(*at).is_some_and(|m| m.family == Some(family));
    (0..members.len()).filter(kin).collect()
}

/// Where a model begins that would begin at `alone` but for its siblings, each with its observations and its ability:
/// the nearer to their mean the more was seen of them; and how near, 0 to below 1.
pub(super) fn inherit(alone: f64, siblings: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (weight, sum) = siblings.fold((0.0, 0.0), |(weight, sum), (seen, ability)| {
        (weight + seen, sum + seen * ability)
    });
    if weight <= 0.0 {
        return (alone, 0.0);
    }
    let share = weight / (weight + KINSHIP);
    (alone + share * (sum / weight - alone), share)
}

fn cell(member: &Reading, row: usize) -> Cell {
    member.cells.get(row).copied().unwrap_or_default()
}

fn own(ability: &Ability, row: usize, key: u64, keep: f64) -> Cell {
    let of = |c: &&Cluster| c.key == key && usize::from(c.row) == row;
    ability
        .clusters
        .iter()
        .find(of)
        .map_or(Cell::default(), |c| Cell {
            weight: c.sum.weight * keep,
            reward: c.sum.reward * keep,
        })
}

/// The bonus of Gittins' index over the mean, in standard deviations, for a normal belief whose variance
/// is `worth` times what one observation at the horizon's pace adds. M. Brezzi and T. L. Lai, "Optimal
/// Learning and Experimentation in Bandit Problems" (2002): nothing to gain where little is left to learn.
fn bonus(worth: f64) -> f64 {
    let root = worth.max(0.0).sqrt();
    if worth <= 0.2 {
        root / std::f64::consts::SQRT_2
    } else if worth <= 1.0 {
        0.49 - 0.11 / root
    } else if worth <= 5.0 {
        0.63 - 0.26 / root
    } else if worth <= 15.0 {
        0.77 - 0.58 / root
    } else {
        let log = worth.ln();
        let ends = (16.0 * std::f64::consts::PI).ln();
        // Meets the piece below, where the asymptote falls short.
        (2.0 * log - log.ln() - ends).max(0.36).sqrt()
    }
}

/// The probability of log-odds.
pub(in crate::learning) fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}
