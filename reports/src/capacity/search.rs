//! The search for the highest rate that passes, as a state machine: it is told how a probe ended and says what to probe next.
//!
//! It knows no clock, no process and no backend: a rate is a number, a probe an answer of yes or no. Leaves out what makes a probe
//! pass (`capacity`) and making it (the command).

use serde::{Deserialize, Serialize};

/// A rate is settled when one side has as many probes: elsewhere two of three decide, at the two ends of the answer three of five.
const SETTLED: u32 = 3;
/// Two of three.
const DECIDED: u32 = 2;
/// A gap wider than this is climbed by doubling from below; a narrower one is halved.
const DOUBLING_GAP: f64 = 4.0;

/// How a search is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Where it begins: the profile's rate, messages per second.
    pub start_per_s: f64,
    /// No lower rate is tried.
    pub floor_per_s: f64,
    /// No higher rate is tried.
    pub ceiling_per_s: f64,
    /// It ends when lowest failed ÷ highest passed − 1 is no more than this.
    pub precision: f64,
    /// It ends after so many probes, whatever it knows by then.
    pub most_probes: u32,
}

impl Limits {
    /// Down to a thousandth of the profile's rate or to `lowest_per_s`, below which a probe has too few messages to say anything; up
    /// to 100 million a second; at most 100 probes.
    pub fn around(rate_per_s: f64, lowest_per_s: f64, precision: f64) -> Self {
        Self {
            start_per_s: rate_per_s,
            floor_per_s: (rate_per_s / 1024.0).max(lowest_per_s).min(rate_per_s),
            ceiling_per_s: rate_per_s.max(1e8),
            precision,
            most_probes: 100,
        }
    }
}

/// A rate and how its probes ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Messages per second.
    pub rate_per_s: f64,
    /// Probes that passed.
    pub passed: u32,
    /// Probes that failed.
    pub failed: u32,
}

impl Tried {
    /// What its probes come to: two of three, or three of five; none while they don't decide.
    pub fn verdict(&self) -> Option<bool> {
        if self.passed >= DECIDED && self.passed > self.failed {
            Some(true)
        } else if self.failed >= DECIDED && self.failed > self.passed {
            Some(false)
        } else {
            None
        }
    }

    /// Whether its probes disagree.
    pub fn disputed(&self) -> bool {
        self.passed > 0 && self.failed > 0
    }

    fn settled(&self) -> bool {
        self.passed.max(self.failed) >= SETTLED && self.verdict().is_some()
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Probe this rate, and tell how it ended.
    Probe {
        /// Messages per second.
        rate_per_s: f64,
        /// Which try of this rate, from 0.
        attempt: u32,
    },
    /// Nothing: this is how it ended.
    Done(End),
}

/// How a search ended, or would end if it were ended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// A rate passed and a rate at most the precision above it failed.
    Found,
    /// The lowest rate that is tried failed.
    Below,
    /// The highest rate that is tried passed.
    AtLeast,
    /// It was ended before its end: by its bound on probes, or from outside.
    Unfinished,
}

/// One search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    limits: Limits,
    /// By rate, rising; no rate twice.
    tried: Vec<Tried>,
    /// What was achieved when a rate failed for which none below had passed: the next lower rate need not be higher.
    achieved_per_s: Option<f64>,
}

impl Search {
    /// A search that has not begun.
    pub fn new(limits: Limits) -> Self {
        Self { limits, tried: Vec::new(), achieved_per_s: None }
    }

    /// Tells how a probe ended. `achieved_per_s` is the rate that it was seen to carry when it failed, where that is known: it makes
    /// the way down shorter and changes nothing else.
    pub fn record(&mut self, rate_per_s: f64, passed: bool, achieved_per_s: Option<f64>) {
        let known = self.tried.iter().position(|t| same(t.rate_per_s, rate_per_s));
        let at = known.unwrap_or_else(|| self.tried.partition_point(|t| t.rate_per_s < rate_per_s));
        if known.is_none() {
            self.tried.insert(at, Tried { rate_per_s, passed: 0, failed: 0 });
        }
        let tried = &mut self.tried[at];
        if passed {
            tried.passed += 1;
        } else {
            tried.failed += 1;
            self.achieved_per_s = achieved_per_s.filter(|rate| *rate > 0.0).or(self.achieved_per_s);
        }
    }

    /// Every rate tried, rising.
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// Probes made.
    pub fn probes(&self) -> u32 {
        self.tried.iter().map(|t| t.passed + t.failed).sum()
    }

    /// The highest rate that passed below every rate that failed.
    pub fn highest_passed(&self) -> Option<Tried> {
        let failed = self.lowest_failed().map_or(f64::INFINITY, |t| t.rate_per_s);
        self.with(true).rfind(|t| t.rate_per_s < failed)
    }

    /// The lowest rate that failed.
    pub fn lowest_failed(&self) -> Option<Tried> {
        self.with(false).next()
    }

    /// The highest rate that passed in every probe, at or below the answer: an answer whose own probes disagree is no lower end.
    pub fn low_end(&self) -> Option<Tried> {
        let answer = self.highest_passed()?.rate_per_s;
        self.with(true).rfind(|t| !t.disputed() && t.rate_per_s <= answer)
    }

    /// The lowest rate that failed in every probe, above every rate that passed.
    pub fn high_end(&self) -> Option<Tried> {
        let passed = self.with(true).next_back().map_or(0.0, |t| t.rate_per_s);
        self.with(false).find(|t| !t.disputed() && t.rate_per_s > passed)
    }

