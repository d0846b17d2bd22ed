//! The table that a command prints: validity first, then a line a row, then the verdict.
//!
//! Leaves out writing it anywhere, and finding out whether the terminal shows colour.

use brokerlab_workloads::record::DecodeError;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};

use crate::analytics;
use crate::capacity::Answer;
use crate::figures;
use crate::given_up;
use crate::live::Strength;
use crate::page::trust_sentence;
use crate::result::{Command, ResultFile};
use crate::rows::{Role, Row};
use crate::sample::{Sample, Shown};
use crate::sweep;
use crate::verdict::{Analysis, Judged, median_text};

/// Whether the text may carry terminal colours. The caller looks at NO_COLOR and at whether it writes to a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Plain lines.
    #[default]
    Plain,
    /// Bold and colour.
    Color,
}

/// What a stretch of text stands out as.
#[derive(Clone, Copy)]
enum Tone {
    Bold,
    Good,
    Bad,
    Soft,
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Bold => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Soft => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Color => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// The table of a result with its verdict, lines ended by `\n`. An error means that a stored histogram can't be read.
pub fn table(file: &ResultFile, style: Style) -> Result<String, DecodeError> {
    let a = Analysis::of(file, "")?;
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let head = format!(
        "{} at {} · {} · seed {}",
        file.profile.name,
        figures::trimmed(&figures::rate(file.profile.rate_per_s)),
        file.contract,
        file.seed
    );
    line(&style.paint(Tone::Soft, &head));
    let (tone, word) = if a.valid() && a.saturated_run().is_some() {
        (Tone::Bad, "SATURATED")
    } else if a.valid() && partly(&a) {
        (Tone::Bad, "partly valid")
    } else if a.valid() {
        (Tone::Good, "valid")
    } else {
        (Tone::Bad, "NOT VALID")
    };
    line(&format!("{}  {}", style.paint(tone, word), trust_sentence(&a)));
    if let Some(why) = &file.cut_short {
        line(&format!("{}  {why}", style.paint(Tone::Bad, "CUT SHORT")));
    }
    for refusal in &file.refusals {
        line(&format!("{}  {refusal}", style.paint(Tone::Bad, "refused")));
    }
    line("");
    if !a.rows.is_empty() {
        let text = match file.command {
            Command::Run | Command::Compare => rows(&a),
            Command::Capacity => capacity(&a),
            Command::Sweep => swept(&a),
        };
        for text in text.lines() {
            line(text);
        }
        for j in &a.rows {
            for found in analytics::of(&j.row) {
                let tone = if found.is_equal() { Tone::Soft } else { Tone::Bad };
                line(&format!("{}  {} · {}", style.paint(tone, "analytics"), j.row.label, found.line()));
            }
        }
        if a.is_comparison() {
            line(&style.paint(Tone::Soft, "p99: median of the visits; other quantiles: all visits merged"));
        }
        line("");
    }
    line(&style.paint(Tone::Bold, &a.conclusion.headline));
    for (subject, reason) in &a.conclusion.reasons {
        line(&format!("  {}  {reason}", style.paint(Tone::Soft, &format!("{subject:<13}"))));
    }
    for (n, flip) in a.conclusion.flips.iter().enumerate() {
        let label = if n == 0 { "Would change" } else { "" };
        line(&format!("  {}  {flip}", style.paint(Tone::Soft, &format!("{label:<13}"))));
    }
    if let Some(caveat) = &a.conclusion.caveat {
        line(&style.paint(Tone::Soft, caveat));
    }
    Ok(out)
}

const HEAD: [&str; 11] = [
    "row",
    "contract",
    "lost/dup./reord.",
    "achieved",
    "publish\np50",
    "\np99",
    "end-to-end\np50",
    "\np99",
    "\np99.9",
    "settle\np99",
    "headroom",
];

/// Whether cells that stand apart are valid in part only.
fn partly(a: &Analysis) -> bool {
    a.stands_apart() && a.candidates().flat_map(|j| &j.row.apart).any(|stair| !stair.missed_checks().is_empty())
}

/// A table whose first `left` columns and last one are words, the others figures.
fn plain(head: &[&str], left: usize, lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let last = head.len() - 1;
    let cell = |n: usize, text: &str| {
        let align = if n < left || n == last { CellAlignment::Left } else { CellAlignment::Right };
        Cell::new(text).set_alignment(align)
    };
    table.set_header(head.iter().enumerate().map(|(n, text)| cell(n, text)));
    for line in lines {
        table.add_row(line.iter().enumerate().map(|(n, text)| cell(n, text)));
    }
    table.to_string()
}

/// A line a backend: the highest rate that passed, between what, how far above the profile, what held it.
fn capacity(a: &Analysis) -> String {
    let head = ["row", "highest rate", "interval", "× profile", "probes", "disturbed", "held by"];
    let line = |answer: &Answer| {
        vec![
            answer.row.clone(),
            answer.text(),
            answer.interval(),
            answer.factor.map_or_else(|| "–".to_owned(), figures::factor),
            answer.probes.to_string(),
            answer.probes_not_valid.to_string(),
            answer.held_by_short().to_owned(),
        ]
    };
    plain(&head, 1, a.answers.iter().map(line))
}

/// A line for every point with every backend.
fn swept(a: &Analysis) -> String {
    let head = ["point", "row", "achieved", "end-to-end\np99", "range", "valid", "outcome"];
    let places = sweep::places(a.rows.iter().map(|j| &j.row));
    let line = |place: &sweep::Place| {
        let achieved = sweep::median_achieved_per_s(place.rounds.iter().copied());
        vec![
            sweep::settings_text(place.settings),
            place.row.label.clone(),
            achieved.map_or_else(|| "–".to_owned(), figures::rate),
            place.p99_text(),
            place.p99_range(),
            format!("{}/{}", place.valid(), place.rounds.len()),
            place.outcome(),
        ]
    };
    plain(&head, 2, places.iter().map(line))
}

fn rows(a: &Analysis) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let last = HEAD.len() - 1;
    let cell = |n: usize, text: &str| {
        let left = n < 3 || n == last;
        Cell::new(text).set_alignment(if left { CellAlignment::Left } else { CellAlignment::Right })
    };
    table.set_header(HEAD.iter().enumerate().map(|(n, text)| cell(n, text)));
    for j in &a.rows {
        table.add_row(texts(a, j).iter().enumerate().map(|(n, text)| cell(n, text)));
    }
    table.to_string()
}

