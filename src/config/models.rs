//! `[models.<name>]`: aliases, each a list of deployments under one name.

use std::collections::BTreeMap;

use super::reader::Target;
use super::section::Section;

/// A name for several deployments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The deployments it stands for, `provider/model`, 1 to 64; written `use`.
    pub candidates: Vec<String>,
    /// In which order they are tried.
    pub order: Order,
}

/// In which order an alias's deployments are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As written: the first that can, the others as fallbacks.
    #[default]
    Listed,
    /// The best score first.
    Scored,
}

impl Order {
    /// The order's name, as configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Scored => "scored",
        }
    }
}

pub(super) fn read(root: &mut Section<'_>) -> BTreeMap<String, Alias> {
    root.named_tables("models", name, |section| {
        let candidates = section.required("use", |section, key| {
            section.names(key, Target::Deployment, 1..=64)
        });
        let order = section.choice("order", [Order::Listed, Order::Scored], Order::name);
        Some(Alias {
            candidates: candidates?,
            order: order.unwrap_or_default(),
        })
    })
}

/// Any model's name a client may be set to, so that an alias can stand in for it.
fn name(text: &str) -> Result<(), String> {
    let printable = text
        .chars()
        .all(|c| !c.is_control() && !c.is_whitespace() && c != '/');
    if printable && (1..=256).contains(&text.chars().count()) && text != "auto" {
        return Ok(());
    }
    let wanted = "1 to 256 printable characters without spaces or '/', and not 'auto'";
    Err(format!("an alias's name must be {wanted}"))
}
