//! Trains the task classifier and measures it.
//!
//! ```text
//! train_classifier --templates classifier/templates.txt --mapping classifier/mapping.txt --data prompts.jsonl
//!     [--labels mapped|task|raw] [--hold-out SOURCE,…] [--only-licences] [--per-kind N] [--seed N]
//!     [--evaluate within,unseen,families,templates] [--write task.weights] [--time] [--show N]
//! ```
//!
//! Data: one object a line with `text`, `task`, and optionally `subtask`, `source`, `license`. Without
//! data it trains on the templates alone.

mod fit;
mod templates;

use fit::{Row, Settings, best_of, fit, temperature, threshold};
use quorate::learning::task::{KINDS, Model, SCORED, features, softmax};
use quorate::query::TaskKind;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use templates::{Draw, Templates};

#[derive(Deserialize)]
struct Recorded {
    text: String,
    task: String,
    subtask: Option<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    license: String,
}

/// The value after `--name`.
fn option(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.next().and_then(|_| words.next())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    option(name)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn flag(name: &str) -> bool {
    std::env::args().any(|word| word == name)
}

/// The first rule that fits.
fn map(rules: &str, task: &str, subtask: Option<&str>) -> Result<TaskKind, String> {
    for line in rules.lines().filter(|line| !line.starts_with('#')) {
        let Some((left, kind)) = line.split_once(" -> ") else {
            continue;
        };
        let fits = match left.split_once(" / ") {
            Some((of, word)) => of == task && subtask.is_some_and(|name| name.contains(word)),
            None => left == task,
        };
        if fits {
            return kind.trim().parse();
        }
    }
    task.parse()
        .map_err(|_| format!("no rule for the task '{task}'"))
}

/// Which label of the data a kind of the templates comes closest to, to train on the data's own labels.
fn raw_of(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Code => "code_generation",
        TaskKind::Math => "math",
        TaskKind::Reasoning => "reasoning",
        TaskKind::ClosedQa => "context_qa",
        TaskKind::OpenQa => "knowledge_qa",
        TaskKind::Summarisation => "summarization",
        TaskKind::Extraction => "extraction",
        TaskKind::Classification => "classification",
        TaskKind::Creative => "creative_writing",
        TaskKind::Chat => "advice_chat",
        TaskKind::ToolUse => "assistant_command",
        _ => "other_instruction",
    }
}

/// Sources that are variants of one: left out together, they are a source never seen.
const FAMILIES: [(&str, &[&str]); 9] = [
    ("code", &["humaneval", "mbpp"]),
    ("math", &["gsm8k", "math", "mgsm"]),
    ("reasoning", &["commonsense_qa", "logicgrid"]),
    ("knowledge", &["natural_qa", "trivia_qa", "arc_challenge"]),
    ("commands", &["clinc150"]),
    ("summaries", &["cnn", "multi", "samsum", "xsum", "gigaword"]),
    (
        "reviews",
        &["imdb", "rotten", "yelp", "amazon", "dbpedia", "trec", " ag"],
    ),
    (
        "context",
        &["adversarial", "ropes", "dream", "quoref", "duorc", "cosmos"],
    ),
    ("pairs", &["glue", "paws", "wiki", "common"]),
];

/// Sources whose own licence is open where the row does not say so: GSM8K is under MIT. In doubt, a source is left out.
const OPEN: [&str; 1] = ["gsm8k"];

/// Right, all, and the confidences with which.
#[derive(Default)]
struct Score {
    judged: Vec<([f32; KINDS], usize)>,
}

