use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::*;
use crate::eval::read::read;
use crate::eval::record::{models, write};

/// Share of right answers of a model, of the questions the test accepts.
fn accuracy(records: &[Recorded], model: &str, of: impl Fn(&Recorded) -> bool) -> f64 {
    let asked: Vec<_> = records.iter().filter(|record| of(record)).collect();
    let right = asked
        .iter()
        .filter(|record| record.answers[model].answer == record.reference)
        .count();
    right as f64 / asked.len() as f64
}

fn numbers(text: &str) -> Vec<i64> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The answer, worked out from the prompt's text alone.
fn solved(record: &Recorded) -> String {
    let prompt = record.prompt.as_str();
    let all = numbers(prompt);
    match record.task.as_deref().unwrap() {
        "arithmetic" => {
            let terms = prompt
                .trim_start_matches("Work out ")
                .split('.')
                .next()
                .unwrap();
            let mut sign = 1;
            let mut total = 0;
            for token in terms.split(' ') {
                match token {
                    "+" => sign = 1,
                    "-" => sign = -1,
                    number => total += sign * number.parse::<i64>().unwrap(),
                }
            }
            total.to_string()
        }
        "shop" => {
            let mut left = all[0] * all[1];
            for sentence in prompt.split(". ").skip(1) {
                match numbers(sentence)[..] {
                    [few, each] => left += few * each,
                    [given] => left -= given,
                    _ => {}
                }
            }
            left.to_string()
        }
        "units" => {
            let ratio = [
                ("hours", 60),
                ("metres and", 100),
                ("weeks", 7),
                ("kilograms", 1_000),
                ("minutes and", 60),
                ("dozens", 12),
            ];
            let known = ratio
                .iter()
                .find(|(unit, _)| prompt.contains(unit))
                .unwrap();
            (all[0] * known.1 + all[1]).to_string()
        }
        "sorting" => {
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let nth = ["second", "third", "fourth"];
            let nth = 1 + nth.iter().position(|name| prompt.contains(name)).unwrap();
            let right = sorted[nth].to_string();
            let at = record
                .options
                .iter()
                .position(|option| *option == right)
                .unwrap();
            char::from(b'A' + at as u8).to_string()
        }
        "letters" => {
            let letter = prompt.split('\'').nth(1).unwrap();
            prompt
                .split('"')
                .nth(1)
                .unwrap()
                .matches(letter)
                .count()
                .to_string()
        }
        "weekday" => {
            let week = [
                "Monday",
                "Tuesday",
                "Wednesday",
                "Thursday",
                "Friday",
                "Saturday",
                "Sunday",
            ];
            let mut at = week.iter().position(|day| prompt.contains(day)).unwrap();
            for _ in 0..all[0] {
                at = if prompt.contains("ago") {
                    (at + 6) % 7
                } else {
                    (at + 1) % 7
                };
            }
            week[at].to_owned()
        }
        "alphabet" => {
            let mut words: Vec<_> = prompt.split(": ").nth(1).unwrap().split(' ').collect();
            words.sort_unstable();
            words.join(" ")
        }
        other => panic!("an unknown task: {other}"),
    }
}

#[test]
fn every_reference_is_what_the_prompt_asks_for() {
    for record in generate(3_000, 1, 11) {
        let reference = record.reference.clone().unwrap();
        assert_eq!(solved(&record), reference, "{}", record.rendered());
    }
}

#[test]
fn wrong_answers_are_wrong_and_options_do_not_repeat() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    for at in 0..3_000 {
        let difficulty = rng.random_range(0.0..1.0);
        let question = questions::ask(at % TASKS, difficulty, &mut rng);
        let distinct: HashSet<_> = question.wrong.iter().chain([&question.right]).collect();
        assert_eq!(
            distinct.len(),
            question.wrong.len() + 1,
            "{}",
            question.prompt
        );
        assert!(!question.wrong.is_empty());
        let options: HashSet<_> = question.options.iter().collect();
        assert_eq!(options.len(), question.options.len());
    }
}

#[test]
fn the_same_seed_makes_the_same_set_and_another_seed_another() {
    assert_eq!(generate(50, 5, 1), generate(50, 5, 1));
    assert_ne!(generate(50, 5, 1), generate(50, 5, 2));
}

