//! Logging in by SASL when a connection is made.
//!
//! Leaves out sending; what comes back is given in, what goes out is given back.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::options::Sasl;
use super::scram::{Derived, Exchange, Hash};
use super::wire;

/// Who logs in, and how. Its debug form tells no secret.
pub(super) struct Login {
    how: Sasl,
    user: String,
    password: String,
    derived: Derived,
}

impl Login {
    pub(super) fn new(how: Sasl, user: String, password: String) -> Self {
        Self { how, user, password, derived: Derived::default() }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("how", &self.how).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why a login failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// One connection's login.
#[derive(Debug)]
pub(super) struct Dialog {
    step: Step,
}

#[derive(Debug)]
enum Step {
    Mechanism,
    /// The server's first message is awaited.
    Exchange(Exchange),
    /// The server's last message is awaited; with SCRAM it proves something.
    Last(Option<Exchange>),
    Over,
}

impl Dialog {
    /// Begins, with the first frame to send.
    pub(super) fn begin(login: &Login, client: &str) -> (Self, Bytes) {
        let request = SaslHandshakeRequest::default().with_mechanism(wire::text(login.how.name()));
        (Self { step: Step::Mechanism }, wire::frame(0, client, &request))
    }

    /// Whether the login is done.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Goes on with an answer; returns the next frame to send.
    pub(super) fn step(&mut self, login: &Login, client: &str, frame: &Bytes) -> Result<Option<Bytes>, Refused> {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Mechanism => {
                let answer = wire::answer::<SaslHandshakeRequest>(frame).map_err(|error| Refused(error.to_string()))?;
                if answer.error_code != 0 {
                    let known: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
                    return Err(Refused(if known.is_empty() {
                        format!("{}; is this listener one with SASL?", super::error::name(answer.error_code))
                    } else {
                        format!("the server knows {} only", known.join(", "))
                    }));
                }
                let (step, first) = first(login);
                self.step = step;
                Ok(Some(authenticate(client, first)))
            }
            Step::Exchange(mut exchange) => {
                let text = said(frame)?;
                let answer = exchange.answer(&login.password, &login.derived, &text).map_err(Refused)?;
                self.step = Step::Last(Some(exchange));
                Ok(Some(authenticate(client, answer.into_bytes())))
            }
            Step::Last(exchange) => {
                let text = said(frame)?;
                exchange.map_or(Ok(()), |exchange| exchange.check(&text)).map_err(Refused)?;
                Ok(None)
            }
            Step::Over => Ok(None),
        }
    }
}

/// The client's first words.
fn first(login: &Login) -> (Step, Vec<u8>) {
    let hash = match login.how {
        Sasl::Plain => return (Step::Last(None), plain(login)),
        Sasl::ScramSha256 => Hash::Sha256,
        Sasl::ScramSha512 => Hash::Sha512,
    };
    // Seeded from the operating system's randomness; a nonce has to be new, not secret.
    let nonce = format!("{:016x}{:016x}", RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8));
    let (exchange, first) = Exchange::begin(hash, &login.user, &nonce);
    (Step::Exchange(exchange), first.into_bytes())
}

/// What the server says, or why it refuses.
fn said(frame: &Bytes) -> Result<String, Refused> {
    let answer = wire::answer::<SaslAuthenticateRequest>(frame).map_err(|error| Refused(error.to_string()))?;
    if answer.error_code != 0 {
        let why = answer.error_message.map_or_else(|| super::error::name(answer.error_code), |why| why.to_string());
        return Err(Refused(why));
    }
    Ok(String::from_utf8_lossy(&answer.auth_bytes).into_owned())
}

fn authenticate(client: &str, bytes: Vec<u8>) -> Bytes {
    wire::frame(0, client, &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(bytes)))
}

fn plain(login: &Login) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(login.user.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(login.password.as_bytes());
    bytes
}
