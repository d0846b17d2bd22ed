//! Processes that serve an embedded backend under load are killed at random moments, started again on the same folder, and held against what
//! they had acknowledged.
//!
//! A *program* is one folder: some lives that end by SIGKILL, under load or while they start, and one in which everything is read back.
//! Leaves out power cuts, where the system forgets too: those are simulated (`crash`).

mod books;
mod bundles;
mod life;
mod load;
mod shape;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;
use brokerlab_model::{Contract, Delivery, Storage};

use books::{Books, Breach};
use life::{Draw, LANES, Life};
use shape::Shape;

/// Lives of one folder that end by a kill.
const LIVES: u64 = 8;
/// What a program does beside publishing, reading and settling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extra {
    #[default]
    Nothing,
    /// It publishes and settles in transactions, some of which it gives up.
    Transactions,
    /// Of each key the latest message stays.
    Compaction,
    /// Lanes are split and merged.
    Reshape,
    /// Some messages are held back, some become dead letters.
    Letters,
}

/// Backends that are killed in turn, with segments so small that they are used again and again. What only holds load back is out of the way.
const BACKENDS: [(&str, bool, Extra); 8] = [
    ("log?segment=64KiB", true, Extra::Nothing),
    ("queue?segment=64KiB", false, Extra::Nothing),
    ("shard?segment=64KiB&write_records=1000000&write_bytes=1GiB&read_bytes=1GiB", true, Extra::Nothing),
    ("direct?segment=64KiB", false, Extra::Nothing),
    ("log?segment=64KiB", true, Extra::Transactions),
    ("log?segment=64KiB&cleanup=compact&active_bytes=4KiB&min_dirty_ratio=0.2", true, Extra::Compaction),
    ("shard?segment=64KiB&write_records=1000000&write_bytes=1GiB&read_bytes=1GiB", true, Extra::Reshape),
    ("queue?segment=64KiB&dead_letter=channel", false, Extra::Letters),
];

/// What holds for a program's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rules {
    /// Positions are settled up to one, not one by one.
    cumulative: bool,
    at_most_once: bool,
    extra: Extra,
}

/// What was done, and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Kills, with `storage = page-cache` and with `storage = fsync`.
    pub kills: [u64; 2],
    /// Of all, those of a process that was just starting.
    pub while_starting: u64,
    /// Messages acknowledged, delivered, and settlements confirmed.
    pub acknowledged: u64,
    /// Deliveries, every one of which was looked at.
    pub delivered: u64,
    /// Settlements that were confirmed.
    pub settled: u64,
    /// Receipts of an earlier life that were shown in vain.
    pub stale: u64,
    /// Transactions committed.
    pub committed: u64,
    /// Messages that compaction left out.
    pub left_out: u64,
    /// Lanes split and merged.
    pub reshapes: u64,
    /// Dead letters that came.
    pub letters: u64,
    lost: u64,
    wrong: u64,
    again: u64,
    taken: u64,
    refused: u64,
    /// What was broken, in words.
    pub told: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.kills = [self.kills[0] + other.kills[0], self.kills[1] + other.kills[1]];
        self.while_starting += other.while_starting;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.settled += other.settled;
        self.stale += other.stale;
        self.committed += other.committed;
        self.left_out += other.left_out;
        self.reshapes += other.reshapes;
        self.letters += other.letters;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.again += other.again;
        self.taken += other.taken;
        self.refused += other.refused;
        self.told.extend(other.told);
    }

    fn breach(&mut self, breach: Breach, why: String) {
        *match breach {
            Breach::Lost => &mut self.lost,
            Breach::Wrong => &mut self.wrong,
            Breach::Again => &mut self.again,
            Breach::Stale => &mut self.taken,
            Breach::Refused => &mut self.refused,
        } += 1;
        self.told.push(why);
    }

    /// How often each promise was broken, with what it is.
    pub fn broken(&self) -> [(&'static str, u64); 5] {
        [
            ("acknowledged messages lost", self.lost),
            ("messages with wrong bytes, at a wrong place, or never published", self.wrong),
            ("duplicates beyond the contract", self.again),
            ("receipts of an earlier life that settled something", self.taken),
            ("processes that did not serve again, or did not answer", self.refused),
        ]
    }
}

/// One program's settings, which its seed fixes.
#[derive(Clone, Copy, Debug)]
struct Program {
    seed: u64,
    url: &'static str,
    rules: Rules,
    contract: Contract,
}

impl Program {
    /// Backends, storages and deliveries in turn: one in four of those without an extra settles with its delivery.
    fn of(seed: u64) -> Self {
        let kinds = BACKENDS.len() as u64;
        let (url, cumulative, extra) = BACKENDS[(seed % kinds) as usize];
        let storage = if (seed / kinds).is_multiple_of(2) { Storage::PageCache } else { Storage::Fsync };
        let delivery = match extra {
            Extra::Nothing if (seed / kinds / 2) % 4 == 3 => Delivery::AtMostOnce,
            Extra::Transactions => Delivery::ExactlyOnce,
            Extra::Nothing | Extra::Compaction | Extra::Reshape | Extra::Letters => Delivery::AtLeastOnce,
        };
        let rules = Rules { cumulative, at_most_once: delivery == Delivery::AtMostOnce, extra };
        Self { seed, url, rules, contract: Contract { storage, delivery, ..Contract::default() } }
    }

