//! What is concluded from cells that stand apart: the answers of a search for capacity, the points of a sweep.
//!
//! Leaves out the answers themselves (`capacity`) and the medians (`sweep`).

use crate::capacity::{Answer, End};
use crate::figures::{self, and_list};
use crate::given_up;
use crate::reasons::WHY_NOT_VALID;
use crate::result::Command;
use crate::rows::Stair;
use crate::sweep;
use crate::verdict::{Analysis, Decision, ExitInputs};

/// What was decided, and the headline.
pub(crate) fn decided(a: &Analysis) -> (Decision, String) {
    match a.file.command {
        Command::Capacity => (if a.valid() { Decision::Capacity } else { Decision::NotValid }, found(a)),
        Command::Sweep | Command::Run | Command::Compare => {
            (if a.valid() { Decision::Swept } else { Decision::NotValid }, swept(a))
        }
    }
}

fn candidates<'a>(a: &'a Analysis) -> impl Iterator<Item = &'a Answer> {
    a.answers.iter().filter(|answer| !answer.is_ceiling)
}

fn found(a: &Analysis) -> String {
    let texts: Vec<String> = candidates(a).map(|answer| format!("{} {}", answer.row, answer.text())).collect();
    if texts.is_empty() {
        return "Nothing was measured.".to_owned();
    }
    let within = if a.file.objectives.0.is_empty() { "without a growing backlog" } else { "within the objectives" };
    format!("Highest rate {within}: {}.", and_list(&texts))
}

fn swept(a: &Analysis) -> String {
    let places = sweep::places(a.rows.iter().map(|j| &j.row));
    let mut points: Vec<u32> = places.iter().map(|place| place.point).collect();
    points.dedup();
    let fields: Vec<String> = sweep::fields(&places).into_iter().map(|field| field.path).collect();
    if places.is_empty() {
        return "Nothing was measured.".to_owned();
    }
    let over = if fields.is_empty() { String::new() } else { format!(" over {}", and_list(&fields)) };
    let rows = figures::plural(a.candidates().count() as u64, "backend");
    format!("{}{over} with {rows}; a sweep names no winner.", figures::plural(points.len() as u64, "point"))
}

/// A reason for each row.
pub(crate) fn reasons(a: &Analysis) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if !a.valid() {
        all.push((WHY_NOT_VALID.to_owned(), format!("{}.", why_not_valid(a))));
    }
    for answer in candidates(a) {
        all.push((answer.row.clone(), reason(answer)));
    }
    if let Some(rate) = a.answers.iter().find(|answer| answer.is_ceiling).and_then(|answer| answer.highest_passed_per_s)
    {
        let text =
            format!("The harness alone carries {}; what comes within 20 % of that is a floor.", figures::rate(rate));
        all.push(("Harness".to_owned(), text));
    }
    let broken: Vec<String> = a
        .candidates()
        .flat_map(|j| j.row.broken().into_iter().map(|clause| format!("{}: {clause}", j.row.label)))
        .collect();
    let mut contract = given_up::sentences(a);
    if !broken.is_empty() {
        contract.insert(0, format!("Broken: {}.", and_list(&broken)));
    }
    if !contract.is_empty() {
        all.push(("Contract".to_owned(), contract.join(" ")));
    }
    all
}

fn reason(answer: &Answer) -> String {
    let mut parts = Vec::new();
    if answer.end != End::Below {
        let times = answer
            .factor
            .map_or_else(String::new, |factor| format!(", {} the profile's rate", figures::factor(factor)));
        parts.push(format!("Interval {}{times}.", answer.interval()));
    }
    parts.push(format!("Held by: {}.", answer.held_by));
    parts.extend(answer.caveats().iter().map(|caveat| sentence(caveat)));
    // One that did not hold is among the caveats, with its reason.
    let soaked = answer.soak.iter().filter(|soak| soak.why_not.is_none());
    parts.extend(soaked.map(|soak| format!("Its soak {}.", soak.text())));
    parts.join(" ")
}

fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// Why a search or sweep can't be believed as a whole, in one clause.
pub(crate) fn why_not_valid(a: &Analysis) -> String {
    if let Some(why) = &a.file.cut_short {
        return format!("it was cut short ({why})");
    }
    let doubted: Vec<String> = candidates(a)
        .filter(|answer| !answer.valid)
        .map(|answer| {
            format!("the answer for {} rests on probes that miss a check ({})", answer.row, and_list(&answer.doubts))
        })
        .collect();
    let cells = a.apart().count() as u64;
    if cells == 0 {
        "nothing was measured".to_owned()
    } else if doubted.is_empty() {
        let mut missed: Vec<&str> = Vec::new();
        for name in a.apart().flat_map(Stair::missed_checks) {
            if !missed.contains(&name) {
                missed.push(name);
            }
        }
        format!("{} of {} miss a check ({})", figures::count(cells), figures::plural(cells, unit(a)), and_list(&missed))
    } else {
        and_list(&doubted)
    }
}

/// What a cell is called.
fn unit(a: &Analysis) -> &'static str {
    if a.file.command == Command::Capacity { "probe" } else { "cell" }
}

/// Whether it can be believed, in a sentence or two: each cell carries its own validity.
pub(crate) fn trust_sentence(a: &Analysis) -> String {
    if !a.valid() {
        return format!("No: {}. The figures below are shown, and nothing is concluded from them.", why_not_valid(a));
    }
    let cells = || a.apart();
    let (all, disturbed) = (cells().count(), cells().filter(|stair| !stair.missed_checks().is_empty()).count());
    let what = unit(a);
    match disturbed {
        0 => format!("Yes: every check passed in every {what}."),
        _ if a.file.command == Command::Capacity => format!(
            "{disturbed} of {} miss a check. Disturbances make a probe fail and never pass, so an answer that rests on them is a floor.",
            figures::plural(all as u64, what)
        ),
        _ => format!("{disturbed} of {} miss a check; the table says which.", figures::plural(all as u64, what)),
    }
}

/// What a search's exit code is made of: what was asked of a row, some rate and its soak, was not met by the backend, or could not
/// be seen for another reason.
pub(crate) fn exit_inputs(a: &Analysis) -> ExitInputs {
    let unmet = candidates(a).filter(|answer| answer.is_unmet());
    let (of_backend, of_others): (Vec<&Answer>, Vec<&Answer>) = unmet.partition(|answer| answer.unmet_by_backend());
    ExitInputs {
        cut_short: a.file.cut_short.clone(),
        contract_broken: a.rows.iter().filter(|j| !j.row.kept()).map(|j| j.row.label.clone()).collect(),
        objectives_missed: !of_backend.is_empty(),
        not_valid: of_others.iter().map(|answer| answer.row.clone()).collect(),
        each_decides: true,
        ..ExitInputs::default()
    }
}

/// Missed checks in few words, for a narrow column: `late, other processes`.
pub(crate) fn short_names(checks: &[&str]) -> String {
    let short = |name: &&str| match *name {
        name if name.starts_with("generator lateness") => "late",
        name if name.starts_with("samples beyond") => "few samples",
        name if name.starts_with("core time taken") => "steal",
        name if name.starts_with("held back") => "throttled",
        name if name.starts_with("CPU of other") => "other processes",
        name if name.starts_with("messages published") => "other messages",
        _ => "cut short",
    };
    checks.iter().map(short).collect::<Vec<_>>().join(", ")
}
