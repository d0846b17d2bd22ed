//! The suite's own small host: it connects clients and asks on their behalf; how it waits is in `turns`.
//!
//! It is slow and simple on purpose: the real host has a pacer and a recorder, and neither is under test here.

use std::fmt::Debug;

use super::peer::{Asked, Peer};
use super::rig::{Rig, Tuning};
use super::seen::Ended;
use crate::batch::{Batch, ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, Settlement, Token, Verdict};
use crate::broker::{Client, ClientSpec, ConnectError, Role};
use crate::capabilities::{Capabilities, Feature};
use crate::completion::{Answer, Description, Outcome, Refusal, Status};
use crate::contract::Contract;
use crate::time::Time;

/// A client of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who(pub(super) usize);

/// A channel that the session's administrator made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its number.
    pub id: ChannelId,
    /// Its first lane.
    pub first: LaneId,
    /// How many lanes it has.
    pub lanes: u32,
}

impl Channel {
    /// Its lanes.
    pub fn lanes(self) -> impl Iterator<Item = LaneId> {
        (self.first.0..self.first.0 + self.lanes).map(LaneId)
    }
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it goes.
    pub channel: ChannelId,
    /// The key.
    pub key: Vec<u8>,
    /// The headers.
    pub headers: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Messages without a key, each with its number as the payload's first 8 bytes.
pub fn numbered(channel: Channel, numbers: std::ops::Range<u64>) -> Vec<Item> {
    numbers
        .map(|n| Item { channel: channel.id, key: Vec::new(), headers: Vec::new(), payload: n.to_le_bytes().to_vec() })
        .collect()
}

/// A broker with its clients, from the first connect until the end of a case.
pub struct Session<'r> {
    pub(super) rig: &'r mut dyn Rig,
    pub(super) peers: Vec<Peer>,
    tokens: u64,
    /// Polls of all clients so far.
    pub(super) polls: u64,
    admin: Who,
    placement: u32,
}

impl<'r> Session<'r> {
    /// A session with an administrator and nobody else.
    pub fn open(rig: &'r mut dyn Rig) -> Self {
        let mut session = Self { rig, peers: Vec::new(), tokens: 0, polls: 0, admin: Who(0), placement: 0 };
        session.admin = session.connect(Role::Administrator).expect("the administrator connects");
        session
    }

    /// A session on a fresh broker that is tuned otherwise and keeps the same contract.
    pub fn tuned(rig: &'r mut dyn Rig, tuning: Tuning) -> Self {
        let contract = rig.contract();
        rig.renew(&contract, tuning).expect("a backend keeps its contract under any tuning");
        Self::open(rig)
    }

    /// The administrator.
    pub fn admin(&self) -> Who {
        self.admin
    }

    /// What the backend has.
    pub fn has(&mut self, feature: Feature) -> bool {
        self.capabilities().has(feature)
    }

    /// What the backend is and can do.
    pub fn capabilities(&mut self) -> Capabilities {
        self.rig.broker().capabilities().clone()
    }

    /// The contract in force.
    pub fn contract(&self) -> Contract {
        self.rig.contract()
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.rig.now()
    }

    /// Connects a client under the next free number.
    pub fn connect(&mut self, role: Role) -> Result<Who, ConnectError> {
        let number = u32::try_from(self.peers.len()).expect("a case has few clients");
        let holds_lanes = self.has(Feature::LaneAssignment) && matches!(role, Role::Member { .. });
        let client = self.connect_as(number, role)?;
        self.peers.push(Peer::new(client, holds_lanes));
        Ok(Who(self.peers.len() - 1))
    }

    /// Connects a client under a number of the caller's, outside the session's books.
    pub fn connect_as(&mut self, number: u32, role: Role) -> Result<Box<dyn Client>, ConnectError> {
        let now = self.rig.now();
        let placement = self.placement;
        self.rig.broker().connect(now, &ClientSpec { number, role, placement })
    }

