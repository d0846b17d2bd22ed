//! The page: one HTML file that asks for nothing, opens with the verdict, then its own validity, then the evidence.
//!
//! Every panel is headed by its question and holds one sentence, a chart, and the same numbers as a table. There is no script.
//! Leaves out the statistics, which are in `verdict` and the files beside it.

mod analytics;
mod capacity;
mod ladder;
mod meets;
mod outages;
mod parts;
mod reach;
mod repeat;
mod servers;
mod stable;
mod sweep;
mod tail;
mod trust;
mod verdict_card;
mod work;

pub(crate) use trust::sentence as trust_sentence;

use base64::Engine as _;
use brokerlab_workloads::record::DecodeError;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::figures;
use crate::result::ResultFile;
use crate::verdict::Analysis;

const STYLE: &str = include_str!("style.css");

/// Draws the page of one result, or of several side by side. The same results give the same bytes. An error means that a stored
/// histogram can't be read.
pub fn render(files: &[ResultFile]) -> Result<String, DecodeError> {
    let marks: Vec<String> = match files {
        [_] => vec![String::new()],
        several => (0..several.len()).map(|n| format!(" · {}", letter(n))).collect(),
    };
    let analyses: Vec<Analysis> =
        files.iter().zip(&marks).map(|(file, mark)| Analysis::of(file, mark)).collect::<Result<_, _>>()?;
    Ok(document(&analyses).into_string())
}

/// `A` for the first of several files.
fn letter(n: usize) -> char {
    char::from(b'A' + u8::try_from(n % 26).unwrap_or(0))
}

/// Analyses that may share tables: closed and open loops never do.
fn shared(analyses: &[Analysis]) -> Vec<Vec<usize>> {
    let (open, closed): (Vec<usize>, Vec<usize>) =
        (0..analyses.len()).partition(|&n| !analyses[n].file.profile.closed_loop);
    [open, closed].into_iter().filter(|part| !part.is_empty()).collect()
}

fn document(analyses: &[Analysis]) -> Markup {
    let title = match analyses {
        [one] => format!("{} · brokerlab", one.conclusion.headline.trim_end_matches('.')),
        several => format!("{} results side by side · brokerlab", several.len()),
    };
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#verdict" { "Skip to the verdict" }
                (masthead(analyses))
                main {
                    (verdict_card::cards(analyses))
                    @for (n, part) in shared(analyses).iter().enumerate() {
                        (panels(&part.iter().map(|&n| &analyses[n]).collect::<Vec<_>>(), n))
                    }
                }
                footer { p { (colophon(analyses)) } }
            }
        }
    }
}

fn masthead(analyses: &[Analysis]) -> Markup {
    html! {
        header {
            p { strong { "brokerlab" } }
            p {
                @for (n, a) in analyses.iter().enumerate() {
                    @if n > 0 { " · " }
                    @if analyses.len() > 1 { (letter(n)) ": " }
                    (a.file.profile.name) " at " (figures::trimmed(&figures::rate(a.file.profile.rate_per_s))) ", "
                    (figures::utc(a.file.started_utc_ns))
                }
            }
        }
    }
}

fn panels(analyses: &[&Analysis], part: usize) -> Markup {
    let view = parts::View::new(analyses, part);
    // Cells that stand apart are no visits at the profile's rate: panels about those have nothing to say of them.
    let visited = analyses.iter().any(|a| !a.stands_apart());
    let all = [
        Some(trust::panel(&view)),
        reach::panel(&view),
        capacity::panel(&view),
        sweep::panel(&view),
        visited.then(|| meets::panel(&view)),
        servers::panel(&view),
        ladder::panel(&view),
        if visited { tail::panel(&view) } else { None },
        stable::panel(&view),
        analytics::panel(&view),
        work::panel(&view),
        Some(repeat::panel(&view)),
    ];
    let all: Vec<parts::Panel> = all.into_iter().flatten().collect();
    html! {
        nav aria-label=(format!("Questions{}", view.suffix())) {
            ul { @for panel in &all { li { a href=(format!("#{}", view.id(panel.id))) { (panel.question) } } } }
        }
        @for panel in &all { (panel.markup(&view)) }
    }
}

fn colophon(analyses: &[Analysis]) -> String {
    let versions: Vec<String> = analyses.iter().map(|a| format!("brokerlab {}", a.file.tool_version)).collect();
    let mut known: Vec<String> = Vec::new();
    for version in versions {
        if !known.contains(&version) {
            known.push(version);
        }
    }
    format!("Written by {}. This file asks the network for nothing and needs no script.", figures::and_list(&known))
}
