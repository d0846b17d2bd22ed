//! Whether a measurement can be believed, and whether it was saturated: asked of every cell before any figure is shown.
//!
//! The thresholds are the constants below. Leaves out what is concluded from valid cells (`reports` does that) and how the
//! figures were taken (`host` does).

use brokerlab_model::Span;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::measurement::{Distributions, FitnessRecord, HistogramRecord, IntervalRecord, Measurement, OutageRecord};
use crate::record::{DecodeError, quantile};

/// Lateness of the generator up to this much is always allowed.
pub const LATE_ALLOWED: Span = Span::from_millis(2);
/// So is this share of the publish response time's 99 % quantile.
pub const LATE_ALLOWED_OF_RESPONSE: f64 = 0.10;
/// Fewer samples beyond a quantile than this say nothing about it.
pub const SAMPLES_BEYOND: u64 = 10;
/// Share of core time that the hypervisor may take.
pub const STEAL_ALLOWED: f64 = 0.01;
/// CPU of other processes, in cores.
pub const OTHERS_ALLOWED_CORES: f64 = 0.05;
/// Below this share of due messages acknowledged, or with a backlog that grows faster than the rest, a run is saturated.
pub const ACKNOWLEDGED_SHARE: f64 = 0.99;
/// A backlog that grew by no more than what comes due in this time did not grow: a single pause of the scheduler explains it.
pub const BACKLOG_JITTER: Span = Span::from_millis(20);
/// How a note began that told of a declared pause of consumers, in results that did not keep pauses and groups' deliveries as data.
const PAUSE_NOTE: &str = "pause: ";
/// The quantiles that are shown where there are samples enough.
pub const QUANTILES: [f64; 6] = [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999];

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// Whether every check passed.
    pub valid: bool,
    /// Asked, achieved and backlog, when more was asked than the system could take. No quantile is its headline then.
    pub saturated: Option<Saturation>,
    /// Each check, passed or not, in the order in which they are shown.
    pub checks: Vec<ValidityCheck>,
    /// Which of [`QUANTILES`] have samples enough to be shown, end-to-end.
    pub quantiles: Vec<f64>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidityCheck {
    /// What is checked.
    pub name: String,
    /// What was found, with its unit.
    pub found: String,
    /// What is allowed, with its unit.
    pub limit: String,
    /// Whether it is within the limit.
    pub ok: bool,
    /// What to do about it when it is not.
    pub advice: String,
}

/// By how much more was asked than achieved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    /// Messages due in the window per second.
    pub asked_per_s: f64,
    /// Publishes acknowledged within the window per second.
    pub achieved_per_s: f64,
    /// Due and not acknowledged at the window's end.
    pub backlog: u64,
    /// Which rule it met, in words.
    pub reason: String,
}

/// Judges one cell. An error means that a stored histogram can't be read.
pub fn judge(cell: &Measurement) -> Result<Validity, DecodeError> {
    let checks = Evidence::of(&[cell])?.checks();
    Ok(Validity {
        valid: checks.iter().all(|check| check.ok),
        saturated: saturation(cell),
        checks,
        quantiles: QUANTILES.into_iter().filter(|&q| may_show(end_to_end_samples(cell), q)).collect(),
    })
}

/// What the checks look at, of one cell or of all visits of a row together: a row's quantiles are merged over its visits, so what
/// spoils them is merged too. One visit's short pause weighs as much in the row as it weighs in the row's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// What cut one of them short.
    pub cut_short: Option<String>,
    /// Generator lateness at the 99.9 % quantile, merged.
    pub late_p999_ns: u64,
    /// Publish response at the 99 % quantile, merged; the drain limit where it never came.
    pub publish_p99_ns: u64,
    /// End-to-end samples of the visit that has fewest: each visit's p99 is compared.
    pub fewest_samples: u64,
    /// Mean share of core time that the hypervisor took; none where the system does not tell.
    pub steal_share: Option<f64>,
    /// Time that a cgroup limit held the process back, in all.
    pub cgroup_throttled_ns: Option<u64>,
    /// Mean CPU of other processes, in cores.
    pub other_processes_cores: Option<f64>,
    /// Whether every message published was the profile's.
    pub matches_published: bool,
    /// Mean cost of generator, recorder and checker.
    pub harness_ns_per_message: f64,
}

