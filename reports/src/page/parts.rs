//! What every panel is made of: the rows in view, how each looks, tables, figures and legends.
//!
//! Leaves out what a panel says.

use maud::{Markup, PreEscaped, html};

use crate::chart::{Ident, Plot};
use crate::figures;
use crate::reasons::NOT_JUDGED;
use crate::result::Objectives;
use crate::rows::Role;
use crate::verdict::{Analysis, Judged};

/// The rows that one set of panels shows, of one result or of several.
#[derive(Debug)]
pub(super) struct View<'v, 'a> {
    pub(super) analyses: Vec<&'v Analysis<'a>>,
    part: usize,
}

/// A row with the file that it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'v, 'a> {
    pub(super) judged: &'v Judged<'a>,
    pub(super) analysis: &'v Analysis<'a>,
    pub(super) ident: Ident,
}

impl<'v, 'a> View<'v, 'a> {
    pub(super) fn new(analyses: &[&'v Analysis<'a>], part: usize) -> Self {
        Self { analyses: analyses.to_vec(), part }
    }

    /// The first result: what is the same for all is read from it.
    pub(super) fn first(&self) -> &'v Analysis<'a> {
        self.analyses[0]
    }

    /// An element's id, unique also when there are several sets of panels.
    pub(super) fn id(&self, name: &str) -> String {
        if self.part == 0 { name.to_owned() } else { format!("{name}-{}", self.part + 1) }
    }

    /// Text that keeps labels unique when there are several sets of panels.
    pub(super) fn suffix(&self) -> &'static str {
        if self.part == 0 { "" } else { " (closed loop)" }
    }

    /// All rows, candidates first in each file.
    pub(super) fn rows(&self) -> Vec<Shown<'v, 'a>> {
        let mut rows = Vec::new();
        for (n, analysis) in self.analyses.iter().enumerate() {
            for (judged, ident) in analysis.rows.iter().zip(idents(analysis, n)) {
                rows.push(Shown { judged, analysis, ident });
            }
        }
        rows
    }

    /// Rows that are candidates.
    pub(super) fn candidates(&self) -> Vec<Shown<'v, 'a>> {
        self.rows().into_iter().filter(|r| r.judged.row.role == Role::Candidate).collect()
    }

    /// Rows without the second of two identical ones.
    pub(super) fn without_again(&self) -> Vec<Shown<'v, 'a>> {
        self.rows().into_iter().filter(|r| r.judged.row.role != Role::Again).collect()
    }

    /// The objectives, of the first result.
    pub(super) fn objectives(&self) -> &'v Objectives {
        &self.first().file.objectives
    }

    /// What stands in place of a conclusion when the run, or one of several, can't be believed.
    pub(super) fn not_judged(&self) -> Option<String> {
        let several = "Not judged: a result shown here is not valid.";
        let text = if self.analyses.len() > 1 { several } else { NOT_JUDGED };
        self.analyses.iter().any(|a| !a.valid()).then(|| text.to_owned())
    }

    /// Whether any result is a comparison of visits.
    pub(super) fn compares(&self) -> bool {
        self.analyses.iter().any(|a| a.is_comparison())
    }
}

impl Shown<'_, '_> {
    /// The row's label.
    pub(super) fn label(&self) -> &str {
        &self.judged.row.label
    }

    /// A control row is shown softer.
    pub(super) fn is_control(&self) -> bool {
        self.judged.row.role != Role::Candidate
    }
}

/// How each row of one result looks. A known backend has its own tone; a second of the same backend takes one that is free.
fn idents(analysis: &Analysis, file: usize) -> Vec<Ident> {
    let own = |judged: &Judged| match judged.row.backend {
        "log" => Some(0),
        "queue" => Some(1),
        "shard" => Some(2),
        "direct" => Some(3),
        "null" => Some(4),
        _ => None,
    };
    let mut taken: Vec<usize> = Vec::new();
    let mut idents: Vec<Ident> = Vec::new();
    for (at, judged) in analysis.rows.iter().enumerate() {
        if judged.row.role == Role::Again {
            let twin = analysis.rows.iter().position(|j| j.row.role == Role::Candidate && j.row.same_as(&judged.row));
            let tone = twin.and_then(|n| idents.get(n)).map_or(0, |ident| ident.tone);
            idents.push(Ident { tone, second: true });
            continue;
        }
        let free = || {
            let owned: Vec<usize> = analysis.rows.iter().filter_map(own).collect();
            (0..4).find(|tone| !taken.contains(tone) && !owned.contains(tone)).unwrap_or(at % 4)
        };
        let tone = own(judged).filter(|tone| !taken.contains(tone)).unwrap_or_else(free);
        let second = file > 0 || taken.contains(&tone);
        taken.push(tone);
        idents.push(Ident { tone, second });
    }
    idents
}

