//! On-demand capacity: how much each shard takes, and which are split because of it.
//!
//! As the service documents it for data streams in on-demand mode: when the traffic of a shard exceeds 500 KB/s (half of
//! what a shard takes), the shard is split within 15 minutes and its range is shared evenly; so a stream has room for twice
//! what it took, and may throttle when that doubles within the time. Keys are not looked at: one key that alone is more than a
//! shard takes stays throttled. Here the mean of an interval counts, from the first record after the last one was over, and
//! at its end every shard over half of its limit in bytes or (which is not documented) in records is split once, the fullest
//! first. Leaves out going down again: the service looks at the peak of thirty days.

use super::ShardModel;
use super::options::ShardOptions;
use crate::batch::LaneId;
use crate::machine::Effects;
use crate::time::{Span, Time};

/// What shards took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scaling {
    interval: Span,
    /// When the interval in hand began; it begins with a record.
    begun: Option<Time>,
    /// By shard, records and bytes since then.
    taken: Vec<(u64, u64)>,
}

impl Scaling {
    /// So that shards are split at the end of each interval.
    pub(super) fn every(interval: Span) -> Self {
        Self { interval, begun: None, taken: Vec::new() }
    }

    /// A shard takes a record.
    #[inline]
    pub(super) fn count(&mut self, now: Time, shard: u32, bytes: u32) {
        self.begun.get_or_insert(now);
        let at = shard as usize;
        if self.taken.len() <= at {
            self.taken.resize(at + 1, (0, 0));
        }
        let (records, taken) = &mut self.taken[at];
        *records += 1;
        *taken += u64::from(bytes);
    }

    /// When the interval in hand is over.
    pub(super) fn next(&self) -> Option<Time> {
        self.begun.map(|begun| begun + self.interval)
    }

    /// Ends the interval in hand if it is over: the shards that took more than half of what they may, the fullest first.
    pub(super) fn due(&mut self, now: Time, options: &ShardOptions) -> Vec<LaneId> {
        let Some(begun) = self.begun.filter(|&begun| begun + self.interval <= now) else { return Vec::new() };
        let (most_records, most_bytes) =
            (u128::from(options.write_records_per_s.max(1)), u128::from(options.write_bytes_per_s.max(1)));
        // Both in one unit: shares of a limit, times both limits.
        let used =
            |(records, bytes): (u64, u64)| (u128::from(records) * most_bytes).max(u128::from(bytes) * most_records);
        let half = most_records * most_bytes * u128::from(now.since(begun).0) / 2_000_000_000;
        let taken = std::mem::take(&mut self.taken);
        self.begun = None;
        let mut full: Vec<(u128, u32)> = (0..).zip(taken).map(|(shard, taken)| (used(taken), shard)).collect();
        full.retain(|&(used, _)| used > half);
        full.sort_by_key(|&(used, shard)| (std::cmp::Reverse(used), shard));
        full.into_iter().map(|(_, shard)| LaneId(shard)).collect()
    }
}

impl ShardModel {
    /// Splits the shards that are due to be, as far as there is room for more.
    pub(super) fn scale(&mut self, now: Time, out: &mut Effects) {
        let Some(scaling) = &mut self.scaling else { return };
        for shard in scaling.due(now, &self.options) {
            // One that is gone, or can't be split further, stays as it is.
            if let Ok(made) = self.split(shard, None) {
                self.make(now, made, None, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_shards_over_half_of_a_limit_are_split_once_an_interval() {
        let options = ShardOptions::default();
        let mut scaling = Scaling::every(Span::from_secs(10));
        assert_eq!(scaling.next(), None, "nothing was taken yet");
        for _ in 0..5_001 {
            scaling.count(Time(7), 2, 10);
        }
        scaling.count(Time(9), 0, 10 * (1 << 19));
        scaling.count(Time(9), 1, 10 * (1 << 19) + 200_000);
        assert_eq!((scaling.next(), scaling.due(Time(10_000_000_006), &options)), (Some(Time(10_000_000_007)), vec![]));
        assert_eq!(scaling.due(Time(10_000_000_007), &options), [LaneId(1), LaneId(2)], "exactly half is not over it");
        assert_eq!(scaling.next(), None);
    }
}
