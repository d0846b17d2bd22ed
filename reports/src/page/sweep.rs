//! *What changes with each setting?* Of a sweep: a small chart for each field that was varied, and every point in a table.
//!
//! Names no winner. Leaves out how settings act together beyond what the table shows.

use maud::{Markup, html};

use super::meets::notes;
use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::apart::short_names;
use crate::chart::{Axis, Line, Mark, Plot, Rule};
use crate::figures;
use crate::rows::Stair;
use crate::sweep::{Field, Place, fields, median_achieved_per_s, median_p99_ns, places, settings_text};

/// Values of one field beyond which a tick can't be read any more.
const TICKS: usize = 12;

pub(super) fn panel(view: &View) -> Option<Panel> {
    let rows: Vec<Shown> = view.rows();
    let by_row: Vec<(Shown, Vec<Place>)> = rows.iter().map(|r| (*r, places([&r.judged.row]))).collect();
    let all = places(rows.iter().map(|r| &r.judged.row));
    if all.is_empty() {
        return None;
    }
    let fields = fields(&all);
    let body = html! {
        (legend(&rows))
        @for (n, field) in fields.iter().enumerate() {
            h3 { (field.path) }
            div.charts { (response(view, &by_row, field, n)) (achieved(view, &by_row, field, n)) }
        }
        (table(view, &rows, &all))
        (notes(view))
    };
    Some(Panel {
        id: "sweep",
        question: "What changes with each setting?",
        sentence: sentence(view, &fields, &all),
        body,
    })
}

fn sentence(view: &View, fields: &[Field], all: &[Place]) -> String {
    if let Some(text) = view.not_judged() {
        return text;
    }
    let varied: Vec<String> = fields.iter().map(|f| format!("{} ({} values)", f.path, f.values.len())).collect();
    let rounds = all.iter().map(|place| place.rounds.len()).max().unwrap_or(0);
    let over = if fields.len() > 1 {
        " A chart's mark is the median over all points with that value, whatever else they set."
    } else {
        ""
    };
    format!(
        "{} varied, each point visited in {} in random order; medians are shown and no winner is named.{over}",
        figures::and_list(&varied),
        figures::plural(rounds as u64, "round")
    )
}

/// Cells of a row in which the field has the value.
fn with<'p, 'a>(places: &'p [Place<'p, 'a>], field: &Field, value: &str) -> Vec<&'p Stair<'a>> {
    let has = |place: &&Place| place.settings.iter().any(|s| s.path == field.path && s.value == value);
    places.iter().filter(has).flat_map(|place| place.rounds.iter().copied()).collect()
}

/// One mark a value and row, the median of its cells; none where that is not finite.
fn lines(
    by_row: &[(Shown, Vec<Place>)],
    field: &Field,
    y: fn(&[&Stair]) -> Option<f64>,
    name: fn(f64) -> String,
) -> Vec<Line> {
    let line = |(r, places): &(Shown, Vec<Place>)| {
        let marks = field.values.iter().enumerate().filter_map(|(at, value)| {
            let cells = with(places, field, value);
            let y = y(&cells).filter(|y| y.is_finite())?;
            let carried = cells.iter().filter(|cell| cell.sustained).count();
            let title = format!(
                "{}, {} = {value}: {} (carried in {carried} of {})",
                r.label(),
                field.path,
                name(y),
                cells.len()
            );
            Some(Mark { x: at as f64, y, title, hollow: 2 * carried < cells.len() })
        });
        Line { ident: r.ident, title: r.label().to_owned(), dashed: false, joined: true, marks: marks.collect() }
    };
    by_row.iter().map(line).collect()
}

fn values(field: &Field) -> Axis {
    // Beyond what fits, ticks stand bare at the middle ones.
    let every = field.values.len().div_ceil(TICKS);
    let names: Vec<String> =
        field.values.iter().enumerate().map(|(n, v)| if n % every == 0 { short(v) } else { String::new() }).collect();
    Axis::places(&names)
}

