//! What an operator asks of an experiment.

use std::collections::BTreeSet;

/// An experiment has at most this many variants.
pub const MOST_VARIANTS: usize = 16;
/// No variant is judged on fewer samples, whatever the configuration says: with fewer, a normal
/// approximation of rewards from 0 to 1 is worth little.
pub const FEWEST_SAMPLES: u64 = 30;
/// The largest number of samples an experiment may take.
pub const MOST_SAMPLES: u64 = 1_000_000_000;

/// Who keeps the variant that was drawn first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// A user.
    User,
    /// A session; a query without one is a session of its own.
    #[default]
    Session,
    /// Nobody: every query is drawn anew.
    None,
}

impl Sticky {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::User, Self::Session, Self::None];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::None => "none",
        }
    }

    /// Whose variant a query takes; `None` if the query is on its own.
    pub fn key<'a>(self, user: &'a str, session: Option<&'a str>) -> Option<&'a str> {
        match self {
            Self::User => Some(user),
            Self::Session => session,
            Self::None => None,
        }
    }
}

/// One of the ways that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name, not empty, at most 64 bytes.
    pub name: String,
    /// The smallest share of traffic it gets while the experiment runs, 0 to 1.
    pub min_share: f64,
    /// Stands for what the variant does. Another one under the same name is another variant, and starts
    /// without evidence.
    pub fingerprint: u64,
}

/// What an operator asks of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its name; also the salt, so that two experiments do not divide users the same way.
    pub name: String,
    /// What is compared, 2 to [`MOST_VARIANTS`].
    pub variants: Vec<Variant>,
    /// Who keeps a variant.
    pub sticky: Sticky,
    /// How often the winner may be wrong, above 0 to 0.5. Default 0.05.
    pub delta: f64,
    /// A variant this much worse than the best is as good as the best, 0 to 0.5. Default 0: only a
    /// difference ends the experiment.
    pub epsilon: f64,
    /// Samples of each variant before anything is decided, [`FEWEST_SAMPLES`] to [`MOST_SAMPLES`].
    pub min_samples: u64,
    /// Samples of all variants together after which the experiment ends without enough evidence; at
    /// least `min_samples` for each.
    pub max_samples: u64,
}

impl Definition {
    /// How often the winner may be wrong unless the operator says otherwise.
    pub const DELTA: f64 = 0.05;
    /// Samples of all variants together unless the operator says otherwise.
    pub const MAX_SAMPLES: u64 = 20_000;
    /// The smallest share of a variant unless the operator says otherwise.
    pub const MIN_SHARE: f64 = 0.05;

    /// An experiment with the default settings; variants are fingerprinted by their names.
    pub fn new(name: &str, variants: &[&str]) -> Self {
        let variant = |name: &&str| Variant {
            name: (*name).to_owned(),
            min_share: Self::MIN_SHARE,
            fingerprint: super::digest(&[name]),
        };
        Self {
            name: name.to_owned(),
            variants: variants.iter().map(variant).collect(),
            sticky: Sticky::default(),
            delta: Self::DELTA,
            epsilon: 0.0,
            min_samples: FEWEST_SAMPLES,
            max_samples: Self::MAX_SAMPLES,
        }
    }

    /// Whether every number is within its bounds.
    ///
    /// # Errors
    /// What is not.
    pub fn validate(&self) -> Result<(), String> {
        let count = self.variants.len();
        if !(2..=MOST_VARIANTS).contains(&count) {
            return Err(format!("2 to {MOST_VARIANTS} variants, not {count}"));
        }
        let mut names = BTreeSet::new();
        for variant in &self.variants {
            if !(1..=64).contains(&variant.name.len()) || !names.insert(&variant.name) {
                let name = &variant.name;
                return Err(format!("'{name}' is too long, empty or there twice"));
            }
            if !(0.0..=1.0).contains(&variant.min_share) {
                return Err(format!("min_share of '{}' is not 0 to 1", variant.name));
            }
        }
        if self.least() > 1.0 + 1e-9 {
            return Err("the minimum shares are more than 1 together".into());
        }
        if !(1e-9..=0.5).contains(&self.delta) || !(0.0..=0.5).contains(&self.epsilon) {
            return Err("delta is not above 0 to 0.5, or epsilon not 0 to 0.5".into());
        }
        let fewest = self.min_samples.saturating_mul(count as u64);
        if !(FEWEST_SAMPLES..=MOST_SAMPLES).contains(&self.min_samples)
            || !(fewest..=MOST_SAMPLES).contains(&self.max_samples)
        {
            return Err(format!(
                "min_samples from {FEWEST_SAMPLES}, max_samples from {fewest} to {MOST_SAMPLES}"
            ));
        }
        Ok(())
    }

    /// The minimum shares together.
    pub fn least(&self) -> f64 {
        self.variants.iter().map(|variant| variant.min_share).sum()
    }
}
