//! What a message says of itself in its headers, as far as a queue reads it, and which of a channel's groups get it.
//!
//! A message without headers says nothing and costs nothing here, unless its channel has bindings or messages have groups. What a
//! message said is read again from the journal after a restart, with the same result: nothing of it depends on the time of reading.
//! Leaves out ids by which repeats are known, and what follows from what is said.

use crate::batch::ChannelId;
use crate::binding::{Pattern, routing_key};
use crate::completion::Refusal;
use crate::contract::Order;
use crate::headers::{Headers, names};
use crate::queue::QueueModel;
use crate::queue::backlog::Told;
use crate::queue::exceptions::{Special, Words};
use crate::routing::key_hash;
use crate::time::{Span, Time};

/// What is special about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Its priority, at most the queue's highest.
    level: u8,
    /// Its message group, as a hash; 0 for none.
    group: u64,
    /// How long it is held back, in place of the queue's delay.
    delay: Option<Span>,
    /// How long it may wait, beside the queue's limit.
    time_to_live: Option<Span>,
    /// Whether anything of the above matters.
    is_special: bool,
    /// The places of the groups that get it, where not all do.
    pub(super) routes: Option<Box<[u32]>>,
}

impl Said {
    /// What is special about a dead letter that keeps a priority and a group.
    pub(super) fn of_letter((level, group): Words, groups_in_order: bool) -> Option<Self> {
        let is_special = level > 0 || groups_in_order;
        is_special.then(|| Self { level, group, is_special, ..Self::default() })
    }

    /// What a group's queue has to know of the message, which came at `came`; `delay` is the queue's.
    pub(super) fn told(&self, place: u32, came: Time, delay: Span) -> Option<Told> {
        if self.routes.as_ref().is_some_and(|routes| !routes.contains(&place)) {
            return Some(Told::Elsewhere);
        }
        self.is_special.then(|| {
            Told::Special(Special {
                level: self.level,
                group: self.group,
                appears: came + self.delay.unwrap_or(delay),
                expires: self.time_to_live.map_or(Time::NEVER, |span| came + span.max(Span(1))),
            })
        })
    }
}

impl QueueModel {
    /// What a message says of itself; nothing when it is like any other. Refused is what its queue can't do.
    pub(super) fn said(&self, channel: ChannelId, key: &[u8], headers: &[u8]) -> Result<Option<Said>, Refusal> {
        let bindings = &self.channels[channel.0 as usize].bindings;
        if headers.is_empty() && bindings.is_empty() && !self.groups_in_order {
            return Ok(None);
        }
        let headers = Headers::parse(headers);
        let mut said = Said::default();
        if let Some(headers) = headers {
            said.level = headers.priority().unwrap_or(0).min(self.options.priorities);
            if self.channels[channel.0 as usize].dead_letters_of.is_none() {
                said.delay = headers.span(names::DELAY).filter(|_| self.options.heeds_delays());
                said.time_to_live = headers.span(names::TIME_TO_LIVE).filter(|_| self.options.heeds_lives());
            }
        }
        if said.delay.is_some() && (self.contract.order != Order::None || self.options.message_groups) {
            // It would come after what was published later.
            return Err(Refusal::Unsupported);
        }
        if self.groups_in_order {
            let group = self.message_group(key, headers);
            said.group = if group.is_empty() { 0 } else { key_hash(group).max(1) };
        }
        said.is_special = said.level > 0 || said.delay.is_some() || said.time_to_live.is_some() || self.groups_in_order;
        if !bindings.is_empty() {
            said.routes = Some(routes(bindings, key, headers));
        }
        Ok((said.is_special || said.routes.is_some()).then_some(said))
    }

    /// The group whose messages are delivered in order: what the message says, otherwise its key; none, if that is empty. Where an order per key was promised, the
    /// key comes first.
    pub(super) fn message_group<'a>(&self, key: &'a [u8], headers: Option<Headers<'a>>) -> &'a [u8] {
        let said = headers.and_then(|headers| headers.text(names::MESSAGE_GROUP));
        match said {
            Some(said) if key.is_empty() || self.contract.order != Order::PerKey => said,
            Some(_) | None => key,
        }
    }
}

/// The places of the groups of which a binding lets a message through, each once.
fn routes(bindings: &[(u32, Pattern)], key: &[u8], headers: Option<Headers<'_>>) -> Box<[u32]> {
    let routing_key = routing_key(key, headers);
    let matching = bindings.iter().filter(|(_, pattern)| pattern.matches(routing_key, headers));
    let mut places: Vec<u32> = matching.map(|&(place, _)| place).collect();
    places.sort_unstable();
    places.dedup();
    places.into_boxed_slice()
}
