//! The rows of a result: the cells of one backend, judged one by one and merged exactly.
//!
//! Leaves out how rows are held against each other (`compare`, `verdict`).

use brokerlab_model::WorkCounts;
use brokerlab_workloads::measurement::{
    AGAIN_MARK, CheckRecord, Counts, Distributions, Measurement, Point, ResourceRecord, World,
};
use brokerlab_workloads::profile::{Count, Metric, Objective};
use brokerlab_workloads::record::{DecodeError, Quantile};
use brokerlab_workloads::validity::{Evidence, Saturation, Validity, ValidityCheck, judge};

use crate::compare::{Figure, median};
use crate::figures;
use crate::limited::by_setting;
use crate::result::{Objectives, ResultFile};
use crate::sample::{Followed, Operation, Sample, Shown};

/// The plain name of the harness's own ceiling.
pub const CEILING: &str = "null";

/// What a row is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A candidate.
    Candidate,
    /// The same backend once more: what no difference looks like.
    Again,
    /// The harness's own ceiling.
    Ceiling,
}

/// One measured visit or run, judged.
#[derive(Clone, Debug)]
pub struct Visit<'a> {
    /// As it was measured.
    pub cell: &'a Measurement,
    /// Its round; a run is round 0.
    pub round: u32,
    /// Its position among all cells.
    pub position: usize,
    /// Whether it can be believed.
    pub validity: Validity,
    /// Whether this visit, taken alone, misses an objective.
    pub misses: bool,
    /// End-to-end response at the 99 % quantile.
    pub p99: Quantile,
    /// Publish response at the 99 % quantile.
    pub publish_p99: Quantile,
    /// Settle response at the 99 % quantile.
    pub settle_p99: Quantile,
    /// Messages due per second of the window.
    pub offered_per_s: f64,
    /// Publishes acknowledged per second of the window.
    pub achieved_per_s: f64,
}

/// One step of a staircase, judged.
#[derive(Clone, Debug)]
pub struct Stair<'a> {
    /// As it was measured.
    pub cell: &'a Measurement,
    /// Load as a multiple of the profile's rate.
    pub factor: f64,
    /// Messages due per second.
    pub offered_per_s: f64,
    /// Publishes acknowledged per second of the window.
    pub achieved_per_s: f64,
    /// End-to-end response at the 99 % quantile.
    pub p99: Shown,
    /// Whether it can be believed.
    pub validity: Validity,
    /// What misses the objectives.
    pub missed: Vec<String>,
    /// Whether the row carried this load: not saturated, contract kept, objectives met.
    pub sustained: bool,
}

impl<'a> Stair<'a> {
    /// Judges a cell by itself. An error means that a stored histogram can't be read.
    pub fn of(cell: &'a Measurement, factor: f64, objectives: &Objectives) -> Result<Self, DecodeError> {
        let (offered_per_s, achieved_per_s) = rates(cell);
        let validity = judge(cell)?;
        let alone = Alone::of(cell)?;
        let missed = alone.missed(objectives);
        let sustained = validity.saturated.is_none()
            && missed.is_empty()
            && alone.check.broken.is_empty()
            && cell.cut_short.is_none();
        let p99 = alone.end_to_end.shown(0.99);
        Ok(Self { cell, factor, offered_per_s, achieved_per_s, p99, validity, missed, sustained })
    }

    /// Its end-to-end response p99 in words.
    pub fn p99_text(&self) -> String {
        self.p99.text(Followed::of(self.cell))
    }

