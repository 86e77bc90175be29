//! Which natural language a prompt is written in.

use super::lexicon::hash;
use super::tokens::{Shape, Token, is_ideograph};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// A natural language, as far as it can be told by script and stop words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Language {
    English,
    German,
    French,
    Spanish,
    Portuguese,
    Italian,
    Dutch,
    Chinese,
    Japanese,
    Korean,
    Russian,
    Arabic,
    Hindi,
    Greek,
    Hebrew,
    #[default]
    Undetermined,
}

impl Language {
    /// The ISO 639-1 code; `und` (ISO 639-2) if it cannot be told.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
            Self::Spanish => "es",
            Self::Portuguese => "pt",
            Self::Italian => "it",
            Self::Dutch => "nl",
            Self::Chinese => "zh",
            Self::Japanese => "ja",
            Self::Korean => "ko",
            Self::Russian => "ru",
            Self::Arabic => "ar",
            Self::Hindi => "hi",
            Self::Greek => "el",
            Self::Hebrew => "he",
            Self::Undetermined => "und",
        }
    }
}

const STOP_WORDS: [(Language, &str); 7] = [
    (
        Language::English,
        "the of and to in is that it for was on are as with his they at be this have from or had by what were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into has two more write my i you me a please who where why does did should not find give",
    ),
    (
        Language::German,
        "der die das und ist ich nicht ein eine einen einem einer zu den dem des mit für auf im wie was wir sie es von auch sich bei wird sind kann oder wenn als aus nach warum wo wer bitte mir mein meine schreibe erkläre fasse diesen dieser dieses folgenden über zwischen haben hat",
    ),
    (
        Language::French,
        "le la les des du et est un une dans pour que qui pas sur avec ce cette ces je il elle nous vous ne se au aux par plus mon ma mes son sa comment pourquoi quel quelle où ou mais être sont écris texte moi l'histoire suivant entre fait",
    ),
    (
        Language::Spanish,
        "el la los las y es un una de que en por para con no se su lo como más del al pero sus este esta cuál qué cómo dónde quién cuándo mi me yo son está escribe sobre entre hay fue siguiente texto porque o",
    ),
    (
        Language::Portuguese,
        "o os as um uma do da dos das em no na nos nas não é que para com por mais como mas seu sua ele ela isso este esta você qual eu meu minha são está escreva sobre entre ao à texto",
    ),
    (
        Language::Italian,
        "il lo gli la le un una di che è e per con non del della dei delle nel nella sono come più ma questo questa cosa perché chi dove quando mi io scrivi qual tra anche al alla testo seguente",
    ),
    (
        Language::Dutch,
        "de het een en van is dat niet ik je op te in met voor zijn er aan maar om ook als dan nog wat hoe waarom wie waar mijn deze dit naar door uit schrijf tussen wordt worden hebben",
    ),
];

static TABLE: LazyLock<Vec<(u32, u8)>> = LazyLock::new(|| {
    let mut table: Vec<(u32, u8)> = Vec::new();
    for (at, (_, words)) in STOP_WORDS.iter().enumerate() {
        for word in words.split_whitespace() {
            let key = hash(word);
            match table.iter_mut().find(|(known, _)| *known == key) {
                Some((_, languages)) => *languages |= 1 << at,
                None => table.push((key, 1 << at)),
            }
        }
    }
    table.sort_unstable();
    table
});

/// Words looked at, at most.
const WORDS: usize = 80;

/// Tells the language by its script, and among those in Latin letters by stop words. Undetermined if
/// two languages are as likely, or if nothing speaks for any.
pub(super) fn detect(text: &str, tokens: &[Token]) -> Language {
    if let Some(language) = by_script(text) {
        return language;
    }
    let mut hits = [0_u32; STOP_WORDS.len()];
    let words = tokens.iter().filter(|token| token.shape == Shape::Word);
    let mut seen = 0;
    for token in words.take(WORDS) {
        seen += 1;
        if let Ok(at) = TABLE.binary_search_by_key(&token.hash, |(key, _)| *key) {
            let languages = TABLE.get(at).map_or(0, |(_, languages)| *languages);
            // A word of one language says more than one that four share.
            let weight = 12 / languages.count_ones().max(1);
            for (at, hit) in hits.iter_mut().enumerate() {
                *hit += weight * u32::from(languages >> at & 1);
            }
        }
    }
    let (mut best, mut first, mut second) = (Language::Undetermined, 0, 0);
    for (hit, (language, _)) in hits.into_iter().zip(STOP_WORDS) {
        if hit > first {
            (best, second, first) = (language, first, hit);
        } else if hit > second {
            second = hit;
        }
    }
    if first >= 6 && first > second && first * 12 >= seen * 8 {
        best
    } else {
        Language::Undetermined
    }
}

fn by_script(text: &str) -> Option<Language> {
    let mut latin = 0_u32;
    let mut counts = [0_u32; 8];
    for char in text.chars().take(400) {
        let at = match char {
            'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => {
                latin += 1;
                continue;
            }
            '\u{3040}'..='\u{30ff}' => 1,
            _ if is_ideograph(char) => 0,
            '\u{ac00}'..='\u{d7af}' => 2,
            '\u{400}'..='\u{4ff}' => 3,
            '\u{600}'..='\u{6ff}' => 4,
            '\u{900}'..='\u{97f}' => 5,
            '\u{370}'..='\u{3ff}' => 6,
            '\u{590}'..='\u{5ff}' => 7,
            _ => continue,
        };
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
    }
    let all: u32 = counts.iter().sum();
    // An ideograph says about as much as a word of four Latin letters.
    let [
        han,
        kana,
        hangul,
        cyrillic,
        arabic,
        devanagari,
        greek,
        hebrew,
    ] = counts;
    let wide = 4 * (han + kana) + 2 * hangul;
    if wide + (all - han - kana - hangul) <= latin {
        return None;
    }
    let ranked = [
        (cyrillic, Language::Russian),
        (arabic, Language::Arabic),
        (devanagari, Language::Hindi),
        (greek, Language::Greek),
        (hebrew, Language::Hebrew),
        (hangul, Language::Korean),
        (
            han + kana,
            if kana * 10 > han + kana {
                Language::Japanese
            } else {
                Language::Chinese
            },
        ),
    ];
    ranked
        .into_iter()
        .max_by_key(|(count, _)| *count)
        .map(|(_, language)| language)
}
