//! `brokerlab sweep`: every point of a grid or list over profile fields with every backend, interleaved over rounds, resumable; a
//! table, a page and a result file with one cell each. It names no winner.
//!
//! Leaves out reading the grid or list (`points`) and which cells of an earlier file count (`resume`).

mod points;
mod resume;

use brokerlab_reports::result::Command;
use brokerlab_workloads::measurement::Point;
use brokerlab_workloads::profile::Profile;
use clap::Args;

use crate::args::RowsArgs;
use crate::exit::{BadInput, Exit};
use crate::finish::finish;
use crate::plan::{self, Row};
use crate::session::Session;
use crate::task::Task;
use points::{Settings, Source};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  brokerlab sweep --backend log --backend queue --vary arrivals.rate=5k/s,20k/s,80k/s --vary 'groups.*.members=1,4'
  brokerlab sweep --backend log --vary lanes=1,4,16 --rounds 5 --resume     # goes on where it was interrupted
  brokerlab sweep --backend shard --list points.csv                        # a column a field, a line a point

Several --vary make a grid. A list in CSV has the fields' paths in its first line; one in TOML has a [[points]] for each point.
A value with a comma is quoted: --vary 'contract=\"per-key,fsync\",\"none\"'. Exit codes: 0 done; 3 a contract was broken;
1 failure or cut short; 2 bad input.")]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// A field of the profile and its values; short forms (rate, size, consumers …) are known too. Repeatable: a grid.
    #[arg(long, value_name = "PATH=V1,V2,…")]
    vary: Vec<String>,
    /// A list of points in a TOML or CSV file.
    #[arg(long, value_name = "FILE", conflicts_with = "vary")]
    list: Option<std::path::PathBuf>,
    /// How often every point is visited with every backend, each time in another order.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Goes on with OUT/results.json: cells that are in it are not made again.
    #[arg(long)]
    resume: bool,
}

/// One cell to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    row: usize,
    point: usize,
    round: u32,
}

/// A point with its checked profile.
#[derive(Debug)]
struct Checked {
    settings: Settings,
    profile: Profile,
}

pub(crate) fn sweep(args: &SweepArgs) -> anyhow::Result<Exit> {
    let source = match &args.list {
        Some(path) => points::listed(path)?,
        None => points::grid(&args.vary)?,
    };
    let urls = args.rows.urls();
    plan::each_once(&urls)?;
    let mut session = Session::begin_rows(Command::Sweep, &args.rows, &urls)?;
    let points = checked(&session, args, &source)?;
    let rows = plan::rows_only(&urls);
    let mut due = Vec::new();
    for (row, of) in rows.iter().enumerate() {
        for (point, checked) in points.iter().enumerate() {
            if session.keeps(&of.url, &checked.profile)? {
                due.extend((0..args.rounds).map(|round| Due { row, point, round }));
            }
        }
    }
    if due.is_empty() {
        let contracts: Vec<_> = points.iter().map(|point| point.profile.contract).collect();
        return Err(session.nobody_keeps(&contracts));
    }
    if args.resume {
        session.replaces = false;
        resume::take(&mut session, &args.rows.output.out, &rows, &points, &mut due)?;
    }
    let visited = |at: &usize| due.iter().any(|due| due.row == *at);
    session.warm_up(&(0..rows.len()).filter(visited).map(|at| rows[at].clone()).collect::<Vec<_>>())?;
    make(&mut session, args, &rows, &points, &due)?;
    finish(session, &args.rows.output, None)
}

/// Each point's profile, checked as `--set` is.
fn checked(session: &Session, args: &SweepArgs, source: &Source) -> anyhow::Result<Vec<Checked>> {
    let mut points: Vec<Checked> = Vec::new();
    for settings in &source.points {
        let sets: Vec<_> = session.sets.iter().cloned().chain(settings.as_sets()).collect();
        let profile =
            Profile::load_with(&args.rows.profile.profile, &sets).map_err(|error| source.blame(error, settings))?;
        if profile.is_closed_loop() != session.profile.is_closed_loop() {
            return Err(BadInput::error(format!(
                "{}: some points are a closed loop and some are not, and those share no table; sweep them apart, each with an --out of \
                 its own",
                source.name
            )));
        }
        if points.iter().any(|known| known.settings == *settings) {
            return Err(BadInput::error(format!(
                "{}: the point {settings} is there twice; write it once",
                source.name
            )));
        }
        points.push(Checked { settings: settings.clone(), profile });
    }
    Ok(points)
}

/// Makes what is due, round by round, each in an order drawn from the seed; the file is written after every cell.
fn make(session: &mut Session, args: &SweepArgs, rows: &[Row], points: &[Checked], due: &[Due]) -> anyhow::Result<()> {
    session.expect(due.len() as u64);
    for due in shuffled(due, session.profile.seed) {
        let (row, point) = (&rows[due.row], &points[due.point]);
        let task = Task {
            what: format!("round {} · {} · {}", due.round + 1, row.label, point.settings),
            point: Point::Sweep { point: due.point as u32, round: due.round, settings: point.settings.0.clone() },
            sets: point.settings.as_sets().collect(),
            load_factor: 1.0,
            replication: due.round,
            profile: Some(point.profile.clone()),
        };
        if !session.made(row, &task)? {
            break;
        }
        session.checkpoint(&args.rows.output.out)?;
    }
    Ok(())
}

/// Round by round, within a round in an order that the seed fixes.
fn shuffled(due: &[Due], seed: u64) -> Vec<Due> {
    let rounds = due.iter().map(|due| due.round).max().map_or(0, |last| last + 1);
    let mut ordered = Vec::with_capacity(due.len());
    for round in 0..rounds {
        let of_round: Vec<&Due> = due.iter().filter(|due| due.round == round).collect();
        ordered.extend(plan::shuffled(of_round.len(), seed, round).into_iter().map(|at| of_round[at].clone()));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_made_once_round_by_round_and_the_seed_fixes_the_order() {
        let due: Vec<Due> = (0..3)
            .flat_map(|round| (0..2).flat_map(move |row| (0..4).map(move |point| Due { row, point, round })))
            .collect();
        let ordered = shuffled(&due, 7);
        assert_eq!(ordered.len(), due.len());
        assert!(due.iter().all(|cell| ordered.contains(cell)));
        assert!(ordered.is_sorted_by_key(|cell| cell.round));
        assert_eq!(ordered, shuffled(&due, 7));
        assert_ne!(ordered, shuffled(&due, 8));
        assert_ne!(ordered, due);
    }
}
