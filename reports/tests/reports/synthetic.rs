//! Results made up from a seed: six rounds of six rows and a staircase each, shaped like a real comparison.
//!
//! Leaves out any measuring; times are drawn, so that the same file comes out on every machine.

use std::sync::LazyLock;

use brokerlab_model::{Availability, Contract, Delivery, Missing, Order, Settings, Span, Unsupported, WorkCounts};
use brokerlab_reports::result::{
    Command, FixedCase, HostFacts, LadderAnswer, LadderRow, Objectives, ProfileRecord, ResultFile, SCHEMA_VERSION,
};
use brokerlab_workloads::measurement::{
    Act, ActRecord, CheckRecord, Counts, DigestRecord, Distributions, FaultRecord, FitnessRecord, GroupRecord,
    HistogramRecord, IntervalRecord, Kind, LoopRecord, Measurement, OutageRecord, Point, ResourceRecord, WindowRecord,
    World,
};
use brokerlab_workloads::profile::{Count, FaultAction, FaultNode, Metric, Objective};
use brokerlab_workloads::record::Tally;

const MS: u64 = 1_000_000;
pub(crate) const RATE: f64 = 20_000.0;

/// A sequence of numbers that depends on its seed alone.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between 0 and 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time around `typical_ns` with a long tail: the inverse of `u` to the power of a half.
    fn time(&mut self, typical_ns: f64) -> f64 {
        typical_ns * (0.6 + 0.4 / (1.0 - self.unit()).max(1e-5).sqrt())
    }
}

/// How a row behaves.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) row: &'static str,
    pub(crate) backend: &'static str,
    /// Typical end-to-end time.
    pub(crate) typical_ns: f64,
    /// Load that it carries at most, messages per second.
    pub(crate) most_per_s: f64,
    pub(crate) bytes_each: u64,
    pub(crate) throttles: bool,
}

pub(crate) const ROWS: [Shape; 6] = [
    Shape { row: "log", backend: "log", typical_ns: 310e3, most_per_s: 330e3, bytes_each: 560, throttles: false },
    Shape { row: "queue", backend: "queue", typical_ns: 340e3, most_per_s: 190e3, bytes_each: 610, throttles: false },
    Shape { row: "shard", backend: "shard", typical_ns: 900e3, most_per_s: 39e3, bytes_each: 590, throttles: true },
    Shape { row: "direct", backend: "direct", typical_ns: 180e3, most_per_s: 290e3, bytes_each: 540, throttles: false },
    Shape { row: "null", backend: "null", typical_ns: 12e3, most_per_s: 900e3, bytes_each: 0, throttles: false },
    Shape {
        row: "log (again)",
        backend: "log",
        typical_ns: 310e3,
        most_per_s: 330e3,
        bytes_each: 560,
        throttles: false,
    },
];

fn distributions(draw: &mut Draw, samples: u64, typical_ns: f64, unfinished: u64) -> Distributions {
    let mut tallies = [const { None }; 4].map(|_: Option<()>| Tally::default());
    for _ in 0..samples {
        let service = draw.time(typical_ns);
        let blocked = if draw.unit() < 0.01 { draw.time(typical_ns * 0.5) } else { 0.0 };
        let late = draw.unit() * 20e3;
        for (tally, ns) in tallies.iter_mut().zip([service + blocked + late, service, blocked, late]) {
            tally.record(ns as i64);
        }
    }
    let [response, service, blocked, late] = tallies.map(|t| HistogramRecord::from_tally(&t));
    Distributions { response, service, blocked, late, unfinished }
}

fn intervals(draw: &mut Draw, shape: Shape, offered_per_s: f64, count: u64) -> Vec<IntervalRecord> {
    let length_ns = 100 * MS;
    let achieved = offered_per_s.min(shape.most_per_s);
    let mut backlog = 0.0;
    (0..count)
        .map(|n| {
            let due = (offered_per_s / 10.0) as u64;
            let acknowledged = ((achieved / 10.0) * (0.98 + 0.02 * draw.unit())) as u64;
            backlog += due as f64 - (achieved / 10.0).floor();
            let d = distributions(draw, 400.min(due), shape.typical_ns, 0);
            IntervalRecord {
                start_ns: n * length_ns,
                length_ns,
                due,
                acknowledged,
                delivered: acknowledged,
                delivered_by_group: vec![acknowledged],
                passed_by_group: Vec::new(),
                backlog: backlog as u64 + (draw.unit() * 20.0) as u64,
                publish_response: d.response.clone(),
                end_to_end_response: d.response,
            }
        })
        .collect()
}

