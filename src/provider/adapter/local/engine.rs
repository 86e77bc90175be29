//! One loaded model and how it answers a query, from the conversation to the last piece of text.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::thread::available_parallelism;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::tokenizer::Tokenizer;

use super::listener::Listener;
use super::model::Model;
use super::sampling::{Sampler, StopText};
use super::template::Template;
use crate::answer::{FinishReason, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::models::find;
use crate::query::Query;

/// The longest conversation in tokens, whatever the model was trained for: the memory of one grows with its
/// length, and reading that much already takes a minute on two cores.
const LONGEST: usize = 8192;

/// Tokens written if the caller names no limit.
const MAX_TOKENS: u32 = 512;

/// Tokens of the prompt read at once: enough to use each weight several times, few enough that a cancelled
/// query stops within a fraction of a second.
const PROMPT_PIECE: usize = 32;

/// More threads than this only wait for memory.
const MAX_THREADS: usize = 8;

/// Tokens that end an answer besides those the file names; models of several families use more than one.
const ENDS: [&str; 4] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
];

/// A loaded model.
pub(super) struct Engine {
    model: Model,
    tokenizer: Tokenizer,
    template: Template,
    ends: Vec<u32>,
    threads: ThreadPool,
}

impl Engine {
    /// Loads the GGUF file at `path`; for models of the catalogue `name` is the one it is fetched by.
    pub(super) fn load(path: &Path, name: &str) -> Result<Self> {
        let unusable = |error: &dyn std::fmt::Display| {
            let text = format!("model file '{}' cannot be used: {error}", path.display());
            Error::new(ErrorKind::Internal, text)
        };
        let mut file = BufReader::new(file(path, name)?);
        let count = available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS));
        let threads = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("quorate-local-{index}"))
            .build()
            .map_err(|error| unusable(&error))?;
        let mut content = Content::read(&mut file).map_err(|error| unusable(&error))?;
        let model = threads
            .install(|| Model::read(&content, &mut file))
            .map_err(|error| unusable(&error))?;
        let tokenizer = tokenizer(&mut content).map_err(|error| unusable(&error))?;
        let id = |key: &str| {
            content
                .metadata
                .get(&format!("tokenizer.ggml.{key}_token_id"))?
                .to_u32()
                .ok()
        };
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.id_to_token(id))
                .unwrap_or_default()
        };
        let source = content
            .metadata
            .get("tokenizer.chat_template")
            .and_then(|value| value.to_string().ok());
        let system = find(name).and_then(|model| model.system);
        let template = Template::new(
            source.map(String::as_str),
            text(id("bos")),
            text(id("eos")),
            system,
        )
        .map_err(|error| unusable(&error))?;
        let named = [id("eos"), id("eot")].into_iter().flatten();
        let ends = named
            .chain(ENDS.iter().filter_map(|end| tokenizer.token_to_id(end)))
            .collect();
        Ok(Self {
            model,
            tokenizer,
            template,
            ends,
            threads,
        })
    }

    /// Answers `query` into `out`, until it is done or nobody listens any more, and returns the tokens it took.
    /// `seed` serves if the query has none.
    pub(super) fn answer(&self, query: &Query, seed: u64, out: &mut Listener) -> Result<Usage> {
        self.threads.install(|| self.generate(query, seed, out))
    }

    fn generate(&self, query: &Query, seed: u64, out: &mut Listener) -> Result<Usage> {
        let prompt = self.prompt(query)?;
        let context = self.model.context().min(LONGEST);
        let room = context - prompt.len();
        let limit = query.params.max_tokens.unwrap_or(MAX_TOKENS).max(1);
        let limit = usize::try_from(limit).unwrap_or(room).min(room);
        let mut memory = self.model.memory(prompt.len() + limit);
        let mut usage = Usage::default();
        let mut state = Vec::new();
        for piece in prompt.chunks(PROMPT_PIECE) {
            if out.is_gone() {
                return Ok(usage);
            }
            state = self.model.advance(piece, &mut memory);
            usage.input += tokens(piece.len());
        }
        let mut sampler = Sampler::new(&query.params, seed);
        let mut stop = StopText::new(&query.params.stop);
        let mut text = self.tokenizer.decode_stream(true);
        let reason = loop {
            let token = sampler.draw(self.model.logits(&state));
            usage.output += 1;
            if self.ends.contains(&token) {
                break FinishReason::Stop;
            }
            // Nothing comes until the bytes of a character are complete.
            if let Some(piece) = text.step(token).map_err(|error| internal(&error))? {
                let (shown, met) = stop.push(&piece);
                out.say(&shown);
                if met {
                    stop.rest();
                    break FinishReason::Stop;
                }
            }
            if usage.output == tokens(limit) {
                break FinishReason::Length;
            }
            if out.is_gone() {
                return Ok(usage);
            }
            state = self.model.advance(&[token], &mut memory);
        };
        out.say(&stop.rest());
        out.finish(reason, usage);
        Ok(usage)
    }

    /// The conversation in tokens; leaves room for one more at least.
    fn prompt(&self, query: &Query) -> Result<Vec<u32>> {
        let context = self.model.context().min(LONGEST);
        let too_long = |tokens: usize| {
            let text = format!(
                "the prompt of about {tokens} tokens does not fit the model's context of {context}"
            );
            Error::new(ErrorKind::ContextLength, text)
        };
        // Counting the tokens of megabytes takes seconds, and no text packs so many bytes into each.
        let estimate = query.estimated_input_tokens() as usize;
        if estimate / 8 > context {
            return Err(too_long(estimate));
        }
        let text = self.template.render(&query.messages);
        let text = text.map_err(|error| {
            Error::invalid("messages", format!("the chat template refuses: {error}"))
        })?;
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| internal(&error))?;
        match encoding.get_ids() {
            [] => Err(Error::invalid("messages", "the conversation is empty")),
            ids if ids.len() >= context => Err(too_long(ids.len())),
            ids => Ok(ids.to_vec()),
        }
    }
}

