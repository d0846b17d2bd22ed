//! Compaction of the log, counted: when a pass begins, what it leaves alone, and what it leaves out.
//!
//! Leaves out random sequences, which stand in `tests`, and the storage.

use super::{Cleanup, LogModel, LogOptions};
use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Publishes, Token, Transaction};
use crate::broker::{ClientSpec, Role};
use crate::completion::{Refusal, Status};
use crate::contract::Contract;
use crate::journal::{Journal, JournalError};
use crate::machine::{Effects, Model, Record, Write};
use crate::time::{Span, Time};

/// Bytes of each message here, of which two are its key.
const BYTES: u32 = 100;
const MS: u64 = 1_000_000;

/// A log of one partition, two producers, and everything that it had compacted: from, to, and the positions that are kept.
struct Bench {
    model: LogModel,
    now: Time,
    tickets: u64,
    tokens: u64,
    passes: Vec<(u64, u64, Vec<u64>)>,
    refused: Vec<Refusal>,
}

impl Bench {
    fn new(options: &LogOptions) -> Self {
        let options = LogOptions { cleanup: Cleanup::Compact, ..options.clone() };
        let model = LogModel::new(options, Contract::default()).expect("it is kept");
        let (passes, refused) = (Vec::new(), Vec::new());
        let mut bench = Self { model, now: Time(MS), tickets: 0, tokens: 0, passes, refused };
        for (number, role) in [(0, Role::Administrator), (1, Role::Producer), (2, Role::Producer)] {
            let spec = ClientSpec { number, role, placement: 0 };
            bench.model.connect(bench.now, &spec, &mut Effects::default()).expect("it connects");
        }
        let spec =
            ChannelSpec { name: "t".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
        bench.control(0, &Control::Create(spec));
        bench
    }

    fn control(&mut self, client: u32, control: &Control) {
        let mut out = Effects::default();
        self.tokens += 1;
        self.model.control(self.now, client, Token(self.tokens), control, &mut out);
        self.took(&out);
    }

    /// Takes note of what was asked for, and answers it.
    fn took(&mut self, out: &Effects) {
        for write in &out.writes {
            if let Write::Compact { lane: LaneId(0), from, to, kept } = write {
                let kept = kept.iter().flat_map(|&(first, count)| first..first + u64::from(count)).collect();
                self.passes.push((*from, *to, kept));
            } else if let Write::Barrier(ticket) = write {
                self.tickets = *ticket + 1;
                let mut more = Effects::default();
                self.model.stored(self.now, *ticket, Ok(()), &mut more);
                self.took(&more);
            }
        }
        self.refused.extend(out.outcomes.iter().filter_map(|(_, outcome)| match outcome.status {
            Status::Refused(refusal) => Some(refusal),
            Status::Done | Status::Throttled | Status::Unknown | Status::Failed(_) => None,
        }));
    }

    /// Publishes a message for each key; an upper-case one has no payload.
    fn publish(&mut self, client: u32, keys: &str) {
        let mut batch = Publishes::of_lengths();
        for key in keys.chars() {
            self.tokens += 1;
            let name = [b'k', key.to_ascii_lowercase() as u8];
            let (key_bytes, len) = match key {
                '-' => (&b""[..], BYTES),
                'A'..='Z' => (&name[..], 0),
                _ => (&name[..], BYTES - 2),
            };
            batch.push_length(Token(self.tokens), ChannelId(0), key_bytes, b"", len);
        }
        let mut out = Effects::default();
        assert_eq!(self.model.publish(self.now, client, &batch, &mut out).taken, batch.len());
        self.took(&out);
    }

    /// Lets time pass; returns what was compacted.
    fn pass(&mut self, ms: u64) -> Vec<(u64, u64, Vec<u64>)> {
        let end = self.now + Span(ms * MS);
        while let Some(due) = self.model.next_deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            let mut out = Effects::default();
            self.model.on_deadline(self.now, &mut out);
            self.took(&out);
        }
        self.now = end;
        std::mem::take(&mut self.passes)
    }
}

/// Newest parts of four messages.
fn small() -> LogOptions {
    LogOptions { active_bytes: 400, delete_retention: Span(500 * MS), ..LogOptions::default() }
}

#[test]
fn a_pass_begins_when_enough_is_dirty_and_leaves_the_newest_part_alone() {
    let mut log = Bench::new(&small());
    log.publish(1, "aaa");
    assert_eq!(log.pass(10), [], "the newest part is not full");
    log.publish(1, "babab");
    assert_eq!(log.pass(10), [(0, 8, vec![6, 7])], "two parts of four messages");
    log.publish(1, "cd");
    assert_eq!(log.pass(10), [], "they are the newest part, and what is clean is clean");
    log.publish(1, "ab");
    assert_eq!(log.pass(10), [(0, 12, vec![8, 9, 10, 11])], "400 of 600 bytes are dirty");
    log.publish(1, "aaaa");
    assert_eq!(log.pass(10), [], "400 of 800 are not more than half");
    log.publish(1, "aaaa");
    assert_eq!(log.pass(10), [(0, 20, vec![8, 9, 11, 19])]);
    let mut never = Bench::new(&LogOptions { min_dirty_permille: 1_000, ..small() });
    never.publish(1, "aaaa");
    assert_eq!(never.pass(10), [], "not more than all of it is dirty");
}

