//! What is told of the members of an ensemble.

use std::collections::HashMap;
use std::time::Duration;

use super::Job;
use super::poll::Polled;
use crate::answer::MemberReport;
use crate::error::{Error, ErrorKind};
use crate::id::DeploymentId;
use crate::router::Plan;

/// What every member did, in the order of the plan.
pub(super) fn members(
    job: &Job,
    polled: &Polled,
    groups: &HashMap<usize, u8>,
    chosen: &[usize],
) -> Vec<MemberReport> {
    let ballots = polled.ballots.iter();
    let longest = ballots.map(|ballot| ballot.took).max();
    let longest = longest.unwrap_or_else(|| polled.started.elapsed());
    let of = |(place, member): (usize, &Plan)| {
        let mut ballots = polled.ballots.iter();
        let ballot = ballots.find(|ballot| ballot.index == place);
        match ballot.map(|ballot| (&ballot.result, ballot.took)) {
            Some((Ok(given), took)) => MemberReport {
                model: given.cell.deployment.load().id.clone(),
                outcome: "ok",
                content: Some(given.answer.content().to_owned()),
                error: None,
                chosen: chosen.contains(&place),
                group: groups.get(&place).copied(),
                tokens: given.answer.usage.map(|usage| usage.output),
                ms: took.as_secs_f64() * 1e3,
            },
            Some((Err(error), took)) => absent(member, None, Some(error), took),
            None => {
                let not_asked = if !polled.open.contains(&place) {
                    Some("max_cost")
                } else if !polled.asked.contains(&place) {
                    Some("not needed")
                } else {
                    None
                };
                absent(member, not_asked, None, longest)
            }
        }
    };
    job.plan.members.iter().enumerate().map(of).collect()
}

/// A member without an answer; `not_asked` says why it was not asked.
fn absent(
    member: &Plan,
    not_asked: Option<&'static str>,
    error: Option<&Error>,
    took: Duration,
) -> MemberReport {
    let model = member.candidates.first().map_or_else(
        || DeploymentId::from(member.asked.as_str()),
        |candidate| candidate.deployment.clone(),
    );
    let outcome = match (not_asked, error) {
        (Some("max_cost"), _) => "not asked: max_cost",
        (Some(_), _) => "not asked: not needed",
        (None, Some(error)) => error.kind().name(),
        (None, None) => ErrorKind::Cancelled.name(),
    };
    MemberReport {
        model,
        outcome,
        content: None,
        error: error.map(|error| error.message().to_owned()),
        chosen: false,
        group: None,
        tokens: None,
        ms: took.as_secs_f64() * 1e3,
    }
}
