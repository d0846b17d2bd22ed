//! `brokerlab capacity`: the highest rate of each backend that meets the profile's objectives, by bracketing and bisection over
//! probes in processes of their own; a table, a page with the load–response curve, and a result file.
//!
//! Leaves out how the search decides, which is a state machine of `brokerlab-reports`.

use brokerlab_model::Span;
use brokerlab_reports::capacity::{Limits, Next, Search, messages_needed, outcome};
use brokerlab_reports::result::Command;
use brokerlab_workloads::measurement::{Point, World};
use brokerlab_workloads::profile::parse_span;
use clap::Args;

use crate::args::RowsArgs;
use crate::backend::Backend;
use crate::exit::{BadInput, Exit};
use crate::finish::finish;
use crate::plan::{self, Row};
use crate::session::Session;
use crate::task::Task;

/// A probe of an embedded backend: nothing warms up in it, and a backlog that grows shows within seconds.
const EMBEDDED_PROBE: Span = Span::from_secs(5);
/// A probe of a broker with a memory of its own, caches and a flush every few seconds.
const LIVE_PROBE: Span = Span::from_secs(30);
/// A soak long enough for a compaction, a flush and a rebalance to fall into it.
const SOAK: Span = Span::from_secs(600);
/// The share of the answer at which a soak runs.
const SOAK_SHARE: f64 = 0.8;
/// The tightest and the widest interval that may be asked.
const PRECISIONS: std::ops::RangeInclusive<f64> = 0.01..=0.5;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  brokerlab capacity --backend log --backend queue
  brokerlab capacity --profile fraud-detection --backend log --precision 5% --confirm --confirm-for 2min
  brokerlab capacity --backend shard --lanes 100 --probe 1s     # lanes are held; the default is what the profile's rate needs
  brokerlab capacity --backend kafka://127.0.0.1:29092 --rate 2k/s --precision 25%     # some twenty probes of 30 s and warm-up

A rate passes when two of three probes meet the objectives, keep the contract and are not saturated. The consumers' work is divided
by the load, as if consumers were added. A search takes some ten to twenty probes of each backend and of `null`, the harness's own ceiling:
with 5 s each about three minutes for one backend and eight for four; --probe and --precision shorten it. Exit codes: 0 an answer for every backend; 3 a contract was broken, or a backend meets the
objectives at no rate that was tried (\"below\") or not in its soak; 4 the same where not the backend but the machine or the generator
was the reason; 1 failure or cut short; 2 bad input.")]
pub(crate) struct CapacityArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// Window of one probe [default: --duration, or else 5s for an embedded backend and 30s for a broker across the network].
    #[arg(long, value_name = "D")]
    probe: Option<String>,
    /// Ends the search when the lowest rate that failed is no more than this above the highest that passed: 1% to 50%.
    #[arg(long, value_name = "SHARE", default_value = "10%")]
    precision: String,
    /// Soaks each backend at 0.8 of its answer and says whether it held.
    #[arg(long)]
    confirm: bool,
    /// How long a soak is [default: 10min]; implies --confirm.
    #[arg(long, value_name = "D")]
    confirm_for: Option<String>,
}

pub(crate) fn capacity(args: &CapacityArgs) -> anyhow::Result<Exit> {
    let precision = precision(&args.precision)?;
    let probe = args.probe.as_deref().map(|text| span("--probe", text)).transpose()?;
    let soak = args.confirm_for.as_deref().map(|text| span("--confirm-for", text)).transpose()?;
    let urls = args.rows.urls();
    plan::each_once(&urls)?;
    let mut session = Session::begin_rows(Command::Capacity, &args.rows, &urls)?;
    if session.profile.is_closed_loop() {
        return Err(BadInput::error(format!(
            "the arrivals of profile `{}` are a closed loop: its users wait for answers, so it asks no rate of a backend that could be \
             too high; take a profile with open arrivals, or lay them over this one with --set \
             'arrivals={{ kind = \"poisson\", rate = \"1k/s\" }}'",
            session.profile.name
        )));
    }
    if !session.profile.faults.is_empty() {
        return Err(BadInput::error(format!(
            "profile `{}` declares [[faults]], and a search for capacity asks what a backend carries undisturbed; leave them out with \
             --set 'faults=[]'",
            session.profile.name
        )));
    }
    let kept = session.keepers(&urls)?;
    let rows = session.with_fitting_control(plan::rows_searched(&kept), &kept);
    session.note_consumers_of("probes");
    session.result.notes.push(
        "lanes are held at every rate: those of the backend's parameters or --lanes, or else what the profile's own rate needs"
            .to_owned(),
    );
    let windows = Windows {
        probe: probe.or(args.rows.profile.duration.is_some().then_some(session.profile.duration)),
        soak: soak.unwrap_or(SOAK),
    };
    let shortest = rows.iter().map(|row| windows.probe(row)).min().unwrap_or(EMBEDDED_PROBE);
    let lowest_per_s = messages_needed(&session.result.objectives) / shortest.as_secs_f64();
    let limits = Limits::around(session.profile.mean_rate(), lowest_per_s, precision);
    session.result.search = Some(limits);
    session.warm_up(&rows)?;
    let mut searches = vec![Search::new(limits); rows.len()];
    let complete = search(&mut session, &rows, &mut searches, &windows)?;
    if complete && (args.confirm || soak.is_some()) {
        confirm(&mut session, &rows, &searches, &windows)?;
    }
    finish(session, &args.rows.output, None)
}

