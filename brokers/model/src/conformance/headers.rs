//! What a message says of itself: priority, delay, time to live, id, group and route; and dead letters. What a backend has not, it
//! carries and does not act on, or refuses.
//!
//! Times here are waited for and never measured: what may not come for a while is looked for at once, and what must come is awaited.

use super::publish::keyed;
use super::session::{Item, Session, numbered};
use super::{Channel, Rig};
use crate::batch::{ChannelSpec, Control, Verdict};
use crate::binding::{Binding, Pattern};
use crate::capabilities::Feature;
use crate::completion::{Failure, Refusal, Status};
use crate::headers::{HeaderBlock, Headers, names};
use crate::time::Span;

/// Messages without a key that say this of themselves.
fn saying(channel: Channel, numbers: std::ops::Range<u64>, name: &str, value: &[u8]) -> Vec<Item> {
    let headers = HeaderBlock::new().with(name, value).expect("it is short").to_bytes();
    let mut items = numbered(channel, numbers);
    for item in &mut items {
        item.headers.clone_from(&headers);
    }
    items
}

/// A message of a higher priority is delivered first; without priorities, each comes in its turn and says what it said.
pub fn a_higher_priority_goes_first_or_is_carried(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let priorities = session.has(Feature::Priorities);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    let waits = session.has(Feature::Decoupled);
    let member = session.member("g", channel);
    if !waits {
        session.serve(member);
        session.idle();
    }
    for (number, level) in [(0, 1), (1, 9), (2, 5)] {
        session.published(producer, &saying(channel, number..number + 1, names::PRIORITY, &[level]));
    }
    if waits {
        session.serve(member);
    }
    let got = session.deliveries(member, 3);
    let numbers: Vec<u64> = got.iter().map(super::Got::number).collect();
    let levels: Vec<Option<u8>> =
        got.iter().map(|got| Headers::parse(&got.headers).and_then(Headers::priority)).collect();
    if priorities {
        assert_eq!((numbers, levels), (vec![1, 2, 0], vec![Some(9), Some(5), Some(1)]));
    } else {
        assert_eq!((numbers, levels), (vec![0, 1, 2], vec![Some(1), Some(9), Some(5)]), "it is carried");
    }
    session.end();
}

/// A message that says a delay is not delivered before it is over, or says so in vain; one whose time to live is over is not delivered
/// at all, or is.
pub fn a_delay_and_a_life_are_kept_or_carried(rig: &mut dyn Rig) {
    const LIFE: Span = Span::from_millis(1);
    const DELAY: Span = Span::from_millis(300);
    let mut session = Session::open(rig);
    let (delays, lives) = (session.has(Feature::Delay), session.has(Feature::TimeToLive));
    if !session.has(Feature::Decoupled) {
        // Nothing waits.
        assert!(!delays && !lives);
        return session.end();
    }
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    let asked = session.now();
    session.published(producer, &saying(channel, 0..1, names::TIME_TO_LIVE, &LIFE.0.to_le_bytes()));
    let held = saying(channel, 1..2, names::DELAY, &DELAY.0.to_le_bytes());
    let tokens = session.publish(producer, &held);
    let status = session.outcomes(producer, &tokens)[0].status;
    if session.has(Feature::MessageGroups) {
        assert_eq!(status, Status::Refused(Refusal::Unsupported), "a message of a group is not held back alone");
    } else {
        assert_eq!(status, Status::Done);
    }
    session.pass(Span(LIFE.0 * 10));
    let member = session.serving("g", channel);
    let mut due: Vec<u64> = Vec::new();
    due.extend((!lives).then_some(0));
    due.extend((status == Status::Done).then_some(1));
    let got = session.deliveries(member, due.len());
    assert_eq!(got.iter().map(super::Got::number).collect::<Vec<_>>(), due);
    if let Some(held) = got.iter().find(|got| got.number() == 1 && delays) {
        assert!(held.at >= asked + DELAY, "it came at {:?}, asked at {asked:?}", held.at);
    }
    session.idle();
    assert_eq!(session.got(member).len(), due.len(), "what has expired does not come");
    session.end();
}

