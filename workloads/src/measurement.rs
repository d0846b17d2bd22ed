//! One measured cell as plain data: what a host or a simulator hands to the report, with units in every name.
//!
//! Leaves out how it is measured (`record`, `check`) and what is concluded from it (`reports`).

use brokerlab_model::{Contract, Missing, Settings, Tally, WorkCounts};
use serde::{Deserialize, Serialize};

pub use crate::analytics::AnalyticsRecord;
pub use crate::outage::{Act, ActRecord, FaultRecord, OutageRecord, PauseRecord};

/// What ends the label of a row that repeats another row as a control.
pub const AGAIN_MARK: &str = " (again)";

/// Which world a cell comes from. They are never mixed in one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// An engine in this process.
    Embedded,
    /// A real broker over its protocol.
    Live,
    /// A cluster on a virtual clock.
    Simulated,
}

/// How the reason begins for which a run was ended early by an objective that it watches.
pub const ABORTED: &str = "abort_on";

/// Whether figures were taken with a clock or computed on a virtual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Taken with a clock.
    Measured,
    /// Computed on a virtual clock.
    Simulated,
}

/// What part of a command a cell belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Point {
    /// A visit of a comparison, at the profile's rate.
    Visit {
        /// Its round, from 0.
        round: u32,
    },
    /// A step of a rising staircase of load.
    Stair {
        /// Its step, from 0.
        step: u32,
        /// The load as a multiple of the profile's rate.
        factor: f64,
    },
    /// A run by itself.
    Run,
    /// One try of one rate in a search for the highest that meets the objectives.
    Probe {
        /// The rate tried, messages per second of all producers together.
        rate_per_s: f64,
        /// The same as a multiple of the profile's rate.
        factor: f64,
        /// Which try of this rate, from 0.
        attempt: u32,
    },
    /// A long run at a share of the rate that a search found.
    Soak {
        /// Its rate, messages per second of all producers together.
        rate_per_s: f64,
        /// The same as a multiple of the profile's rate.
        factor: f64,
    },
    /// A visit of a sweep: the profile with some fields set.
    Sweep {
        /// Its point's place in the grid or list, from 0.
        point: u32,
        /// Its round, from 0.
        round: u32,
        /// What was set for this point, in the order in which it was laid over the profile.
        settings: Vec<Varied>,
    },
}

/// One field of the profile as a point of a sweep sets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Varied {
    /// The field's path, as `--set` takes it: `groups.*.members`.
    pub path: String,
    /// Its value, as `--set` takes it: `8`.
    pub value: String,
}

/// One cell: backend × point × replication.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The row's label: the backend's plain name, with a mark for the second A/A row (`log (again)`).
    pub row: String,
    /// The backend's plain name: `log`.
    pub backend: String,
    /// As it was asked for: `log?partitions=8`.
    pub backend_url: String,
    /// Which world.
    pub world: World,
    /// Measured or simulated.
    pub kind: Kind,
    /// Which part of the comparison.
    pub point: Point,
    /// The contract asked and kept.
    pub contract: Contract,
    /// The settings by which it was kept, bounds included.
    pub settings: Settings,
    /// Lanes per channel.
    pub lanes: u32,
    /// The profile's seed.
    pub seed: u64,
    /// Which messages were published.
    pub digest: DigestRecord,
    /// The window and the limits around it.
    pub window: WindowRecord,
    /// How the loops waited and how many there were.
    pub loops: LoopRecord,
    /// What became of the messages that were due in the window.
    pub counts: Counts,
    /// Publish: until the contract's durability is acknowledged.
    pub publish: Distributions,
    /// End-to-end: until a consumer holds the message for the first time, over all groups.
    pub end_to_end: Distributions,
    /// Settle: intended when the consumer's work ends, actual when it is submitted, completed when it is confirmed.
    pub settle: Distributions,
    /// Each consumer group.
    pub groups: Vec<GroupRecord>,
    /// The run over time, warm-up included.
    pub intervals: Vec<IntervalRecord>,
    /// What the process used.
    pub resources: ResourceRecord,
    /// What the engine did, in exact counts.
    pub work: WorkCounts,
    /// What the backend counted itself over the whole run, warm-up and drain included, in its own words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tallies: Vec<Tally>,
    /// How fit machine and harness were during the window.
    pub fitness: FitnessRecord,
    /// What happened uninvited, and findings that are no failure: idle members, throttling, pauses.
    pub notes: Vec<String>,
    /// Whether the run was ended before its time (Ctrl-C, [`abort_on`](ABORTED), a backend that stopped), and by what.
    pub cut_short: Option<String>,
    /// The consumers' pauses that the profile declared.
    #[serde(default)]
    pub pauses: Vec<PauseRecord>,
    /// What became of the declared faults, and of every other time at which clients lost their connections; in order.
    #[serde(default)]
    pub outages: Vec<OutageRecord>,
    /// Why the broker could not be asked anything when the run was over; none when it answered.
    #[serde(default)]
    pub not_back: Option<String>,
    /// What a real broker is, and what the contract became there; none for a backend in this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveRecord>,
    /// Servers under test that run on this machine, those of other rows among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerRecord>,
}