#[test]
fn a_storage_without_room_has_a_pass_begin_whatever_the_ratio_that_leaves_no_newest_part_alone() {
    let mut log = Bench::new(&LogOptions { min_dirty_permille: 1_000, ..small() });
    log.publish(1, "ababab");
    assert_eq!(log.pass(10), [], "not more than all of it is dirty");
    log.model.press(log.now);
    assert_eq!(log.pass(10), [(0, 6, vec![4, 5])]);
    log.model.press(log.now);
    assert_eq!(log.pass(10), [], "a pass has looked at everything");
    log.publish(1, "a");
    log.model.press(log.now);
    assert_eq!(log.pass(10), [(0, 7, vec![5, 6])]);
}

#[test]
fn a_record_without_a_key_is_refused_and_a_tombstone_goes_once_it_was_found_long_ago() {
    let mut log = Bench::new(&small());
    log.publish(1, "a-b-");
    assert_eq!(log.refused, [Refusal::NoKey; 2]);
    log.publish(1, "Accccc");
    assert_eq!(log.pass(10).last(), Some(&(0, 5, vec![1, 2, 4])), "the tombstone stands for all that were before it");
    log.publish(1, "cccccccc");
    assert_eq!(log.pass(490).last().map(|pass| pass.2.clone()), Some(vec![1, 2, 12]), "it was found 490 ms ago");
    log.publish(1, "dddddddd");
    log.pass(5);
    log.now += Span(500 * MS);
    log.publish(1, "eeeeeeeeee");
    let last = log.pass(10).pop().expect("it is dirty");
    assert!(!last.2.contains(&2) && last.2.contains(&1), "{last:?}");
}

#[test]
fn nothing_behind_an_open_transaction_goes_and_what_it_took_back_makes_nothing_obsolete() {
    let mut log = Bench::new(&small());
    log.publish(1, "abab");
    log.control(2, &Control::Transaction(Transaction::Begin { group: None, name: None }));
    log.publish(2, "a");
    log.publish(1, "bbbbbbb");
    assert_eq!(log.pass(10), [(0, 4, vec![2, 3])], "the transaction begins at 4");
    log.control(2, &Control::Transaction(Transaction::Abort));
    log.publish(1, "c");
    assert_eq!(log.pass(10), [(0, 12, vec![2, 11])], "`a` of the transaction is no `a`, and goes");
}

#[test]
fn beyond_the_keys_that_are_known_everything_stays() {
    let mut log = Bench::new(&LogOptions { max_keys: 2, delete_retention: Span::ZERO, ..small() });
    log.publish(1, "abcacbcC");
    assert_eq!(log.pass(10), [(0, 4, vec![1, 2, 3])], "nothing of `c` is known");
    log.publish(1, "AAAAaaaaAAAAAAAA");
    assert_eq!(log.pass(10), [(0, 13, vec![2, 4, 5, 6, 7, 12])]);
    // So that its tombstone stays for good, and every other one, as that of `a` at 23.
    log.publish(1, &"b".repeat(32));
    assert_eq!(log.pass(10), [(0, 53, vec![2, 4, 6, 7, 23, 52])]);
    log.publish(1, &"b".repeat(96));
    assert_eq!(log.pass(10), [(0, 149, vec![2, 4, 6, 7, 23, 148])]);
}

#[test]
fn a_pass_goes_in_pieces_with_time_between_and_a_partition_that_stands_still_is_closed() {
    let mut log = Bench::new(&LogOptions { compaction_chunk: (1 << 20, 3, Span(2 * MS)), ..small() });
    log.publish(1, "abcdefgh");
    assert_eq!(log.pass(2), [(0, 3, vec![0, 1, 2])], "three messages at most");
    assert_eq!(log.pass(1), []);
    assert_eq!(log.pass(1), [(3, 6, vec![3, 4, 5])]);
    assert_eq!(log.pass(2), [(6, 8, vec![6, 7])]);
    let mut log = Bench::new(&LogOptions { active_bytes: 400, ..LogOptions::default() });
    let spec = ChannelSpec { name: "u".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
    log.control(0, &Control::Create(spec));
    log.publish(1, "ab");
    for (round, due) in [0, 1, 1].into_iter().enumerate() {
        let mut batch = Publishes::of_lengths();
        for _ in 0..16 {
            batch.push_length(Token(1_000), ChannelId(1), b"key", b"", 97);
        }
        let mut out = Effects::default();
        assert_eq!(log.model.publish(log.now, 1, &batch, &mut out).taken, 16);
        log.took(&out);
        assert_eq!(
            log.pass(10).len(),
            due,
            "round {round}: the first pass leaves it alone, and the second one closes it"
        );
    }
}

#[test]
fn a_log_that_deletes_is_not_opened_on_what_was_compacted() {
    let mut journal = Journal::default();
    let made = crate::machine::ChannelRecord { lanes: 1, name: "t".to_owned(), ..Default::default() };
    journal.record(&Record::Channel(Box::new(made)));
    journal.compacted(LaneId(0), 0, 5, 0);
    let mut model = LogModel::new(LogOptions::default(), Contract::default()).expect("it is kept");
    let restored = model.restore(Time(1), &journal, &mut Effects::default());
    assert_eq!(restored, Err(JournalError::Compacted(0)));
}
