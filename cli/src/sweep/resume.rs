//! Going on with a sweep: which cells of the file in the output folder count, and why a file may not be gone on with.
//!
//! Leaves out making the cells that are still due.

use std::path::Path;

use brokerlab_reports::result::{Command, RESULT_FILE_NAME, ResultFile};
use brokerlab_workloads::measurement::{Measurement, Point};

use super::{Checked, Due};
use crate::exit::BadInput;
use crate::plan::Row;
use crate::session::Session;

/// Takes over the cells of `out`'s result file and takes them out of what is due. A file that is not there yet is no fault.
pub(super) fn take(
    session: &mut Session,
    out: &Path,
    rows: &[Row],
    points: &[Checked],
    due: &mut Vec<Due>,
) -> anyhow::Result<()> {
    let path = out.join(RESULT_FILE_NAME);
    if !path.exists() {
        session.say(&format!("--resume: there is no {} yet, so this begins it", path.display()));
        return Ok(());
    }
    let before = ResultFile::read(&path).map_err(BadInput::error)?;
    if let Some(differs) = differs(&before, &session.result) {
        return Err(BadInput::error(format!(
            "--resume: {} differs from what is asked now in its {differs}; ask for the same, or name another folder with --out",
            path.display()
        )));
    }
    for mut cell in before.cells.into_iter().filter(|cell| cell.cut_short.is_none()) {
        let Some(at) = due.iter().position(|due| is(&cell, due, rows, points)) else {
            return Err(BadInput::error(format!(
                "--resume: {} holds a cell that is not asked for now ({}); ask for at least the same points, backends and rounds, or name \
                 another folder with --out",
                path.display(),
                cell.row
            )));
        };
        if let (Some(live), Some(now)) = (&cell.live, session.server_at(&cell.backend_url))
            && live.server != now
        {
            return Err(BadInput::error(format!(
                "--resume: {} was measured with {}, and {now} answers at {} now; name another folder with --out",
                path.display(),
                live.server,
                cell.backend_url
            )));
        }
        let found = due.remove(at);
        if let Point::Sweep { point, .. } = &mut cell.point {
            *point = found.point as u32;
        }
        session.result.cells.push(cell);
    }
    let taken = session.result.cells.len();
    session.say(&format!("--resume: {} of {} cells are there", taken, due.len() + taken));
    Ok(())
}

/// What two results differ in so that their cells may not stand in one table.
fn differs(before: &ResultFile, now: &ResultFile) -> Option<&'static str> {
    let same = [
        ("command", before.command == Command::Sweep),
        ("profile", before.profile.toml == now.profile.toml),
        ("seed", before.seed == now.seed),
        ("contract", before.contract == now.contract),
        ("version of brokerlab", before.tool_version == now.tool_version && before.git_revision == now.git_revision),
        ("way of waiting", before.waiting == now.waiting),
        ("machine", before.host == now.host),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

fn is(cell: &Measurement, due: &Due, rows: &[Row], points: &[Checked]) -> bool {
    let (row, of) = (&rows[due.row], &points[due.point].settings.0);
    match &cell.point {
        Point::Sweep { round, settings, .. } => {
            cell.row == row.label && cell.backend_url == row.url && *round == due.round && settings == of
        }
        Point::Visit { .. } | Point::Stair { .. } | Point::Run | Point::Probe { .. } | Point::Soak { .. } => false,
    }
}
