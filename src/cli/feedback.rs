//! `quorate feedback`: how good was an answer?

use serde_json::json;

use super::client::Client;
use super::failure::Failure;
use super::global::Global;
use super::output::Output;

/// Tell how good an answer was, so that the daemon learns from it.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("judgement").required(true).multiple(false),
    override_usage = "quorate feedback [OPTIONS] <DECISION> \
        <SCORE|--thumb <up|down>|--chosen <MODEL>|--reference <TEXT>>"
)]
pub struct Feedback {
    /// The decision, as shown below the answer
    decision: String,
    /// How good it was, from 0 (useless) to 1 (right)
    #[arg(value_parser = share, group = "judgement")]
    score: Option<f64>,
    /// The same with one finger
    #[arg(long, group = "judgement", value_parser = ["up", "down"])]
    thumb: Option<String>,
    /// Of an ensemble, a member whose answer is right
    #[arg(long, group = "judgement", value_name = "MODEL")]
    chosen: Option<String>,
    /// The right answer: whoever gave it was right
    #[arg(long, group = "judgement", value_name = "TEXT")]
    reference: Option<String>,
    /// Who judges; a source's later judgement of a decision is kept in place of its earlier one, and what was
    /// learned of that stays [default: user]
    #[arg(long)]
    source: Option<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let score = text
        .parse()
        .ok()
        .filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| "must be a number from 0 to 1".into())
}

impl Feedback {
    /// Tells it.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let mut client = Client::dial(global).await?;
        let judgement = json!({
            "decision": self.decision,
            "score": self.score,
            "thumb": self.thumb,
            "chosen": self.chosen,
            "reference": self.reference,
            "source": self.source,
        });
        let report = client.call("feedback", judgement).await;
        let report = report.map_err(|failure| failure.of_decision(&self.decision))?;
        if out.json {
            return Ok(out.value(&report)?);
        }
        let outcome = report["outcome"].as_str().unwrap_or("recorded");
        let about = report["deployment"]
            .as_str()
            .map(|id| format!(" for {id}"))
            .unwrap_or_default();
        let unlearned = match report["reason"].as_str() {
            Some(why) => format!("; not learned from: {why}"),
            None if outcome == "changed" => {
                "; kept, but what was learned of the earlier judgement stays".into()
            }
            None => String::new(),
        };
        Ok(out.line(format_args!("{outcome}{about}{unlearned}"))?)
    }
}