/// How long visits are.
#[derive(Clone, Copy, Debug)]
struct Windows {
    probe: Option<Span>,
    soak: Span,
}

impl Windows {
    fn probe(self, row: &Row) -> Span {
        let usual = match Backend::parse(&row.url).map(|backend| backend.world()) {
            Ok(World::Live) => LIVE_PROBE,
            Ok(World::Embedded | World::Simulated) | Err(_) => EMBEDDED_PROBE,
        };
        self.probe.unwrap_or(usual)
    }
}

/// Drives all searches to their ends, one probe of each in turn, in an order drawn from the seed: a disturbance that lasts falls on
/// all rows alike. Whether none was cut short.
fn search(session: &mut Session, rows: &[Row], searches: &mut [Search], windows: &Windows) -> anyhow::Result<bool> {
    let to_come = |searches: &[Search]| searches.iter().map(|search| u64::from(search.probes_left())).sum::<u64>();
    session.expect(to_come(searches));
    for turn in 0.. {
        let mut asked = false;
        for at in plan::shuffled(rows.len(), session.profile.seed, turn) {
            let Next::Probe { rate_per_s, attempt } = searches[at].next() else { continue };
            asked = true;
            let task = probe(session, &rows[at], rate_per_s, attempt, windows);
            if !session.made(&rows[at], &task)? {
                return Ok(false);
            }
            let Some(cell) = session.result.cells.last() else { return Ok(false) };
            let Some((passed, achieved_per_s)) = outcome(cell, &session.result.objectives)? else {
                session.cut_short("interrupted");
                return Ok(false);
            };
            searches[at].record(rate_per_s, passed, Some(achieved_per_s));
            session.expect_in_all(session.result.cells.len() as u64 + to_come(searches));
        }
        if !asked {
            break;
        }
    }
    Ok(true)
}

fn probe(session: &Session, row: &Row, rate_per_s: f64, attempt: u32, windows: &Windows) -> Task {
    let factor = rate_per_s / session.profile.mean_rate();
    let mut task = Task {
        what: format!("{} · {rate_per_s}/s, try {}", row.label, attempt + 1),
        point: Point::Probe { rate_per_s, factor, attempt },
        sets: Vec::new(),
        load_factor: factor,
        replication: attempt,
        profile: None,
    };
    task.lasts(windows.probe(row), &session.profile);
    task
}

/// Runs each backend at a share of its answer for long.
fn confirm(session: &mut Session, rows: &[Row], searches: &[Search], windows: &Windows) -> anyhow::Result<()> {
    for (row, search) in rows.iter().zip(searches).filter(|(row, _)| row.label != "null") {
        let Some(found) = search.highest_passed() else { continue };
        let rate_per_s = (SOAK_SHARE * found.rate_per_s * 10.0).round() / 10.0;
        let factor = rate_per_s / session.profile.mean_rate();
        let mut task = Task {
            what: format!("{} · soak at {rate_per_s}/s for {}", row.label, windows.soak),
            point: Point::Soak { rate_per_s, factor },
            sets: Vec::new(),
            load_factor: factor,
            replication: 0,
            profile: None,
        };
        task.lasts(windows.soak, &session.profile);
        session.expect_in_all(session.result.cells.len() as u64 + 1);
        if !session.made(row, &task)? {
            break;
        }
    }
    Ok(())
}

fn span(flag: &str, text: &str) -> anyhow::Result<Span> {
    let span = parse_span(text).map_err(|error| BadInput::error(format!("{flag} {text}: {error}")))?;
    if span < Span::from_millis(50) {
        return Err(BadInput::error(format!("{flag} {text}: too short to see a backlog grow; give 50ms or more")));
    }
    Ok(span)
}

fn precision(text: &str) -> anyhow::Result<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse(),
    };
    share.ok().filter(|share| PRECISIONS.contains(share)).ok_or_else(|| {
        BadInput::error(format!("--precision {text}: not a share between 1% and 50%; write --precision 10%"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_is_a_share_or_per_cent() {
        assert!((precision("5%").unwrap() - 0.05).abs() < 1e-12);
        assert!((precision("0.25").unwrap() - 0.25).abs() < 1e-12);
        for wrong in ["0%", "10", "ten", "", "-5%", "NaN"] {
            assert!(precision(wrong).unwrap_err().to_string().contains("write --precision 10%"), "{wrong}");
        }
    }

    #[test]
    fn a_probe_of_a_broker_across_the_network_is_longer() {
        let windows = Windows { probe: None, soak: Span::from_secs(600) };
        let row = |url: &str| Row { label: url.to_owned(), url: url.to_owned() };
        assert_eq!(windows.probe(&row("log?partitions=8")), Span::from_secs(5));
        assert_eq!(windows.probe(&row("kafka://127.0.0.1:9092")), Span::from_secs(30));
        let shortened = Windows { probe: Some(Span::from_millis(200)), ..windows };
        assert_eq!(shortened.probe(&row("kafka://127.0.0.1:9092")), Span::from_millis(200));
    }
}
