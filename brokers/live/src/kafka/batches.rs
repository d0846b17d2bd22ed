//! A partition's batches on the way out: one that is filled, those that are ready, those in flight.
//!
//! Leaves out when a batch is sent and what follows from an answer.

use std::collections::VecDeque;

use brokerlab_model::{Time, Token};
use bytes::Bytes;

use super::records::{Builder, Producer};

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) builder: Builder,
    pub(super) tokens: Vec<Token>,
    pub(super) since: Time,
}

/// A batch that is filled no more.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) body: Body,
    pub(super) tokens: Vec<Token>,
    /// When its first message came.
    pub(super) since: Time,
    /// Its size, which counts against the buffer's memory.
    pub(super) bytes: usize,
}

/// A batch's bytes.
#[derive(Debug)]
pub(super) enum Body {
    /// Never sent: it has no sequence number yet.
    Fresh(Builder),
    /// Sent at least once; it may have arrived, and goes out again as it is.
    Sent { bytes: Bytes, producer: Producer, sequence: i32 },
}

/// One partition's way out.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) open: Option<Open>,
    /// In the order of their sequence numbers.
    pub(super) ready: VecDeque<Sealed>,
    /// How many batches are in flight.
    pub(super) flying: u32,
    /// Nothing more is sent before everything in flight is answered, so that what is sent again does not overtake.
    pub(super) held: bool,
    pub(super) not_before: Time,
    pub(super) sequence: i32,
    /// Whether the lane is in the list of lanes that have something to send.
    pub(super) listed: bool,
}

impl Lane {
    /// Closes the batch that is being filled.
    pub(super) fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            let bytes = open.builder.len();
            self.ready.push_back(Sealed {
                body: Body::Fresh(open.builder),
                tokens: open.tokens,
                since: open.since,
                bytes,
            });
        }
    }

    /// Whether there is anything to send or to fill.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.ready.is_empty()
    }

    /// Puts a batch that is to be sent again where its sequence number says.
    pub(super) fn put_back(&mut self, batch: Sealed) {
        let sequence = |batch: &Sealed| match batch.body {
            Body::Sent { sequence, .. } => Some(sequence),
            Body::Fresh(_) => None,
        };
        let own = sequence(&batch);
        // Sequence numbers wrap; those of one lane that are out at the same time are close together.
        let at = self.ready.iter().position(|other| match (own, sequence(other)) {
            (Some(own), Some(other)) => own.wrapping_sub(other) < 0,
            (_, None) => true,
            (None, Some(_)) => false,
        });
        self.ready.insert(at.unwrap_or(self.ready.len()), batch);
    }
}