/// A panel before it is written.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) id: &'static str,
    pub(super) question: &'static str,
    /// One generated sentence or two.
    pub(super) sentence: String,
    pub(super) body: Markup,
}

impl Panel {
    pub(super) fn markup(&self, view: &View) -> Markup {
        let heading = view.id(&format!("{}-q", self.id));
        html! {
            section.panel id=(view.id(self.id)) aria-labelledby=(heading) {
                h2 id=(heading) { (self.question) (view.suffix()) }
                p.lede { (figures::unbroken(&self.sentence)) }
                (self.body)
            }
        }
    }
}

/// One cell of a table.
#[derive(Debug)]
pub(super) enum Cell {
    /// A figure: to the right, never broken.
    Figure(String),
    /// Words: to the left, may break.
    Words(String),
    /// Kept, met, passed; with words.
    Yes(String),
    /// Broken, missed, failed; with words.
    No(String),
    /// Not to be said; with words why.
    Open(String),
}

impl Cell {
    fn markup(&self) -> Markup {
        match self {
            Self::Figure(text) => html! { td { (text) } },
            Self::Words(text) => html! { td.w .l[text.chars().count() > 40] { (text) } },
            Self::Yes(text) => html! { td.y { span.ok { (text) } } },
            Self::No(text) => html! { td.y { span.no { (text) } } },
            Self::Open(text) => html! { td.y { span.na { (text) } } },
        }
    }

    fn is_words(&self) -> bool {
        !matches!(self, Self::Figure(_))
    }
}

/// A table with a caption; the first column heads its rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) caption: String,
    /// What stands beside the caption, softer.
    pub(super) aside: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<(String, bool, Vec<Cell>)>,
}

impl Table {
    pub(super) fn new(caption: &str, aside: &str, head: &[&'static str]) -> Self {
        Self { caption: caption.to_owned(), aside: aside.to_owned(), head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; a control row is shown softer.
    pub(super) fn row(&mut self, head: &str, control: bool, cells: Vec<Cell>) {
        self.rows.push((head.to_owned(), control, cells));
    }

    pub(super) fn markup(&self, view: &View) -> Markup {
        let words: Vec<bool> =
            self.rows.first().map(|(_, _, cells)| cells.iter().map(Cell::is_words).collect()).unwrap_or_default();
        let is_words = |n: usize| n > 0 && words.get(n - 1).copied().unwrap_or(false);
        html! {
            div.scroll tabindex="0" role="region" aria-label=(format!("{}{}", self.caption, view.suffix())) {
                table {
                    caption {
                        (self.caption)
                        @if !self.aside.is_empty() { span { " · " (self.aside) } }
                    }
                    thead {
                        tr { @for (n, head) in self.head.iter().enumerate() { th scope="col" .w[is_words(n)] { (head) } } }
                    }
                    tbody {
                        @for (n, (head, control, cells)) in self.rows.iter().enumerate() {
                            tr .control[*control] .rep[n > 0 && self.rows[n - 1].0 == *head] { th scope="row" { (head) } @for cell in cells { (cell.markup()) } }
                        }
                    }
                }
            }
        }
    }
}

/// A chart under its caption; the softer part says the axes or the unit.
pub(super) fn figure(plot: &Plot, aside: &str) -> Markup {
    html! {
        figure {
            figcaption { (plot.title) @if !aside.is_empty() { " " span { (aside) } } }
            (PreEscaped(plot.svg()))
        }
    }
}

/// The rows' shapes and colours, once a panel.
pub(super) fn legend(rows: &[Shown]) -> Markup {
    html! {
        ul.legend { @for row in rows { li { (PreEscaped(row.ident.key(false))) (row.label()) } } }
    }
}
