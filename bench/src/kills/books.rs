//! What a program of kills has published, what came back, and what must therefore be there, or never come again.
//!
//! A settlement is confirmed before it is stored, so that a crash may undo it; once a publish that was submitted after the confirmation is
//! acknowledged it is *firm*, because the journal has it before that publish. Leaves out processes and connections.

use std::collections::{BTreeMap, BTreeSet};

use brokerlab_model::{Delivered, LaneId, Outcome, Receipt, Status};

/// Where a published message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody has said yet, or nobody ever will.
    Unknown,
    /// Acknowledged, there.
    At(LaneId, u64),
    /// It was said that it is not there.
    Not,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Breach {
    /// An acknowledged message that nobody settled is not there.
    Lost,
    /// Something that was never published, or not with these bytes or at this place.
    Wrong,
    /// Delivered again beyond what the contract allows.
    Again,
    /// A receipt of an earlier life settled something.
    Stale,
    /// The process did not serve again, or did not answer.
    Refused,
}

/// A settlement that was confirmed.
#[derive(Clone, Copy, Debug)]
struct Settled {
    lane: LaneId,
    position: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Books {
    /// By number.
    fates: Vec<Fate>,
    /// Whether everything below a settled position is settled too.
    cumulative: bool,
    at_most_once: bool,
    /// Where each position was seen, so that no message is at two.
    places: BTreeMap<(LaneId, u64), u64>,
    /// Of this life, and the firm ones of earlier lives.
    confirmed: Vec<Settled>,
    confirmed_in_all: u64,
    /// So many of them are firm.
    firm: usize,
    firm_positions: BTreeSet<(LaneId, u64)>,
    firm_below: BTreeMap<LaneId, u64>,
    /// Asked to be settled, whether or not confirmed: these may be gone.
    maybe: BTreeSet<(LaneId, u64)>,
    maybe_below: BTreeMap<LaneId, u64>,
    /// Delivered in this life, without those that were given back.
    seen: BTreeSet<u64>,
    /// Delivered in any life.
    ever: BTreeSet<u64>,
    /// How many more may be missing where a delivery settles: what was on its way when a process was killed.
    under_way: u64,
}

/// A message's bytes follow from its number.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let len = 8 + (number * 37 % 300) as usize;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..len).map(|at| (number * 31 + at as u64 * 7) as u8));
    bytes
}

pub(super) fn key(number: u64) -> [u8; 8] {
    (number % 11).to_le_bytes()
}

impl Books {
    pub(super) fn new(cumulative: bool, at_most_once: bool) -> Self {
        Self {
            fates: Vec::new(),
            cumulative,
            at_most_once,
            places: BTreeMap::new(),
            confirmed: Vec::new(),
            confirmed_in_all: 0,
            firm: 0,
            firm_positions: BTreeSet::new(),
            firm_below: BTreeMap::new(),
            maybe: BTreeSet::new(),
            maybe_below: BTreeMap::new(),
            seen: BTreeSet::new(),
            ever: BTreeSet::new(),
            under_way: 0,
        }
    }

    /// The number of the next message, which is published now; how many settlements are confirmed at this moment.
    pub(super) fn publish(&mut self) -> (u64, usize) {
        self.fates.push(Fate::Unknown);
        (self.fates.len() as u64 - 1, self.confirmed.len())
    }

    /// How the publish of `number` ended, at whose time so many settlements were confirmed.
    pub(super) fn published(&mut self, number: u64, confirmed: usize, outcome: &Outcome) {
        self.fates[number as usize] = match outcome.status {
            Status::Done => Fate::At(outcome.lane, outcome.position),
            Status::Refused(_) | Status::Throttled => Fate::Not,
            // What has failed may have happened.
            Status::Failed(_) | Status::Unknown => Fate::Unknown,
        };
        if outcome.status == Status::Done {
            for settled in &self.confirmed[self.firm.min(confirmed)..confirmed] {
                self.firm_positions.insert((settled.lane, settled.position));
                let below = self.firm_below.entry(settled.lane).or_default();
                *below = (*below).max(settled.position + 1);
            }
            self.firm = self.firm.max(confirmed);
        }
    }

    pub(super) fn settling(&mut self, receipt: Receipt) {
        self.maybe.insert((receipt.lane, receipt.position));
        let below = self.maybe_below.entry(receipt.lane).or_default();
        *below = (*below).max(receipt.position + 1);
    }

    pub(super) fn settled(&mut self, receipt: Receipt) {
        self.confirmed_in_all += 1;
        self.confirmed.push(Settled { lane: receipt.lane, position: receipt.position });
    }

    /// The message of that place may come again in this life.
    pub(super) fn given_back(&mut self, receipt: Receipt) {
        if let Some(number) = self.places.get(&(receipt.lane, receipt.position)) {
            self.seen.remove(number);
        }
    }

    /// A message came; what is wrong with it, if anything is. `replay` says that it was asked for once more.
    pub(super) fn delivered(&mut self, delivery: &Delivered<'_>, replay: bool) -> Result<u64, (Breach, String)> {
        let wrong = |why: &str| (Breach::Wrong, format!("{why} at {:?}", delivery.receipt));
        let number = delivery.payload.first_chunk::<8>().map(|first| u64::from_le_bytes(*first));
        let number =
            number.filter(|&number| number < self.fates.len() as u64).ok_or_else(|| wrong("nobody's message"))?;
        let whole = delivery.payload == payload(number) && delivery.key == key(number) && delivery.headers == b"h";
        if !whole {
            return Err(wrong("other bytes than were published"));
        }
        let place = (delivery.receipt.lane, delivery.receipt.position);
        match self.fates[number as usize] {
            Fate::At(lane, position) if (lane, position) != place => {
                return Err(wrong("not where it was acknowledged"));
            }
            Fate::Not => return Err(wrong("a message that was refused")),
            Fate::At(..) | Fate::Unknown => {}
        }
        if *self.places.entry(place).or_insert(number) != number {
            return Err(wrong("another message than before"));
        }
        let again = |why: &str| (Breach::Again, format!("message {number} at {place:?} {why}"));
        if !replay && self.is_firm(place) {
            return Err(again("was settled for good"));
        }
        if !replay && !self.seen.insert(number) {
            return Err(again("came twice in a life"));
        }
        if !self.ever.insert(number) && self.at_most_once && !replay {
            return Err(again("may come once at most"));
        }
        Ok(number)
    }