    /// Clients that connect from now on are driven by a loop of this number: one that is to hang shares no descriptor with others.
    pub fn place(&mut self, placement: u32) {
        self.placement = placement;
    }

    /// A producer.
    pub fn producer(&mut self) -> Who {
        self.connect(Role::Producer).expect("a producer connects")
    }

    /// A member of `group` that reads `channel`, without credit.
    pub fn member(&mut self, group: &str, channel: Channel) -> Who {
        let role = Role::Member { group: group.to_owned(), channels: vec![channel.id] };
        self.connect(role).expect("a member of a group that the channel names connects")
    }

    /// A member that always has credit, acknowledges what it gets at once and releases lanes that are revoked.
    pub fn serving(&mut self, group: &str, channel: Channel) -> Who {
        let who = self.member(group, channel);
        self.serve(who);
        who
    }

    /// Turns a member into one that always has credit, acknowledges what it gets at once and releases revoked lanes.
    pub fn serve(&mut self, who: Who) {
        const WINDOW: u32 = 64;
        self.peers[who.0].serving = Some(WINDOW);
        self.ask(who, Control::Grant(WINDOW));
    }

    /// Makes a channel and waits for it.
    pub fn create(&mut self, name: &str, lanes: u32, groups: &[&str]) -> Channel {
        let outcome = self.try_create(name, lanes, groups);
        assert_eq!(outcome.status, Status::Done, "channel `{name}` with {lanes} lanes for {groups:?}");
        let id = u32::try_from(outcome.position).expect("a channel's number fits 32 bits");
        Channel { id: ChannelId(id), first: outcome.lane, lanes }
    }

    /// Makes a channel that is more than lanes and groups, and waits for it.
    pub fn made(&mut self, spec: ChannelSpec) -> Channel {
        let lanes = spec.lanes;
        let outcome = self.ended(self.admin, Control::Create(spec));
        assert_eq!(outcome.status, Status::Done);
        let id = u32::try_from(outcome.position).expect("a channel's number fits 32 bits");
        Channel { id: ChannelId(id), first: outcome.lane, lanes }
    }

    /// Asks for a channel and waits for the outcome.
    pub fn try_create(&mut self, name: &str, lanes: u32, groups: &[&str]) -> Outcome {
        let groups = groups.iter().map(|&g| g.to_owned()).collect();
        self.ended(
            self.admin,
            Control::Create(ChannelSpec { name: name.to_owned(), lanes, groups, ..ChannelSpec::default() }),
        )
    }

    /// Asks for a channel's state and waits for it.
    pub fn describe(&mut self, channel: Channel) -> Description {
        let token = self.ask(self.admin, Control::Describe(channel.id));
        match self.wait(self.admin, token) {
            Ended::Answer(Answer::Description(description)) => description,
            other @ (Ended::Outcome(_) | Ended::Answer(_)) => panic!("a description was asked and {other:?} came"),
        }
    }

    /// Describes a channel of one lane and one group, and asserts its end, what is committed, what is ready and what is in flight:
    /// all of them where the backend tells them, and otherwise what is ready, with nothing said of the others.
    pub fn depth(&mut self, channel: Channel, [end, committed, ready, in_flight]: [u64; 4]) {
        let full = self.has(Feature::FullDepth);
        let state = self.describe(channel).lanes[0].clone();
        assert_eq!(state.lane, channel.first);
        let found = [state.end, state.committed, state.ready, state.in_flight];
        let due = if full { [end, committed, ready, in_flight] } else { [0, 0, ready, 0] };
        assert_eq!(found, due, "end, committed, ready, in flight: {state:?}");
    }