    /// The contract's clauses that it broke, in words.
    pub fn broken(&self) -> Vec<&'a str> {
        self.cell.groups.iter().flat_map(|group| group.check.broken.iter().map(String::as_str)).collect()
    }

    /// Why it was not carried, in words; none when it was.
    pub fn why_not(&self) -> Option<String> {
        let broken = self.broken();
        if self.sustained {
            None
        } else if !broken.is_empty() {
            Some(format!("contract broken: {}", figures::and_list(&broken)))
        } else if let Some(saturated) = &self.validity.saturated {
            Some(format!("saturated: {}", saturated.reason))
        } else if !self.missed.is_empty() {
            Some(figures::and_list(&self.missed))
        } else {
            Some(self.cell.cut_short.clone().unwrap_or_else(|| "not carried".to_owned()))
        }
    }

    /// Names of the checks that it misses. A saturated cell shows no quantile, so what only spoils quantiles is not asked of it.
    pub fn missed_checks(&self) -> Vec<&str> {
        let saturated = self.validity.saturated.is_some();
        let counts = |check: &&ValidityCheck| !(check.ok || saturated && spoils_quantiles(&check.name));
        self.validity.checks.iter().filter(counts).map(|check| check.name.as_str()).collect()
    }

    /// Where it stands, in words: `at 2× of the load`.
    fn place(&self) -> String {
        match &self.cell.point {
            Point::Sweep { settings, .. } => {
                let texts: Vec<String> = settings.iter().map(|s| format!("{} = {}", s.path, s.value)).collect();
                format!("with {}", figures::and_list(&texts))
            }
            Point::Probe { rate_per_s, .. } | Point::Soak { rate_per_s, .. } => {
                format!("at {}", figures::rate(*rate_per_s))
            }
            Point::Stair { .. } | Point::Visit { .. } | Point::Run => {
                format!("at {} of the load", figures::factor(self.factor))
            }
        }
    }
}

/// One moment of the visits of a row, merged.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Middle of the interval, nanoseconds since the end of the warm-up; below zero within it.
    pub at_ns: i64,
    /// Acknowledged per second, mean over visits.
    pub acknowledged_per_s: f64,
    /// First deliveries per second, mean over visits.
    pub delivered_per_s: f64,
    /// Largest backlog of any visit.
    pub backlog: u64,
    /// End-to-end response of the messages due in it, all visits merged.
    pub response: Sample,
}

/// All cells of one backend as it was asked for.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// `log`, `log (again)`; with the file's letter when several are shown.
    pub label: String,
    /// The backend's plain name.
    pub backend: &'a str,
    /// Which world.
    pub world: World,
    /// What it is in the comparison.
    pub role: Role,
    /// Visits or the run.
    pub visits: Vec<Visit<'a>>,
    /// Its staircase, lowest load first.
    pub stairs: Vec<Stair<'a>>,
    /// Probes, soaks and cells of a sweep in the order in which they were made: each judged by itself, none merged.
    pub apart: Vec<Stair<'a>>,
    /// What its checks look at, over all visits.
    pub evidence: Evidence,
    checks: Vec<ValidityCheck>,
    /// Publish, all visits merged.
    pub publish: Operation,
    /// End-to-end, all visits merged.
    pub end_to_end: Operation,
    /// Settle, all visits merged.
    pub settle: Operation,
    /// Over all visits.
    pub counts: Counts,
    /// Over all visits and groups.
    pub check: CheckRecord,
    /// Over all visits.
    pub work: WorkCounts,
    /// Over all visits; the peak is the largest.
    pub resources: ResourceRecord,
    /// The visits over time.
    pub timeline: Vec<Tick>,
}

/// Whether a check is about quantiles alone: lateness and samples, not the machine.
fn spoils_quantiles(check: &str) -> bool {
    check.starts_with("generator lateness") || check.starts_with("samples beyond")
}

/// Visits that may be saturated, or miss an objective, before a row counts as such: one in six.
fn allowed(visits: usize) -> usize {
    visits / 6
}

impl<'a> Row<'a> {
    /// All rows of a file in the order of their first cells; `mark` is appended to each label.
    pub fn all(file: &'a ResultFile, mark: &str) -> Result<Vec<Self>, DecodeError> {
        let mut labels: Vec<&str> = Vec::new();
        for cell in &file.cells {
            if !labels.contains(&cell.row.as_str()) {
                labels.push(&cell.row);
            }
        }
        let mut rows: Vec<Self> = Vec::new();
        for label in labels {
            let cells = file.cells.iter().enumerate().filter(|(_, cell)| cell.row == label);
            let mut row = Self::of(cells, &file.objectives)?;
            row.role = role(&row, label);
            row.label = format!("{label}{mark}");
            rows.push(row);
        }
        rows.sort_by_key(|row| (row.role == Role::Ceiling, row.role == Role::Again, row.backend_rank()));
        Ok(rows)
    }

    fn backend_rank(&self) -> usize {
        const ORDER: [&str; 4] = ["log", "queue", "shard", "direct"];
        ORDER.iter().position(|name| *name == self.backend).unwrap_or(ORDER.len())
    }

