//! What a loopback client has of its broker's: a number as long as it lives, and the place where it notes that the engine has stopped.
//!
//! Leaves out everything that goes over the connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

/// Why the engine at the other end takes nothing more, once a client of it was told.
pub(super) type Stopped = Arc<OnceLock<String>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) _number: Number,
    pub(super) stopped: Stopped,
}

/// The numbers of clients that are there.
pub(super) type Numbers = Arc<Mutex<BTreeSet<u32>>>;

/// A number that is taken as long as this lives.
#[derive(Debug)]
pub(super) struct Number {
    number: u32,
    of: Numbers,
}

impl Number {
    pub(super) fn take(number: u32, of: &Numbers) -> Option<Self> {
        let free = of.lock().ok()?.insert(number);
        free.then(|| Self { number, of: Arc::clone(of) })
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Ok(mut taken) = self.of.lock() {
            taken.remove(&self.number);
        }
    }
}
