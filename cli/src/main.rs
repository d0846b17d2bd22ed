//! The `brokerlab` binary: reads the command line, calls one subcommand, turns its end into an exit code.
//!
//! Leaves out all arithmetic; each subcommand is a file that composes the crates below.

mod args;
mod backend;
mod backends;
mod capacity;
mod compare;
mod control_row;
mod doctor;
mod drive;
mod exit;
mod facts;
mod finish;
mod fits;
mod fixed;
mod folder;
mod interrupt;
mod plan;
mod profiles;
mod progress;
mod report;
mod run;
mod serve;
mod session;
mod sweep;
mod task;
mod view;
mod visit;
mod warm_up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

/// Compares messaging models and brokers under one workload and one contract.
#[derive(Debug, Parser)]
#[command(name = "brokerlab", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Example: brokerlab compare --backend log --backend queue --rate 50k/s

Exit codes: 0 done; 1 failure or cut short; 2 bad input; 3 a broken contract, a missed objective or a count that rose;
4 not valid or saturated: a `run`, a `capacity` without an answer for that reason, or the row of a `compare` that
--require names; other such rows of a `compare` are findings, and it ends with 0.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares models under one workload and one contract: the main job
    Compare(compare::CompareArgs),
    /// Runs one backend
    Run(run::RunArgs),
    /// Finds the highest rate of each backend that meets the profile's objectives
    Capacity(capacity::CapacityArgs),
    /// Visits a grid or list of settings with each backend
    Sweep(sweep::SweepArgs),
    /// Lists, shows and checks workload profiles
    #[command(subcommand, after_help = "Example: brokerlab profiles show order-processing > mine.toml")]
    Profiles(profiles::ProfilesCommand),
    /// Shows what each backend is and which contracts it keeps, by which settings
    Backends(backends::BackendsArgs),
    /// Rebuilds the page from result files, or compares exact counts with a baseline
    Report(report::ReportArgs),
    /// Says whether this machine is fit to measure
    Doctor(doctor::DoctorArgs),
    /// One visit of a comparison, in a process of its own: reads its task from standard input
    #[command(hide = true)]
    Visit,
    /// One embedded backend behind a loopback socket, until standard input ends; prints its port
    #[command(hide = true)]
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let ended = match cli.command {
        Command::Compare(args) => compare::compare(&args),
        Command::Run(args) => run::run(&args),
        Command::Capacity(args) => capacity::capacity(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Profiles(command) => profiles::profiles(&command),
        Command::Backends(args) => backends::backends(&args),
        Command::Report(args) => report::report(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Visit => visit::visit(),
        Command::Serve(args) => serve::serve(&args),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            progress::say_error(&error);
            Exit::into(exit::of_error(&error))
        }
    }
}
