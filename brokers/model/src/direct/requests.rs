//! A service's requests that are not done with: a slab of rows, with one leg for each group that is called.
//!
//! Leaves out where a request stands in its endpoint's log; that is the lane's index.

use crate::batch::Token;
use crate::direct::breaker::Pass;
use crate::slots::NOBODY;
use crate::time::Time;

/// No request.
pub(super) const NONE: u32 = u32::MAX;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The row is free.
    Free,
    /// Some group's receiver has not taken it.
    Waiting,
    /// All receivers took it and store it.
    Storing,
    /// All receivers have stored it and are to work on it, and the caller waits for that.
    Serving,
    /// It is answered, and served or to be served.
    Answered,
    /// Its caller has waited for the work and heard how it ended; tries that it gave up before are still with receivers.
    Ended,
}

/// How far one group has come with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegStage {
    /// No receiver has taken it.
    Unplaced,
    /// It is in a receiver's service queue, or held while none is connected.
    Placed,
    /// A worker has it.
    InWork,
    /// It is done with.
    Settled,
}

/// A request as one group sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// The receiver's slot.
    pub(super) member: u32,
    /// Rises when it is handed on in work or its try is given up; the receipt's epoch.
    pub(super) epoch: u32,
    /// How often it was handed to a worker.
    pub(super) deliveries: u32,
    /// Whether it holds a connection between its caller and its receiver.
    pub(super) connected: bool,
    /// How the circuit breaker let it through.
    pub(super) pass: Pass,
    /// How far it has come.
    pub(super) stage: LegStage,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The caller's token.
    pub(super) token: Token,
    /// Unlike any other request's: a row is used again.
    pub(super) serial: u64,
    /// Its place in its endpoint's log.
    pub(super) position: u64,
    /// Its endpoint.
    pub(super) lane: u32,
    /// The caller's slot.
    pub(super) client: u32,
    /// Between which of the caller's flushes it is.
    pub(super) segment: u32,
    /// Groups whose receiver has not taken it.
    pub(super) unplaced: u32,
    /// Groups that are not done with it.
    pub(super) open: u32,
    /// Tries that its caller gave up and that receivers still hold.
    pub(super) strays: u32,
    /// How often it was tried again.
    pub(super) retries: u32,
    /// When the caller gives up.
    pub(super) deadline: Time,
    /// When something is to be done about it, while a timer runs for it.
    pub(super) wake: Time,
    /// Whether its receivers have stored it.
    pub(super) stored: bool,
    /// How far it has come.
    pub(super) stage: Stage,
}

/// All requests of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    rows: Vec<Request>,
    /// `groups` of them for each row.
    legs: Vec<Leg>,
    groups: usize,
    free: Vec<u32>,
}

impl Requests {
    /// None yet, each for `groups` groups.
    pub(super) fn new(groups: usize) -> Self {
        Self { groups, ..Self::default() }
    }

    /// Adds a request that nobody has taken.
    pub(super) fn add(&mut self, request: Request) -> u32 {
        let leg = Leg {
            member: NOBODY,
            epoch: 0,
            deliveries: 0,
            connected: false,
            pass: Pass::default(),
            stage: LegStage::Unplaced,
        };
        if let Some(id) = self.free.pop() {
            self.rows[id as usize] = request;
            self.legs[id as usize * self.groups..][..self.groups].fill(leg);
            return id;
        }
        self.rows.push(request);
        self.legs.resize(self.legs.len() + self.groups, leg);
        (self.rows.len() - 1) as u32
    }

    /// Frees a request's row.
    pub(super) fn remove(&mut self, id: u32) {
        self.rows[id as usize].stage = Stage::Free;
        self.free.push(id);
    }

    /// A request.
    pub(super) fn get(&self, id: u32) -> &Request {
        &self.rows[id as usize]
    }

    /// A request, to be changed.
    pub(super) fn get_mut(&mut self, id: u32) -> &mut Request {
        &mut self.rows[id as usize]
    }

    /// Whether the row still holds the request of that serial, at that stage.
    pub(super) fn is(&self, id: u32, serial: u64, stage: Stage) -> bool {
        let request = &self.rows[id as usize];
        request.serial == serial && request.stage == stage
    }

    /// What one group makes of a request.
    pub(super) fn leg(&self, id: u32, place: u32) -> &Leg {
        &self.legs[id as usize * self.groups + place as usize]
    }

    /// What one group makes of a request, to be changed.
    pub(super) fn leg_mut(&mut self, id: u32, place: u32) -> &mut Leg {
        &mut self.legs[id as usize * self.groups + place as usize]
    }
}
