//! From flags to a checked profile and to how it is driven: what `run`, `compare` and their children share.

use brokerlab_host::Waiting;
use brokerlab_model::Span;
use brokerlab_workloads::profile::{self, Profile, ProfileError};

use crate::args::{DriveArgs, ProfileArgs, WaitingArg};
use crate::exit::BadInput;

/// Overrides of profile fields, in the order in which they are laid over the file.
pub(crate) type Sets = Vec<(String, String)>;

/// Reads `path=value` pairs.
pub(crate) fn parse_sets(pairs: &[String]) -> anyhow::Result<Sets> {
    let split = |pair: &String| {
        let (path, value) = pair.split_once('=').ok_or_else(|| {
            BadInput::error(format!(
                "--set {pair}: there is no `=`; write --set path.to.field=value, for example --set producers=8"
            ))
        })?;
        Ok((path.trim().to_owned(), value.trim().to_owned()))
    };
    pairs.iter().map(split).collect()
}

/// Every override on the command line: `--set` first, then the short forms.
pub(crate) fn sets(args: &ProfileArgs) -> anyhow::Result<Sets> {
    let mut sets = parse_sets(&args.set)?;
    sets.extend(short_forms(args).into_iter().map(|(_, path, value)| (path.to_owned(), value)));
    Ok(sets)
}

/// The short forms that were given: flag without dashes, the path that it sets, value.
fn short_forms(args: &ProfileArgs) -> Vec<(&'static str, &'static str, String)> {
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    let short = [
        ("rate", args.rate.clone()),
        ("size", args.size.clone()),
        ("producers", number(args.producers)),
        ("consumers", number(args.consumers)),
        ("lanes", number(args.lanes)),
        ("work", args.work.clone()),
        ("contract", args.contract.clone()),
        ("duration", args.duration.clone()),
        ("seed", args.seed.map(|seed| seed.to_string())),
    ];
    let given = short.into_iter().filter_map(|(flag, value)| {
        let path = profile::set_paths().iter().find(|(name, _)| *name == flag).map(|(_, path)| *path);
        Some((flag, path.unwrap_or(flag), value?))
    });
    given.collect()
}

/// A fault of a short form, told by the flag that was typed instead of the override that it stands for.
fn as_typed(mut error: ProfileError, args: &ProfileArgs) -> ProfileError {
    let Some(path) = error.file.strip_prefix("--set ").map(str::to_owned) else { return error };
    if let Some(remedy) = short_form_meant(&error) {
        error.remedy = remedy;
    }
    let stands = |(flag, at, value): (&'static str, &str, String)| {
        let value = value.trim();
        (at == path && error.excerpt.text == format!("{path}={value}")).then(|| (flag, value.to_owned()))
    };
    let Some((flag, value)) = short_forms(args).into_iter().find_map(stands) else { return error };
    if flag == "size" && ["sizes", ""].contains(&error.key.as_str()) {
        "write a size such as 512B or 1KiB; another distribution is --set 'sizes={ kind = \"uniform\", … }'"
            .clone_into(&mut error.remedy);
    }
    error.file = format!("--{flag}");
    error.excerpt.text = format!("--{flag} {value}");
    let before = path.chars().count() + 1;
    if error.column > before {
        error.column = error.column - before + flag.len() + 3;
    } else {
        error.column = 1;
        error.excerpt.width = flag.len() + 2;
    }
    error
}

/// What to write where a key that is none is, or nearly is, a short form of the command line.
pub(crate) fn short_form_meant(error: &ProfileError) -> Option<String> {
    let typed = error.key.as_str();
    let near =
        |short: &str| typed == short || (typed.len() > 2 && (short.starts_with(typed) || typed.starts_with(short)));
    let unknown = error.message == format!("unknown key `{typed}`");
    let (short, path) =
        profile::set_paths().iter().find(|(short, path)| short != path && near(short)).filter(|_| unknown)?;
    Some(format!("write {path}=…, which is what --{short} sets"))
}

/// The profile with its overrides.
pub(crate) fn load(args: &ProfileArgs, sets: &Sets) -> anyhow::Result<Profile> {
    Profile::load_with(&args.profile, sets)
        .map_err(|error| too_short(args, sets, &error).unwrap_or_else(|| BadInput::error(as_typed(error, args))))
}

/// What is wrong with a `--duration` that a profile's pauses or spikes don't fit into: the least that they do.
fn too_short(args: &ProfileArgs, sets: &Sets, error: &ProfileError) -> Option<anyhow::Error> {
    let asked = args.duration.as_deref().filter(|_| !error.file.starts_with("--set "))?;
    let fits = |length: Span| {
        let longer = sets.iter().map(|(path, value)| match path.as_str() {
            "duration" => (path.clone(), format!("{}us", length.0 / 1_000)),
            _ => (path.clone(), value.clone()),
        });
        Profile::load_with(&args.profile, &longer.collect::<Sets>()).is_ok()
    };
    let own: Sets = sets.iter().filter(|(path, _)| path != "duration").cloned().collect();
    let (mut low, mut high) = (0, Profile::load_with(&args.profile, &own).ok()?.duration.0.div_ceil(1_000_000));
    if !fits(Span::from_millis(high)) {
        return None;
    }
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(Span::from_millis(middle)) { high = middle } else { low = middle }
    }
    Some(BadInput::error(format!(
        "--duration {asked}: too short for the profile, {}: {}; --duration must be at least {}",
        error.key,
        error.message,
        Span::from_millis(high)
    )))
}

