//! How many lanes a model has at most: one rule for all of them.
//!
//! A lane costs memory for as long as the broker lives, and so does the place of each group in it, though nothing be published there. Lanes
//! of a channel that was removed count on, because their numbers are not given again. Leaves out what messages cost, which the store bounds.

use crate::completion::Refusal;

/// Lanes over all channels, where a model has no lower quota.
pub const LANES_MAX: u32 = 1 << 17;
/// Places over all channels: of each group one in every lane of its channel.
pub const PLACES_MAX: u64 = 1 << 20;

/// What may still be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneRoom {
    lanes: u64,
    places: u64,
}

impl LaneRoom {
    /// Of a model that has at most so many lanes, and by now so many lanes and places.
    pub(crate) fn beside(most: u32, lanes: usize, places: usize) -> Self {
        Self { lanes: u64::from(most).saturating_sub(lanes as u64), places: PLACES_MAX.saturating_sub(places as u64) }
    }

    /// Whether so many lanes more have room, each read by so many groups.
    pub(crate) fn takes(self, lanes: u32, groups: usize) -> Result<(), Refusal> {
        let places = u64::from(lanes).saturating_mul(groups as u64);
        if u64::from(lanes) <= self.lanes && places <= self.places { Ok(()) } else { Err(Refusal::TooManyLanes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_their_places_are_both_bounded() {
        let empty = LaneRoom::beside(LANES_MAX, 0, 0);
        for (lanes, groups) in [(LANES_MAX, 0), (LANES_MAX, 8), (1 << 16, 16), (1, 1 << 20)] {
            assert_eq!(empty.takes(lanes, groups), Ok(()), "{lanes} × {groups}");
        }
        for (lanes, groups) in [(LANES_MAX + 1, 0), (LANES_MAX, 9), ((1 << 16) + 1, 16), (u32::MAX, usize::MAX)] {
            assert_eq!(empty.takes(lanes, groups), Err(Refusal::TooManyLanes), "{lanes} × {groups}");
        }
        let used = LaneRoom::beside(10, 8, (1 << 20) - 5);
        assert_eq!((used.takes(2, 2), used.takes(3, 0)), (Ok(()), Err(Refusal::TooManyLanes)));
        assert_eq!((used.takes(1, 5), used.takes(1, 6)), (Ok(()), Err(Refusal::TooManyLanes)));
        assert_eq!(
            LaneRoom::beside(10, 11, 1 << 21).takes(1, 0),
            Err(Refusal::TooManyLanes),
            "a quota that was lowered"
        );
    }
}
