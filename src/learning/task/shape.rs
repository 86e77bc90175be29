//! What a prompt looks like, whatever its words.

use super::tokens::{Shape, Token};

/// Names of the signs, a bit each; the order is that of the weights.
pub(super) const SIGNS: [&str; 50] = [
    "under_60",
    "under_120",
    "under_250",
    "under_600",
    "under_1500",
    "long",
    "one_line",
    "few_lines",
    "some_lines",
    "many_lines",
    "ends_question",
    "ends_colon",
    "ends_sentence",
    "ends_open",
    "starts_lower",
    "starts_quote",
    "one_number",
    "two_numbers",
    "five_numbers",
    "latex",
    "arithmetic",
    "fence",
    "code_marks",
    "code_words",
    "failure",
    "options",
    "bullets",
    "fields",
    "dialogue",
    "table",
    "json",
    "scaffold",
    "quoted",
    "two_quoted",
    "paragraph",
    "payload",
    "one_question",
    "questions",
    "blank",
    "url",
    "other_script",
    "currency",
    "percent",
    "names",
    "no_capital",
    "if",
    "numbered",
    "passage_question",
    "scene_question",
    "other_tongue",
];

/// The signs that are paired with concepts: those that change what a word means.
pub(super) const PAIRED: u64 = bits(&[
    "under_60",
    "under_250",
    "long",
    "ends_question",
    "ends_colon",
    "starts_lower",
    "two_numbers",
    "arithmetic",
    "latex",
    "code_words",
    "code_marks",
    "failure",
    "options",
    "fields",
    "dialogue",
    "table",
    "paragraph",
    "payload",
    "one_question",
    "names",
    "passage_question",
    "scene_question",
    "quoted",
]);

const fn bits(names: &[&str]) -> u64 {
    let mut all = 0;
    let mut at = 0;
    while at < names.len() {
        all |= bit(names[at]);
        at += 1;
    }
    all
}

/// The bit of a sign by its name; a name that does not exist does not compile.
const fn bit(name: &str) -> u64 {
    let mut at = 0;
    while at < SIGNS.len() {
        let (a, b) = (SIGNS[at].as_bytes(), name.as_bytes());
        let mut same = a.len() == b.len();
        let mut i = 0;
        while same && i < a.len() {
            same = a[i] == b[i];
            i += 1;
        }
        if same {
            return 1 << at;
        }
        at += 1;
    }
    // Evaluated by the compiler alone: an unknown sign does not build.
    #[allow(clippy::panic, reason = "at compile time")]
    {
        panic!("no such sign")
    }
}

/// Counts of what difficulty is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub numbers: usize,
    pub questions: usize,
    pub list_lines: usize,
    pub operators: usize,
    pub code_marks: usize,
    pub names: usize,
    pub sentences: usize,
}

