//! `brokerlab run`: one backend, one run, the same table, page and result file.

use brokerlab_reports::result::Command;
use brokerlab_workloads::measurement::Point;
use clap::Args;

use crate::args::{DriveArgs, OutputArgs, ProfileArgs};
use crate::exit::{BadInput, Exit};
use crate::finish::finish;
use crate::plan;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  brokerlab run --backend log
  brokerlab run --backend 'queue?max_memory=64MiB' --profile iot-telemetry --duration 30s
  brokerlab run --backend log --rate 100M/s            # says saturated and by how much, exits 4")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// The backend: log, queue, shard, direct or null, with parameters as in log?partitions=8.
    #[arg(long = "backend", value_name = "NAME|URL", required = true)]
    backends: Vec<String>,
    #[command(flatten)]
    drive: DriveArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let [url] = args.backends.as_slice() else {
        return Err(BadInput::error("run takes one --backend; several are for `brokerlab compare`"));
    };
    let mut session = Session::begin(Command::Run, &args.profile, &args.drive, &args.output, &args.backends)?;
    let kept = session.keepers(std::slice::from_ref(url))?;
    session.fixed_cases(&kept)?;
    let row = plan::single(url);
    session.warm_up(std::slice::from_ref(&row))?;
    session.expect(1);
    session.visit(&row, Point::Run, &plan::Depth::quick())?;
    finish(session, &args.output, None)
}
