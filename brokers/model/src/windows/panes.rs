//! Tumbling and sliding windows: event time in panes, an array of keys in each.
//!
//! A pane is the longest stretch that every window holds whole or not at all, so an event is added once, whatever number of
//! windows it is in. Only panes with events exist; they lie in order, and windows fire in order of their ends, so that
//! there is no timer. A window of n panes costs n additions per key when it fires. Leaves out sessions.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::keys::Keys;
use super::options::{LATEST, divisor};
use super::output::{Firing, WindowOutput};
use super::{Event, Fate};
use crate::time::Span;

/// No cell.
const NONE: u32 = u32::MAX;
/// Bytes of a cell: its aggregate and the number of its key.
const CELL: usize = size_of::<Aggregate>() + size_of::<u32>();
/// Bytes of a key's place in a pane, with or without a cell.
const PLACE: usize = size_of::<u32>();
/// How many emptied panes are kept for their memory.
const SPARE: usize = 2;

/// A stretch of event time: the keys that had events in it, in order of their first.
#[derive(Clone, Debug, Default)]
struct Pane {
    /// It begins at this many widths.
    number: u64,
    /// By key: where its cell is.
    place: Vec<u32>,
    /// By cell.
    keys: Vec<u32>,
    cells: Vec<Aggregate>,
}

impl Pane {
    #[inline]
    fn cell(&self, key: u32) -> Option<&Aggregate> {
        let at = *self.place.get(key as usize)?;
        self.cells.get(at as usize)
    }

    #[inline]
    fn cell_mut(&mut self, key: u32) -> Option<&mut Aggregate> {
        let at = *self.place.get(key as usize)?;
        self.cells.get_mut(at as usize)
    }

    /// A cell for a key that has none.
    fn open(&mut self, key: u32, aggregate: Aggregate) {
        if self.place.len() <= key as usize {
            self.place.resize(key as usize + 1, NONE);
        }
        self.place[key as usize] = self.cells.len() as u32;
        self.keys.push(key);
        self.cells.push(aggregate);
    }

    fn merge(&mut self, other: &Self) {
        for (&key, aggregate) in other.keys.iter().zip(&other.cells) {
            match self.cell_mut(key) {
                Some(cell) => cell.merge(aggregate),
                None => self.open(key, *aggregate),
            }
        }
    }

    /// Forgets its cells, and keeps the memory.
    fn clear(&mut self) {
        for &key in &self.keys {
            self.place[key as usize] = NONE;
        }
        self.keys.clear();
        self.cells.clear();
    }

    fn bytes(&self) -> usize {
        self.place.len() * PLACE + self.cells.len() * CELL
    }

    fn show(&self, keys: &Keys, span: &Range<u64>, out: &mut WindowOutput) {
        for (&key, &aggregate) in self.keys.iter().zip(&self.cells) {
            out.push(keys.key(key), span.start, span.end, aggregate, Firing::Main);
        }
    }
}

/// A pane as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PaneState {
    pub(super) number: u64,
    /// The number of a key and what it had.
    pub(super) cells: Vec<(u32, Aggregate)>,
}

/// The windows of all keys, all of one size.
#[derive(Clone, Debug)]
pub(super) struct Panes {
    size: u64,
    slide: u64,
    /// Of a pane.
    width: u64,
    lateness: u64,
    /// Those with events, in order.
    kept: VecDeque<Pane>,
    /// Where the last event's pane was.
    hint: usize,
    spare: Vec<Pane>,
    scratch: Pane,
    /// Windows that end here or before have fired.
    fired_to: u64,
    /// Nothing fires and nothing is forgotten before the watermark is here.
    due: u64,
    bytes: usize,
}

