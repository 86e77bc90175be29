//! An upstream that speaks without end, and counts what it got rid of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
pub struct Endless {
    /// Bytes of answers that somebody took.
    pub sent: AtomicU64,
    /// Streams that nobody has ended.
    pub open: AtomicUsize,
}

impl Endless {
    /// Serves until the test ends.
    pub async fn start() -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endless = Arc::new(Self::default());
        let serving = Arc::clone(&endless);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        (endless, address)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut request = vec![0; 64 * 1024];
        if !matches!(stream.read(&mut request).await, Ok(1..)) {
            return;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let piece = json!({
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m1",
            "choices": [{ "index": 0, "delta": { "content": "x".repeat(8 * 1024) }, "finish_reason": null }],
        });
        let event = format!("data: {piece}\n\n");
        let mut written = stream.write_all(head.as_bytes()).await;
        while written.is_ok() {
            written = stream.write_all(event.as_bytes()).await;
            self.sent.fetch_add(event.len() as u64, Ordering::Relaxed);
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its section of a configuration.
    pub fn provider(address: SocketAddr) -> String {
        format!(
            "[[providers]]\nname = \"endless\"\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\n\
             api_key = \"test\"\nmodels = [\"m1\"]\n"
        )
    }
}
