//! The messaging models hosted in this process, on real files.
//!
//! **What embedded rows mean**: these are models in one process, not Kafka, RabbitMQ, SQS or Kinesis; shapes and counts carry
//! over, rates do not.
//!
//! An [`EngineBroker`] hosts one model: it performs the model's effects on a [`Store`] and puts what comes back into a mailbox per
//! client. Leaves out time and threads: the host brings the one and schedules the other.

pub mod backends;
pub mod engine;
pub mod faulty;
mod handoff;
pub mod loopback;
pub mod null;
pub mod presets;
pub mod store;
pub mod url;

pub use backends::{Embedded, Listed, OpenError, Place, bare, capabilities, catalogue, honour, open, reopen};
pub use engine::{EngineBroker, EngineClient};
pub use loopback::{LoopbackBroker, LoopbackClient, ServeError, Server};
pub use null::{NullBroker, NullClient};
pub use presets::Preset;
pub use store::{Disk, Limits, ScanReport, StorageFacts, Store, StoreError, SystemDisk, verify};
pub use url::{BackendUrl, Kind, Parameter, Transport, UrlError};