impl Panes {
    pub(super) fn new(size: Span, slide: Span, lateness: Span) -> Self {
        Self {
            size: size.0,
            slide: slide.0,
            width: divisor(size.0, slide.0),
            lateness: lateness.0,
            kept: VecDeque::new(),
            hint: 0,
            spare: Vec::new(),
            scratch: Pane::default(),
            fired_to: 0,
            due: u64::MAX,
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes an event in, or nothing at all when it needs room and there is none.
    #[inline]
    pub(super) fn add(
        &mut self,
        keys: &mut Keys,
        event: &Event<'_>,
        room: bool,
        out: &mut WindowOutput,
    ) -> Option<Fate> {
        let time = event.time.0;
        let last_end = self.last_end(time);
        if last_end + self.lateness <= self.fired_to {
            return Some(Fate::Late);
        }
        let key = self.put(keys, event, room)?;
        let first_end = last_end - (last_end - time - 1) / self.slide * self.slide;
        if first_end > self.fired_to {
            return Some(Fate::Taken);
        }
        self.fire_again(keys, key, first_end..=last_end, out);
        Some(if first_end + self.lateness <= self.fired_to { Fate::PartlyLate } else { Fate::Taken })
    }

    /// The end of the last window that holds `time`.
    #[inline]
    fn last_end(&self, time: u64) -> u64 {
        time / self.slide * self.slide + self.size
    }

    /// Adds an event to its pane; the number of its key.
    #[inline]
    fn put(&mut self, keys: &mut Keys, event: &Event<'_>, room: bool) -> Option<u32> {
        let number = event.time.0 / self.width;
        let known = keys.find(event.key);
        let place = self.find(number);
        if let (Some(key), Ok(at)) = (known, place)
            && let Some(cell) = self.kept[at].cell_mut(key)
        {
            cell.add(event.value);
            return Some(key);
        }
        if !room {
            return None;
        }
        let key = known.unwrap_or_else(|| keys.insert(event.key));
        keys.retain(key);
        let at = place.unwrap_or_else(|at| self.open(number, at));
        let pane = &mut self.kept[at];
        let before = pane.bytes();
        pane.open(key, Aggregate::of(event.value));
        self.bytes += pane.bytes() - before;
        Some(key)
    }

    /// Where the pane is, or where it belongs.
    #[inline]
    fn find(&mut self, number: u64) -> Result<usize, usize> {
        if self.kept.get(self.hint).is_some_and(|pane| pane.number == number) {
            return Ok(self.hint);
        }
        let place = self.kept.binary_search_by_key(&number, |pane| pane.number);
        self.hint = place.unwrap_or(self.hint);
        place
    }

    /// A pane without cells, at the place where it belongs.
    fn open(&mut self, number: u64, at: usize) -> usize {
        let pane = Pane { number, ..self.spare.pop().unwrap_or_default() };
        self.bytes += pane.bytes();
        self.kept.insert(at, pane);
        self.hint = at;
        self.due = self.next_due();
        at
    }

    /// Shows what a key has now in each of the windows that end there, have fired and still take events.
    fn fire_again(&self, keys: &Keys, key: u32, ends: RangeInclusive<u64>, out: &mut WindowOutput) {
        for end in ends.step_by(self.slide as usize).take_while(|&end| end <= self.fired_to) {
            if end + self.lateness <= self.fired_to {
                continue;
            }
            let cells = self.kept.range(self.of_window(end)).filter_map(|pane| pane.cell(key));
            let all = cells.copied().reduce(|mut sum, cell| {
                sum.merge(&cell);
                sum
            });
            if let Some(aggregate) = all {
                out.push(keys.key(key), end.saturating_sub(self.size), end, aggregate, Firing::Late);
            }
        }
    }

    /// The panes of the window that ends here.
    fn of_window(&self, end: u64) -> Range<usize> {
        let (first, past) = (end.saturating_sub(self.size) / self.width, end / self.width);
        self.kept.partition_point(|pane| pane.number < first)..self.kept.partition_point(|pane| pane.number < past)
    }

    /// The watermark is here: fires what is complete, forgets what takes no more events.
    #[inline]
    pub(super) fn advance(&mut self, keys: &mut Keys, watermark: u64, out: &mut WindowOutput) {
        if watermark >= self.due {
            while let Some(end) = self.next_end().filter(|&end| end <= watermark) {
                self.fire(keys, end, out);
                self.fired_to = end;
            }
            self.fired_to = watermark;
            self.forget(keys);
            self.due = self.next_due();
        }
        self.fired_to = watermark;
    }

    fn fire(&mut self, keys: &Keys, end: u64, out: &mut WindowOutput) {
        let panes = self.of_window(end);
        let span = end.saturating_sub(self.size)..end;
        if panes.len() == 1 {
            self.kept[panes.start].show(keys, &span, out);
            return;
        }
        for pane in self.kept.range(panes) {
            self.scratch.merge(pane);
        }
        self.scratch.show(keys, &span, out);
        self.scratch.clear();
    }

    fn forget(&mut self, keys: &mut Keys) {
        while let Some(front) = self.kept.front()
            && self.last_end(front.number * self.width) + self.lateness <= self.fired_to
            && let Some(mut pane) = self.kept.pop_front()
        {
            self.bytes -= pane.bytes();
            pane.keys.iter().for_each(|&key| keys.release(key));
            pane.clear();
            if self.spare.len() < SPARE {
                self.spare.push(pane);
            }
        }
    }

    /// The next end of a window with events that has not fired.
    fn next_end(&self) -> Option<u64> {
        let end = self.end_after(self.fired_to);
        let first = end.saturating_sub(self.size) / self.width;
        let pane = self.kept.get(self.kept.partition_point(|pane| pane.number < first))?;
        Some(if pane.number < end / self.width { end } else { self.end_after(pane.number * self.width) })
    }

    /// The first end of a window after `time`.
    fn end_after(&self, time: u64) -> u64 {
        let beyond = (time + self.slide - self.size % self.slide) % self.slide;
        time + self.slide - beyond
    }

    fn next_due(&self) -> u64 {
        let forget = self.kept.front().map(|pane| self.last_end(pane.number * self.width) + self.lateness);
        self.next_end().into_iter().chain(forget).min().unwrap_or(u64::MAX)
    }

    /// As plain data, with keys numbered by `number`.
    pub(super) fn save(&self, mut number: impl FnMut(u32) -> u32) -> Vec<PaneState> {
        let state = |pane: &Pane| {
            let cells = pane.keys.iter().zip(&pane.cells).map(|(&key, &cell)| (number(key), cell)).collect();
            PaneState { number: pane.number, cells }
        };
        self.kept.iter().map(state).collect()
    }

    /// From plain data; `None` when it is in no order or a key comes twice. Every key must have its number already.
    pub(super) fn load(&mut self, keys: &mut Keys, watermark: u64, saved: &[PaneState]) -> Option<()> {
        for state in saved {
            let follows = self.kept.back().is_none_or(|last| last.number < state.number);
            if !follows || state.cells.is_empty() || state.number > LATEST.0 / self.width {
                return None;
            }
            let mut pane = Pane { number: state.number, ..Pane::default() };
            for &(key, aggregate) in &state.cells {
                if pane.cell(key).is_some() {
                    return None;
                }
                keys.retain(key);
                pane.open(key, aggregate);
            }
            self.bytes += pane.bytes();
            self.kept.push_back(pane);
        }
        self.fired_to = watermark;
        self.due = self.next_due();
        Some(())
    }
}
