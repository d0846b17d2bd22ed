//! How a session waits: turn by turn, with patience, until something has happened or nothing does any more.

use super::peer::Peer;
use super::seen::{Got, Held};
use super::session::{Session, Who};
use crate::batch::{Blocked, Control, LaneId, Receipt, Token, Verdict};
use crate::broker::Client;
use crate::completion::{Event, Status};
use crate::time::{Span, Time};

impl Session<'_> {
    /// One turn: offers what is due, lets others work, polls. Returns whether anything moved.
    pub fn turn(&mut self, limit: Time) -> bool {
        let mut moved = false;
        for peer in self.peers.iter_mut().filter(|peer| !peer.silent) {
            moved |= peer.submit(self.rig.now()) > 0;
        }
        let awake = || self.peers.iter().enumerate().filter(|(_, peer)| !peer.silent);
        let clients: Vec<&dyn Client> = awake().map(|(_, peer)| &*peer.client).collect();
        let wake = self.rig.step(&clients, limit);
        assert_eq!(wake.len(), clients.len(), "the rig says of every client whether it is to be polled");
        let polled: Vec<usize> = awake().zip(&wake).filter(|(_, wake)| **wake).map(|((n, _), _)| n).collect();
        for n in polled {
            let now = self.rig.now();
            let rig = &*self.rig;
            self.polls += 1;
            moved |= self.peers[n].poll(now, self.polls, || rig.now());
            self.work(n);
        }
        moved
    }

    /// What a serving member does with what it got since it last looked.
    fn work(&mut self, n: usize) {
        let peer = &mut self.peers[n];
        let Some(window) = peer.serving.filter(|_| !peer.closing()) else { return };
        let fresh: Vec<Receipt> = peer.got[peer.served..].iter().map(|got| got.receipt).collect();
        peer.served = peer.got.len();
        let credit = peer.granted - peer.got.len() as u64;
        let revoked: Vec<LaneId> = peer.take_revoked();
        if !fresh.is_empty() {
            self.settle(Who(n), &fresh, Verdict::Ack);
        }
        if credit < u64::from(window / 2) {
            self.ask(Who(n), Control::Grant(window / 2));
        }
        for lane in revoked {
            self.ask(Who(n), Control::Release(lane));
        }
    }

    /// Turns until `met`, or fails when patience ends.
    pub fn until(&mut self, what: &str, mut met: impl FnMut(&Self) -> bool) {
        for _ in 0..self.rig.patience() {
            if met(self) {
                return;
            }
            self.turn(Time::NEVER);
        }
        self.give_up(what);
    }

    /// Turns until this much time has passed.
    pub fn pass(&mut self, span: Span) {
        let end = self.rig.now() + span;
        for _ in 0..self.rig.patience() {
            if self.rig.now() >= end {
                return;
            }
            self.turn(end);
        }
        self.give_up(&format!("{span} to pass"));
    }

    /// Turns until nothing has happened for a while.
    pub fn idle(&mut self) {
        let quiet = self.rig.quiet();
        let mut end = self.rig.now() + quiet;
        for _ in 0..self.rig.patience() {
            if self.rig.now() >= end {
                return;
            }
            if self.turn(end) {
                end = self.rig.now() + quiet;
            }
        }
        self.give_up("nothing to happen any more");
    }

    /// From now on this client neither asks nor polls, as if its process hung; or does so again.
    pub fn silence(&mut self, who: Who, silent: bool) {
        self.peers[who.0].silent = silent;
    }

    fn give_up(&self, what: &str) -> ! {
        let books: Vec<_> = self.peers.iter().map(Peer::summary).collect();
        panic!("patience ended, still waiting for {what}; clients: {books:#?}");
    }

    /// Waits until this client holds `count` deliveries in all, and returns a copy of them.
    pub fn deliveries(&mut self, who: Who, count: usize) -> Vec<Got> {
        self.until(&format!("{count} deliveries"), |s| s.got(who).len() >= count);
        self.got(who).to_vec()
    }

    /// What was delivered to this client so far.
    pub fn got(&self, who: Who) -> &[Got] {
        &self.peers[who.0].got
    }

    /// What happened uninvited to this client so far.
    pub fn events(&self, who: Who) -> &[Event] {
        &self.peers[who.0].events
    }

    /// The lanes that this client reads, without those that are being taken from it.
    pub fn lanes(&self, who: Who) -> Vec<LaneId> {
        self.held(who, Held::Assigned)
    }

    /// The lanes that this client holds until it releases them.
    pub fn revoked(&self, who: Who) -> Vec<LaneId> {
        self.held(who, Held::Revoked)
    }

    fn held(&self, who: Who, as_what: Held) -> Vec<LaneId> {
        self.peers[who.0].lanes.iter().filter(|(_, held)| **held == as_what).map(|(lane, _)| *lane).collect()
    }

    /// Why this client's submits were cut short so far.
    pub fn blocked(&self, who: Who) -> &[Blocked] {
        &self.peers[who.0].blocked
    }

    /// What a client says of its refusals, failures and lost lanes.
    pub fn reasons(&self, who: Who) -> Vec<String> {
        self.peers[who.0].client.reasons()
    }

    /// Whether this token has ended.
    pub fn is_ended(&self, who: Who, token: Token) -> bool {
        self.peers[who.0].ended.contains_key(&token)
    }

    /// Whether the client's connection stands, as far as it has said.
    pub fn is_connected(&self, who: Who) -> bool {
        self.peers[who.0].connected
    }

    /// Takes back what this client has not taken, as a host does that stops offering. Returns those tokens.
    pub fn withdraw(&mut self, who: Who) -> Vec<Token> {
        self.peers[who.0].withdraw()
    }

    /// Closes a client and waits for it; what it had asked has ended by then.
    pub fn close(&mut self, who: Who) {
        assert_eq!(self.ended(who, Control::Close).status, Status::Done, "{who:?} closes");
        self.until("the rest to end with the close", |s| s.peers[who.0].open.is_empty());
    }

    /// Closes every client and asserts that every token has ended.
    pub fn end(mut self) {
        for n in 0..self.peers.len() {
            if !self.peers[n].closing() {
                self.ask(Who(n), Control::Close);
            }
        }
        self.until("every client to close and every token to end", |s| {
            s.peers.iter().all(|peer| peer.closed() && peer.open.is_empty() && peer.due.is_empty())
        });
    }
}