/// What was asked of a cell and what it did, per second of its window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Messages due.
    pub offered_per_s: f64,
    /// Publishes acknowledged.
    pub achieved_per_s: f64,
}

impl Measurement {
    /// What was asked and achieved; none when it ended before its window began.
    ///
    /// What was acknowledged only while draining is not achieved; nor is more than came due in the window: what is beyond that
    /// was due in the warm-up and only caught up with.
    pub fn rates(&self) -> Option<Rates> {
        let window = &self.window;
        if window.duration_ns == 0 {
            return None;
        }
        let (start, end) = (window.warmup_ns, window.warmup_ns.saturating_add(window.duration_ns));
        let inside = || self.intervals.iter().filter(|i| i.start_ns >= start && i.start_ns < end);
        let acknowledged = match inside().next() {
            Some(_) => inside().fold(0, |sum: u64, interval| sum.saturating_add(interval.acknowledged)),
            None => self.counts.acknowledged,
        };
        let per_s = |count: u64| count as f64 / (window.duration_ns as f64 / 1e9);
        Some(Rates { offered_per_s: per_s(self.counts.due), achieved_per_s: per_s(acknowledged.min(self.counts.due)) })
    }
}

impl CheckRecord {
    /// Acknowledged, not delivered, and given up by the backend as it was set to.
    pub fn given_up(&self) -> u64 {
        self.expired.saturating_add(self.overflowed)
    }
}

/// A real broker as it was met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// Product and version.
    pub server: String,
    /// The promise that its settings keep: the contract asked, or more on some axis.
    pub kept: Contract,
    /// Of the contract that the user asked for, what can't be kept there. Anything here makes the row not comparable.
    pub missing: Vec<Missing>,
    /// The client's and the server's settings in force, read back where the server tells.
    pub in_force: Settings,
}

/// What one server process used during the window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// The backend's plain name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it is the one that this row talks to; another row's server is idle.
    pub own: bool,
    /// CPU in user mode and in the kernel.
    pub cpu_ns: u64,
    /// Largest resident set.
    pub peak_rss_bytes: u64,
    /// Bytes that the kernel counted as written to storage by it.
    pub storage_write_bytes: u64,
}

/// Which messages were published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestRecord {
    /// SHA-256 in hex over the first `messages` scheduled messages.
    pub sha256: String,
    /// How many messages it covers.
    pub messages: u64,
    /// Whether the running fold over what was really handed to the backend equals the fold of the digested messages.
    pub matches_published: bool,
}

