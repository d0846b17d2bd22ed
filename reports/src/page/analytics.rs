//! *Windows over the stream*: what each row's analytics found, and whether a batch computation over the schedule finds the same.
//!
//! Leaves out the results themselves, which a result file does not hold.

use maud::html;

use super::parts::{Cell, Panel, Table, View};
use crate::analytics::{Found, of};
use crate::figures;

pub(super) fn panel(view: &View) -> Option<Panel> {
    let mut table = Table::new(
        "Windowed analytics",
        "by event time and key, over all visits",
        &[
            "Row",
            "Group",
            "Windows",
            "Against the batch computation",
            "Messages",
            "Windows of keys",
            "Late",
            "Late for some",
            "Updates",
            "Withdrawn",
        ],
    );
    let (mut equal, mut all) = (0, 0);
    for row in view.without_again() {
        for found in of(&row.judged.row) {
            all += 1;
            equal += usize::from(found.is_equal());
            table.row(row.label(), row.is_control(), cells(&found));
        }
    }
    if all == 0 {
        return None;
    }
    let sentence = if equal == all {
        "Every row's windows are exactly those of a batch computation over the schedule, less what came too late."
    } else {
        "Not every row's windows are those of a batch computation over the schedule: the table says where they differ first."
    };
    let body = html! { (table.markup(view)) };
    let question = "Do windows over the stream find what a batch would?";
    Some(Panel { id: "analytics", question, sentence: sentence.to_owned(), body })
}

fn cells(found: &Found) -> Vec<Cell> {
    let figure = |n: u64| Cell::Figure(figures::count(n));
    let sum = &found.sum;
    let verdict = found.verdict();
    vec![
        Cell::Words(found.group.to_owned()),
        Cell::Words(sum.windows.clone()),
        if found.is_equal() {
            Cell::Yes(verdict)
        } else if sum.difference.is_some() {
            Cell::No(verdict)
        } else {
            Cell::Open(verdict)
        },
        figure(sum.events),
        figure(sum.results),
        figure(sum.late),
        figure(sum.partly_late),
        figure(sum.updates),
        figure(sum.withdrawn),
    ]
}
