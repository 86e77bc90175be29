//! What one more vote would add, and whether it is worth its price.
//!
//! A vote is worth what it may change: the gain is how much likelier the final winner is right than the
//! present one, over the replies the model expects, looking a few votes ahead since two doubtful votes
//! together can overturn what neither could alone.

use serde::{Deserialize, Serialize};

use super::logit::claim;
use super::model::{ASSUMED_QUALITY, FAR, Model};
use super::{Case, Round, UNKNOWN, Vote};

/// How many members beyond the first are considered at each further look.
const BREADTH: usize = 4;
/// The most steps looked ahead.
pub const MAX_DEPTH: usize = 4;

/// A member that can still be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The member's index in the model, or [`UNKNOWN`].
    pub member: u16,
    /// What asking it costs, in any unit, not negative.
    pub price: f64,
}

/// How to decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// What one more right answer is worth, in the unit of the prices.
    pub worth: f64,
    /// Confidence at which to stop whatever more could be gained; above 1 for never.
    pub enough: f64,
    /// How many votes to look ahead, 1 to [`MAX_DEPTH`].
    pub depth: usize,
    /// Whether the cheapest is asked first and nobody cheaper than another before; see [`in_reach`](super::in_reach).
    pub climbs: bool,
}

/// Why to ask no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The confidence is high enough.
    Confident,
    /// No vote is worth its price.
    NotWorth,
    /// Nobody is left.
    NobodyLeft,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Ask no more.
    Stop(Stop),
    /// Ask this candidate.
    Ask {
        /// Its place among the candidates.
        candidate: usize,
        /// The expected gain in the probability of being right, the votes after it included.
        gain: f64,
        /// That gain's worth less the expected price.
        net: f64,
    },
}

/// What the truth is, seen from the votes so far: the leading answer, another one, none.
const STATES: usize = 3;
/// What a member may reply: the leading answer, the right one of the others (or, where none of them is
/// right, any of them), something new, nothing.
const REPLIES: usize = 4;
type Table = [[f64; REPLIES]; STATES];
/// After one vote, after two, after more: the more were wrong, the harder the question.
const STAGES: usize = 3;
type Tables = [Table; STAGES];
/// How many replies the prior of a member is worth, and the member's own as the prior of a kind's.
const SHRINK: f64 = 12.0;

/// How members reply, given the truth: shares, per member overall and per kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Replies {
    overall: Vec<Tables>,
    kinds: Vec<Vec<Tables>>,
}

impl Replies {
    pub(super) fn prior(qualities: &[f64], kinds: usize) -> Self {
        let overall: Vec<Tables> = qualities.iter().map(|q| [assumed(*q); STAGES]).collect();
        Self {
            kinds: vec![overall.clone(); kinds],
            overall,
        }
    }

    /// Turns counts into shares, thin ones drawn to what is assumed.
    pub(super) fn learn(&mut self, counts: &ReplyCounts) {
        for (member, tables) in self.overall.iter_mut().enumerate() {
            if let Some(seen) = counts.overall.get(member) {
                draw(tables, seen);
            }
            for (row, seen) in self.kinds.iter_mut().zip(&counts.kinds) {
                if let (Some(own), Some(seen)) = (row.get_mut(member), seen.get(member)) {
                    *own = *tables;
                    draw(own, seen);
                }
            }
        }
    }

    fn of(&self, member: u16, case: &Case) -> Table {
        let member = usize::from(member);
        let row = case
            .kind
            .and_then(|k| self.kinds.get(k))
            .unwrap_or(&self.overall);
        row.get(member)
            .and_then(|tables| tables.get(stage(case.votes.len())))
            .copied()
            .unwrap_or_else(|| assumed(ASSUMED_QUALITY))
    }