/// The window and the limits around it, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// UTC of the schedule's beginning, nanoseconds since 1970: the times of intervals, pauses and outages count from there.
    pub origin_utc_ns: u64,
    /// Length of the warm-up that precedes the window.
    pub warmup_ns: u64,
    /// Length of the window.
    pub duration_ns: u64,
    /// How long unfinished messages are followed after the window.
    pub drain_limit_ns: u64,
    /// How long they were.
    pub drained_ns: u64,
}

/// How the loops waited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopRecord {
    /// How many loops.
    pub loops: u32,
    /// `spin`, `yield` or `park`.
    pub waiting: String,
    /// How many clients they drove.
    pub clients: u32,
    /// `in-process`, `loopback` or `network`.
    pub transport: String,
    /// The scheduling priority of the loops as the system counts it: 0 is everybody's, below it is preferred.
    #[serde(default)]
    pub nice: i32,
}

/// What became of the messages that were due in the window. Every due message is in exactly one of `acknowledged`, `refused`,
/// `failed`, `unknown`, `unacknowledged` and `not_sent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Due in the window.
    pub due: u64,
    /// Their bytes, stamps included.
    pub due_bytes: u64,
    /// Acknowledged by the drain limit.
    pub acknowledged: u64,
    /// Refused by the backend.
    pub refused: u64,
    /// Tried and failed, retries included.
    pub failed: u64,
    /// Asked and never answered, the client said so.
    pub unknown: u64,
    /// Sent, and not acknowledged by the drain limit.
    pub unacknowledged: u64,
    /// Due, and not sent by the drain limit.
    pub not_sent: u64,
    /// Publishes that were throttled and offered again; a message may count often.
    pub throttled: u64,
    /// Due in the warm-up.
    pub warmup_due: u64,
    /// Messages handed to the backend over the whole run, warm-up included.
    pub published_in_all: u64,
    /// First deliveries over the whole run, all groups.
    pub delivered_in_all: u64,
    /// Settlements confirmed over the whole run, all groups.
    pub settled_in_all: u64,
    /// Largest number of messages due and not yet acknowledged at any look.
    pub backlog_max: u64,
    /// That number at the end of the schedule.
    pub backlog_end: u64,
}

/// The distributions of one operation over the window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Distributions {
    /// Completed − intended start.
    pub response: HistogramRecord,
    /// Completed − actual start.
    pub service: HistogramRecord,
    /// The part of actual − intended that the backend caused.
    pub blocked: HistogramRecord,
    /// The part of actual − intended that the generator caused.
    pub late: HistogramRecord,
    /// Operations due in the window that never completed within the drain limit: above every sample.
    pub unfinished: u64,
}

/// A histogram without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramRecord {
    /// HdrHistogram V2, deflated, base64; nanoseconds, 3 significant digits. Empty text for an empty histogram.
    pub hdr_v2_deflate_base64: String,
    /// Samples in it.
    pub count: u64,
    /// Samples below zero, which the histogram can't hold. Counted, never dropped.
    pub negative: u64,
    /// The lowest of them in nanoseconds.
    pub lowest_negative_ns: i64,
}

/// One consumer group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Its name in the profile.
    pub name: String,
    /// How many members.
    pub members: u32,
    /// How many of them got nothing.
    pub idle_members: u32,
    /// Mean rate × mean work ÷ members.
    pub utilisation: f64,
    /// End-to-end of this group alone.
    pub end_to_end: Distributions,
    /// What the checker found.
    pub check: CheckRecord,
    /// What its windows found; none where the profile asks for no analytics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analytics: Option<AnalyticsRecord>,
}