fn used(shape: Shape, due: u64) -> ResourceRecord {
    ResourceRecord {
        cpu_user_ns: due * 1_800 + shape.bytes_each * due,
        cpu_system_ns: due * 700,
        peak_rss_bytes: 41 << 20,
        voluntary_context_switches: due / 9,
        involuntary_context_switches: 14,
        storage_write_bytes: due * shape.bytes_each,
    }
}

fn worked(shape: Shape, all: u64) -> WorkCounts {
    WorkCounts {
        bytes_written: all * shape.bytes_each,
        bytes_filled: 0,
        write_calls: all / 24,
        bytes_read: if shape.backend == "log" { all * 560 } else { 0 },
        read_calls: all / 60,
        fsyncs: 0,
        payload_copies: all * u64::from(shape.backend != "null"),
        round_trips: all / 12,
    }
}

fn fit(draw: &mut Draw) -> FitnessRecord {
    FitnessRecord {
        late_p999_ns: 180_000 + (draw.unit() * 300e3) as u64,
        steal_share: Some(0.001),
        cgroup_throttled_ns: Some(0),
        other_processes_cores: Some(0.01),
        harness_ns_per_message: 120.0 + 20.0 * draw.unit(),
        dirty_bytes_at_start: Some(1_200_000),
    }
}

fn settings(shape: Shape) -> Settings {
    let mut settings = Settings::default();
    settings.add("acks", "leader", "acknowledged by the one copy").add(
        "max_memory",
        "256 MiB",
        "bound of what is held",
    );
    if shape.throttles {
        settings.add("write_bytes_per_s", 1_000_000, "bytes that a shard takes");
        settings.add("write_records_per_s", 1_000, "records that a shard takes");
    }
    settings
}

const WINDOW: WindowRecord = WindowRecord {
    origin_utc_ns: 1_795_000_000_000_000_000,
    warmup_ns: 200 * MS,
    duration_ns: 600 * MS,
    drain_limit_ns: 250 * MS,
    drained_ns: 3 * MS,
};

fn loops() -> LoopRecord {
    let (waiting, transport) = ("park".to_owned(), "in-process".to_owned());
    LoopRecord { loops: 2, waiting, clients: 8, transport, nice: 0 }
}

/// One cell. `factor` is the load as a multiple of the profile's.
pub(crate) fn cell(shape: Shape, point: Point, factor: f64, seed: u64) -> Measurement {
    let draw = &mut Draw::new(seed);
    let offered_per_s = RATE * factor;
    let due = (offered_per_s * 0.6) as u64;
    let carried = (shape.most_per_s / offered_per_s).min(1.0);
    let acknowledged = (due as f64 * carried) as u64;
    let noise = 0.92 + 0.16 * draw.unit();
    let crowded = 1.0 + 3.0 * (offered_per_s / shape.most_per_s).min(1.0).powi(4);
    let typical_ns = shape.typical_ns * noise * crowded;
    let samples = acknowledged.min(12_000);
    let unfinished = if carried < 1.0 { samples / 20 } else { 0 };
    let all = (due as f64 * 4.0 / 3.0) as u64;
    let end_to_end = distributions(draw, samples, typical_ns, unfinished);
    Measurement {
        row: shape.row.to_owned(),
        backend: shape.backend.to_owned(),
        backend_url: shape.backend.to_owned(),
        world: World::Embedded,
        kind: Kind::Measured,
        point,
        contract: Contract::default(),
        settings: settings(shape),
        lanes: if shape.throttles { 39 } else { 4 },
        seed: 42,
        digest: DigestRecord { sha256: "5b1c".repeat(16), messages: 16_000, matches_published: true },
        window: WINDOW,
        loops: loops(),
        counts: Counts {
            due,
            due_bytes: due * 512,
            acknowledged,
            unacknowledged: due - acknowledged,
            throttled: if carried < 1.0 && shape.throttles { due / 10 } else { 0 },
            warmup_due: due / 3,
            published_in_all: all,
            delivered_in_all: all,
            settled_in_all: all,
            backlog_max: 40 + (draw.unit() * 90.0) as u64 + (due - acknowledged),
            backlog_end: due - acknowledged,
            ..Counts::default()
        },
        publish: distributions(draw, samples, typical_ns * 0.5, unfinished),
        end_to_end: end_to_end.clone(),
        settle: distributions(draw, samples, typical_ns * 0.3, 0),
        groups: vec![group(end_to_end, all)],
        intervals: intervals(draw, shape, offered_per_s, 8),
        resources: used(shape, due),
        work: worked(shape, all),
        tallies: Vec::new(),
        fitness: fit(draw),
        notes: Vec::new(),
        live: None,
        servers: Vec::new(),
        cut_short: None,
        pauses: Vec::new(),
        outages: Vec::new(),
        not_back: None,
    }
}

