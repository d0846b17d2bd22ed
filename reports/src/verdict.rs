//! What is concluded from a result: which row, why, what would change it; and what a command's exit code is.
//!
//! In this order: contract kept, objectives met, headroom class, response time. A response-time difference below a tenth of the
//! objective and headroom beyond ten times never decide. Ties are named as ties. Leaves out how it is shown.

use brokerlab_workloads::measurement::World;
use brokerlab_workloads::record::DecodeError;

use crate::capacity::{Answer, answers};
use crate::compare::{Control, Interval, Outcome, control, duel, median, median_interval};
use crate::figures::{self, and_list};
use crate::headroom::{Headroom, ceiling_per_s, headroom};
use crate::live::Strength;
use crate::result::{Command, Objectives, ResultFile};
use crate::rows::{Role, Row, Stair};
use crate::sample::Followed;

/// The sentence that stands with every verdict on embedded rows.
pub const EMBEDDED_CAVEAT: &str = "These are models in one process, not Kafka, RabbitMQ, SQS or Kinesis; shapes and counts carry over, \
                                   rates do not.";

/// The same where they stand behind a loopback socket.
pub const LOOPBACK_CAVEAT: &str = "These are models in a process of their own behind a loopback socket, not Kafka, RabbitMQ, SQS or Kinesis; \
                                   shapes and counts carry over, rates do not.";

/// A response-time difference below this share of the objective never decides.
pub const DECIDING_SHARE: f64 = 0.1;

/// A row with what is concluded about it.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// Its cells.
    pub row: Row<'a>,
    /// Why it takes no part in the ranking; empty when it does.
    pub excluded: Vec<String>,
    /// Whether it is of the ranked world and keeps the contract that was asked: another row is shown and gets no verdict.
    pub comparable: bool,
    /// What misses the objectives.
    pub missed: Vec<String>,
    /// How far it goes.
    pub headroom: Option<Headroom>,
    /// Median over visits of the end-to-end response p99, in nanoseconds; infinite for *never*.
    pub median_p99_ns: Option<f64>,
    /// An interval on that median, with six visits or more.
    pub interval: Option<Interval>,
}

/// Two candidates held against each other.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Index of the first in [`Analysis::rows`].
    pub first: usize,
    /// Index of the second.
    pub second: usize,
    /// By the rule on paired visits.
    pub outcome: Outcome,
    /// Whether the difference is large enough for the objective to matter.
    pub matters: bool,
}

/// A result, analysed.
#[derive(Clone, Debug)]
pub struct Analysis<'a> {
    /// The file.
    pub file: &'a ResultFile,
    /// What is appended to the rows' labels when several results are shown; else empty.
    pub mark: String,
    /// Candidates first, then the controls.
    pub rows: Vec<Judged<'a>>,
    /// What two identical rows showed.
    pub control: Option<Control>,
    /// The harness's own ceiling.
    pub ceiling_per_s: Option<f64>,
    /// Every two ranked candidates.
    pub pairs: Vec<Pair>,
    /// What a search for capacity found, row by row; empty in another result.
    pub answers: Vec<Answer>,
    /// What it comes to.
    pub conclusion: Conclusion,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// One row, by label.
    Winner(String),
    /// Several rows that nothing separates.
    Tie(Vec<String>),
    /// Candidates were compared and none meets contract and objectives.
    None,
    /// The run can't be believed.
    NotValid,
    /// Identical rows differed: nothing can be told.
    Inconclusive,
    /// The rows may not be ranked against each other.
    NotComparable,
    /// Not a backend: a run of the harness's own ceiling.
    Ceiling,
    /// The highest rates that a search found.
    Capacity,
    /// A sweep: figures for each of its points, nothing decided.
    Swept,
    /// Not a comparison: one row meets what is asked, or does not.
    Single {
        /// Whether contract and objectives are met.
        met: bool,
    },
}

