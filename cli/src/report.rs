//! `brokerlab report`: rebuilds the page from result files, or holds exact counts against a baseline.

use std::path::PathBuf;

use anyhow::Context as _;
use brokerlab_reports::against::against;
use brokerlab_reports::page::render;
use brokerlab_reports::result::{ResultFile, write_page};
use clap::Args;

use crate::exit::{BadInput, Exit};
use crate::{progress, view};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  brokerlab report brokerlab-out/results.json --out page
  brokerlab report monday.json tuesday.json --out side-by-side
  brokerlab report results.json --against base.json    # exits 3 when an exact count rose, 2 when cases differ")]
pub(crate) struct ReportArgs {
    /// Result files that `run` or `compare` wrote; several stand side by side.
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// A result file whose exact counts are the baseline.
    #[arg(long, value_name = "BASE.json")]
    against: Option<PathBuf>,
    /// Folder for report.html.
    #[arg(long, value_name = "DIR", default_value = "brokerlab-out")]
    out: PathBuf,
    /// Only errors and what `--against` found.
    #[arg(long)]
    quiet: bool,
    /// Open the page.
    #[arg(long)]
    view: bool,
}

pub(crate) fn report(args: &ReportArgs) -> anyhow::Result<Exit> {
    let files = args
        .results
        .iter()
        .map(|path| ResultFile::read(path))
        .collect::<Result<Vec<_>, _>>()
        .map_err(BadInput::error)?;
    let base = args.against.as_ref().map(|path| ResultFile::read(path)).transpose().map_err(BadInput::error)?;
    let html = render(&files).map_err(BadInput::error)?;
    let page = args.out.join("report.html");
    write_page(&page, &html).context("the page was not written")?;
    if !args.quiet {
        progress::print(&format!("page: {}", page.display()));
    }
    if args.view {
        view::open(&page);
    }
    let Some(base) = base else { return Ok(Exit::Success) };
    let mut worst = Exit::Success;
    for file in &files {
        let found = against(&base, file);
        progress::print(&found.lines().join("\n"));
        worst = match (found.exit_code(), worst) {
            (2, _) | (_, Exit::BadInput) => Exit::BadInput,
            (3, _) | (_, Exit::Broken) => Exit::Broken,
            (_, worst) => worst,
        };
    }
    Ok(worst)
}
