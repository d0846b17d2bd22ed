//! Every built-in profile through each model by itself, in virtual time, and through the embedded backend on real files: who gets which
//! message from which lane, in which order, is the same, and so is every count.
//!
//! Both are driven by the host's own loop on a clock that only it moves. Leaves out how long anything takes on a machine.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use brokerlab_embedded::{BackendUrl, Place, bare, honour, open};
use brokerlab_host::{ManualClock, RunSpec, run};
use brokerlab_model::{
    Accepted, Batch, Broker, Capabilities, Client, ClientSpec, Completions, ConnectError, Contract, LaneId, Settings,
    Status, Time, Unsupported, WaitOn, WorkCounts, Worker,
};
use brokerlab_workloads::measurement::{CheckRecord, Counts};
use brokerlab_workloads::profile::builtin;
use brokerlab_workloads::{Profile, Stamp, Workload};

use crate::assert_accounted;

const MODELS: [&str; 4] = ["log", "queue", "shard", "direct"];
/// What is left of each profile: long enough that every group's pauses, bursts and deliveries come to pass in part.
const SHORTENED: [(&str, &str); 2] = [("duration", "200ms"), ("warmup", "50ms")];

/// What a delivery was: producer, sequence, position, deliveries before.
type Delivered = (u32, u64, u64, u16);

/// What clients saw, by the client's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Each member's deliveries from each lane, in order.
    delivered: BTreeMap<(u32, LaneId), Vec<Delivered>>,
    /// Each client's operations that were done, and those that were not.
    ended: BTreeMap<u32, (u64, u64)>,
}

/// A broker whose clients note what they see.
#[derive(Debug)]
struct Tapped<'a> {
    inner: &'a mut dyn Broker,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct TappedClient {
    inner: Box<dyn Client>,
    number: u32,
    seen: Arc<Mutex<Seen>>,
}

impl Broker for Tapped<'_> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        self.inner.honour(contract)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let inner = self.inner.connect(now, client)?;
        Ok(Box::new(TappedClient { inner, number: client.number, seen: Arc::clone(&self.seen) }))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        self.inner.workers()
    }

    fn work(&self) -> WorkCounts {
        self.inner.work()
    }
}

impl Client for TappedClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        self.inner.submit(now, batch)
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        let mut own = Completions::default();
        self.inner.poll(now, &mut own);
        if !own.is_empty() {
            let mut seen = self.seen.lock().unwrap();
            for delivery in &own.deliveries {
                let stamp = Stamp::read(delivery.payload).expect("every message has a stamp");
                let lane = seen.delivered.entry((self.number, delivery.receipt.lane)).or_default();
                lane.push((stamp.producer, stamp.sequence, delivery.receipt.position, delivery.redeliveries));
            }
            let ended = seen.ended.entry(self.number).or_default();
            for outcome in &own.outcomes {
                match outcome.status {
                    Status::Done => ended.0 += 1,
                    Status::Refused(_) | Status::Throttled | Status::Failed(_) | Status::Unknown => ended.1 += 1,
                }
            }
        }
        completions.append(&mut own);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        self.inner.wait_on()
    }
}

/// What a run saw and counted.
#[derive(Debug, PartialEq)]
struct Found {
    seen: Seen,
    counts: Counts,
    checks: Vec<CheckRecord>,
}

fn found(broker: &mut dyn Broker, profile: &Profile, url: &str) -> Found {
    let seen = Arc::default();
    let mut tapped = Tapped { inner: broker, seen: Arc::clone(&seen) };
    // Enough for a shard's thousand records a second, with room for a burst.
    let lanes = profile.lanes.unwrap_or(8).max((profile.mean_rate() / 700.0).ceil() as u32);
    let spec = RunSpec { threads: 1, lanes, ..RunSpec::new(Workload::new(profile, profile.seed, 0), url) };
    let measurement = run(&mut tapped, &spec, &ManualClock::new(), &AtomicBool::new(false), &mut |_| {})
        .unwrap_or_else(|error| panic!("{} on {url}: {error}", profile.name));
    assert_accounted(&measurement);
    assert!(measurement.digest.matches_published, "{} on {url}", profile.name);
    let seen = seen.lock().unwrap().clone();
    let checks = measurement.groups.into_iter().map(|group| group.check).collect();
    Found { seen, counts: measurement.counts, checks }
}