/// What a command's exit code is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitInputs {
    /// Why the command ended early.
    pub cut_short: Option<String>,
    /// Rows whose broker did not answer any more when their run was over.
    pub not_back: Vec<String>,
    /// Rows that broke a contract which they had accepted.
    pub contract_broken: Vec<String>,
    /// An objective was missed in a valid, unsaturated `run`, no comparable row of a `compare` meets them, or of a `capacity` a
    /// row meets them at no rate or not in its soak.
    pub objectives_missed: bool,
    /// Rows that are not valid; of a `capacity` those that met the objectives at no rate, or not in their soak, for a reason that is
    /// not the backend's.
    pub not_valid: Vec<String>,
    /// Rows that were saturated.
    pub saturated: Vec<String>,
    /// Whether one such row decides unasked: in a `run` and in a `capacity`.
    pub each_decides: bool,
}

impl ExitInputs {
    /// 1 cut short or a broker not back at the end, 3 contract broken or objective missed, 4 not valid or saturated (of a comparison only the row that
    /// is `required`, by its label), else 0. The first that applies.
    pub fn code(&self, required: Option<&str>) -> u8 {
        let decisive = |labels: &[String]| match required {
            Some(row) => labels.iter().any(|label| label == row),
            None => self.each_decides && !labels.is_empty(),
        };
        if self.cut_short.is_some() || !self.not_back.is_empty() {
            1
        } else if !self.contract_broken.is_empty() || self.objectives_missed {
            3
        } else if decisive(&self.not_valid) || decisive(&self.saturated) {
            4
        } else {
            0
        }
    }
}

/// What is concluded, in words and as inputs of the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// Whether the figures can be believed.
    pub valid: bool,
    /// What was decided.
    pub decision: Decision,
    /// One sentence.
    pub headline: String,
    /// Why, by subject: contract, objectives, headroom, response time.
    pub reasons: Vec<(String, String)>,
    /// Which assumptions would change it.
    pub flips: Vec<String>,
    /// What kind of system this is about.
    pub caveat: Option<String>,
    /// For the exit code.
    pub exit: ExitInputs,
}

/// Analyses a result and gives the conclusion alone.
pub fn conclude(file: &ResultFile) -> Result<Conclusion, DecodeError> {
    Ok(Analysis::of(file, "")?.conclusion)
}

impl<'a> Analysis<'a> {
    /// Analyses a result; `mark` is appended to the rows' labels. An error means that a stored histogram can't be read.
    pub fn of(file: &'a ResultFile, mark: &str) -> Result<Self, DecodeError> {
        let rows = Row::all(file, mark)?;
        let ceiling_per_s = ceiling_per_s(&rows);
        let control = control_of(&rows);
        let answers = file.search.map_or_else(Vec::new, |limits| answers(&rows, limits));
        let world = ranked_world(&rows);
        let rows: Vec<Judged> =
            rows.into_iter().map(|row| judged(row, world, &file.objectives, ceiling_per_s)).collect();
        let pairs = pairs(&rows, control.as_ref(), &file.objectives);
        let mut analysis = Self {
            file,
            mark: mark.to_owned(),
            rows,
            control,
            ceiling_per_s,
            pairs,
            answers,
            conclusion: Conclusion {
                valid: true,
                decision: Decision::None,
                headline: String::new(),
                reasons: Vec::new(),
                flips: Vec::new(),
                caveat: None,
                exit: ExitInputs::default(),
            },
        };
        analysis.conclusion = crate::reasons::conclusion(&analysis);
        Ok(analysis)
    }

