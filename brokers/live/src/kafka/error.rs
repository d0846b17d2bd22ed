//! The protocol's error codes that are told apart, and names for all.

use brokerlab_model::Refusal;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::protocol::StrBytes;

use crate::open::Trouble;

pub(super) const NONE: i16 = 0;
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const UNKNOWN_TOPIC: i16 = 3;
pub(super) const MESSAGE_TOO_LARGE: i16 = 10;
pub(super) const RECORD_LIST_TOO_LARGE: i16 = 18;
pub(super) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
pub(super) const GROUP_AUTHORIZATION_FAILED: i16 = 30;
pub(super) const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
pub(super) const TOPIC_EXISTS: i16 = 36;
pub(super) const POLICY_VIOLATION: i16 = 44;
pub(super) const OUT_OF_ORDER_SEQUENCE: i16 = 45;
pub(super) const DUPLICATE_SEQUENCE: i16 = 46;
pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
pub(super) const UNKNOWN_PRODUCER_ID: i16 = 59;
pub(super) const NON_EMPTY_GROUP: i16 = 68;
pub(super) const GROUP_ID_NOT_FOUND: i16 = 69;
pub(super) const UNKNOWN_MEMBER_ID: i16 = 25;
pub(super) const FENCED_MEMBER_EPOCH: i16 = 110;
pub(super) const STALE_MEMBER_EPOCH: i16 = 113;

/// Whether the same again may succeed.
pub(super) fn is_retriable(code: i16) -> bool {
    code.err().is_some_and(|error| error.is_retriable())
}

/// The error's own name and number.
pub(super) fn name(code: i16) -> String {
    code.err().map_or_else(|| "no error".to_owned(), |error| format!("{error:?} ({code})"))
}

/// Why a topic was not made, and what that is to the host.
pub(super) fn not_made(code: i16, topic: &str, message: Option<&StrBytes>) -> (String, Refusal) {
    let message = message.map_or_else(String::new, |message| format!(": {}", message.as_str()));
    match code {
        TOPIC_AUTHORIZATION_FAILED | CLUSTER_AUTHORIZATION_FAILED => {
            (Trouble::Permission(format!("creating topic {topic}")).to_string(), Refusal::WrongRole)
        }
        POLICY_VIOLATION => (format!("the cluster's policy forbids topic {topic}{message}"), Refusal::WrongRole),
        other => (format!("topic {topic} can't be made: {}{message}", name(other)), Refusal::OutOfRange),
    }
}
