//! `faulty`: another backend with planted faults. A harness that does not notice them is no harness.
//!
//! `faulty?drop=10000&inner=log` drops one delivery in 10,000. The faults, each on every so-many-th message:
//!
//! - `drop`: a delivery is kept from the member and acknowledged in its name, so that the inner backend does not hold it.
//! - `duplicate`: a delivery comes twice, and is not marked as a redelivery.
//! - `reorder`: of two messages that one client published with one key, the second is delivered first.
//! - `corrupt`: one byte in the middle of a payload is flipped.
//! - `early`: the message at the front of what was *not* taken is delivered, as it was offered. The host learns from the shorter
//!   prefix that it was not sent, and offers it again; the delivery of what it then sends is kept back, so that early is the
//!   only fault.
//!
//! A member may so receive one delivery more than it granted. Leaves out everything that a model can do wrong by itself. It is
//! not listed: nobody should choose it.

mod client;
mod plan;

use std::sync::{Arc, Mutex};

use brokerlab_model::{
    Broker, Capabilities, Client, ClientSpec, ConnectError, Contract, Role, Settings, Tally, Time, Unsupported,
    WorkCounts, Worker,
};

use crate::backends::Embedded;
use crate::store::{StorageFacts, StoreError};
use client::FaultyClient;
use plan::Plan;

/// Which faults, each on every so-many-th message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A delivery is dropped.
    pub drop: Option<u64>,
    /// A delivery comes twice.
    pub duplicate: Option<u64>,
    /// Two deliveries of one client and key change places.
    pub reorder: Option<u64>,
    /// A byte of a payload is flipped.
    pub corrupt: Option<u64>,
    /// A message is delivered before it is taken.
    pub early: Option<u64>,
}

impl Faults {
    /// Their names.
    pub const NAMES: &'static [&'static str] = &["drop", "duplicate", "reorder", "corrupt", "early"];

    pub(crate) fn every_mut(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name {
            "drop" => Some(&mut self.drop),
            "duplicate" => Some(&mut self.duplicate),
            "reorder" => Some(&mut self.reorder),
            "corrupt" => Some(&mut self.corrupt),
            "early" => Some(&mut self.early),
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add_to(&self, settings: &mut Settings) {
        let all = [self.drop, self.duplicate, self.reorder, self.corrupt, self.early];
        for (name, every) in Self::NAMES.iter().zip(all) {
            if let Some(every) = every {
                settings.add(
                    name,
                    format!("every {every} messages"),
                    "a planted fault: this row must break its contract",
                );
            }
        }
    }
}

/// Another backend, with faults.
#[derive(Debug)]
pub struct FaultyBroker {
    inner: Box<dyn Embedded>,
    faults: Faults,
    plan: Arc<Mutex<Plan>>,
    capabilities: Capabilities,
}

impl FaultyBroker {
    /// Plants `faults` into what `inner`'s clients do.
    pub fn new(inner: Box<dyn Embedded>, faults: Faults) -> Self {
        let capabilities = Capabilities { name: "faulty", ..inner.capabilities().clone() };
        let plan = Arc::new(Mutex::new(Plan::new(&faults)));
        Self { inner, faults, plan, capabilities }
    }
}

impl Broker for FaultyBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut settings = self.inner.honour(contract)?;
        self.faults.add_to(&mut settings);
        Ok(settings)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let inner = self.inner.connect(now, client)?;
        let reads = match &client.role {
            Role::Member { group, channels } => Some((group.clone(), channels.clone())),
            Role::Producer | Role::Administrator => None,
        };
        Ok(Box::new(FaultyClient::new(inner, client.number, reads, Arc::clone(&self.plan))))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        self.inner.workers()
    }

    fn work(&self) -> WorkCounts {
        self.inner.work()
    }

    fn tallies(&self) -> Vec<Tally> {
        self.inner.tallies()
    }

    fn untold_limits(&self) -> Vec<String> {
        self.inner.untold_limits()
    }

    fn stopped(&self) -> Option<String> {
        self.inner.stopped()
    }
}

impl Embedded for FaultyBroker {
    fn storage_facts(&self) -> StorageFacts {
        self.inner.storage_facts()
    }

    fn storage_error(&self) -> Option<StoreError> {
        self.inner.storage_error()
    }

    fn end(&mut self) -> Option<StoreError> {
        self.inner.end()
    }
}
