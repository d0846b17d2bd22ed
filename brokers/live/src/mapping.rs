//! What a contract becomes on a server: the promise that is really kept, the settings that keep it, and what is missing.
//!
//! Leaves out how each broker maps; that stands in its module.

use brokerlab_model::{Contract, Missing, Settings, Unsupported};

/// A contract as one server can keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What is kept with these settings: the contract asked, or more on some axis, or (where something is missing) less.
    pub kept: Contract,
    /// The settings, by their own names.
    pub settings: Settings,
    /// What keeps it from being the contract asked; empty when it is kept.
    pub missing: Vec<Missing>,
}

/// How what is kept stands to what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Exactly what was asked.
    AsAsked,
    /// More on these axes, with the value that is kept.
    Stronger(Vec<String>),
    /// Less: not comparable.
    Weaker(Vec<Missing>),
}

impl Mapping {
    /// How it stands to `asked`.
    pub fn strength(&self, asked: &Contract) -> Strength {
        if !self.missing.is_empty() {
            return Strength::Weaker(self.missing.clone());
        }
        let stronger = self.kept.exceeds(asked);
        if stronger.is_empty() { Strength::AsAsked } else { Strength::Stronger(stronger) }
    }

    /// The settings, or a refusal that names everything missing.
    pub fn honoured(&self, backend: &str) -> Result<Settings, Unsupported> {
        if self.missing.is_empty() {
            Ok(self.settings.clone())
        } else {
            Err(Unsupported { backend: backend.to_owned(), missing: self.missing.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::Storage;

    use super::*;

    #[test]
    fn more_than_asked_is_named_and_less_comes_first() {
        let asked = Contract::default();
        let mut mapping = Mapping {
            kept: Contract { storage: Storage::Fsync, copies: 3, ..asked },
            settings: Settings::default(),
            missing: vec![],
        };
        assert_eq!(mapping.strength(&asked), Strength::Stronger(vec!["fsync".to_owned(), "3 copies".to_owned()]));
        mapping.missing.push(Missing { axis: "copies".into(), asked: "5".into(), reason: "one node".into() });
        assert!(matches!(mapping.strength(&asked), Strength::Weaker(missing) if missing.len() == 1));
        assert_eq!(mapping.honoured("kafka").unwrap_err().missing.len(), 1);
    }
}
