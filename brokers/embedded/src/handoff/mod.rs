//! What has come back for each client and was not polled yet, and which loops have to be woken for it.

mod bell;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use brokerlab_model::{Completions, ConnectError};

pub(crate) use bell::Bell;

use crate::store::StoreError;

/// Client numbers are indexes here; a host numbers its clients from 0.
const CLIENTS_MAX: u32 = 1 << 22;

/// One client's.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) completions: Completions,
    /// Whether a poll would find anything; read without the lock.
    pub(crate) mail: Arc<AtomicBool>,
    placement: usize,
    /// It was refused a publish for lack of room, and wants to hear when there is room again.
    pub(crate) blocked: bool,
}

/// One loop of the host's.
#[derive(Debug)]
struct Loop {
    placement: u32,
    bell: Arc<Bell>,
    /// Clients of this loop whose mail flag is set. The bell is drained with the last of them.
    with_mail: u32,
    /// The thread that polled last.
    thread: Option<ThreadId>,
    /// To be rung when the step is over.
    due: bool,
}

impl Loop {
    /// One of its clients has no mail any more.
    fn collected(&mut self) {
        self.with_mail -= 1;
        if self.with_mail == 0 {
            self.bell.drain();
        }
    }
}

/// Who has caused a step; nobody is woken for what his own thread did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// A client of this loop, by its index.
    Loop(usize),
    /// A worker on this thread.
    Worker(ThreadId),
    /// The host, while it connects a client.
    Connect,
}

/// All mailboxes, by client number.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    boxes: Vec<Option<Mailbox>>,
    loops: Vec<Loop>,
    blocked: Vec<u32>,
}

/// What a new client keeps of its mailbox.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) mail: Arc<AtomicBool>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) placement: usize,
}

impl Mailboxes {
    /// A mailbox for a new client.
    pub(crate) fn open(&mut self, number: u32, placement: u32) -> Result<Door, ConnectError> {
        if number >= CLIENTS_MAX {
            return Err(ConnectError::System(format!(
                "client number {number}: number clients from 0, below {CLIENTS_MAX}"
            )));
        }
        let at = number as usize;
        if self.boxes.get(at).is_some_and(Option::is_some) {
            return Err(ConnectError::NumberTaken(number));
        }
        let placement = self.placement(placement).map_err(|error| ConnectError::System(error.to_string()))?;
        if at >= self.boxes.len() {
            self.boxes.resize_with(at + 1, || None);
        }
        let mail = Arc::new(AtomicBool::new(false));
        let completions = Completions::default();
        self.boxes[at] = Some(Mailbox { completions, mail: Arc::clone(&mail), placement, blocked: false });
        Ok(Door { mail, bell: Arc::clone(&self.loops[placement].bell), placement })
    }

    /// Takes back the mailbox of a client that is there no more, or that the model did not let in; what was not collected is nobody's.
    pub(crate) fn leave(&mut self, number: u32) {
        let Some(mailbox) = self.boxes.get_mut(number as usize).and_then(Option::take) else { return };
        if mailbox.blocked {
            self.blocked.retain(|&blocked| blocked != number);
        }
        if mailbox.mail.load(Ordering::Relaxed) {
            self.loops[mailbox.placement].collected();
        }
        while self.boxes.pop_if(|last| last.is_none()).is_some() {}
    }

    fn placement(&mut self, placement: u32) -> Result<usize, StoreError> {
        if let Some(known) = self.loops.iter().position(|l| l.placement == placement) {
            return Ok(known);
        }
        self.loops.push(Loop { placement, bell: Arc::new(Bell::new()?), with_mail: 0, thread: None, due: false });
        Ok(self.loops.len() - 1)
    }

    /// A client's mailbox, to put something in: its flag is set, and its loop is rung at the end unless it is the origin's own.
    pub(crate) fn fill(&mut self, number: u32, origin: Origin) -> Option<&mut Completions> {
        let mailbox = self.boxes.get_mut(number as usize)?.as_mut()?;
        let loop_ = &mut self.loops[mailbox.placement];
        if !mailbox.mail.load(Ordering::Relaxed) {
            mailbox.mail.store(true, Ordering::Release);
            loop_.with_mail += 1;
        }
        loop_.due |= match origin {
            Origin::Loop(own) => own != mailbox.placement,
            Origin::Worker(thread) => loop_.thread != Some(thread),
            Origin::Connect => true,
        };
        Some(&mut mailbox.completions)
    }

