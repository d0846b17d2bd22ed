//! A bell that wakes a sleeping host: an eventfd that is written once until it was drained.
//!
//! Ringing and draining happen under the engine's lock, so that neither is lost. Leaves out who is to be woken.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;

use crate::store::StoreError;

/// One eventfd and whether it is readable.
#[derive(Debug)]
pub(crate) struct Bell {
    fd: Arc<OwnedFd>,
    rung: Arc<AtomicBool>,
}

impl Bell {
    pub(crate) fn new() -> Result<Self, StoreError> {
        let fd = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| StoreError::Eventfd(Arc::new(io::Error::from(errno))))?;
        Ok(Self { fd: Arc::new(fd), rung: Arc::default() })
    }

    /// The descriptor to sleep on.
    pub(crate) fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Whether the bell is rung; may be looked at without the lock.
    pub(crate) fn rung(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.rung)
    }

    /// Makes the descriptor readable, unless it is.
    pub(crate) fn ring(&mut self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // A nonblocking eventfd refuses a write only when it is about to overflow, and then it is readable.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn drain(&mut self) {
        if self.rung.swap(false, Ordering::AcqRel) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.fd, &mut count);
        }
    }
}
