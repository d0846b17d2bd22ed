//! `brokerlab compare`, the main job: every row under one workload and one contract, rounds of visits in random order with two
//! controls, then a staircase of load for each row; a table, a verdict, a page and a result file.

use brokerlab_reports::result::Command;
use clap::Args;

use crate::args::RowsArgs;
use crate::exit::{BadInput, Exit};
use crate::finish::finish;
use crate::plan::{self, Depth, Row};
use crate::session::Session;
use crate::task::Task;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  brokerlab compare
  brokerlab compare --profile fraud-detection --backend log --backend queue --contract per-key,fsync
  brokerlab compare --rate 50k/s --size 1KiB --consumers 8 --work 100us --thorough
  brokerlab compare --backend kafka://127.0.0.1:29092 --backend 'amqp://127.0.0.1:25672?queue=quorum' --backend log

Exit codes: 0 done, whoever wins; 3 a contract was broken, or no comparable row meets the objectives; 4 the row that --require
names is not valid or is saturated; 1 failure or cut short; 2 bad input.")]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// Ten minutes instead of one: longer visits, more rounds, intervals.
    #[arg(long)]
    thorough: bool,
    /// Only the rows given, the same one twice if asked so: no controls, no staircases. For checking the rule itself.
    #[arg(long, hide = true)]
    alone: bool,
    /// Makes one row decisive: exit code 4 when it is not valid or is saturated.
    #[arg(long, value_name = "BACKEND")]
    require: Option<String>,
}

pub(crate) fn compare(args: &CompareArgs) -> anyhow::Result<Exit> {
    let urls = args.rows.urls();
    if let Some(required) = &args.require
        && !urls.contains(required)
    {
        return Err(BadInput::error(format!("--require {required}: it is not among the backends that are compared")));
    }
    if !args.alone {
        plan::each_once(&urls)?;
    }
    let mut session = Session::begin_rows(Command::Compare, &args.rows, &urls)?;
    let kept = session.keepers(&urls)?;
    if let Some(required) = args.require.as_ref().filter(|required| !kept.contains(required)) {
        return Err(BadInput::error(format!(
            "--require {required}: it can't keep the contract, so there is no row to decide by"
        )));
    }
    session.fixed_cases(&kept)?;
    let mut depth = if args.thorough { Depth::thorough() } else { Depth::quick() };
    let rows = if args.alone {
        depth.factors.clear();
        plan::rows_alone(&kept)
    } else {
        session.note_consumers_of("staircases");
        session.with_fitting_control(plan::rows(&kept), &kept)
    };
    if session.is_live() && !args.thorough && args.rows.profile.duration.is_none() {
        depth.stretch_to_live(session.window());
    }
    if !args.thorough && args.rows.profile.duration.is_none() {
        session.note_if_longer_than_a_minute(&rows, &depth);
    }
    session.warm_up(&rows)?;
    make_visits(&mut session, &rows, &depth)?;
    finish(session, &args.rows.output, required_label(&rows, args.require.as_deref()))
}

/// The label of the required row: rows are judged by label, and a real broker is labelled by its plain name.
fn required_label<'r>(rows: &'r [Row], required: Option<&str>) -> Option<&'r str> {
    let required = required?;
    rows.iter().find(|row| row.url == required).map(|row| row.label.as_str())
}

fn make_visits(session: &mut Session, rows: &[Row], depth: &Depth) -> anyhow::Result<()> {
    let visits = plan::visits(rows, depth, session.seed());
    session.expect(visits.len() as u64);
    for visit in visits {
        let task = Task::of(&rows[visit.row], visit.point, depth, &session.profile);
        if !session.made(&rows[visit.row], &task)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_backend_is_found_by_its_label() {
        let rows = plan::rows(&["kafka://h:1?acks=1".to_owned(), "queue".to_owned()]);
        assert_eq!(required_label(&rows, Some("kafka://h:1?acks=1")), Some("kafka"));
        assert_eq!(required_label(&rows, Some("queue")), Some("queue"));
        assert_eq!(required_label(&rows, None), None);
    }
}
