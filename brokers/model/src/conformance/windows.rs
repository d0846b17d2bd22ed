//! Windows over a stream that outlive who computes them: gone on with exactly from a checkpoint's positions, or refused.
//!
//! Anybody can put what it reads into windows. That what stands in the end is exact although a member went away with everything since its
//! last checkpoint needs a lane that is read again, in its order, from the position that the checkpoint names, whatever was settled since.
//! Leaves out the windows' own rules, which are tested with [`windows`](crate::windows).

use std::collections::BTreeMap;

use super::publish::{keyed, sorted_numbers};
use super::session::{Channel, Session, Who};
use super::settle::receipts;
use super::{Got, Rig};
use crate::batch::{Control, LaneId, SeekTo, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};
use crate::time::{Span, Time};
use crate::windows::reference::{Batch, Table};
use crate::windows::{Checkpoint, Event, WindowKind, WindowOptions, WindowOutput, Windows};

/// How many messages there are, and how many keys.
const MESSAGES: u64 = 120;
const KEYS: u64 = 7;

/// Each kind of windows, over two lanes whose events are out of order by a little.
fn options() -> [WindowOptions; 3] {
    let of = |kind| WindowOptions { lanes: 2, disorder: Span::from_millis(40), ..WindowOptions::new(kind) };
    [
        of(WindowKind::Tumbling { size: Span::from_millis(100) }),
        of(WindowKind::Sliding { size: Span::from_millis(150), slide: Span::from_millis(50) }),
        of(WindowKind::Session { gap: Span::from_millis(90) }),
    ]
}

/// When the event with this number happened: two after one another change places.
fn happened(number: u64) -> Time {
    Time::ZERO + Span::from_millis(10 * (number ^ 1))
}

/// What somebody who computes windows has: the windows themselves, and what they have shown.
#[derive(Clone, Debug)]
struct Computed {
    windows: [Windows; 3],
    shown: [Table; 3],
}

impl Computed {
    fn new() -> Self {
        Self {
            windows: options().map(|options| Windows::new(options).expect("windows that can be")),
            shown: [const { Table(BTreeMap::new()) }; 3],
        }
    }

    /// Takes these in, in the order in which they came.
    fn take(&mut self, channel: Channel, got: &[Got]) {
        for (windows, shown) in self.windows.iter_mut().zip(&mut self.shown) {
            for got in got {
                let mut out = WindowOutput::default();
                let lane = LaneId(got.receipt.lane.0 - channel.first.0);
                let number = got.number();
                let event = Event { lane, time: happened(number), key: &got.key, value: number.cast_signed() };
                windows.observe_at(got.receipt.position, &event, &mut out).expect("room for few events");
                assert_eq!(out.late().count(), 0, "message {number} is within the disorder of its lane");
                shown.apply_all(&out).expect("results that agree");
            }
        }
    }

    /// All windows fire.
    fn finish(mut self) -> [Table; 3] {
        for (windows, shown) in self.windows.iter_mut().zip(&mut self.shown) {
            let mut out = WindowOutput::default();
            windows.finish(&mut out);
            shown.apply_all(&out).expect("results that agree");
        }
        self.shown
    }
}

/// What a batch computation finds in all messages.
fn expected() -> [Table; 3] {
    options().map(|options| {
        let mut batch = Batch::new(&options);
        for number in 0..MESSAGES {
            let key = format!("key-{}", number % KEYS);
            batch.add(happened(number), key.as_bytes(), number.cast_signed(), Time::ZERO);
        }
        batch.finish()
    })
}

/// Reads `count` more.
fn read(session: &mut Session<'_>, member: Who, count: usize) -> Vec<Got> {
    let before = session.got(member).len();
    session.ask(member, Control::Grant(count as u32));
    session.deliveries(member, before + count)[before..].to_vec()
}

/// A member that computes windows goes away, with all that it had taken in and settled since its checkpoint. Who comes next goes on from the
/// checkpoint, and in the end every window is a batch computation's; or a position can't be gone back to, and is refused.
pub fn windows_go_on_exactly_from_a_checkpoint_or_going_back_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.member("g", channel);
    session.idle();
    let producer = session.producer();
    let messages = keyed(channel, 0..MESSAGES, KEYS);
    if !session.has(Feature::Windows) {
        for lane in channel.lanes() {
            let to = SeekTo::Position(0);
            session.refused(member, Control::Seek { lane, to }, Refusal::Unsupported);
        }
        session.serve(member);
        session.published(producer, &messages);
        session.deliveries(member, MESSAGES as usize);
        assert_eq!(sorted_numbers(&session, member), (0..MESSAGES).collect::<Vec<_>>());
        return session.end();
    }
    session.published(producer, &messages);
    let mut first = Computed::new();
    first.take(channel, &read(&mut session, member, 50));
    let kept: [Checkpoint; 3] = first.windows.each_ref().map(Windows::checkpoint);
    let shown = first.shown.clone();
    first.take(channel, &read(&mut session, member, 30));
    let all = receipts(session.got(member));
    assert!(session.settled(member, &all, Verdict::Ack).iter().all(|status| *status == Status::Done));
    session.close(member);
    drop(first);

    let next = session.member("g", channel);
    session.until("both lanes", |s| s.lanes(next).len() == 2);
    for (lane, progress) in channel.lanes().zip(kept[0].lanes()) {
        let to = SeekTo::Position(progress.next_position);
        assert_eq!(session.ended(next, Control::Seek { lane, to }).status, Status::Done, "{lane:?}");
    }
    let restored = kept.each_ref().map(|kept| Windows::restore(kept).expect("what was kept"));
    let mut second = Computed { windows: restored, shown };
    let got = read(&mut session, next, MESSAGES as usize - 50);
    second.take(channel, &got);
    for (found, expected) in second.finish().iter().zip(expected()) {
        assert_eq!(found.first_difference(&expected), None);
    }
    session.end();
}
