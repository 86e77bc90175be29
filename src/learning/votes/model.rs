//! What is learned of an ensemble's votes, ready to serve.

use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::gain::Replies;
use super::history::names;
use super::logit::{Logit, claim, softmax};
use super::{Case, MAX_KINDS, MAX_MEMBERS, Round, Said, UNKNOWN, Vote};

/// The quality assumed of a member nobody declared and no history knows.
pub const ASSUMED_QUALITY: f64 = 0.65;
/// No confidence without any history is higher.
const BLIND: f64 = 0.95;
/// A length further out than this many standard deviations counts as this far.
pub(super) const FAR: f64 = 3.0;

/// How likely each answer of a round is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// Each distinct answer by its number in the round, in order of its first vote, and its probability.
    pub answers: Vec<(u8, f64)>,
    /// That none of them is right.
    pub none: f64,
}

impl Posterior {
    /// The likeliest answer and its probability; of equals the one voted for first.
    pub fn winner(&self) -> Option<(u8, f64)> {
        self.answers
            .iter()
            .copied()
            .reduce(|a, b| if b.1 > a.1 { b } else { a })
    }
}

/// The model of votes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub(super) members: Vec<String>,
    pub(super) kinds: Vec<String>,
    pub(super) lengths: Lengths,
    pub(super) logit: Logit,
    pub(super) calibration: Calibration,
    /// Of votes asked for one after the other under a plan, if any was learned.
    pub(super) asked: Option<Calibration>,
    /// Weights to judge rounds of the history with: of `n` such, the `i`-th has not seen those whose number
    /// leaves `i` when divided by `n`. Only while the model is being learned.
    #[serde(skip)]
    pub(super) judges: Vec<Logit>,
    pub(super) replies: Replies,
    /// Rounds this was fitted from.
    pub(super) rounds: u64,
    /// Those of them whose truth was known.
    pub(super) marked: u64,
}

impl Model {
    /// What to believe without any history: a log-odds vote with declared qualities (0 to 1), modest in
    /// its confidence.
    pub fn prior(declared: &[(&str, f64)]) -> Self {
        let mut members: Vec<String> = Vec::new();
        let mut qualities = Vec::new();
        for (name, quality) in declared.iter().take(MAX_MEMBERS) {
            if !members.iter().any(|m| m == name) && name.len() <= super::history::MAX_NAME {
                members.push((*name).to_owned());
                qualities.push(*quality);
            }
        }
        Self {
            lengths: Lengths::none(members.len(), 0),
            logit: Logit::prior(&qualities, 0),
            calibration: Calibration::identity(BLIND),
            asked: None,
            judges: Vec::new(),
            replies: Replies::prior(&qualities, 0),
            members,
            kinds: Vec::new(),
            rounds: 0,
            marked: 0,
        }
    }

    /// The index of a member, or [`UNKNOWN`].
    pub fn member(&self, name: &str) -> u16 {
        index(&self.members, name)
    }

    /// The index of a kind of task, or [`UNKNOWN`].
    pub fn kind(&self, name: &str) -> u16 {
        index(&self.kinds, name)
    }

    /// Rounds this rests on, and those of them whose truth was known.
    pub fn evidence(&self) -> (u64, u64) {
        (self.rounds, self.marked)
    }

    /// How likely each answer is right, calibrated. Members and kind are this model's indices.
    pub fn posterior(&self, round: &Round) -> Posterior {
        self.calibrated(round, &self.calibration)
    }

    /// The same of votes that were asked for one after the other: where more were asked, the first were in
    /// doubt. As [`Model::posterior`] until [`Model::learn_plan`] has been called.
    pub fn posterior_when_asked(&self, round: &Round) -> Posterior {
        self.calibrated(round, self.asked.as_ref().unwrap_or(&self.calibration))
    }

    fn calibrated(&self, round: &Round, calibration: &Calibration) -> Posterior {
        let (case, names) = self.lengths.case(round);
        let mut beliefs = self.beliefs(&case);
        let votes = case.votes.len();
        let top = beliefs
            .iter()
            .take(case.answers)
            .copied()
            .enumerate()
            .reduce(|a, b| if b.1 > a.1 { b } else { a });
        if let Some((winner, stated)) = top {
            let real = calibration.apply(votes, stated);
            let rest = if stated < 1.0 {
                (1.0 - real) / (1.0 - stated)
            } else {
                0.0
            };
            for (i, belief) in beliefs.iter_mut().enumerate() {
                *belief = if i == winner { real } else { *belief * rest };
            }
            // The winner stays the winner where calibration leaves it less than another has.
            let most = beliefs.get(winner).copied().unwrap_or(0.0) * (1.0 - 1e-9);
            let mut excess = 0.0;
            for (i, belief) in beliefs.iter_mut().take(case.answers).enumerate() {
                if i != winner && *belief > most {
                    excess += *belief - most;
                    *belief = most;
                }
            }
            if let Some(none) = beliefs.last_mut() {
                *none += excess;
            }
        }
        let none = beliefs.pop().unwrap_or(1.0);
        Posterior {
            answers: names.into_iter().zip(beliefs).collect(),
            none,
        }
    }

    /// The winner's probability, 0 to 1; 0 without any vote.
    pub fn confidence(&self, round: &Round) -> f64 {
        self.posterior(round).winner().map_or(0.0, |(_, p)| p)
    }

    /// Not calibrated; the last is that none is right.
    pub(super) fn beliefs(&self, case: &Case) -> Vec<f64> {
        let mut scores = Vec::with_capacity(case.answers + 1);
        self.logit.scores(case, claim(ASSUMED_QUALITY), &mut scores);
        softmax(&mut scores);
        scores
    }

