//! `brokerlab profiles`: lists, shows and checks workload profiles, and prints the digest by which two machines prove that
//! they generate the same messages.

use std::fmt::Write as _;

use brokerlab_workloads::digest::{digest, digest_and_count};
use brokerlab_workloads::generate::Workload;
use brokerlab_workloads::profile::{self, Profile};
use clap::{Args, Subcommand};

use crate::drive;
use crate::exit::{BadInput, Exit};
use crate::progress;

/// How many messages `check` digests.
const CHECKED_MESSAGES: u64 = 100_000;

#[derive(Debug, Subcommand)]
pub(crate) enum ProfilesCommand {
    /// Lists the built-in profiles and whom each is for
    #[command(after_help = "Example: brokerlab profiles list")]
    List,
    /// Prints a built-in profile byte for byte, to be copied
    #[command(after_help = "Example: brokerlab profiles show order-processing > mine.toml")]
    Show {
        /// A built-in profile's name.
        name: String,
    },
    /// Checks a profile and prints what it offers: digest, bytes, each consumer group's utilisation
    #[command(after_help = "Example: brokerlab profiles check mine.toml --set arrivals.rate=50k/s")]
    Check(CheckArgs),
    /// Prints the JSON Schema of a profile, for editors
    #[command(after_help = "Example: brokerlab profiles schema > profile.schema.json")]
    Schema,
    /// Prints the digest of the first messages, alone
    #[command(after_help = "Example: brokerlab profiles digest iot-telemetry --messages 1000000 --seed 7 --threads 8")]
    Digest(DigestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A built-in profile's name or a TOML file.
    profile: String,
    /// Overrides any field; checked as the file is. Repeatable.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// A built-in profile's name or a TOML file.
    profile: String,
    /// How many messages, from the first; the whole trace if it is shorter.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Seed of every random stream; the profile's own when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that generate; the digest does not depend on it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
}

pub(crate) fn profiles(command: &ProfilesCommand) -> anyhow::Result<Exit> {
    match command {
        ProfilesCommand::List => list(),
        ProfilesCommand::Show { name } => show(name),
        ProfilesCommand::Check(args) => check(args),
        ProfilesCommand::Schema => {
            progress::print(&profile::schema());
            Ok(Exit::Success)
        }
        ProfilesCommand::Digest(args) => print_digest(args),
    }
}

fn list() -> anyhow::Result<Exit> {
    let mut text = String::new();
    for (name, _) in profile::builtin() {
        let about = Profile::load(name).map_err(BadInput::error)?.about;
        let mark = if *name == profile::DEFAULT_PROFILE { " (the default)" } else { "" };
        let _ = writeln!(text, "{name}{mark}\n    {}", about.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    progress::print(&text);
    Ok(Exit::Success)
}

fn show(name: &str) -> anyhow::Result<Exit> {
    let Some((_, text)) = profile::builtin().iter().find(|(builtin, _)| *builtin == name) else {
        let names: Vec<_> = profile::builtin().iter().map(|(name, _)| *name).collect();
        return Err(BadInput::error(format!("there is no built-in profile `{name}`; there are {}", names.join(", "))));
    };
    progress::print_exactly(text);
    Ok(Exit::Success)
}

fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let sets = drive::parse_sets(&args.set)?;
    let profile = Profile::load_with(&args.profile, &sets).map_err(BadInput::error)?;
    let workload = Workload::new(&profile, profile.seed, 0);
    let (digest, digested) = digest_and_count(&workload, CHECKED_MESSAGES, 1);
    let mut text = format!("{}: good\n", profile.name);
    let _ = writeln!(text, "  contract     {}", profile.contract);
    let _ = writeln!(text, "  mean rate    {:.0} messages/s, {} producers", profile.mean_rate(), profile.producers);
    let _ = writeln!(
        text,
        "  offered      {:.0} bytes/s, {:.0} bytes a message",
        profile.offered_bytes(),
        profile.mean_size()
    );
    if let Some(recording) = profile.recording() {
        let horizon = profile.horizon();
        let filled = (recording.replayed().as_secs_f64() / horizon.as_secs_f64()).min(1.0);
        let _ = writeln!(text, "  recording    {} rows over {}", recording.rows, recording.span);
        let _ = writeln!(
            text,
            "  replay       {:.3} times as fast, {}: {:.0} % of warm-up and window ({horizon}){}",
            recording.speed_up,
            recording.replayed(),
            filled * 100.0,
            if recording.replayed() > horizon { "; the rest of it is not replayed" } else { "" }
        );
    }
    for (label, shard) in [("log, queue, direct", false), ("shard", true)] {
        match profile.lanes(shard) {
            Ok(lanes) => {
                let _ = writeln!(text, "  lanes        {lanes} ({label})");
                if shard {
                    text.push_str(&of_shards(&profile, lanes));
                }
            }
            Err(error) => return Err(BadInput::error(error)),
        }
    }
    for (n, group) in profile.groups.iter().enumerate() {
        let used = profile.utilisation(n);
        let remark = if used >= 1.0 { ": more work than its members can do; the backlog will grow" } else { "" };
        let _ =
            writeln!(text, "  group        {}: {} members, utilisation {used:.2}{remark}", group.name, group.members);
    }
    let _ = writeln!(text, "  digest       {digest} (first {digested} messages)");
    progress::print(&text);
    Ok(Exit::Success)
}

/// How much of a shard stream's documented limits the profile asks, on a line, with a remark where that is too much.
fn of_shards(profile: &Profile, lanes: u32) -> String {
    let (all, hottest) = profile.shard_use(lanes);
    let mut text = format!("  shards       the mean rate takes {:.0} % of what they take", all * 100.0);
    if all > 0.9 {
        text.push_str(": no room for arrivals or keys that are uneven; give more with --lanes");
    }
    if let Some(one) = hottest.filter(|one| *one > 0.9) {
        let _ = write!(
            text,
            "; the most frequent key alone takes {:.0} % of one shard{}",
            one * 100.0,
            if one > 1.0 { ", which is throttled however many there are" } else { "" }
        );
    }
    text.push('\n');
    text
}

fn print_digest(args: &DigestArgs) -> anyhow::Result<Exit> {
    let profile = Profile::load(&args.profile).map_err(BadInput::error)?;
    let workload = Workload::new(&profile, args.seed.unwrap_or(profile.seed), 0);
    progress::print(&digest(&workload, args.messages, args.threads as usize).to_string());
    Ok(Exit::Success)
}