    /// Candidates, without the controls.
    pub fn candidates(&self) -> impl Iterator<Item = &Judged<'a>> {
        self.rows.iter().filter(|j| j.row.role == Role::Candidate)
    }

    /// Candidates that may be ranked.
    pub fn ranked(&self) -> impl Iterator<Item = &Judged<'a>> {
        self.candidates().filter(|j| j.excluded.is_empty())
    }

    /// Whether it is a comparison of visits.
    pub fn is_comparison(&self) -> bool {
        self.file.command == Command::Compare
    }

    /// Whether a row's checks decide on the whole: in a comparison those of rows that are held against others, in a run always.
    pub fn checks_count(&self, row: &Row) -> bool {
        let held_against_others = row.role != Role::Ceiling && !row.saturated();
        !row.visits.is_empty() && (!self.is_comparison() || held_against_others)
    }

    /// The row of a run that was saturated.
    pub fn saturated_run(&self) -> Option<&Row<'a>> {
        self.rows.iter().map(|j| &j.row).find(|row| !self.is_comparison() && row.saturated())
    }

    /// Whether it is a run by itself.
    pub fn is_single(&self) -> bool {
        self.file.command == Command::Run
    }

    /// Whether its cells stand apart, each judged by itself: a search's or a sweep's.
    pub fn stands_apart(&self) -> bool {
        matches!(self.file.command, Command::Capacity | Command::Sweep)
    }

    /// Whether the figures can be believed: every candidate that was not saturated is valid, and so is the A/A row. Of cells that
    /// stand apart each carries its own validity, and one of them at least has to be valid; of a search no answer may rest on too few
    /// samples.
    pub fn valid(&self) -> bool {
        if self.stands_apart() {
            return self.file.cut_short.is_none()
                && self.apart().any(|stair| stair.missed_checks().is_empty())
                && self.answers.iter().all(|answer| answer.is_ceiling || answer.valid);
        }
        !self.rows.iter().any(|j| self.checks_count(&j.row) && !j.row.valid())
            && self.rows.iter().any(|j| !j.row.visits.is_empty())
            && self.file.cut_short.is_none()
    }

    /// The cells of candidates that stand apart.
    pub(crate) fn apart(&self) -> impl Iterator<Item = &Stair<'a>> {
        self.candidates().flat_map(|j| &j.row.apart)
    }

    /// Why the rows may not be ranked against each other at all.
    pub fn not_comparable(&self) -> Option<String> {
        let of = |name: fn(&brokerlab_workloads::measurement::Measurement) -> String| {
            let mut found: Vec<String> =
                self.candidates().filter(|j| j.comparable).filter_map(|j| j.row.example()).map(name).collect();
            found.sort();
            found.dedup();
            found
        };
        if self.candidates().next().is_some() && self.candidates().all(|j| !j.comparable) {
            return Some("every row is weaker than asked".to_owned());
        }
        let transports = of(|cell| cell.loops.transport.clone());
        let waiting = of(|cell| cell.loops.waiting.clone());
        if transports.len() > 1 {
            Some(format!("the rows used different transports ({})", and_list(&transports)))
        } else if waiting.len() > 1 {
            Some(format!("the rows waited in different ways ({})", and_list(&waiting)))
        } else {
            None
        }
    }

    /// Ranked rows by the order contract, objectives, headroom class, response time; and the step that decided.
    pub fn decide(&self) -> (Vec<&Judged<'a>>, Step) {
        let ranked: Vec<&Judged> = self.ranked().collect();
        let all = self.candidates().count();
        let mut step = if ranked.len() < all { Step::Contract } else { Step::Nothing };
        // A row at the threshold is neither chosen over one that meets the objectives throughout, nor dropped behind it: it stays
        // among those that later steps compare, unless no row meets them at all.
        let meeting: Vec<&Judged> = ranked.iter().copied().filter(|j| !self.falls_short(j)).collect();
        if meeting.len() < ranked.len() {
            step = Step::Objectives;
        }
        let farthest: Vec<&Judged> =
            meeting.iter().copied().filter(|j| !meeting.iter().any(|other| outranks(other, j))).collect();
        if farthest.len() < meeting.len() {
            step = Step::Headroom;
        }
        let fastest: Vec<&Judged> =
            farthest.iter().copied().filter(|j| !farthest.iter().any(|other| self.faster(other, j))).collect();
        if fastest.len() < farthest.len() {
            step = Step::Response;
        }
        (fastest, step)
    }

    /// Whether a row misses the objectives beyond what noise explains: in nearly every visit, and either by a count or behind a row
    /// that meets them and is faster by the rule for differences. When no row meets them, every miss counts.
    fn falls_short(&self, row: &Judged) -> bool {
        if row.missed.is_empty() {
            return false;
        }
        let meeting: Vec<&Judged> = self.ranked().filter(|j| j.missed.is_empty()).collect();
        let noise = self.control.as_ref().map_or(1.0, |control| control.largest_ratio);
        let behind =
            |other: &&Judged| matches!(duel(&other.row.figures(), &row.row.figures(), noise), Outcome::First { .. });
        let counted = !row.row.missed(&self.file.objectives.counts()).is_empty();
        meeting.is_empty() || (row.row.misses_throughout() && (counted || meeting.iter().any(behind)))
    }

    fn faster(&self, first: &Judged, second: &Judged) -> bool {
        self.pairs.iter().filter(|pair| pair.matters).any(|pair| {
            let (a, b) = (&self.rows[pair.first].row.label, &self.rows[pair.second].row.label);
            match pair.outcome {
                Outcome::First { .. } => *a == first.row.label && *b == second.row.label,
                Outcome::Second { .. } => *b == first.row.label && *a == second.row.label,
                Outcome::TooClose { .. } | Outcome::TooFewRounds { .. } => false,
            }
        })
    }
}

