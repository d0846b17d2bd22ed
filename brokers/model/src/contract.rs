//! The promise that a backend is asked to keep: delivery × order × storage × copies × availability.
//!
//! Leaves out how any backend keeps it; `Broker::honour` answers that.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How often a message may reach a consumer group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Zero times or once: loss is allowed, a duplicate is not.
    AtMostOnce,
    /// Once or more: a duplicate is allowed, loss of an acknowledged message is not.
    #[default]
    AtLeastOnce,
    /// Once: neither.
    ExactlyOnce,
}

/// Which order of publishing consumers may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// None.
    #[default]
    None,
    /// First deliveries of one producer's messages with one key come in the order in which they were published.
    PerKey,
    /// First deliveries of a channel come in one order for every group.
    Total,
}

/// What has happened to a message's bytes when its publish is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// Held by the process; gone with it.
    Memory,
    /// Written to the operating system; survives the process, not the machine.
    #[default]
    PageCache,
    /// Flushed to the device; survives a power cut as far as the device tells the truth.
    Fsync,
}

/// Whether a producer depends on the receiver being up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// The receiver must be up when the message is sent.
    #[default]
    Coupled,
    /// The receiver may come later.
    Decoupled,
}

/// The promise to the users of the system under test. Two axes are never folded into one: Kafka with `acks=all` keeps copies on page
/// cache, a quorum queue keeps them on fsync. Of three replicas each keeps two copies (`min.insync.replicas=2`; a majority): a copy
/// counts that surely holds the message when it is acknowledged, never one that has it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// How often a message may arrive.
    #[serde(default)]
    pub delivery: Delivery,
    /// Which order consumers may rely on.
    #[serde(default)]
    pub order: Order,
    /// Where the bytes are when the publish is acknowledged.
    #[serde(default)]
    pub storage: Storage,
    /// How many copies surely hold the message when it is acknowledged, the first included; at least 1. One less may be lost.
    #[serde(default = "one")]
    pub copies: u8,
    /// Whether the receiver must be up.
    #[serde(default)]
    pub availability: Availability,
}

impl Contract {
    /// On which axes this promises more than `asked`, by the value that it promises.
    pub fn exceeds(&self, asked: &Self) -> Vec<String> {
        let axes: [(bool, &dyn fmt::Display); 4] = [
            (self.delivery > asked.delivery, &self.delivery),
            (self.order > asked.order, &self.order),
            (self.storage > asked.storage, &self.storage),
            (self.availability > asked.availability, &self.availability),
        ];
        let mut more: Vec<String> = axes.iter().filter(|(more, _)| *more).map(|(_, value)| value.to_string()).collect();
        if self.copies > asked.copies {
            more.push(format!("{} copies", self.copies));
        }
        more
    }
}

const fn one() -> u8 {
    1
}

impl Default for Contract {
    fn default() -> Self {
        Self {
            delivery: Delivery::default(),
            order: Order::default(),
            storage: Storage::default(),
            copies: 1,
            availability: Availability::default(),
        }
    }
}

/// Every value of every axis with its name, so that parsing, printing and the promise ladder share one list.
macro_rules! names {
    ($axis:ty, $title:literal, $($value:path => $name:literal),+ $(,)?) => {
        impl $axis {
            /// Every value of this axis, weakest first.
            pub const ALL: &'static [Self] = &[$($value),+];
            /// What the axis is called.
            pub const AXIS: &'static str = $title;

            /// The value's name, as it is written in a profile.
            pub const fn name(self) -> &'static str {
                match self { $($value => $name),+ }
            }
        }

        impl fmt::Display for $axis {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names!(Delivery, "delivery",
    Delivery::AtMostOnce => "at-most-once",
    Delivery::AtLeastOnce => "at-least-once",
    Delivery::ExactlyOnce => "exactly-once");
names!(Order, "order", Order::None => "none", Order::PerKey => "per-key", Order::Total => "total");
names!(Storage, "storage",
    Storage::Memory => "memory",
    Storage::PageCache => "page-cache",
    Storage::Fsync => "fsync");
names!(Availability, "availability",
    Availability::Coupled => "coupled",
    Availability::Decoupled => "decoupled");

impl fmt::Display for Contract {
    /// `at-least-once, order none, page-cache, 1 copy, coupled`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = if self.copies == 1 { "copy" } else { "copies" };
        write!(
            f,
            "{}, order {}, {}, {} {copies}, {}",
            self.delivery, self.order, self.storage, self.copies, self.availability
        )
    }
}

/// A word in a contract that is none of the known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseContractError {
    /// The word belongs to no axis.
    #[error(
        "`{0}` is no part of a contract; write words such as at-least-once, per-key, fsync, copies=1, decoupled, separated by commas"
    )]
    Unknown(String),
    /// One axis was given twice.
    #[error("`{0}` sets an axis of the contract that an earlier word has already set; keep one of them")]
    Twice(String),
}