    /// Rings for everything that was filled since the last time.
    pub(crate) fn ring(&mut self) {
        for l in &mut self.loops {
            if std::mem::take(&mut l.due) {
                l.bell.ring();
            }
        }
    }

    /// Moves what has come back for a client to the end of `completions`.
    pub(crate) fn collect(&mut self, number: u32, completions: &mut Completions) {
        let Some(Some(mailbox)) = self.boxes.get_mut(number as usize) else { return };
        if !mailbox.mail.swap(false, Ordering::AcqRel) {
            return;
        }
        take(&mut mailbox.completions, completions);
        let l = &mut self.loops[mailbox.placement];
        l.thread = Some(std::thread::current().id());
        l.collected();
    }

    /// Notes that a client waits for room.
    pub(crate) fn block(&mut self, number: u32) {
        if let Some(Some(mailbox)) = self.boxes.get_mut(number as usize)
            && !std::mem::replace(&mut mailbox.blocked, true)
        {
            self.blocked.push(number);
        }
    }

    /// Whether anybody waits for room.
    pub(crate) fn any_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// There is room: wakes everybody who waits for it.
    pub(crate) fn unblock(&mut self, origin: Origin) {
        for number in std::mem::take(&mut self.blocked) {
            if let Some(Some(mailbox)) = self.boxes.get_mut(number as usize) {
                mailbox.blocked = false;
            }
            self.fill(number, origin);
        }
    }
}

/// Like `Completions::append`, but an empty column of the caller's is swapped for the full one.
fn take(from: &mut Completions, to: &mut Completions) {
    if to.outcomes.is_empty() {
        std::mem::swap(&mut to.outcomes, &mut from.outcomes);
    } else {
        to.outcomes.append(&mut from.outcomes);
    }
    if to.deliveries.is_empty() {
        std::mem::swap(&mut to.deliveries, &mut from.deliveries);
    } else {
        to.deliveries.append(&mut from.deliveries);
    }
    from.deliveries.clear();
    to.answers.append(&mut from.answers);
    to.events.append(&mut from.events);
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Event, LaneId};

    use super::*;

    const OTHER: Origin = Origin::Connect;

    fn fill(boxes: &mut Mailboxes, number: u32) -> bool {
        let completions = boxes.fill(number, OTHER);
        completions.map(|completions| completions.events.push(Event::LaneLost(LaneId(number)))).is_some()
    }

    #[test]
    fn who_left_gives_back_the_number_the_mail_and_the_place_in_the_line_for_room() {
        let mut boxes = Mailboxes::default();
        for turn in 0..1_000 {
            let numbers = [0, 1, 2].map(|number| boxes.open(number, 0).map(|_| number).unwrap());
            assert!(matches!(boxes.open(1, 0), Err(ConnectError::NumberTaken(1))));
            assert!(fill(&mut boxes, 1) && fill(&mut boxes, 2));
            boxes.block(1);
            boxes.leave(1);
            assert!(!fill(&mut boxes, 1), "nobody is there");
            assert_eq!((boxes.boxes.len(), boxes.loops[0].with_mail, boxes.any_blocked()), (3, 1, false), "{turn}");
            let mut completions = Completions::default();
            boxes.collect(2, &mut completions);
            assert_eq!((completions.events.len(), boxes.loops[0].with_mail), (1, 0));
            for number in numbers {
                boxes.leave(number);
            }
            assert_eq!((boxes.boxes.len(), boxes.loops.len()), (0, 1));
        }
    }

    #[test]
    fn a_new_client_under_an_old_number_finds_nothing_of_the_one_before() {
        let mut boxes = Mailboxes::default();
        let old = boxes.open(7, 0).unwrap();
        assert!(fill(&mut boxes, 7));
        boxes.leave(7);
        let new = boxes.open(7, 0).unwrap();
        assert!(old.mail.load(Ordering::Relaxed) && !new.mail.load(Ordering::Relaxed));
        let mut completions = Completions::default();
        boxes.collect(7, &mut completions);
        assert!(completions.is_empty());
    }
}