/// A repeat of an id is acknowledged where the first message is and not stored; without a window each is a message of its own.
pub fn a_repeat_is_stored_once_or_is_another_message(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let has = session.has(Feature::Deduplication);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    session.idle();
    let producer = session.producer();
    let first = session.published(producer, &saying(channel, 0..1, names::DEDUPLICATION_ID, b"one"));
    let again = session.published(producer, &saying(channel, 1..2, names::DEDUPLICATION_ID, b"one"));
    session.published(producer, &saying(channel, 2..3, names::DEDUPLICATION_ID, b"two"));
    let due: &[u64] = if has { &[0, 2] } else { &[0, 1, 2] };
    session.deliveries(member, due.len());
    session.idle();
    let mut numbers: Vec<u64> = session.got(member).iter().map(super::Got::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, due);
    if has {
        assert_eq!((again[0].lane, again[0].position), (first[0].lane, first[0].position));
    }
    session.end();
}

/// Where messages have groups, another member gets nothing of a group while one holds some of it, and the other groups' messages; where
/// they have none, a member's unsettled messages keep nobody from those that are of the same key.
pub fn a_group_is_read_by_one_member_or_keys_lock_nothing(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    if !session.has(Feature::MessageGroups) {
        if !session.has(Feature::CompetingConsumers) || !session.has(Feature::Decoupled) {
            // Lanes, or receivers, have one member each.
            return session.end();
        }
        let channel = session.create("channel", 1, &["g"]);
        let members = [session.member("g", channel), session.member("g", channel)];
        for member in members {
            session.ask(member, Control::Grant(1));
        }
        session.idle();
        let producer = session.producer();
        session.publish(producer, &keyed(channel, 0..2, 1));
        for member in members {
            session.deliveries(member, 1);
        }
        return session.end();
    }
    let channel = session.create("channel", 1, &["g"]);
    let members = [session.member("g", channel), session.member("g", channel)];
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..4, 2));
    session.ask(members[0], Control::Grant(1));
    let first = session.deliveries(members[0], 1);
    session.ask(members[1], Control::Grant(4));
    let others = session.deliveries(members[1], 2);
    session.idle();
    let numbers = |got: &[super::Got]| got.iter().map(super::Got::number).collect::<Vec<_>>();
    assert_eq!((numbers(&first), numbers(session.got(members[1]))), (vec![0], vec![1, 3]));
    assert_eq!(session.settled(members[0], &[first[0].receipt], Verdict::Ack), [Status::Done]);
    assert_eq!(numbers(&session.deliveries(members[1], 3)), [1, 3, 2], "the group is free");
    assert_eq!(others.len(), 2);
    session.end();
}

/// A queue that holds as many messages as it may refuses one more or gives one up, and counts it; without a limit everything waits.
pub fn a_length_limit_counts_what_does_not_wait_or_everything_does(rig: &mut dyn Rig) {
    const COUNT: u64 = 64;
    let mut session = Session::open(rig);
    if !session.has(Feature::Decoupled) {
        assert!(!session.has(Feature::LengthLimit), "nothing waits");
        return session.end();
    }
    let limited = session.has(Feature::LengthLimit);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    let tokens = session.publish(producer, &numbered(channel, 0..COUNT));
    let overloaded = Status::Failed(Failure::Overloaded);
    let refused = session.outcomes(producer, &tokens).iter().filter(|outcome| outcome.status == overloaded).count();
    let state = session.describe(channel).lanes[0].clone();
    assert_eq!(state.ready + state.given_up.overflowed + refused as u64, COUNT, "{state:?}");
    assert_eq!(state.ready < COUNT, limited, "{state:?}");
    let member = session.serving("g", channel);
    session.deliveries(member, state.ready as usize);
    session.idle();
    assert_eq!(session.got(member).len() as u64, state.ready);
    session.end();
}

/// A group gets what it is bound to, and what nobody is bound to is refused; or bindings are.
pub fn bindings_decide_who_gets_what_or_are_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let bind = |group: &str, topic: &[u8]| Binding { group: group.to_owned(), pattern: Pattern::Topic(topic.to_vec()) };
    let bindings = vec![bind("g", b"eu.#"), bind("h", b"#.new")];
    let groups = vec!["g".to_owned(), "h".to_owned()];
    let spec = ChannelSpec { name: "routed".to_owned(), lanes: 1, groups, bindings, ..ChannelSpec::default() };
    let admin = session.admin();
    if !session.has(Feature::Routing) {
        session.refused(admin, Control::Create(spec), Refusal::Unsupported);
        return session.end();
    }
    let channel = session.made(spec);
    let members = [session.serving("g", channel), session.serving("h", channel)];
    let producer = session.producer();
    for (number, key) in [(0, &b"eu.orders"[..]), (1, b"eu.orders.new"), (2, b"us.new")] {
        session.published(producer, &saying(channel, number..number + 1, names::ROUTING_KEY, key));
    }
    let tokens = session.publish(producer, &saying(channel, 3..4, names::ROUTING_KEY, b"us.old"));
    assert_eq!(session.outcomes(producer, &tokens)[0].status, Status::Refused(Refusal::Unroutable));
    for (member, due) in members.into_iter().zip([[0, 1], [1, 2]]) {
        session.deliveries(member, 2);
        session.idle();
        let mut numbers: Vec<u64> = session.got(member).iter().map(super::Got::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, due);
    }
    session.end();
}

