//! Logging in by SASL when a connection is made.
//!
//! Leaves out sending; what comes back is given in, what goes out is given back.

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::options::Sasl;
use super::wire;

/// Who logs in, and how. Its debug form tells no secret.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) how: Sasl,
    pub(super) user: String,
    pub(super) password: String,
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
    First,
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
        let malformed = |error: wire::Malformed| Refused(error.to_string());
        match self.step {
            Step::Mechanism => {
                let answer = wire::answer::<SaslHandshakeRequest>(frame).map_err(malformed)?;
                if answer.error_code != 0 {
                    let known: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
                    return Err(Refused(format!("the server knows {} only", known.join(", "))));
                }
                self.step = Step::First;
                Ok(Some(authenticate(client, plain(login))))
            }
            Step::First => {
                let answer = wire::answer::<SaslAuthenticateRequest>(frame).map_err(malformed)?;
                if answer.error_code != 0 {
                    let why =
                        answer.error_message.map_or_else(|| super::error::name(answer.error_code), |m| m.to_string());
                    return Err(Refused(why));
                }
                self.step = Step::Over;
                Ok(None)
            }
            Step::Over => Ok(None),
        }
    }
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
