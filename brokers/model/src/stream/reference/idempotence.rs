//! Producers with names as the reference sees them: every sequence of each in a plain map, looked up anew each time.
//!
//! Leaves out how an identity is written in headers, which has its own tests.

use std::collections::BTreeMap;

#[cfg(test)]
use super::Fate;
use super::Reference;
use crate::completion::Refusal;
use crate::identity::Identity;
use crate::time::Time;
#[cfg(test)]
use crate::trial::crash::Known;

/// A channel, and a producer's name.
type OfChannel = (usize, Vec<u8>);

/// A message's epoch, sequence, time, lane and position.
#[cfg(test)]
type Written = (u32, u64, Time, u32, u64);

/// Where a message is, and whose transaction it belongs to while that may be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    lane: u32,
    position: u64,
    within: Option<u32>,
}

/// One producer in one channel.
#[derive(Clone, Debug)]
struct Producer {
    epoch: u32,
    next: u64,
    /// None where it is not there and may come again.
    places: BTreeMap<u64, Option<Place>>,
    wrote: Time,
}

/// Producers by channel and name, and what every message that was ever written said.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    known: BTreeMap<OfChannel, Producer>,
    said: BTreeMap<(u32, u64), (Vec<u8>, u32, u64)>,
}

impl Reference {
    /// The sequence that is due of a producer, and its epoch; nothing where it is unknown.
    #[cfg(test)]
    pub(crate) fn due(&self, channel: u32, producer: &[u8]) -> Option<(u32, u64)> {
        let known = self.producers.known.get(&(channel as usize, producer.to_vec()))?;
        Some((known.epoch, known.next))
    }

    /// The message that is there already, if it is one of those that are known; or why it is refused.
    pub(super) fn is_repeat(
        &mut self,
        now: Time,
        client: u32,
        channel: usize,
        identity: Identity<'_>,
    ) -> Result<Option<(u32, u64)>, Refusal> {
        let Some((window, expiration)) = self.rules.idempotence() else { return Ok(None) };
        self.producers.known.retain(|_, known| known.wrote + expiration > now);
        let Identity { producer, epoch, sequence } = identity;
        let Some(known) = self.producers.known.get(&(channel, producer.to_vec())) else { return Ok(None) };
        if epoch < known.epoch {
            return Err(Refusal::Fenced);
        }
        let due = if epoch > known.epoch { 0 } else { known.next };
        if sequence == due {
            return Ok(None);
        }
        if sequence > due || due - sequence > window {
            return Err(Refusal::OutOfSequence);
        }
        match known.places.get(&sequence) {
            None => Err(Refusal::OutOfSequence),
            Some(None) => Ok(None),
            Some(Some(Place { within: Some(other), .. })) if *other != client => Err(Refusal::Transaction),
            Some(Some(Place { lane, position, .. })) => Ok(Some((*lane, *position))),
        }
    }

    /// A message is written.
    pub(super) fn note_identity(
        &mut self,
        now: Time,
        client: u32,
        lane: u32,
        position: u64,
        identity: Option<Identity<'_>>,
    ) {
        self.producers.said.remove(&(lane, position));
        let Some(Identity { producer, epoch, sequence }) = identity else { return };
        self.producers.said.insert((lane, position), (producer.to_vec(), epoch, sequence));
        if self.rules.idempotence().is_none() {
            return;
        }
        let within = self.transactions.contains_key(&client).then_some(client);
        let key = (self.lanes[lane as usize].channel, producer.to_vec());
        let new = || Producer { epoch, next: sequence, places: BTreeMap::new(), wrote: now };
        let known = self.producers.known.entry(key).or_insert_with(new);
        if known.epoch < epoch {
            *known = new();
        }
        known.places.insert(sequence, Some(Place { lane, position, within }));
        known.next = known.next.max(sequence + 1);
        known.wrote = now;
    }

    /// A message could not be stored.
    pub(super) fn lost(&mut self, lane: u32, position: u64) {
        for place in self.places() {
            if place.is_some_and(|at| (at.lane, at.position) == (lane, position)) {
                *place = None;
            }
        }
    }

