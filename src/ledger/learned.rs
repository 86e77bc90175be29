//! Learned state to cells and back. Each cell stands on its own: a damaged one is reported and its owner
//! starts without it, the others serve.
//!
//! | key | what |
//! |---|---|
//! | `deployment:<id>:latency`, `ability`, `aptitude`, `sources`, `tokens` | what a deployment has shown |
//! | `topics` | the callers' names for kinds of work that have a row |
//! | `ensemble:<name>` | the weights and the calibration of an ensemble |
//! | `experiment:<name>` | an experiment's evidence |
//! | `retired` | the experiments that are configured no more, whoever left last at the end; not part of what is exported |
//! | `pinned` | whether learning rests; likewise |
//! | `forgotten` | the Unix millisecond up to which rounds of votes were forgotten; likewise |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cell, Quarantined};
use crate::id::DeploymentId;
use crate::learning::aptitude::Aptitude;
use crate::learning::{Ability, Latency, Topics, experiment, votes};
use crate::provider::{self, Snapshot, Sources, Tokens};

/// The format of the payloads; another version is not read.
const VERSION: u32 = 1;

/// The key of the cell that says whether learned state is pinned.
pub const PINNED: &str = "pinned";

/// The key of the cell that says up to when rounds of votes were forgotten.
pub const FORGOTTEN: &str = "forgotten";

/// The key of the cell that names the experiments that are configured no more.
pub const RETIRED: &str = "retired";

/// Learned state as it came back.
#[derive(Debug, Default)]
pub struct Learned {
    /// Of each deployment.
    pub deployments: HashMap<DeploymentId, Snapshot>,
    /// The topics that have rows.
    pub topics: Topics,
    /// What the votes of each ensemble's members are worth.
    pub ensembles: BTreeMap<String, votes::Model>,
    /// Whether it was pinned.
    pub pinned: bool,
    /// The Unix millisecond up to which rounds of votes were forgotten.
    pub forgotten: i64,
    /// The evidence of each experiment.
    pub experiments: BTreeMap<String, experiment::State>,
    /// Those that were configured no more, whoever left last at the end.
    pub retired: Vec<String>,
}

/// What every deployment has learned.
pub fn cells(fleet: &[Arc<provider::Cell>], topics: &Topics) -> Vec<Cell> {
    let mut cells = Vec::new();
    for member in fleet {
        let id = member.deployment.load().id.clone();
        let snapshot = member.snapshot.load();
        let mut add = |what: &str, cell: Option<Cell>| {
            cells.extend(cell.map(|cell| Cell {
                key: format!("deployment:{id}:{what}"),
                ..cell
            }))
        };
        add("latency", cell(&snapshot.latency));
        add("ability", cell(&snapshot.ability));
        add("sources", cell(&snapshot.sources));
        add("tokens", cell(&snapshot.tokens));
        if *snapshot.aptitude != Aptitude::default() {
            add("aptitude", cell(&*snapshot.aptitude));
        }
    }
    if *topics != Topics::default() {
        cells.extend(named("topics", topics));
    }
    cells
}

/// A cell of this key.
pub fn named(key: &str, value: &impl Serialize) -> Option<Cell> {
    cell(value).map(|cell| Cell {
        key: key.to_owned(),
        ..cell
    })
}

fn cell(value: &impl Serialize) -> Option<Cell> {
    Some(Cell {
        key: String::new(),
        version: VERSION,
        payload: serde_json::to_string(value).ok()?,
    })
}

/// Reads cells back. What is of another version, does not parse or holds impossible numbers is returned
/// with the reason.
pub fn restore(cells: Vec<Cell>) -> (Learned, Vec<Quarantined>) {
    let mut learned = Learned::default();
    let mut bad = Vec::new();
    for cell in cells {
        if let Err(reason) = restore_one(&cell, &mut learned) {
            bad.push(Quarantined {
                key: cell.key,
                reason,
            });
        }
    }
    (learned, bad)
}

fn restore_one(cell: &Cell, learned: &mut Learned) -> Result<(), String> {
    if cell.version != VERSION {
        return Err(format!("version {} is not {VERSION}", cell.version));
    }
    let payload = cell.payload.as_str();
    if cell.key == "topics" {
        learned.topics = checked(payload, Topics::validate)?;
        return Ok(());
    }
    if cell.key == PINNED {
        learned.pinned = parse(payload)?;
        return Ok(());
    }
    if cell.key == FORGOTTEN {
        learned.forgotten = parse(payload)?;
        return Ok(());
    }
    if cell.key == RETIRED {
        learned.retired = parse(payload)?;
        return Ok(());
    }
    let (subject, rest) = cell.key.split_once(':').ok_or("the key names nothing")?;
    match subject {
        "ensemble" => {
            let model = checked(payload, votes::Model::validate)?;
            learned.ensembles.insert(rest.to_owned(), model);
            Ok(())
        }
        "experiment" => {
            let state = checked(payload, |state: &experiment::State| state.validate())?;
            learned.experiments.insert(rest.to_owned(), state);
            Ok(())
        }
        "deployment" => {
            let (id, what) = rest.rsplit_once(':').ok_or("the key names no part")?;
            let id = DeploymentId::from(id);
            restore_part(what, payload, learned.deployments.entry(id).or_default())
        }
        other => Err(format!("'{other}' is nothing we learn")),
    }
}

fn restore_part(what: &str, payload: &str, snapshot: &mut Snapshot) -> Result<(), String> {
    match what {
        "latency" => {
            let mut latency: Latency = parse(payload)?;
            let reset = latency.sanitize();
            snapshot.latency = latency;
            if reset.is_empty() {
                Ok(())
            } else {
                Err(format!("impossible numbers, reset: {}", reset.join(", ")))
            }
        }
        "ability" => {
            snapshot.ability = checked(payload, Ability::validate)?.into();
            Ok(())
        }
        "aptitude" => {
            snapshot.aptitude = Arc::new(checked(payload, Aptitude::validate)?);
            Ok(())
        }
        "sources" => {
            snapshot.sources = checked(payload, Sources::validate)?.into();
            Ok(())
        }
        "tokens" => {
            snapshot.tokens = checked(payload, Tokens::validate)?;
            Ok(())
        }
        other => Err(format!("'{other}' is nothing a deployment learns")),
    }
}

fn parse<T: DeserializeOwned>(payload: &str) -> Result<T, String> {
    serde_json::from_str(payload).map_err(|error| error.to_string())
}

fn checked<T: DeserializeOwned>(
    payload: &str,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<T, String> {
    let value = parse(payload)?;
    check(&value)?;
    Ok(value)
}
