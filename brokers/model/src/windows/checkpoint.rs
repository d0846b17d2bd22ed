//! Windows as plain data: to be kept beside the lanes' positions, and to be gone on from after a crash.
//!
//! What is in a checkpoint is what the lanes held below [`Checkpoint::lanes`]' next positions, and nothing else. After a crash
//! the lanes are read again from there: the same events in the same order give the same results again, to be told from the
//! first ones by key and window. Leaves out how it is stored.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::keys::Keys;
use super::options::{BadWindow, LATEST, WindowKind, WindowOptions};
use super::panes::{PaneState, Panes};
use super::sessions::{SessionState, Sessions};
use super::watermark::{FINISHED, LaneProgress, Lanes};
use super::{Contents, WindowCounts, Windows};
use crate::time::Time;

/// The state of windows between two events. Equal for windows that go on equally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    options: WindowOptions,
    progress: Lanes,
    counts: WindowCounts,
    /// Numbered as they first come in the contents.
    keys: Vec<Vec<u8>>,
    contents: Saved,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Saved {
    Panes(Vec<PaneState>),
    Sessions(Vec<SessionState>),
}

/// A checkpoint that no windows were in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadCheckpoint {
    /// Its options can't be.
    #[error("a checkpoint of windows that can't be: {0}")]
    Options(#[from] BadWindow),
    /// Its parts contradict each other: it was damaged, or another version wrote it.
    #[error("a damaged checkpoint: {what}; begin again from the lanes' oldest positions")]
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
}

impl Checkpoint {
    /// What the windows were asked for.
    pub fn options(&self) -> &WindowOptions {
        &self.options
    }

    /// Where each lane is, and where it is to be read on from.
    pub fn lanes(&self) -> &[LaneProgress] {
        &self.progress.each
    }
}

/// Numbers keys as they come.
#[derive(Default)]
struct Renumbering {
    /// By the number that a key has: the one it gets.
    numbers: Vec<u32>,
    keys: Vec<Vec<u8>>,
}

impl Renumbering {
    fn number(&mut self, keys: &Keys, number: u32) -> u32 {
        let at = number as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, u32::MAX);
        }
        if self.numbers[at] == u32::MAX {
            self.numbers[at] = self.keys.len() as u32;
            self.keys.push(keys.key(number).to_vec());
        }
        self.numbers[at]
    }
}

impl Windows {
    /// The state as plain data.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut renumbering = Renumbering::default();
        let number = |number| renumbering.number(&self.keys, number);
        let contents = match &self.contents {
            Contents::Panes(panes) => Saved::Panes(panes.save(number)),
            Contents::Sessions(sessions) => Saved::Sessions(sessions.save(&self.keys, number)),
        };
        let progress = self.lanes.clone();
        Checkpoint { options: self.options, progress, counts: self.counts, keys: renumbering.keys, contents }
    }

    /// Windows that go on from a checkpoint.
    pub fn restore(checkpoint: &Checkpoint) -> Result<Self, BadCheckpoint> {
        let damaged = |what| BadCheckpoint::Damaged { what };
        let mut windows = Self::new(checkpoint.options)?;
        checkpoint.check_lanes()?;
        for key in &checkpoint.keys {
            if windows.keys.find(key).is_some() {
                return Err(damaged("a key stands in it twice"));
            }
            windows.keys.insert(key);
        }
        let watermark = checkpoint.progress.watermark;
        let keys = &mut windows.keys;
        let loaded = match (&mut windows.contents, &checkpoint.contents) {
            (Contents::Panes(panes), Saved::Panes(saved)) => {
                checkpoint.check_keys(saved.iter().flat_map(|pane| &pane.cells).map(|cell| cell.0))?;
                panes.load(keys, watermark, saved)
            }
            (Contents::Sessions(sessions), Saved::Sessions(saved)) => {
                checkpoint.check_keys(saved.iter().map(|session| session.key))?;
                sessions.load(keys, watermark, saved)
            }
            (Contents::Panes(_), Saved::Sessions(_)) | (Contents::Sessions(_), Saved::Panes(_)) => None,
        };
        loaded.ok_or(damaged("its windows are not of the kind that its options name, or in no order"))?;
        windows.lanes = checkpoint.progress.clone();
        windows.counts = checkpoint.counts;
        Ok(windows)
    }
}

impl Checkpoint {
    fn check_lanes(&self) -> Result<(), BadCheckpoint> {
        let Lanes { each: lanes, events, front, watermark, holder } = &self.progress;
        let fits =
            |lane: &LaneProgress| lane.latest.0 <= *front && lane.front_at.0 <= *front && lane.seen_at <= *events;
        let whole = lanes.len() == self.options.lanes as usize && (*holder as usize) < lanes.len();
        let times = Time(*front) <= LATEST && (*watermark <= *front || *watermark == FINISHED);
        if whole && times && lanes.iter().all(fits) {
            return Ok(());
        }
        Err(BadCheckpoint::Damaged { what: "its lanes do not fit its options or each other" })
    }

    /// Each number is one of a key, and each key is used.
    fn check_keys(&self, numbers: impl Iterator<Item = u32>) -> Result<(), BadCheckpoint> {
        let mut used = vec![false; self.keys.len()];
        for number in numbers {
            let Some(used) = used.get_mut(number as usize) else {
                return Err(BadCheckpoint::Damaged { what: "a window is of a key that is not in it" });
            };
            *used = true;
        }
        if used.iter().all(|&used| used) {
            return Ok(());
        }
        Err(BadCheckpoint::Damaged { what: "a key is in no window" })
    }
}

/// The contents for a kind, without events.
pub(super) fn empty(options: &WindowOptions) -> Contents {
    match options.kind {
        WindowKind::Tumbling { size } => Contents::Panes(Panes::new(size, size, options.lateness)),
        WindowKind::Sliding { size, slide } => Contents::Panes(Panes::new(size, slide, options.lateness)),
        WindowKind::Session { gap } => Contents::Sessions(Sessions::new(gap, options.lateness)),
    }
}