    /// Whether this can have come from a fit: sizes that agree, numbers that are finite and in range.
    pub fn validate(&self) -> Result<(), String> {
        let (members, kinds) = (self.members.len(), self.kinds.len());
        names("members", &self.members, MAX_MEMBERS)?;
        names("kinds", &self.kinds, MAX_KINDS)?;
        self.lengths.validate(members, kinds)?;
        self.logit.validate(members, kinds)?;
        self.calibration.validate()?;
        self.asked.as_ref().map_or(Ok(()), Calibration::validate)?;
        self.replies.validate(members, kinds)?;
        if self.marked > self.rounds {
            return Err("more rounds marked than seen".to_owned());
        }
        Ok(())
    }
}

fn index(names: &[String], name: &str) -> u16 {
    let place = names.iter().position(|n| n == name);
    place.and_then(|i| u16::try_from(i).ok()).unwrap_or(UNKNOWN)
}

/// A mean and a standard deviation of logarithms of lengths.
type Usual = (f64, f64);

/// How long answers and questions usually are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lengths {
    /// Per kind and last for no kind: per member.
    answers: Vec<Vec<Option<Usual>>>,
    prompt: Option<Usual>,
}

impl Lengths {
    fn none(members: usize, kinds: usize) -> Self {
        Self {
            answers: vec![vec![None; members]; kinds + 1],
            prompt: None,
        }
    }

    pub(super) fn learn<'a>(
        rounds: impl Iterator<Item = &'a Round>,
        members: usize,
        kinds: usize,
    ) -> Self {
        let mut sums = vec![vec![(0.0, 0.0, 0.0); members]; kinds + 1];
        let mut prompt = (0.0, 0.0, 0.0);
        for round in rounds {
            if let Some(tokens) = round.prompt_tokens {
                count(&mut prompt, tokens);
            }
            let kind = round.kind.map(usize::from).filter(|k| *k < kinds);
            for ballot in &round.ballots {
                let Said::Answer {
                    tokens: Some(tokens),
                    ..
                } = ballot.said
                else {
                    continue;
                };
                // The last row is of all kinds.
                for row in kind.into_iter().chain([kinds]) {
                    let member = usize::from(ballot.member);
                    if let Some(sum) = sums.get_mut(row).and_then(|row| row.get_mut(member)) {
                        count(sum, tokens);
                    }
                }
            }
        }
        let answers = sums
            .iter()
            .map(|row| row.iter().map(usual).collect())
            .collect();
        Self {
            answers,
            prompt: usual(&prompt),
        }
    }

    /// A round in the form the arithmetic wants, and the round's own numbers of its answers.
    pub(super) fn case(&self, round: &Round) -> (Case, Vec<u8>) {
        let kinds = self.answers.len().saturating_sub(1);
        let mut case = Case {
            kind: round.kind.map(usize::from).filter(|k| *k < kinds),
            ..Case::default()
        };
        let row = self.answers.get(case.kind.unwrap_or(kinds));
        let whole = self.answers.last();
        let mut names: Vec<u8> = Vec::new();
        for ballot in round.ballots.iter().take(super::MAX_BALLOTS) {
            let member = usize::from(ballot.member);
            let known = row.is_some_and(|row| member < row.len()).then_some(member);
            let Said::Answer { cluster, tokens } = ballot.said else {
                case.silent.push(known);
                continue;
            };
            let place = names.iter().position(|n| *n == cluster).unwrap_or_else(|| {
                names.push(cluster);
                names.len() - 1
            });
            let of = |row: Option<&Vec<Option<Usual>>>| {
                row.and_then(|r| r.get(member).copied()).flatten()
            };
            let usual = of(row).or_else(|| of(whole));
            case.votes.push(Vote {
                member: known,
                cluster: place,
                length: tokens
                    .zip(usual)
                    .map(|(tokens, usual)| place_of(tokens, usual)),
            });
        }
        case.answers = names.len();
        case.prompt = round
            .prompt_tokens
            .zip(self.prompt)
            .map_or(0.0, |(tokens, usual)| place_of(tokens, usual));
        case.measure();
        (case, names)
    }

    fn validate(&self, members: usize, kinds: usize) -> Result<(), String> {
        let sized =
            self.answers.len() == kinds + 1 && self.answers.iter().all(|row| row.len() == members);
        let cells = self.answers.iter().flatten().flatten().chain(&self.prompt);
        let finite =
            |(mean, spread): &Usual| mean.is_finite() && spread.is_finite() && *spread > 0.0;
        if sized && cells.into_iter().all(finite) {
            Ok(())
        } else {
            Err("usual lengths of other members or that are no numbers".to_owned())
        }
    }
}

fn count(sum: &mut (f64, f64, f64), tokens: f32) {
    let x = f64::from(tokens.max(0.0)).ln_1p();
    *sum = (sum.0 + 1.0, sum.1 + x, sum.2 + x * x);
}

/// `None` from fewer than five.
fn usual(sum: &(f64, f64, f64)) -> Option<Usual> {
    let (n, x, xx) = *sum;
    (n >= 5.0).then(|| {
        let mean = x / n;
        (mean, (xx / n - mean * mean).max(0.0).sqrt() + 0.1)
    })
}

fn place_of(tokens: f32, usual: Usual) -> f64 {
    let z = (f64::from(tokens.max(0.0)).ln_1p() - usual.0) / usual.1;
    if z.is_finite() {
        z.clamp(-FAR, FAR)
    } else {
        0.0
    }
}