fn group(end_to_end: Distributions, all: u64) -> GroupRecord {
    GroupRecord {
        name: "fulfilment".to_owned(),
        members: 4,
        idle_members: 0,
        utilisation: 0.62,
        end_to_end,
        check: CheckRecord { acknowledged: all, delivered: all, ..CheckRecord::default() },
        analytics: None,
    }
}

fn refusal(backend: &str, contract: Contract) -> Option<Unsupported> {
    let mut missing = Vec::new();
    let mut add = |axis: &str, asked: String, reason: &str| {
        missing.push(Missing { axis: axis.to_owned(), asked, reason: reason.to_owned() });
    };
    if contract.delivery == Delivery::ExactlyOnce {
        add("delivery", contract.delivery.to_string(), "transactions are not built yet");
    }
    if contract.copies > 1 {
        add("copies", contract.copies.to_string(), "one process holds one copy");
    }
    if contract.order == Order::PerKey && backend == "queue" {
        add("order", contract.order.to_string(), "competing consumers overtake each other; use FIFO groups");
    }
    if contract.order == Order::Total && backend != "log" {
        add("order", contract.order.to_string(), "several lanes have no common order");
    }
    if contract.availability == Availability::Decoupled && backend == "direct" {
        add("availability", contract.availability.to_string(), "a request needs a receiver; put a queue between");
    }
    (!missing.is_empty()).then(|| Unsupported { backend: backend.to_owned(), missing })
}

fn ladder() -> Vec<LadderRow> {
    let answer = |backend: &str, contract| LadderAnswer {
        backend: backend.to_owned(),
        answer: refusal(backend, contract).map_or_else(|| Ok(Settings::default()), Err),
    };
    Contract::ladder()
        .into_iter()
        .map(|contract| LadderRow {
            contract,
            answers: ["log", "queue", "shard", "direct"].map(|b| answer(b, contract)).to_vec(),
        })
        .collect()
}

fn fixed_case(shape: Shape) -> FixedCase {
    FixedCase {
        backend: shape.backend.to_owned(),
        case: "order-processing, 10,000 messages, manual clock".to_owned(),
        digest_sha256: "77aa".repeat(16),
        messages: 10_000,
        counts: WorkCounts {
            bytes_written: 10_000 * shape.bytes_each,
            write_calls: 417,
            payload_copies: 10_000,
            round_trips: 834,
            ..WorkCounts::default()
        },
        allocations: Some(12_345),
    }
}

/// End-to-end p99 bounded, and no message lost.
pub(crate) fn p99_at_most(at_most_ns: u64) -> Objectives {
    Objectives(vec![
        Objective::Quantile { metric: Metric::EndToEnd, quantile: 0.99, at_most: Span(at_most_ns) },
        Objective::Count { count: Count::Lost, at_most: 0 },
    ])
}

/// A result without cells.
pub(crate) fn empty(command: Command) -> ResultFile {
    ResultFile {
        schema_version: SCHEMA_VERSION,
        tool_version: "0.1.0".to_owned(),
        git_revision: Some("0123456789ab".to_owned()),
        command,
        command_line: "brokerlab compare".to_owned(),
        started_utc_ns: 1_795_000_000_000_000_000,
        elapsed_ns: 52_300 * MS,
        profile: ProfileRecord {
            name: "order-processing".to_owned(),
            toml: "name = \"order-processing\"\nduration = \"600ms\"\n\n[arrivals]\nkind = \"poisson\"\nrate = \"20k/s\"\n\n[sizes]\nkind \
                   = \"fixed\"\nsize = \"512B\"\n"
                .to_owned(),
            rate_per_s: RATE,
            message_bytes_mean: 512.0,
            closed_loop: false,
            producers: 4,
            consumers: 4,
        },
        objectives: p99_at_most(50 * MS),
        contract: Contract::default(),
        seed: 42,
        host: HostFacts {
            cores: 2,
            memory_bytes: 25_000_000_000,
            kernel: "Linux 6.8".to_owned(),
            cpu_model: "Example CPU @ 2.50 GHz".to_owned(),
            file_system: "ext4".to_owned(),
            device: "vda".to_owned(),
            write_cache: "flushed to the hypervisor; power loss not proven".to_owned(),
        },
        waiting: "park".to_owned(),
        judgement: None,
        search: None,
        cells: Vec::new(),
        promise_ladder: ladder(),
        fixed_cases: ROWS[..4].iter().map(|shape| fixed_case(*shape)).collect(),
        refusals: Vec::new(),
        notes: Vec::new(),
        cut_short: None,
    }
}

