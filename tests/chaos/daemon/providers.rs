//! Panics of a provider, wherever it can.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use quorate::answer::FinishReason;
use quorate::{Call, Delta, Outcome, Provider, Query};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::support::{World, chat, deployment, scripted};

/// Where a [`Rude`] provider panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Call,
    Future,
    FirstDelta,
    Middle,
    /// Dropped after, or before, it has said everything.
    Drop,
}

const EVERYWHERE: [At; 5] = [At::Call, At::Future, At::FirstDelta, At::Middle, At::Drop];

struct Rude(At);

/// Panics when it is dropped.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "as asked, while dropped");
    }
}

/// Says three pieces, the last finishing.
struct Pieces {
    said: usize,
    at: At,
    _bomb: Bomb,
}

impl Stream for Pieces {
    type Item = quorate::Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        assert!(
            self.at != At::FirstDelta,
            "as asked, before the first delta"
        );
        assert!(
            self.at != At::Middle || self.said < 2,
            "as asked, in the middle"
        );
        self.said += 1;
        Poll::Ready(match self.said {
            1 | 2 => Some(Ok(Delta::text("rude "))),
            3 => Some(Ok(Delta::finish(FinishReason::Stop, None))),
            _ => None,
        })
    }
}

impl Provider for Rude {
    fn call(&self, call: Call) -> BoxFuture<'static, quorate::Result<Outcome>> {
        let at = self.0;
        assert!(at != At::Call, "as asked, in the call itself");
        let hang = call.query.messages[0].text() == "hang";
        let bomb = Bomb(at == At::Drop);
        Box::pin(async move {
            let bomb = bomb;
            assert!(at != At::Future, "as asked, in its future");
            if hang {
                std::future::pending::<()>().await;
            }
            let pieces = Pieces {
                said: 0,
                at,
                _bomb: bomb,
            };
            Ok(Outcome::Stream(pieces.boxed()))
        })
    }
}

async fn rude(at: At) -> World {
    let calm = || scripted(json!({ "answer": "calm", "latency_ms": 50 })) as Arc<dyn Provider>;
    let mut first = deployment("rude/m1");
    first.quality = Some(0.9);
    let host = vec![
        (first, Arc::new(Rude(at)) as Arc<dyn Provider>),
        (deployment("calm/m1"), calm()),
        (deployment("calm/m2"), calm()),
    ];
    let toml = "[admission]\nper_user = 100\ntotal = 100\n[routing]\nexplore = 0\n\
                [resilience.breaker]\nmin_calls = 10000\n";
    World::start(toml, host).await
}

#[tokio::test]
async fn a_provider_that_panics_anywhere_is_fallen_back_from_and_others_notice_nothing() {
    for (at, stream) in EVERYWHERE
        .into_iter()
        .flat_map(|at| [(at, false), (at, true)])
    {
        let world = rude(at).await;
        let mut others = JoinSet::new();
        for _ in 0..20 {
            let orchestrator = world.orchestrator.clone();
            others.spawn(async move { orchestrator.ask(Query::new("calm/m1", "?")).await });
        }
        let expected = if at == At::Drop { "rude rude " } else { "calm" };
        let mut body = chat("auto", "?");
        body["stream"] = stream.into();
        let reply = world.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, 200, "{at:?}: {}", reply.body);
        if !stream {
            assert_eq!(reply.content(), expected, "{at:?}");
        } else if at == At::Middle {
            let last: Value = serde_json::from_str(reply.events().last().unwrap()).unwrap();
            assert_eq!(last["error"]["quorate"]["kind"], "internal", "{last}");
        } else {
            assert_eq!(reply.streamed(), expected, "{at:?}");
            assert!(reply.body.ends_with("data: [DONE]\n\n"), "{at:?}");
        }
        while let Some(answer) = others.join_next().await {
            answer.unwrap().expect("the others are answered");
        }
        world.until_all_returned().await;
    }
}

#[tokio::test]
async fn a_provider_that_panics_when_its_caller_leaves_keeps_nothing() {
    let world = rude(At::Drop).await;
    let mut rpc = world.rpc().await;
    for id in 0..3 {
        rpc.request(id, "ask", &chat("rude/m1", "hang")).await;
    }
    world.until("they run", async |w| w.in_use() == 3).await;
    rpc.request(9, "cancel", &json!({ "id": 0 })).await;
    let replies = [rpc.next().await.unwrap(), rpc.next().await.unwrap()];
    let cancelled = |reply: &Value| reply["error"]["data"]["quorate"]["kind"] == "cancelled";
    assert!(replies.iter().any(cancelled), "{replies:?}");
    drop(rpc);
    world.until_all_returned().await;
    assert_eq!(world.chat("rude/m1", "?").await.content(), "rude rude ");
}

#[tokio::test]
async fn a_member_that_panics_anywhere_leaves_the_ensemble_its_quorum() {
    for at in EVERYWHERE {
        let world = rude(at).await;
        let mut body = chat("auto", "?");
        body["quorate"] = json!({ "ensemble": ["rude/m1", "calm/m1", "calm/m2"], "quorum": 2 });
        let reply = world.post("/v1/chat/completions", &body).await;
        assert_eq!(
            (reply.status, reply.content().as_str()),
            (200, "calm"),
            "{at:?}: {}",
            reply.body
        );
        world.until_all_returned().await;
    }
}