fn promise(row: &Row) -> String {
    let word = match (row.kept(), Strength::of(row)) {
        // Nothing was due, so nothing was kept.
        (true, _) if row.counts.due == 0 => "–".to_owned(),
        (false, _) => "BROKEN".to_owned(),
        (true, Strength::AsAsked) => "kept".to_owned(),
        (true, Strength::Stronger(axes)) => format!("kept, and {}", axes.join(", ")),
        (true, Strength::Weaker(_)) => "weaker than asked".to_owned(),
    };
    format!("{word}{}", given_up::short(row))
}

fn texts(a: &Analysis, j: &Judged) -> [String; 11] {
    let row = &j.row;
    let limit = row.followed();
    let saturated = row.saturated();
    let shown = |sample: &Sample, q: f64| {
        if saturated { "–".to_owned() } else { sample.shown(q).text(limit) }
    };
    let (response, publish) = (&row.end_to_end.response, &row.publish.response);
    // One statistic for all three: a p99 that is merged can't be held against one that is a median.
    let p99_of = |sample: &Sample, median_ns: Option<f64>| {
        let found = sample.shown(0.99);
        let enough = !matches!(found, Shown::TooFew | Shown::Empty);
        if saturated {
            "–".to_owned()
        } else if a.is_comparison() && enough {
            median_text(median_ns, limit)
        } else {
            found.text(limit)
        }
    };
    let p99 = if saturated { "saturated".to_owned() } else { p99_of(response, j.median_p99_ns) };
    let achieved = if saturated {
        format!("{} of {}", figures::rate(row.achieved_per_s()), figures::rate(row.offered_per_s()))
    } else if row.counts.due == 0 {
        "–".to_owned()
    } else {
        figures::rate(row.achieved_per_s())
    };
    let headroom = match (&j.headroom, row.role, saturated) {
        (_, _, true) => match row.limited_by_setting() {
            Some(setting) => setting,
            None if row.consumers_behind().is_some() => "consumers fell behind".to_owned(),
            None => format!("backlog {}", figures::count(row.counts.backlog_end)),
        },
        (_, Role::Ceiling, _) => "the harness's own ceiling".to_owned(),
        (Some(headroom), Role::Candidate | Role::Again, _) => headroom.text(),
        (None, _, _) => "–".to_owned(),
    };
    [
        row.label.clone(),
        promise(row),
        format!("{}/{}/{}", row.check.lost, row.check.duplicated, row.check.reordered),
        achieved,
        shown(publish, 0.5),
        p99_of(publish, row.median_ns(|visit| visit.publish_p99)),
        shown(response, 0.5),
        p99,
        shown(response, 0.999),
        p99_of(&row.settle.response, row.median_ns(|visit| visit.settle_p99)),
        headroom,
    ]
}