impl Score {
    fn add(&mut self, model: &Model, row: &Row) {
        self.judged.push((model.logits(&row.features), row.label));
    }
    fn right(&self) -> f64 {
        let right = self
            .judged
            .iter()
            .filter(|(logits, label)| best_of(&softmax(logits, 1.0)) == *label)
            .count();
        100.0 * right as f64 / self.judged.len().max(1) as f64
    }
    /// Expected calibration error over ten bins, and accuracy where a rejected prompt counts as `other`.
    fn calibrated(&self, temperature: f32, threshold: f32) -> (f64, f64) {
        let mut bins = [(0.0_f64, 0.0_f64, 0.0_f64); 10];
        let mut right = 0;
        for (logits, label) in &self.judged {
            let all = softmax(logits, temperature);
            let best = best_of(&all);
            let bin = &mut bins[((all[best] * 10.0) as usize).min(9)];
            bin.0 += 1.0;
            bin.1 += f64::from(all[best]);
            bin.2 += f64::from(u8::from(best == *label));
            right += usize::from(if all[best] < threshold { SCORED } else { best } == *label);
        }
        let n = self.judged.len().max(1) as f64;
        (
            bins.iter().map(|bin| (bin.1 - bin.2).abs()).sum::<f64>() / n,
            100.0 * right as f64 / n,
        )
    }
    fn confusion(&self, names: &[String]) {
        let mut table: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
        for (logits, label) in &self.judged {
            *table
                .entry(*label)
                .or_default()
                .entry(best_of(&softmax(logits, 1.0)))
                .or_default() += 1;
        }
        for (label, row) in table {
            let all: usize = row.values().sum();
            let wrong: Vec<String> = row
                .iter()
                .filter(|(kind, _)| **kind != label)
                .map(|(kind, n)| format!("{} {n}", names[*kind]))
                .collect();
            println!(
                "    {:<18} {:>4} of {all:<4} {}",
                names[label],
                row.get(&label).unwrap_or(&0),
                wrong.join(", ")
            );
        }
    }
}

