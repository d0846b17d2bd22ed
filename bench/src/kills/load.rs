//! What a life of a process is loaded with until it is killed: publishes, settlements, and what a program does beside.
//!
//! Leaves out what comes back, which is in `life`.

use brokerlab_host::Clock as _;
use brokerlab_model::{Batch, ChannelId, Control, Publishes, Receipt, Settlement, Span, Transaction, Verdict};

use super::Extra;
use super::books::{delay, headers, key, payload};
use super::life::{ADMINISTRATOR, Asked, Broken, Draw, Life, MEMBER, PRODUCER};

/// A process is killed within this time after its load began.
const LOAD_US: u64 = 30_000;

impl Life<'_> {
    /// Publishes, reads and settles until the process is killed, at a moment that is drawn.
    pub(super) fn load(&mut self, draw: &mut Draw) -> Result<(), Broken> {
        let until = self.clock.now() + Span::from_micros(draw.below(LOAD_US));
        while self.clock.now() < until {
            match self.of.rules.extra {
                Extra::Transactions => self.publish_within(draw),
                Extra::Reshape => {
                    self.reshape(draw);
                    self.publish(1 + draw.below(32));
                }
                Extra::Nothing | Extra::Compaction | Extra::Letters => self.publish(1 + draw.below(32)),
            }
            self.turn(Span::from_micros(50))?;
            self.settle(draw);
        }
        self.kill()
    }

    fn publish(&mut self, count: u64) {
        let mut batch = Publishes::new();
        let mut sent = Vec::new();
        let extra = self.of.rules.extra;
        for _ in 0..count {
            let (number, confirmed) = self.books.publish();
            let token = self.token(Asked::Publish { number, confirmed });
            batch.push(token, ChannelId(0), &key(number), &headers(number, extra), &payload(number));
            if let Some(delay) = delay(number).filter(|_| extra == Extra::Letters) {
                self.held_back.insert(number, self.clock.now() + delay);
            }
            sent.push(token);
        }
        let taken = self.clients[PRODUCER].submit(self.clock.now(), &mut Batch::Publish(batch)).taken;
        for token in &sent[taken..] {
            // Never sent: the number stays unknown, and never comes.
            self.asked.remove(token);
        }
    }

    /// Publishes in a transaction, and begins or ends one now and then.
    fn publish_within(&mut self, draw: &mut Draw) {
        if self.is_ending {
            return;
        }
        if !self.is_open {
            let begin = Transaction::Begin { group: Some("g".to_owned()), name: None };
            self.control(PRODUCER, Asked::Control, Control::Transaction(begin));
            self.books.bundles.begin();
            self.is_open = true;
        }
        self.publish(1 + draw.below(16));
        let (asked, end) = match draw.below(4) {
            0 => (Asked::Abort, Transaction::Abort),
            1 | 2 => (Asked::Commit, Transaction::Commit),
            _ => return,
        };
        if matches!(asked, Asked::Commit) {
            self.books.bundles.asked_to_commit();
        } else {
            self.books.bundles.dropped();
        }
        self.control(PRODUCER, asked, Control::Transaction(end));
        (self.is_open, self.is_ending) = (false, true);
    }

    fn reshape(&mut self, draw: &mut Draw) {
        if draw.below(8) == 0
            && let Some(control) = self.shape.ask(draw)
        {
            self.control(ADMINISTRATOR, Asked::Reshape, control);
        }
    }

    /// Deals with what came: most is acknowledged, some given back, some left, some buried.
    fn settle(&mut self, draw: &mut Draw) {
        let fresh = std::mem::take(&mut self.fresh);
        let (mut batch, mut within) = (Vec::new(), Vec::new());
        let requeues = self.of.url.starts_with("queue") && !self.of.rules.at_most_once;
        let buries = self.of.rules.extra == Extra::Letters;
        for receipt in fresh {
            let (asked, verdict) = match draw.below(10) {
                0 if requeues => (Asked::Return, Verdict::Nack { requeue: true }),
                2 if buries && !self.books.is_letter(receipt) => {
                    (Asked::Bury(receipt), Verdict::Nack { requeue: false })
                }
                3 if self.is_open => (Asked::AckWithin(receipt), Verdict::Ack),
                0 | 1 => continue,
                _ => (Asked::Ack(receipt), Verdict::Ack),
            };
            self.note(asked, receipt);
            let settlement = Settlement { token: self.token(asked), receipt, verdict };
            if matches!(asked, Asked::AckWithin(_)) { within.push(settlement) } else { batch.push(settlement) }
        }
        for (client, batch) in [(MEMBER, batch), (PRODUCER, within)] {
            if !batch.is_empty() {
                let _ = self.clients[client].submit(self.clock.now(), &mut Batch::Settle(batch));
            }
        }
    }

    fn note(&mut self, asked: Asked, receipt: Receipt) {
        match asked {
            Asked::Ack(_) | Asked::AckWithin(_) => self.books.settling(receipt),
            Asked::Return => self.books.given_back(receipt),
            // What is buried comes once more, as a letter.
            Asked::Bury(_)
            | Asked::Publish { .. }
            | Asked::Old
            | Asked::Commit
            | Asked::Abort
            | Asked::Reshape
            | Asked::Control => {}
        }
    }
}
