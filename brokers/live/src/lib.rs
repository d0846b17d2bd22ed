//! Real brokers behind the shared trait, each over its own protocol: a codec and sockets that the host waits on.
//!
//! One module and one cargo feature for each broker, chosen by the URL's scheme: `kafka://`, `amqp://`, with TLS `kafka+tls://` and
//! `amqps://`. A scheme that is not built in is answered with the feature to add. Leaves out starting servers (`scripts/brokers`)
//! and every figure: no clock is read here but the one that is passed in.

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "kafka")]
pub mod kafka;
mod mapping;
mod open;
pub mod socket;
pub mod tls;
pub mod url;

pub use mapping::{Mapping, Strength};
pub use open::{
    Documented, Examined, Live, OpenError, Place, TIMEOUT, Trouble, documented, examine, leader, open, remove,
};
pub use url::{Host, LiveUrl, Scheme, UrlError};
