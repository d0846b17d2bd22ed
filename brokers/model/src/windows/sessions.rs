//! Session windows: per key the sessions that may still grow, and one timer for each.
//!
//! Two events of a key are in one session when less than the gap lies between them. A session is kept for a gap and the
//! allowed lateness after its end: until then an event that is taken could still touch it, and join it with another. That is
//! what makes the sessions the same as a batch computation's. A timer stands where a session ended when it was set, and is
//! set again when it turns out too early, so that an event moves none. Leaves out windows of fixed size.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::keys::Keys;
use super::options::LATEST;
use super::output::{Firing, WindowOutput};
use super::{Event, Fate};
use crate::time::Span;

/// No session.
const NONE: u32 = u32::MAX;
/// Bytes of a session with its timer.
const SESSION: usize = size_of::<Session>() + 2 * size_of::<(u64, u32)>();
/// Bytes of a key's place, whether it has sessions or not.
const HEAD: usize = size_of::<u32>();

#[derive(Clone, Copy, Debug)]
struct Session {
    aggregate: Aggregate,
    /// Its first event.
    start: u64,
    /// Its last one.
    last: u64,
    /// Where its timer stands; never after what it waits for.
    timer: u64,
    key: u32,
    /// The same key's session before it.
    older: u32,
    /// It was shown as it is.
    shown: bool,
}

/// A session as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionState {
    pub(super) key: u32,
    pub(super) start: u64,
    pub(super) last: u64,
    pub(super) shown: bool,
    pub(super) aggregate: Aggregate,
}

/// The sessions of all keys.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    gap: u64,
    lateness: u64,
    slots: Vec<Session>,
    free: Vec<u32>,
    /// By key: its newest session.
    newest: Vec<u32>,
    timers: BTreeSet<(u64, u32)>,
    /// The first timer.
    due: u64,
    watermark: u64,
}

/// Where an event meets its key's sessions, newest first.
struct Meeting {
    /// The session just after it that it does not touch.
    newer: u32,
    /// The first that it touches, or that is older than it.
    at: u32,
    touches: bool,
    /// It touches the one before as well.
    joins: bool,
}

impl Sessions {
    pub(super) fn new(gap: Span, lateness: Span) -> Self {
        Self {
            gap: gap.0,
            lateness: lateness.0,
            slots: Vec::new(),
            free: Vec::new(),
            newest: Vec::new(),
            timers: BTreeSet::new(),
            due: u64::MAX,
            watermark: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.slots.len() - self.free.len()) * SESSION + self.newest.len() * HEAD
    }

    /// Takes an event in, or nothing at all when it needs room and there is none.
    #[inline]
    pub(super) fn add(
        &mut self,
        keys: &mut Keys,
        event: &Event<'_>,
        room: bool,
        out: &mut WindowOutput,
    ) -> Option<Fate> {
        let time = event.time.0;
        if time + self.gap + self.lateness <= self.watermark {
            return Some(Fate::Late);
        }
        let known = keys.find(event.key);
        let meeting = self.meet(known, time);
        if !meeting.touches {
            if !room {
                return None;
            }
            let key = known.unwrap_or_else(|| keys.insert(event.key));
            let at = self.open(keys, key, &meeting, time, event.value);
            self.after_change(keys, at, out);
            return Some(Fate::Taken);
        }
        self.grow(keys, &meeting, time, event.value, out);
        Some(Fate::Taken)
    }

    /// The end of a session: the gap after its last event.
    #[inline]
    fn end(&self, at: u32) -> u64 {
        self.slots[at as usize].last + self.gap
    }

    #[inline]
    fn meet(&self, key: Option<u32>, time: u64) -> Meeting {
        let mut at = key.and_then(|key| self.newest.get(key as usize)).copied().unwrap_or(NONE);
        let mut newer = NONE;
        while at != NONE && self.slots[at as usize].start >= time + self.gap {
            newer = at;
            at = self.slots[at as usize].older;
        }
        let touches = at != NONE && self.end(at) > time;
        let older = if touches { self.slots[at as usize].older } else { NONE };
        Meeting { newer, at, touches, joins: older != NONE && self.end(older) > time }
    }

