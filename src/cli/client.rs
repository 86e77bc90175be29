//! JSON-RPC 2.0 over the daemon's Unix socket: one JSON object a line, each way.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::failure::Failure;
use super::global::Global;

/// The longest line a daemon may send, in bytes.
const LONGEST_LINE: usize = 64 << 20;

/// How long a daemon may take over anything but an answer of a model.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a daemon.
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// What has arrived of the next line. Kept here so that a wait for it may be given up.
    line: Vec<u8>,
    last_id: u64,
}

/// What comes back for a request.
pub enum Event {
    /// A chunk of a stream, as the OpenAI wire writes it.
    Chunk(Value),
    /// The result, after which nothing follows.
    Done(Value),
}

impl Client {
    /// Connects to the daemon that `global` leads to.
    pub async fn dial(global: &Global) -> Result<Self, Failure> {
        let path = door(global)?;
        let connected = Self::connect(&path).await;
        let client = connected.map_err(|error| unreachable(&path, &error))?;
        global.leave_to(&path)?;
        Ok(client)
    }

    /// Connects to the daemon at `path`.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        // Anybody may create `/tmp/quorate-<uid>` before we do, and read what is asked there.
        if path.starts_with("/tmp") && !is_trusted(&stream)? {
            return Err(io::Error::other("the socket belongs to another user"));
        }
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader: BufReader::new(reader),
            writer,
            line: Vec::new(),
            last_id: 0,
        })
    }

    /// Calls a method that answers at once.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let answer = timeout(PATIENCE, self.ask(method, params)).await;
        let waited = PATIENCE.as_secs();
        let silent = |_| Failure::unavailable(format!("the daemon did not answer for {waited} s"));
        answer.map_err(silent)?
    }

    /// Calls a method and waits for its result as long as it takes.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let id = self.send(method, params).await?;
        loop {
            if let Event::Done(result) = self.next(id).await? {
                return Ok(result);
            }
        }
    }

    /// Sends a request; [`Client::next`] waits for what it leads to.
    pub async fn send(&mut self, method: &str, params: Value) -> Result<u64, Failure> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.writer
            .write_all(format!("{request}\n").as_bytes())
            .await
            .map_err(|e| lost(&e))?;
        Ok(id)
    }

    /// Asks the daemon to give up a request, which then ends with an error.
    pub async fn cancel(&mut self, id: u64) -> Result<(), Failure> {
        self.send("cancel", json!({ "id": id })).await.map(drop)
    }

    /// The next event of the request `id`. Dropping the future loses nothing.
    pub async fn next(&mut self, id: u64) -> Result<Event, Failure> {
        loop {
            let mut message = self.message().await?;
            if message["method"] == "delta" && message["params"]["id"] == id {
                return Ok(Event::Chunk(message["params"]["chunk"].take()));
            }
            // A request that could not be read has no id to answer to.
            let is_ours = message["id"] == id || message["id"].is_null();
            if let Some(error) = message.get("error").filter(|_| is_ours) {
                return Err(Failure::from_rpc(error));
            }
            if message["id"] == id {
                return Ok(Event::Done(message["result"].take()));
            }
        }
    }

    async fn message(&mut self) -> Result<Value, Failure> {
        let room = LONGEST_LINE.saturating_sub(self.line.len()) as u64;
        let mut reader = (&mut self.reader).take(room);
        reader
            .read_until(b'\n', &mut self.line)
            .await
            .map_err(|error| lost(&error))?;
        if self.line.last() != Some(&b'\n') {
            let cause = if self.line.len() < LONGEST_LINE {
                "it was closed"
            } else {
                "a line is too long"
            };
            return Err(lost(&cause));
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message.map_err(|error| lost(&format!("what it says is no JSON: {error}")))
    }
}

/// The path of the daemon's socket, which a client cannot do without.
pub fn door(global: &Global) -> Result<PathBuf, Failure> {
    let none =
        || Failure::usage("the configuration has server.socket = \"off\": give --socket PATH");
    global.door()?.ok_or_else(none)
}

/// Whether an error of [`Client::connect`] means that nobody listens there.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// What to tell if [`Client::connect`] failed.
pub fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if is_absent(error) {
        let start = "start one with 'quorate serve', or name its socket with --socket";
        return Failure::unavailable(format!("no daemon answers at {path}: {start}"));
    }
    Failure::unavailable(format!("the daemon at {path} cannot be reached: {error}"))
}

fn lost(error: &impl std::fmt::Display) -> Failure {
    Failure::unavailable(format!("the connection to the daemon was lost: {error}"))
}

/// Whether the other end is this user or the system's. Our own uid is read off a socket to ourselves,
/// as the system call needs `unsafe`.
fn is_trusted(stream: &UnixStream) -> io::Result<bool> {
    let (own, _other) = UnixStream::pair()?;
    let peer = stream.peer_cred()?.uid();
    Ok(peer == 0 || peer == own.peer_cred()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;
    use tokio::net::UnixListener;

    async fn pair() -> (Client, UnixStream) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = Client::connect(&path).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn chunks_come_before_the_result_and_what_is_others_is_passed_over() {
        let (mut client, mut daemon) = pair().await;
        let id = client.send("stream", json!({})).await.unwrap();
        let lines = "{\"method\":\"delta\",\"params\":{\"id\":9,\"chunk\":\"theirs\"}}\n\
                     {\"id\":9,\"error\":{\"message\":\"theirs\"}}\n\
                     {\"method\":\"delta\",\"params\":{\"id\":1,\"chunk\":\"ours\"}}\n\
                     {\"id\":1,\"result\":{\"quorate\":{}}}\n";
        daemon.write_all(lines.as_bytes()).await.unwrap();
        assert!(matches!(client.next(id).await, Ok(Event::Chunk(chunk)) if chunk == "ours"));
        assert!(matches!(client.next(id).await, Ok(Event::Done(_))));
    }

    #[tokio::test]
    async fn a_wait_given_up_in_the_middle_of_a_line_loses_nothing() {
        let (mut client, mut daemon) = pair().await;
        let id = client.send("stream", json!({})).await.unwrap();
        daemon.write_all(b"{\"id\":1,").await.unwrap();
        assert!(
            timeout(Duration::from_millis(50), client.next(id))
                .await
                .is_err()
        );
        daemon.write_all(b"\"result\":7}\n").await.unwrap();
        assert!(matches!(client.next(id).await, Ok(Event::Done(result)) if result == 7));
    }

    #[tokio::test]
    async fn a_daemon_that_leaves_or_talks_nonsense_is_reported() {
        let (mut client, mut daemon) = pair().await;
        daemon.write_all(b"hello\n{\"id\":1,").await.unwrap();
        assert!(
            client
                .ask("status", json!({}))
                .await
                .unwrap_err()
                .message
                .contains("no JSON")
        );
        drop(daemon);
        let failure = client.next(1).await.err().unwrap();
        assert!(failure.message.contains("was lost"), "{}", failure.message);
        assert_eq!(failure.exit, Exit::Unavailable);
    }

    #[tokio::test]
    async fn no_daemon_is_told_with_the_way_to_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q.sock");
        let error = Client::connect(&path).await.err().unwrap();
        let failure = unreachable(&path, &error);
        assert!(
            failure.message.contains("quorate serve"),
            "{}",
            failure.message
        );
    }
}
