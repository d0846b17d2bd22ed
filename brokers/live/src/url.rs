//! URLs of real brokers: `kafka://host:port,host:port?producer.linger.ms=5`, `amqp://user@host:port/vhost?queue=quorum`.
//!
//! A password never stands in a URL, since URLs are printed and stored: it comes from the environment or a file. Leaves out what
//! each parameter means to its driver, which checks its own and refuses unknown ones.

use std::fmt;

use crate::tls::Parameters;

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Apache Kafka.
    Kafka,
    /// RabbitMQ by AMQP 0-9-1.
    Amqp,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 2] = [Self::Kafka, Self::Amqp];

    /// The backend's plain name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Amqp => "rabbitmq",
        }
    }

    /// The cargo feature that builds its driver.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Amqp => "amqp",
        }
    }

    /// Whether its driver is built in.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Kafka => cfg!(feature = "kafka"),
            Self::Amqp => cfg!(feature = "amqp"),
        }
    }

    const fn port(self, tls: bool) -> u16 {
        match (self, tls) {
            (Self::Kafka, _) => 9_092,
            (Self::Amqp, false) => 5_672,
            (Self::Amqp, true) => 5_671,
        }
    }

    /// The parameter that says how many lanes a channel has, by the broker's own word.
    const fn lanes(self) -> &'static str {
        match self {
            Self::Kafka => "partitions",
            Self::Amqp => "queues",
        }
    }
}

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name or address.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// A real broker as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveUrl {
    text: String,
    /// Which protocol.
    pub scheme: Scheme,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// By what it is, beside the defaults.
    pub security: Parameters,
    /// The user's name, when one is given.
    pub user: Option<String>,
    /// At least one.
    pub hosts: Vec<Host>,
    /// What stands between hosts and parameters, without its first slash: RabbitMQ's virtual host.
    pub path: String,
    /// Parameters in the order in which they were given, but those that this module reads itself.
    pub parameters: Vec<(String, String)>,
    lanes: Option<u32>,
    password: Source,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Default,
    Environment(String),
    File(String),
}

/// The variable that holds the password unless the URL names another.
pub const PASSWORD_VARIABLE: &str = "BROKERLAB_PASSWORD";

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("`{0}` is no scheme of a real broker; there are kafka://, kafka+tls://, amqp:// and amqps://")]
    Scheme(String),
    /// No host, or no number after a colon.
    #[error("`{0}` names no host and port; write it like kafka://127.0.0.1:9092")]
    Host(String),
    /// A password in the open.
    #[error(
        "a URL is printed and stored, so a password may not stand in it; put it into the environment variable BROKERLAB_PASSWORD, or name another variable with ?password-env=NAME or a file with ?password-file=PATH"
    )]
    Password,
    /// A parameter that nobody knows.
    #[error("`{key}` is no parameter of {name}; there are {known}")]
    Unknown {
        /// As it was written.
        key: String,
        /// Of which backend.
        name: &'static str,
        /// What there is.
        known: String,
    },
    /// A parameter whose value does not fit.
    #[error("`{key}={value}`: {reason}")]
    Value {
        /// Which parameter.
        key: String,
        /// As it was written.
        value: String,
        /// What fits.
        reason: String,
    },
    /// A user, and no way to say who it is.
    #[error(
        "the URL names the user `{0}`, and no way to log in; add ?sasl=plain, scram-sha-256 or scram-sha-512, or leave the user out"
    )]
    NoLogin(String),
    /// The password can't be had.
    #[error("can't read the password: {0}")]
    Secret(String),
}