    /// The transaction of `client` is over.
    pub(super) fn ended_identities(&mut self, client: u32, taken_back: bool) {
        for place in self.places() {
            if let Some(at) = place.as_mut().filter(|at| at.within == Some(client)) {
                at.within = None;
                if taken_back {
                    *place = None;
                }
            }
        }
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Option<Place>> {
        self.producers.known.values_mut().flat_map(|known| known.places.values_mut())
    }

    /// Nobody can publish to that channel any more.
    pub(super) fn forget_channel(&mut self, channel: usize) {
        self.producers.known.retain(|(of, _), _| *of != channel);
    }

    /// After a restart all is read off the messages that are there, once the lanes are set.
    #[cfg(test)]
    pub(super) fn restart_identities(&mut self, now: Time, journal: &Known) {
        self.producers.known.clear();
        let Some((window, expiration)) = self.rules.idempotence() else { return };
        let mut there: Vec<(OfChannel, Written)> = Vec::new();
        for (&(number, position), (producer, epoch, sequence)) in &self.producers.said {
            let Some(lane) = self.lanes.get(number as usize) else { continue };
            let message = lane.messages.get(position as usize).filter(|(_, fate)| *fate == Fate::Stored);
            if let Some(&(written, _)) = message
                && !self.channels[lane.channel].gone
                && !journal.provisional.contains(&(number, position))
            {
                let place = (*epoch, *sequence, written, number, position);
                there.push(((lane.channel, producer.clone()), place));
            }
        }
        there.sort_unstable();
        let mut earlier: Vec<(usize, Vec<u8>, u32, u64, Place)> = Vec::new();
        for ((channel, producer), (epoch, sequence, written, lane, position)) in there {
            let new = || Producer { epoch, next: 0, places: BTreeMap::new(), wrote: written };
            let known = self.producers.known.entry((channel, producer.clone())).or_insert_with(new);
            if known.epoch < epoch {
                *known = new();
            }
            known.wrote = known.wrote.max(written);
            known.next = sequence + 1;
            let place = Place { lane, position, within: None };
            if let Some(Some(first)) = known.places.insert(sequence, Some(place)) {
                earlier.push((channel, producer, epoch, sequence, first));
            }
        }
        for (channel, producer, epoch, sequence, first) in earlier {
            let known = &self.producers.known[&(channel, producer)];
            if known.epoch == epoch && known.next - sequence <= window {
                // Of two messages with one identity, the earlier is not there for anybody.
                self.lanes[first.lane as usize].taken_back.insert(first.position);
            }
        }
        self.find_missing(|lane| journal.trimmed.get(&lane).is_none_or(|&below| below == 0));
        self.producers.known.retain(|_, known| known.wrote + expiration > now);
    }

    /// Where nothing was trimmed, what is not there never was.
    #[cfg(test)]
    fn find_missing(&mut self, is_whole: impl Fn(u32) -> bool) {
        for ((channel, _), known) in &mut self.producers.known {
            let mut lanes = (0u32..).zip(&self.lanes).filter(|(_, lane)| lane.channel == *channel);
            if lanes.all(|(number, _)| is_whole(number)) {
                for sequence in 0..known.next {
                    known.places.entry(sequence).or_insert(None);
                }
            }
        }
    }

    /// Every message of a producer that may be read stands in its channel once.
    #[cfg(test)]
    pub(crate) fn assert_nothing_is_stored_twice(&self) {
        let mut seen = BTreeMap::new();
        for (&(number, position), said) in &self.producers.said {
            let Some(lane) = self.lanes.get(number as usize).filter(|lane| lane.visible(position)) else { continue };
            let before = seen.insert((lane.channel, said), (number, position));
            assert_eq!(before, None, "{said:?} is at {position} of lane {number} too");
        }
    }

    /// The sequences of a producer that may be read in a channel.
    #[cfg(test)]
    pub(crate) fn readable_sequences(&self, channel: u32, producer: &[u8]) -> Vec<u64> {
        let there = self.producers.said.iter().filter(|(at, said)| {
            let lane = self.lanes.get(at.0 as usize).filter(|lane| lane.channel == channel as usize);
            said.0 == producer && lane.is_some_and(|lane| lane.visible(at.1))
        });
        let mut sequences: Vec<u64> = there.map(|(_, said)| said.2).collect();
        sequences.sort_unstable();
        sequences
    }
}
