//! The end of `run` and `compare`: result file, page, table or JSON document, exit code.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use brokerlab_reports::judgement::Judgement;
use brokerlab_reports::page::render;
use brokerlab_reports::result::write_page;
use brokerlab_reports::table::{Style, table};
use brokerlab_reports::verdict::conclude;

use crate::args::OutputArgs;
use crate::exit::Exit;
use crate::session::Session;
use crate::{progress, view};

/// Writes everything and says what it comes to. A result that was measured is written before anything else can fail.
pub(crate) fn finish(session: Session, output: &OutputArgs, required: Option<&str>) -> anyhow::Result<Exit> {
    let mut result = session.into_result();
    // A histogram that can't be read back is an error below, after the result was written.
    result.judgement = Judgement::of(&result).ok();
    let path = result.write(&output.out).context("the result was not written")?;
    let conclusion = conclude(&result).context("the result can't be read back")?;
    let html = render(std::slice::from_ref(&result)).context("the page can't be drawn")?;
    let page = output.out.join("report.html");
    write_page(&page, &html).context("the page was not written")?;
    if output.json {
        progress::print(&serde_json::to_string(&result).context("can't write the document")?);
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let style = if colour { Style::Color } else { Style::Plain };
        progress::print(&table(&result, style).context("the result can't be read back")?);
        progress::print(&format!("page:   {}\nresult: {}", page.display(), path.display()));
    }
    if output.view {
        view::open(&page);
    }
    Ok(match conclusion.exit.code(required) {
        1 => Exit::Failure,
        3 => Exit::Broken,
        4 => Exit::NotValid,
        _ => Exit::Success,
    })
}
