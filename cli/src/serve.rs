//! The hidden subcommand `serve`: one embedded backend behind a loopback socket, in this process, until standard input ends.
//!
//! Its first line on standard output is the port, on this machine and no other. Leaves out who starts it: a visit with
//! `--transport loopback`, and trials that kill it.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, OpenError, Place, Server, open, reopen};
use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::Contract;
use clap::Args;

use crate::exit::{BadInput, Exit};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A backend of this program: log, queue?visibility_timeout=5s …
    backend: String,
    /// The promise that it keeps, in words.
    #[arg(long, value_name = "WORDS")]
    contract: String,
    /// A folder of its own, empty or not there yet; needed unless the contract's storage is memory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Goes on with what the folder holds.
    #[arg(long, requires = "data")]
    reopen: bool,
}

/// The command line by which a process of this program serves.
pub(crate) fn command_line(url: &str, contract: Contract, data: Option<&std::path::Path>) -> Vec<std::ffi::OsString> {
    let mut words: Vec<std::ffi::OsString> = ["serve", url, "--contract", &contract.to_string()].map(Into::into).into();
    if let Some(data) = data {
        words.extend(["--data".into(), data.into()]);
    }
    words
}

pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<Exit> {
    let url = BackendUrl::parse(&args.backend).map_err(BadInput::error)?;
    let contract: Contract = args.contract.parse().map_err(BadInput::error)?;
    let opened = match &args.data {
        Some(data) if args.reopen => reopen(&url, &contract, data).map(|(broker, _)| broker),
        data => open(&url, &contract, &Place { data: data.as_deref() }),
    };
    let broker = opened.map_err(|error| match error {
        OpenError::Unsupported(_) | OpenError::NoFolder(_) => BadInput::error(error),
        OpenError::Store(_) => anyhow::Error::new(error),
    })?;
    let server = Server::bind(&url, &contract, broker).context("can't listen on this machine")?;
    let port = server.address().context("can't listen on this machine")?.port();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{port}").and_then(|()| out.flush()).context("nobody reads the port")?;
    let clock = WallClock::new();
    server.run(&|| clock.now(), std::io::stdin().as_fd())?;
    Ok(Exit::Success)
}