/// Which step of the order left the fewest rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing separates the rows.
    Nothing,
    /// Contract kept and load carried.
    Contract,
    /// Objectives met.
    Objectives,
    /// Headroom class.
    Headroom,
    /// Response time.
    Response,
}

/// Whether the class of one lies above every class that the other may have.
fn outranks(one: &Judged, other: &Judged) -> bool {
    match (&one.headroom, &other.headroom) {
        (Some(a), Some(b)) => a.class > b.at_most(),
        (None, _) | (_, None) => false,
    }
}

fn control_of(rows: &[Row]) -> Option<Control> {
    let again = rows.iter().find(|row| row.role == Role::Again)?;
    let first = rows.iter().find(|row| row.role == Role::Candidate && row.same_as(again))?;
    control(&first.figures(), &again.figures())
}

fn judged<'a>(row: Row<'a>, world: Option<World>, objectives: &Objectives, ceiling_per_s: Option<f64>) -> Judged<'a> {
    let mut excluded = Vec::new();
    if world.is_some_and(|world| world != row.world) {
        excluded.push("of another world than the ranked rows: shown, not ranked".to_owned());
    }
    if let Strength::Weaker(_) = Strength::of(&row) {
        excluded.push("weaker than asked: not comparable".to_owned());
    }
    let comparable = excluded.is_empty();
    if row.visits.is_empty() {
        excluded.push("no visit was made".to_owned());
    }
    if !row.kept() {
        excluded.push("broke the contract".to_owned());
    }
    if row.saturated() {
        excluded.push("saturated at the profile's rate".to_owned());
    }
    let missed = row.missed(objectives);
    let headroom = headroom(&row, objectives, ceiling_per_s);
    let figures: Vec<f64> = row.figures().iter().map(|f| f.ns).collect();
    let interval = median_interval(&figures);
    Judged { excluded, comparable, missed, headroom, median_p99_ns: median(&figures), interval, row }
}

/// Holds every two candidates against each other; rows that are left out have no pair.
fn pairs(rows: &[Judged], control: Option<&Control>, objectives: &Objectives) -> Vec<Pair> {
    let noise = control.map_or(1.0, |c| c.largest_ratio);
    let ranked: Vec<usize> =
        (0..rows.len()).filter(|&n| rows[n].row.role == Role::Candidate && rows[n].excluded.is_empty()).collect();
    let mut pairs = Vec::new();
    for (at, &first) in ranked.iter().enumerate() {
        for &second in &ranked[at + 1..] {
            let outcome = duel(&rows[first].row.figures(), &rows[second].row.figures(), noise);
            let matters = match (rows[first].median_p99_ns, rows[second].median_p99_ns, objectives.yardstick_ns()) {
                (Some(a), Some(b), Some(limit)) => (a - b).abs() >= DECIDING_SHARE * limit as f64,
                (Some(_), Some(_), None) => true,
                (None, _, _) | (_, None, _) => false,
            };
            pairs.push(Pair { first, second, outcome, matters });
        }
    }
    pairs
}

/// The world whose rows are ranked: live ones where there are any, for an embedded row beside them is shown and not ranked.
fn ranked_world(rows: &[Row]) -> Option<World> {
    let worlds = || rows.iter().filter(|row| row.role == Role::Candidate).map(|row| row.world);
    worlds().find(|w| *w == World::Live).or_else(|| worlds().next())
}

/// A median of visits as text.
pub fn median_text(ns: Option<f64>, followed: Followed) -> String {
    match ns {
        None => "–".to_owned(),
        Some(ns) if ns.is_infinite() => followed.text(),
        Some(ns) => figures::duration_f64(ns),
    }
}