fn tokens(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn internal(error: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the local model's tokenizer failed: {error}"),
    )
}

/// The file's tokenizer. Candle knows how some families cut text into words before the tokens are merged; the
/// rest it cuts as GPT-2 did, with a space before each piece, which is wrong for all of them. So those we know
/// are put right, and those we do not know are refused: such a model would answer, but badly.
fn tokenizer(content: &mut Content) -> candle_core::Result<Tokenizer> {
    let key = "tokenizer.ggml.pre";
    let cut = content
        .metadata
        .get(key)
        .and_then(|value| value.to_string().ok())
        .cloned()
        .unwrap_or_default();
    let bytes = || ByteLevel::new(false, true, true);
    let put_right: Option<PreTokenizerWrapper> = match cut.as_str() {
        "qwen2" | "llama3" => None,
        "llama-bpe" => {
            content
                .metadata
                .insert(key.into(), Value::String("llama3".into()));
            None
        }
        "gpt-2" | "gpt2" | "" => Some(bytes().into()),
        "smollm" => Some(Sequence::new(vec![Digits::new(true).into(), bytes().into()]).into()),
        other => candle_core::bail!(
            "tokenizer {other} is not supported: gpt-2, llama-bpe, qwen2, smollm"
        ),
    };
    let mut tokenizer = Tokenizer::from_gguf(content)?;
    if put_right.is_some() {
        tokenizer.with_pre_tokenizer(put_right);
    }
    Ok(tokenizer)
}

/// Opens the model file; the error says how to get it.
pub(super) fn file(path: &Path, name: &str) -> Result<File> {
    File::open(path).map_err(|error| {
        let text = format!(
            "model file '{}' cannot be read: {error}; fetch it with `quorate models fetch {name}`",
            path.display()
        );
        Error::new(ErrorKind::Internal, text)
    })
}
