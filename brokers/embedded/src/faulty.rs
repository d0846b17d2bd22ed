//! `faulty`: another backend with planted faults. A harness that does not notice them is no harness.
//!
//! Under construction: the faults are counted but not yet planted.

use brokerlab_model::{
    Broker, Capabilities, Client, ClientSpec, ConnectError, Contract, Settings, Time, Unsupported, WorkCounts, Worker,
};

use crate::backends::Embedded;
use crate::store::{StorageFacts, StoreError};

/// Which faults, each on every so-many-th message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A delivery is dropped.
    pub drop: Option<u64>,
    /// A delivery comes twice.
    pub duplicate: Option<u64>,
    /// Two deliveries of one producer and key change places.
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
}

/// Another backend, with faults.
#[derive(Debug)]
pub struct FaultyBroker {
    inner: Box<dyn Embedded>,
    faults: Faults,
}

impl FaultyBroker {
    pub(crate) fn new(inner: Box<dyn Embedded>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl Broker for FaultyBroker {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        self.inner.honour(contract)
    }
    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let _ = &self.faults;
        self.inner.connect(now, client)
    }
    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        self.inner.workers()
    }
    fn work(&self) -> WorkCounts {
        self.inner.work()
    }
}

impl Embedded for FaultyBroker {
    fn storage_facts(&self) -> StorageFacts {
        self.inner.storage_facts()
    }
    fn storage_error(&self) -> Option<StoreError> {
        self.inner.storage_error()
    }
}