    fn name(&self) -> String {
        format!("seed {}, {} under `{}`", self.seed, self.url, self.contract)
    }
}

/// Kills processes of `program` on every core until there were so many kills; each folder is made in `parent`.
pub fn trials(program: &Path, parent: &Path, kills: u64, first_seed: u64) -> anyhow::Result<Tally> {
    let (next, made) = (AtomicU64::new(first_seed), AtomicU64::new(0));
    let enough = AtomicBool::new(kills == 0);
    let work = || -> anyhow::Result<Tally> {
        let mut all = Tally::default();
        while !enough.load(Ordering::Relaxed) {
            let tally = run(Program::of(next.fetch_add(1, Ordering::Relaxed)), program, parent)?;
            let so_far = made.fetch_add(tally.kills.iter().sum(), Ordering::Relaxed) + tally.kills.iter().sum::<u64>();
            all.add(tally);
            // What breaks every promise must not go on for ever.
            if so_far >= kills || all.told.len() > 100 {
                enough.store(true, Ordering::Relaxed);
            }
        }
        Ok(all)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Tally::default();
        for thread in running {
            all.add(thread.join().expect("a trial does not panic")?);
        }
        Ok(all)
    })
}

/// The program `brokerlab` beside this one.
pub fn beside() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("can't find the path of this program")?;
    let folders = here.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("brokerlab")).find(|path| path.is_file());
    found.with_context(|| {
        format!("no program `brokerlab` beside {}; build it with `cargo build -p brokerlab`", here.display())
    })
}

/// One folder, from its first life to its last.
fn run(of: Program, exe: &Path, parent: &Path) -> anyhow::Result<Tally> {
    let folder =
        tempfile::Builder::new().prefix("brokerlab-kills-").tempdir_in(parent).context("no folder for a trial")?;
    let data = folder.path().join("data");
    let mut draw = Draw::new(of.seed);
    let mut books = Books::new(of.rules);
    let mut shape = Shape::new(LANES);
    let mut tally = Tally::default();
    let mut old = Vec::new();
    for life in 0..=LIVES {
        let last = life == LIVES;
        if life > 0 && !last && draw.below(6) == 0 {
            life::killed_while_starting(&of, exe, &data, &mut draw)?;
            tally.while_starting += 1;
            tally.kills[usize::from(of.contract.storage == Storage::Fsync)] += 1;
            continue;
        }
        let ended = Life::begin(&of, exe, &data, life > 0, (&mut books, &mut shape)).and_then(|mut this| {
            this.show_old(&old)?;
            if last {
                this.read_back()?;
            } else {
                this.load(&mut draw)?;
            }
            old.extend(this.receipts());
            Ok(this.end())
        });
        match ended {
            Ok(lived) => {
                tally.delivered += lived.delivered;
                tally.stale += lived.stale;
                tally.letters += lived.letters;
            }
            Err((breach, why)) => {
                tally.breach(breach, format!("{}, life {life}: {why}", of.name()));
                break;
            }
        }
        if !last {
            tally.kills[usize::from(of.contract.storage == Storage::Fsync)] += 1;
        }
    }
    tally.acknowledged += books.acknowledged_in_all();
    tally.committed += books.bundles.committed_in_all();
    tally.left_out += books.left_out();
    tally.reshapes += shape.changes();
    tally.settled += books.settlements();
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program is built by the command's own tests, or by `cargo build`.
    #[test]
    fn some_kills_of_every_backend_break_nothing() {
        let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let parent = std::env::var_os("CARGO_TARGET_DIR").map_or(parent, PathBuf::from);
        std::fs::create_dir_all(&parent).unwrap();
        let tally = trials(&beside().unwrap(), &parent, 128, 0).unwrap();
        assert!(tally.told.is_empty(), "{:#?}", tally.told);
        assert!(tally.kills.iter().all(|&kills| kills > 8), "{tally:?}");
        assert!(tally.committed > 0 && tally.left_out > 0 && tally.reshapes > 0 && tally.letters > 0, "{tally:?}");
        assert!(tally.acknowledged > 100 && tally.delivered > 100 && tally.settled > 0 && tally.stale > 0, "{tally:?}");
    }

    #[test]
    fn seeds_take_backends_storages_and_deliveries_in_turn() {
        let programs: Vec<Program> = (0..64).map(Program::of).collect();
        for (url, _, extra) in BACKENDS {
            for storage in [Storage::PageCache, Storage::Fsync] {
                let of = |delivery| {
                    let same = |p: &&Program| p.url == url && p.rules.extra == extra && p.contract.storage == storage;
                    programs.iter().filter(same).filter(|p| p.contract.delivery == delivery).count()
                };
                let found = [Delivery::AtLeastOnce, Delivery::AtMostOnce, Delivery::ExactlyOnce].map(of);
                let expected = match extra {
                    Extra::Nothing => [3, 1, 0],
                    Extra::Transactions => [0, 0, 4],
                    Extra::Compaction | Extra::Reshape | Extra::Letters => [4, 0, 0],
                };
                assert_eq!(found, expected, "{url} {storage}");
            }
        }
    }
}