impl Evidence {
    /// Gathers it. An error means that a stored histogram can't be read.
    pub fn of(cells: &[&Measurement]) -> Result<Self, DecodeError> {
        let late_p999_ns = match cells {
            [cell] => cell.fitness.late_p999_ns,
            _ => quantile(&merged(cells, |publish| &publish.late)?, 0, 0.999).or(0),
        };
        let unfinished = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.publish.unfinished));
        let publish_p99 = quantile(&merged(cells, |publish| &publish.response)?, unfinished, 0.99);
        let drain_limit_ns = cells.iter().map(|cell| cell.window.drain_limit_ns).max().unwrap_or(0);
        let told = |of: fn(&FitnessRecord) -> Option<f64>| mean(cells.iter().filter_map(|cell| of(&cell.fitness)));
        Ok(Self {
            cut_short: cells.iter().find_map(|cell| cell.cut_short.clone()),
            late_p999_ns,
            publish_p99_ns: publish_p99.or(drain_limit_ns),
            fewest_samples: cells.iter().map(|cell| end_to_end_samples(cell)).min().unwrap_or(0),
            steal_share: told(|fitness| fitness.steal_share),
            cgroup_throttled_ns: cells
                .iter()
                .filter_map(|cell| cell.fitness.cgroup_throttled_ns)
                .reduce(u64::saturating_add),
            other_processes_cores: told(|fitness| fitness.other_processes_cores),
            matches_published: cells.iter().all(|cell| cell.digest.matches_published),
            harness_ns_per_message: told(|fitness| Some(fitness.harness_ns_per_message)).unwrap_or(0.0),
        })
    }

    /// Every check, in the order in which they are shown.
    pub fn checks(&self) -> Vec<ValidityCheck> {
        vec![
            self.complete(),
            self.lateness(),
            self.samples(),
            self.steal(),
            self.throttling(),
            self.others(),
            self.digest(),
            self.own_cost(),
        ]
    }

    fn complete(&self) -> ValidityCheck {
        let found = self.cut_short.clone().map_or_else(|| "complete".to_owned(), |why| format!("cut short: {why}"));
        check("complete", found, "complete".to_owned(), self.cut_short.is_none(), "let it run to its end")
    }

    fn lateness(&self) -> ValidityCheck {
        let limit = LATE_ALLOWED.0.max((self.publish_p99_ns as f64 * LATE_ALLOWED_OF_RESPONSE) as u64);
        let late = self.late_p999_ns;
        check(
            "generator lateness, p99.9",
            Span(late).to_string(),
            format!("≤ {}", Span(limit)),
            late <= limit,
            "stop other load on this machine, lower --rate, or give the loops fewer --threads than there are cores",
        )
    }

    fn samples(&self) -> ValidityCheck {
        let samples = self.fewest_samples;
        check(
            "samples beyond p99",
            (samples / 100).to_string(),
            format!("≥ {SAMPLES_BEYOND}"),
            may_show(samples, 0.99),
            "run longer (--duration) or at a higher --rate",
        )
    }

    fn steal(&self) -> ValidityCheck {
        let found = self.steal_share;
        check(
            "core time taken by the hypervisor",
            told(found),
            format!("≤ {}", share(STEAL_ALLOWED)),
            found.is_none_or(|steal| steal <= STEAL_ALLOWED),
            "wait until the host is quieter, or use a machine of your own",
        )
    }

    fn throttling(&self) -> ValidityCheck {
        let found = self.cgroup_throttled_ns;
        check(
            "held back by a cgroup limit",
            found.map_or_else(|| told(None), |ns| Span(ns).to_string()),
            "none".to_owned(),
            found.is_none_or(|ns| ns == 0),
            "raise the container's CPU limit, or lower --rate",
        )
    }

    fn others(&self) -> ValidityCheck {
        let found = self.other_processes_cores;
        check(
            "CPU of other processes, of one core",
            told(found),
            format!("≤ {}", share(OTHERS_ALLOWED_CORES)),
            found.is_none_or(|cores| cores <= OTHERS_ALLOWED_CORES),
            "stop what else is running on this machine",
        )
    }

    fn digest(&self) -> ValidityCheck {
        let ok = self.matches_published;
        let found = if ok { "as the profile says" } else { "other than the profile says" };
        check(
            "messages published",
            found.to_owned(),
            "as the profile says".to_owned(),
            ok,
            "this is a fault of brokerlab: please report it with the result file",
        )
    }

    fn own_cost(&self) -> ValidityCheck {
        let found = format!("{:.0} ns per message", self.harness_ns_per_message);
        check("generator, recorder and checker", found, "printed".to_owned(), true, "")
    }
}

