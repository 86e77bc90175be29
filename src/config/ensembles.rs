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
    /// to 1 for `first`, `adaptive` and `cascade`, which may want no second answer.
    pub quorum: usize,
    /// How long the members may take, 1 ms to 24 h, within the query's own deadline.
    pub deadline: Option<Duration>,
    /// Dollars one query may cost at most, estimated before each call; above 0 up to 10,000.
    pub max_cost: Option<f64>,
    /// How many members are asked at first, 1 to their number; more are asked while that is worth it. Default
    /// 1 for `adaptive` and `cascade`, else all of them.
    pub wave: usize,
    /// The confidence at which `adaptive` and `cascade` ask nobody more, 0.5 to 1. Default 0.95.
    pub stop: f64,
    /// What the decisions of `adaptive` and `cascade` are made for. By default one more right answer
    /// is worth 20 calls a member (of five at least), at the mean price of them.
    pub aim: Option<Aim>,
    /// Whether answers in prose that say the same in other words are found by sentence vectors as well; needs
    /// `quorate models fetch minilm`. Default false.
    pub vectors: bool,
    /// The deployment or alias that judges or writes; needed by `judge` and `synthesize`, and refused
    /// with any other merge.
    pub judge: Option<String>,
}

/// What asking one member after the other is to come to.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// One more right answer is worth this many dollars (calls, where no member has a price).
    Worth(f64),
    /// At most this many dollars a query on average over past rounds.
    Cost(f64),
    /// At least this share right over past rounds, 0.01 to 1.
    Accuracy(f64),
}

fn aim(text: Option<&str>) -> Result<Aim, String> {
    let wanted = || {
        "must be \"worth DOLLARS\", \"cost DOLLARS\" (a query, on average) or \"accuracy SHARE\", with dollars from \
         0.000001 to 1000 and a share from 0.01 to 1"
            .to_owned()
    };
    let (what, number) = text
        .and_then(|text| text.split_once(' '))
        .ok_or_else(wanted)?;
    let number: f64 = number.trim().parse().map_err(|_| wanted())?;
    let dollars = (1e-6..=1000.0).contains(&number);
    match what {
        "worth" if dollars => Ok(Aim::Worth(number)),
        "cost" if dollars => Ok(Aim::Cost(number)),
        "accuracy" if (0.01..=1.0).contains(&number) => Ok(Aim::Accuracy(number)),
        _ => Err(wanted()),
    }
}

/// The confidence at which nobody more is asked.
pub const DEFAULT_STOP: f64 = 0.95;

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
    let wave = section.integer("wave", 1..=members.as_ref().map_or(32, Vec::len));
    let stop = section.float("stop", 0.5..=1.0);
    let vectors = section.flag("vectors").unwrap_or(false);
    let aim = section.get("aim", |_, node| aim(node.value.text()));

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
    Some(Ensemble {
        quorum: quorum.unwrap_or(merge.quorum(members.len())),
        wave: wave.unwrap_or(merge.wave(members.len())),
        stop: stop.unwrap_or(DEFAULT_STOP),
        aim,
        vectors,
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