    pub(super) fn validate(&self, members: usize, kinds: usize) -> Result<(), String> {
        let sized = self.overall.len() == members
            && self.kinds.len() == kinds
            && self.kinds.iter().all(|row| row.len() == members);
        let mut cells = self
            .overall
            .iter()
            .chain(self.kinds.iter().flatten())
            .flatten()
            .flatten()
            .flatten();
        if sized && cells.all(|share| (0.0..=1.0).contains(share)) {
            Ok(())
        } else {
            Err("replies of other members, or no shares".to_owned())
        }
    }
}

/// Replies seen, by the weight of the belief in each truth.
#[derive(Clone, Debug)]
pub(super) struct ReplyCounts {
    overall: Vec<Tables>,
    kinds: Vec<Vec<Tables>>,
}

impl ReplyCounts {
    pub(super) fn new(members: usize, kinds: usize) -> Self {
        let overall = vec![Tables::default(); members];
        Self {
            kinds: vec![overall.clone(); kinds],
            overall,
        }
    }

    /// One reply. `part` are the votes before it, `leader` their winner; `reply` is the answer in the
    /// numbering of `part` (`Some(None)`: new; `None`: nothing); `belief` how likely each is right.
    pub(super) fn add(
        &mut self,
        part: &Case,
        member: usize,
        leader: usize,
        reply: Option<Option<usize>>,
        belief: &[f64],
    ) {
        let answers = belief.len().saturating_sub(1);
        for (truth, weight) in belief.iter().enumerate() {
            let state = if truth == answers {
                2
            } else {
                usize::from(truth != leader)
            };
            let kind_of_reply = match reply {
                None => 3,
                Some(None) => 2,
                Some(Some(a)) if a == leader => 0,
                Some(Some(a)) if state != 1 || a == truth => 1,
                Some(Some(_)) => 2,
            };
            let own = self.overall.get_mut(member);
            let of_kind = part
                .kind
                .and_then(|k| self.kinds.get_mut(k))
                .and_then(|row| row.get_mut(member));
            for tables in own.into_iter().chain(of_kind) {
                if let Some(cell) = tables
                    .get_mut(stage(part.votes.len()))
                    .and_then(|table| table.get_mut(state))
                    .and_then(|row| row.get_mut(kind_of_reply))
                {
                    *cell += weight;
                }
            }
        }
    }
}

fn stage(votes: usize) -> usize {
    votes.clamp(1, STAGES) - 1
}

fn draw(tables: &mut Tables, seen: &Tables) {
    for (table, seen) in tables.iter_mut().zip(seen) {
        *table = shares(seen, table);
    }
}

fn assumed(quality: f64) -> Table {
    let p = 1.0 / (1.0 + (-claim(quality)).exp());
    let wrong = 1.0 - p;
    [
        [p, 0.3 * wrong, 0.65 * wrong, 0.05 * wrong],
        [0.4 * wrong, p, 0.55 * wrong, 0.05 * wrong],
        [0.35, 0.1, 0.53, 0.02],
    ]
}

fn shares(seen: &Table, prior: &Table) -> Table {
    let mut shares = Table::default();
    for ((out, seen), prior) in shares.iter_mut().zip(seen).zip(prior) {
        let total: f64 = seen.iter().sum::<f64>() + SHRINK;
        for ((o, s), p) in out.iter_mut().zip(seen).zip(prior) {
            *o = ((s + SHRINK * p) / total).clamp(0.0, 1.0);
        }
    }
    shares
}

impl Model {
    /// Whom to ask next, if anyone: a first one whatever that is worth, as somebody must answer. Of equally good
    /// candidates the first is asked. A price that is negative or no number counts as 0. How a plan climbs is for
    /// the caller to heed.
    pub fn next(&self, round: &Round, candidates: &[Candidate], plan: &Plan) -> Next {
        if candidates.is_empty() {
            return Next::Stop(Stop::NobodyLeft);
        }
        let winner = self.posterior_when_asked(round).winner();
        let confidence = winner.map_or(0.0, |(_, p)| p);
        if confidence >= plan.enough {
            return Next::Stop(Stop::Confident);
        }
        let (case, _) = self.lengths.case(round);
        match self.best(&case, candidates, plan) {
            Some((candidate, gain, net)) if net > 0.0 || round.ballots.is_empty() => Next::Ask {
                candidate,
                gain,
                net,
            },
            _ => Next::Stop(Stop::NotWorth),
        }
    }