/// What a member drops can be read as a dead letter that says how it died, payload and key unchanged; or nobody keeps dead letters.
pub fn a_dead_letter_can_be_read_or_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let groups = vec!["morgue".to_owned()];
    let dead_letters_of = Some(channel.id);
    let spec = ChannelSpec { name: "dead".to_owned(), lanes: 1, groups, dead_letters_of, ..ChannelSpec::default() };
    let admin = session.admin();
    if !session.has(Feature::DeadLetters) {
        session.refused(admin, Control::Create(spec), Refusal::Unsupported);
        return session.end();
    }
    let dead = session.made(spec);
    let reader = session.serving("morgue", dead);
    let member = session.member("g", channel);
    session.ask(member, Control::Grant(2));
    let producer = session.producer();
    let mut items = saying(channel, 0..2, "mine", b"kept");
    items[0].key = b"key".to_vec();
    session.published(producer, &items);
    let got = session.deliveries(member, 2);
    let first = got.iter().find(|got| got.number() == 0).expect("both came");
    let dropped = session.settled(member, &[first.receipt], Verdict::Nack { requeue: false });
    assert_eq!(dropped, [Status::Done]);
    let letter = session.deliveries(reader, 1).remove(0);
    assert_eq!((&letter.key, &letter.payload, letter.channel), (&first.key, &first.payload, dead.id));
    let headers = Headers::parse(&letter.headers).expect("it has a block");
    assert_eq!((headers.get("mine"), headers.get(names::DEATH_REASON)), (Some(&b"kept"[..]), Some(&b"rejected"[..])));
    assert_eq!(headers.get(names::DEATH_GROUP), Some(&b"g"[..]));
    assert_eq!(headers.get(names::DEATH_POSITION), Some(&first.receipt.position.to_le_bytes()[..]));
    let state = &session.describe(channel).lanes[0];
    assert_eq!((state.given_up.rejected, state.given_up.dead_lettered), (1, 1));
    session.end();
}

/// A request names where its answer is awaited and which it is; the answer comes there and says so. Any backend on which a member may
/// publish to another channel by its name carries this.
pub fn an_answer_comes_to_the_channel_that_the_request_names(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let requests = session.create("requests", 1, &["service"]);
    let answers = session.create("answers", 1, &["caller"]);
    let named = [("answers", answers)];
    let service = session.serving("service", requests);
    let caller = session.serving("caller", answers);
    session.idle();
    let (asking, answering) = (session.producer(), session.producer());
    for number in 0..3_u64 {
        let mut items = numbered(requests, number..number + 1);
        let block = HeaderBlock::new().with(names::REPLY_TO, b"answers");
        let block = block.and_then(|block| block.with(names::CORRELATION_ID, &number.to_be_bytes()));
        items[0].headers = block.expect("it is short").to_bytes();
        session.publish(asking, &items);
    }
    for request in session.deliveries(service, 3) {
        let headers = Headers::parse(&request.headers).expect("it was written as a block");
        let to = headers.text(names::REPLY_TO).expect("it names a channel");
        let (_, channel) = named.iter().find(|(name, _)| name.as_bytes() == to).expect("the channel is known");
        let id = headers.text(names::CORRELATION_ID).expect("it has an id");
        session.publish(
            answering,
            &saying(*channel, 100 + request.number()..101 + request.number(), names::CORRELATION_ID, id),
        );
    }
    let mut open: std::collections::BTreeSet<u64> = (0..3).collect();
    for answer in session.deliveries(caller, 3) {
        let id = Headers::parse(&answer.headers).and_then(|headers| headers.text(names::CORRELATION_ID));
        let id = u64::from_be_bytes(id.expect("it has an id").try_into().expect("the id is the request's"));
        assert!(open.remove(&id) && answer.number() == 100 + id, "answer {} to request {id}", answer.number());
    }
    assert!(open.is_empty());
    session.end();
}
