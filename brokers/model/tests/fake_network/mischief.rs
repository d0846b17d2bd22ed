//! The suite itself under test: a server that breaks one promise fails the case that is about it.
//!
//! A case that passes whatever the server does would be no case.

use std::panic::{AssertUnwindSafe, catch_unwind};

use brokerlab_model::conformance::{Rig, channels, contracts, groups, lanes, order, publish, resume, seek, settle};
use brokerlab_model::{Event, Outcome, Status};
use bytes::Bytes;

use crate::broker::NetRig;
use crate::replies::Reply;
use crate::store::Replies;

/// How the server breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// Every seventh delivery is not sent.
    Drop,
    /// Every seventh delivery is sent twice.
    Duplicate,
    /// Two successive deliveries change places.
    Reorder,
    /// A byte of the payload is changed.
    Corrupt,
    /// First deliveries say that they are none.
    CryWolf,
    /// Deliveries name another position than the publish did.
    Misplace,
    /// Publishes are acknowledged with a gap before each.
    Gap,
    /// Publishes are never acknowledged.
    Silence,
    /// Whatever is refused is said to be done.
    SayYes,
    /// Lanes are assigned from one position too late.
    SkipOne,
    /// Descriptions say that nothing is committed.
    Amnesia,
}

impl Mischief {
    /// Damages what the server is about to say; `said` counts what it has said so far.
    pub(crate) fn damage(self, said: &mut u64, out: &mut Replies) {
        if self == Self::Reorder {
            let deliveries: Vec<usize> =
                (0..out.len()).filter(|&n| matches!(out[n].1, Reply::Delivery { .. })).collect();
            for pair in deliveries.chunks_exact(2) {
                out.swap(pair[0], pair[1]);
            }
        }
        for (conn, mut reply) in std::mem::take(out) {
            *said += u64::from(matches!(reply, Reply::Delivery { .. }));
            let seventh = said.is_multiple_of(7) && matches!(reply, Reply::Delivery { .. });
            self.change(&mut reply);
            let silent = self == Self::Silence && matches!(&reply, Reply::Outcome(Outcome { position: 1.., .. }));
            if silent || (seventh && self == Self::Drop) {
                continue;
            }
            if let (Reply::Delivery { receipt, channel, redeliveries, key_len, header_len, bytes }, true) =
                (&reply, seventh && self == Self::Duplicate)
            {
                let (receipt, channel, bytes) = (*receipt, *channel, bytes.clone());
                let (redeliveries, key_len, header_len) = (*redeliveries, *key_len, *header_len);
                out.push((conn, Reply::Delivery { receipt, channel, redeliveries, key_len, header_len, bytes }));
            }
            out.push((conn, reply));
        }
    }

    fn change(self, reply: &mut Reply) {
        match reply {
            Reply::Delivery { receipt, redeliveries, bytes, .. } => match self {
                Self::Corrupt if !bytes.is_empty() => {
                    let mut damaged = bytes.to_vec();
                    *damaged.last_mut().expect("not empty") ^= 1;
                    *bytes = Bytes::from(damaged);
                }
                Self::CryWolf => *redeliveries = 1,
                Self::Misplace => receipt.position += 1,
                Self::Corrupt
                | Self::Drop
                | Self::Duplicate
                | Self::Reorder
                | Self::Gap
                | Self::Silence
                | Self::SayYes
                | Self::SkipOne
                | Self::Amnesia => (),
            },
            Reply::Outcome(outcome) => match outcome.status {
                Status::Done if self == Self::Gap => outcome.position *= 2,
                Status::Refused(_) if self == Self::SayYes => outcome.status = Status::Done,
                Status::Done | Status::Refused(_) | Status::Throttled | Status::Failed(_) | Status::Unknown => (),
            },
            Reply::Description(_, description) if self == Self::Amnesia => {
                for state in &mut description.lanes {
                    state.committed = 0;
                }
            }
            Reply::Event(Event::LaneAssigned { position, .. }) if self == Self::SkipOne => *position += 1,
            Reply::Description(..) | Reply::Event(_) | Reply::Welcome | Reply::Position(..) => (),
        }
    }
}

type Case = fn(&mut dyn Rig);

/// Which case finds it.
const FOUND_BY: &[(Mischief, Case)] = &[
    (Mischief::Drop, publish::every_message_is_delivered_once_where_it_was_published),
    (Mischief::Drop, groups::each_group_gets_every_message_or_a_second_group_is_refused),
    (Mischief::Drop, contracts::a_receiver_that_comes_later_finds_the_messages_or_the_contract_is_refused),
    (Mischief::Duplicate, publish::every_message_is_delivered_once_where_it_was_published),
    (Mischief::Duplicate, groups::grants_bound_deliveries_exactly),
    (Mischief::Duplicate, lanes::lanes_of_a_member_that_closes_go_to_the_others),
    (Mischief::Reorder, order::messages_of_a_key_come_in_order_or_the_contract_is_refused),
    (Mischief::Corrupt, publish::keys_headers_and_payloads_arrive_byte_by_byte),
    (Mischief::CryWolf, publish::every_message_is_delivered_once_where_it_was_published),
    (Mischief::Misplace, publish::every_message_is_delivered_once_where_it_was_published),
    (Mischief::Misplace, lanes::a_member_knows_its_next_position),
    (Mischief::Gap, publish::a_publish_is_done_with_its_lane_and_a_dense_position),
    (Mischief::Silence, publish::a_flush_ends_after_the_publishes_before_it),
    (Mischief::SayYes, channels::a_name_that_exists_is_refused),
    (Mischief::SayYes, channels::what_does_not_exist_is_refused),
    (Mischief::SayYes, settle::a_receipt_that_was_never_given_is_refused),
    (Mischief::SayYes, settle::what_is_given_back_comes_again_or_giving_back_is_refused),
    (Mischief::SayYes, seek::a_seek_out_of_range_or_of_another_is_refused),
    (Mischief::SayYes, lanes::a_lane_that_is_not_revoked_is_not_released),
    (Mischief::SkipOne, lanes::a_first_member_is_assigned_every_lane),
    (Mischief::Amnesia, settle::an_acknowledgement_covers_its_message_or_all_before_it),
    (Mischief::Amnesia, resume::what_was_not_settled_comes_to_the_next_member),
    (Mischief::Amnesia, channels::a_description_counts_what_was_published_and_taken),
];

#[test]
fn each_broken_promise_fails_its_cases() {
    let missed: Vec<usize> = (0..FOUND_BY.len())
        .filter(|&n| {
            let (mischief, case) = FOUND_BY[n];
            let mut rig = NetRig::with(mischief);
            catch_unwind(AssertUnwindSafe(|| case(&mut rig))).is_ok()
        })
        .collect();
    let missed: Vec<_> = missed.into_iter().map(|n| (n, FOUND_BY[n].0)).collect();
    assert!(missed.is_empty(), "these rows passed with a server that breaks its promise: {missed:?}");
}
