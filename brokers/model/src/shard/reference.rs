//! The naive reference for this model, public so that others can hold a shard of theirs against it.
//!
//! Leaves out what the two streams share: see [`Reference`], which judges a model step by step.

use crate::contract::Contract;
use crate::shard::ShardOptions;
pub use crate::stream::reference::{Reference, Rules, Verdicts};

/// The reference of a shard stream with these options.
pub fn reference(options: ShardOptions, contract: Contract) -> Reference {
    let window = options.max_in_flight;
    Reference::new(Rules::shard(options), contract, window)
}
