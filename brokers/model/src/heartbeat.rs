//! When whoever hosts a model says that a member was there: a few times in the span after which its session would be over.
//!
//! Leaves out what a sign of life does, which is [`Model::heard`].

use crate::broker::Role;
use crate::machine::Model;
use crate::time::{Span, Time};

/// The signs of life of one client, in its host's time. A poll that is not yet due to give one costs a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    every: Span,
    due: Time,
}

impl Heartbeat {
    /// Those of a client that connects at `now`: three in the time in which one is due, of a member whose session can end, and else none.
    pub fn of(model: &dyn Model, role: &Role, now: Time) -> Self {
        let session = match role {
            Role::Member { .. } => model.session_timeout(),
            Role::Producer | Role::Administrator => None,
        };
        Self::within(session, now)
    }

    /// Three from `now` on in so long a session; without one, none.
    pub fn within(session: Option<Span>, now: Time) -> Self {
        session.map_or(Self { every: Span::ZERO, due: Time::NEVER }, |session| {
            let every = Span((session.0 / 3).max(1));
            Self { every, due: now + every }
        })
    }

    /// Whether one is to be given at `now`; then the next is due after its span.
    #[inline]
    pub fn beats(&mut self, now: Time) -> bool {
        let beats = now >= self.due;
        if beats {
            self.due = now + self.every;
        }
        beats
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<Time> {
        (self.due < Time::NEVER).then_some(self.due)
    }
}
