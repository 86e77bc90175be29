//! Answers that give none.

/// How an answer declines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Declined {
    /// It is empty or says that it does not know.
    Abstained,
    /// It will not answer.
    Refused,
}

/// Nothing longer, in bytes, is taken for a refusal: what follows is an answer after all.
const LONGEST: usize = 600;

const REFUSALS: [&str; 22] = [
    "i cannot help",
    "i can't help",
    "i cannot assist",
    "i can't assist",
    "i cannot provide",
    "i can't provide",
    "i cannot answer",
    "i can't answer",
    "i cannot comply",
    "i can't comply",
    "i cannot fulfill",
    "i can't fulfill",
    "i won't",
    "i will not",
    "i am unable to",
    "i'm unable to",
    "i am not able to",
    "i'm not able to",
    "i must decline",
    "i cannot do that",
    "i can't do that",
    "i cannot discuss",
];

const ABSTENTIONS: [&str; 14] = [
    "i don't know",
    "i do not know",
    "i'm not sure",
    "i am not sure",
    "not sure",
    "no idea",
    "i have no idea",
    "i cannot determine",
    "i can't determine",
    "i don't have enough information",
    "i do not have enough information",
    "i don't have access",
    "i do not have access",
    "i'm not certain",
];

/// Whether the text declines, by its first words.
pub(super) fn declined(text: &str) -> Option<Declined> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Declined::Abstained);
    }
    // Nothing else begins so, and most answers are decided here.
    let first = text.chars().next()?.to_ascii_lowercase();
    if text.len() > LONGEST || !['i', 's', 'n', 'a', 'u', 'o', '*', '"'].contains(&first) {
        return None;
    }
    let lower = text.to_lowercase().replace('\u{2019}', "'");
    let mut rest = lower.trim_start_matches(['*', '"', ' ']);
    const OPENINGS: [&str; 15] = [
        "i'm sorry",
        "i am sorry",
        "sorry",
        "i apologize",
        "apologies",
        "unfortunately",
        "as an ai language model",
        "as an ai assistant",
        "as an ai",
        "as a language model",
        "however",
        "but",
        "i'm afraid",
        "i am afraid",
        "oh",
    ];
    while let Some(opening) = OPENINGS.iter().find(|opening| rest.starts_with(**opening)) {
        rest = rest[opening.len()..]
            .trim_start_matches([',', '.', ' ', ':', ';', '-', '\u{2014}', '!']);
    }
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| rest.starts_with(phrase));
    if says(&REFUSALS) {
        return Some(Declined::Refused);
    }
    // "I don't know for sure, but probably Paris" answers.
    (says(&ABSTENTIONS) && !rest.contains("but ")).then_some(Declined::Abstained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_abstentions_are_told_from_answers() {
        for text in [
            "I cannot help with that.",
            "I'm sorry, but I can\u{2019}t assist with that request.",
            "Unfortunately, I am unable to answer this.",
            "As an AI language model, I cannot provide medical advice.",
        ] {
            assert_eq!(declined(text), Some(Declined::Refused), "{text}");
        }
        for text in [
            "",
            "  \n",
            "I don't know.",
            "Sorry, I do not know the answer.",
            "Not sure",
            "I'm not sure.",
        ] {
            assert_eq!(declined(text), Some(Declined::Abstained), "{text}");
        }
        for text in [
            "I don't know for sure, but probably Paris.",
            "Sorry is a word.",
            "Iceland",
            "Not found",
            "None",
            "N/A",
            "Unknown",
            "It cannot be determined.",
            "I",
            "Sorry",
            "No",
            "I will always love you is a song.",
        ] {
            assert_eq!(declined(text), None, "{text}");
        }
    }
}
