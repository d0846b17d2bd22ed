//! Faults as a profile declares them: when a server is killed or paused, which of its nodes, and for how long.
//!
//! Leaves out who acts (`host` does, on servers that were started for it) and what became of the run (`measurement`).

use std::fmt;

use brokerlab_model::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::units::{self, DurationText, SEPARATOR};

/// Something that is done to the servers while the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, from the start of the measured window.
    #[serde(deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub at: Span,
    /// What is done.
    pub action: FaultAction,
    /// To which node of the server; by default to all.
    #[serde(default, deserialize_with = "node")]
    #[schemars(schema_with = "node_schema")]
    pub node: FaultNode,
    /// After how long it is restarted or resumed. A pause needs it; without it what is killed stays down.
    #[serde(rename = "for", default, deserialize_with = "units::span_option")]
    #[schemars(with = "Option<DurationText>")]
    pub length: Option<Span>,
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultAction {
    /// It is ended at once, without a chance to write anything (SIGKILL).
    Kill,
    /// It stops, with its connections open (SIGSTOP), and goes on later.
    Pause,
}

impl FaultAction {
    /// The word in a profile.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
        }
    }
}

/// Which node of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultNode {
    /// Every one.
    #[default]
    All,
    /// One, by the number that it was started under.
    Number(u32),
    /// Whichever leads the run's first lane when the fault acts; what undoes it acts on the same node.
    Leader,
}

impl FaultNode {
    /// Whether both name a node that is the same, or may be: any node may lead.
    pub fn meets(self, other: Self) -> bool {
        let any = |node| matches!(node, Self::All | Self::Leader);
        self == other || any(self) || any(other)
    }
}

impl fmt::Display for FaultNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all nodes"),
            Self::Number(number) => write!(f, "node {number}"),
            Self::Leader => f.write_str("the leader"),
        }
    }
}

impl Fault {
    /// When it is undone, from the start of the measured window; none when it never is.
    pub fn ends(&self) -> Option<Span> {
        self.length.map(|length| self.at + length)
    }
}

const NODE: &str = "write the node's number, such as 1, \"leader\" or \"all\"";

fn node<'de, D: Deserializer<'de>>(d: D) -> Result<FaultNode, D::Error> {
    struct Node;
    impl Visitor<'_> for Node {
        type Value = FaultNode;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a node{SEPARATOR}{NODE}")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<FaultNode, E> {
            match text {
                "all" => Ok(FaultNode::All),
                "leader" => Ok(FaultNode::Leader),
                other => Err(E::custom(format!("`{other}` is no node{SEPARATOR}{NODE}"))),
            }
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<FaultNode, E> {
            let number = u32::try_from(number);
            number.map(FaultNode::Number).map_err(|_| E::custom(format!("no node has this number{SEPARATOR}{NODE}")))
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<FaultNode, E> {
            self.visit_i64(i64::try_from(number).unwrap_or(-1))
        }
    }
    d.deserialize_any(Node)
}

fn node_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "To which node of the server; by default to all.",
        "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            { "type": "string", "enum": ["all", "leader"] }
        ]
    })
}
