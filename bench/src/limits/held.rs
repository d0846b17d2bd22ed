//! Rows of a queue that holds ten million unsettled messages, against one that holds a thousand.
//!
//! Messages are lengths only: what is measured is the bookkeeping. Leaves out the memory that it takes.

use brokerlab_model::{Receipt, Span, Storage, Verdict};

use super::rig::{Rig, Setup, copies, lengths};
use super::{Goal, Open, Pair, Size, Unit};
use crate::cpu::cost_ns;

const FEW: usize = 1_000;
const VISIBILITY: Span = Span::from_secs(30);

/// What is done to the messages in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Ack,
    Expire,
    ExtendAnywhere,
    RequeueAnywhere,
}

pub(super) fn rows(size: Size) -> Vec<Open> {
    [
        (Act::Ack, 0.5, "ack in order"),
        (Act::Expire, 0.5, "visibility expiry, one timeout"),
        (Act::ExtendAnywhere, 0.12, "extend in random order"),
        (Act::RequeueAnywhere, 0.12, "requeue in random order"),
    ]
    .into_iter()
    .map(|(act, least, what)| {
        let many = size.of(10_000_000, 20_000);
        Open::new(&format!("`queue`, {many} in flight: {what}"), move |_| Ok(pair(size, many, act, least)))
    })
    .collect()
}

fn pair(size: Size, many: usize, act: Act, least: f64) -> Pair {
    Pair {
        reference: "1,000 in flight",
        goal: Goal::AtLeast(least),
        unit: Unit::Cpu,
        ours: Box::new(move || cost(many, 1, act)),
        theirs: Box::new(move || cost(FEW, size.of(1_000, 4), act)),
    }
}

/// CPU per message of doing it to all that is in flight, `times` over.
fn cost(in_flight: usize, times: usize, act: Act) -> anyhow::Result<f64> {
    let url = "queue?visibility_timeout=30s&max_memory=4GiB&window=1000000";
    let mut rig = Rig::open(&Setup { url, storage: Storage::Memory, data: None, lanes: 1, groups: 1 })?;
    let template = lengths(1_000, 100);
    let mut receipts: Vec<Receipt> = Vec::with_capacity(in_flight);
    let mut spent = 0;
    for time in 1..=times {
        receipts.clear();
        for _ in 0..in_flight / 1_000 {
            rig.publish(&mut copies(&template, 1))?;
            rig.receive(0, 1_000, |completions| {
                receipts.extend(completions.deliveries.iter().map(|delivery| delivery.receipt));
            })?;
        }
        anyhow::ensure!(receipts.len() == in_flight, "{} of {in_flight} are in flight", receipts.len());
        if matches!(act, Act::ExtendAnywhere | Act::RequeueAnywhere) {
            shuffle(&mut receipts);
        }
        spent += act_on(&mut rig, &receipts, act)?;
        // The last time the queue goes as it is.
        if time < times {
            empty(&mut rig, &mut receipts, act)?;
        }
    }
    Ok(spent as f64 / (times * in_flight) as f64)
}

/// Does it to all of them and measures that.
fn act_on(rig: &mut Rig, receipts: &[Receipt], act: Act) -> anyhow::Result<u64> {
    let verdict = match act {
        Act::Ack => Verdict::Ack,
        Act::ExtendAnywhere => Verdict::Extend(VISIBILITY + Span::from_secs(1)),
        Act::RequeueAnywhere => Verdict::Nack { requeue: true },
        Act::Expire => {
            rig.pass(VISIBILITY + Span::from_secs(1));
            return Ok(cost_ns(|| rig.run_workers()));
        }
    };
    let mut result = Ok(());
    let spent = cost_ns(|| result = receipts.chunks(64).try_for_each(|some| rig.settle(0, some, verdict)));
    result.map(|()| spent)
}

/// Leaves the queue empty.
fn empty(rig: &mut Rig, receipts: &mut Vec<Receipt>, act: Act) -> anyhow::Result<()> {
    match act {
        Act::Ack => Ok(()),
        Act::ExtendAnywhere => receipts.chunks(1_000).try_for_each(|some| rig.settle(0, some, Verdict::Ack)),
        Act::RequeueAnywhere | Act::Expire => drain(rig, receipts),
    }
}

/// Takes all that came back and settles it.
fn drain(rig: &mut Rig, receipts: &mut Vec<Receipt>) -> anyhow::Result<()> {
    let mut left = receipts.len();
    while left > 0 {
        receipts.clear();
        let came = rig.receive(0, left.min(1_000) as u32, |completions| {
            receipts.extend(completions.deliveries.iter().map(|delivery| delivery.receipt));
        })?;
        anyhow::ensure!(came > 0, "{left} messages did not come back");
        rig.settle(0, receipts, Verdict::Ack)?;
        left -= came as usize;
    }
    Ok(())
}

/// The same disorder on every machine.
fn shuffle(receipts: &mut [Receipt]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..receipts.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        receipts.swap(last, (state >> 33) as usize % (last + 1));
    }
}
