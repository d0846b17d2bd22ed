//! Which visits a comparison makes, in which order, and how long each is.
//!
//! Leaves out running them.

use brokerlab_live::LiveUrl;
use brokerlab_model::Span;
use brokerlab_workloads::measurement::{AGAIN_MARK, Point};

use crate::backend::Backend;
use crate::exit::BadInput;

/// The shortest window of a visit to a real broker, unless the user says how long.
const LIVE_WINDOW: Span = Span::from_secs(2);

/// One row of a comparison: a backend, or one of the two controls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The label in tables: `log?as=kafka` as it was asked for, a real broker's plain name, `log (again)` for the second A/A row.
    pub label: String,
    /// As it was asked for: `log?partitions=8`.
    pub url: String,
}

/// One visit to be made.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// Index of its row.
    pub row: usize,
    /// Where it stands in the comparison.
    pub point: Point,
}

/// How thorough a comparison is.
#[derive(Clone, Debug)]
pub(crate) struct Depth {
    /// Rounds, each of which visits every row once.
    pub rounds: u32,
    /// Loads of the staircase, as multiples of the profile's rate, rising.
    pub factors: Vec<f64>,
    /// How much longer than the profile says a visit is.
    pub stretch: u32,
    /// Window of a step of a staircase, unless the profile's is shorter.
    pub stair: Span,
}

impl Depth {
    /// Under a minute: shapes and the verdict's direction.
    pub(crate) fn quick() -> Self {
        Self { rounds: 6, factors: vec![1.0, 2.0, 5.0, 10.0, 20.0], stretch: 1, stair: Span::from_millis(400) }
    }

    /// Windows long enough for a real broker, whose batches and flushes take milliseconds.
    pub(crate) fn stretch_to_live(&mut self, window: Span) {
        self.stretch = u32::try_from(LIVE_WINDOW.0.div_ceil(window.0.max(1))).unwrap_or(u32::MAX).max(self.stretch);
        self.stair = Span::from_secs(1);
    }

    /// Ten minutes: intervals on every row's response time.
    pub(crate) fn thorough() -> Self {
        Self { rounds: 12, factors: vec![1.0, 2.0, 5.0, 10.0, 20.0], stretch: 8, stair: Span::from_secs(4) }
    }
}

/// The rows of a comparison: each backend once, then the two controls. The second A/A row repeats the first backend.
pub(crate) fn rows(urls: &[String]) -> Vec<Row> {
    let mut rows = Vec::new();
    for url in urls {
        let same = urls.iter().filter(|other| plain_name(other) == plain_name(url)).count();
        let label = if same > 1 { url.clone() } else { label(url).to_owned() };
        rows.push(Row { label, url: url.clone() });
    }
    if let Some(first) = rows.first().cloned() {
        rows.push(Row { label: format!("{}{AGAIN_MARK}", first.label), url: first.url });
    }
    if !urls.iter().any(|url| plain_name(url) == "null") {
        rows.push(Row { label: "null".to_owned(), url: "null".to_owned() });
    }
    rows
}

/// Refuses a backend that is named twice.
pub(crate) fn each_once(urls: &[String]) -> anyhow::Result<()> {
    match urls.iter().enumerate().find(|(n, url)| urls[..*n].contains(url)) {
        None => Ok(()),
        Some((_, twice)) => Err(BadInput::error(format!("--backend {twice} is given twice; name it once"))),
    }
}

/// The rows of a search for capacity: each backend once, then the harness's own ceiling.
pub(crate) fn rows_searched(urls: &[String]) -> Vec<Row> {
    rows(urls).into_iter().filter(|row| !row.label.ends_with(AGAIN_MARK)).collect()
}

/// Each backend once, without controls.
pub(crate) fn rows_only(urls: &[String]) -> Vec<Row> {
    let mut rows = rows(urls);
    rows.truncate(urls.len());
    rows
}

