//! Connections accepted, and calls answered or spoilt as the plan says.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::clock::sleep;
use super::plan::{Plan, STREAM, ending, opening, piece, response, whole, words};
use super::wire::{End, Request, Wire, gone};
use super::{ARRIVALS, AT_ONCE, Accept, Behaviour, Counters, Fate, Fault, Shared, registry};

/// Accepts as the plan says, and takes a changed plan over.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut plans = shared.plan.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        let accept = plan.behaviour.accept;
        if accept == Accept::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(shared.addr).await.ok();
        }
        if accept != Accept::Serve {
            connections.shutdown().await;
        }
        shared.applied.send_replace(plan.version);
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = plans.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(_) = connections.join_next() => {}
                accepted = accepted => match accepted {
                    Ok((tcp, _)) => {
                        shared.counters.connections.fetch_add(1, Relaxed);
                        connections.spawn(connection(Arc::clone(&shared), tcp, accept));
                    }
                    // Out of descriptors: those that are open may end meanwhile.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                },
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, tcp: TcpStream, accept: Accept) {
    struct Open(Arc<Shared>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.counters.connections_open.fetch_sub(1, Relaxed);
        }
    }
    shared.counters.connections_open.fetch_add(1, Relaxed);
    let open = Open(shared);
    let _ = tcp.set_nodelay(true);
    match accept {
        Accept::Close => return,
        Accept::Reset => {
            let _ = tcp.set_zero_linger();
            return;
        }
        Accept::Ignore => std::future::pending().await,
        Accept::Serve | Accept::Refuse => {}
    }
    let mut wire = Wire {
        tcp,
        inbox: BytesMut::with_capacity(4096),
        left: usize::MAX,
    };
    let mut plans = open.0.plan.subscribe();
    while let Some(request) = wire.request().await {
        let plan = Arc::clone(&plans.borrow_and_update());
        let end = serve(&open.0, &plan, &mut wire, &request).await;
        if matches!(end, Err(End::Reset)) {
            // What was written should be read before the reset overtakes it.
            sleep(Duration::from_millis(1)).await;
            let _ = wire.tcp.set_zero_linger();
        }
        if end.is_err() || request.close {
            return;
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    plan: &Plan,
    wire: &mut Wire,
    request: &Request,
) -> Result<(), End> {
    let mut line = request.line.split(' ');
    let (method, target) = (line.next().unwrap_or(""), line.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if method == "POST" && path.ends_with("/chat/completions") {
        return call(shared, plan, wire, &request.body).await;
    }
    let port = query
        .strip_prefix("port=")
        .and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or(shared.addr.port());
    let all: Vec<Arc<Shared>> = registry()
        .lock()
        .unwrap()
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    let meant = all.iter().find(|one| one.addr.port() == port);
    let answer = match (method, path, meant) {
        ("GET", "/v1/models" | "/models", _) => Ok(json!({"object": "list", "data": [
            {"id": "mock-1", "object": "model", "created": 1_760_000_000, "owned_by": "mock"}]})),
        ("GET", "/__stats", Some(meant)) => Ok(json!(meant.stats())),
        ("DELETE", "/__stats", Some(meant)) => {
            meant.forget();
            Ok(json!({}))
        }
        ("POST", "/__behave", Some(meant)) => match changed(meant, &request.body) {
            Ok(behaviour) => {
                meant.behave(behaviour.clone()).await;
                Ok(json!(behaviour))
            }
            Err(error) => Err((400, error.to_string())),
        },
        _ => Err((404, format!("nothing is here: {method} {target}"))),
    };
    let answer = match answer {
        Ok(body) => response(200, "", &body.to_string()),
        Err((status, message)) => response(
            status,
            "",
            &json!({"error": {"message": message}}).to_string(),
        ),
    };
    wire.send(&answer).await
}

/// The present behaviour with the fields of `patch` changed.
fn changed(shared: &Shared, patch: &[u8]) -> serde_json::Result<Behaviour> {
    let mut all = json!(shared.plan.borrow().behaviour);
    let patch: serde_json::Map<String, Value> = serde_json::from_slice(patch)?;
    for (key, value) in patch {
        all[key] = value;
    }
    serde_json::from_value(all)
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A call being answered: counted while it is, and as cancelled if its client was the one to end it.
struct Call<'a> {
    counters: &'a Counters,
    ours: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Relaxed);
        if !self.ours {
            self.counters.cancelled.fetch_add(1, Relaxed);
        }
    }
}

async fn call(shared: &Shared, plan: &Plan, wire: &mut Wire, body: &[u8]) -> Result<(), End> {
    let counters = &shared.counters;
    counters.calls.fetch_add(1, Relaxed);
    let now = counters.in_flight.fetch_add(1, Relaxed) + 1;
    counters.in_flight_max.fetch_max(now, Relaxed);
    {
        let mut arrivals = counters.arrivals.lock().unwrap();
        if arrivals.len() == ARRIVALS {
            arrivals.pop_front();
        }
        arrivals.push_back(Instant::now());
    }
    let mut call = Call {
        counters,
        ours: false,
    };
    let end = answer(shared, plan, wire, body).await;
    call.ours = !matches!(end, Err(End::Gone));
    wire.left = usize::MAX;
    end
}

