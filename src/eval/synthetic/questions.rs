//! Questions from templates, with answers computed from what they ask.

use rand::Rng;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

/// Kinds of question.
pub(super) const TASKS: usize = 7;

/// A question with its answer, and answers somebody may mistake for it.
pub(super) struct Question {
    pub(super) task: &'static str,
    pub(super) prompt: String,
    /// What to choose from; `right` and `wrong` are letters then.
    pub(super) options: Vec<String>,
    pub(super) right: String,
    /// None equals `right`, nor another; not empty.
    pub(super) wrong: Vec<String>,
}

const WORDS: [&str; 40] = [
    "apple", "anchor", "basket", "bottle", "button", "candle", "castle", "cherry", "copper",
    "cotton", "dragon", "engine", "feather", "garden", "hammer", "harbour", "island", "jacket",
    "kettle", "ladder", "lantern", "marble", "meadow", "needle", "orchard", "paper", "pepper",
    "pillow", "pocket", "rabbit", "ribbon", "river", "saddle", "silver", "tunnel", "umbrella",
    "velvet", "window", "winter", "yellow",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const GOODS: [(&str, &str); 5] = [
    ("pencils", "a stationer"),
    ("loaves", "a baker"),
    ("tickets", "a theatre"),
    ("seedlings", "a nursery"),
    ("tiles", "a builder"),
];
/// Large unit, small unit, how many of the small make one of the large.
const UNITS: [(&str, &str, i64); 6] = [
    ("hours", "minutes", 60),
    ("metres", "centimetres", 100),
    ("weeks", "days", 7),
    ("kilograms", "grams", 1_000),
    ("minutes", "seconds", 60),
    ("dozens", "pieces", 12),
];

/// Asks one question of the kind `task` (of [`TASKS`]); `difficulty` is in 0..1.
pub(super) fn ask(task: usize, difficulty: f64, rng: &mut impl Rng) -> Question {
    match task {
        0 => arithmetic(difficulty, rng),
        1 => shop(difficulty, rng),
        2 => units(difficulty, rng),
        3 => sorting(difficulty, rng),
        4 => letters(difficulty, rng),
        5 => weekday(difficulty, rng),
        _ => alphabet(difficulty, rng),
    }
}

/// From `least` for the easy up to `most` for the hard.
fn grown(least: usize, most: usize, difficulty: f64) -> usize {
    least + (difficulty * (most - least + 1) as f64) as usize
}

fn numeric(task: &'static str, prompt: String, right: i64, near: &[i64]) -> Question {
    let mut wrong: Vec<String> = Vec::new();
    for candidate in near
        .iter()
        .copied()
        .chain([right + 1, right - 1, right + 2])
    {
        let text = candidate.to_string();
        if candidate != right && !wrong.contains(&text) {
            wrong.push(text);
        }
    }
    Question {
        task,
        prompt,
        options: Vec::new(),
        right: right.to_string(),
        wrong,
    }
}

fn arithmetic(difficulty: f64, rng: &mut impl Rng) -> Question {
    let first = rng.random_range(10..100_i64);
    let (mut text, mut total, mut slip) = (first.to_string(), first, first);
    let steps = grown(1, 6, difficulty);
    for step in 0..steps {
        let number = rng.random_range(10..100_i64);
        let plus = rng.random_bool(0.5);
        text.push_str(&format!(" {} {number}", if plus { '+' } else { '-' }));
        total += if plus { number } else { -number };
        // The slip takes the last sign for its opposite.
        slip += if plus == (step + 1 < steps) {
            number
        } else {
            -number
        };
    }
    let prompt = format!("Work out {text}. Give only the number.");
    numeric("arithmetic", prompt, total, &[slip, total + 10, total - 10])
}

fn shop(difficulty: f64, rng: &mut impl Rng) -> Question {
    let &(goods, who) = GOODS.choose(rng).unwrap_or(&GOODS[0]);
    let boxes = rng.random_range(3..20_i64);
    let each = rng.random_range(4..30_i64);
    let mut left = boxes * each;
    let mut slip = left;
    let mut text = format!("{who} has {boxes} boxes of {each} {goods} each.");
    for _ in 0..grown(0, 3, difficulty) {
        let few = rng.random_range(1..=3_i64);
        let change = rng.random_range(2..=9_i64);
        if rng.random_bool(0.5) {
            text.push_str(&format!(" Then {few} more boxes of {change} arrive."));
            left += few * change;
            slip += change;
        } else {
            text.push_str(&format!(" Then {change} {goods} are given away."));
            left -= change;
            slip -= change;
        }
    }
    let prompt = format!("{} How many {goods} are there in the end?", capital(&text));
    numeric("shop", prompt, left, &[slip, boxes + each, left + each])
}

fn units(difficulty: f64, rng: &mut impl Rng) -> Question {
    let &(large, small, ratio) = UNITS.choose(rng).unwrap_or(&UNITS[0]);
    let whole = rng.random_range(2..(4 + grown(0, 60, difficulty) as i64));
    let rest = rng.random_range(1..ratio);
    let right = whole * ratio + rest;
    let prompt = format!("How many {small} are {whole} {large} and {rest} {small}?");
    let near = [
        whole * ratio,
        whole * 10 + rest,
        right + ratio,
        right - ratio,
    ];
    numeric("units", prompt, right, &near)
}

fn sorting(difficulty: f64, rng: &mut impl Rng) -> Question {
    let count = grown(4, 10, difficulty);
    let mut numbers: Vec<i64> = Vec::new();
    while numbers.len() < count {
        let number = rng.random_range(100..1_000_i64);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    let (nth, name) = [(1, "second"), (2, "third"), (3, "fourth")]
        .choose(rng)
        .copied()
        .unwrap_or((1, "second"));
    let listed: Vec<_> = numbers.iter().map(i64::to_string).collect();
    let prompt = format!("Which of {} is the {name} smallest?", listed.join(", "));
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    let right = sorted.get(nth).copied().unwrap_or_default();
    // Those next to it in order tempt most.
    let mut rest: Vec<i64> = sorted
        .iter()
        .copied()
        .filter(|&number| number != right)
        .collect();
    rest.sort_by_key(|number| (number - right).abs());
    rest.truncate(grown(3, 5, difficulty));
    choice(
        "sorting",
        prompt,
        right.to_string(),
        rest.iter().map(i64::to_string).collect(),
        rng,
    )
}

fn letters(difficulty: f64, rng: &mut impl Rng) -> Question {
    let words: Vec<&str> = WORDS
        .sample(rng, grown(1, 5, difficulty))
        .copied()
        .collect();
    let text = words.join(" ");
    let held: Vec<char> = text.chars().filter(char::is_ascii_lowercase).collect();
    let letter = held.choose(rng).copied().unwrap_or('e');
    let right = held.iter().filter(|&&c| c == letter).count() as i64;
    let prompt = format!("How many times is the letter {letter:?} in the text {text:?}?");
    numeric("letters", prompt, right, &[right - 1, right + 1])
}

fn weekday(difficulty: f64, rng: &mut impl Rng) -> Question {
    let from = rng.random_range(0..DAYS.len());
    let days = rng.random_range(2..(8 + grown(0, 300, difficulty)));
    let back = difficulty > 0.5 && rng.random_bool(0.5);
    let step = days % DAYS.len();
    let at = if back {
        from + DAYS.len() - step
    } else {
        from + step
    } % DAYS.len();
    let way = if back { "was it" } else { "will it be" };
    let when = if back {
        format!("{days} days ago")
    } else {
        format!("in {days} days")
    };
    let prompt = format!(
        "Today is {}. Which day {way} {when}? Answer with the day.",
        DAYS[from]
    );
    let near = [1, 6, 2, 5].map(|off| DAYS[(at + off) % DAYS.len()].to_owned());
    Question {
        task: "weekday",
        prompt,
        options: Vec::new(),
        right: DAYS[at].to_owned(),
        wrong: near.into(),
    }
}

fn alphabet(difficulty: f64, rng: &mut impl Rng) -> Question {
    let words: Vec<&str> = WORDS
        .sample(rng, grown(2, 6, difficulty))
        .copied()
        .collect();
    let mut sorted = words.clone();
    sorted.sort_unstable();
    let right = sorted.join(" ");
    let prompt = format!(
        "Put these words into the order of the alphabet: {}",
        words.join(" ")
    );
    let mut wrong: Vec<String> = Vec::new();
    for at in 1..sorted.len() {
        let mut swapped = sorted.clone();
        swapped.swap(at - 1, at);
        wrong.push(swapped.join(" "));
    }
    wrong.reverse();
    Question {
        task: "alphabet",
        prompt,
        options: Vec::new(),
        right,
        wrong,
    }
}

/// A question of choice: the options shuffled, the answers their letters.
fn choice(
    task: &'static str,
    prompt: String,
    right: String,
    wrong: Vec<String>,
    rng: &mut impl Rng,
) -> Question {
    let mut options: Vec<String> = wrong.iter().cloned().chain([right.clone()]).collect();
    options.shuffle(rng);
    let letter = |text: &String| -> Option<String> {
        let at = options.iter().position(|option| option == text)?;
        Some(char::from(b'A' + u8::try_from(at).ok()?).to_string())
    };
    Question {
        task,
        prompt,
        right: letter(&right).unwrap_or_default(),
        wrong: wrong.iter().filter_map(letter).collect(),
        options,
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
