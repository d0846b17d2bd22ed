//! While a run drains: whether anything is still due, by what the backend says of itself.
//!
//! A run drains until every group was given every acknowledged message. Where messages may be given up by a limit that was set (a time to live,
//! a length), some never come, and waiting for them would last to the drain limit. So when everything is quiet the backend is asked. One
//! that tells what it gave up ends the run when the books are even by that and it holds nothing. One that drops by its limits and tells
//! nothing of it ends the run when it has held nothing for a time in which nothing came either; what is missing then counts as lost, and a
//! note says so. Leaves out what is lost, which the checker says, and what is held at the end, which `held` asks.

use brokerlab_model::{Broker, Feature, Span, Time};

use crate::shared::{Shared, locked};
use crate::start::{Administrator, Described, Question};

/// How long nothing must have come before the backend is asked, and between two questions.
const QUIET: Span = Span::from_millis(100);
/// For how long a backend that does not tell what it drops must have held nothing. One that pushes may count only what it has pushed to
/// nobody: what is on its way has arrived by then.
const QUIET_UNTOLD: Span = Span::from_secs(1);

/// How far everybody is: acknowledged, ended otherwise, delivered.
type Progress = (u64, u64, u64);

/// Asks a backend that may give messages up. See the module.
#[derive(Debug)]
pub(crate) struct StillDue<'a> {
    administrator: &'a mut Administrator,
    /// Whether messages may be given up at all.
    asks: bool,
    /// The limits by which the backend may drop messages and tell nobody.
    untold: bool,
    seen: Option<(Progress, Time)>,
    next: Time,
    question: Option<Question>,
}

impl<'a> StillDue<'a> {
    pub(crate) fn new(broker: &dyn Broker, administrator: &'a mut Administrator) -> Self {
        let untold = !broker.untold_limits().is_empty();
        let gives_up = [Feature::TimeToLive, Feature::LengthLimit].iter().any(|&of| broker.capabilities().has(of));
        Self { administrator, asks: untold || gives_up, untold, seen: None, next: Time::ZERO, question: None }
    }

    /// Whether it is known by now that nothing will come any more. Never waits; called once a pass of the first loop.
    pub(crate) fn is_nothing(&mut self, shared: &Shared<'_>, now: Time) -> bool {
        // Before the schedule's end something is open in every loop.
        if !self.asks || shared.sum(|status| &status.open) > 0 {
            self.seen = None;
            return false;
        }
        let progress = (
            shared.sum(|status| &status.acknowledged),
            shared.sum(|status| &status.ended_otherwise),
            shared.sum(|status| &status.delivered),
        );
        let since = match self.seen {
            Some((seen, since)) if seen == progress => since,
            Some(_) | None => {
                // An answer to what was asked before belongs to another state of things.
                (self.seen, self.question) = (Some((progress, now)), None);
                self.next = now + QUIET;
                return false;
            }
        };
        let Some(question) = &mut self.question else {
            if now >= self.next {
                self.question = Some(self.administrator.inquire(shared.spec));
            }
            return false;
        };
        let Some(told) = self.administrator.told_by_now(now, shared.spec, question) else { return false };
        self.question = None;
        self.next = now + QUIET;
        // A broker that can't be asked may be on its way back, with what it holds.
        let holds_nothing = |told: &[Described]| told.iter().all(|of| of.ready == 0 && of.in_flight == 0);
        let Some(told) = told.ok().filter(|told| holds_nothing(told)) else {
            self.seen = Some((progress, now));
            return false;
        };
        let mut checker = locked(&shared.checker);
        for (group, of) in told.iter().enumerate() {
            checker.gave_up(group, of.given_up);
        }
        checker.lost(&[]) == 0 || (self.untold && now.since(since) >= QUIET_UNTOLD)
    }
}

/// What is to be said of a backend that drops by these limits and tells nobody, where messages are missing.
pub(crate) fn untold_in_words(limits: &[String], lost: u64) -> Option<String> {
    (lost > 0 && !limits.is_empty()).then(|| {
        format!(
            "{}: the broker drops messages by this and tells nobody which or how many, so that what it dropped can't be told from what it lost: \
             {lost} in all, counted as lost",
            limits.join(", ")
        )
    })
}
