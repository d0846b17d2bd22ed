//! The shared trait of brokerlab, the contract, and the four messaging models as pure state machines.
//!
//! Brokers are request/completion machines, and so is the trait: operations go in as batches, completions come out as batches,
//! and time is an argument. A state machine in a simulator, an engine in this process and a network client with many requests
//! in flight all fit it. This crate knows no clock, thread, file, socket or random number.
//!
//! The trait speaks neutral words; each model keeps its own inside.
//!
//! | here | log (Apache Kafka) | queue (RabbitMQ, SQS) | shard (Amazon Kinesis) | direct (REST) |
//! |---|---|---|---|---|
//! | channel | topic | exchange and its queues | stream | service |
//! | lane | partition | queue | shard | endpoint |
//! | publish | produce | publish, SendMessage | PutRecords | request |
//! | position | offset | delivery tag, receipt handle | sequence number | request number |
//! | grant | fetch | prefetch, ReceiveMessage | GetRecords | free workers of a receiver |
//! | settle | offset commit | ack, nack, DeleteMessage | checkpoint | response |
//! | seek | seek | – | iterator | – |
//! | group | consumer group | queues bound for one purpose | application | service that is called |

pub mod bare;
pub mod batch;
pub mod binding;
pub mod broker;
pub mod capabilities;
pub mod completion;
pub mod conformance;
pub mod contract;
pub mod credit;
pub mod death;
pub mod direct;
mod give_back;
pub mod headers;
pub mod heartbeat;
pub mod identity;
pub mod journal;
mod lane_room;
pub mod log;
pub mod machine;
pub mod outcomes;
pub mod queue;
mod routing;
pub mod shard;
mod slots;
mod stream;
pub mod time;
#[cfg(test)]
mod trial;
pub mod windows;

pub use bare::Bare;
pub use batch::{
    Accepted, Batch, Blocked, ChannelId, ChannelSpec, Columns, Control, LaneId, Message, Publishes, Receipt, SeekTo,
    Settlement, Token, Transaction, Verdict,
};
pub use binding::{Binding, Pattern};
pub use broker::{Broker, Client, ClientSpec, ConnectError, Role, WaitOn, WorkCounts, Worker};
pub use capabilities::{
    Capabilities, Feature, Gaps, Limit, Missing, ModelKind, Setting, Settings, Tally, Unsupported, Words,
};
pub use completion::{
    Answer, Completions, Deliveries, Delivery as Delivered, Description, Event, Failure, GivenUp, LaneState, Outcome,
    Refusal, Slice, Status,
};
pub use contract::{Availability, Contract, Delivery, Order, Storage};
pub use death::{Death, DeathReason};
pub use headers::{HeaderBlock, HeaderError, Headers};
pub use heartbeat::Heartbeat;
pub use identity::Identity;
pub use journal::{Journal, JournalError, Together};
pub use lane_room::{LANES_MAX, PLACES_MAX};
pub use machine::{
    ChannelRecord, Deliver, Effects, GROUPS_MAX, Model, NAME_BYTES_MAX, Record, Reshape, ReshapeRecord, Write,
};
pub use outcomes::Outcomes;
pub use time::{Span, Time};