/// The rows of a comparison without controls, numbered.
pub(crate) fn rows_alone(urls: &[String]) -> Vec<Row> {
    let row = |(n, url): (usize, &String)| Row { label: format!("{} ({})", label(url), n + 1), url: url.clone() };
    urls.iter().enumerate().map(row).collect()
}

/// The row of a run by itself.
pub(crate) fn single(url: &str) -> Row {
    Row { label: label(url).to_owned(), url: url.to_owned() }
}

/// What a row is called: a model as it was asked for, as each parameter makes another model of it; a real broker by its plain name, as
/// its URL is an address.
fn label(url: &str) -> &str {
    if LiveUrl::is_meant(url) { plain_name(url) } else { url }
}

fn plain_name(url: &str) -> &str {
    match Backend::parse(url) {
        Ok(Backend::Live(live)) => live.scheme.name(),
        Ok(Backend::Embedded(_)) | Err(_) => url.split(['?', ':']).next().unwrap_or(url),
    }
}

/// Every visit in the order in which it is made: rounds in an order drawn from `seed`, then one staircase for each row but the
/// second A/A row.
pub(crate) fn visits(rows: &[Row], depth: &Depth, seed: u64) -> Vec<Visit> {
    let mut visits = Vec::new();
    for round in 0..depth.rounds {
        for row in shuffled(rows.len(), seed, round) {
            visits.push(Visit { row, point: Point::Visit { round } });
        }
    }
    for (row, _) in rows.iter().enumerate().filter(|(_, row)| !row.label.ends_with(AGAIN_MARK)) {
        for (step, &factor) in depth.factors.iter().enumerate() {
            visits.push(Visit { row, point: Point::Stair { step: step as u32, factor } });
        }
    }
    visits
}

/// The numbers below `count` in an order that seed and round fix (Fisher and Yates).
pub(crate) fn shuffled(count: usize, seed: u64, round: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed ^ (u64::from(round) << 32) ^ 0x6272_6f6b_6572_6c61;
    for last in (1..count).rev() {
        state = mix(state);
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["log", "queue", "shard", "direct"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_comparison_has_both_controls_and_visits_every_row_once_a_round() {
        let rows = rows(&names());
        let labels: Vec<_> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["log", "queue", "shard", "direct", "log (again)", "null"]);
        let visits = visits(&rows, &Depth::quick(), 1);
        assert_eq!(visits.len(), 6 * 6 + 5 * 5);
        for round in 0..6 {
            let mut seen: Vec<_> =
                visits.iter().filter(|visit| visit.point == Point::Visit { round }).map(|visit| visit.row).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5], "round {round}");
        }
    }

    #[test]
    fn the_order_comes_from_the_seed_and_differs_between_rounds() {
        assert_eq!(shuffled(6, 7, 3), shuffled(6, 7, 3));
        let orders: Vec<_> = (0..6).map(|round| shuffled(6, 7, round)).collect();
        assert!(orders.iter().any(|order| *order != orders[0]));
        assert_ne!(orders, (0..6).map(|round| shuffled(6, 8, round)).collect::<Vec<_>>());
    }

    #[test]
    fn a_model_is_labelled_as_it_was_asked_for_and_a_broker_by_its_name() {
        let rows = rows(&["queue?as=sqs-fifo".to_owned(), "kafka://127.0.0.1:1?acks=1".to_owned()]);
        let labels: Vec<_> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["queue?as=sqs-fifo", "kafka", "queue?as=sqs-fifo (again)", "null"]);
        assert_eq!(single("log?as=kafka").label, "log?as=kafka");
    }

    #[test]
    fn two_settings_of_one_backend_keep_their_urls_apart() {
        let rows = rows(&["log?partitions=1".to_owned(), "log?partitions=8".to_owned()]);
        assert_eq!(rows[0].label, "log?partitions=1");
        assert_eq!(rows[2].label, "log?partitions=1 (again)");
    }
}