    /// The best candidate, with gain and net worth.
    fn best(
        &self,
        case: &Case,
        candidates: &[Candidate],
        plan: &Plan,
    ) -> Option<(usize, f64, f64)> {
        let look = Look {
            model: self,
            plan,
            candidates,
        };
        let beliefs = self.beliefs(case);
        let depth = plan.depth.clamp(1, MAX_DEPTH);
        let left: Vec<usize> = (0..candidates.len()).collect();
        look.best(case, &beliefs, leader(&beliefs), &left, depth)
    }

    /// Whether, once `member` has been asked first, no candidate will be worth its price whatever it says. `round`
    /// has no votes yet. Errs on the side of no: a right answer is taken to be worth a tenth more.
    pub fn settles(
        &self,
        round: &Round,
        member: u16,
        candidates: &[Candidate],
        plan: &Plan,
    ) -> bool {
        /// Lengths of its answer that are tried, over all that are told apart.
        const LENGTHS: i32 = 24;
        let plan = Plan {
            worth: 1.1 * plan.worth,
            ..*plan
        };
        let is_in_vain = |case: &Case| {
            let best = self.best(case, candidates, &plan);
            best.is_none_or(|(_, _, net)| net <= 0.0)
        };
        let (case, _) = self.lengths.case(round);
        let known = usize::from(member);
        let known = (known < self.members.len() && member != UNKNOWN).then_some(known);
        let mut silent = case.clone();
        silent.silent.push(known);
        // Most often this one is worth a second: the others need not be tried.
        if !is_in_vain(&silent) {
            return false;
        }
        let lengths =
            (0..=LENGTHS).map(|at| FAR * f64::from(2 * at - LENGTHS) / f64::from(LENGTHS));
        lengths.map(Some).chain([None]).all(|length| {
            let mut says = case.clone();
            says.votes.push(Vote {
                member: known,
                cluster: 0,
                length,
            });
            says.answers = 1;
            says.measure();
            is_in_vain(&says)
        })
    }
}

fn leader(beliefs: &[f64]) -> Option<usize> {
    let answers = beliefs.len().saturating_sub(1);
    let top = beliefs.iter().take(answers).enumerate();
    top.reduce(|a, b| if b.1 > a.1 { b } else { a })
        .map(|(i, _)| i)
}

struct Look<'a> {
    model: &'a Model,
    plan: &'a Plan,
    candidates: &'a [Candidate],
}