/// What the checker found for one group, over the whole run. Every acknowledged message is in exactly one of `delivered`,
/// `undelivered`, `expired`, `overflowed`, `lost` and `not_checked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// Acknowledged messages that the group should see.
    pub acknowledged: u64,
    /// Acknowledged and delivered at least once.
    pub delivered: u64,
    /// Delivered though never acknowledged (failed or unknown outcome, or still in flight at the end).
    pub delivered_unacknowledged: u64,
    /// Acknowledged, not delivered, and not among what the backend still holds.
    pub lost: u64,
    /// Acknowledged, not delivered, and still held by the backend: no broken contract.
    pub undelivered: u64,
    /// Acknowledged, not delivered, and given up by the backend because their time to live was over: no broken contract, it was
    /// set.
    #[serde(default)]
    pub expired: u64,
    /// Acknowledged, not delivered, and given up by the backend because a queue was full: no broken contract, it was set.
    #[serde(default)]
    pub overflowed: u64,
    /// What the backend counts as dropped without a dead letter, delivered before or not.
    #[serde(default)]
    pub dropped: u64,
    /// What the backend counts as dead letters, delivered before or not.
    #[serde(default)]
    pub dead_lettered: u64,
    /// Deliveries of a message that the group had already been given, and that were not marked as redelivered.
    pub duplicated: u64,
    /// Deliveries marked as redelivered.
    pub redelivered: u64,
    /// First deliveries that came after a later message of the same producer and key.
    pub reordered: u64,
    /// Deliveries before the message's actual start.
    pub early: u64,
    /// Deliveries whose bytes do not match the stamp.
    pub corrupted: u64,
    /// Deliveries of messages that this run never published, or that the group's bindings don't let through.
    pub foreign: u64,
    /// Acknowledged messages beyond the checker's bounds, or corrupted beyond recognition.
    pub not_checked: u64,
    /// First deliveries whose order could not be checked: of keys beyond the checker's bounds, or in another order than another
    /// group's while messages are missing.
    #[serde(default)]
    pub order_not_checked: u64,
    /// The contract's clauses that were broken, in words, with one example each; empty when it was kept.
    pub broken: Vec<String>,
}

/// One interval of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IntervalRecord {
    /// Its start, nanoseconds since the schedule's start (the warm-up's beginning).
    pub start_ns: u64,
    /// Its length.
    pub length_ns: u64,
    /// Messages due in it.
    pub due: u64,
    /// Publishes acknowledged in it.
    pub acknowledged: u64,
    /// First deliveries in it.
    pub delivered: u64,
    /// The same of each group; empty in results of versions that did not keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivered_by_group: Vec<u64>,
    /// Of each group, what was acknowledged in it and is not for the group by its bindings; empty where the profile has none.
    /// Results of versions without it count these in `delivered_by_group`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_by_group: Vec<u64>,
    /// Due by its end, and by then neither acknowledged nor ended otherwise (refused, failed, unknown).
    pub backlog: u64,
    /// Publish response of messages due in it.
    pub publish_response: HistogramRecord,
    /// End-to-end response of messages due in it.
    pub end_to_end_response: HistogramRecord,
}

/// What the process used over the window and drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceRecord {
    /// CPU in user mode.
    pub cpu_user_ns: u64,
    /// CPU in the kernel.
    pub cpu_system_ns: u64,
    /// Largest resident set.
    pub peak_rss_bytes: u64,
    /// Times that a thread gave up its core by itself.
    pub voluntary_context_switches: u64,
    /// Times that a core was taken from a thread.
    pub involuntary_context_switches: u64,
    /// Bytes that the kernel counted as written to storage by this process.
    pub storage_write_bytes: u64,
}

/// How fit machine and harness were during the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitnessRecord {
    /// Generator lateness at the 99.9 % quantile.
    pub late_p999_ns: u64,
    /// Share of the window's core time that the hypervisor took; none where the system does not tell.
    pub steal_share: Option<f64>,
    /// Time that a cgroup limit held this process back.
    pub cgroup_throttled_ns: Option<u64>,
    /// CPU of other processes in cores (0.05 is 5 % of a core); none where the system does not tell.
    pub other_processes_cores: Option<f64>,
    /// Cost of generator, recorder and checker: host CPU per message in nanoseconds, backend excluded.
    pub harness_ns_per_message: f64,
    /// Write-back of earlier runs still outstanding when the run started.
    pub dirty_bytes_at_start: Option<u64>,
}