    /// Rates at the edge whose probes disagree: those from the interval's low end to its high end.
    pub fn disagreements(&self) -> Vec<Tried> {
        let low = self.low_end().map_or(0.0, |t| t.rate_per_s);
        let high = self.high_end().map_or(f64::INFINITY, |t| t.rate_per_s);
        let inside = |t: &&Tried| t.disputed() && t.rate_per_s >= low && t.rate_per_s <= high;
        self.tried.iter().filter(inside).copied().collect()
    }

    /// What comes next.
    pub fn next(&self) -> Next {
        if self.probes() >= self.limits.most_probes {
            return Next::Done(End::Unfinished);
        }
        if let Some(open) = self.tried.iter().find(|t| t.verdict().is_none()) {
            return again(open);
        }
        let limits = &self.limits;
        match (self.highest_passed(), self.lowest_failed()) {
            (None, None) => first(limits.start_per_s.clamp(limits.floor_per_s, limits.ceiling_per_s)),
            (Some(low), None) if at_least(low.rate_per_s, limits.ceiling_per_s) => settle(&low, End::AtLeast),
            (Some(low), None) => first((low.rate_per_s * 2.0).min(limits.ceiling_per_s)),
            (None, Some(high)) if at_least(limits.floor_per_s, high.rate_per_s) => settle(&high, End::Below),
            (None, Some(high)) => first(self.lower_than(high.rate_per_s)),
            (Some(low), Some(high)) => self.between(&low, &high),
        }
    }

    /// How it would end if it were ended now.
    pub fn end(&self) -> End {
        match self.next() {
            Next::Done(end) => end,
            Next::Probe { .. } => End::Unfinished,
        }
    }

    /// About how many probes are still to come.
    pub fn probes_left(&self) -> u32 {
        let steps = |ratio: f64| {
            let width = self.limits.precision.ln_1p();
            (ratio.ln() / width).max(1.0).log2().ceil() as u32
        };
        let expected = match (self.next(), self.highest_passed(), self.lowest_failed()) {
            (Next::Done(_), ..) => 0,
            (Next::Probe { .. }, Some(low), Some(high)) => 2 * steps(high.rate_per_s / low.rate_per_s) + 2,
            (Next::Probe { .. }, Some(_), None) => 2 * steps(2.0) + 6,
            (Next::Probe { .. }, None, _) => 2 * steps(2.0) + 10,
        };
        expected.min(self.limits.most_probes.saturating_sub(self.probes()))
    }

    fn with(&self, verdict: bool) -> impl DoubleEndedIterator<Item = Tried> {
        self.tried.iter().copied().filter(move |t| t.verdict() == Some(verdict))
    }

    /// The next rate on the way down: half, or what was achieved if that is less.
    fn lower_than(&self, failed_per_s: f64) -> f64 {
        let half = failed_per_s / 2.0;
        let hinted = self.achieved_per_s.map_or(half, |achieved| half.min(rounded(achieved * 0.9)));
        hinted.max(self.limits.floor_per_s)
    }

    fn between(&self, low: &Tried, high: &Tried) -> Next {
        let gap = high.rate_per_s / low.rate_per_s;
        if gap > DOUBLING_GAP {
            return first(low.rate_per_s * 2.0);
        }
        if gap > 1.0 + self.limits.precision {
            let middle = (low.rate_per_s * high.rate_per_s).sqrt();
            let short = rounded(middle);
            return first(if short > low.rate_per_s && short < high.rate_per_s { short } else { middle });
        }
        // The upper end first: a disturbance makes rates fail that the backend carries, and hardly ever the other way.
        match (settle(high, End::Found), settle(low, End::Found)) {
            (Next::Done(_), Next::Done(_)) => self.widened(),
            (Next::Done(_), probe) | (probe, _) => probe,
        }
    }

    /// Both ends are settled. One whose probes disagree is no end: the next rate beyond it is asked, until all probes of one agree.
    /// The more rates are in dispute, the wider the edge is, and the longer the step.
    fn widened(&self) -> Next {
        let disputed = self.tried.iter().filter(|t| t.disputed()).count();
        let step = (1.0 + self.limits.precision).powi(i32::try_from(disputed).unwrap_or(i32::MAX).max(1));
        let lowest = self.with(true).next().map_or(f64::INFINITY, |t| t.rate_per_s);
        if self.low_end().is_none() && !at_least(self.limits.floor_per_s, lowest) {
            return first(rounded(lowest / step).max(self.limits.floor_per_s));
        }
        let highest = self.tried.last().map_or(0.0, |t| t.rate_per_s);
        if self.high_end().is_none() && !at_least(highest, self.limits.ceiling_per_s) {
            return first(rounded(highest * step).min(self.limits.ceiling_per_s));
        }
        Next::Done(End::Found)
    }
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Whether `a` is `b` or more; two rates that differ by rounding alone are one.
fn at_least(a: f64, b: f64) -> bool {
    a >= b || same(a, b)
}

fn first(rate_per_s: f64) -> Next {
    Next::Probe { rate_per_s, attempt: 0 }
}

fn again(tried: &Tried) -> Next {
    Next::Probe { rate_per_s: tried.rate_per_s, attempt: tried.passed + tried.failed }
}

/// Probes an end of the answer once more until it is settled.
fn settle(tried: &Tried, end: End) -> Next {
    if tried.settled() { Next::Done(end) } else { again(tried) }
}

/// Four significant digits: rates are read by people.
fn rounded(rate: f64) -> f64 {
    if rate <= 0.0 || !rate.is_finite() {
        return rate;
    }
    let digits = 3 - rate.log10().floor() as i32;
    let scale = 10_f64.powi(digits.abs());
    if digits >= 0 { (rate * scale).round() / scale } else { (rate / scale).round() * scale }
}