    fn of(cells: impl Iterator<Item = (usize, &'a Measurement)>, objectives: &Objectives) -> Result<Self, DecodeError> {
        let mut row = Self {
            label: String::new(),
            backend: "",
            world: World::Embedded,
            role: Role::Candidate,
            visits: Vec::new(),
            stairs: Vec::new(),
            apart: Vec::new(),
            evidence: Evidence::default(),
            checks: Vec::new(),
            publish: Operation::default(),
            end_to_end: Operation::default(),
            settle: Operation::default(),
            counts: Counts::default(),
            check: CheckRecord::default(),
            work: WorkCounts::default(),
            resources: ResourceRecord::default(),
            timeline: Vec::new(),
        };
        for (position, cell) in cells {
            row.backend = &cell.backend;
            row.world = cell.world;
            match cell.point {
                Point::Visit { round } => row.visit(cell, round, position, objectives)?,
                Point::Run => row.visit(cell, 0, position, objectives)?,
                Point::Stair { factor, .. } => row.stairs.push(Stair::of(cell, factor, objectives)?),
                Point::Probe { factor, .. } | Point::Soak { factor, .. } => {
                    row.apart.push(Stair::of(cell, factor, objectives)?);
                }
                Point::Sweep { .. } => row.apart.push(Stair::of(cell, 1.0, objectives)?),
            }
        }
        let visited: Vec<&Measurement> = row.visits.iter().map(|visit| visit.cell).collect();
        row.evidence = Evidence::of(&visited)?;
        row.checks = row.evidence.checks();
        row.stairs.sort_by(|a, b| a.factor.total_cmp(&b.factor));
        Ok(row)
    }

    fn visit(
        &mut self,
        cell: &'a Measurement,
        round: u32,
        position: usize,
        objectives: &Objectives,
    ) -> Result<(), DecodeError> {
        let (offered_per_s, achieved_per_s) = rates(cell);
        self.visits.push(Visit {
            cell,
            round,
            position,
            validity: judge(cell)?,
            misses: !Alone::of(cell)?.missed(objectives).is_empty(),
            p99: cell.end_to_end.response.quantile(cell.end_to_end.unfinished, 0.99)?,
            publish_p99: cell.publish.response.quantile(cell.publish.unfinished, 0.99)?,
            settle_p99: cell.settle.response.quantile(cell.settle.unfinished, 0.99)?,
            offered_per_s,
            achieved_per_s,
        });
        self.publish.add(&cell.publish)?;
        self.end_to_end.add(&cell.end_to_end)?;
        self.settle.add(&cell.settle)?;
        add_counts(&mut self.counts, &cell.counts);
        add_work(&mut self.work, &cell.work);
        add_resources(&mut self.resources, &cell.resources);
        for group in &cell.groups {
            add_check(&mut self.check, &group.check, &group.name);
        }
        self.add_timeline(cell)
    }

    fn add_timeline(&mut self, cell: &Measurement) -> Result<(), DecodeError> {
        for (n, interval) in cell.intervals.iter().enumerate() {
            if self.timeline.len() <= n {
                let middle = interval.start_ns.saturating_add(interval.length_ns / 2);
                self.timeline.push(Tick {
                    at_ns: signed(middle).saturating_sub(signed(cell.window.warmup_ns)),
                    acknowledged_per_s: 0.0,
                    delivered_per_s: 0.0,
                    backlog: 0,
                    response: Sample::default(),
                });
            }
            let tick = &mut self.timeline[n];
            let seconds = interval.length_ns.max(1) as f64 / 1e9;
            // A running mean: the visits of a row count alike.
            let weight = self.visits.len().max(1) as f64;
            tick.acknowledged_per_s += (interval.acknowledged as f64 / seconds - tick.acknowledged_per_s) / weight;
            tick.delivered_per_s += (interval.delivered as f64 / seconds - tick.delivered_per_s) / weight;
            tick.backlog = tick.backlog.max(interval.backlog);
            tick.response.add(&interval.end_to_end_response, 0)?;
        }
        Ok(())
    }

    /// A cell to read settings, lanes and limits from; none in a row without cells.
    pub fn example(&self) -> Option<&'a Measurement> {
        let alone = self.stairs.first().or_else(|| self.apart.first());
        self.visits.first().map(|v| v.cell).or_else(|| alone.map(|s| s.cell))
    }

