//! Examines, opens and cleans up a real broker by its URL.
//!
//! Everything here may block, within [`TIMEOUT`] for each step; what comes out of [`open`] never does. Leaves out the protocols.

use std::time::Duration;

use brokerlab_model::{Broker, Capabilities, ChannelSpec, Contract, Order, Settings, Unsupported};

use crate::mapping::Mapping;
#[cfg(any(feature = "kafka", feature = "amqp"))]
use crate::url::Scheme;
use crate::url::{Host, LiveUrl, UrlError};

/// Connecting, or one answer while examining, may take this long.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Where on the server a run may work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Begins the name of every topic, queue, exchange and group that the run makes; nothing else is touched.
    pub prefix: String,
    /// Whether channels are there already and are used by their own names: nothing is made or removed then.
    pub existing: bool,
    /// UTC of the run's origin in nanoseconds since 1970, by which times are told to the server.
    pub origin_utc_ns: u64,
}

impl Place {
    /// The name of a channel on the server.
    pub fn on_server(&self, channel: &str) -> String {
        if self.existing { channel.to_owned() } else { format!("{}{channel}", self.prefix) }
    }
}

/// A real broker that was opened.
pub trait Live: Broker {
    /// What the contract became.
    fn mapping(&self) -> &Mapping;

    /// The client's and the server's settings in force, read back where the server tells.
    fn in_force(&self) -> Settings;

    /// The server's product and version.
    fn server(&self) -> &str;
}

/// What was learned of a server without making anything on it.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What the contract becomes there.
    pub mapping: Mapping,
    /// What it is and can do.
    pub capabilities: Capabilities,
    /// Product and version.
    pub server: String,
}

/// Why a server can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The name has no address.
    #[error("its name has no address ({0}); check the host")]
    NoAddress(String),
    /// Nobody listens, or nothing comes through.
    #[error(
        "can't connect ({0}); is it up, and is the port right? `scripts/brokers status` tells of servers started here"
    )]
    Unreachable(String),
    /// Connected, and then silence.
    #[error("connected, but no answer to {asked} within {seconds} s; is this the right protocol and port?")]
    Silent {
        /// What was asked.
        asked: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Something else answered.
    #[error("what answers there does not speak {protocol} ({found}); check scheme and port")]
    OtherProtocol {
        /// What was expected.
        protocol: &'static str,
        /// What came.
        found: String,
    },
    /// User or password are wrong, or needed.
    #[error("it refuses the login ({0}); give user@ in the URL and the password in BROKERLAB_PASSWORD")]
    Login(String),
    /// Something may not be done.
    #[error("permission denied: {0}; grant it to this user, or name another")]
    Permission(String),
    /// The TLS handshake failed, or what followed it.
    #[error("TLS failed ({found}); {remedy}")]
    Tls {
        /// What failed.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A topic or queue exists with other settings.
    #[error("`{name}` exists with other settings than this run wants (found {found}; wanted {wanted}); {remedy}")]
    Differs {
        /// Its name on the server.
        name: String,
        /// What was found.
        found: String,
        /// What was wanted in its place.
        wanted: String,
        /// What helps.
        remedy: &'static str,
    },
    /// Anything else that the server says.
    #[error("{0}")]
    Server(String),
}

/// Why a real broker could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Its driver is not built in.
    #[error("{name} is not built in; build with `--features {feature}`, or `--features live` for every driver")]
    NotBuilt {
        /// Which broker.
        name: &'static str,
        /// The feature to add.
        feature: &'static str,
    },
    /// The URL is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It can't keep the contract.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The server can't be used.
    #[error("{at}: {trouble}")]
    Trouble {
        /// Which server.
        at: String,
        /// Why.
        trouble: Trouble,
    },
}

/// Calls one function of the driver that a scheme stands for, or says that it is not built in.
macro_rules! driver {
    ($url:expr, $function:ident ( $($argument:expr),* )) => {{
        match $url.scheme {
            #[cfg(feature = "kafka")]
            Scheme::Kafka => crate::kafka::$function($($argument),*),
            #[cfg(feature = "amqp")]
            Scheme::Amqp => crate::amqp::$function($($argument),*),
            #[cfg(not(all(feature = "kafka", feature = "amqp")))]
            missing => {
                let _ = ($($argument),*);
                Err(OpenError::NotBuilt { name: missing.name(), feature: missing.feature() })
            }
        }
    }};
}

/// A real broker as it is listed, without a server: what its driver and its documented defaults give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documented {
    /// What it is and can do under the default contract.
    pub capabilities: Capabilities,
    /// The orders that it keeps.
    pub orders: Vec<Order>,
}

/// Every broker whose driver is built in, as its documentation has it. What a server at hand gives is told by [`examine`].
pub fn documented() -> Vec<Documented> {
    vec![
        #[cfg(feature = "kafka")]
        crate::kafka::documented(),
        #[cfg(feature = "amqp")]
        crate::amqp::documented(),
    ]
}

/// Connects, looks, and says what `contract` becomes there. Makes nothing on the server.
pub fn examine(url: &LiveUrl, contract: Contract) -> Result<Examined, OpenError> {
    driver!(url, examine(url, contract))
}

/// Opens the broker for one contract, which it has to keep: whoever accepts less asks for less.
pub fn open(url: &LiveUrl, contract: Contract, place: &Place) -> Result<Box<dyn Live>, OpenError> {
    driver!(url, open(url, contract, place))
}

/// The address, as clients reach it, of the node that leads the first lane of `channel` now.
pub fn leader(url: &LiveUrl, place: &Place, channel: &ChannelSpec) -> Result<Host, OpenError> {
    driver!(url, leader(url, place, channel))
}

/// Removes what a run with this `place` made for these channels, whether it is there or not. Nothing else is touched, and nothing at
/// all with `existing` channels.
pub fn remove(url: &LiveUrl, place: &Place, channels: &[ChannelSpec]) -> Result<(), OpenError> {
    driver!(url, remove(url, place, channels))
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "kafka"))]
    #[test]
    fn a_driver_that_is_not_built_names_its_feature() {
        let url = super::LiveUrl::parse("kafka://127.0.0.1:1").unwrap();
        let error = super::examine(&url, super::Contract::default()).unwrap_err();
        assert!(error.to_string().contains("--features kafka"), "{error}");
    }
}