/// How many loops: as asked, or one per core less one that is left for storage and the system.
pub(crate) fn threads(args: &DriveArgs) -> anyhow::Result<u32> {
    let cores = cores();
    match args.threads {
        None => Ok(cores.saturating_sub(1).max(1)),
        Some(0) => Err(BadInput::error("--threads 0: at least one loop must drive the clients")),
        Some(asked) if asked > cores => Err(BadInput::error(format!(
            "--threads {asked}: this machine has {cores} cores, and loops beyond one per core measure the scheduler; ask for at most {cores}"
        ))),
        Some(asked) => Ok(asked),
    }
}

/// The waiting policy of all rows. On a virtual machine a core that sleeps comes back late by milliseconds now and then, which
/// spoils every quantile above p99; a loop that spins keeps its core, and needs one to be left for everything else.
/// Beside a real broker on this machine, or an engine in a process of its own, it would take from theirs, so loops park then.
pub(crate) fn waiting(args: &DriveArgs, beside: bool) -> anyhow::Result<Waiting> {
    Ok(match args.waiting {
        Some(WaitingArg::Yield) => Waiting::Yield,
        Some(WaitingArg::Spin) => Waiting::Spin,
        None if !beside && threads(args)? < cores() => Waiting::Spin,
        Some(WaitingArg::Park) | None => Waiting::Park,
    })
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// Refuses flags that mean nothing for embedded backends.
pub(crate) fn check_built(args: &DriveArgs, live: bool) -> anyhow::Result<()> {
    if args.accept_weaker && !live {
        return Err(BadInput::error(
            "--accept-weaker: the embedded backends refuse instead of weakening; there is nothing weaker to accept, so leave it \
             out and ask for a contract that they keep (`brokerlab backends`)",
        ));
    }
    if args.existing && !live {
        return Err(BadInput::error(
            "--existing: an embedded backend begins empty, no channel is there already; leave it out, or name a real broker",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_overrides_after_the_long_ones() {
        let args = ProfileArgs {
            set: vec!["producers = 3".to_owned()],
            rate: Some("5k/s".to_owned()),
            seed: Some(9),
            ..ProfileArgs::default()
        };
        let sets = sets(&args).unwrap();
        let expected = [("producers", "3"), ("arrivals.rate", "5k/s"), ("seed", "9")];
        assert_eq!(sets, expected.map(|(path, value)| (path.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_fault_of_a_short_form_names_the_flag_and_one_of_an_override_the_override() {
        let fault = |args: &ProfileArgs| load(args, &sets(args).unwrap()).unwrap_err().to_string();
        let profile = || "order-processing".to_owned();
        let typed =
            fault(&ProfileArgs { profile: profile(), rate: Some("20q/s".to_owned()), ..ProfileArgs::default() });
        assert!(typed.starts_with("--rate:1:8: arrivals.rate: `20q/s` is not a rate"), "{typed}");
        assert!(typed.contains("1 | --rate 20q/s\n  |        ^^^^^"), "{typed}");
        let set = vec!["arrivals.rate=20q/s".to_owned()];
        let long = fault(&ProfileArgs { profile: profile(), set, ..ProfileArgs::default() });
        assert!(long.starts_with("--set arrivals.rate:1:15: "), "{long}");
    }

    /// Why the arguments make no profile.
    fn told(args: &ProfileArgs) -> String {
        load(args, &sets(args).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_remedy_says_what_can_be_written() {
        let of = |size: &str| ProfileArgs {
            profile: "order-processing".to_owned(),
            size: Some(size.to_owned()),
            ..ProfileArgs::default()
        };
        for size in ["10", "fixed"] {
            assert!(told(&of(size)).contains("write a size such as 512B"), "{}", told(&of(size)));
        }
        for set in ["rate=2k/s", "rat=2k/s"] {
            let profile = "order-processing".to_owned();
            let told = told(&ProfileArgs { profile, set: vec![set.to_owned()], ..ProfileArgs::default() });
            assert!(told.contains("write arrivals.rate=…, which is what --rate sets"), "{told}");
        }
    }

    #[test]
    fn a_duration_that_a_pause_does_not_fit_into_is_told_with_the_least_that_does() {
        let of = |duration: &str| ProfileArgs {
            profile: "pub-sub-fanout".to_owned(),
            duration: Some(duration.to_owned()),
            ..ProfileArgs::default()
        };
        let told = told(&of("100ms"));
        assert!(told.starts_with("--duration 100ms: too short for the profile, pauses.0"), "{told}");
        let (_, least) = told.split_once("--duration must be at least ").unwrap();
        let least = least.replace(' ', "");
        assert!(load(&of(&least), &sets(&of(&least)).unwrap()).is_ok(), "{least}");
    }

    #[test]
    fn a_set_without_a_value_is_refused_with_the_way_to_write_it() {
        let error = parse_sets(&["producers".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("--set path.to.field=value"), "{error}");
    }
}
