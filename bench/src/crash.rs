//! Figure `crash`: processes that serve the embedded backends, killed under load and started again; and random programs on the backends'
//! store above a simulated disk, broken off by power cuts and kills. Both are held against what was promised.
//!
//! The processes' part is [`kills`]'s. Leaves out, of the programs, what models make of what is read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;
use brokerlab_embedded::store::trial::{Broken, BrokenPromise, Tally, run, run_with_more};
use brokerlab_model::Storage;

use crate::kills;
use crate::table::{Figure, Row};

/// Kills of a process, unless `--cycles N` says otherwise.
const CYCLES: u64 = 500;
/// Power cuts, unless `--cuts N` says otherwise.
const CUTS: u64 = 10_000;
/// Broken promises that are told one by one.
const TOLD: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    cycles: u64,
    cuts: u64,
    /// The seed of the first program; the others follow.
    seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
struct Found {
    /// With `storage = fsync`, and with `storage = page-cache`.
    fsync: Tally,
    page_cache: Tally,
    programs: u64,
    broken: Vec<BrokenPromise>,
}

/// Takes the figure; `more` is what follows its name.
pub fn figure(more: &[String]) -> anyhow::Result<Figure> {
    let asked = asked(more)?;
    let killed = if asked.cycles == 0 {
        kills::Tally::default()
    } else {
        let folder = std::env::var_os("BROKERLAB_FIGURES_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        kills::trials(&kills::beside()?, &folder, asked.cycles, asked.seed)?
    };
    Ok(table(asked, &trials(asked), killed))
}

fn asked(more: &[String]) -> anyhow::Result<Asked> {
    let mut asked = Asked { cycles: CYCLES, cuts: CUTS, seed: 0 };
    let (pairs, rest) = more.as_chunks::<2>();
    anyhow::ensure!(rest.is_empty(), "`{}` needs a number after it", rest.join(" "));
    for [name, value] in pairs {
        let number: u64 = value.parse().map_err(|_| anyhow::anyhow!("{name} takes a number, not `{value}`"))?;
        match name.as_str() {
            "--cycles" => asked.cycles = number,
            "--cuts" => asked.cuts = number,
            "--seed" => asked.seed = number,
            _ => anyhow::bail!("no option `{name}`; there are --cycles N, --cuts N and --seed N"),
        }
    }
    Ok(asked)
}

/// Runs programs on every core until there were as many cuts as asked for; the seeds say which.
fn trials(asked: Asked) -> Found {
    let next = AtomicU64::new(asked.seed);
    let cuts = AtomicU64::new(0);
    let enough = AtomicBool::new(asked.cuts == 0);
    let work = || {
        let mut found = Found::default();
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // One in four without a flush: there only the process can end.
            let storage = if seed % 4 == 3 { Storage::PageCache } else { Storage::Fsync };
            found.programs += 1;
            // One in three with what only some models ask for.
            let tally = if seed % 3 == 2 { run_with_more(seed, storage) } else { run(seed, storage) };
            match tally {
                Ok(tally) => {
                    let flushed = storage == Storage::Fsync;
                    let sum = if flushed { &mut found.fsync } else { &mut found.page_cache };
                    sum.add(&tally);
                    if cuts.fetch_add(tally.cuts, Ordering::Relaxed) + tally.cuts >= asked.cuts {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
                Err(broken) => {
                    found.broken.push(broken);
                    // A store that breaks every promise must not run for ever.
                    if found.broken.len() > 1_000 {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        found
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Found::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            let found = thread.join().expect("a trial that panics is a bug, with its seed in its message");
            all.fsync.add(&found.fsync);
            all.page_cache.add(&found.page_cache);
            all.programs += found.programs;
            all.broken.extend(found.broken);
        }
    });
    all.broken.sort_by_key(|broken| broken.seed);
    all
}

fn row(what: &str, found: String, goal: &str, met: Option<bool>) -> Row {
    let dash = || "–".to_owned();
    Row { what: what.to_owned(), found, reference: dash(), ratio: dash(), goal: goal.to_owned(), met }
}

/// Rows of the kills of real processes.
fn killed_rows(asked: Asked, killed: &kills::Tally) -> Vec<Row> {
    let all: u64 = killed.kills.iter().sum();
    let shown = |what, number| row(what, grouped(number), "–", None);
    let mut rows = vec![
        row(
            "processes killed (SIGKILL)",
            grouped(all),
            &format!("≥ {}", grouped(asked.cycles)),
            Some(all >= asked.cycles),
        ),
        shown("of these with storage = fsync", killed.kills[1]),
        shown("of these while they were starting", killed.while_starting),
        shown("messages acknowledged", killed.acknowledged),
        shown("deliveries, each held against what was published", killed.delivered),
        shown("settlements confirmed", killed.settled),
        shown("receipts of an earlier life shown and refused", killed.stale),
        shown("transactions committed", killed.committed),
        shown("messages that compaction left out", killed.left_out),
        shown("lanes split and merged", killed.reshapes),
        shown("dead letters delivered", killed.letters),
    ];
    rows.extend(killed.broken().map(|(what, number)| row(what, grouped(number), "0", Some(number == 0))));
    rows
}

fn table(asked: Asked, found: &Found, killed: kills::Tally) -> Figure {
    let Found { fsync, page_cache, programs, broken } = found;
    let count = |is: fn(&Broken) -> bool| broken.iter().filter(|b| is(&b.broken)).count();
    let none = |what, times: usize| row(what, grouped(times as u64), "0", Some(times == 0));
    let shown = |what, number| row(what, grouped(number), "–", None);
    let mut rows = if asked.cycles == 0 { Vec::new() } else { killed_rows(asked, &killed) };
    rows.extend([
        row(
            "power cuts (storage = fsync)",
            grouped(fsync.cuts),
            &format!("≥ {}", grouped(asked.cuts)),
            Some(fsync.cuts >= asked.cuts),
        ),
        shown("kills (storage = fsync)", fsync.kills),
        shown("kills (storage = page-cache)", page_cache.kills),
        shown("of these in the middle of a call to the disk", fsync.within_a_call + page_cache.within_a_call),
        shown("failed calls (no space, write, flush, read)", fsync.faults + page_cache.faults),
        shown("messages acknowledged there", fsync.acknowledged + page_cache.acknowledged),
        shown("compactions", fsync.compactions + page_cache.compactions),
        shown("messages of transactions", fsync.provisional + page_cache.provisional),
        shown("dead letters", fsync.letters + page_cache.letters),
        none("programs in which an acknowledged one was lost", count(|broken| matches!(broken, Broken::Lost(_)))),
        none("programs in which something wrong was served", count(|broken| matches!(broken, Broken::Wrong(_)))),
        none("programs after which the store was not opened", count(|broken| matches!(broken, Broken::Refused(_)))),
        shown("folders with one bit changed", fsync.rotten + page_cache.rotten),
        shown("of these refused; the others lost at most their end", fsync.refused + page_cache.refused),
    ]);
    let told = killed.told.into_iter().chain(broken.iter().map(ToString::to_string));
    let seeds = asked.seed..asked.seed + programs;
    Figure {
        name: "crash",
        title: format!(
            "Processes that serve log, queue, shard and direct behind loopback sockets, killed at random moments and started again on the \
             same folder; and {} random programs (seeds {seeds:?}) on the store above a simulated disk that loses, tears and reorders what was not \
             flushed; opened again after each crash and compared with what was promised.",
            grouped(*programs)
        ),
        rows,
        remarks: told.take(TOLD).collect(),
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_is_met_at_a_few_cuts() {
        let asked = asked(&["--cuts".to_owned(), "300".to_owned(), "--seed".to_owned(), "50000".to_owned()]).unwrap();
        assert_eq!(asked.cycles, CYCLES);
        let asked = Asked { cycles: 0, ..asked };
        let found = trials(asked);
        assert!(found.fsync.cuts >= 300 && found.page_cache.kills > 0, "{found:?}");
        let figure = table(asked, &found, kills::Tally::default());
        assert!(figure.met(), "{}", figure.print());
    }

    #[test]
    fn a_broken_promise_misses_its_goal_and_is_told_with_its_seed() {
        let broken = BrokenPromise { seed: 17, storage: Storage::Fsync, broken: Broken::Lost("lane 1".to_owned()) };
        let found = Found { programs: 1, broken: vec![broken], ..Found::default() };
        let figure = table(Asked { cycles: 0, cuts: 0, seed: 17 }, &found, kills::Tally::default());
        assert!(!figure.met());
        assert!(figure.remarks[0].contains("seed 17") && figure.remarks[0].contains("lost: lane 1"), "{figure:?}");
    }

    #[test]
    fn what_it_does_not_know_is_an_error() {
        assert!(figure(&["--cuts".to_owned()]).is_err());
        assert!(figure(&["--cuts".to_owned(), "many".to_owned()]).is_err());
        assert!(figure(&["--cut".to_owned(), "1".to_owned()]).is_err());
        assert_eq!((grouped(7), grouped(1_234_567)), ("7".to_owned(), "1,234,567".to_owned()));
    }
}
