//! Learned state to cells and back. Each cell stands on its own: a damaged one is reported and its owner
//! starts without it, the others serve.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cell, Quarantined};
use crate::id::DeploymentId;
use crate::learning::{Latency, QualityTable};
use crate::provider::{self, Snapshot};

/// The format of the payloads; another version is not read.
const VERSION: u32 = 1;
const LATENCY: &str = "latency";
const QUALITY: &str = "quality";

/// What every deployment has learned, as cells `deployment:<id>:<what>`.
pub fn cells(fleet: &[Arc<provider::Cell>]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for member in fleet {
        let id = member.deployment.load().id.clone();
        let snapshot = member.snapshot.load();
        cells.extend(cell(&id, LATENCY, &snapshot.latency));
        cells.extend(cell(&id, QUALITY, &snapshot.quality));
    }
    cells
}

fn cell(id: &DeploymentId, what: &str, value: &impl Serialize) -> Option<Cell> {
    let payload = serde_json::to_string(value).ok()?;
    Some(Cell {
        key: format!("deployment:{id}:{what}"),
        version: VERSION,
        payload,
    })
}

/// Reads cells back. What is of another version, does not parse or holds impossible numbers is returned
/// with the reason.
pub fn restore(cells: Vec<Cell>) -> (HashMap<DeploymentId, Snapshot>, Vec<Quarantined>) {
    let mut learned: HashMap<DeploymentId, Snapshot> = HashMap::new();
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

fn restore_one(cell: &Cell, learned: &mut HashMap<DeploymentId, Snapshot>) -> Result<(), String> {
    let rest = cell
        .key
        .strip_prefix("deployment:")
        .ok_or("the key names no deployment")?;
    let (id, what) = rest.rsplit_once(':').ok_or("the key names no part")?;
    if cell.version != VERSION {
        return Err(format!("version {} is not {VERSION}", cell.version));
    }
    let snapshot = learned.entry(DeploymentId::from(id)).or_default();
    let reset = match what {
        LATENCY => {
            let mut latency: Latency = parse(&cell.payload)?;
            let reset = latency.sanitize();
            snapshot.latency = latency;
            reset
        }
        QUALITY => {
            let mut quality: QualityTable = parse(&cell.payload)?;
            let reset = quality.sanitize();
            snapshot.quality = quality;
            reset
        }
        other => return Err(format!("'{other}' is nothing we learn")),
    };
    if reset.is_empty() {
        Ok(())
    } else {
        Err(format!("impossible numbers, reset: {}", reset.join(", ")))
    }
}

fn parse<T: DeserializeOwned>(payload: &str) -> Result<T, String> {
    serde_json::from_str(payload).map_err(|error| error.to_string())
}
