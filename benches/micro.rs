//! What each hop costs: `cargo bench --bench micro`. Read ratios, not absolutes: machines differ.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench may stop"
)]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate::dispatcher::{Dispatcher, Limits};
use quorate::ensembler::merge::compare::Form;
use quorate::ensembler::merge::{Vote, plurality};
use quorate::id::UserId;
use quorate::learning::{Ability, Bounds, Credit, Member, Observation, Pool, Prior, Spot, task};
use quorate::resilience::{Breaker, BreakerConfig, Verdict};
use quorate::router::Basis;
use quorate::router::choice::{Standing, decide};
use quorate::router::score::{Expectation, Weights, scores};
use quorate::supervisor::{Exhausted, Intensity, Settings, Strategy, Supervisor, Tree};
use quorate::wire::{openai, sse};
use quorate::{Config, Lane, Orchestrator, Query};
use tokio::runtime::Runtime;
use tokio::time::Instant;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Admissions per second with many callers at the door: the dispatcher actor under load.
fn admission(c: &mut Criterion) {
    let runtime = runtime();
    let limits = Limits {
        per_user: 64,
        total: 512,
        ..Limits::default()
    };
    let (dispatcher, child) = Dispatcher::new("bench", limits);
    let settings = Settings {
        instance: "bench".into(),
        path: "root".into(),
        strategy: Strategy::OneForOne,
        intensity: Intensity::default(),
        exhausted: Exhausted::Escalate,
        tree: Tree::default(),
    };
    let _root = runtime
        .block_on(ractor::Actor::spawn(
            None,
            Supervisor,
            (settings, vec![child]),
        ))
        .unwrap();
    let mut group = c.benchmark_group("admission");
    for callers in [1usize, 256] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("admit and release, {callers} callers"), |bench| {
            bench.iter_custom(|iterations| {
                let each = iterations.div_ceil(callers as u64);
                let started = std::time::Instant::now();
                runtime.block_on(async {
                    let mut tasks = tokio::task::JoinSet::new();
                    for caller in 0..callers {
                        let dispatcher = dispatcher.clone();
                        let user = UserId::from(format!("user-{}", caller % 32));
                        tasks.spawn(async move {
                            let deadline = Instant::now() + Duration::from_secs(600);
                            for _ in 0..each {
                                black_box(
                                    dispatcher
                                        .admit(&user, Lane::Normal, deadline)
                                        .await
                                        .unwrap(),
                                );
                            }
                        });
                    }
                    while tasks.join_next().await.is_some() {}
                });
                started
                    .elapsed()
                    .mul_f64(iterations as f64 / (each * callers as u64) as f64)
            });
        });
    }
    group.finish();
}

/// A query through everything but sockets: admission, plan, provider actor, record.
fn query(c: &mut Criterion) {
    let runtime = runtime();
    let config = "[ledger]\npath = \"off\"\n[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n";
    let config = Config::parse(config, "bench", Vec::new(), &[]).unwrap();
    let orchestrator = runtime
        .block_on(Orchestrator::builder(config).start())
        .unwrap();
    c.bench_function("query, embedded, scripted", |bench| {
        bench.iter(|| {
            runtime
                .block_on(orchestrator.ask(Query::new("east/m1", "?")))
                .unwrap()
        });
    });
    runtime.block_on(orchestrator.shutdown(Duration::from_secs(1)));
}