/// Reads the signs of the excerpt of a prompt that is `len` bytes long.
pub(super) fn signs(head: &str, tail: &str, len: usize, tokens: &[Token]) -> (u64, Counts) {
    let mut signs = 0;
    let mut counts = Counts::default();
    let mut set = |on: bool, bit: u64| {
        if on {
            signs |= bit;
        }
    };
    const { assert!(SIGNS.len() <= 64) };
    set(len < 60, const { bit("under_60") });
    set((60..120).contains(&len), const { bit("under_120") });
    set((120..250).contains(&len), const { bit("under_250") });
    set((250..600).contains(&len), const { bit("under_600") });
    set((600..1500).contains(&len), const { bit("under_1500") });
    set(len >= 1500, const { bit("long") });

    let lines = Lines::read(head).and(Lines::read(tail));
    set(lines.all <= 1, const { bit("one_line") });
    set((2..=3).contains(&lines.all), const { bit("few_lines") });
    set((4..=9).contains(&lines.all), const { bit("some_lines") });
    set(lines.all >= 10, const { bit("many_lines") });
    set(lines.options >= 2, const { bit("options") });
    set(lines.bullets >= 2, const { bit("bullets") });
    set(lines.numbered >= 3, const { bit("numbered") });
    set(lines.fields >= 2, const { bit("fields") });
    set(lines.spoken >= 3, const { bit("dialogue") });
    set(lines.table >= 2, const { bit("table") });
    set(lines.scaffold >= 1, const { bit("scaffold") });
    set(lines.longest >= 280, const { bit("paragraph") });
    set(lines.code >= 1, const { bit("code_words") });
    set(lines.failure >= 1, const { bit("failure") });
    set(lines.fence, const { bit("fence") });

    let end = if tail.is_empty() { head } else { tail };
    let last = end.trim_end().chars().next_back().unwrap_or(' ');
    let asks = matches!(last, '?' | '？');
    set(asks, const { bit("ends_question") });
    set(matches!(last, ':' | '：'), const { bit("ends_colon") });
    set(
        matches!(last, '.' | '!' | '。' | '"' | ')'),
        const { bit("ends_sentence") },
    );
    set(last.is_alphanumeric(), const { bit("ends_open") });
    let first = head.trim_start().chars().next().unwrap_or(' ');
    set(first.is_lowercase(), const { bit("starts_lower") });
    set(
        matches!(first, '"' | '“' | '\''),
        const { bit("starts_quote") },
    );

    let bytes = Bytes::read(head).and(Bytes::read(tail));
    let mut capitals = 0;
    for token in tokens {
        counts.numbers += usize::from(token.shape == Shape::Number);
        counts.sentences += usize::from(token.opens_sentence && token.shape == Shape::Word);
        capitals += usize::from(token.capital);
        counts.names += usize::from(token.capital && !token.opens_sentence);
    }
    counts.questions = bytes.questions;
    counts.list_lines = lines.bullets + lines.numbered;
    counts.operators = bytes.operators;
    counts.code_marks = bytes.code;
    set(counts.numbers == 1, const { bit("one_number") });
    set(counts.numbers >= 2, const { bit("two_numbers") });
    set(counts.numbers >= 5, const { bit("five_numbers") });
    set(bytes.latex >= 1, const { bit("latex") });
    set(bytes.operators >= 1, const { bit("arithmetic") });
    set(
        bytes.code * 30 > bytes.all && bytes.code > 4,
        const { bit("code_marks") },
    );
    set(bytes.json, const { bit("json") });
    set(bytes.quoted >= 1, const { bit("quoted") });
    set(bytes.quoted >= 2, const { bit("two_quoted") });
    set(bytes.payload && bytes.all > 80, const { bit("payload") });
    set(bytes.questions == 1, const { bit("one_question") });
    set(bytes.questions >= 2, const { bit("questions") });
    set(bytes.blank, const { bit("blank") });
    set(bytes.url, const { bit("url") });
    set(bytes.wide * 4 > bytes.all, const { bit("other_script") });
    set(bytes.currency >= 1, const { bit("currency") });
    set(bytes.percent >= 1, const { bit("percent") });
    set(counts.names >= 2, const { bit("names") });
    set(capitals == 0, const { bit("no_capital") });
    let passage = len >= 350 || lines.longest >= 280;
    set(
        passage && bytes.questions == 1,
        const { bit("passage_question") },
    );
    set(
        asks && counts.sentences >= 2 && len < 700,
        const { bit("scene_question") },
    );
    let has_if = tokens
        .iter()
        .any(|token| token.hash == const { word("if") });
    set(has_if, const { bit("if") });
    (signs, counts)
}

/// Sets the sign of a natural language other than English.
pub(super) const OTHER_TONGUE: u64 = bit("other_tongue");

const fn word(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut state = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < bytes.len() {
        state = (state ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    state
}

/// What the lines of a prompt begin with.
#[derive(Default)]
struct Lines {
    all: usize,
    options: usize,
    bullets: usize,
    numbered: usize,
    fields: usize,
    spoken: usize,
    table: usize,
    scaffold: usize,
    code: usize,
    failure: usize,
    longest: usize,
    fence: bool,
}

const CODE: [&str; 24] = [
    "def ",
    "class ",
    "import ",
    "from ",
    "return ",
    "return;",
    "#include",
    "function ",
    "const ",
    "let ",
    "var ",
    "fn ",
    "pub ",
    "public ",
    "private ",
    "package ",
    "SELECT ",
    "select ",
    "INSERT ",
    "CREATE ",
    "for (",
    "if (",
    "while (",
    "print(",
];
const FAILURE: [&str; 14] = [
    "Traceback",
    "Error:",
    "error:",
    "error[",
    "Exception",
    "Fatal",
    "FATAL",
    "panicked at",
    "undefined is not",
    "Segmentation fault",
    "exit code",
    "File \"",
    "FAILED",
    "npm ERR",
];
const SCAFFOLD: [&str; 7] = [
    "Input:",
    "Output:",
    "Example:",
    "Examples:",
    "input:",
    "output:",
    "Answer:",
];

impl Lines {
    fn read(text: &str) -> Self {
        let mut lines = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            lines.all += 1;
            lines.longest = lines.longest.max(line.len());
            let bytes = line.as_bytes();
            let at = |at: usize| bytes.get(at).copied().unwrap_or(b' ');
            let lettered = at(0).is_ascii_alphabetic() && matches!(at(1), b')' | b'.' | b':')
                || at(0) == b'(' && at(1).is_ascii_alphabetic() && at(2) == b')';
            lines.options += usize::from(lettered);
            lines.bullets +=
                usize::from(matches!(at(0), b'-' | b'*') && at(1) == b' ' || line.starts_with('•'));
            let digits = bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            lines.numbered +=
                usize::from((1..=2).contains(&digits) && matches!(at(digits), b'.' | b')'));
            if let Some(colon) = bytes.iter().take(28).position(|&byte| byte == b':') {
                lines.fields += usize::from(colon > 1 && at(colon + 1) == b' ');
                let name = bytes.iter().take(colon);
                let short = colon <= 14 && at(0).is_ascii_uppercase();
                lines.spoken +=
                    usize::from(short && name.filter(|&&byte| byte == b' ').count() <= 1);
            }
            let pipes = bytes.iter().filter(|&&byte| byte == b'|').count();
            let commas = bytes.iter().filter(|&&byte| byte == b',').count();
            let spaced = bytes.iter().filter(|&&byte| byte == b' ').count();
            let tabs = bytes.iter().filter(|&&byte| byte == b'\t').count();
            lines.table += usize::from(pipes >= 2 || tabs >= 2 || commas >= 2 && spaced <= commas);
            lines.scaffold += usize::from(SCAFFOLD.iter().any(|lead| line.starts_with(lead)));
            let code = CODE.iter().any(|lead| line.starts_with(lead)) && line.len() < 160
                || line.ends_with(';')
                || line.ends_with('{')
                || line.ends_with("):");
            lines.code += usize::from(code);
            lines.fence |= line.starts_with("```");
            let short = line.get(..line.floor_char_boundary(120)).unwrap_or(line);
            lines.failure += usize::from(FAILURE.iter().any(|lead| short.contains(lead)));
        }
        lines
    }

    fn and(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            options: self.options + other.options,
            bullets: self.bullets + other.bullets,
            numbered: self.numbered + other.numbered,
            fields: self.fields + other.fields,
            spoken: self.spoken + other.spoken,
            table: self.table + other.table,
            scaffold: self.scaffold + other.scaffold,
            code: self.code + other.code,
            failure: self.failure + other.failure,
            longest: self.longest.max(other.longest),
            fence: self.fence || other.fence,
        }
    }
}

