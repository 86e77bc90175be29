//! Names of things: a decision, a user, a deployment.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Cheaply cloned identifier text. The three kinds differ only in what they name, so one macro
/// writes them and the compiler keeps them apart.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Who asks, as far as admission is concerned: limits and fairness are per user. Never a metric label.
    UserId
}
text_id! {
    /// One model at one provider, written `provider/model`: the unit that has a breaker, limits and learned state.
    DeploymentId
}
text_id! {
    /// One query's decision: handed to the caller with the answer, named again in feedback, the key of the
    /// ledger's row. Time-ordered (UUID version 7), so rows sort by age.
    DecisionId
}

impl DecisionId {
    /// A fresh identifier.
    pub fn new() -> Self {
        let mut text = [0u8; uuid::fmt::Simple::LENGTH];
        Self::from(&*uuid::Uuid::now_v7().simple().encode_lower(&mut text))
    }
}

impl Default for DecisionId {
    fn default() -> Self {
        Self::new()
    }
}

impl DeploymentId {
    /// Joins a provider's name and a model's name.
    pub fn join(provider: &str, model: &str) -> Self {
        Self::from(format!("{provider}/{model}"))
    }

    /// The provider's name: everything before the first slash.
    pub fn provider(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(&*self.0, |(provider, _)| provider)
    }
}