fn automata(c: &mut Criterion) {
    c.bench_function("breaker, admit and record", |bench| {
        let config = BreakerConfig::default();
        let mut breaker = Breaker::new();
        let mut now = Duration::ZERO;
        bench.iter(|| {
            now += Duration::from_millis(1);
            let ticket = breaker.admit(&config, now).unwrap();
            black_box(breaker.record(&config, ticket, Verdict::Success, now, 0.5));
        });
    });
    c.bench_function("score 200 deployments", |bench| {
        let expectations: Vec<Expectation> = (0..200)
            .map(|index| Expectation {
                quality: f64::from(index) / 200.0,
                seconds: (index % 3 > 0).then_some(f64::from(index)),
                dollars: Some(f64::from(index) / 1e4),
                failure_rate: 0.1,
                in_flight: 3,
            })
            .collect();
        let weights = Weights {
            quality: 1.0,
            latency: 0.3,
            cost: 0.3,
        };
        bench.iter(|| black_box(scores(&expectations, weights)));
    });
    c.bench_function("choose among 200 deployments", |bench| {
        let weights = Weights {
            quality: 1.0,
            latency: 0.3,
            cost: 0.3,
        };
        let standings = (0..200u64).map(|at| {
            let spot = Spot {
                centre: at as f64 / 100.0 - 1.0,
                deviation: 0.4,
                reach: 0.3,
                evidence: 20.0,
            };
            let expected = Expectation {
                quality: 0.5,
                seconds: Some(1.0),
                dollars: Some(at as f64 / 1e4),
                failure_rate: 0.0,
                in_flight: 0,
            };
            Standing::new(at, spot, 0.0, expected)
        });
        let mut basis = Basis {
            seed: 0,
            weights,
            bounds: Bounds::default(),
            credit: Credit::default(),
            deployments: Vec::new(),
            standings: standings.collect(),
        };
        bench.iter(|| {
            basis.seed += 1;
            black_box(decide(&basis))
        });
    });
    c.bench_function("read together the evidence on 14 deployments", |bench| {
        let mut abilities = vec![Ability::default(); 14];
        for step in 0..2000u64 {
            let seen = Observation {
                kind: Some((step % 7) as usize),
                cluster: None,
                reward: f64::from(u8::from(step * 7 % 11 < 6)),
                weight: 1.0,
                expected: None,
                step,
            };
            abilities[(step * 31 % 14) as usize].observe(seen).unwrap();
        }
        let members: Vec<Member<'_>> = abilities
            .iter()
            .map(|ability| Member::new(ability, Prior::default()))
            .collect();
        bench.iter(|| black_box(Pool::fit(&members)));
    });
    c.bench_function("classify a prompt of 1 kB", |bench| {
        let prompt = "Write a function that reads a file and counts its words. ".repeat(18);
        bench.iter(|| black_box(task::classify(&prompt, false)));
    });
    c.bench_function("group 7 answers in prose", |bench| {
        let text = "The treaty was signed in Vienna after long talks between the two delegations. "
            .repeat(6);
        let texts: Vec<String> = (0..7).map(|at| format!("{text} Version {at}.")).collect();
        let votes: Vec<Vote<'_>> = texts
            .iter()
            .enumerate()
            .map(|(order, text)| Vote {
                text,
                quality: 0.7,
                family: None,
                order,
                vector: None,
            })
            .collect();
        bench.iter(|| black_box(plurality::merge(&votes, &Form::FREE)));
    });
    c.bench_function("plurality of 7", |bench| {
        let texts = [
            "42",
            "42.0",
            "The answer is 42",
            "41",
            "**42**",
            "forty-two",
            "43",
        ];
        let votes: Vec<Vote<'_>> = texts
            .iter()
            .enumerate()
            .map(|(order, text)| Vote {
                text,
                quality: 0.7,
                family: None,
                vector: None,
                order,
            })
            .collect();
        bench.iter(|| black_box(plurality::merge(&votes, &Form::FREE)));
    });
}

const CHUNK: &str = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#;

fn wire(c: &mut Criterion) {
    c.bench_function("SSE, scan one event", |bench| {
        let event = Bytes::from(format!("data: {CHUNK}\n\n"));
        let mut parser = sse::Parser::new(1 << 20);
        bench.iter(|| {
            parser.push(event.clone());
            black_box(parser.next())
        });
    });
    c.bench_function("chunk, read and write", |bench| {
        let data = Bytes::from_static(CHUNK.as_bytes());
        let mut context = openai::chunk::Context::new("id", 1, "m");
        let mut out = BytesMut::new();
        bench.iter(|| {
            out.clear();
            if let Ok(openai::chunk::Read::Delta(delta)) = openai::chunk::read(data.clone()) {
                openai::chunk::write(&delta, &mut context, &mut out);
            }
            black_box(out.len())
        });
    });
    c.bench_function("request of 1 kB, read and write", |bench| {
        let text = "word ".repeat(200);
        let body = format!(r#"{{"model":"east/m1","messages":[{{"role":"user","content":"{text}"}}],"temperature":0.5}}"#);
        let body = Bytes::from(body);
        bench.iter(|| {
            let request = openai::request::read(body.clone()).unwrap();
            black_box(openai::request::write(&request.query, "m1", false))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = admission, query, automata, wire
}
criterion_main!(benches);