impl LiveUrl {
    /// Whether a text is meant as a real broker's URL.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads a URL. What a driver makes of its own parameters it says itself.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let (scheme, tls) = match scheme {
            "kafka" => (Scheme::Kafka, false),
            "kafka+tls" => (Scheme::Kafka, true),
            "amqp" => (Scheme::Amqp, false),
            "amqps" => (Scheme::Amqp, true),
            other => return Err(UrlError::Scheme(format!("{other}://"))),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(UrlError::Password),
            Some((user, hosts)) => (Some(decoded(user)), hosts),
            None => (None, authority),
        };
        let hosts = hosts.split(',').map(|text| host(text, scheme.port(tls))).collect::<Result<_, _>>()?;
        let mut url = Self {
            text: text.to_owned(),
            scheme,
            tls,
            security: Parameters::default(),
            user,
            hosts,
            path: decoded(path),
            parameters: Vec::new(),
            lanes: None,
            password: Source::default(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.parameter(&decoded(key), decoded(value))?;
        }
        Ok(url)
    }

    fn parameter(&mut self, key: &str, value: String) -> Result<(), UrlError> {
        let twice = self.parameters.iter().any(|(known, _)| known == key);
        let wrong =
            |reason: &str| UrlError::Value { key: key.to_owned(), value: value.clone(), reason: reason.to_owned() };
        if twice {
            return Err(wrong("it was given before; keep one of them"));
        }
        if key == "lanes" || key == self.scheme.lanes() {
            let lanes = value.parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong("write a number above zero"))?;
            self.lanes = Some(lanes);
        } else if key == "password-env" {
            self.password = Source::Environment(value);
        } else if key == "password-file" {
            self.password = Source::File(value);
        } else if let Some(place) = self.security.named(key) {
            if !self.tls {
                return Err(wrong("this scheme goes in the open; write kafka+tls:// or amqps://"));
            }
            if place.is_some() {
                return Err(wrong("it was given before; keep one of them"));
            }
            *place = Some(value);
        } else if key == "password" {
            return Err(UrlError::Password);
        } else {
            self.parameters.push((key.to_owned(), value));
        }
        Ok(())
    }

    /// How many lanes a channel is to have, when the URL says.
    pub fn lanes(&self) -> Option<u32> {
        self.lanes
    }

    /// The password: from the variable or file that the URL names, else from [`PASSWORD_VARIABLE`]; none when that is not set.
    pub fn password(&self) -> Result<Option<String>, UrlError> {
        match &self.password {
            Source::Default => Ok(std::env::var(PASSWORD_VARIABLE).ok()),
            Source::Environment(name) => std::env::var(name)
                .map(Some)
                .map_err(|error| UrlError::Secret(format!("environment variable {name}: {error}"))),
            Source::File(path) => std::fs::read_to_string(path)
                .map(|text| Some(text.trim_end_matches(['\n', '\r']).to_owned()))
                .map_err(|error| UrlError::Secret(format!("file {path}: {error}"))),
        }
    }
}

impl fmt::Display for LiveUrl {
    /// As it was given; it holds no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn host(text: &str, port: u16) -> Result<Host, UrlError> {
    let wrong = || UrlError::Host(text.to_owned());
    // An IPv6 address stands in brackets.
    let (name, given) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, rest)) => (name, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return Err(wrong());
    }
    let port = given.map_or(Ok(port), |given| given.parse().map_err(|_| wrong()))?;
    Ok(Host { name: name.to_owned(), port })
}

/// Percent-decoded; what is no valid escape stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte =
            escaped.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_parameters_and_virtual_host_are_read() {
        let url = LiveUrl::parse("kafka://a:1,b?producer.linger.ms=5&partitions=8").unwrap();
        assert_eq!(url.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:9092"]);
        assert_eq!(
            (url.lanes(), url.parameters.as_slice()),
            (Some(8), &[("producer.linger.ms".into(), "5".into())][..])
        );
        let url = LiveUrl::parse("amqps://me@[::1]:7/%2Fx?queue=quorum").unwrap();
        assert_eq!((url.tls, url.user.as_deref(), url.path.as_str()), (true, Some("me"), "/x"));
        assert_eq!(url.hosts, [Host { name: "::1".into(), port: 7 }]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(LiveUrl::parse("amqp://me:secret@h"), Err(UrlError::Password));
        assert_eq!(LiveUrl::parse("kafka://h?password=secret"), Err(UrlError::Password));
        assert!(matches!(LiveUrl::parse("pulsar://h"), Err(UrlError::Scheme(_))));
        assert!(matches!(LiveUrl::parse("kafka://h:port"), Err(UrlError::Host(_))));
        assert!(matches!(LiveUrl::parse("kafka://"), Err(UrlError::Host(_))));
        assert!(matches!(LiveUrl::parse("kafka://h?partitions=0"), Err(UrlError::Value { .. })));
        assert!(matches!(LiveUrl::parse("kafka://h?a=1&a=2"), Err(UrlError::Value { .. })));
    }
}
