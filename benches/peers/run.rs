//! `run`: everybody through the same cells, in turn, several times.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cells::Results;
use crate::chart::{Bar, Scale, Sheet};
use crate::gateways::Peer;
use crate::mocks::Mocks;
use crate::{Result, machine, target};

#[derive(clap::Args)]
pub struct Run {
    /// Rounds; each begins with another peer
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Short cells and one round: to see that it works, not what it says
    #[arg(long)]
    quick: bool,
    /// Who is compared
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "direct,nginx,quorate,litellm,portkey"
    )]
    peers: Vec<Peer>,
    /// Seconds of each cell; default 3, 0.5 with --quick
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the results are written
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
    /// Install LiteLLM and Portkey below the target directory, if they are not there
    #[arg(long)]
    install: bool,
}

pub async fn run(run: Run) -> Result<()> {
    let installed = target()?.join("peers");
    let work = run.out.join("work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let rounds = if run.quick { 1 } else { run.rounds.max(1) };
    let during = Duration::from_secs_f64(run.seconds.unwrap_or(if run.quick { 0.5 } else { 3.0 }));
    let mut peers: Vec<Peer> = run
        .peers
        .iter()
        .copied()
        .filter(|peer| *peer != Peer::Direct)
        .collect();
    for peer in &peers {
        if run.install && peer.missing(&installed).is_some() {
            peer.install(&installed)?;
        }
    }
    peers.retain(|peer| {
        let missing = peer.missing(&installed);
        if let Some(why) = &missing {
            anstream::eprintln!("{why}");
        }
        missing.is_none()
    });
    let mocks = Mocks::start(3, &work).await?;
    let mut results = Results::default();
    let mut loads = Vec::new();
    let bar = ProgressBar::new((rounds * (peers.len() * 7 + 3)) as u64);
    bar.set_style(ProgressStyle::with_template(
        "{elapsed} {wide_bar} {pos}/{len} {msg}",
    )?);
    for round in 1..=rounds {
        loads.push(machine::load());
        if round > 1 && !peers.is_empty() {
            peers.rotate_left(1);
        }
        for peer in peers.clone() {
            let tick = |what: &str| {
                bar.set_message(format!("round {round}, {}: {what}", peer.name()));
                bar.inc(1);
            };
            tick("start");
            mocks.behave_all(&json!({})).await?;
            let dir = work.join(format!("{}-{round}", peer.name()));
            let measured = async {
                let mut gateway = peer.start(mocks.addr(0), &dir, &installed).await?;
                results
                    .measure((peer, round), &mut gateway, &mocks, during, tick)
                    .await?;
                drop(gateway);
                if peer == Peer::Quorate {
                    results.extras(round, &mocks, &dir, during, tick).await?;
                }
                Result::Ok(())
            };
            if let Err(error) = measured.await {
                bar.suspend(|| anstream::eprintln!("{} in round {round}: {error}", peer.name()));
            }
        }
    }
    bar.finish_and_clear();
    write(
        &run.out,
        &results,
        &run.peers,
        &installed,
        (rounds, during),
        &loads,
    )
}

fn write(
    out: &Path,
    results: &Results,
    peers: &[Peer],
    installed: &Path,
    (rounds, during): (usize, Duration),
    loads: &[f64],
) -> Result<()> {
    let mut names = vec![Peer::Direct.name()];
    names.extend(
        peers
            .iter()
            .filter(|peer| **peer != Peer::Direct)
            .map(|peer| peer.name()),
    );
    let machine = machine::describe();
    let versions: serde_json::Map<_, _> = peers
        .iter()
        .filter_map(|peer| Some((peer.name().to_owned(), json!(peer.version(installed)?))))
        .collect();
    let note = format!(
        "{}, {} cores, Linux {}; {rounds} rounds of {} s a cell; median, lowest..highest",
        machine["cpu"].as_str().unwrap_or("?"),
        machine["cores"],
        machine["kernel"].as_str().unwrap_or("?"),
        during.as_secs_f64()
    );
    let whole = json!({"machine": machine, "versions": versions, "rounds": rounds, "seconds": during.as_secs_f64(),
        "load_before_rounds": loads, "values": results.values, "cells": results.cells});
    fs::write(out.join("results.json"), serde_json::to_vec_pretty(&whole)?)?;
    fs::write(
        out.join("results.md"),
        format!("{note}\n\n{}", results.markdown(&names)),
    )?;
    fs::write(out.join("peers.svg"), chart(results, &names, &note))?;
    anstream::println!("{}\n{note}", results.terminal(&names));
    anstream::println!(
        "written: results.json, results.md, peers.svg in {}",
        out.display()
    );
    Ok(())
}

fn chart(results: &Results, names: &[&str], note: &str) -> String {
    let mut sheet = Sheet::new("What a gateway adds to its upstream", note);
    let panels = [
        (
            "added_p50_1",
            "Added latency, median: 1 connection, instant upstream",
            "ms",
            Scale::Log,
        ),
        (
            "added_p99_1",
            "Added latency, 99th percentile: 1 connection, instant upstream",
            "ms",
            Scale::Log,
        ),
        (
            "added_p50_32",
            "Added latency, median: 32 connections, 50 ms upstream",
            "ms",
            Scale::Log,
        ),
        (
            "added_first",
            "Added time to first token, median: 1 stream",
            "ms",
            Scale::Log,
        ),
        (
            "share_32",
            "Throughput as a share of direct: 32 connections",
            "",
            Scale::Linear,
        ),
        (
            "share_256",
            "Throughput as a share of direct: 256 connections",
            "",
            Scale::Linear,
        ),
        (
            "share_chunks",
            "Streamed chunks as a share of direct: 32 streams",
            "",
            Scale::Linear,
        ),
        ("cpu", "Processor time a request", "µs", Scale::Log),
        ("rss_peak", "Memory at most", "MB", Scale::Log),
    ];
    for (metric, title, unit, scale) in panels {
        let bars = names
            .iter()
            .filter(|name| **name != "direct")
            .filter_map(|name| {
                let summary = results.summary(name, metric)?;
                Some(Bar {
                    label: (*name).to_owned(),
                    low: summary.low,
                    mid: summary.median,
                    high: summary.high,
                    ours: *name == "Quorate",
                })
            });
        sheet.bars(title, unit, scale, &bars.collect::<Vec<_>>());
    }
    sheet.svg()
}