fn end_to_end_samples(cell: &Measurement) -> u64 {
    cell.end_to_end.response.samples().saturating_add(cell.end_to_end.unfinished)
}

/// One of the publishes' histograms, over all cells.
fn merged(cells: &[&Measurement], of: fn(&Distributions) -> &HistogramRecord) -> Result<Histogram<u64>, DecodeError> {
    let mut all = HistogramRecord::default().to_histogram()?;
    for cell in cells {
        let of_cell = of(&cell.publish).to_histogram()?;
        all.add(&of_cell).map_err(|error| DecodeError::Hdr(error.to_string()))?;
    }
    Ok(all)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0_u32, 0.0), |(n, sum), value| (n + 1, sum + value));
    (n > 0).then(|| sum / f64::from(n))
}

fn share(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn told(value: Option<f64>) -> String {
    value.map_or_else(|| "the system does not tell".to_owned(), share)
}

/// Whether at least [`SAMPLES_BEYOND`] of `samples` lie beyond the quantile `q`.
pub fn may_show(samples: u64, q: f64) -> bool {
    // The product of two rounded numbers may fall a hair short of the whole number that is meant.
    samples as f64 * (1.0 - q) >= SAMPLES_BEYOND as f64 - 1e-6
}

fn check(name: &str, found: String, limit: String, ok: bool, advice: &str) -> ValidityCheck {
    ValidityCheck { name: name.to_owned(), found, limit, ok, advice: advice.to_owned() }
}

fn saturation(cell: &Measurement) -> Option<Saturation> {
    let counts = &cell.counts;
    if counts.due == 0 {
        return None;
    }
    let window: Vec<&IntervalRecord> =
        cell.intervals.iter().filter(|interval| interval.start_ns >= cell.window.warmup_ns).collect();
    let reason = too_few_acknowledged(cell).or_else(|| growing(cell, &window))?;
    let rates = cell.rates();
    Some(Saturation {
        asked_per_s: rates.map_or(0.0, |rates| rates.offered_per_s),
        achieved_per_s: rates.map_or(0.0, |rates| rates.achieved_per_s),
        backlog: counts.backlog_end,
        reason,
    })
}

/// Declared faults that came to act.
fn faults(cell: &Measurement) -> impl Iterator<Item = &OutageRecord> {
    cell.outages.iter().filter(|outage| outage.fault.is_some())
}

/// Whether a declared fault or its recovery reaches into the interval.
fn in_fault(cell: &Measurement, interval: &IntervalRecord) -> bool {
    let end = interval.start_ns.saturating_add(interval.length_ns);
    faults(cell).any(|fault| fault.begins_ns < end && fault.over_ns().is_none_or(|over| over > interval.start_ns))
}

/// Whether the group was to stand still in a part of the interval.
fn in_pause(cell: &Measurement, group: &str, interval: &IntervalRecord) -> bool {
    let end = interval.start_ns.saturating_add(interval.length_ns);
    let mut pauses = cell.pauses.iter().filter(|pause| pause.group == group);
    pauses.any(|pause| pause.at_ns < end && pause.at_ns.saturating_add(pause.length_ns) > interval.start_ns)
}

/// Of what was due outside declared faults and their recovery.
fn too_few_acknowledged(cell: &Measurement) -> Option<String> {
    let counts = &cell.counts;
    let missing = |fault: &OutageRecord| {
        // What was still open when the backlog was back is the usual, and ended afterwards.
        let open = if fault.recovered_ns.is_some() { 0 } else { fault.unacknowledged.saturating_add(fault.not_sent) };
        open.saturating_add(fault.failed).saturating_add(fault.unknown)
    };
    let sum = |of: &dyn Fn(&OutageRecord) -> u64| faults(cell).map(of).fold(0, u64::saturating_add);
    let due = counts.due.saturating_sub(sum(&|fault| fault.due));
    let missing = counts.due.saturating_sub(counts.acknowledged).saturating_sub(sum(&missing));
    if due == 0 {
        return None;
    }
    let share_acknowledged = 1.0 - missing as f64 / due as f64;
    (share_acknowledged < ACKNOWLEDGED_SHARE)
        .then(|| format!("{} of the messages due were acknowledged", share(share_acknowledged)))
}

/// Messages due in intervals, and what of them is allowed to stay behind.
fn allowed(of: &[&IntervalRecord]) -> f64 {
    let (due, length): (u64, u64) =
        of.iter().fold((0, 0), |(due, ns), i| (due.saturating_add(i.due), ns.saturating_add(i.length_ns)));
    let jitter = due as f64 * BACKLOG_JITTER.0 as f64 / length.max(1) as f64;
    (due as f64 * (1.0 - ACKNOWLEDGED_SHARE)).max(jitter)
}

/// Whether what is due and not acknowledged, or acknowledged and not delivered, grew over the window's last half, declared faults and
/// pauses left out.
fn growing(cell: &Measurement, window: &[&IntervalRecord]) -> Option<String> {
    let counted: Vec<&IntervalRecord> = window.iter().filter(|i| !in_fault(cell, i)).copied().collect();
    let half = counted.get(counted.len() / 2..)?;
    // The backlog is known at each interval's end: growth runs from the end of one to the end of the next, and nowhere across a fault.
    let follows = |pair: &&[&IntervalRecord]| pair[1].start_ns <= pair[0].start_ns.saturating_add(pair[0].length_ns);
    let pairs: Vec<&[&IntervalRecord]> = half.windows(2).filter(follows).collect();
    let rest: Vec<&IntervalRecord> = pairs.iter().map(|pair| pair[1]).collect();
    if rest.is_empty() {
        return None;
    }
    let grew: f64 = pairs.iter().map(|pair| pair[1].backlog as f64 - pair[0].backlog as f64).sum();
    if grew > allowed(&rest) {
        return Some(format!("the backlog grew by {grew:.0} messages over the window's last half"));
    }
    if rest.iter().all(|interval| interval.delivered_by_group.len() == cell.groups.len()) {
        return (0..cell.groups.len()).find_map(|group| fallen_behind(cell, group, &rest));
    }
    if cell.notes.iter().any(|note| note.starts_with(PAUSE_NOTE)) {
        return None;
    }
    let groups = cell.groups.len() as u64;
    let wanted = rest.iter().fold(0, |sum: u64, i| sum.saturating_add(i.acknowledged.saturating_mul(groups)));
    let delivered = rest.iter().fold(0, |sum: u64, i| sum.saturating_add(i.delivered));
    let behind = (wanted as f64 - delivered as f64).min(waiting(cell, None));
    (behind > allowed(&rest) * groups as f64).then(|| behind_in_words("", behind))
}

/// Acknowledged messages that could still wait for a group, or for all of them, when the schedule was over: neither delivered by
/// then nor given up by the backend. Nobody is further behind than that.
fn waiting(cell: &Measurement, group: Option<usize>) -> f64 {
    let of = |all: &[u64], sum: u64| group.map_or(sum, |group| all.get(group).copied().unwrap_or(0));
    let groups = if group.is_some() { 1 } else { cell.groups.len() as u64 };
    let over = |interval: &IntervalRecord| {
        let wanted = interval.acknowledged.saturating_mul(groups);
        let passed = of(&interval.passed_by_group, interval.passed_by_group.iter().sum());
        wanted as f64 - of(&interval.delivered_by_group, interval.delivered) as f64 - passed as f64
    };
    let given_up = cell.groups.iter().enumerate().filter(|(n, _)| group.is_none_or(|group| group == *n));
    let given_up = given_up.fold(0, |sum: u64, (_, of)| sum.saturating_add(of.check.given_up()));
    (cell.intervals.iter().map(over).sum::<f64>() - given_up as f64).max(0.0)
}

/// Whether one group did not get what was acknowledged, its declared pauses left out.
fn fallen_behind(cell: &Measurement, group: usize, rest: &[&IntervalRecord]) -> Option<String> {
    let name = &cell.groups[group].name;
    let rest: Vec<&IntervalRecord> = rest.iter().filter(|i| !in_pause(cell, name, i)).copied().collect();
    let wanted = rest.iter().fold(0, |sum: u64, i| sum.saturating_add(i.acknowledged));
    let passed = |i: &IntervalRecord| i.passed_by_group.get(group).copied().unwrap_or(0);
    let got = |i: &IntervalRecord| i.delivered_by_group[group].saturating_add(passed(i));
    let delivered = rest.iter().fold(0, |sum: u64, i| sum.saturating_add(got(i)));
    let behind = (wanted as f64 - delivered as f64).min(waiting(cell, Some(group)));
    let whose = if cell.groups.len() > 1 { format!(" of group {name}") } else { String::new() };
    (behind > allowed(&rest)).then(|| behind_in_words(&whose, behind))
}

fn behind_in_words(whose: &str, behind: f64) -> String {
    format!("consumers{whose} fell behind by {behind:.0} deliveries over the window's last half")
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Contract, Settings, WorkCounts};

    use super::*;
    use crate::measurement::{
        Counts, DigestRecord, Distributions, FaultRecord, FitnessRecord, GroupRecord, Kind, LoopRecord, PauseRecord,
        Point, ResourceRecord, WindowRecord, World,
    };
    use crate::profile::{FaultAction, FaultNode};
    use crate::record::Tally;

    fn distributions(samples: u64, ns: u64) -> Distributions {
        let mut tally = Tally::default();
        tally.record_n(ns, samples);
        Distributions { response: crate::measurement::HistogramRecord::from_tally(&tally), ..Distributions::default() }
    }

    fn interval(index: u64, backlog: u64) -> IntervalRecord {
        IntervalRecord {
            start_ns: index * 100_000_000,
            length_ns: 100_000_000,
            due: 2_000,
            acknowledged: 2_000,
            delivered: 2_000,
            backlog,
            ..IntervalRecord::default()
        }
    }

    /// 20,000 messages/s for a second after 0.2 s of warm-up, all well.
    fn cell() -> Measurement {
        Measurement {
            row: "log".to_owned(),
            backend: "log".to_owned(),
            backend_url: "log".to_owned(),
            world: World::Embedded,
            kind: Kind::Measured,
            point: Point::Run,
            contract: Contract::default(),
            settings: Settings::default(),
            lanes: 1,
            seed: 1,
            digest: DigestRecord { sha256: String::new(), messages: 20_000, matches_published: true },
            window: WindowRecord {
                warmup_ns: 200_000_000,
                duration_ns: 1_000_000_000,
                drain_limit_ns: 1_000_000_000,
                ..WindowRecord::default()
            },
            loops: LoopRecord::default(),
            counts: Counts { due: 20_000, acknowledged: 20_000, ..Counts::default() },
            publish: distributions(20_000, 1_000_000),
            end_to_end: distributions(20_000, 1_000_000),
            settle: Distributions::default(),
            groups: vec![GroupRecord::default()],
            intervals: (0..12).map(|index| interval(index, 3)).collect(),
            resources: ResourceRecord::default(),
            work: WorkCounts::default(),
            tallies: Vec::new(),
            fitness: FitnessRecord::default(),
            notes: Vec::new(),
            live: None,
            servers: Vec::new(),
            cut_short: None,
            pauses: Vec::new(),
            outages: Vec::new(),
            not_back: None,
        }
    }

    fn failed(cell: &Measurement) -> Vec<String> {
        let validity = judge(cell).unwrap();
        let failed: Vec<String> = validity.checks.into_iter().filter(|c| !c.ok).map(|c| c.name).collect();
        assert_eq!(validity.valid, failed.is_empty());
        failed
    }

    #[test]
    fn each_limit_is_allowed_and_one_more_is_not() {
        type Change = fn(&mut Measurement, bool);
        let cases: [(&str, Change); 7] = [
            ("complete", |c, over| c.cut_short = over.then(|| "Ctrl-C".to_owned())),
            ("generator lateness, p99.9", |c, over| c.fitness.late_p999_ns = 2_000_000 + u64::from(over)),
            ("samples beyond p99", |c, over| c.end_to_end = distributions(1_000 - u64::from(over), 5)),
            ("core time taken by the hypervisor", |c, over| {
                c.fitness.steal_share = Some(if over { 0.0101 } else { 0.01 });
            }),
            ("held back by a cgroup limit", |c, over| c.fitness.cgroup_throttled_ns = Some(u64::from(over))),
            ("CPU of other processes, of one core", |c, over| {
                c.fitness.other_processes_cores = Some(if over { 0.051 } else { 0.05 });
            }),
            ("messages published", |c, over| c.digest.matches_published = !over),
        ];
        assert_eq!(failed(&cell()), Vec::<String>::new());
        for (name, change) in cases {
            for over in [false, true] {
                let mut cell = cell();
                change(&mut cell, over);
                assert_eq!(failed(&cell), if over { vec![name.to_owned()] } else { vec![] });
            }
        }
    }

    #[test]
    fn a_slow_system_allows_a_tenth_of_its_response_time_as_lateness() {
        let mut cell = cell();
        cell.publish = distributions(20_000, 50_000_000);
        cell.fitness.late_p999_ns = 5_000_000;
        assert_eq!(failed(&cell), Vec::<String>::new());
        cell.fitness.late_p999_ns = 5_100_000;
        assert_eq!(failed(&cell).len(), 1);
    }

    #[test]
    fn only_quantiles_with_ten_samples_beyond_are_shown() {
        let mut cell = cell();
        for (samples, shown) in [(19, 0), (20, 1), (100, 2), (200, 3), (999, 3), (1_000, 4), (10_000, 5), (100_000, 6)]
        {
            cell.end_to_end = distributions(samples, 5);
            assert_eq!(judge(&cell).unwrap().quantiles, QUANTILES[..shown], "{samples} samples");
        }
    }

    #[test]
    fn a_run_is_saturated_below_99_percent_and_says_by_how_much() {
        let mut cell = cell();
        cell.counts.acknowledged = 19_800;
        assert_eq!(judge(&cell).unwrap().saturated, None);
        cell.counts.acknowledged = 19_799;
        cell.counts.backlog_end = 17;
        cell.intervals[11].acknowledged = 1_000;
        let saturated = judge(&cell).unwrap().saturated.unwrap();
        assert_eq!((saturated.asked_per_s, saturated.achieved_per_s, saturated.backlog), (20_000.0, 19_000.0, 17));
    }

    #[test]
    fn a_backlog_that_grows_is_saturation_and_one_that_stays_is_not() {
        let with = |backlog: fn(u64) -> u64| {
            let intervals = (0..12).map(|index| interval(index, backlog(index))).collect();
            judge(&Measurement { intervals, ..cell() }).unwrap().saturated.is_some()
        };
        assert!(with(|index| index * 150));
        assert!(!with(|_| 40_000));
        assert!(!with(|index| if index < 6 { 9_000 } else { 9_000 - index * 500 }));
        // A pause of the scheduler of 20 ms at the very end: 400 messages.
        assert!(!with(|index| if index == 11 { 403 } else { 3 }));
    }

    #[test]
    fn consumers_that_fall_behind_saturate_a_run_and_a_declared_pause_excuses_its_group_alone() {
        let mut cell = cell();
        cell.groups =
            ["billing", "search"].map(|name| GroupRecord { name: name.to_owned(), ..GroupRecord::default() }).into();
        for interval in &mut cell.intervals {
            interval.delivered_by_group = vec![2_000; 2];
        }
        assert_eq!(judge(&cell).unwrap().saturated, None);
        // Billing stands still in the ninth and tenth interval.
        for interval in &mut cell.intervals[8..10] {
            interval.delivered_by_group[0] = 100;
        }
        let reason = judge(&cell).unwrap().saturated.unwrap().reason;
        assert!(reason.starts_with("consumers of group billing fell behind by 3800 deliveries"), "{reason}");
        let pause = |group: &str| PauseRecord { group: group.to_owned(), at_ns: 850_000_000, length_ns: 150_000_000 };
        cell.pauses = vec![pause("search")];
        assert!(judge(&cell).unwrap().saturated.is_some());
        cell.pauses = vec![pause("billing")];
        assert_eq!(judge(&cell).unwrap().saturated, None);
        cell.intervals[11].delivered_by_group[1] = 0;
        let reason = judge(&cell).unwrap().saturated.unwrap().reason;
        assert!(reason.starts_with("consumers of group search"), "{reason}");
    }

    #[test]
    fn what_a_backend_gave_up_keeps_no_consumer_behind() {
        let mut cell = cell();
        for interval in &mut cell.intervals {
            interval.delivered = 500;
            interval.delivered_by_group = vec![500];
        }
        // 18,000 were not delivered; all but the hundred that a queue holds were given up.
        cell.groups[0].check.overflowed = 17_900;
        assert_eq!(judge(&cell).unwrap().saturated, None);
        cell.groups[0].check.overflowed = 9_000;
        let reason = judge(&cell).unwrap().saturated.unwrap().reason;
        // Of ten intervals in the window the last five, from the end of the first.
        assert_eq!(reason, "consumers fell behind by 6000 deliveries over the window's last half");
        cell.groups[0].check.overflowed = 14_000;
        let reason = judge(&cell).unwrap().saturated.unwrap().reason;
        assert_eq!(reason, "consumers fell behind by 4000 deliveries over the window's last half");
        cell.intervals.iter_mut().for_each(|interval| interval.delivered_by_group.clear());
        assert_eq!(judge(&cell).unwrap().saturated.unwrap().reason, reason);
    }

    #[test]
    fn no_more_is_achieved_than_was_due() {
        let mut cell = cell();
        // A backlog of the warm-up that the window catches up with.
        cell.intervals[3].acknowledged = 9_000;
        let rates = cell.rates().unwrap();
        assert_eq!((rates.offered_per_s, rates.achieved_per_s), (20_000.0, 20_000.0));
        cell.intervals[4].acknowledged = 0;
        cell.intervals[5..9].iter_mut().for_each(|interval| interval.acknowledged = 0);
        assert!((cell.rates().unwrap().achieved_per_s - 17_000.0).abs() < 1e-9);
        cell.window.duration_ns = 0;
        assert_eq!(cell.rates(), None);
    }

    #[test]
    fn results_of_versions_without_pauses_as_data_are_judged_by_their_notes() {
        let mut cell = cell();
        for interval in &mut cell.intervals {
            interval.delivered = 1_700;
        }
        assert!(judge(&cell).unwrap().saturated.is_some_and(|s| s.reason.starts_with("consumers fell behind by")));
        cell.notes.push(format!("{PAUSE_NOTE}billing from 300ms for 500ms"));
        assert_eq!(judge(&cell).unwrap().saturated, None);
    }

    /// A broker that is away from 0.6 s to 0.8 s and takes until 1.0 s to drain; 0.2 s of the window follow.
    fn outage() -> OutageRecord {
        let fault = FaultRecord {
            action: FaultAction::Pause,
            node: FaultNode::All,
            at_ns: 600_000_000,
            length_ns: Some(200_000_000),
        };
        OutageRecord {
            fault: Some(fault),
            begins_ns: 600_000_000,
            ends_ns: Some(800_000_000),
            recovered_ns: Some(1_000_000_000),
            due: 8_000,
            acknowledged: 7_500,
            unknown: 500,
            ..OutageRecord::default()
        }
    }

    #[test]
    fn what_a_declared_fault_does_is_no_saturation_and_what_happens_beside_it_is() {
        let mut cell = cell();
        for (at, backlog) in [(6, 2_000), (7, 4_000), (8, 2_000)] {
            cell.intervals[at].backlog = backlog;
            cell.intervals[at].acknowledged = 0;
        }
        cell.counts.acknowledged = 19_500;
        assert!(judge(&cell).unwrap().saturated.is_some());
        cell.outages = vec![outage()];
        assert_eq!(judge(&cell).unwrap().saturated, None);
        // Nobody declared it: that is what the system does under this load.
        cell.outages[0].fault = None;
        assert!(judge(&cell).unwrap().saturated.is_some());
        cell.outages = vec![outage()];
        // Of the 12,000 beside it, 1 % may be missing.
        cell.counts.acknowledged = 19_500 - 120;
        assert_eq!(judge(&cell).unwrap().saturated, None);
        cell.counts.acknowledged -= 1;
        assert!(judge(&cell).unwrap().saturated.is_some());
        // After it the backlog grows again.
        cell.counts.acknowledged = 19_500;
        cell.intervals[11].backlog = 2_000;
        assert!(judge(&cell).unwrap().saturated.is_some_and(|s| s.reason.starts_with("the backlog grew")));
    }

    #[test]
    fn a_broker_that_is_killed_and_stays_down_saturates_nothing() {
        let mut cell = cell();
        for (at, interval) in cell.intervals.iter_mut().enumerate().skip(6) {
            interval.backlog = (at as u64 - 5) * 2_000;
            interval.acknowledged = 0;
        }
        cell.counts =
            Counts { acknowledged: 8_000, not_sent: 11_900, unknown: 100, backlog_end: 12_000, ..cell.counts };
        assert!(judge(&cell).unwrap().saturated.is_some());
        let gone = OutageRecord { ends_ns: None, recovered_ns: None, due: 12_000, not_sent: 11_900, ..outage() };
        cell.outages = vec![OutageRecord { unknown: 100, acknowledged: 0, ..gone }];
        assert_eq!(judge(&cell).unwrap().saturated, None);
    }
}
