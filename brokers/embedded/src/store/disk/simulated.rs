//! A disk in memory that is as bad as disks are allowed to be; the same seed makes it bad in the same way.
//!
//! A file's writes and length are durable once the file is flushed, its name once the folder is. [`cut`](SimulatedDisk::cut) gives
//! what a power cut leaves: each write that was not flushed is kept, lost or torn between sectors of 512 bytes, in any order, and
//! each name that was made, changed or removed is kept or lost by itself. A cut may come in the middle of any call, and calls fail
//! where it is [planned](SimulatedDisk::plan). Writes and reads may be short. Leaves out time, and sectors that are torn in
//! themselves: devices promise that those are whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::Storage;
use rustix::io::Errno;

use super::contents::{Contents, SECTOR};
use super::random::Random;
use super::{Disk, DiskFile, Lock};
use crate::store::error::StoreError;
use crate::store::facts::StorageFacts;

/// What can be planned to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Space is asked for and there is none (ENOSPC): a reservation, or a write that makes a file longer.
    Space,
    /// A write fails (EIO).
    Write,
    /// A flush of a file or of the folder fails (EIO); nobody knows what became of what it covered.
    Flush,
    /// A read fails (EIO).
    Read,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Space, Self::Write, Self::Flush, Self::Read];

    fn error(self) -> io::Error {
        match self {
            Self::Space => Errno::NOSPC.into(),
            Self::Write | Self::Flush | Self::Read => Errno::IO.into(),
        }
    }
}

/// A folder on a simulated disk.
#[derive(Debug)]
pub struct SimulatedDisk {
    dir: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug)]
struct State {
    random: Random,
    /// Every file by a number that is never used again, with or without a name.
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// In the order in which they were made.
    unflushed_names: Vec<NameChange>,
    locked: bool,
    operations: u64,
    /// The call in which the machine ends.
    ends_in: Option<u64>,
    ended: bool,
    /// Calls that can fail, by kind.
    calls: [u64; 4],
    planned: Vec<(Fault, u64)>,
    faults_met: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Made { name: String, file: u64 },
    Renamed { from: String, to: String, file: u64 },
    Removed { name: String, file: u64 },
}

/// Whether a call runs to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Whole,
    /// The machine ends in its middle.
    Last,
}

/// The error of every call once the machine has ended.
fn ended() -> io::Error {
    io::Error::other("the simulated machine has ended")
}

fn answer<T>(turn: Turn, value: T) -> io::Result<T> {
    match turn {
        Turn::Whole => Ok(value),
        Turn::Last => Err(ended()),
    }
}

impl SimulatedDisk {
    /// An empty folder on a disk whose draws come from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unflushed_names: Vec::new(),
            locked: false,
            operations: 0,
            ends_in: None,
            ended: false,
            calls: [0; 4],
            planned: Vec::new(),
            faults_met: 0,
        };
        Self::of(state)
    }

    fn of(state: State) -> Self {
        Self { dir: PathBuf::from("simulated"), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets one call of the kind fail: the next one after `after` more.
    pub fn plan(&self, fault: Fault, after: u64) {
        let mut state = self.state();
        let at = state.calls[fault as usize] + after;
        state.planned.push((fault, at));
    }

    /// Lets the machine end in the middle of a call, the next one after `after` more: that call may be done, in part or not at all,
    /// and it and every later one fails.
    pub fn end_after(&self, after: u64) {
        let mut state = self.state();
        state.ends_in = Some(state.operations + after);
    }

    /// Whether the machine has ended.
    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Planned faults that were met.
    pub fn faults_met(&self) -> u64 {
        self.state().faults_met
    }

    /// Calls so far, since the disk was new.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The disk as a process finds it that starts after the former one was killed: whatever was written is there, durable or
    /// not. Nothing is planned, and nothing locked. This disk stays as it is.
    pub fn kill(&self) -> Self {
        let mut state = self.state().clone();
        state.restart();
        Self::of(state)
    }

    /// The disk as a machine finds it that starts after a power cut. Nothing is planned, and nothing locked. This disk stays
    /// as it is.
    pub fn cut(&self, seed: u64) -> Self {
        let mut state = self.state().clone();
        state.cut(&mut Random::new(seed));
        state.restart();
        Self::of(state)
    }

    /// The names of its files, in order, with their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.state();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[file].visible.len() as u64)).collect()
    }

    /// Changes bits of a byte of a file, on the device too; false when there is no such file or byte.
    pub fn rot(&self, name: &str, at: u64, bits: u8) -> bool {
        let mut state = self.state();
        let Some(file) = state.names.get(name).copied() else { return false };
        state.files.get_mut(&file).is_some_and(|contents| contents.rot(at, bits))
    }
}

