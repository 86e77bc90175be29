//! `[experiments.<name>]`: several ways to answer, compared until one is known to be better.

use std::collections::{BTreeMap, BTreeSet};

use crate::ensembler::merge::Strategy;
use crate::learning::experiment::definition::{FEWEST_SAMPLES, MOST_SAMPLES, MOST_VARIANTS};
use crate::learning::experiment::{Definition, Sticky, Variant, digest};

use super::Ensemble;
use super::reader::Target;
use super::section::Section;
use super::values::is_name;

/// The longest text that may be put first.
const LONGEST_SYSTEM: usize = 32_768;

/// Several ways to answer, under the model name `experiment/<name>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Further names that lead here: aliases, deployments or `auto`, at most 64. Within a variant they
    /// mean what they always mean. No two experiments have the same.
    pub applies_to: Vec<String>,
    /// What is compared, 2 to 16.
    pub variants: Vec<ExperimentVariant>,
    /// Who keeps the variant that was drawn first. Default `session`.
    pub sticky: Sticky,
    /// How often the winner may be wrong, 0.000001 to 0.5. Default 0.05.
    pub delta: f64,
    /// A variant this much worse than the best is as good as the best, 0 to 0.5. Default 0.
    pub epsilon: f64,
    /// Judged answers of each variant before anything is decided, 30 to 10,000,000. Default 30.
    pub min_samples: u64,
    /// Judged answers in all after which it ends without enough evidence; at least `min_samples` for
    /// each variant, at most 1,000,000,000. Default 20,000, or what `min_samples` needs.
    pub max_samples: u64,
}

/// One of the ways that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentVariant {
    /// 1 to 64 of `a-z0-9._-`.
    pub name: String,
    /// Who answers: a deployment, an alias, `auto` or `ensemble/<name>`; written `use`.
    pub model: String,
    /// Put before the conversation as the operator's word, up to 32 KiB.
    pub system: Option<String>,
    /// How the answers of an ensemble become one, where that is not as the ensemble says.
    pub merge: Option<Strategy>,
    /// The smallest share it gets while the experiment runs, 0 to 1. Default the experiment's
    /// `min_share`, which is 0.05 by default.
    pub min_share: f64,
}

impl Experiment {
    /// The experiment as its learning sees it. A variant that does something else than before is
    /// another variant; what an alias or ensemble stands for does not count as that.
    pub fn definition(&self, name: &str) -> Definition {
        let variant = |variant: &ExperimentVariant| {
            let system = variant.system.as_deref().unwrap_or_default();
            let merge = variant.merge.map_or("", Strategy::name);
            Variant {
                name: variant.name.clone(),
                min_share: variant.min_share,
                // JSON's readers in other languages hold 53 bits exactly.
                fingerprint: digest(&[&variant.model, system, merge]) >> 11,
            }
        };
        Definition {
            name: name.to_owned(),
            variants: self.variants.iter().map(variant).collect(),
            sticky: self.sticky,
            delta: self.delta,
            epsilon: self.epsilon,
            min_samples: self.min_samples,
            max_samples: self.max_samples,
        }
    }
}

pub(super) fn read(
    root: &mut Section<'_>,
    ensembles: &BTreeMap<String, Ensemble>,
) -> BTreeMap<String, Experiment> {
    let mut taken = BTreeSet::new();
    root.named_tables("experiments", name, |section| {
        experiment(section, ensembles, &mut taken)
    })
}

fn experiment(
    section: &mut Section<'_>,
    ensembles: &BTreeMap<String, Ensemble>,
    taken: &mut BTreeSet<String>,
) -> Option<Experiment> {
    let applies_to = section
        .names("applies_to", Target::Single, 0..=64)
        .unwrap_or_default();
    for name in &applies_to {
        if !taken.insert(name.clone()) {
            let message = format!("'{name}' leads to another experiment already");
            section.fail("applies_to", message);
        }
    }
    let sticky = section.choice("sticky", Sticky::ALL, Sticky::name);
    let delta = section.float("delta", 1e-6..=0.5);
    let epsilon = section.float("epsilon", 0.0..=0.5);
    let min_samples = section.integer("min_samples", FEWEST_SAMPLES..=10_000_000);
    let min_share = section.float("min_share", 0.0..=0.5);
    let mut names = BTreeSet::new();
    let variants = section.required("variants", |section, key| {
        section.counted_tables(key, 2..=MOST_VARIANTS, |section| {
            variant(section, ensembles, &mut names)
        })
    });
    let min_samples = min_samples.unwrap_or(FEWEST_SAMPLES);
    let fewest = min_samples * variants.as_ref().map_or(2, Vec::len) as u64;
    let max_samples = section.integer("max_samples", fewest..=MOST_SAMPLES);

    let even = min_share.unwrap_or(Definition::MIN_SHARE);
    let variants: Vec<ExperimentVariant> = variants?
        .into_iter()
        .map(|(variant, own)| ExperimentVariant {
            min_share: own.unwrap_or(even),
            ..variant
        })
        .collect();
    let least: f64 = variants.iter().map(|variant| variant.min_share).sum();
    if least > 1.0 + 1e-9 {
        let key = if section.given("min_share") {
            "min_share"
        } else {
            "variants"
        };
        let message = format!("the variants' minimum shares are {least:.3} together: at most 1");
        section.fail(key, message);
    }
    Some(Experiment {
        applies_to,
        variants,
        sticky: sticky.unwrap_or_default(),
        delta: delta.unwrap_or(Definition::DELTA),
        epsilon: epsilon.unwrap_or(0.0),
        min_samples,
        max_samples: max_samples.unwrap_or(Definition::MAX_SAMPLES.max(fewest)),
    })
}

/// A variant and its own minimum share, if it has one.
fn variant(
    section: &mut Section<'_>,
    ensembles: &BTreeMap<String, Ensemble>,
    names: &mut BTreeSet<String>,
) -> Option<(ExperimentVariant, Option<f64>)> {
    let name = section.required("name", |section, key| section.text(key, variant_name));
    let model = section.required("use", |section, key| section.name(key, Target::Any));
    let system = section.text("system", system);
    let merge = section.choice("merge", Strategy::ALL, Strategy::name);
    let min_share = section.float("min_share", 0.0..=1.0);

    let (name, model) = (name?, model?);
    if !names.insert(name.clone()) {
        section.fail("name", format!("another variant is named '{name}'"));
    }
    match (model.strip_prefix("ensemble/"), merge) {
        (None, Some(_)) => section.fail("merge", "only a variant that uses an ensemble has one"),
        (Some(ensemble), Some(merge @ (Strategy::Judge | Strategy::Synthesize)))
            if ensembles
                .get(ensemble)
                .is_some_and(|one| one.judge.is_none()) =>
        {
            let message = format!("\"{merge}\" needs a model: ensembles.{ensemble} has no judge");
            section.fail("merge", message);
        }
        _ => {}
    }
    let variant = ExperimentVariant {
        name,
        model,
        system,
        merge,
        min_share: 0.0,
    };
    Some((variant, min_share))
}

fn system(text: &str) -> Result<String, String> {
    if !text.trim().is_empty() && text.len() <= LONGEST_SYSTEM {
        return Ok(text.to_owned());
    }
    Err(format!("must be 1 to {LONGEST_SYSTEM} bytes of text"))
}

fn variant_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 of a-z, 0-9, '.', '_' and '-'".into())
}

fn name(text: &str) -> Result<(), String> {
    if is_name(text) {
        return Ok(());
    }
    Err("an experiment's name must be 1 to 64 of a-z, 0-9, '.', '_' and '-'".into())
}
