//! What a program of kills has published, what came back, and what must therefore be there, or never come again.
//!
//! A settlement is confirmed before it is stored, so that a crash may undo it; once a publish that was submitted after the confirmation is
//! acknowledged it is *firm*, because the journal has it before that publish. Leaves out processes and connections.

use std::collections::{BTreeMap, BTreeSet};

use brokerlab_model::headers::names;
use brokerlab_model::{ChannelId, Delivered, HeaderBlock, Headers, LaneId, Outcome, Receipt, Span, Status};

use super::bundles::Bundles;
use super::{Extra, Rules};

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
    rules: Rules,
    /// What belongs together.
    pub(super) bundles: Bundles,
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
    maybe: BTreeSet<u64>,
    maybe_below: BTreeMap<LaneId, u64>,
    /// Delivered in this life, without those that were given back; of a dead letter with its place.
    seen: BTreeSet<(u64, Option<(LaneId, u64)>)>,
    /// Delivered when everything was read once more.
    replayed: BTreeSet<u64>,
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

/// How many keys there are.
const KEYS: u64 = 11;

pub(super) fn key(number: u64) -> [u8; 8] {
    (number % KEYS).to_le_bytes()
}

/// The channel of dead letters, where there is one.
pub(super) const LETTERS: ChannelId = ChannelId(1);

/// How long a message is held back that says so: every fifth, where some do.
pub(super) fn delay(number: u64) -> Option<Span> {
    number.is_multiple_of(5).then(|| Span::from_millis(1 + number % 15))
}

/// A message's headers.
pub(super) fn headers(number: u64, extra: Extra) -> Vec<u8> {
    let delay = delay(number).filter(|_| extra == Extra::Letters);
    let block = delay.and_then(|delay| HeaderBlock::new().with_span(names::DELAY, delay).ok());
    block.map_or_else(|| b"h".to_vec(), |block| block.to_bytes())
}

/// Whether these are the headers of the dead letter of a message, and where it died.
fn death(number: u64, letter: &[u8]) -> Option<(LaneId, u64)> {
    let letter = Headers::parse(letter)?;
    let opaque = delay(number).is_none().then_some(&b"h"[..]);
    let told = letter.get(names::DEATH_REASON) == Some(b"rejected") && letter.get(names::OPAQUE) == opaque;
    let lane = LaneId(u32::from_le_bytes(letter.get(names::DEATH_LANE)?.try_into().ok()?));
    let position = u64::from_le_bytes(letter.get(names::DEATH_POSITION)?.try_into().ok()?);
    (told && letter.get(names::DELAY).is_none()).then_some((lane, position))
}

