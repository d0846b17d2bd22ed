//! A circuit breaker: closed, open, half-open, by counts of results and an argument of time.
//!
//! A call is a request with its retries, so a burst that a retry absorbs opens nothing. Leaves out timers: an open breaker
//! turns half-open when it is asked after its time.

use crate::time::{Span, Time};

/// Most results that are remembered.
const MOST: u32 = 128;

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// How many of the latest results count; at most 128.
    pub calls: u32,
    /// It opens when this many of them are failures; 0 keeps it closed for ever.
    pub failures: u32,
    /// How long it stays open.
    pub open_for: Span,
    /// How many calls it lets through when half-open; when all of them succeed, it closes.
    pub probes: u32,
}

impl Default for BreakerOptions {
    /// As Resilience4j: half of 100 calls, 10 probes; open for one second rather than a minute, because runs are short.
    fn default() -> Self {
        Self { calls: 100, failures: 50, open_for: Span::from_secs(1), probes: 10 }
    }
}

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets all through.
    Closed,
    /// Lets none through until this time.
    Open {
        /// When it turns half-open.
        until: Time,
    },
    /// Lets a few through to see how they end.
    HalfOpen {
        /// Probes that may still start.
        left: u32,
        /// Probes that succeeded.
        succeeded: u32,
    },
}

/// A call that was let through. Its result counts only while the breaker is as it was then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass(u32);

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    options: BreakerOptions,
    state: BreakerState,
    /// Counts changes of state.
    changes: u32,
    /// The latest results as bits, the newest lowest; 1 is a failure.
    results: u128,
}

impl Breaker {
    /// A closed one.
    pub fn new(options: BreakerOptions) -> Self {
        let options = BreakerOptions { calls: options.calls.clamp(1, MOST), probes: options.probes.max(1), ..options };
        Self { options, state: BreakerState::Closed, changes: 0, results: 0 }
    }