/// A value as a tick can carry it.
fn short(value: &str) -> String {
    if value.chars().count() <= 12 {
        value.to_owned()
    } else {
        format!("{}…", value.chars().take(11).collect::<String>())
    }
}

fn p99_of(cells: &[&Stair]) -> Option<f64> {
    median_p99_ns(cells.iter().copied())
}

fn achieved_of(cells: &[&Stair]) -> Option<f64> {
    median_achieved_per_s(cells.iter().copied())
}

fn response(view: &View, by_row: &[(Shown, Vec<Place>)], field: &Field, n: usize) -> Markup {
    let limit = view.objectives().end_to_end_p99_max_ns().map(|ns| ns as f64);
    let lines = lines(by_row, field, p99_of, figures::duration_f64);
    let seen: Vec<f64> = lines.iter().flat_map(|line| line.marks.iter().map(|mark| mark.y)).collect();
    let plot = Plot {
        id: view.id(&format!("sweep-response-{n}")),
        title: "End-to-end response p99".to_owned(),
        description: format!(
            "Median end-to-end response time at the 99 % quantile against {}; the figures are in the table.",
            field.path
        ),
        x: values(field),
        y: Axis::log(seen.into_iter().chain(limit), figures::duration_f64),
        x_title: field.path.clone(),
        bands: Vec::new(),
        lines,
        bars: Vec::new(),
        rules: limit
            .map(|at| Rule {
                upright: false,
                at,
                label: format!("objective {}", figures::trimmed(&figures::duration_f64(at))),
            })
            .into_iter()
            .collect(),
    };
    figure(&plot, "median; no mark where saturated, hollow where mostly not carried")
}

fn achieved(view: &View, by_row: &[(Shown, Vec<Place>)], field: &Field, n: usize) -> Markup {
    let lines = lines(by_row, field, achieved_of, figures::rate);
    let seen: Vec<f64> = lines.iter().flat_map(|line| line.marks.iter().map(|mark| mark.y)).collect();
    let plot = Plot {
        id: view.id(&format!("sweep-achieved-{n}")),
        title: "Achieved rate".to_owned(),
        description: format!(
            "Median of messages acknowledged per second against {}; the figures are in the table.",
            field.path
        ),
        x: values(field),
        y: Axis::log(seen, figures::rate),
        x_title: field.path.clone(),
        bands: Vec::new(),
        lines,
        bars: Vec::new(),
        rules: Vec::new(),
    };
    figure(&plot, "median")
}

fn table(view: &View, rows: &[Shown], all: &[Place]) -> Markup {
    let mut table = Table::new(
        "Every point",
        "medians over rounds",
        &["Point", "Backend", "Asked", "Achieved", "End-to-end p99", "Range", "Valid", "Outcome"],
    );
    for place in all {
        let control = rows.iter().any(|r| std::ptr::eq(&raw const r.judged.row, place.row) && r.is_control());
        let asked = place.rounds.first().map_or(0.0, |stair| stair.offered_per_s);
        let (valid, of) = (place.valid(), place.rounds.len());
        let missed = place.missed_checks();
        let validity = if missed.is_empty() {
            format!("{valid} of {of}")
        } else {
            format!("{valid} of {of}: {}", short_names(&missed))
        };
        let achieved = median_achieved_per_s(place.rounds.iter().copied());
        table.row(
            &settings_text(place.settings),
            control,
            vec![
                Cell::Words(place.row.label.clone()),
                Cell::Figure(figures::rate(asked)),
                Cell::Figure(achieved.map_or_else(|| "–".to_owned(), figures::rate)),
                Cell::Figure(place.p99_text()),
                Cell::Figure(place.p99_range()),
                if valid == of { Cell::Yes(validity) } else { Cell::Open(validity) },
                if place.carried() == of { Cell::Yes(place.outcome()) } else { Cell::No(place.outcome()) },
            ],
        );
    }
    table.markup(view)
}
