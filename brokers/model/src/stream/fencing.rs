//! Names of transactional producers (`transactional.id`): who begins a transaction under a name takes it over from whoever had it.
//!
//! What that one has open is taken back, and whatever it asks from then on is refused, until it leaves: an older instance that was
//! thought dead can neither end what it had begun nor publish beside its successor. A commit that is on its way to the storage was
//! decided before, and ends. Names live as long as their clients: after a restart there is no older instance that could speak, and what it
//! had open is taken back with everybody's. Leaves out epochs of producers without transactions, which are in `idempotence`.

use std::collections::BTreeMap;

use super::Stream;
use crate::completion::Refusal;
use crate::machine::{Effects, NAME_BYTES_MAX};
use crate::time::Time;

/// Whose each name is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<String, u32>);

impl Names {
    /// A client leaves or takes another name.
    pub(super) fn give_up(&mut self, client: u32) {
        self.0.retain(|_, holder| *holder != client);
    }
}

/// Whether a producer can have this name.
pub(super) fn check_name(name: Option<&str>) -> Result<(), Refusal> {
    let fits = name.is_none_or(|name| (1..=NAME_BYTES_MAX).contains(&name.len()));
    if fits { Ok(()) } else { Err(Refusal::OutOfRange) }
}

impl Stream {
    /// Whether another has taken this producer's name.
    pub(super) fn is_fenced(&self, client: u32) -> bool {
        self.client(client).is_ok_and(|state| state.fenced)
    }

    /// `client` has this name from now on, and no other; nobody else has it.
    pub(super) fn take_name(&mut self, now: Time, client: u32, name: &str, out: &mut Effects) {
        self.names.give_up(client);
        let Some(other) = self.names.0.insert(name.to_owned(), client) else { return };
        self.leave_transaction(now, other, out);
        if let Ok(state) = self.client_mut(other) {
            state.fenced = true;
        }
    }
}