impl FromStr for Contract {
    type Err = ParseContractError;

    /// Reads comma-separated words; an axis that is not named keeps its default. `unordered` means order none. What `Display`
    /// writes is read back as the same contract.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut contract = Self::default();
        let mut seen = Vec::new();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let axis = contract.set_word(word).ok_or_else(|| ParseContractError::Unknown(word.to_owned()))?;
            if seen.contains(&axis) {
                return Err(ParseContractError::Twice(word.to_owned()));
            }
            seen.push(axis);
        }
        Ok(contract)
    }
}

impl Contract {
    fn set_word(&mut self, word: &str) -> Option<&'static str> {
        if let Some(&value) = Delivery::ALL.iter().find(|v| v.name() == word) {
            self.delivery = value;
            return Some(Delivery::AXIS);
        }
        let order = if word == "unordered" { "none" } else { word.strip_prefix("order ").unwrap_or(word) };
        if let Some(&value) = Order::ALL.iter().find(|v| v.name() == order) {
            self.order = value;
            return Some(Order::AXIS);
        }
        if let Some(&value) = Storage::ALL.iter().find(|v| v.name() == word) {
            self.storage = value;
            return Some(Storage::AXIS);
        }
        if let Some(&value) = Availability::ALL.iter().find(|v| v.name() == word) {
            self.availability = value;
            return Some(Availability::AXIS);
        }
        let printed = || word.strip_suffix(" copies").or_else(|| word.strip_suffix(" copy"));
        let copies: u8 = word.strip_prefix("copies=").or_else(printed)?.parse().ok()?;
        self.copies = copies;
        (copies > 0).then_some("copies")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_set_axes_and_the_rest_stays_default() {
        let contract: Contract = "per-key, fsync,decoupled".parse().unwrap();
        assert_eq!(contract.order, Order::PerKey);
        assert_eq!(contract.storage, Storage::Fsync);
        assert_eq!(contract.availability, Availability::Decoupled);
        assert_eq!(contract.delivery, Delivery::AtLeastOnce);
        assert_eq!(contract.copies, 1);
    }

    #[test]
    fn every_contract_is_read_back_from_its_print() {
        let mut read = 0;
        for &delivery in Delivery::ALL {
            for &order in Order::ALL {
                for &storage in Storage::ALL {
                    for (&availability, copies) in Availability::ALL.iter().flat_map(|a| [(a, 1), (a, 3)]) {
                        let contract = Contract { delivery, order, storage, copies, availability };
                        assert_eq!(contract.to_string().parse(), Ok(contract));
                        read += 1;
                    }
                }
            }
        }
        assert_eq!(read, 3 * 3 * 3 * 2 * 2);
    }

    #[test]
    fn an_unknown_word_and_an_axis_set_twice_are_refused() {
        assert!(matches!("sometimes".parse::<Contract>(), Err(ParseContractError::Unknown(_))));
        assert!(matches!("fsync,memory".parse::<Contract>(), Err(ParseContractError::Twice(_))));
        assert!(matches!("copies=0".parse::<Contract>(), Err(ParseContractError::Unknown(_))));
    }
}
