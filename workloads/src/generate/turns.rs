//! The headers of each message, and which groups it is for: both follow from the message's turn, its number modulo a short period.
//!
//! Leaves out what the headers and bindings may be; the profile's check has seen to that.

use std::sync::Arc;

use brokerlab_model::Span;
use brokerlab_model::binding::routing_key;
use brokerlab_model::headers::{HeaderBlock, HeaderError, Headers as Block, names};

use crate::profile::{Lasting, Profile};

/// The most messages after which headers come again from the first.
pub(crate) const PERIOD_MAX: u64 = 4_096;

/// Which messages are for which groups, where groups have bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// By group, by turn.
    is_for: Vec<Vec<bool>>,
    period: u64,
}

impl Routes {
    /// Whether message `sequence` of any producer is for the group with this number.
    #[inline]
    pub fn is_for(&self, group: usize, sequence: u64) -> bool {
        self.is_for[group][(sequence % self.period) as usize]
    }

    /// The groups, by number, that message `sequence` of any producer is not for.
    pub fn not_for(&self, sequence: u64) -> impl Iterator<Item = usize> + '_ {
        (0..self.is_for.len()).filter(move |&group| !self.is_for(group, sequence))
    }

    /// Which share of the messages is for a group.
    pub fn share(&self, group: usize) -> f64 {
        let turns = self.is_for.get(group).map_or(&[][..], Vec::as_slice);
        turns.iter().filter(|is_for| **is_for).count() as f64 / self.period as f64
    }

    /// Of 64 messages from `64 × word` on, those that are for a group, as bits.
    pub(crate) fn bits(&self, group: usize, word: u64) -> u64 {
        (0..64).fold(0, |bits, at| bits | u64::from(self.is_for(group, word * 64 + at)) << at)
    }

    /// The first turn that is for no group.
    pub(crate) fn for_nobody(&self) -> Option<u64> {
        (0..self.period).find(|&turn| self.not_for(turn).count() == self.is_for.len())
    }
}

/// Every turn's headers as bytes, and the groups that it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    /// None where messages say nothing.
    blocks: Vec<Vec<u8>>,
    routes: Option<Arc<Routes>>,
}

impl Turns {
    /// What a profile asks for; an error where a message's headers don't fit.
    pub(crate) fn of(profile: &Profile) -> Result<Self, HeaderError> {
        let period = period(profile).min(PERIOD_MAX);
        let blocks: Vec<Vec<u8>> = if profile.headers.is_empty() {
            vec![Vec::new()]
        } else {
            (0..period).map(|turn| block(profile, turn).map(|block| block.to_bytes())).collect::<Result<_, _>>()?
        };
        let bindings = profile.bindings();
        let routes = (!bindings.is_empty()).then(|| {
            let is_for = |name: &str, block: &[u8]| {
                let headers = Block::parse(block);
                let mut patterns = bindings.iter().filter(|binding| binding.group == name);
                patterns.any(|binding| binding.pattern.matches(routing_key(b"", headers), headers))
            };
            let of = |name: &str| blocks.iter().map(|block| is_for(name, block)).collect();
            Arc::new(Routes {
                is_for: profile.groups.iter().map(|group| of(&group.name)).collect(),
                period: blocks.len() as u64,
            })
        });
        Ok(Self { blocks, routes })
    }

    /// The headers of message `sequence` of any producer.
    #[inline]
    pub(crate) fn headers(&self, sequence: u64) -> &[u8] {
        match self.blocks.as_slice() {
            [] => &[],
            [block] => block,
            blocks => &blocks[(sequence % blocks.len() as u64) as usize],
        }
    }

    pub(crate) fn routes(&self) -> Option<&Arc<Routes>> {
        self.routes.as_ref()
    }

    /// Bytes of the longest headers.
    pub(crate) fn longest(&self) -> u32 {
        self.blocks.iter().map(Vec::len).max().unwrap_or(0) as u32
    }
}

