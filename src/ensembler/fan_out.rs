//! One ensemble, start to end: asks, stops early, merges.

use tokio::time::Instant;

use super::conclude::{conclude, live};
use super::poll::poll;
use super::steering::Steering;
use super::vectors::Vectors;
use super::{Job, Merged};
use crate::error::{Error, Result};

pub(super) async fn run(job: Job, vectors: &Vectors) -> Result<Merged> {
    let deadline = match job.plan.deadline {
        Some(within) => job.deadline.min(Instant::now() + within),
        None => job.deadline,
    };
    let asked = affordable(&job);
    if asked.len() < job.plan.quorum {
        let message = format!(
            "max_cost allows {} members, the quorum is {}",
            asked.len(),
            job.plan.quorum
        );
        return Err(Error::invalid("max_cost", message));
    }
    let steering = Steering::new(&job.plan, &job.query, job.course.as_ref());
    let mut polled = poll(&job, &steering, vectors, &asked, deadline).await;
    match polled.floor.take() {
        None => conclude(&job, &steering, polled).await,
        Some((place, begun)) => Ok(live(job, polled, place, begun)),
    }
}

/// The members that the cost cap lets us ask, in the plan's order. What has no price costs nothing here.
fn affordable(job: &Job) -> Vec<usize> {
    let mut left = job.plan.max_cost.unwrap_or(f64::INFINITY);
    let mut asked = Vec::new();
    for (index, member) in job.plan.members.iter().enumerate() {
        let cost = member
            .candidates
            .first()
            .and_then(|first| first.expected.dollars)
            .unwrap_or(0.0);
        if cost <= left {
            left -= cost;
            asked.push(index);
        }
    }
    asked
}