    /// Asks for a member's next position in a lane and waits for it.
    pub fn position(&mut self, who: Who, lane: LaneId) -> u64 {
        let token = self.ask(who, Control::Position(lane));
        match self.wait(who, token) {
            Ended::Answer(Answer::Position { lane: answered, position }) => {
                assert_eq!(answered, lane);
                position
            }
            other @ (Ended::Outcome(_) | Ended::Answer(_)) => panic!("a position was asked and {other:?} came"),
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// Asks for a control operation; does not wait.
    pub fn ask(&mut self, who: Who, control: Control) -> Token {
        let token = self.token();
        self.peers[who.0].ask(token, control);
        token
    }

    /// Asks for a control operation and waits for its outcome.
    pub fn ended(&mut self, who: Who, control: Control) -> Outcome {
        let text = format!("{control:?}");
        let token = self.ask(who, control);
        match self.wait(who, token) {
            Ended::Outcome(outcome) => outcome,
            Ended::Answer(answer) => panic!("{text}: an outcome was due and {answer:?} came"),
        }
    }

    /// Asks for a control operation and asserts its refusal.
    pub fn refused(&mut self, who: Who, control: Control, refusal: Refusal) {
        let text = format!("{control:?}");
        assert_eq!(self.ended(who, control).status, Status::Refused(refusal), "{text}");
    }

    /// Publishes one batch; does not wait. Tokens in the items' order.
    pub fn publish(&mut self, who: Who, items: &[Item]) -> Vec<Token> {
        let mut batch = Publishes::new();
        let mut tokens = Vec::with_capacity(items.len());
        for item in items {
            let token = self.token();
            batch.push(token, item.channel, &item.key, &item.headers, &item.payload);
            self.peers[who.0].open.insert(token, Asked::Publish);
            tokens.push(token);
        }
        self.peers[who.0].due.push_back(Batch::Publish(batch));
        tokens
    }

    /// Publishes one batch of lengths; does not wait.
    pub fn publish_lengths(&mut self, who: Who, channel: Channel, lengths: &[u32]) -> Vec<Token> {
        let mut batch = Publishes::of_lengths();
        let mut tokens = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let token = self.token();
            batch.push_length(token, channel.id, b"key", b"", length);
            self.peers[who.0].open.insert(token, Asked::Publish);
            tokens.push(token);
        }
        self.peers[who.0].due.push_back(Batch::Publish(batch));
        tokens
    }

    /// Publishes and waits until every message is done, with its lane and position.
    pub fn published(&mut self, who: Who, items: &[Item]) -> Vec<Outcome> {
        let tokens = self.publish(who, items);
        let outcomes = self.outcomes(who, &tokens);
        for (n, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.status, Status::Done, "message {n} of {}", items.len());
        }
        outcomes
    }

    /// Settles one batch; does not wait.
    pub fn settle(&mut self, who: Who, receipts: &[Receipt], verdict: Verdict) -> Vec<Token> {
        let mut batch = Vec::with_capacity(receipts.len());
        for &receipt in receipts {
            let token = self.token();
            batch.push(Settlement { token, receipt, verdict });
            self.peers[who.0].open.insert(token, Asked::Settle);
        }
        let tokens = batch.iter().map(|s| s.token).collect();
        self.peers[who.0].due.push_back(Batch::Settle(batch));
        tokens
    }

    /// Settles and waits for how each settlement ended.
    pub fn settled(&mut self, who: Who, receipts: &[Receipt], verdict: Verdict) -> Vec<Status> {
        let tokens = self.settle(who, receipts, verdict);
        self.outcomes(who, &tokens).iter().map(|outcome| outcome.status).collect()
    }

    /// Waits for the outcomes of these tokens.
    pub fn outcomes(&mut self, who: Who, tokens: &[Token]) -> Vec<Outcome> {
        tokens
            .iter()
            .map(|&token| match self.wait(who, token) {
                Ended::Outcome(outcome) => outcome,
                Ended::Answer(answer) => panic!("{token:?}: an outcome was due and {answer:?} came"),
            })
            .collect()
    }

    fn wait(&mut self, who: Who, token: Token) -> Ended {
        self.until(&format!("the end of {token:?}"), |s| s.peers[who.0].ended.contains_key(&token));
        self.peers[who.0].ended[&token].clone()
    }
}

impl Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("peers", &self.peers).finish_non_exhaustive()
    }
}