/// After how many messages headers come again from the first.
pub(crate) fn period(profile: &Profile) -> u64 {
    let headers = &profile.headers;
    let others = headers.other.values().map(|turn| turn.0.len());
    let lengths = [
        headers.priority.0.len(),
        headers.time_to_live.0.len(),
        headers.delay.0.len(),
        headers.routing_key.0.len(),
        headers.message_group.0.len(),
    ];
    let lengths = lengths.into_iter().chain(others).filter(|&length| length > 0);
    lengths.fold(1, |period, length| least_common_multiple(period, length as u64))
}

fn least_common_multiple(one: u64, other: u64) -> u64 {
    let (mut a, mut b) = (one, other);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    (one / a).saturating_mul(other)
}

fn block(profile: &Profile, turn: u64) -> Result<HeaderBlock, HeaderError> {
    let headers = &profile.headers;
    let mut block = HeaderBlock::new();
    if let Some(priority) = headers.priority.at(turn) {
        block = block.with(names::PRIORITY, &[*priority])?;
    }
    for (name, turns) in [(names::TIME_TO_LIVE, &headers.time_to_live), (names::DELAY, &headers.delay)] {
        if let Some(&Lasting(Span(ns))) = turns.at(turn) {
            block = block.with_span(name, Span(ns))?;
        }
    }
    for (name, turns) in [(names::ROUTING_KEY, &headers.routing_key), (names::MESSAGE_GROUP, &headers.message_group)] {
        if let Some(text) = turns.at(turn) {
            block = block.with(name, text.as_bytes())?;
        }
    }
    for (name, turns) in &headers.other {
        if let Some(value) = turns.at(turn) {
            block.set(name.as_bytes(), value.as_bytes())?;
        }
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "t"
about = "For tests."
duration = "1s"
arrivals = { kind = "constant", rate = "100/s" }
sizes = "64B"
keys = { kind = "uniform", count = 4 }

[headers]
priority = [0, 9, 4]
time_to_live = "5s"
routing_key = ["orders.eu", "orders.us"]
other = { tenant = ["a", "a", "b"] }

[[groups]]
name = "eu"
members = 1
bindings = [{ kind = "topic", pattern = "*.eu" }, { kind = "headers", pairs = { tenant = "b" } }]

[[groups]]
name = "all"
members = 1
"#;

    #[test]
    fn a_message_says_what_its_turn_is_and_is_for_whom_a_binding_lets_it_through() {
        let turns = Turns::of(&Profile::parse(TEXT, "t.toml").unwrap()).unwrap();
        let said = |n: u64| {
            let block = Block::parse(turns.headers(n)).unwrap();
            let text = |name| String::from_utf8(block.get(name).unwrap().to_vec()).unwrap();
            (
                block.priority().unwrap(),
                block.span(names::TIME_TO_LIVE).unwrap(),
                text(names::ROUTING_KEY),
                text("tenant"),
            )
        };
        let of = |priority, key: &str, tenant: &str| (priority, Span::from_secs(5), key.to_owned(), tenant.to_owned());
        assert_eq!(said(0), of(0, "orders.eu", "a"));
        assert_eq!(said(5), of(4, "orders.us", "b"));
        assert_eq!(said(7), of(9, "orders.us", "a"));
        let routes = turns.routes().unwrap();
        let eu: Vec<u64> = (0..12).filter(|&n| routes.is_for(0, n)).collect();
        assert_eq!(eu, [0, 2, 4, 5, 6, 8, 10, 11]);
        assert_eq!((routes.share(0), routes.share(1)), (4.0 / 6.0, 1.0));
        assert_eq!((routes.not_for(1).collect::<Vec<_>>(), routes.for_nobody()), (vec![0], None));
        assert_eq!(
            routes.bits(0, 1) & 0b11_1111,
            (0..6).fold(0, |bits, n| bits | u64::from(routes.is_for(0, 64 + n)) << n)
        );
    }

    #[test]
    fn a_profile_that_says_nothing_has_neither_headers_nor_routes() {
        let (text, _) = TEXT.split_once("\n[headers]").unwrap();
        let profile = Profile::parse(&format!("{text}\n[[groups]]\nname = \"all\"\nmembers = 1"), "t.toml").unwrap();
        let turns = Turns::of(&profile).unwrap();
        assert_eq!((turns.headers(3), turns.routes(), turns.longest(), period(&profile)), (&[][..], None, 0, 1));
    }
}