/// Counts of single characters.
#[derive(Default)]
struct Bytes {
    all: usize,
    wide: usize,
    latex: usize,
    operators: usize,
    code: usize,
    questions: usize,
    quoted: usize,
    currency: usize,
    percent: usize,
    json: bool,
    payload: bool,
    blank: bool,
    url: bool,
}

impl Bytes {
    fn read(text: &str) -> Self {
        let mut count = Self {
            all: text.len(),
            url: text.contains("http://") || text.contains("https://"),
            blank: text.contains("___") || text.contains("[MASK]") || text.contains("[blank]"),
            json: text.contains("{\"") || text.contains("{ \"") || text.contains("{\n"),
            ..Self::default()
        };
        let bytes = text.as_bytes();
        let at = |at: usize| bytes.get(at).copied().unwrap_or(b' ');
        let mut open = None;
        for (place, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\\' if at(place + 1).is_ascii_alphabetic() && at(place + 1) != b'n' => {
                    count.latex += 1
                }
                b'$' if at(place + 1).is_ascii_digit() => count.currency += 1,
                b'$' => count.latex += 1,
                b'%' => count.percent += 1,
                b'?' => count.questions += 1,
                b'{' | b'}' | b';' | b'(' | b')' | b'[' | b']' | b'=' | b'<' | b'>' => {
                    count.code += 1
                }
                b'"' => match open.take() {
                    Some(start) if place - start > 20 => count.quoted += 1,
                    Some(_) => {}
                    None => open = Some(place),
                },
                b':' if (8..140).contains(&place) => {
                    count.payload |=
                        bytes.len() > place + 24 && at(place + 1).is_ascii_whitespace();
                }
                0xe2.. => count.wide += 2,
                0xd0..=0xdf => count.wide += 1,
                _ => {}
            }
            if matches!(byte, b'=' | b'+' | b'*' | b'^' | b'/' | b'<' | b'>') {
                let (before, after) = (at(place.wrapping_sub(1)), at(place + 1));
                let (before, after) = (
                    if before == b' ' {
                        at(place.wrapping_sub(2))
                    } else {
                        before
                    },
                    if after == b' ' { at(place + 2) } else { after },
                );
                let operand = |byte: u8| {
                    byte.is_ascii_digit() || matches!(byte, b'x' | b'y' | b'z' | b'n' | b'(' | b')')
                };
                count.operators += usize::from(operand(before) && operand(after));
            }
        }
        if text.contains('？') {
            count.questions += 1;
        }
        count
    }

    fn and(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            wide: self.wide + other.wide,
            latex: self.latex + other.latex,
            operators: self.operators + other.operators,
            code: self.code + other.code,
            questions: self.questions + other.questions,
            quoted: self.quoted + other.quoted,
            currency: self.currency + other.currency,
            percent: self.percent + other.percent,
            json: self.json || other.json,
            payload: self.payload,
            blank: self.blank || other.blank,
            url: self.url || other.url,
        }
    }
}