async fn answer(shared: &Shared, plan: &Plan, wire: &mut Wire, body: &[u8]) -> Result<(), End> {
    let b = &plan.behaviour;
    let Ok(ask) = serde_json::from_slice::<Ask>(body) else {
        shared.begin(400);
        let error = json!({"error": {"message": "the body is no chat request", "type": "invalid_request_error"}});
        return wire.send(&response(400, "", &error.to_string())).await;
    };
    let _place = match &plan.places {
        Some(places) if b.refuse => match places.try_acquire() {
            Ok(place) => Some(place),
            Err(_) => {
                shared.begin(b.status);
                return wire.send(&plan.error).await;
            }
        },
        Some(places) => tokio::select! {
            place = places.acquire() => place.ok(),
            () = gone(&wire.tcp, &mut wire.inbox) => return Err(End::Gone),
        },
        None => None,
    };
    let fate = shared.fate(b);
    match fate {
        Fate::Hang => {
            shared.counters.hung.fetch_add(1, Relaxed);
            return Err(wire.hang().await);
        }
        Fate::Error => {
            wire.pause(b.error_delay_ms.unwrap_or(b.delay_ms)).await?;
            shared.begin(b.status);
            return wire.send(&plan.error).await;
        }
        Fate::Fault => {
            shared.counters.faults.fetch_add(1, Relaxed);
        }
        Fate::Good => {}
    }
    let fault = if fate == Fate::Fault {
        b.fault
    } else {
        Fault::None
    };
    if let Fault::CloseAt(bytes) | Fault::ResetAt(bytes) = fault {
        wire.left = bytes;
    }
    wire.pause(b.delay_ms).await?;
    shared.begin(200);
    let echo = b.echo.then(|| last_message(body));
    let sent = if ask.stream == Some(true) {
        shared.counters.streams.fetch_add(1, Relaxed);
        let own = echo.map(|text| words(&text));
        let usage = ask
            .stream_options
            .is_some_and(|options| options.include_usage);
        stream(
            plan,
            own.as_ref().unwrap_or(&plan.words),
            usage,
            fault,
            wire,
        )
        .await
    } else {
        let own = echo.map(|text| whole(&text));
        complete(own.as_ref().unwrap_or(&plan.whole), fault, wire).await
    };
    match (sent, fault) {
        (Err(End::Close), Fault::ResetAt(_)) => Err(End::Reset),
        (Ok(()), Fault::CloseAt(_)) => Err(End::Close),
        (Ok(()), Fault::ResetAt(_)) => Err(End::Reset),
        (sent, _) => sent,
    }
}

async fn complete(answer: &Bytes, fault: Fault, wire: &mut Wire) -> Result<(), End> {
    let half = &answer[..answer.len() - answer.len() / 4];
    match fault {
        Fault::None | Fault::CloseAt(_) | Fault::ResetAt(_) => wire.send(answer).await,
        Fault::Malformed => {
            let body = r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":"#;
            wire.send(&response(200, "", body)).await
        }
        Fault::StallAfter(_) => {
            wire.send(half).await?;
            Err(wire.hang().await)
        }
        Fault::EndAfter(_) | Fault::CutAfter(_) | Fault::ErrorAfter(_) => {
            wire.send(half).await?;
            Err(End::Close)
        }
    }
}

async fn stream(
    plan: &Plan,
    words: &[Bytes],
    usage: bool,
    fault: Fault,
    wire: &mut Wire,
) -> Result<(), End> {
    let b = &plan.behaviour;
    let chunks = if b.chunks == 0 || words.is_empty() {
        words.len()
    } else {
        b.chunks
    };
    let broken = match fault {
        Fault::EndAfter(k) | Fault::CutAfter(k) | Fault::StallAfter(k) | Fault::ErrorAfter(k) => k,
        _ => usize::MAX,
    };
    let mut out = BytesMut::with_capacity(AT_ONCE * 320);
    out.extend_from_slice(STREAM);
    if b.first_chunk_ms > 0 {
        wire.send(&out.split()).await?;
        wire.pause(b.first_chunk_ms).await?;
    }
    out.extend_from_slice(opening());
    for at in 0..chunks.min(broken) {
        if fault == Fault::Malformed && at == 1 {
            out.extend_from_slice(&piece("data: {\"choices\":[{\"delta\":{\"content\":\n\n"));
        } else {
            out.extend_from_slice(&words[at % words.len()]);
        }
        let pause = b.chunk_ms > 0 && at + 1 < chunks;
        if pause || at % AT_ONCE == AT_ONCE - 1 {
            wire.send(&out).await?;
            out.clear();
        }
        if pause {
            wire.pause(b.chunk_ms).await?;
        }
    }
    match fault {
        Fault::EndAfter(_) => out.extend_from_slice(b"0\r\n\r\n"),
        Fault::ErrorAfter(_) => {
            let error = r#"{"error":{"message":"the upstream was told to fail","type":"server_error","code":500}}"#;
            out.extend_from_slice(&piece(&format!("data: {error}\n\n")));
            out.extend_from_slice(b"0\r\n\r\n");
        }
        Fault::CutAfter(_) | Fault::StallAfter(_) => {}
        _ => out.extend_from_slice(&ending(usage.then_some(chunks))),
    }
    wire.send(&out).await?;
    match fault {
        Fault::CutAfter(_) => Err(End::Close),
        Fault::StallAfter(_) => Err(wire.hang().await),
        _ => Ok(()),
    }
}

/// The content of the request's last message, if that is a string.
fn last_message(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let last = body["messages"].as_array().and_then(|all| all.last());
    let content = last.and_then(|message| message["content"].as_str());
    content.unwrap_or_default().to_owned()
}