    /// Whether both rows were asked for in the same words.
    pub fn same_as(&self, other: &Self) -> bool {
        match (self.example(), other.example()) {
            (Some(a), Some(b)) => a.backend_url == b.backend_url,
            (None, _) | (_, None) => false,
        }
    }

    /// How long unfinished messages were followed, in every visit.
    pub fn followed(&self) -> Followed {
        match self.example() {
            _ if self.evidence.cut_short.is_some() => Followed::CutShort,
            Some(cell) => Followed::of(cell),
            None => Followed::For(0),
        }
    }

    /// The compared figures, one a visit.
    pub fn figures(&self) -> Vec<Figure> {
        self.visits.iter().filter_map(|v| figure(v.p99).map(|ns| Figure { round: v.round, ns })).collect()
    }

    /// Median over visits of a quantile that each visit has, in nanoseconds; none when nothing was recorded.
    pub fn median_ns(&self, of: impl Fn(&Visit) -> Quantile) -> Option<f64> {
        let values: Vec<f64> = self.visits.iter().filter_map(|v| figure(of(v))).collect();
        median(&values)
    }

    /// The checks that count for this row, over its visits together. Of a saturated row no quantile is shown, so what only spoils
    /// quantiles (lateness, samples) is not asked; the machine's checks are.
    pub fn checks(&self) -> impl Iterator<Item = &ValidityCheck> {
        let saturated = self.saturated();
        self.checks.iter().filter(move |check| !(saturated && spoils_quantiles(&check.name)))
    }

    /// Visits that taken alone miss a check.
    pub fn visits_disturbed(&self) -> usize {
        let counts = |name: &str| self.checks().any(|check| check.name == name);
        self.visits.iter().filter(|v| v.validity.checks.iter().any(|check| !check.ok && counts(&check.name))).count()
    }

    /// What the first saturated visit showed, when the row is saturated.
    pub fn saturation(&self) -> Option<&Saturation> {
        self.visits.iter().filter(|_| self.saturated()).find_map(|v| v.validity.saturated.as_ref())
    }

    /// Why it is saturated when one of its own settings is the reason, or its consumers are; none when the backend is.
    pub fn why_saturated(&self) -> Option<String> {
        self.limited_by_setting().or_else(|| self.consumers_behind())
    }

    /// Why it is saturated when one of its own settings is the reason.
    pub fn limited_by_setting(&self) -> Option<String> {
        let mut saturated = self.visits.iter().filter(|visit| visit.validity.saturated.is_some());
        let setting = saturated.find_map(|visit| by_setting(self.backend, visit.cell, visit.offered_per_s))?;
        Some(format!("limited by setting: {setting}"))
    }

    /// Why it is saturated when its consumers are the reason, with how busy they were to be; none when the backend is.
    pub fn consumers_behind(&self) -> Option<String> {
        let reason = &self.saturation().filter(|s| s.reason.starts_with("consumers"))?.reason;
        let groups = self.visits.iter().flat_map(|v| &v.cell.groups);
        let busiest = groups.max_by(|a, b| a.utilisation.total_cmp(&b.utilisation));
        let busy = busiest.map_or_else(String::new, |group| {
            format!(" (group {} is to be busy {} of the time)", group.name, figures::percent(group.utilisation))
        });
        Some(format!("{reason}{busy}"))
    }

    /// Whether the row can be believed: its visits together miss no threshold.
    pub fn valid(&self) -> bool {
        !self.visits.is_empty() && self.checks().all(|check| check.ok)
    }

    /// Visits that were saturated.
    pub fn visits_saturated(&self) -> usize {
        self.visits.iter().filter(|v| v.validity.saturated.is_some()).count()
    }

    /// Whether more was asked of the row than it could take, in more than one visit of six.
    pub fn saturated(&self) -> bool {
        self.visits_saturated() > allowed(self.visits.len())
    }