/// Six rounds of six rows in changing order, then five steps of staircase for each backend.
pub(crate) fn comparison() -> ResultFile {
    static ONCE: LazyLock<ResultFile> = LazyLock::new(|| comparison_of(&ROWS, 6));
    ONCE.clone()
}

/// The same over other rows.
pub(crate) fn comparison_of(rows: &[Shape], rounds: u32) -> ResultFile {
    let mut file = empty(Command::Compare);
    for round in 0..rounds {
        for n in 0..rows.len() {
            let at = (n + round as usize * 2) % rows.len();
            let seed = u64::from(round) * 1_000 + at as u64;
            file.cells.push(cell(rows[at], Point::Visit { round }, 1.0, seed));
        }
    }
    for (at, shape) in rows.iter().enumerate().filter(|(_, shape)| !shape.row.contains("again")) {
        for (step, factor) in [1.0, 2.0, 4.0, 10.0, 16.0].into_iter().enumerate() {
            let seed = 100_000 + at as u64 * 100 + step as u64;
            file.cells.push(cell(*shape, Point::Stair { step: step as u32, factor }, factor, seed));
        }
    }
    file
}

/// A run of one backend.
pub(crate) fn run(shape: Shape, factor: f64) -> ResultFile {
    let mut file = empty(Command::Run);
    file.command_line = format!("brokerlab run --backend {}", shape.backend);
    file.cells.push(cell(shape, Point::Run, factor, 7));
    file
}

/// Makes the generator late in a cell: every message by so much.
/// A run whose broker was paused for 100 ms, 300 ms after the warm-up, and drained until 450 ms.
pub(crate) fn run_with_a_pause(shape: Shape) -> ResultFile {
    let mut file = run(shape, 1.0);
    let act = |act, ms: u64| ActRecord { act, node: FaultNode::All, planned_ns: ms * MS, at_ns: ms * MS, error: None };
    file.cells[0].outages.push(OutageRecord {
        fault: Some(FaultRecord {
            action: FaultAction::Pause,
            node: FaultNode::All,
            at_ns: 500 * MS,
            length_ns: Some(100 * MS),
        }),
        acts: vec![act(Act::Pause, 500), act(Act::Resume, 600)],
        begins_ns: 500 * MS,
        ends_ns: Some(600 * MS),
        resolution_ns: MS,
        last_acknowledged_ns: Some(500 * MS),
        first_acknowledged_ns: Some(601 * MS),
        first_delivered_ns: Some(601 * MS),
        recovered_ns: Some(650 * MS),
        consumers_recovered_ns: Some(651 * MS),
        backlog_max: 2_000,
        due: 3_000,
        acknowledged: 3_000,
        due_per_s: RATE,
        drain_per_s: Some(RATE * 3.0),
        lost: Some(0),
        reordered: Some(0),
        ..OutageRecord::default()
    });
    file
}

/// A run whose broker was killed half-way and did not come back.
pub(crate) fn run_with_a_kill(shape: Shape) -> ResultFile {
    let mut file = run_with_a_pause(shape);
    let cell = &mut file.cells[0];
    (cell.counts.acknowledged, cell.counts.not_sent, cell.counts.unknown) = (cell.counts.due - 3_000, 2_900, 100);
    cell.counts.unacknowledged = 0;
    cell.not_back = Some("no answer within 3 s".to_owned());
    let outage = &mut cell.outages[0];
    if let Some(fault) = &mut outage.fault {
        (fault.action, fault.length_ns) = (FaultAction::Kill, None);
    }
    outage.acts.truncate(1);
    outage.acts[0].act = Act::Kill;
    (outage.ends_ns, outage.recovered_ns, outage.first_acknowledged_ns, outage.drain_per_s) = (None, None, None, None);
    (outage.acknowledged, outage.unknown, outage.not_sent, outage.disconnects) = (0, 100, 2_900, 8);
    outage.first_error_ns = Some(500 * MS);
    file
}

pub(crate) fn make_late(cell: &mut Measurement, ns: u64) {
    let mut tally = Tally::default();
    tally.record_n(ns, cell.counts.due.max(1));
    cell.publish.late = HistogramRecord::from_tally(&tally);
    cell.fitness.late_p999_ns = ns;
}