fn main() -> Result<(), String> {
    let read =
        |path: String| std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"));
    let templates = Templates::read(&read(
        option("--templates").unwrap_or("classifier/templates.txt".into()),
    )?)?;
    let rules = read(option("--mapping").unwrap_or("classifier/mapping.txt".into()))?;
    let labels = option("--labels").unwrap_or("mapped".into());
    let hold_out: BTreeSet<String> = option("--hold-out")
        .unwrap_or_default()
        .split(',')
        .map(Into::into)
        .collect();
    let mut settings = Settings {
        seed: number("--seed", 1),
        ..Settings::default()
    };
    settings.epochs = number("--epochs", settings.epochs);
    settings.fits = number("--fits", settings.fits);
    settings.rate = number("--rate", settings.rate);
    settings.decay = number("--decay", settings.decay);
    settings.dense_decay = number("--dense-decay", settings.dense_decay);
    settings.dropout = number("--dropout", settings.dropout);
    settings.word_dropout = number("--word-dropout", settings.word_dropout);
    settings.recorded = number("--recorded", settings.recorded);
    settings.sources = number("--sources", settings.sources);
    settings.smoothing = number("--smoothing", settings.smoothing);
    if let Some(list) = option("--groups") {
        for (scale, text) in settings.group.iter_mut().zip(list.split(',')) {
            *scale = text.parse().unwrap_or(*scale);
        }
    }

    let mut raw_names: Vec<String> = Vec::new();
    let mut column = |task: &str, subtask: Option<&str>| -> Result<usize, String> {
        if labels == "raw" {
            let at = raw_names
                .iter()
                .position(|name| name == task)
                .unwrap_or_else(|| {
                    raw_names.push(task.into());
                    raw_names.len() - 1
                });
            return Ok(at);
        }
        let subtask = subtask.filter(|_| labels == "mapped");
        Ok(map(&rules, task, subtask)?.index())
    };
    let mut sources: Vec<String> = Vec::new();
    let mut recorded: Vec<Row> = Vec::new();
    let mut left_out = 0;
    if let Some(path) = option("--data") {
        for line in read(path)?.lines() {
            let row: Recorded = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let licence = row
                .license
                .split([';', '('])
                .next()
                .unwrap_or_default()
                .trim();
            let open = !row.license.contains("P3")
                && ["Apache-2.0", "MIT", "CC BY 3.0", "CC BY 4.0"].contains(&licence)
                || OPEN.contains(&row.source.as_str());
            let judged_only = flag("--only-licences") && !open;
            left_out += usize::from(judged_only);
            let source = sources
                .iter()
                .position(|name| *name == row.source)
                .unwrap_or_else(|| {
                    sources.push(row.source.clone());
                    sources.len() - 1
                });
            let family = FAMILIES
                .iter()
                .position(|(_, names)| names.iter().any(|name| row.source.contains(name)));
            recorded.push(Row {
                features: features(&row.text),
                label: column(&row.task, row.subtask.as_deref())?,
                source,
                family: family.unwrap_or(usize::MAX),
                judged_only,
                remainder: row.task == "other_instruction",
                text: row.text,
            });
        }
    }
    let first_template = sources.len();
    let per_kind: usize = number("--per-kind", 1200);
    let mut draw = Draw(number("--seed", 1) ^ 0x7e3a);
    let mut made: Vec<Row> = Vec::new();
    let mut next = first_template;
    for (kind, lines) in &templates.kinds {
        for at in 0..per_kind {
            let text = templates.prompt(&lines[at % lines.len()], &mut draw);
            let label = if labels == "raw" {
                column(raw_of(*kind), None)?
            } else {
                kind.index()
            };
            made.push(Row {
                features: features(&text),
                label,
                source: next + at % lines.len(),
                family: usize::MAX,
                text,
                judged_only: false,
                remainder: false,
            });
        }
        next += lines.len();
    }
    let names: Vec<String> = if labels == "raw" {
        raw_names.resize(KINDS, "-".into());
        raw_names
    } else {
        TaskKind::ALL.map(|kind| kind.name().into()).into()
    };
    println!(
        "{} recorded prompts ({left_out} only judged, for their licence), {} from templates; labels: {labels}",
        recorded.len(),
        made.len()
    );
    if let Some(n) = option("--show") {
        for row in made.iter().step_by(number::<usize>("--show", 50)) {
            println!(
                "{n} {:<15} {:?}",
                names[row.label],
                row.text.chars().take(160).collect::<String>()
            );
        }
    }
    let held = |row: &Row| hold_out.contains(&sources[row.source]);
    let unheld: Vec<&Row> = recorded.iter().filter(|row| !held(row)).collect();
    let evaluate = option("--evaluate").unwrap_or_default();

    // Out-of-family predictions of recorded prompts: what calibration is fitted on, for a prompt to be
    // served comes from no known source.
    let mut away = Score::default();
    let mut heats = Vec::new();
    if option("--write").is_some() || evaluate.contains("families") || evaluate.contains("unseen") {
        for (family, (name, _)) in FAMILIES.iter().enumerate() {
            let train: Vec<&Row> = unheld
                .iter()
                .copied()
                .filter(|row| row.family != family)
                .chain(&made)
                .collect();
            let test: Vec<&Row> = unheld
                .iter()
                .copied()
                .filter(|row| row.family == family)
                .collect();
            if test.is_empty() {
                continue;
            }
            let model = fit(&train, first_template, &settings);
            let mut score = Score::default();
            for row in test {
                score.add(&model, row);
                away.add(&model, row);
            }
            heats.push(temperature(&score.judged).max(0.3));
            if evaluate.contains("families") {
                println!("  temperature {:.2}", temperature(&score.judged));
                println!(
                    "  family {name:<10} left out: {:.2} % of {}",
                    score.right(),
                    score.judged.len()
                );
                score.confusion(&names);
            }
        }
        println!(
            "families left out, all: {:.2} % of {}",
            away.right(),
            away.judged.len()
        );
    }
    // The source a prompt will come from may be the hardest of them: the mean of the two highest
    // temperatures of a family.
    heats.sort_by(|a, b| b.total_cmp(a));
    let highest = &heats[..heats.len().min(2)];
    let heat = if heats.is_empty() {
        1.0
    } else {
        highest.iter().sum::<f32>() / highest.len() as f32
    };
    // Below 0.3 no kind has even a third of the probability.
    let cut = threshold(&away.judged, heat, 0.4).max(0.3);

    if evaluate.contains("templates") {
        let model = fit(&made.iter().collect::<Vec<_>>(), first_template, &settings);
        let mut score = Score::default();
        let mut wrong = number("--errors", 0_usize);
        for row in &unheld {
            score.add(&model, row);
            let all = model.probabilities(&row.features);
            if best_of(&all) != row.label && draw.chance(0.25) && wrong > 0 {
                wrong -= 1;
                let text: String = row.text.chars().take(150).collect();
                println!(
                    "  {} for {}: {:?}",
                    names[best_of(&all)],
                    names[row.label],
                    text
                );
            }
        }
        println!(
            "trained on templates alone: {:.2} % of {} recorded prompts",
            score.right(),
            score.judged.len()
        );
        score.confusion(&names);
    }
    if evaluate.contains("within") {
        let (folds, repeats) = (number("--folds", 5_usize), number("--repeats", 2_usize));
        let (mut all, mut each) = (Score::default(), Vec::new());
        for repeat in 0..repeats {
            let mut order: Vec<usize> = (0..recorded.len()).collect();
            Draw(settings.seed + 100 * repeat as u64).shuffle(&mut order);
            let mut this = Score::default();
            for fold in 0..folds {
                let train: Vec<&Row> = order
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| at % folds != fold)
                    .map(|(_, &row)| &recorded[row])
                    .chain(&made)
                    .collect();
                let model = fit(&train, first_template, &settings);
                for (_, &row) in order
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| at % folds == fold)
                {
                    this.add(&model, &recorded[row]);
                    all.add(&model, &recorded[row]);
                }
            }
            each.push(this.right());
        }
        let own = temperature(&all.judged);
        println!(
            "within sources, {repeats} x {folds} folds: {:.2} % ({each:.2?}); ECE {:.3} at its own temperature {own:.2}",
            all.right(),
            all.calibrated(own, 0.0).0
        );
        all.confusion(&names);
    }
    if evaluate.contains("unseen") {
        let mut all = Score::default();
        let mut each = Vec::new();
        let mut by: BTreeMap<&str, Score> = BTreeMap::new();
        for seed in 0..3 {
            let settings = Settings {
                seed: settings.seed + seed,
                ..settings.clone()
            };
            let train: Vec<&Row> = unheld.iter().copied().chain(&made).collect();
            let model = fit(&train, first_template, &settings);
            let mut this = Score::default();
            for row in recorded.iter().filter(|row| held(row)) {
                this.add(&model, row);
                all.add(&model, row);
                if !row.remainder {
                    by.entry("without other_instruction")
                        .or_default()
                        .add(&model, row);
                }
                by.entry(&sources[row.source]).or_default().add(&model, row);
            }
            each.push(this.right());
        }
        let (ece, rejected) = all.calibrated(heat, cut);
        println!(
            "sources never seen: {:.2} % ({each:.2?}) of {}; ECE {ece:.3} at temperature {heat:.2}; {rejected:.2} % when below {cut:.2} is other",
            all.right(),
            all.judged.len() / 3
        );
        for (name, score) in by {
            println!(
                "  {name:<20} {:.2} % of {}",
                score.right(),
                score.judged.len() / 3
            );
        }
        if flag("--confusion") {
            all.confusion(&names);
        }
    }
    if let Some(path) = option("--write") {
        let train: Vec<&Row> = unheld.iter().copied().chain(&made).collect();
        let mut model = fit(&train, first_template, &settings);
        (model.temperature, model.threshold) = (heat, cut);
        let bytes = model.write();
        println!(
            "{path}: {} bytes, temperature {heat:.3}, threshold {cut:.2}, of {} recorded prompts",
            bytes.len(),
            unheld.iter().filter(|row| !row.judged_only).count()
        );
        std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    }
    if flag("--time") {
        time();
    }
    Ok(())
}

/// How long a prompt of 1 kB takes, with the weights compiled in.
fn time() {
    let sentence = "Please write a function that reads the orders of each customer, adds them up by month, and returns the three largest. ";
    for (name, text) in [
        ("1 kB", sentence.repeat(9)),
        ("100 B", sentence[..100].into()),
        ("100 kB", sentence.repeat(860)),
    ] {
        let text = &text[..text
            .len()
            .min(if name == "1 kB" { 1024 } else { usize::MAX })];
        let mut best = f64::MAX;
        for _ in 0..20 {
            let start = tokio::time::Instant::now();
            for _ in 0..200 {
                std::hint::black_box(quorate::learning::task::classify(
                    std::hint::black_box(text),
                    false,
                ));
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e6 / 200.0);
        }
        println!("{name}: {best:.1} µs");
    }
}
