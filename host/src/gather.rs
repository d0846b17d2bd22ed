//! How long a parked loop may stay asleep though something comes in: a small part of what it measures, so that little pieces are taken in
//! together.
//!
//! A broker that sends every message by itself wakes whoever reads it as often, and on the cores that both share each wake-up is taken from
//! the broker. The bound is relative: what is usual gets longer by a sixty-fourth at most, of publishes and of deliveries. Leaves out which
//! clients allow it (they say so) and the sleep.

use brokerlab_model::{Span, Time};

/// The part of the usual time, and the longest that it comes to.
const PART: u64 = 64;
const LONGEST: Span = Span::from_micros(500);
/// Less is not worth a sleep.
const SHORTEST: Span = Span::from_micros(50);
/// What is older tells nothing of now.
const RECENT: Span = Span::from_millis(40);
/// The weight of the newest in the usual is one in so many.
const MEMORY: i64 = 64;

/// How long publishes, or deliveries, usually take from being sent.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    /// A mean in which what is older counts less, in nanoseconds.
    mean: i64,
    newest: Time,
}

impl Usual {
    #[inline]
    fn took(&mut self, actual: Time, completed: Time) {
        let took = completed.since(actual).0.cast_signed();
        let known = completed.since(self.newest) <= RECENT;
        self.mean = if known { self.mean + (took - self.mean) / MEMORY } else { took };
        self.newest = completed;
    }

    fn at(&self, now: Time) -> Option<Span> {
        (now.since(self.newest) <= RECENT).then(|| Span(self.mean.unsigned_abs()))
    }
}

/// How quick a loop's backend is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gather {
    publishes: Usual,
    deliveries: Usual,
}

impl Gather {
    /// A publish, sent at `actual`, was acknowledged.
    #[inline]
    pub(crate) fn published(&mut self, actual: Time, completed: Time) {
        self.publishes.took(actual, completed);
    }

    /// A message, sent at `actual`, was delivered.
    #[inline]
    pub(crate) fn delivered(&mut self, actual: Time, completed: Time) {
        self.deliveries.took(actual, completed);
    }

    /// How long the loop may stay asleep whatever comes in; none when that is too little, or when nothing is known.
    pub(crate) fn sleep(&self, now: Time) -> Option<Span> {
        let usual = self.publishes.at(now).into_iter().chain(self.deliveries.at(now)).min()?;
        Some(Span(usual.0 / PART).min(LONGEST)).filter(|sleep| *sleep >= SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Span::from_millis(ms)
    }

    #[test]
    fn a_sleep_is_a_sixty_fourth_of_what_is_usual_for_the_quicker() {
        let mut gather = Gather::default();
        assert_eq!(gather.sleep(at(100)), None, "nothing is known");
        gather.published(at(80), at(100));
        assert_eq!(gather.sleep(at(100)), Some(Span(20_000_000 / 64)));
        gather.delivered(at(90), at(101));
        assert_eq!(gather.sleep(at(101)), Some(Span(11_000_000 / 64)), "deliveries are quicker");
        for _ in 0..1_000 {
            gather.delivered(at(1), at(102));
        }
        assert_eq!(gather.sleep(at(102)), Some(Span(20_000_000 / 64)), "now publishes are");
        assert_eq!(gather.sleep(at(141)), Some(LONGEST), "the publish is long ago");
    }

    #[test]
    fn what_is_quick_or_long_ago_is_listened_to() {
        let mut gather = Gather::default();
        gather.published(at(97), at(100));
        assert_eq!(gather.sleep(at(100)), None, "3 ms / 64 is less than a sleep");
        gather.published(at(0), at(200));
        assert_eq!(gather.sleep(at(200)), Some(LONGEST), "nothing of what was usual is left");
        assert_eq!(gather.sleep(at(241)), None);
    }
}