    /// The contract's clauses that were broken at the profile's rate, on the staircase or in a cell apart, in words.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.check.broken.clone();
        for stair in self.stairs.iter().chain(&self.apart) {
            for group in &stair.cell.groups {
                for clause in &group.check.broken {
                    broken.push(format!("{}, {clause}", stair.place()));
                }
            }
        }
        broken.dedup();
        broken
    }

    /// Whether every visit and step kept the contract.
    pub fn kept(&self) -> bool {
        self.broken().is_empty()
    }

    /// Messages acknowledged in the window per second, mean over visits.
    pub fn achieved_per_s(&self) -> f64 {
        mean(self.visits.iter().map(|v| v.achieved_per_s))
    }

    /// Messages due per second, mean over visits.
    pub fn offered_per_s(&self) -> f64 {
        mean(self.visits.iter().map(|v| v.offered_per_s))
    }

    /// Whether it misses the objectives in every visit but the one in six that noise is granted. A row that misses them in some
    /// visits only stands at their threshold, where identical rows fall on either side.
    pub fn misses_throughout(&self) -> bool {
        let missing = self.visits.iter().filter(|visit| visit.misses).count();
        missing > 0 && missing + allowed(self.visits.len()) >= self.visits.len()
    }

    /// What misses the objectives, in words; empty when all are met.
    pub fn missed(&self, objectives: &Objectives) -> Vec<String> {
        let of = |metric| match metric {
            Metric::EndToEnd => &self.end_to_end.response,
            Metric::Publish => &self.publish.response,
            Metric::Settle => &self.settle.response,
        };
        missed(objectives, of, &self.check, self.followed())
    }
}

/// What misses the objectives among responses and counts.
fn missed<'s>(
    objectives: &Objectives,
    of: impl Fn(Metric) -> &'s Sample,
    check: &CheckRecord,
    followed: Followed,
) -> Vec<String> {
    let mut missed = Vec::new();
    for objective in &objectives.0 {
        match *objective {
            Objective::Quantile { metric, quantile, at_most } => {
                let met = match of(metric).quantile(quantile) {
                    Quantile::At(ns) => ns <= at_most.0,
                    Quantile::BelowZero | Quantile::Empty => true,
                    Quantile::Never => false,
                };
                if !met {
                    let found = of(metric).shown(quantile).text(followed);
                    let (name, q) = (metric.name(), figures::quantile_name(quantile));
                    missed.push(format!(
                        "{name} {q} {found}, asked ≤ {}",
                        figures::trimmed(&figures::duration(at_most.0))
                    ));
                }
            }
            Objective::Count { count, at_most } => {
                let found = match count {
                    Count::Lost => check.lost,
                    Count::Duplicated => check.duplicated,
                    Count::Reordered => check.reordered,
                    Count::Corrupted => check.corrupted,
                    Count::Undelivered => check.undelivered,
                    Count::Expired => check.expired,
                    Count::Overflowed => check.overflowed,
                };
                if found > at_most {
                    missed.push(format!("{} {}, asked ≤ {at_most}", figures::count(found), count.name()));
                }
            }
        }
    }
    missed
}

fn role(row: &Row, label: &str) -> Role {
    if row.backend == CEILING {
        Role::Ceiling
    } else if label.ends_with(AGAIN_MARK) {
        Role::Again
    } else {
        Role::Candidate
    }
}

/// A quantile as a figure to compare; none when nothing was recorded.
fn figure(p99: Quantile) -> Option<f64> {
    match p99 {
        Quantile::Empty => None,
        Quantile::BelowZero => Some(0.0),
        Quantile::At(ns) => Some(ns as f64),
        Quantile::Never => Some(f64::INFINITY),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0_u32, 0.0), |(n, sum), value| (n + 1, sum + value));
    if n == 0 { 0.0 } else { sum / f64::from(n) }
}

/// Offered and achieved per second of the window; nothing where it had not begun.
fn rates(cell: &Measurement) -> (f64, f64) {
    cell.rates().map_or((0.0, 0.0), |rates| (rates.offered_per_s, rates.achieved_per_s))
}

/// One cell, judged by itself.
struct Alone {
    publish: Sample,
    end_to_end: Sample,
    settle: Sample,
    check: CheckRecord,
    followed: Followed,
}

