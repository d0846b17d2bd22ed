//! TLS below a socket: what a URL asks for, where a connection goes, and what its failures mean.
//!
//! The feature `tls` brings rustls with ring, which needs a C compiler and nothing else. The server is always verified: against the
//! system's authorities, since a company's own ones are installed there, or against those of `tls.ca` alone. Leaves out the socket, and
//! any way around the verification.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod layer;
#[cfg(feature = "tls")]
mod security;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::Layer;
#[cfg(not(feature = "tls"))]
pub use absent::Security;
#[cfg(feature = "tls")]
pub(crate) use layer::Layer;
#[cfg(feature = "tls")]
pub use security::Security;

use crate::open::{OpenError, Trouble};
use crate::url::LiveUrl;

/// The `tls.…` parameters of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// A PEM file with the certificates of the authorities that are trusted, in place of the system's.
    pub ca: Option<String>,
    /// A PEM file with this client's certificate, and those between it and its authority.
    pub cert: Option<String>,
    /// A PEM file with the private key of [`cert`](Self::cert).
    pub key: Option<String>,
    /// The name that the server's certificate is to have, where it is not the host's.
    pub server_name: Option<String>,
}

impl Parameters {
    /// Their names in a URL.
    pub const NAMES: [&str; 4] = ["tls.ca", "tls.cert", "tls.key", "tls.server.name"];

    /// The place of one by its name in a URL.
    pub(crate) fn named(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "tls.ca" => Some(&mut self.ca),
            "tls.cert" => Some(&mut self.cert),
            "tls.key" => Some(&mut self.key),
            "tls.server.name" => Some(&mut self.server_name),
            _ => None,
        }
    }
}

impl Security {
    /// What a URL asks for; none where it asks for a connection in the open.
    pub fn of(url: &LiveUrl) -> Result<Option<Arc<Self>>, OpenError> {
        if url.tls { Self::read(&url.security).map(|security| Some(Arc::new(security))) } else { Ok(None) }
    }
}

/// Where a connection goes, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to.
    pub address: SocketAddr,
    /// The server's name, by which it is verified.
    pub host: String,
    /// None is in the open.
    pub security: Option<Arc<Security>>,
}

impl Target {
    /// An address, in the open.
    pub fn open(address: SocketAddr) -> Self {
        Self { address, host: address.ip().to_string(), security: None }
    }
}

/// A connection that TLS ended; carried by an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) Trouble);

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::new(io::ErrorKind::InvalidData, broken)
    }
}

/// The trouble that ended a connection, if it was TLS's.
#[cfg(any(feature = "kafka", feature = "amqp"))]
pub(crate) fn told(error: &io::Error) -> Option<Trouble> {
    let broken: &Broken = error.get_ref()?.downcast_ref()?;
    Some(broken.0.clone())
}

/// Whether what came in the open is an alert of TLS: the server there wants a handshake.
#[cfg(any(feature = "kafka", feature = "amqp"))]
pub(crate) fn is_alert(bytes: &[u8]) -> bool {
    matches!(bytes, [21, 3, 0..=4, 0, ..])
}
