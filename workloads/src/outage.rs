//! Outages as plain data: what was done to a server, when clients noticed, when they were served again, and what it cost.
//!
//! All times are nanoseconds since the schedule's start, as those of the intervals are. Leaves out how they are found in a run's
//! flow (`record`) and what is concluded from them (`validity`, `reports`).

use serde::{Deserialize, Serialize};

use crate::profile::{FaultAction, FaultNode};

/// A consumer group's pause that the profile declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// The group's name.
    pub group: String,
    /// When it began.
    pub at_ns: u64,
    /// How long it lasted.
    pub length_ns: u64,
}

/// A fault as the profile declared it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// What was to be done.
    pub action: FaultAction,
    /// To which node.
    pub node: FaultNode,
    /// When.
    pub at_ns: u64,
    /// After how long it was to be undone; none when it was not.
    pub length_ns: Option<u64>,
}

/// Something done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
    /// Started again with the data that it had.
    Restart,
}

impl Act {
    /// The word where people read it, in the past.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Restart => "restarted",
        }
    }
}

/// One act, as it was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActRecord {
    /// What.
    pub act: Act,
    /// To which node.
    pub node: FaultNode,
    /// When it was to happen.
    pub planned_ns: u64,
    /// When it had happened: the signal was sent, the program started.
    pub at_ns: u64,
    /// Why it could not be done.
    #[serde(default)]
    pub error: Option<String>,
}

/// One outage: a declared fault and what followed, or a time at which clients lost their connections and nobody had declared it.
///
/// Times and counts are of `resolution_ns`. The counts hold all messages that were open when it began or came due until it was over:
/// `open_before + due = acknowledged + failed + unknown + unacknowledged + not_sent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutageRecord {
    /// The fault; none for an outage that nobody declared.
    pub fault: Option<FaultRecord>,
    /// What was done, in order.
    pub acts: Vec<ActRecord>,
    /// When it began: the first act, or the first connection lost.
    pub begins_ns: u64,
    /// When what was done was undone, or the last connection was back; none when that never happened.
    pub ends_ns: Option<u64>,
    /// How exactly the times below are known.
    pub resolution_ns: u64,
    /// The first publish that failed or stayed unknown, or the first connection lost.
    pub first_error_ns: Option<u64>,
    /// The last acknowledgement before the longest time without one; none when there was no acknowledgement before.
    pub last_acknowledged_ns: Option<u64>,
    /// The acknowledgement that ended that time; none when none came any more.
    pub first_acknowledged_ns: Option<u64>,
    /// The delivery that ended the longest time without one; none when none came any more.
    pub first_delivered_ns: Option<u64>,
    /// When what was due and not acknowledged was back to its level before; none when it never was.
    pub recovered_ns: Option<u64>,
    /// When what was acknowledged and not delivered was back to its level before; none when it never was.
    pub consumers_recovered_ns: Option<u64>,
    /// Largest number of messages due and not acknowledged in the second before it.
    pub backlog_before: u64,
    /// That number at its largest during the outage.
    pub backlog_max: u64,
    /// Messages due and not ended when it began.
    pub open_before: u64,
    /// Messages that came due from then until it was over.
    pub due: u64,
    /// Publishes acknowledged in that time.
    pub acknowledged: u64,
    /// Publishes that failed or were refused in it.
    pub failed: u64,
    /// Publishes asked and never answered, as the client said in it.
    pub unknown: u64,
    /// Sent, and still without an end when it was over.
    pub unacknowledged: u64,
    /// Due, and not sent when it was over.
    pub not_sent: u64,
    /// First deliveries in it, over all groups.
    pub delivered: u64,
    /// Deliveries in it of messages that a group had been given before, not marked as redelivered.
    pub duplicated: u64,
    /// Deliveries in it that were marked as redelivered.
    pub redelivered: u64,
    /// Messages lost, over all groups; known where the run has one outage only, since a loss shows no time.
    pub lost: Option<u64>,
    /// Messages reordered, over all groups; known where the run has one outage only.
    pub reordered: Option<u64>,
    /// Connections lost in it.
    pub disconnects: u64,
    /// Connections that came back in it.
    pub reconnects: u64,
    /// Messages that came due per second, from its beginning until it was over.
    pub due_per_s: f64,
    /// Acknowledgements per second from the first one after it until the backlog was back: what the broker does when it is behind. None
    /// where that took no time that could be measured.
    pub drain_per_s: Option<f64>,
}

impl OutageRecord {
    /// Until when the run was not itself, the recovery of producers and consumers included; none when what was due was never
    /// acknowledged again as before.
    pub fn over_ns(&self) -> Option<u64> {
        Some(self.recovered_ns?.max(self.ends_ns.unwrap_or(0)).max(self.consumers_recovered_ns.unwrap_or(0)))
    }

    /// How long nothing was acknowledged; none when nothing was any more.
    pub fn silent_ns(&self) -> Option<u64> {
        Some(self.first_acknowledged_ns?.saturating_sub(self.last_acknowledged_ns.unwrap_or(self.begins_ns)))
    }

    /// From the first acknowledgement until the backlog was back to its level before.
    pub fn drain_ns(&self) -> Option<u64> {
        Some(self.recovered_ns?.saturating_sub(self.first_acknowledged_ns?))
    }

    /// Arrivals as a share of what the broker does when it is behind: 0.25 means that a backlog of four seconds takes about one and a
    /// third to drain.
    pub fn load_while_draining(&self) -> Option<f64> {
        self.drain_per_s.filter(|drain| *drain > 0.0).map(|drain| self.due_per_s / drain)
    }

    /// Whether clients felt it: something went wrong, or a backlog built.
    pub fn was_felt(&self) -> bool {
        self.first_error_ns.is_some() || self.recovered_ns != Some(self.begins_ns)
    }
}
