//! A token bucket in integers, filled lazily by the clock that the caller hands in.
//!
//! Leaves out what happens when it is empty: throttling and waiting are the model's words.

use crate::time::{Span, Time};

/// One token in the bucket's unit: tokens × nanoseconds per second, so that a rate per second needs no fraction.
const TOKEN: i64 = 1_000_000_000;

/// A token bucket that holds at most one second's worth of tokens.
///
/// The level may be drawn below zero on purpose ([`Bucket::draw`]): the debt is paid back before anything else is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    level: i64,
    rate: u32,
    filled: Time,
}

impl Bucket {
    /// A bucket of `rate` tokens a second, at least 1, that begins with what comes in over `credit`, and with `least` tokens in any case;
    /// never with more than a second's worth.
    pub(crate) fn with(rate: u32, credit: Span, least: u32, now: Time) -> Self {
        let rate = rate.max(1);
        let credited = u128::from(credit.0) * u128::from(rate);
        let capacity = Self::capacity(rate);
        let level = i64::try_from(credited).unwrap_or(capacity).max(i64::from(least) * TOKEN);
        Self { level: level.min(capacity), rate, filled: now }
    }

    const fn capacity(rate: u32) -> i64 {
        rate as i64 * TOKEN
    }

    /// Adds what has come in since the last call. Cheap when the time is the same.
    pub(crate) fn fill(&mut self, now: Time) {
        if now <= self.filled {
            return;
        }
        let elapsed = now.since(self.filled).0;
        self.filled = now;
        let capacity = Self::capacity(self.rate);
        let room = (capacity - self.level).cast_unsigned();
        let gain = u128::from(elapsed) * u128::from(self.rate);
        self.level = if gain >= u128::from(room) { capacity } else { self.level + gain as i64 };
    }

    /// Whether `tokens` are there.
    pub(crate) fn has(&self, tokens: u32) -> bool {
        self.level >= i64::from(tokens) * TOKEN
    }

    /// Takes `tokens`, into debt if they are not there.
    pub(crate) fn draw(&mut self, tokens: u32) {
        self.level -= i64::from(tokens) * TOKEN;
    }

    /// Whole tokens that are there; 0 in debt.
    pub(crate) fn tokens(&self) -> u32 {
        (self.level.max(0) / TOKEN) as u32
    }

    /// When `tokens` will be there, if nothing is drawn before.
    pub(crate) fn ready_at(&self, tokens: u32) -> Time {
        let lacking = (i64::from(tokens) * TOKEN - self.level).max(0).cast_unsigned();
        self.filled + Span(lacking.div_ceil(u64::from(self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_starts_full_fills_to_the_nanosecond() {
        let mut bucket = Bucket::with(1_000, Span::from_secs(1), 0, Time(0));
        assert_eq!(bucket.tokens(), 1_000);
        bucket.draw(1_000);
        assert!(!bucket.has(1));
        assert_eq!(bucket.ready_at(1), Time(1_000_000));
        bucket.fill(Time(999_999));
        assert!(!bucket.has(1));
        bucket.fill(Time(1_000_000));
        assert!(bucket.has(1) && !bucket.has(2));
        bucket.fill(Time(u64::MAX - 1));
        assert_eq!(bucket.tokens(), 1_000, "a second's worth and no more");
    }

    #[test]
    fn a_rate_that_divides_no_second_is_never_early() {
        let mut bucket = Bucket::with(3, Span::from_secs(1), 0, Time(0));
        bucket.draw(3);
        assert_eq!(bucket.ready_at(1), Time(333_333_334));
        bucket.fill(Time(333_333_333));
        assert!(!bucket.has(1));
        bucket.fill(Time(333_333_334));
        assert!(bucket.has(1));
    }

    #[test]
    fn it_starts_with_its_credit_at_least_with_what_is_said_and_at_most_full() {
        let tokens = |rate, credit, least| Bucket::with(rate, credit, least, Time(7)).tokens();
        let credit = Span::from_millis(20);
        assert_eq!((tokens(1_000, credit, 1), tokens(10, credit, 1), tokens(10, credit, 0)), (20, 1, 0));
        assert_eq!((tokens(10, Span::from_secs(9), 0), tokens(10, Span(u64::MAX), 20)), (10, 10));
        let mut bucket = Bucket::with(1_000, Span::ZERO, 0, Time(7));
        assert_eq!(bucket.ready_at(1), Time(1_000_007));
        bucket.fill(Time(2_000_000_000));
        assert_eq!(bucket.tokens(), 1_000, "it fills to a second's worth whatever it began with");
    }

    #[test]
    fn a_debt_is_paid_back_first() {
        let mut bucket = Bucket::with(10, Span::from_secs(9), 0, Time(0));
        bucket.draw(15);
        assert_eq!(bucket.tokens(), 0);
        assert_eq!(bucket.ready_at(1), Time(600_000_000));
        bucket.fill(Time(600_000_000));
        assert_eq!(bucket.tokens(), 1);
    }
}