#[test]
fn a_longer_set_begins_like_a_shorter_one() {
    assert_eq!(generate(80, 5, 1)[..50], generate(50, 5, 1)[..]);
}

#[test]
fn sizes_are_bounded() {
    assert!(generate(0, 3, 1).is_empty());
    assert_eq!(names(0).len(), 1);
    assert_eq!(names(1_000).len(), MAX_MODELS);
    let distinct: HashSet<_> = names(MAX_MODELS).into_iter().collect();
    assert_eq!(distinct.len(), MAX_MODELS);
}

#[test]
fn models_differ_in_ability_and_none_is_always_or_never_right() {
    let records = generate(4_000, 8, 3);
    let found: Vec<f64> = names(8)
        .iter()
        .map(|name| accuracy(&records, name, |_| true))
        .collect();
    let best = found.iter().copied().fold(0.0, f64::max);
    let worst = found.iter().copied().fold(1.0, f64::min);
    assert!(best > 0.7 && best < 0.95, "{found:?}");
    assert!(worst > 0.15 && worst < best - 0.2, "{found:?}");
}

#[test]
fn longer_questions_are_harder_and_answered_at_greater_length() {
    let records = generate(4_000, 3, 4);
    let terms = |record: &Recorded| numbers(&record.prompt).len();
    let sums = |record: &Recorded| record.task.as_deref() == Some("arithmetic");
    let name = &names(3)[0];
    let easy = accuracy(&records, name, |record| sums(record) && terms(record) <= 3);
    let hard = accuracy(&records, name, |record| sums(record) && terms(record) >= 6);
    assert!(easy > hard + 0.1, "{easy} {hard}");
    let length = |long: bool| {
        let chars: Vec<f64> = records
            .iter()
            .filter(|record| sums(record) && (terms(record) >= 6) == long)
            .filter_map(|record| record.answers[name].output_chars)
            .map(|chars| chars as f64)
            .collect();
        chars.iter().sum::<f64>() / chars.len() as f64
    };
    assert!(length(true) > 1.2 * length(false));
}

#[test]
fn a_family_errs_alike() {
    // Twelve models are two of each of six families.
    let records = generate(3_000, 12, 6);
    let names = names(12);
    let same_error = |a: &str, b: &str| {
        let both = records.iter().filter(|record| {
            let answers = (&record.answers[a].answer, &record.answers[b].answer);
            answers.0.is_some() && answers.0 == answers.1 && *answers.0 != record.reference
        });
        both.count() as f64
    };
    let expected = |a: &str, b: &str| {
        let wrong = |name: &str| 1.0 - accuracy(&records, name, |_| true);
        wrong(a) * wrong(b) * records.len() as f64
    };
    let (mut within, mut across) = (Vec::new(), Vec::new());
    for (at, a) in names.iter().enumerate() {
        for b in &names[at + 1..] {
            let ratio = same_error(a, b) / expected(a, b);
            let family = |name: &str| name.split('-').next().unwrap().to_owned();
            if family(a) == family(b) {
                &mut within
            } else {
                &mut across
            }
            .push(ratio);
        }
    }
    let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!(
        mean(&within) > 1.2 * mean(&across),
        "{} {}",
        mean(&within),
        mean(&across)
    );
}

#[test]
fn some_abstain_but_few() {
    let records = generate(2_000, 4, 8);
    let silent = records
        .iter()
        .flat_map(|record| record.answers.values())
        .filter(|reply| reply.abstained())
        .count();
    assert!((40..400).contains(&silent), "{silent}");
}

#[test]
fn a_set_is_read_back_as_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("synthetic.jsonl");
    let records = generate(100, 6, 9);
    write(&records, std::fs::File::create(&path).unwrap()).unwrap();
    assert_eq!(read(Path::new(&path)).unwrap(), records);
    let by_name: BTreeMap<_, _> = names(6).into_iter().map(|name| (name, ())).collect();
    assert_eq!(models(&records), by_name.into_keys().collect::<Vec<_>>());
}

#[test]
fn every_model_has_a_price() {
    let prices = prices(MAX_MODELS);
    assert!(
        names(MAX_MODELS)
            .iter()
            .all(|name| prices.get(name).is_some())
    );
    assert_eq!(Prices::parse(&prices.to_toml()).unwrap(), prices);
}
