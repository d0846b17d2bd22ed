//! `brokerlab doctor`: is this machine fit to measure, each answer in plain words with what to do about it.

use std::path::PathBuf;

use anyhow::Context as _;
use brokerlab_host::fitness::Look;
use brokerlab_host::{WallClock, doctor as look};
use brokerlab_model::{Span, Storage};
use brokerlab_workloads::measurement::FitnessRecord;
use clap::Args;
use serde_json::json;

use crate::args::{DriveArgs, WaitingArg};
use crate::exit::Exit;
use crate::{drive, folder, progress};

/// How long pacing and the other processes are watched.
const WATCHED: Span = Span::from_secs(2);
/// How many flushes are timed.
const FLUSHES: u32 = 200;

#[derive(Debug, Args)]
#[command(after_help = "Example: brokerlab doctor --data /var/tmp")]
pub(crate) struct DoctorArgs {
    /// The folder whose storage is looked at.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How loops would wait; as `compare` chooses when it is not given.
    #[arg(long, value_enum)]
    waiting: Option<WaitingArg>,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

/// One answer.
struct Answer {
    question: &'static str,
    found: String,
    fit: bool,
    advice: &'static str,
}

pub(crate) fn doctor(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let data = args.data.clone().unwrap_or_else(std::env::temp_dir);
    let waiting = drive::waiting(&DriveArgs { waiting: args.waiting, ..DriveArgs::default() }, false)?;
    let wall = WallClock::new();
    let before = Look::now(&wall);
    let pacing = look::pacing(waiting, WATCHED);
    let machine = Look::now(&wall).fitness_since(&before);
    let answers = [clock(), paced(&pacing), flushed(&data)?, stolen(&machine), shared(&machine)];
    if args.json {
        let rows: Vec<_> = answers
            .iter()
            .map(|a| json!({ "question": a.question, "found": a.found, "fit": a.fit, "advice": a.advice }))
            .collect();
        progress::print(&serde_json::to_string_pretty(&rows).context("can't write the document")?);
        return Ok(Exit::Success);
    }
    let mut text = String::new();
    for answer in &answers {
        let mark = if answer.fit { "good" } else { "poor" };
        text.push_str(&format!("{mark}  {}\n      {}\n", answer.question, answer.found));
        if !answer.fit {
            text.push_str(&format!("      {}\n", answer.advice));
        }
    }
    let poor = answers.iter().filter(|answer| !answer.fit).count();
    text.push_str(&match poor {
        0 => "This machine is fit to measure at the moment.".to_owned(),
        n => format!("{n} of {} answers are poor: expect runs that are not valid, and believe them.", answers.len()),
    });
    progress::print(&text);
    Ok(Exit::Success)
}

fn clock() -> Answer {
    let clock = look::clock();
    Answer {
        question: "Is the clock fine enough?",
        found: format!(
            "source {}, smallest step {} ns, one reading {:.0} ns",
            clock.source.as_deref().unwrap_or("unknown"),
            clock.resolution_ns,
            clock.cost_ns
        ),
        fit: clock.resolution_ns <= 1_000 && clock.cost_ns <= 200.0,
        advice: "A clock that needs a system call falsifies what it measures: choose a TSC or ARM counter source.",
    }
}

fn paced(lateness: &hdrhistogram::Histogram<u64>) -> Answer {
    let at = |q| Span(lateness.value_at_quantile(q));
    Answer {
        question: "Does a sleeping loop wake in time?",
        found: format!(
            "late by {} at p50, {} at p99, {} at p99.9, {} at most, over {} wake-ups",
            at(0.5),
            at(0.99),
            at(0.999),
            Span(lateness.max()),
            lateness.len()
        ),
        fit: at(0.999) <= Span::from_millis(2),
        advice: "Lateness above 2 ms at p99.9 makes a run not valid: stop other work, or take a machine with free cores.",
    }
}

fn flushed(data: &std::path::Path) -> anyhow::Result<Answer> {
    let facts = brokerlab_embedded::StorageFacts::below(data, Storage::Fsync);
    let on =
        format!("{} on {}, write cache {} ({})", facts.file_system, facts.device, facts.write_cache, facts.fsync_note);
    let times = look::flushing(data, FLUSHES).map_err(|error| {
        folder::trouble(error, format!("can't write to {}; name another folder with --data", data.display()))
    })?;
    let at = |q| Span(times.value_at_quantile(q));
    let memory = ["tmpfs", "ramfs"].contains(&facts.file_system.as_str());
    Ok(Answer {
        question: "What does a flush to storage cost?",
        found: format!("{on}; 4 KiB flushed in {} at p50, {} at p99, {} at most", at(0.5), at(0.99), Span(times.max())),
        fit: !memory && at(0.99) <= Span::from_millis(20),
        advice: "Memory file systems prove no durability, and a slow or shared disk decides every fsync row: choose the folder with --data.",
    })
}

fn stolen(machine: &FitnessRecord) -> Answer {
    Answer {
        question: "Does the hypervisor leave us the cores?",
        found: machine.steal_share.map_or_else(
            || "the system does not tell".to_owned(),
            |steal| format!("{:.2} % of core time stolen", steal * 100.0),
        ),
        fit: machine.steal_share.is_none_or(|steal| steal <= 0.01),
        advice: "Above 1 % a run is not valid: take a machine with cores of its own.",
    }
}

fn shared(machine: &FitnessRecord) -> Answer {
    Answer {
        question: "Is anybody else at work?",
        found: machine.other_processes_cores.map_or_else(
            || "the system does not tell".to_owned(),
            |cores| format!("other processes use {cores:.2} cores"),
        ),
        fit: machine.other_processes_cores.is_none_or(|cores| cores <= 0.05),
        advice: "Above 5 % of a core a run is not valid: stop what runs beside it.",
    }
}
