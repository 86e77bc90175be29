//! A recorded set made up by a seed: questions whose answers are known because they were computed, and models
//! that answer them as models do.
//!
//! A model answers rightly if its ability in the task exceeds the question's difficulty and chance: a share of
//! the chance is common to all models (some questions are odd), a share to the models of a family (they learned
//! the same mistakes), and the rest a model's own. Who is wrong mostly falls for the same wrong answer as its
//! family. Hard questions are answered at greater length, and now and then not at all. What is hard can be seen
//! in the prompt: more numbers, longer words.
//!
//! The same arguments give the same set.

mod questions;
#[cfg(test)]
mod tests;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use self::questions::{Question, TASKS};
use super::prices::{Price, Prices};
use super::record::{Recorded, Reply};

/// The most questions made.
pub const MAX_QUESTIONS: usize = 100_000;
/// The most models made.
pub const MAX_MODELS: usize = 24;

const FAMILIES: [&str; 6] = ["aster", "birch", "cedar", "dogwood", "elm", "fern"];
/// Name, ability, price of a million tokens of output in USD, characters of a usual answer.
const SIZES: [(&str, f64, f64, f64); 4] = [
    ("large", 1.50, 12.0, 520.0),
    ("medium", 1.00, 3.0, 420.0),
    ("small", 0.50, 0.6, 340.0),
    ("tiny", 0.00, 0.12, 260.0),
];
/// What a token of input costs of one of output.
const INPUT_SHARE: f64 = 0.25;

/// How a model errs.
struct Model {
    name: String,
    family: usize,
    /// Per task, on the scale of difficulty.
    ability: [f64; TASKS],
    /// Characters of a usual answer.
    length: f64,
}

/// Records `n` questions (at most [`MAX_QUESTIONS`]) over several tasks, each answered by `models` models (at
/// least 1, at most [`MAX_MODELS`]). The ids are `synthetic/0`, `synthetic/1`, …; the tasks come in turn.
pub fn generate(n: usize, models: usize, seed: u64) -> Vec<Recorded> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let models = population(models, &mut rng);
    (0..n.min(MAX_QUESTIONS))
        .map(|at| {
            // A question has a stream of its own: what one draws does not move the others.
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(rng.random());
            let difficulty = rng.random_range(0.0..1.0);
            let question = questions::ask(at % TASKS, difficulty, &mut rng);
            answered(at, question, difficulty, &models, &mut rng)
        })
        .collect()
}

/// The names of the models that [`generate`] makes, in order of their making: those of one size after the
/// other, a family each.
pub fn names(models: usize) -> Vec<String> {
    (0..models.clamp(1, MAX_MODELS))
        .map(|at| {
            let (family, (size, ..)) = make(at);
            format!("{}-{size}", FAMILIES[family])
        })
        .collect()
}

/// What those models charge; families differ a little.
pub fn prices(models: usize) -> Prices {
    let priced = names(models).into_iter().enumerate().map(|(at, name)| {
        let (family, (_, _, output, _)) = make(at);
        // Rounded, so that the file shows no noise.
        let output = (output * (1.0 + 0.15 * family as f64) * 1_000.0).round() / 1_000.0;
        let input = (output * INPUT_SHARE * 10_000.0).round() / 10_000.0;
        (name, Price { input, output })
    });
    Prices::of(priced).unwrap_or_default()
}

/// Family and size of the model made at this place: the first six are one of each family, sizes mixed so that
/// few models already differ in both.
fn make(at: usize) -> (usize, (&'static str, f64, f64, f64)) {
    let family = at % FAMILIES.len();
    let size = (at + at / FAMILIES.len()) % SIZES.len();
    (family, SIZES[size])
}

fn population(models: usize, rng: &mut impl Rng) -> Vec<Model> {
    names(models)
        .into_iter()
        .enumerate()
        .map(|(at, name)| {
            let (family, (_, ability, _, length)) = make(at);
            Model {
                name,
                family,
                ability: std::array::from_fn(|_| ability + 0.45 * normal(rng)),
                length: length * (0.2 * normal(rng)).exp(),
            }
        })
        .collect()
}

fn answered(
    at: usize,
    question: Question,
    difficulty: f64,
    models: &[Model],
    rng: &mut impl Rng,
) -> Recorded {
    let task = at % TASKS;
    // Shares of the chance in luck: variances .20, .30 and .50.
    let odd = 0.20_f64.sqrt() * normal(rng);
    let families: Vec<(f64, usize)> = FAMILIES
        .iter()
        .map(|_| (0.30_f64.sqrt() * normal(rng), lure(&question, rng)))
        .collect();
    let answers = models.iter().map(|model| {
        let (habit, trap) = families.get(model.family).copied().unwrap_or_default();
        let own = 0.50_f64.sqrt() * normal(rng);
        let margin = model.ability[task] - 2.2 * difficulty + 0.55 + 0.9 * (odd + habit + own);
        // Drawn whether needed or not, so that one model's answer does not move the next one's.
        let (falls, other) = (rng.random_bool(0.6), lure(&question, rng));
        let silent = rng.random_range(0.0..1.0) < 0.005 + 0.03 * difficulty;
        let stretch = 0.9 * difficulty + 0.25 * normal(rng);
        let wrong = question.wrong.get(if falls { trap } else { other });
        let answer = match wrong {
            _ if silent => None,
            Some(wrong) if margin <= 0.0 => Some(wrong.clone()),
            _ => Some(question.right.clone()),
        };
        let reply = Reply {
            answer,
            output_chars: Some((model.length * stretch.exp()).round() as u64),
            score: None,
        };
        (model.name.clone(), reply)
    });
    let answers = answers.collect();
    Recorded {
        id: format!("synthetic/{at}"),
        task: Some(question.task.to_owned()),
        prompt: question.prompt,
        options: question.options,
        reference: Some(question.right),
        answers,
    }
}

/// Which wrong answer tempts; the first does most.
fn lure(question: &Question, rng: &mut impl Rng) -> usize {
    let share: f64 = rng.random_range(0.0..1.0);
    (share * share * question.wrong.len() as f64) as usize
}

/// Normally distributed, mean 0 and variance 1, nearly: a dozen uniforms less six, for want of
/// functions whose last bit is the same on every machine.
fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
}
