//! Prompts drawn from templates.

use quorate::query::TaskKind;
use std::collections::HashMap;

/// A seeded stream of numbers: SplitMix64 (G. Steele, D. Lea, C. Flood, 2014).
#[derive(Clone)]
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64) < p * (1_u64 << 53) as f64
    }
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Templates by kind, and the slots they draw from.
#[derive(Default)]
pub struct Templates {
    slots: HashMap<String, Vec<String>>,
    pub kinds: Vec<(TaskKind, Vec<String>)>,
}

impl Templates {
    pub fn read(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(definition) = line.strip_prefix('@') {
                let (name, choices) = definition
                    .split_once(" = ")
                    .ok_or(format!("line {}: a slot without ' = '", number + 1))?;
                all.slots.insert(
                    name.into(),
                    choose(choices)
                        .into_iter()
                        .map(|c| c.trim().into())
                        .collect(),
                );
            } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                all.kinds.push((name.parse()?, Vec::new()));
            } else if let Some((_, lines)) = all.kinds.last_mut() {
                lines.push(line.into());
            }
        }
        Ok(all)
    }

    /// One prompt, with the variation of people who type.
    pub fn prompt(&self, template: &str, draw: &mut Draw) -> String {
        let mut text = String::new();
        self.expand(template, draw, &mut text, 0);
        let mut text = tidy(text.trim()).replace('¦', "|");
        if draw.chance(0.75) {
            let mut chars = text.chars();
            if let Some(first) = chars.next() {
                text = first.to_uppercase().chain(chars).collect();
            }
        }
        if draw.chance(0.12) {
            text = text.to_lowercase();
        }
        if draw.chance(0.1) {
            text = text.trim_end_matches(['.', '?', '!']).into();
        }
        if draw.chance(0.04) {
            let lead = [
                "Hi! ",
                "Hello, ",
                "You are a helpful assistant.\n\n",
                "Quick question: ",
                "Task: ",
                "Instruction: ",
                "User: ",
            ];
            text.insert_str(0, lead[draw.below(lead.len())]);
        }
        if draw.chance(0.04) {
            let end = [
                " Thanks!",
                " Thank you.",
                "\n",
                " Please be brief.",
                " Think step by step.",
            ];
            text.push_str(end[draw.below(end.len())]);
        }
        text
    }

    fn expand(&self, template: &str, draw: &mut Draw, out: &mut String, depth: usize) {
        let mut rest = template;
        while let Some(char) = rest.chars().next() {
            let after = &rest[char.len_utf8()..];
            match char {
                '⟨' => {
                    let end = closing(after);
                    let choices = choose(&after[..end]);
                    self.expand(choices[draw.below(choices.len())], draw, out, depth + 1);
                    rest = after.get(end + '⟩'.len_utf8()..).unwrap_or_default();
                    continue;
                }
                '{' if depth < 12 => {
                    if let Some((name, tail)) = after.split_once('}') {
                        let range = name.strip_prefix('#').and_then(|r| r.split_once('-'));
                        if let Some((low, high)) = range {
                            let (low, high): (usize, usize) =
                                (low.parse().unwrap_or(1), high.parse().unwrap_or(9));
                            out.push_str(&(low + draw.below(high + 1 - low)).to_string());
                            rest = tail;
                            continue;
                        }
                        if let Some(choices) = self.slots.get(name) {
                            let choice = &choices[draw.below(choices.len())];
                            self.expand(choice, draw, out, depth + 1);
                            rest = tail;
                            continue;
                        }
                    }
                    out.push('{');
                }
                '\\' if after.starts_with('n') && !after.starts_with("neq") => {
                    out.push('\n');
                    rest = &after[1..];
                    continue;
                }
                '\\' if after.starts_with('\\') => {
                    out.push('\\');
                    rest = &after[1..];
                    continue;
                }
                _ => out.push(char),
            }
            rest = after;
        }
    }
}

/// Single spaces, but for indentation.
fn tidy(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        let indent = if indent.len() > 1 { indent } else { "" };
        indent.to_owned() + &body.replace("  ", " ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the bracket that is open at the start closes.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, char) in text.char_indices() {
        match char {
            '⟨' => depth += 1,
            '⟩' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The choices between bars outside of brackets.
fn choose(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut all) = (0, 0, Vec::new());
    for (at, char) in text.char_indices() {
        match char {
            '⟨' => depth += 1,
            '⟩' => depth -= 1,
            '|' if depth == 0 => {
                all.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(&text[from..]);
    all
}