impl Look<'_> {
    /// The best candidate, with gain and net worth, both against staying with answer `now`.
    fn best(
        &self,
        case: &Case,
        beliefs: &[f64],
        now: Option<usize>,
        left: &[usize],
        depth: usize,
    ) -> Option<(usize, f64, f64)> {
        let mut first: Vec<(usize, f64, f64)> = left
            .iter()
            .map(|i| {
                let (gain, net) = self.ask(case, beliefs, now, *i, &[], 1);
                (*i, gain, net)
            })
            .collect();
        if depth > 1 && left.len() > 1 {
            // The one-step order ties often at nothing; a member's overall promise breaks the tie.
            first.sort_by(|a, b| {
                let promise = |i: usize| self.promise(case, i);
                b.2.total_cmp(&a.2)
                    .then_with(|| promise(b.0).total_cmp(&promise(a.0)))
                    .then(a.0.cmp(&b.0))
            });
            let shortlist: Vec<usize> = first.iter().map(|f| f.0).collect();
            for slot in &mut first {
                let rest: Vec<usize> = shortlist
                    .iter()
                    .copied()
                    .filter(|i| *i != slot.0)
                    .take(BREADTH)
                    .collect();
                let (gain, net) = self.ask(case, beliefs, now, slot.0, &rest, depth);
                *slot = (slot.0, gain, net);
            }
        }
        first
            .into_iter()
            .reduce(|a, b| if b.2 > a.2 { b } else { a })
    }

    /// How much the member adds where the votes so far are wrong, less its price.
    fn promise(&self, case: &Case, candidate: usize) -> f64 {
        let Some(candidate) = self.candidates.get(candidate) else {
            return 0.0;
        };
        let table = self.model.replies.of(candidate.member, case);
        table[0][0] + table[1][1] - price(candidate) / self.plan.worth.max(1e-12)
    }

    fn ask(
        &self,
        case: &Case,
        beliefs: &[f64],
        now: Option<usize>,
        candidate: usize,
        rest: &[usize],
        depth: usize,
    ) -> (f64, f64) {
        let Some(asked) = self.candidates.get(candidate) else {
            return (0.0, f64::NEG_INFINITY);
        };
        let table = self.model.replies.of(asked.member, case);
        let leading = leader(beliefs);
        let answers = case.answers;
        let none = beliefs.last().copied().unwrap_or(1.0);
        let (mut gain, mut net) = (0.0, -price(asked));
        for reply in 0..=answers {
            // Chance of this reply: over what may be true.
            let others = answers.saturating_sub(1).max(1) as f64;
            let mut chance = 0.0;
            if reply == answers {
                let lead = leading.and_then(|l| beliefs.get(l)).copied().unwrap_or(0.0);
                let minor = (1.0 - none - lead).max(0.0);
                chance += lead * table[0][2] + minor * table[1][2] + none * table[2][2];
                if answers == 0 {
                    chance = 1.0 - table[2][3];
                } else if answers == 1 {
                    chance += lead * table[0][1] + none * table[2][1];
                }
            } else {
                let own = beliefs.get(reply).copied().unwrap_or(0.0);
                if Some(reply) == leading {
                    let minor = (1.0 - none - own).max(0.0);
                    chance += own * table[0][0] + minor * table[1][0] + none * table[2][0];
                } else {
                    let lead = leading.and_then(|l| beliefs.get(l)).copied().unwrap_or(0.0);
                    chance += own * table[1][1]
                        + lead * table[0][1] / others
                        + none * table[2][1] / others;
                }
            }
            if chance < 1e-6 {
                continue;
            }
            let known = (usize::from(asked.member) < self.model.members.len()
                && asked.member != UNKNOWN)
                .then_some(usize::from(asked.member));
            let (mut g, mut n) = (0.0, 0.0);
            // How long the answer will be says something too: half shorter, half longer than usual.
            let lengths: &[Option<f64>] = if case.votes.len() < 2 {
                &[Some(-1.0), Some(1.0)]
            } else {
                &[None]
            };
            for length in lengths {
                let mut then = case.clone();
                then.votes.push(Vote {
                    member: known,
                    cluster: reply,
                    length: *length,
                });
                then.answers = answers.max(reply + 1);
                then.measure();
                let after = self.model.beliefs(&then);
                let at = |a: Option<usize>| a.and_then(|a| after.get(a)).copied().unwrap_or(0.0);
                let stop = at(leader(&after)) - at(now);
                let mut best = (stop, stop * self.plan.worth);
                if depth > 1 && !rest.is_empty() {
                    let more = self.best(&then, &after, now, rest, depth - 1);
                    if let Some((_, gain, net)) = more.filter(|more| more.2 > best.1) {
                        best = (gain, net);
                    }
                }
                g += best.0 / lengths.len() as f64;
                n += best.1 / lengths.len() as f64;
            }
            gain += chance * g;
            net += chance * n;
        }
        (gain, net)
    }
}

fn price(candidate: &Candidate) -> f64 {
    if candidate.price.is_finite() {
        candidate.price.max(0.0)
    } else {
        0.0
    }
}