impl Clone for SimulatedDisk {
    /// Another disk with the same contents, durable and not.
    fn clone(&self) -> Self {
        Self::of(self.state().clone())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics while it holds a simulated disk")
}

impl State {
    /// Counts a call.
    fn turn(&mut self) -> io::Result<Turn> {
        if self.ended {
            return Err(ended());
        }
        self.operations += 1;
        self.ended = self.ends_in.is_some_and(|last| self.operations > last);
        Ok(if self.ended { Turn::Last } else { Turn::Whole })
    }

    /// Counts a call that can fail, and fails it if that is planned.
    fn fallible(&mut self, fault: Fault) -> io::Result<()> {
        let call = self.calls[fault as usize];
        self.calls[fault as usize] += 1;
        if self.planned.contains(&(fault, call)) {
            self.faults_met += 1;
            return Err(fault.error());
        }
        Ok(())
    }

    fn file(&mut self, file: u64) -> &mut Contents {
        self.files.get_mut(&file).expect("a file outlives its handles")
    }

    fn named(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Does what a call is for, or, in the last one, perhaps.
    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        let turn = self.turn()?;
        if turn == Turn::Whole || self.random.chance(1, 2) {
            change.apply(&mut self.names, false);
            self.unflushed_names.push(change);
        }
        answer(turn, ())
    }

    /// The length of a part of `len` bytes from `at` on that ends between sectors; all of it, if there is no such part.
    fn part(&mut self, at: u64, len: u64, least: u64) -> u64 {
        let (from, until) = (at.next_multiple_of(SECTOR), (at + len) / SECTOR * SECTOR);
        if from > until {
            return len;
        }
        let part = from + self.random.below((until - from) / SECTOR + 1) * SECTOR - at;
        if part < least { len } else { part }
    }

    fn write(&mut self, file: u64, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let turn = self.turn()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let len = bytes.len() as u64;
        if turn == Turn::Whole {
            self.fallible(Fault::Write)?;
            if at + len > self.file(file).visible.len() as u64 {
                self.fallible(Fault::Space)?;
            }
        }
        let short = match turn {
            Turn::Whole => self.random.chance(1, 16).then_some(1),
            Turn::Last => Some(0),
        };
        if let Some(least) = short {
            bytes.truncate(self.part(at, len, least) as usize);
        }
        if turn == Turn::Last && self.random.chance(1, 3) {
            bytes.clear();
        }
        if !bytes.is_empty() {
            self.file(file).write(at, &bytes);
        }
        answer(turn, bytes.len())
    }

    fn read(&mut self, file: u64, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let turn = self.turn()?;
        self.fallible(Fault::Read)?;
        let mut len = bytes.len() as u64;
        if self.random.chance(1, 16) {
            len = self.part(at, len, 1);
        }
        let from = self.file(file).visible.get(at as usize..).unwrap_or_default();
        let len = from.len().min(len as usize);
        bytes[..len].copy_from_slice(&from[..len]);
        answer(turn, len)
    }

    fn flush(&mut self, file: u64) -> io::Result<()> {
        let turn = self.turn()?;
        let failed = self.fallible(Fault::Flush);
        let Self { files, random, .. } = self;
        let contents = files.get_mut(&file).expect("a file outlives its handles");
        match (turn, &failed) {
            (Turn::Last, _) => contents.flush_in_part(random),
            (Turn::Whole, Ok(())) => contents.flush(),
            (Turn::Whole, Err(_)) => contents.fail_flush(random),
        }
        failed.and_then(|()| answer(turn, ()))
    }

    /// A folder that can't be flushed keeps its changes: file systems hold them in a journal, and what was not written there waits.
    fn flush_names(&mut self) -> io::Result<()> {
        let turn = self.turn()?;
        let failed = self.fallible(Fault::Flush);
        let whole = turn == Turn::Whole && failed.is_ok();
        let Self { unflushed_names, durable_names, random, .. } = self;
        unflushed_names.retain(|change| {
            let written = whole || random.chance(1, 2);
            if written {
                change.apply(durable_names, true);
            }
            !written
        });
        failed.and_then(|()| answer(turn, ()))
    }

