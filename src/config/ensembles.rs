//! `[ensembles.<name>]`: several models asked at once, and how their answers become one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ensembler::merge::Strategy;

use super::reader::Target;
use super::section::Section;
use super::values::is_name;

/// Several models asked at once under the model name `ensemble/<name>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// The deployments that are asked, `provider/model`, 2 to 32.
    pub members: Vec<String>,
    /// How their answers become one. Default `plurality`.
    pub merge: Strategy,
    /// How many must have answered, 1 to the number of members. Defaults to more than half of them, and
    /// to 1 for `first`, which wants no second answer.
    pub quorum: usize,
    /// How long the members may take, 1 ms to 24 h, within the query's own deadline.
    pub deadline: Option<Duration>,
    /// Dollars one query may cost at most, estimated before each call; above 0 up to 10,000.
    pub max_cost: Option<f64>,
    /// The deployment or alias that judges or writes; needed by `judge` and `synthesize`, and refused
    /// with any other merge.
    pub judge: Option<String>,
}

pub(super) fn read(root: &mut Section<'_>) -> BTreeMap<String, Ensemble> {
    root.named_tables("ensembles", name, ensemble)
}

fn ensemble(section: &mut Section<'_>) -> Option<Ensemble> {
    let members = section.required("members", |section, key| {
        section.names(key, Target::Deployment, 2..=32)
    });
    let merge = section.choice("merge", Strategy::ALL, Strategy::name);
    let quorum = section.integer("quorum", 1..=members.as_ref().map_or(32, Vec::len));
    let deadline = section.duration(
        "deadline",
        Duration::from_millis(1)..=Duration::from_secs(86_400),
    );
    let max_cost = section.float("max_cost", 1e-6..=10_000.0);
    let judge = section.name("judge", Target::Model);

    if merge.is_some() || !section.given("merge") {
        let merge = merge.unwrap_or_default();
        let judged = matches!(merge, Strategy::Judge | Strategy::Synthesize);
        if judged && !section.given("judge") {
            let message = format!("is missing: merge = \"{}\" needs a model", merge);
            section.fail("judge", message);
        }
        if !judged && section.given("judge") {
            section.fail(
                "judge",
                "only merge = \"judge\" and \"synthesize\" have one",
            );
        }
    }
    let members = members?;
    let merge = merge.unwrap_or_default();
    let needed = if merge == Strategy::First {
        1
    } else {
        members.len() / 2 + 1
    };
    Some(Ensemble {
        quorum: quorum.unwrap_or(needed),
        members,
        merge,
        deadline,
        max_cost,
        judge,
    })
}

fn name(text: &str) -> Result<(), String> {
    if is_name(text) {
        return Ok(());
    }
    Err("an ensemble's name must be 1 to 64 of a-z, 0-9, '.', '_' and '-'".into())
}
