//! The whole way through a model of two layers with random weights, written as a GGUF file by the test itself.

use std::fs::File;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokio::sync::mpsc::channel;

use super::*;
use crate::answer::{FinishReason, Usage};

const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const CONTEXT: usize = 256;

/// Numbers that look random and are always the same.
fn noise(rows: usize, cols: usize, state: &mut u64) -> Tensor {
    let values: Vec<f32> = (0..rows * cols)
        .map(|_| {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 2.0
        })
        .collect();
    Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
}

fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Value {
    Value::Array(
        texts
            .into_iter()
            .map(|text| Value::String(text.into()))
            .collect(),
    )
}

/// A model whose vocabulary is the 256 bytes and two tokens for the ends of turns.
fn write_model(path: &Path, architecture: &str, context: usize) {
    let mut bytes: Vec<String> = ByteLevel::alphabet()
        .into_iter()
        .map(String::from)
        .collect();
    bytes.sort();
    let vocabulary = bytes.len() + 2;
    let ends = ["<|im_start|>", "<|im_end|>"].map(String::from);
    let mut kinds = vec![Value::I32(1); bytes.len()];
    kinds.extend([Value::I32(3), Value::I32(3)]);
    let number = |value: usize| Value::U32(value as u32);
    let shape = [
        ("block_count", 2),
        ("context_length", context),
        ("embedding_length", WIDTH),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
    ];
    let mut metadata: Vec<(String, Value)> = shape
        .into_iter()
        .map(|(key, value)| (format!("{architecture}.{key}"), number(value)))
        .collect();
    metadata.extend(
        [
            ("general.architecture", Value::String(architecture.into())),
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
            ("tokenizer.ggml.tokens", texts(bytes.iter().chain(&ends))),
            ("tokenizer.ggml.merges", texts::<&str>([])),
            ("tokenizer.ggml.token_type", Value::Array(kinds)),
            ("tokenizer.ggml.eos_token_id", number(vocabulary - 1)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let keys = WIDTH / HEADS * KV_HEADS;
    let mut sizes = vec![
        ("token_embd.weight".to_owned(), vocabulary, WIDTH),
        ("output_norm.weight".into(), 1, WIDTH),
        ("output.weight".into(), vocabulary, WIDTH),
    ];
    for layer in 0..2 {
        let parts = [
            ("attn_norm.weight", 1, WIDTH),
            ("attn_q.weight", WIDTH, WIDTH),
            ("attn_k.weight", keys, WIDTH),
            ("attn_v.weight", keys, WIDTH),
            ("attn_q.bias", 1, WIDTH),
            ("attn_k.bias", 1, keys),
            ("attn_v.bias", 1, keys),
            ("attn_output.weight", WIDTH, WIDTH),
            ("ffn_norm.weight", 1, WIDTH),
            ("ffn_gate.weight", 96, WIDTH),
            ("ffn_up.weight", 96, WIDTH),
            ("ffn_down.weight", WIDTH, 96),
        ];
        sizes.extend(parts.map(|(part, rows, cols)| (format!("blk.{layer}.{part}"), rows, cols)));
    }
    let mut state = 1;
    let tensors: Vec<(String, QTensor)> = sizes
        .into_iter()
        .map(|(name, rows, cols)| {
            let values = noise(rows, cols, &mut state);
            let values = if rows == 1 {
                (values.flatten_all().unwrap() + 1.0).unwrap()
            } else {
                values
            };
            let kind = if rows == 1 {
                GgmlDType::F32
            } else {
                GgmlDType::Q4_1
            };
            (name, QTensor::quantize(&values, kind).unwrap())
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

struct Bench {
    folder: tempfile::TempDir,
    provider: LocalProvider,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, "llama", CONTEXT);
    Bench {
        folder,
        provider: LocalProvider::open(path, "tiny").unwrap(),
    }
}

impl Bench {
    async fn stream(&self, query: Query) -> Result<Deltas> {
        let call = Call {
            query: Arc::new(query),
            model: "tiny".into(),
            stream: true,
            deadline: Instant::now(),
        };
        match self.provider.call(call).await? {
            Outcome::Stream(deltas) => Ok(deltas),
            Outcome::Whole(_) => panic!("a local model streams"),
        }
    }

    /// The answer's text and last delta.
    async fn ask(&self, query: Query) -> Result<(String, Delta)> {
        let deltas: Vec<Delta> = self
            .stream(query)
            .await?
            .map(|delta| delta)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<Result<_>>()?;
        let text = deltas.iter().map(Delta::content).collect();
        Ok((text, deltas.last().cloned().unwrap()))
    }
}

fn query(prompt: &str, tokens: u32) -> Query {
    let mut query = Query::new("tiny", prompt);
    query.params.temperature = Some(0.0);
    query.params.max_tokens = Some(tokens);
    query
}

fn finish(delta: &Delta) -> Option<FinishReason> {
    delta.choices[0].finish.clone()
}

#[tokio::test]
async fn an_answer_is_repeatable_counted_and_cut_at_its_limit() {
    let bench = bench();
    let (text, last) = bench.ask(query("hello", 20)).await.unwrap();
    // Twice through the same engine: nothing of the first conversation is left.
    assert_eq!(bench.ask(query("hello", 20)).await.unwrap().0, text);
    assert_ne!(bench.ask(query("other", 20)).await.unwrap().0, text);
    let usage = last.usage.unwrap();
    assert_eq!(
        (finish(&last), usage.output),
        (Some(FinishReason::Length), 20)
    );
    // ChatML: two tokens and eleven bytes round the prompt's five.
    let written = "user\n".len() + "hello".len() + "\n".len() + "assistant\n".len();
    assert_eq!(usage.input as usize, written + 3);
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_before_it() {
    let bench = bench();
    let (text, _) = bench.ask(query("hello", 60)).await.unwrap();
    let stop: String = text.chars().skip(3).take(2).collect();
    let mut stopped = query("hello", 60);
    stopped.params.stop = vec![stop.clone()];
    let (short, last) = bench.ask(stopped).await.unwrap();
    assert_eq!(short, text[..text.find(&stop).unwrap()]);
    assert_eq!(finish(&last), Some(FinishReason::Stop));
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_refused_and_one_near_it_is_cut() {
    let bench = bench();
    let error = bench.ask(query(&"x".repeat(CONTEXT), 5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextLength);
    let error = bench.ask(query(&"x".repeat(1 << 20), 5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextLength);
    let (_, last) = bench
        .ask(query(&"x".repeat(CONTEXT - 30), 500))
        .await
        .unwrap();
    let usage = last.usage.unwrap();
    assert_eq!((usage.input + usage.output) as usize, CONTEXT);
    assert_eq!(finish(&last), Some(FinishReason::Length));
}

#[tokio::test]
async fn a_full_queue_turns_a_query_away_for_a_second() {
    let bench = bench();
    let (jobs, mut waiting) = channel(QUEUE);
    *bench.provider.jobs.lock() = Some(jobs);
    let mut streams = Vec::new();
    for _ in 0..QUEUE {
        streams.push(bench.stream(query("hello", 5)).await.unwrap());
    }
    let error = bench.stream(query("hello", 5)).await.err().unwrap();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::RateLimited, Some(COME_AGAIN))
    );
    waiting.recv().await.unwrap();
    assert!(bench.stream(query("hello", 5)).await.is_ok());
}

#[test]
fn the_model_stops_when_nobody_listens_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, "llama", 8000);
    let engine = load(&path, "tiny").unwrap();
    let (sender, receiver) = channel(DELTAS);
    drop(receiver);
    let usage = engine
        .answer(&query("hello", 7000), 0, &mut Listener::new(sender))
        .unwrap();
    assert_eq!(usage, Usage::default());
    let (sender, mut receiver) = channel(DELTAS);
    let listener = std::thread::spawn(move || receiver.blocking_recv());
    let usage = engine
        .answer(&query("hello", 7000), 0, &mut Listener::new(sender))
        .unwrap();
    assert!(listener.join().unwrap().is_some());
    assert!(usage.output > 0 && usage.output < 7000, "{usage:?}");
}

#[test]
fn a_listener_that_does_not_read_holds_nobody_up_and_loses_nothing() {
    let bench = bench();
    let engine = load(&bench.provider.path, "tiny").unwrap();
    let answer = |places| {
        let (sender, mut receiver) = channel(places);
        // Nobody reads meanwhile, so this would never return if it waited.
        engine
            .answer(&query("hello", 100), 0, &mut Listener::new(sender))
            .unwrap();
        let mut deltas = Vec::new();
        while let Ok(delta) = receiver.try_recv() {
            deltas.push(delta.unwrap());
        }
        deltas
    };
    let text = |deltas: &[Delta]| deltas.iter().map(Delta::content).collect::<String>();
    let (narrow, wide) = (answer(2), answer(1000));
    assert!(narrow.len() == 2 && wide.len() > 2);
    assert_eq!(text(&narrow), text(&wide));
    assert!(narrow[1].finishes() && !narrow[0].finishes());
}

#[test]
fn a_panic_costs_its_query_and_the_model_is_loaded_afresh() {
    let bench = bench();
    let (jobs, receiver) = channel(QUEUE);
    let (deltas, mut answer) = channel(DELTAS);
    let (more, mut after) = channel(DELTAS);
    jobs.try_send(Job {
        query: Arc::new(query("hello", 5)),
        deltas,
    })
    .unwrap();
    jobs.try_send(Job {
        query: Arc::new(query("hello", 5)),
        deltas: more,
    })
    .unwrap();
    drop(jobs);
    let mut loads = 0;
    work(receiver, || {
        loads += 1;
        assert!(loads > 1, "as if the first query had found a bug");
        load(&bench.provider.path, "tiny")
    });
    let error = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(after.try_recv().unwrap().is_ok());
}

#[tokio::test]
async fn what_the_model_cannot_do_is_refused() {
    let bench = bench();
    let mut with_n = query("hello", 5);
    with_n.params.n = Some(2);
    let mut with_schema = query("hello", 5);
    with_schema.response_format = Some(serde_json::json!({ "type": "json_object" }));
    let mut with_tool = query("hello", 5);
    with_tool.tools = vec![serde_json::from_str(r#"{"type": "function"}"#).unwrap()];
    for query in [with_n, with_schema, with_tool] {
        assert_eq!(
            bench.stream(query).await.err().unwrap().kind(),
            ErrorKind::Unsupported
        );
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_is_told_apart() {
    let bench = bench();
    let missing = LocalProvider::open(bench.folder.path().join("none.gguf"), "smollm2-135m")
        .err()
        .unwrap();
    assert!(
        missing
            .message()
            .contains("quorate models fetch smollm2-135m"),
        "{missing}"
    );
    let path = bench.folder.path().join("damaged.gguf");
    std::fs::write(&path, b"GGUF and then nonsense").unwrap();
    let damaged = Bench {
        provider: LocalProvider::open(path, "tiny").unwrap(),
        ..bench
    };
    let error = damaged.ask(query("hello", 5)).await.unwrap_err();
    assert!(error.message().contains("cannot be used"), "{error}");
}

#[test]
fn a_prompt_in_pieces_leaves_the_same_state_as_at_once() {
    for architecture in ["llama", "qwen2"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        write_model(&path, architecture, CONTEXT);
        let mut file = File::open(&path).unwrap();
        let content = Content::read(&mut file).unwrap();
        let model = model::Model::read(&content, &mut file).unwrap();
        let tokens: Vec<u32> = (0..40).map(|token| token * 5 % 256).collect();
        let (mut memory, mut pieces) = (model.memory(40), model.memory(64));
        let whole = model.logits(&model.advance(&tokens, &mut memory));
        let mut state = Vec::new();
        for piece in [&tokens[..1], &tokens[1..20], &tokens[20..39], &tokens[39..]] {
            state = model.advance(piece, &mut pieces);
        }
        let difference = whole
            .iter()
            .zip(model.logits(&state))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(difference < 1e-3, "{architecture}: {difference}");
    }
}