    fn is_firm(&self, place: (LaneId, u64)) -> bool {
        if self.cumulative {
            self.firm_below.get(&place.0).is_some_and(|&below| place.1 < below)
        } else {
            self.firm_positions.contains(&place)
        }
    }

    /// The process is gone, and with it may be every settlement that is not firm; so much credit was out.
    pub(super) fn killed(&mut self, credit: u64) {
        self.seen.clear();
        self.confirmed.truncate(self.firm);
        self.under_way += credit;
    }

    /// Numbers of acknowledged messages that must still come in this life: nobody asked for them to be settled, and they did not come yet.
    pub(super) fn missing(&self) -> BTreeSet<u64> {
        let open = |&(fate, number): &(&Fate, u64)| {
            let Fate::At(lane, position) = *fate else { return false };
            let seen = if self.at_most_once { &self.ever } else { &self.seen };
            let gone = if self.cumulative {
                self.maybe_below.get(&lane).is_some_and(|&below| position < below)
            } else {
                self.maybe.contains(&(lane, position))
            };
            !gone && !seen.contains(&number)
        };
        self.fates.iter().zip(0..).filter(open).map(|(_, number)| number).collect()
    }

    /// How many may be missing.
    pub(super) fn may_be_missing(&self) -> u64 {
        if self.at_most_once { self.under_way } else { 0 }
    }

    /// Numbers of all acknowledged messages, wherever they stand.
    pub(super) fn acknowledged(&self) -> BTreeSet<u64> {
        self.fates.iter().zip(0..).filter(|(fate, _)| matches!(fate, Fate::At(..))).map(|(_, number)| number).collect()
    }

    /// Confirmed settlements.
    pub(super) fn settlements(&self) -> u64 {
        self.confirmed_in_all
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{ChannelId, Token};

    use super::*;

    fn delivery(payload: &[u8], number: u64, position: u64) -> Result<u64, Breach> {
        let mut books = Books::new(false, false);
        for n in 0..4 {
            let (published, confirmed) = books.publish();
            let status = if n == 3 { Status::Throttled } else { Status::Done };
            let outcome = Outcome { token: Token(n), status, lane: LaneId(0), position: n };
            books.published(published, confirmed, &outcome);
        }
        check(&mut books, payload, number, position)
    }

    fn check(books: &mut Books, payload: &[u8], number: u64, position: u64) -> Result<u64, Breach> {
        let delivery = Delivered {
            receipt: Receipt { lane: LaneId(0), position, epoch: 0 },
            channel: ChannelId(0),
            redeliveries: 0,
            key: &key(number),
            headers: b"h",
            payload_len: payload.len() as u32,
            payload,
        };
        books.delivered(&delivery, false).map_err(|(breach, _)| breach)
    }

    #[test]
    fn bytes_places_and_refused_messages_are_told_apart() {
        assert_eq!(delivery(&payload(1), 1, 1), Ok(1));
        assert_eq!(delivery(&payload(1), 2, 1), Err(Breach::Wrong), "another key");
        assert_eq!(delivery(&payload(1), 1, 2), Err(Breach::Wrong), "another place");
        assert_eq!(delivery(&payload(3), 3, 3), Err(Breach::Wrong), "it was throttled");
        assert_eq!(delivery(&payload(9), 9, 3), Err(Breach::Wrong), "never published");
        let mut damaged = payload(2);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(delivery(&damaged, 2, 2), Err(Breach::Wrong));
    }

    #[test]
    fn a_settlement_is_firm_once_a_later_publish_is_acknowledged() {
        let mut books = Books::new(false, false);
        let done = |number: u64| Outcome { token: Token(0), status: Status::Done, lane: LaneId(0), position: number };
        let receipt = Receipt { lane: LaneId(0), position: 0, epoch: 0 };
        let (first, confirmed) = books.publish();
        books.published(first, confirmed, &done(0));
        assert_eq!(books.missing(), BTreeSet::from([first]));
        assert_eq!(check(&mut books, &payload(0), 0, 0), Ok(0));
        books.settling(receipt);
        books.settled(receipt);
        books.killed(0);
        assert_eq!(check(&mut books, &payload(0), 0, 0), Ok(0), "a crash may undo it");
        let (second, confirmed) = books.publish();
        books.published(second, confirmed, &done(1));
        books.killed(0);
        assert_eq!(check(&mut books, &payload(0), 0, 0), Ok(0), "no publish of that life came after it");
        books.settled(receipt);
        let (third, confirmed) = books.publish();
        books.published(third, confirmed, &done(2));
        books.killed(0);
        assert_eq!(check(&mut books, &payload(0), 0, 0), Err(Breach::Again));
        assert_eq!(books.missing(), BTreeSet::from([second, third]));
        assert_eq!(books.settlements(), 2);
        assert_eq!(check(&mut books, &payload(1), 1, 1), Ok(1));
        assert_eq!(check(&mut books, &payload(1), 1, 1), Err(Breach::Again), "twice in a life");
        assert_eq!(books.missing(), BTreeSet::from([third]));
    }
}