    fn cut(&mut self, random: &mut Random) {
        let kept = [0, 1, 4, 7, 8][random.below(5) as usize];
        for change in std::mem::take(&mut self.unflushed_names) {
            if random.chance(kept, 8) {
                change.apply(&mut self.durable_names, true);
            }
        }
        self.names = self.durable_names.clone();
        for contents in self.files.values_mut() {
            contents.cut(random);
        }
    }

    /// Forgets what was planned, and files to which no name leads.
    fn restart(&mut self) {
        self.locked = false;
        self.ended = false;
        self.ends_in = None;
        self.planned.clear();
        self.faults_met = 0;
        let mut used: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        used.extend(self.unflushed_names.iter().map(NameChange::file));
        self.files.retain(|file, _| used.contains(file));
    }
}

impl NameChange {
    fn file(&self) -> u64 {
        match self {
            Self::Made { file, .. } | Self::Renamed { file, .. } | Self::Removed { file, .. } => *file,
        }
    }

    /// Changes the names. When changes before it were lost (`alone`), a name may lead to another file by now: that one stays.
    fn apply(&self, names: &mut BTreeMap<String, u64>, alone: bool) {
        let mut remove = |name: &String, file: u64| {
            if !alone || names.get(name) == Some(&file) {
                names.remove(name);
            }
        };
        match self {
            Self::Made { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Renamed { from, to, file } => {
                remove(from, *file);
                names.insert(to.clone(), *file);
            }
            Self::Removed { name, file } => remove(name, *file),
        }
    }
}

/// Gives the lock back when it is dropped.
#[derive(Debug)]
struct Held(Arc<Mutex<State>>);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0).locked = false;
    }
}

impl Disk for SimulatedDisk {
    fn dir(&self) -> &Path {
        &self.dir
    }

    /// Drawn apart, so that what happens to the disk does not depend on it.
    fn salt(&self) -> u64 {
        Random::new(!self.state().operations).bits()
    }

    fn facts(&self, _: Storage) -> StorageFacts {
        let simulated = || "simulated".to_owned();
        StorageFacts {
            file_system: simulated(),
            device: simulated(),
            write_cache: simulated(),
            fresh_or_recycled: String::new(),
            fsync_note: "a simulated disk".to_owned(),
        }
    }

    fn check_flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        let failed = |what| move |cause| StoreError::Folder { path: self.dir.clone(), what, cause: Arc::new(cause) };
        if !self.state().names.contains_key(name) {
            self.create(name).map_err(failed("making its lock file"))?;
        }
        let mut state = self.state();
        if state.locked {
            return Err(StoreError::Locked(self.dir.clone()));
        }
        state.locked = true;
        Ok(Box::new(Held(Arc::clone(&self.state))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        let turn = state.turn()?;
        let names = state.names.keys().cloned().collect();
        answer(turn, names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Contents::default());
        state.change_names(NameChange::Made { name: name.to_owned(), file })?;
        Ok(Arc::new(SimulatedFile { state: Arc::clone(&self.state), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let turn = state.turn()?;
        let file = state.named(name)?;
        answer(turn, ())?;
        Ok(Arc::new(SimulatedFile { state: Arc::clone(&self.state), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.named(from)?;
        state.change_names(NameChange::Renamed { from: from.to_owned(), to: to.to_owned(), file })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.named(name)?;
        state.change_names(NameChange::Removed { name: name.to_owned(), file })
    }

    fn flush_names(&self) -> io::Result<()> {
        self.state().flush_names()
    }
}

#[derive(Debug)]
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    file: u64,
}

impl DiskFile for SimulatedFile {
    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        let turn = state.turn()?;
        state.fallible(Fault::Space)?;
        if turn == Turn::Whole || state.random.chance(1, 2) {
            state.file(self.file).grow(len);
        }
        answer(turn, ())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.state).file(self.file).visible.len() as u64)
    }

    fn write(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        lock(&self.state).write(self.file, slices, at)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        lock(&self.state).read(self.file, bytes, at)
    }

    fn flush(&self) -> io::Result<()> {
        lock(&self.state).flush(self.file)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        let turn = state.turn()?;
        state.fallible(Fault::Write)?;
        if turn == Turn::Whole || state.random.chance(1, 2) {
            state.file(self.file).truncate(len);
        }
        answer(turn, ())
    }
}