/// Runs a profile through a model both ways and returns what was acknowledged and delivered; nothing where it can't keep the contract.
fn agree(profile: &Profile, url: &str) -> Option<(u64, u64)> {
    let parsed = BackendUrl::parse(url).unwrap();
    let Ok(model) = bare(&parsed, &profile.contract) else {
        assert!(honour(&parsed, &profile.contract).is_err(), "{} on {url}", profile.name);
        return None;
    };
    let virtual_run = found(&mut model.expect("each has a model"), profile, url);
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(&parsed, &profile.contract, &Place { data: Some(&folder.path().join("data")) }).unwrap();
    let embedded_run = found(&mut *engine, profile, url);
    let what = format!("{} on {url}", profile.name);
    assert_eq!(virtual_run.counts, embedded_run.counts, "{what}");
    assert_eq!(virtual_run.seen.ended, embedded_run.seen.ended, "{what}");
    let members = |found: &Found| found.seen.delivered.keys().copied().collect::<Vec<_>>();
    assert_eq!(members(&virtual_run), members(&embedded_run), "{what}");
    for (key, virtual_order) in &virtual_run.seen.delivered {
        let order = &embedded_run.seen.delivered[key];
        let differs = virtual_order.iter().zip(order).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{what}: {key:?}: {:?}", differs.map(|at| (virtual_order[at], order[at])));
        assert_eq!(virtual_order.len(), order.len(), "{what}: {key:?}");
    }
    assert_eq!(virtual_run, embedded_run, "{what}");
    Some((virtual_run.counts.acknowledged, virtual_run.counts.delivered_in_all))
}

/// Runs a built-in profile, shortened, through each model both ways; `kept_by` are those that keep its contract.
fn agree_on(name: &str, more: &[(&str, &str)], kept_by: &[&str]) {
    let profile = Profile::load_with(name, &[&SHORTENED, more].concat()).unwrap_or_else(|error| panic!("{error}"));
    let mut ran = Vec::new();
    for url in MODELS {
        if let Some((acknowledged, delivered)) = agree(&profile, url) {
            assert!(acknowledged > 50 && delivered >= acknowledged, "{name} on {url}: {acknowledged} {delivered}");
            ran.push(url);
        }
    }
    assert_eq!(ran, kept_by, "{name}");
}

/// The profile's pause, moved into what is left of its window.
const PAUSE: [(&str, &str); 2] = [("pauses.0.at", "50ms"), ("pauses.0.for", "100ms")];
const DECOUPLED: [&str; 3] = ["log", "queue", "shard"];

/// One test for each profile, so that none can be left out unseen.
macro_rules! profiles {
    ($($test:ident: $name:literal, $more:expr, $kept_by:expr;)+) => {
        $(
            #[test]
            fn $test() {
                agree_on($name, &$more, &$kept_by);
            }
        )+

        #[test]
        fn every_built_in_profile_has_its_test() {
            let named: Vec<&str> = builtin().iter().map(|(name, _)| *name).collect();
            assert_eq!(named, [$($name),+]);
        }
    };
}

profiles! {
    order_processing: "order-processing", [], MODELS;
    // A thousand sensors share eight connections, as a thousand would be polled at each of nine thousand instants.
    iot_telemetry: "iot-telemetry", [("connections", "8")], DECOUPLED;
    fraud_detection: "fraud-detection", [], DECOUPLED;
    pub_sub_fanout: "pub-sub-fanout", PAUSE, DECOUPLED;
    flight_replay: "flight-replay", [], MODELS;
    web_clickstream: "web-clickstream", [], DECOUPLED;
    rule_alerting: "rule-alerting", [("arrivals.at", "100ms"), ("arrivals.for", "50ms")], MODELS;
    event_sourcing_ledger: "event-sourcing-ledger", PAUSE, DECOUPLED;
}