    /// What it does with calls.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a call at `now` would be let through.
    pub fn would_pass(&self, now: Time) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open { until } => until <= now,
            BreakerState::HalfOpen { left, .. } => left > 0,
        }
    }

    /// Lets a call through at `now`, or not.
    pub fn pass(&mut self, now: Time) -> Option<Pass> {
        if let BreakerState::Open { until } = self.state {
            if now < until {
                return None;
            }
            self.change(BreakerState::HalfOpen { left: self.options.probes, succeeded: 0 });
        }
        if let BreakerState::HalfOpen { left, .. } = &mut self.state {
            *left = left.checked_sub(1)?;
        }
        Some(Pass(self.changes))
    }

    /// A call that was let through succeeded.
    pub fn succeeded(&mut self, pass: Pass) {
        if pass.0 != self.changes {
            return;
        }
        match self.state {
            BreakerState::Closed => self.results = (self.results << 1) & self.window(),
            BreakerState::HalfOpen { left, succeeded } if succeeded + 1 < self.options.probes => {
                self.state = BreakerState::HalfOpen { left, succeeded: succeeded + 1 };
            }
            BreakerState::HalfOpen { .. } => self.change(BreakerState::Closed),
            BreakerState::Open { .. } => {}
        }
    }

    /// A call that was let through failed at `now`.
    pub fn failed(&mut self, now: Time, pass: Pass) {
        if pass.0 != self.changes || self.options.failures == 0 {
            return;
        }
        self.results = ((self.results << 1) | 1) & self.window();
        let opens = match self.state {
            BreakerState::Closed => self.results.count_ones() >= self.options.failures,
            BreakerState::HalfOpen { .. } => true,
            BreakerState::Open { .. } => false,
        };
        if opens {
            self.change(BreakerState::Open { until: now + self.options.open_for });
        }
    }

    /// A call that was let through ended for another reason: it says nothing of the service.
    pub fn forgotten(&mut self, pass: Pass) {
        if let BreakerState::HalfOpen { left, .. } = &mut self.state
            && pass.0 == self.changes
        {
            *left += 1;
        }
    }

    fn change(&mut self, state: BreakerState) {
        self.state = state;
        self.changes = self.changes.wrapping_add(1);
        self.results = 0;
    }

    /// The bits of the results that count.
    fn window(&self) -> u128 {
        if self.options.calls >= MOST { u128::MAX } else { (1 << self.options.calls) - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: BreakerOptions = BreakerOptions { calls: 4, failures: 2, open_for: Span(100), probes: 2 };

    /// What happens to the breaker, and the state that follows: `c` closed, `o` open, `h` half-open.
    ///
    /// `+` a call that succeeds, `-` one that fails, `.` one that is forgotten, `x` one that is not let through,
    /// a number: the time.
    fn run(script: &[(&str, char)]) {
        let mut breaker = Breaker::new(OPTIONS);
        let mut now = Time(0);
        for (step, &(what, state)) in script.iter().enumerate() {
            assert_eq!(breaker.would_pass(now), breaker.clone().pass(now).is_some(), "step {step}");
            match what {
                "+" => {
                    let pass = breaker.pass(now).unwrap();
                    breaker.succeeded(pass);
                }
                "-" => {
                    let pass = breaker.pass(now).unwrap();
                    breaker.failed(now, pass);
                }
                "." => {
                    let pass = breaker.pass(now).unwrap();
                    breaker.forgotten(pass);
                }
                "x" => assert_eq!(breaker.pass(now), None, "step {step}"),
                time => now = Time(time.parse().unwrap()),
            }
            let found = match breaker.state() {
                BreakerState::Closed => 'c',
                BreakerState::Open { .. } => 'o',
                BreakerState::HalfOpen { .. } => 'h',
            };
            assert_eq!(found, state, "step {step}, `{what}`: {breaker:?}");
        }
    }

    #[test]
    fn failures_open_it_when_enough_of_the_latest_results_are_some() {
        run(&[("-", 'c'), ("+", 'c'), ("+", 'c'), ("-", 'o'), ("x", 'o')]);
        run(&[("-", 'c'), ("+", 'c'), ("+", 'c'), ("+", 'c'), ("-", 'c'), ("-", 'o')]);
        run(&[("-", 'c'), (".", 'c'), ("-", 'o')]);
    }

    #[test]
    fn after_its_time_probes_close_it() {
        run(&[("-", 'c'), ("-", 'o'), ("99", 'o'), ("x", 'o'), ("100", 'o'), ("+", 'h'), ("+", 'c'), ("-", 'c')]);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        run(&[("-", 'c'), ("-", 'o'), ("100", 'o'), ("+", 'h'), ("-", 'o'), ("199", 'o'), ("x", 'o'), ("200", 'o')]);
    }

    #[test]
    fn a_probe_that_is_forgotten_may_be_made_again() {
        run(&[("-", 'c'), ("-", 'o'), ("100", 'o'), (".", 'h'), (".", 'h'), (".", 'h'), ("+", 'h'), ("+", 'c')]);
    }

    #[test]
    fn half_open_lets_as_many_through_as_there_are_probes() {
        let mut breaker = Breaker::new(OPTIONS);
        for _ in 0..2 {
            let pass = breaker.pass(Time(0)).unwrap();
            breaker.failed(Time(0), pass);
        }
        let probes = [breaker.pass(Time(100)).unwrap(), breaker.pass(Time(100)).unwrap()];
        assert_eq!(breaker.pass(Time(100)), None);
        for probe in probes {
            breaker.succeeded(probe);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_result_of_an_earlier_state_does_not_count() {
        let mut breaker = Breaker::new(OPTIONS);
        let passes = [(); 3].map(|()| breaker.pass(Time(0)).unwrap());
        breaker.failed(Time(0), passes[0]);
        breaker.failed(Time(0), passes[1]);
        let _probe = breaker.pass(Time(100)).unwrap();
        breaker.failed(Time(100), passes[2]);
        assert_eq!(breaker.state(), BreakerState::HalfOpen { left: 1, succeeded: 0 });
        breaker.succeeded(passes[2]);
        assert_eq!(breaker.state(), BreakerState::HalfOpen { left: 1, succeeded: 0 });
    }

    #[test]
    fn without_a_threshold_it_stays_closed() {
        let mut breaker = Breaker::new(BreakerOptions { failures: 0, ..OPTIONS });
        for _ in 0..300 {
            let pass = breaker.pass(Time(0)).unwrap();
            breaker.failed(Time(0), pass);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