impl Books {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            fates: Vec::new(),
            rules,
            bundles: Bundles::default(),
            places: BTreeMap::new(),
            confirmed: Vec::new(),
            confirmed_in_all: 0,
            firm: 0,
            firm_positions: BTreeSet::new(),
            firm_below: BTreeMap::new(),
            maybe: BTreeSet::new(),
            maybe_below: BTreeMap::new(),
            seen: BTreeSet::new(),
            replayed: BTreeSet::new(),
            ever: BTreeSet::new(),
            under_way: 0,
        }
    }

    /// The number of the next message, which is published now; how many settlements are confirmed at this moment.
    pub(super) fn publish(&mut self) -> (u64, usize) {
        self.fates.push(Fate::Unknown);
        let number = self.fates.len() as u64 - 1;
        self.bundles.add(number);
        (number, self.confirmed.len())
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
            for at in self.firm.min(confirmed)..confirmed {
                let Settled { lane, position } = self.confirmed[at];
                self.settled_for_good(lane, position);
            }
            self.firm = self.firm.max(confirmed);
        }
    }

    fn settled_for_good(&mut self, lane: LaneId, position: u64) {
        self.firm_positions.insert((lane, position));
        let below = self.firm_below.entry(lane).or_default();
        *below = (*below).max(position + 1);
    }

    /// The transaction that was open is stored, with what it settled.
    pub(super) fn committed(&mut self) {
        for Receipt { lane, position, .. } in self.bundles.committed() {
            self.confirmed_in_all += 1;
            self.settled_for_good(lane, position);
        }
    }

    pub(super) fn settling(&mut self, receipt: Receipt) {
        self.maybe.extend(self.places.get(&(receipt.lane, receipt.position)));
        let below = self.maybe_below.entry(receipt.lane).or_default();
        *below = (*below).max(receipt.position + 1);
    }

    pub(super) fn settled(&mut self, receipt: Receipt) {
        self.confirmed_in_all += 1;
        self.confirmed.push(Settled { lane: receipt.lane, position: receipt.position });
    }

    /// Whether a dead letter came with that receipt.
    pub(super) fn is_letter(&self, receipt: Receipt) -> bool {
        let place = (receipt.lane, receipt.position);
        self.places.get(&place).is_some_and(|&number| self.seen.contains(&(number, Some(place))))
    }

    /// The message of that place may come again in this life.
    pub(super) fn given_back(&mut self, receipt: Receipt) {
        let place = (receipt.lane, receipt.position);
        if let Some(&number) = self.places.get(&place) {
            self.seen.remove(&(number, Some(place)));
            self.seen.remove(&(number, None));
        }
    }

    /// A message came; what is wrong with it, if anything is. `replay` says that it was asked for once more.
    pub(super) fn delivered(&mut self, delivery: &Delivered<'_>, replay: bool) -> Result<u64, (Breach, String)> {
        let wrong = |why: &str| (Breach::Wrong, format!("{why} at {:?}", delivery.receipt));
        let number = delivery.payload.first_chunk::<8>().map(|first| u64::from_le_bytes(*first));
        let number =
            number.filter(|&number| number < self.fates.len() as u64).ok_or_else(|| wrong("nobody's message"))?;
        let place = (delivery.receipt.lane, delivery.receipt.position);
        let is_letter = self.rules.extra == Extra::Letters && delivery.channel == LETTERS;
        let published = (delivery.headers == headers(number, self.rules.extra)).then_some(place);
        let published_at = if is_letter { death(number, delivery.headers) } else { published };
        let whole = delivery.payload == payload(number) && delivery.key == key(number);
        let Some(published_at) = published_at.filter(|_| whole) else {
            return Err(wrong("other bytes than were published"));
        };
        match self.fates[number as usize] {
            Fate::At(lane, position) if (lane, position) != published_at => {
                return Err(wrong("not where it was acknowledged"));
            }
            Fate::Not => return Err(wrong("a message that was refused")),
            Fate::At(..) | Fate::Unknown => {}
        }
        if *self.places.entry(place).or_insert(number) != number {
            return Err(wrong("another message than before"));
        }
        if !self.bundles.came(number) {
            return Err(wrong("a message of a transaction that was not committed"));
        }
        if replay {
            self.replayed.insert(number);
        }
        let again = |why: &str| (Breach::Again, format!("message {number} at {place:?} {why}"));
        if !replay && self.is_firm(place) {
            return Err(again("was settled for good"));
        }
        if !replay && !self.seen.insert((number, is_letter.then_some(place))) {
            return Err(again("came twice in a life"));
        }
        if !self.ever.insert(number) && self.rules.at_most_once && !replay {
            return Err(again("may come once at most"));
        }
        Ok(number)
    }

    fn is_firm(&self, place: (LaneId, u64)) -> bool {
        if self.rules.cumulative {
            self.firm_below.get(&place.0).is_some_and(|&below| place.1 < below)
        } else {
            self.firm_positions.contains(&place)
        }
    }

    /// The process is gone, and with it may be every settlement that is not firm; so much credit was out.
    pub(super) fn killed(&mut self, credit: u64) {
        self.seen.clear();
        self.bundles.killed();
        self.confirmed.truncate(self.firm);
        self.under_way += credit;
    }

    /// Numbers of acknowledged messages that must still come in this life: nobody asked for them to be settled, and they did not come yet.
    pub(super) fn missing(&self) -> BTreeSet<u64> {
        let open = |&number: &u64| {
            let Fate::At(lane, position) = self.fates[number as usize] else { return false };
            let gone = if self.rules.cumulative {
                self.maybe_below.get(&lane).is_some_and(|&below| position < below)
            } else {
                self.maybe.contains(&number)
            };
            let came = if self.rules.at_most_once { self.ever.contains(&number) } else { self.came(number) };
            !gone && !came
        };
        self.acknowledged().into_iter().filter(open).collect()
    }

    /// Whether a message came in this life, itself or its letter.
    fn came(&self, number: u64) -> bool {
        self.seen.range((number, None)..(number + 1, None)).next().is_some()
    }

    /// How many may be missing.
    pub(super) fn may_be_missing(&self) -> u64 {
        if self.rules.at_most_once { self.under_way } else { 0 }
    }

    /// Numbers of all acknowledged messages that must be there, wherever they stand.
    pub(super) fn acknowledged(&self) -> BTreeSet<u64> {
        let latest = self.latest(|fate| fate != Fate::Not);
        let stays = |number: &u64| {
            let is_latest = latest.get(&(number % KEYS)).is_none_or(|latest| latest <= number);
            matches!(self.fates[*number as usize], Fate::At(..))
                && self.bundles.counts(*number)
                && (self.rules.extra != Extra::Compaction || is_latest)
        };
        (0..self.fates.len() as u64).filter(stays).collect()
    }

    /// The latest number of each key whose fate is `such`.
    fn latest(&self, such: impl Fn(Fate) -> bool) -> BTreeMap<u64, u64> {
        let numbers = self.fates.iter().zip(0..).filter(|(fate, _)| such(**fate));
        numbers.map(|(_, number)| (number % KEYS, number)).collect()
    }

    /// Keys of which neither the latest acknowledged message nor a later one came when everything was read once more.
    pub(super) fn keys_behind(&self) -> u64 {
        let behind = |&(key, latest): &(u64, u64)| !self.replayed.range(latest..).any(|number| number % KEYS == key);
        self.latest(|fate| matches!(fate, Fate::At(..))).into_iter().filter(behind).count() as u64
    }

    /// How many acknowledged messages are there no longer, because later ones of their keys are.
    pub(super) fn left_out(&self) -> u64 {
        let stored = self.fates.iter().zip(0..).filter(|(fate, _)| matches!(fate, Fate::At(..)));
        let compacts = self.rules.extra == Extra::Compaction && !self.replayed.is_empty();
        stored.filter(|(_, number)| compacts && !self.replayed.contains(number)).count() as u64
    }

    /// How many publishes were acknowledged.
    pub(super) fn acknowledged_in_all(&self) -> u64 {
        self.fates.iter().filter(|fate| matches!(fate, Fate::At(..))).count() as u64
    }

    /// Confirmed settlements.
    pub(super) fn settlements(&self) -> u64 {
        self.confirmed_in_all
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Death, DeathReason, Token};

    use super::*;

    fn delivery(payload: &[u8], number: u64, position: u64) -> Result<u64, Breach> {
        let mut books = Books::new(Rules::default());
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
    fn a_dead_letter_says_where_its_message_stood() {
        let rules = Rules { extra: Extra::Letters, ..Rules::default() };
        for number in [0, 1] {
            let death = |position| {
                let (reason, group) = (DeathReason::Rejected, "g".to_owned());
                Death { reason, deliveries: 1, group, lane: LaneId(0), position }
            };
            let came = |headers: &[u8]| {
                let mut books = Books::new(rules);
                for n in 0..2 {
                    let (published, confirmed) = books.publish();
                    let outcome = Outcome { token: Token(n), status: Status::Done, lane: LaneId(0), position: 10 + n };
                    books.published(published, confirmed, &outcome);
                }
                let delivery = Delivered {
                    receipt: Receipt { lane: LaneId(7), position: 3, epoch: 0 },
                    channel: LETTERS,
                    redeliveries: 0,
                    key: &key(number),
                    headers,
                    payload_len: payload(number).len() as u32,
                    payload: &payload(number),
                };
                let came = books.delivered(&delivery, false).map_err(|(breach, _)| breach);
                (came, books.missing().contains(&number))
            };
            let own = headers(number, rules.extra);
            assert_eq!(came(&death(10 + number).headers(&own)), (Ok(number), false));
            assert_eq!(came(&death(11 + number).headers(&own)), (Err(Breach::Wrong), true), "it stood elsewhere");
            assert_eq!(came(&own), (Err(Breach::Wrong), true), "it did not die");
        }
    }

    #[test]
    fn of_a_compacted_log_the_latest_of_each_key_must_be_there() {
        let mut books = Books::new(Rules { cumulative: true, extra: Extra::Compaction, ..Rules::default() });
        for n in 0..2 * KEYS {
            let (number, confirmed) = books.publish();
            let status = if n == KEYS + 1 { Status::Unknown } else { Status::Done };
            let outcome = Outcome { token: Token(n), status, lane: LaneId(0), position: n };
            books.published(number, confirmed, &outcome);
        }
        let due: BTreeSet<u64> = (KEYS..2 * KEYS).filter(|&number| number != KEYS + 1).collect();
        assert_eq!(books.acknowledged(), due);
        books.replayed = due;
        assert_eq!((books.keys_behind(), books.left_out()), (1, KEYS), "either of key 1 must be there");
        books.replayed.insert(1);
        assert_eq!(books.keys_behind(), 0);
    }

    #[test]
    fn a_settlement_is_firm_once_a_later_publish_is_acknowledged() {
        let mut books = Books::new(Rules::default());
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
