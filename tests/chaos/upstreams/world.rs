//! Two upstreams, `east` and `west`, behind one orchestrator.

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use quorate::provider::adapter::scripted::ScriptedProvider;
use quorate::{Config, Orchestrator, Provider};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::{PATIENCE, World, deployment};
use crate::upstream::{Behaviour, Upstream};

/// How long a fault lasts: 2 s, or 15 s in the long form.
pub fn fault() -> Duration {
    Duration::from_secs(if is_long() { 15 } else { 2 })
}

/// Whether this is the long form.
pub fn is_long() -> bool {
    std::env::var("QUORATE_CHAOS").is_ok_and(|form| form == "long")
}

/// An upstream that is well: it repeats the question after `delay_ms`, so that an answer that belongs to another
/// question shows.
pub fn well(delay_ms: u64) -> Behaviour {
    Behaviour {
        delay_ms,
        echo: true,
        ..Behaviour::default()
    }
}

pub struct Pair {
    pub world: World,
    pub east: Upstream,
    pub west: Upstream,
}

impl Pair {
    /// `fast` means east, then west; `best` means both by score, as `auto` does. `toml` goes before the providers.
    pub async fn start(toml: &str, east: Behaviour, west: Behaviour) -> Self {
        let east = Upstream::start("127.0.0.1:0", east).await.unwrap();
        let west = Upstream::start("127.0.0.1:0", west).await.unwrap();
        let world = world(toml, &east.base_url(), &west.base_url()).await;
        Self { world, east, west }
    }

    /// Nothing was lost, doubled or kept: all that was lent out is back, both upstreams are left alone, no actor was
    /// restarted, nothing panicked, and the ledger has one row for each of the `asked` queries.
    pub async fn end(self, asked: usize) {
        let Self { world, east, west } = self;
        let until = Instant::now() + PATIENCE;
        while east.stats().in_flight + west.stats().in_flight > 0 {
            assert!(Instant::now() < until, "a call was left behind");
            sleep(Duration::from_millis(5)).await;
        }
        end(world, asked).await;
    }

    /// Calls to east that failed, by its own count.
    pub fn failed(&self) -> u64 {
        self.world.deployment("east/m1")["calls"]["failed"]
            .as_u64()
            .unwrap()
    }
}

/// The orchestrator, with its upstreams wherever they are.
pub async fn world(toml: &str, east: &str, west: &str) -> World {
    watch_for_panics();
    let provider = |name: &str, url: &str| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"openai\"\nbase_url = \"{url}\"\nmodels = [\"m1\"]\n"
        )
    };
    let aliases = "[models.fast]\nuse = [\"east/m1\", \"west/m1\"]\n\
                   [models.best]\nuse = [\"east/m1\", \"west/m1\"]\norder = \"scored\"\n";
    let providers = provider("east", east) + &provider("west", west);
    World::start(&format!("{toml}{providers}{aliases}"), Vec::new()).await
}

/// The orchestrator alone with two test doubles and its defaults, for paused time: real sockets do not keep to it.
pub async fn doubles(east: Value, west: Value) -> Orchestrator {
    let config = Config::parse("[ledger]\npath = \"off\"\n", "test", Vec::new(), &[]).unwrap();
    let double = |script| Arc::new(ScriptedProvider::new(script).unwrap()) as Arc<dyn Provider>;
    Orchestrator::builder(config)
        .provider(deployment("east/m1"), double(east))
        .provider(deployment("west/m1"), double(west))
        .start()
        .await
        .unwrap()
}

/// What [`Pair::end`] says, of the orchestrator alone.
pub async fn end(world: World, asked: usize) {
    world.until_all_returned().await;
    let path = world.dir.path().join("ledger.db");
    let ledger = rusqlite::Connection::open(path).unwrap();
    world
        .until("the ledger has a row for each query", async |_| {
            let rows = ledger.query_row("SELECT count(*) FROM decisions", (), |row| row.get(0));
            let rows: i64 = rows.unwrap();
            let rows = usize::try_from(rows).unwrap();
            assert!(rows <= asked, "{rows} decisions of {asked} queries");
            rows == asked
        })
        .await;
    let actors = world.orchestrator.status().actors;
    assert!(actors.iter().all(|actor| actor.restarts == 0), "{actors:?}");
    world.stop().await.unwrap();
    let panics = PANICS.lock().unwrap();
    assert!(panics.is_empty(), "{panics:?}");
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic of this process that is not a test's own.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let own = |at: &std::panic::Location<'_>| at.file().starts_with("tests/");
            if !panic.location().is_some_and(own) {
                PANICS.lock().unwrap().push(panic.to_string());
            }
            usual(panic);
        }));
    });
}

/// The learned state of a deployment's times, `ttft` or `total`.
pub fn learned(world: &World, id: &str, what: &str) -> Value {
    world.deployment(id)[what].clone()
}
