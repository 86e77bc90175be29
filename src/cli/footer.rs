//! What is told about an answer, below it.

use std::time::Duration;

use serde_json::Value;

use super::reply::Reply;

/// The lines below an answer: who gave it, what it took, what failed before, who agreed, and what to
/// beware of.
pub fn lines(reply: &Reply) -> Vec<String> {
    let report = &reply.report;
    let mut lines = vec![summary(reply)];
    let failed: Vec<String> = list(&report["attempts"])
        .filter_map(failed_attempt)
        .collect();
    if !failed.is_empty() {
        lines.push(format!("tried in vain: {}", failed.join(", ")));
    }
    lines.extend(list(&report["members"]).map(member));
    let share = |key: &str| Some(format!("{key} {:.0} %", report[key].as_f64()? * 100.0));
    let shares: Vec<String> = ["agreement", "confidence"]
        .into_iter()
        .filter_map(share)
        .collect();
    if !shares.is_empty() {
        lines.push(shares.join(" · "));
    }
    match reply.finish.as_deref() {
        Some("length") => lines.push("cut: the token limit was reached".into()),
        Some("content_filter") => lines.push("cut: by the provider's content filter".into()),
        _ => {}
    }
    if let Some(note) = report["note"].as_str() {
        lines.push(note.to_owned());
    }
    lines
}

fn summary(reply: &Reply) -> String {
    let Reply { report, usage, .. } = reply;
    let tokens = |key: &str| usage[key].as_u64();
    let read = tokens("prompt_tokens").map(|count| format!("{count} tokens in"));
    let written = tokens("completion_tokens").map(|count| format!("{count} out"));
    let first = reply.first.filter(|first| *first < reply.total);
    let first = first
        .map(|first| format!(" (first word after {})", time(first)))
        .unwrap_or_default();
    let parts = [
        report["model"].as_str().map(str::to_owned),
        read,
        written,
        Some(time(reply.total) + &first),
        report["cost"].as_f64().map(dollars),
        report["decision"]
            .as_str()
            .map(|decision| format!("decision {decision}")),
    ];
    parts
        .into_iter()
        .flatten()
        .collect::<Vec<String>>()
        .join(" · ")
}

fn failed_attempt(attempt: &Value) -> Option<String> {
    let outcome = attempt["outcome"]
        .as_str()
        .filter(|outcome| !matches!(*outcome, "ok" | "cancelled"))?;
    Some(format!("{} ({outcome})", attempt["deployment"].as_str()?))
}

fn member(member: &Value) -> String {
    let model = member["model"].as_str().unwrap_or("?");
    let outcome = member["outcome"].as_str().unwrap_or("?");
    let chosen = if member["chosen"] == true {
        ", chosen"
    } else {
        ""
    };
    let took = member["ms"]
        .as_f64()
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    let took = took
        .map(|took| format!(" · {}", time(took)))
        .unwrap_or_default();
    let error = member["error"]
        .as_str()
        .map(|error| format!(" · {error}"))
        .unwrap_or_default();
    format!("  {model}: {outcome}{chosen}{took}{error}")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A duration as a person reads it.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() < 1000 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Dollars to two significant digits, however small.
fn dollars(amount: f64) -> String {
    if amount >= 0.1 || amount <= 0.0 {
        return format!("${amount:.2}");
    }
    let digits = 1.0 - amount.log10().floor();
    format!("${amount:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_answer_is_told_in_one_line() {
        let reply = Reply {
            report: json!({ "model": "a/x", "decision": "0192", "cost": 0.00123, "attempts": [
                { "deployment": "a/x", "outcome": "ok", "ms": 1.0 },
            ] }),
            usage: json!({ "prompt_tokens": 12, "completion_tokens": 34 }),
            finish: Some("stop".into()),
            first: Some(Duration::from_millis(80)),
            total: Duration::from_millis(1240),
            ..Reply::default()
        };
        let line = "a/x · 12 tokens in · 34 out · 1.2 s (first word after 80 ms) · $0.0012 · decision 0192";
        assert_eq!(lines(&reply), [line]);
    }

    #[test]
    fn what_failed_and_what_to_beware_of_is_told() {
        let reply = Reply {
            report: json!({ "model": "a/x", "note": "tiny", "attempts": [
                { "deployment": "b/y", "outcome": "timeout" },
                { "deployment": "a/x", "outcome": "ok" },
            ] }),
            finish: Some("length".into()),
            ..Reply::default()
        };
        let told = lines(&reply);
        assert_eq!(
            told[1..],
            [
                "tried in vain: b/y (timeout)",
                "cut: the token limit was reached",
                "tiny"
            ]
        );
    }

    #[test]
    fn an_ensemble_tells_its_members_their_agreement_and_the_confidence() {
        let members = json!([
            { "model": "a/x", "outcome": "ok", "chosen": true, "ms": 800.0 },
            { "model": "b/y", "outcome": "timeout", "chosen": false, "ms": 5000.0, "error": "silent" },
        ]);
        let report = json!({ "members": members, "agreement": 0.667, "confidence": 0.81 });
        let told = lines(&Reply {
            report,
            ..Reply::default()
        });
        assert_eq!(told[1], "  a/x: ok, chosen · 800 ms");
        assert_eq!(told[2], "  b/y: timeout · 5.0 s · silent");
        assert_eq!(told[3], "agreement 67 % · confidence 81 %");
    }

    #[test]
    fn a_report_of_another_version_breaks_nothing() {
        let odd =
            json!({ "model": 7, "attempts": { "a": 1 }, "members": [null], "agreement": "high" });
        assert_eq!(
            lines(&Reply {
                report: odd,
                ..Reply::default()
            }),
            ["0 ms", "  ?: ?"]
        );
    }

    #[test]
    fn times_and_dollars_read_well() {
        let shown =
            [0.0123, 1.26, 75.0, 3725.0, 90_000.0].map(|s| time(Duration::from_secs_f64(s)));
        assert_eq!(
            shown,
            ["12 ms", "1.3 s", "1 min 15 s", "1 h 2 min", "1 d 1 h"]
        );
        let shown = [0.0, 12.345, 0.0123, 0.000_004_56].map(dollars);
        assert_eq!(shown, ["$0.00", "$12.35", "$0.012", "$0.0000046"]);
    }
}
