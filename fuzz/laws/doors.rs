//! A daemon's socket in this process, for laws about what its doors answer.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use quorate::gateway::{Gateway, Hooks};
use quorate::{Config, Orchestrator};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// The longest line or body the doors take, in bytes.
pub const MAX_BODY: usize = 1000;
/// An answer takes microseconds; only what hangs takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Doors {
    runtime: Runtime,
    socket: PathBuf,
    _folder: TempDir,
}

thread_local! {
    static DOORS: RefCell<Option<Doors>> = const { RefCell::new(None) };
}

/// Says the pieces on a connection of its own, ends there, and returns everything that comes back.
pub fn converse(pieces: &[&[u8]]) -> Vec<u8> {
    DOORS.with_borrow_mut(|doors| {
        let doors = doors.get_or_insert_with(open);
        let said = async {
            let mut stream = UnixStream::connect(&doors.socket)
                .await
                .expect("an open door");
            for piece in pieces {
                // The door may have heard enough and closed.
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        };
        doors
            .runtime
            .block_on(async { timeout(PATIENCE, said).await })
            .expect("an end")
    })
}

fn open() -> Doors {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = TempDir::new().unwrap();
    let toml = format!(
        "[server]\nhttp = 'off'\nsocket = '{}/q.sock'\nmax_body = {MAX_BODY}\n[ledger]\npath = 'off'\n\
         [[providers]]\nname = 'east'\nkind = 'scripted'\nmodels = ['m1', 'm2']\n\
         [ensembles.both]\nmembers = ['east/m1', 'east/m2']\n",
        folder.path().display()
    );
    let config = Config::parse(&toml, "doors.toml", Vec::new(), &[]).unwrap();
    let gateway = runtime.block_on(async {
        let orchestrator = Orchestrator::builder(config).start().await.unwrap();
        Gateway::bind(orchestrator, Hooks::default()).await.unwrap()
    });
    let socket = gateway.socket().unwrap().to_owned();
    runtime.spawn(gateway.serve(std::future::pending()));
    Doors {
        runtime,
        socket,
        _folder: folder,
    }
}