    /// A session of one event.
    fn open(&mut self, keys: &mut Keys, key: u32, meeting: &Meeting, time: u64, value: i64) -> u32 {
        keys.retain(key);
        if self.newest.len() <= key as usize {
            self.newest.resize(key as usize + 1, NONE);
        }
        let aggregate = Aggregate::of(value);
        let timer = time + self.gap;
        let session = Session { aggregate, start: time, last: time, timer, key, older: meeting.at, shown: false };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = session;
            at
        } else {
            self.slots.push(session);
            (self.slots.len() - 1) as u32
        };
        if meeting.newer == NONE {
            self.newest[key as usize] = at;
        } else {
            self.slots[meeting.newer as usize].older = at;
        }
        self.set_timer(timer, at);
        at
    }

    /// Adds an event to the session that it touches, and joins that with the one before if it touches both.
    #[inline]
    fn grow(&mut self, keys: &mut Keys, meeting: &Meeting, time: u64, value: i64, out: &mut WindowOutput) {
        let before = self.slots[meeting.at as usize];
        if meeting.joins {
            self.join(keys, meeting.at, out);
        }
        let session = &mut self.slots[meeting.at as usize];
        session.start = session.start.min(time);
        session.last = session.last.max(time);
        session.aggregate.add(value);
        if before.shown && (before.start, before.last) != (session.start, session.last) {
            out.push(keys.key(before.key), before.start, before.last + self.gap, before.aggregate, Firing::Withdrawn);
            session.shown = false;
        }
        self.after_change(keys, meeting.at, out);
    }

    /// The session before becomes part of this one.
    fn join(&mut self, keys: &mut Keys, at: u32, out: &mut WindowOutput) {
        let place = self.slots[at as usize].older;
        let older = self.slots[place as usize];
        if older.shown {
            out.push(keys.key(older.key), older.start, older.last + self.gap, older.aggregate, Firing::Withdrawn);
        }
        self.timers.remove(&(older.timer, place));
        self.free.push(place);
        keys.release(older.key);
        let session = &mut self.slots[at as usize];
        session.start = older.start;
        session.older = older.older;
        session.aggregate.merge(&older.aggregate);
    }

    /// Shows a session again if it is complete, and sees to its timer.
    #[inline]
    fn after_change(&mut self, keys: &Keys, at: u32, out: &mut WindowOutput) {
        let end = self.end(at);
        let complete = end <= self.watermark;
        let session = &mut self.slots[at as usize];
        if complete {
            session.shown = true;
            out.push(keys.key(session.key), session.start, end, session.aggregate, Firing::Late);
        }
        let (timer, due) = (session.timer, self.waits_for(at));
        if timer > due {
            self.timers.remove(&(timer, at));
            self.set_timer(due, at);
        }
    }

    /// When something happens with a session next: it fires, or it is forgotten.
    fn waits_for(&self, at: u32) -> u64 {
        let end = self.end(at);
        if self.slots[at as usize].shown { end + self.gap + self.lateness } else { end }
    }

    fn set_timer(&mut self, time: u64, at: u32) {
        self.slots[at as usize].timer = time;
        self.timers.insert((time, at));
        self.due = self.due.min(time);
    }

    /// The watermark is here: fires what is complete, forgets what can't grow any more.
    #[inline]
    pub(super) fn advance(&mut self, keys: &mut Keys, watermark: u64, out: &mut WindowOutput) {
        self.watermark = watermark;
        if watermark < self.due {
            return;
        }
        while let Some(&(time, at)) = self.timers.first().filter(|timer| timer.0 <= watermark) {
            self.timers.remove(&(time, at));
            let waits_for = self.waits_for(at);
            if waits_for > time {
                self.set_timer(waits_for, at);
            } else if self.slots[at as usize].shown {
                self.forget(keys, at);
            } else {
                let end = self.end(at);
                let session = &mut self.slots[at as usize];
                session.shown = true;
                out.push(keys.key(session.key), session.start, end, session.aggregate, Firing::Main);
                self.set_timer(end + self.gap + self.lateness, at);
            }
        }
        self.due = self.timers.first().map_or(u64::MAX, |&(time, _)| time);
    }

    fn forget(&mut self, keys: &mut Keys, at: u32) {
        let Session { key, older, .. } = self.slots[at as usize];
        let mut newer = self.newest[key as usize];
        if newer == at {
            self.newest[key as usize] = older;
        } else {
            while self.slots[newer as usize].older != at {
                newer = self.slots[newer as usize].older;
            }
            self.slots[newer as usize].older = older;
        }
        self.free.push(at);
        keys.release(key);
    }

    /// As plain data in an order of its own, with keys numbered by `number`.
    pub(super) fn save(&self, keys: &Keys, mut number: impl FnMut(u32) -> u32) -> Vec<SessionState> {
        let mut places: Vec<u32> = self.timers.iter().map(|&(_, at)| at).collect();
        places.sort_by_key(|&at| {
            let session = &self.slots[at as usize];
            (session.start, session.last, keys.key(session.key))
        });
        let state = |at: u32| {
            let Session { aggregate, start, last, key, shown, .. } = self.slots[at as usize];
            SessionState { key: number(key), start, last, shown, aggregate }
        };
        places.into_iter().map(state).collect()
    }

    /// From plain data; `None` when a key's sessions touch or are in no order. Every key must have its number already.
    pub(super) fn load(&mut self, keys: &mut Keys, watermark: u64, saved: &[SessionState]) -> Option<()> {
        self.watermark = watermark;
        for state in saved {
            let newest = self.newest.get(state.key as usize).copied().unwrap_or(NONE);
            let touches = newest != NONE && self.end(newest) > state.start;
            let possible = state.start <= state.last && state.last <= LATEST.0;
            if touches || !possible || state.shown != (state.last + self.gap <= watermark) {
                return None;
            }
            let meeting = Meeting { newer: NONE, at: newest, touches: false, joins: false };
            let at = self.open(keys, state.key, &meeting, state.start, 0);
            let session = &mut self.slots[at as usize];
            (session.last, session.shown, session.aggregate) = (state.last, state.shown, state.aggregate);
        }
        Some(())
    }
}
