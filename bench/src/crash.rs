//! Figure `crash`: random programs on the embedded backends' store above a simulated disk, broken off by power cuts and kills,
//! opened again and held against what was promised.
//!
//! Leaves out killing real processes, and what models make of what is read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use brokerlab_embedded::store::trial::{Broken, BrokenPromise, Tally, run};
use brokerlab_model::Storage;

use crate::table::{Figure, Row};

/// Power cuts, unless `--cuts N` says otherwise.
const CUTS: u64 = 10_000;
/// Broken promises that are told one by one.
const TOLD: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
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
    Ok(table(asked, &trials(asked)))
}

fn asked(more: &[String]) -> anyhow::Result<Asked> {
    let mut asked = Asked { cuts: CUTS, seed: 0 };
    let (pairs, rest) = more.as_chunks::<2>();
    anyhow::ensure!(rest.is_empty(), "`{}` needs a number after it", rest.join(" "));
    for [name, value] in pairs {
        let number: u64 = value.parse().map_err(|_| anyhow::anyhow!("{name} takes a number, not `{value}`"))?;
        match name.as_str() {
            "--cuts" => asked.cuts = number,
            "--seed" => asked.seed = number,
            _ => anyhow::bail!("no option `{name}`; there are --cuts N and --seed N"),
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
            match run(seed, storage) {
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

fn table(asked: Asked, found: &Found) -> Figure {
    let Found { fsync, page_cache, programs, broken } = found;
    let count = |is: fn(&Broken) -> bool| broken.iter().filter(|b| is(&b.broken)).count();
    let none = |what, times: usize| row(what, grouped(times as u64), "0", Some(times == 0));
    let shown = |what, number| row(what, grouped(number), "–", None);
    let rows = vec![
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
        shown("messages acknowledged", fsync.acknowledged + page_cache.acknowledged),
        none("programs in which an acknowledged one was lost", count(|broken| matches!(broken, Broken::Lost(_)))),
        none("programs in which something wrong was served", count(|broken| matches!(broken, Broken::Wrong(_)))),
        none("programs after which the store was not opened", count(|broken| matches!(broken, Broken::Refused(_)))),
        shown("folders with one bit changed", fsync.rotten + page_cache.rotten),
        shown("of these refused; the others lost at most their end", fsync.refused + page_cache.refused),
    ];
    let seeds = asked.seed..asked.seed + programs;
    Figure {
        name: "crash",
        title: format!(
            "{} random programs (seeds {seeds:?}) on the store above a simulated disk that loses, tears and reorders what was not \
             flushed; opened again after each crash and compared with what was promised.",
            grouped(*programs)
        ),
        rows,
        remarks: broken.iter().take(TOLD).map(ToString::to_string).collect(),
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
        let found = trials(asked);
        assert!(found.fsync.cuts >= 300 && found.page_cache.kills > 0, "{found:?}");
        let figure = table(asked, &found);
        assert!(figure.met(), "{}", figure.print());
    }

    #[test]
    fn a_broken_promise_misses_its_goal_and_is_told_with_its_seed() {
        let broken = BrokenPromise { seed: 17, storage: Storage::Fsync, broken: Broken::Lost("lane 1".to_owned()) };
        let found = Found { programs: 1, broken: vec![broken], ..Found::default() };
        let figure = table(Asked { cuts: 0, seed: 17 }, &found);
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
