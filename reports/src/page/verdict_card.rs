//! The verdict at the top of the page, one card a result.
//!
//! Leaves out deciding, which is `verdict`'s.

use maud::{Markup, html};

use super::letter;
use crate::figures::unbroken;
use crate::reasons::WHY_NOT_VALID;
use crate::result::HostFacts;
use crate::verdict::{Analysis, Decision};

/// All cards, and what a reader of several must know.
pub(super) fn cards(analyses: &[Analysis]) -> Markup {
    html! {
        div id="verdict" tabindex="-1" {
            @if let [one] = analyses {
                (card(one, None))
            } @else {
                h1 { (analyses.len()) " results side by side" }
                p.lede { (side_by_side(analyses)) }
                @for (n, a) in analyses.iter().enumerate() { (card(a, Some(n))) }
            }
        }
    }
}

/// Results of different runs were not interleaved; where they differ in more, that is said.
fn side_by_side(analyses: &[Analysis]) -> String {
    let mut differs: Vec<&str> = Vec::new();
    let differ = |test: &dyn Fn(&Analysis, &Analysis) -> bool| analyses.windows(2).any(|w| test(&w[0], &w[1]));
    if differ(&|a, b| a.rows.first().map(|j| j.row.world) != b.rows.first().map(|j| j.row.world)) {
        differs.push("worlds");
    }
    if differ(&|a, b| a.file.contract != b.file.contract) {
        differs.push("contracts");
    }
    if differ(&|a, b| a.file.profile.toml != b.file.profile.toml) {
        differs.push("profiles");
    }
    if differ(&|a, b| machine(&a.file.host) != machine(&b.file.host)) {
        differs.push("machines");
    }
    // What its write cache does to a flush is said in words that depend on the contract, which is compared above.
    if differ(&|a, b| {
        (&a.file.host.file_system, &a.file.host.device) != (&b.file.host.file_system, &b.file.host.device)
    }) {
        differs.push("storage");
    }
    if differ(&|a, b| a.file.waiting != b.file.waiting) {
        differs.push("waiting policies");
    }
    let reason = "Their visits were not interleaved, so rows of different results are shown together and never ranked.";
    if differs.is_empty() {
        return reason.to_owned();
    }
    format!("Not comparable: they differ in {}. {reason}", crate::figures::and_list(&differs))
}

/// What makes a machine another one.
fn machine(host: &HostFacts) -> (u32, u64, &str, &str) {
    (host.cores, host.memory_bytes, &host.kernel, &host.cpu_model)
}

fn tone(a: &Analysis) -> (&'static str, &'static str) {
    if !a.valid() {
        return ("grey", "Not valid");
    }
    match &a.conclusion.decision {
        Decision::Winner(_) => ("", "Verdict"),
        Decision::Tie(_) => ("", "Verdict: a tie"),
        Decision::Single { .. } if a.saturated_run().is_some() => ("bad", "Saturated"),
        Decision::Ceiling => ("open", "A control row"),
        Decision::Single { met: true } => ("", "Verdict: met"),
        Decision::Single { met: false } => ("bad", "Verdict: not met"),
        Decision::Capacity => ("", "Capacity"),
        Decision::Swept => ("open", "Sweep"),
        Decision::None => ("bad", "Verdict: none"),
        Decision::NotValid => ("grey", "Not valid"),
        Decision::Inconclusive => ("open", "Inconclusive"),
        Decision::NotComparable => ("open", "Not comparable"),
    }
}

fn card(a: &Analysis, n: Option<usize>) -> Markup {
    let (class, word) = tone(a);
    let file = a.file;
    html! {
        section class=(format!("verdict {class}").trim_end()) aria-label=(n.map_or("Verdict".to_owned(), |n| format!("Verdict {}", letter(n)))) {
            p.eyebrow {
                @if let Some(n) = n { (letter(n)) " · " }
                b { (word) } " · " (file.contract.to_string())
            }
            @if n.is_none() { h1 { (unbroken(&a.conclusion.headline)) } } @else { h2 { (unbroken(&a.conclusion.headline)) } }
            dl.reasons {
                @for (subject, reason) in &a.conclusion.reasons { div class=[(subject == WHY_NOT_VALID).then_some("wide")] { dt { (subject) } dd { (unbroken(reason)) } } }
            }
            @if !a.conclusion.flips.is_empty() {
                div.flips {
                    @if n.is_none() { h2 { "What would change this" } } @else { h3 { "What would change this" } }
                    ul { @for flip in &a.conclusion.flips { li { (unbroken(flip)) } } }
                }
            }
            @if let Some(caveat) = &a.conclusion.caveat { p.caveat { (caveat) } }
        }
    }
}