impl Alone {
    fn of(cell: &Measurement) -> Result<Self, DecodeError> {
        let response = |operation: &Distributions| {
            let mut sample = Sample::default();
            sample.add(&operation.response, operation.unfinished).map(|()| sample)
        };
        let mut check = CheckRecord::default();
        for group in &cell.groups {
            add_check(&mut check, &group.check, &group.name);
        }
        Ok(Self {
            publish: response(&cell.publish)?,
            end_to_end: response(&cell.end_to_end)?,
            settle: response(&cell.settle)?,
            check,
            followed: Followed::of(cell),
        })
    }

    fn missed(&self, objectives: &Objectives) -> Vec<String> {
        let of = |metric| match metric {
            Metric::EndToEnd => &self.end_to_end,
            Metric::Publish => &self.publish,
            Metric::Settle => &self.settle,
        };
        missed(objectives, of, &self.check, self.followed)
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Adds to a count; one beyond every number (only a changed file holds such) stays at the largest.
fn add(sum: &mut u64, n: u64) {
    *sum = sum.saturating_add(n);
}

fn add_counts(sum: &mut Counts, cell: &Counts) {
    add(&mut sum.due, cell.due);
    add(&mut sum.due_bytes, cell.due_bytes);
    add(&mut sum.acknowledged, cell.acknowledged);
    add(&mut sum.refused, cell.refused);
    add(&mut sum.failed, cell.failed);
    add(&mut sum.unknown, cell.unknown);
    add(&mut sum.unacknowledged, cell.unacknowledged);
    add(&mut sum.not_sent, cell.not_sent);
    add(&mut sum.throttled, cell.throttled);
    add(&mut sum.warmup_due, cell.warmup_due);
    add(&mut sum.published_in_all, cell.published_in_all);
    add(&mut sum.delivered_in_all, cell.delivered_in_all);
    add(&mut sum.settled_in_all, cell.settled_in_all);
    sum.backlog_max = sum.backlog_max.max(cell.backlog_max);
    sum.backlog_end = sum.backlog_end.max(cell.backlog_end);
}

fn add_work(sum: &mut WorkCounts, cell: &WorkCounts) {
    add(&mut sum.bytes_written, cell.bytes_written);
    add(&mut sum.bytes_filled, cell.bytes_filled);
    add(&mut sum.write_calls, cell.write_calls);
    add(&mut sum.bytes_read, cell.bytes_read);
    add(&mut sum.read_calls, cell.read_calls);
    add(&mut sum.fsyncs, cell.fsyncs);
    add(&mut sum.payload_copies, cell.payload_copies);
    add(&mut sum.round_trips, cell.round_trips);
}

fn add_resources(sum: &mut ResourceRecord, cell: &ResourceRecord) {
    add(&mut sum.cpu_user_ns, cell.cpu_user_ns);
    add(&mut sum.cpu_system_ns, cell.cpu_system_ns);
    sum.peak_rss_bytes = sum.peak_rss_bytes.max(cell.peak_rss_bytes);
    add(&mut sum.voluntary_context_switches, cell.voluntary_context_switches);
    add(&mut sum.involuntary_context_switches, cell.involuntary_context_switches);
    add(&mut sum.storage_write_bytes, cell.storage_write_bytes);
}

fn add_check(sum: &mut CheckRecord, cell: &CheckRecord, group: &str) {
    add(&mut sum.acknowledged, cell.acknowledged);
    add(&mut sum.delivered, cell.delivered);
    add(&mut sum.delivered_unacknowledged, cell.delivered_unacknowledged);
    add(&mut sum.lost, cell.lost);
    add(&mut sum.undelivered, cell.undelivered);
    add(&mut sum.expired, cell.expired);
    add(&mut sum.overflowed, cell.overflowed);
    add(&mut sum.dropped, cell.dropped);
    add(&mut sum.dead_lettered, cell.dead_lettered);
    add(&mut sum.duplicated, cell.duplicated);
    add(&mut sum.redelivered, cell.redelivered);
    add(&mut sum.reordered, cell.reordered);
    add(&mut sum.early, cell.early);
    add(&mut sum.corrupted, cell.corrupted);
    add(&mut sum.foreign, cell.foreign);
    add(&mut sum.not_checked, cell.not_checked);
    add(&mut sum.order_not_checked, cell.order_not_checked);
    for clause in &cell.broken {
        let text = format!("{group}: {clause}");
        if !sum.broken.contains(&text) {
            sum.broken.push(text);
        }
    }
}
