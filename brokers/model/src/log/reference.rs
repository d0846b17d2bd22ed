//! The naive reference for this model, public so that others can hold a log of theirs against it.
//!
//! Leaves out what the two streams share: see [`Reference`], which judges a model step by step.

use crate::contract::Contract;
use crate::log::LogOptions;
pub use crate::stream::reference::{Reference, Rules, Verdicts};

/// The reference of a log with these options.
pub fn reference(options: LogOptions, contract: Contract) -> Reference {
    let window = options.max_in_flight;
    Reference::new(Rules::log(options), contract, window)
}
