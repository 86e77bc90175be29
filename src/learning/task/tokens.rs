//! A prompt as a short row of words.

use super::lexicon::{hash, step};

/// How many bytes of the beginning are read.
pub const HEAD_BYTES: usize = 1536;
/// How many bytes of the end are read, where the prompt is longer than both.
pub const TAIL_BYTES: usize = 1024;

/// What a token is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Word,
    Number,
    Mark,
}

/// A word, a number or a punctuation mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// Of the lower-cased word; of the count of digits for a number.
    pub hash: u32,
    /// Of its first five letters, so that forms of a word meet.
    pub stem: u32,
    pub shape: Shape,
    /// Starts with a capital.
    pub capital: bool,
    /// The first of its line.
    pub opens_line: bool,
    /// The first of its sentence.
    pub opens_sentence: bool,
}

/// The beginning and the end of a prompt; the end is empty if the beginning is all of it. Cuts fall
/// between characters.
pub fn excerpt(text: &str) -> (&str, &str) {
    if text.len() <= HEAD_BYTES + TAIL_BYTES {
        return (text, "");
    }
    let head = text.floor_char_boundary(HEAD_BYTES);
    let tail = text.ceil_char_boundary(text.len() - TAIL_BYTES);
    (
        text.get(..head).unwrap_or_default(),
        text.get(tail..).unwrap_or_default(),
    )
}

/// Appends the tokens of `text`.
pub(super) fn tokenise(text: &str, tokens: &mut Vec<Token>) {
    let mut word = Word::default();
    let (mut opens_line, mut opens_sentence) = (true, true);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let joins = word.shape == Some(Shape::Word) && char == '\'' || char == '’' && word.len > 0;
        let keeps = char == '_'
            || joins && chars.peek().is_some_and(|next| next.is_alphanumeric())
            || word.is_c && (char == '+' || char == '#');
        if keeps {
            word.push(if char == '’' { '\'' } else { char });
            continue;
        }
        let ideograph = is_ideograph(char);
        if char.is_alphanumeric() && !ideograph {
            let shape = if char.is_numeric() {
                Shape::Number
            } else {
                Shape::Word
            };
            if word.shape.is_some_and(|known| known != shape) && word.shape == Some(Shape::Number) {
                word.flush(tokens, &mut opens_line, &mut opens_sentence);
            }
            word.push(char);
            continue;
        }
        word.flush(tokens, &mut opens_line, &mut opens_sentence);
        if char == '\n' {
            opens_line = true;
            opens_sentence = true;
        } else if !char.is_whitespace() {
            word.mark(char, ideograph);
            word.flush(tokens, &mut opens_line, &mut opens_sentence);
            opens_sentence |= matches!(char, '.' | '?' | '!' | ':' | '。' | '？' | '！');
        }
    }
    word.flush(tokens, &mut opens_line, &mut opens_sentence);
}

/// Scripts without spaces: each character stands alone.
pub(super) fn is_ideograph(char: char) -> bool {
    matches!(char, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

#[derive(Default)]
struct Word {
    hash: u32,
    stem: u32,
    len: u32,
    shape: Option<Shape>,
    capital: bool,
    is_c: bool,
}

impl Word {
    fn push(&mut self, char: char) {
        if self.len == 0 {
            self.hash = hash("");
            self.stem = self.hash;
            self.capital = char.is_uppercase();
            self.shape = Some(if char.is_numeric() {
                Shape::Number
            } else {
                Shape::Word
            });
        }
        self.is_c = self.len == 0 && matches!(char, 'c' | 'C') || self.is_c && char == '+';
        self.len += 1;
        if self.shape == Some(Shape::Number) {
            return;
        }
        if char.is_ascii() {
            self.take(char.to_ascii_lowercase() as u8);
        } else {
            for lower in char.to_lowercase() {
                let mut bytes = [0; 4];
                for &byte in lower.encode_utf8(&mut bytes).as_bytes() {
                    self.take(byte);
                }
            }
        }
        if self.len <= 5 {
            self.stem = self.hash;
        }
    }

    fn take(&mut self, byte: u8) {
        self.hash = step(self.hash, byte);
    }

    fn mark(&mut self, char: char, ideograph: bool) {
        self.push(char);
        self.shape = Some(if ideograph { Shape::Word } else { Shape::Mark });
    }

    fn flush(&mut self, tokens: &mut Vec<Token>, line: &mut bool, sentence: &mut bool) {
        if let Some(shape) = self.shape {
            let number = [0x5bd1_e995_u32, 0x1b87_3593, 0xcc9e_2d51];
            let hash = match shape {
                Shape::Number => number
                    .get((self.len.min(3) as usize).saturating_sub(1))
                    .copied()
                    .unwrap_or(0),
                _ => self.hash,
            };
            tokens.push(Token {
                hash,
                stem: if shape == Shape::Word {
                    self.stem
                } else {
                    hash
                },
                shape,
                capital: self.capital,
                opens_line: *line,
                opens_sentence: *sentence,
            });
            *line = false;
            // Quotes and brackets do not use up the start of a sentence.
            if shape != Shape::Mark {
                *sentence = false;
            }
        }
        *self = Self::default();
    }
}
