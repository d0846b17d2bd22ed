//! What the backend still holds for each group when the run is over, so that a message on its way does not pass for a lost one.
//!
//! A backend that pushes may count only what it has pushed to nobody: what is between it and a member, it does not tell. So when the
//! books accuse it of a loss, the members close, which gives everything back that was not settled, and it is asked again until
//! the books agree or a limit is over. What it gave up goes into the books with each answer. Leaves out what is lost, which the
//! checker says.

use brokerlab_model::{Client, Span, Worker};
use brokerlab_workloads::check::Checker;

use crate::clock::Clock;
use crate::drive::Loop;
use crate::finish::close;
use crate::spec::{RunError, RunSpec};
use crate::start::{Administrator, Described};
use crate::wait::{Waiter, Waiting};

/// How long a backend may take to count as its own what closed members gave back.
const GIVEN_BACK_LIMIT: Span = Span::from_secs(2);
/// Between two questions.
const ASK_AGAIN: Span = Span::from_millis(100);

/// Of each group, how many messages the backend keeps for it beyond what members were given. Closes the members if that accuses the
/// backend of a loss. `limit`: how long the first answer may take.
pub(crate) fn still_held(
    spec: &RunSpec,
    (loops, checker): (&mut [Loop<'_>], &mut Checker),
    administrator: &mut Administrator,
    workers: &mut [Box<dyn Worker>],
    clock: &dyn Clock,
    limit: Span,
) -> Result<Vec<u64>, RunError> {
    let described = administrator.describe(spec, workers, clock, limit)?;
    note_given_up(checker, &described);
    let mut held = among_members(&described, loops);
    if checker.lost(&held) == 0 {
        return Ok(held);
    }
    close_members(loops, workers, clock);
    let until = clock.now() + GIVEN_BACK_LIMIT;
    let mut waiter = Waiter::new(Waiting::Park);
    loop {
        // An answer that does not come any more takes nothing from the first one.
        let Ok(described) = administrator.describe(spec, workers, clock, limit) else { return Ok(held) };
        note_given_up(checker, &described);
        for (held, now) in held.iter_mut().zip(given_back(&described, loops, checker)) {
            *held = (*held).max(now);
        }
        if checker.lost(&held) == 0 || clock.now() >= until {
            return Ok(held);
        }
        let again = (clock.now() + ASK_AGAIN).min(until);
        while clock.now() < again {
            waiter.wait(clock, std::iter::empty(), again);
        }
    }
}

fn note_given_up(checker: &mut Checker, described: &[Described]) {
    for (group, of) in described.iter().enumerate() {
        checker.gave_up(group, of.given_up);
    }
}

/// While members are there: ready, and of what is in flight the part that is not here.
fn among_members(described: &[Described], loops: &[Loop<'_>]) -> Vec<u64> {
    let mut ours = vec![0; described.len()];
    for member in loops.iter().flat_map(|of| &of.members) {
        ours[member.group()] += member.unsettled();
    }
    described.iter().zip(ours).map(|(of, ours)| of.ready + of.in_flight.saturating_sub(ours)).collect()
}

/// After members closed: all that the backend has, without what it gave them once already. A message that came again may stand in
/// two members' hands and is held once, so that repeats are not taken off: rather too little is called lost than too much.
fn given_back(described: &[Described], loops: &[Loop<'_>], checker: &Checker) -> Vec<u64> {
    let mut ours = vec![0; described.len()];
    for member in loops.iter().flat_map(|of| &of.members) {
        ours[member.group()] += member.not_settled();
    }
    let ours = ours.iter().enumerate().map(|(group, ours)| ours - checker.repeats(group).min(*ours));
    described.iter().zip(ours).map(|(of, ours)| (of.ready + of.in_flight).saturating_sub(ours)).collect()
}

fn close_members(loops: &mut [Loop<'_>], workers: &mut [Box<dyn Worker>], clock: &dyn Clock) {
    let members = loops.iter_mut().flat_map(|of| &mut of.members);
    let clients: Vec<&mut Box<dyn Client>> = members
        .map(|member| {
            member.is_closed = true;
            &mut member.client
        })
        .collect();
    close(clients, workers, clock);
}
