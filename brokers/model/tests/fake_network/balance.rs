//! The fake server's lanes, and which member of a group gets which.

use std::collections::{BTreeMap, VecDeque};

use brokerlab_model::{Event, LaneId, Time};
use bytes::Bytes;

use crate::replies::Reply;
use crate::store::Replies;

/// A message that is kept.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at: Time,
    pub(crate) key_len: u16,
    pub(crate) header_len: u16,
    pub(crate) bytes: Bytes,
}

/// Where a group stands in a lane.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) owner: Option<u64>,
    pub(crate) revoked: bool,
    pub(crate) epoch: u32,
    pub(crate) position: u64,
    pub(crate) committed: u64,
    pub(crate) highest: u64,
}

/// A lane of a channel.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) channel: u32,
    pub(crate) start: u64,
    pub(crate) records: VecDeque<Record>,
    pub(crate) cursors: Vec<Cursor>,
}

impl Lane {
    /// The next position to be written.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }
}

/// Gives free lanes to the members with the fewest and asks back what is beyond a fair share.
pub(crate) fn balance_group(
    lanes: &mut [Lane],
    channel: u32,
    group: usize,
    load: &mut BTreeMap<u64, usize>,
    out: &mut Replies,
) {
    let mut own: Vec<(u32, &mut Lane)> =
        (0..).zip(lanes.iter_mut()).filter(|(_, lane)| lane.channel == channel).collect();
    for (_, lane) in &own {
        let cursor = &lane.cursors[group];
        if let Some(owner) = cursor.owner.filter(|_| !cursor.revoked) {
            *load.get_mut(&owner).expect("an owner is a member") += 1;
        }
    }
    for (at, lane) in own.iter_mut().filter(|(_, lane)| lane.cursors[group].owner.is_none()) {
        let (&member, _) = load.iter().min_by_key(|(_, lanes)| **lanes).expect("there are members");
        *load.get_mut(&member).expect("just found") += 1;
        let (start, cursor) = (lane.start, &mut lane.cursors[group]);
        *cursor = Cursor {
            owner: Some(member),
            revoked: false,
            epoch: cursor.epoch + 1,
            position: cursor.committed.max(start),
            ..*cursor
        };
        out.push((member, Reply::Event(Event::LaneAssigned { lane: LaneId(*at), position: cursor.position })));
    }
    let mut spare = own.len() % load.len();
    let floor = own.len() / load.len();
    let mut by_load: Vec<(u64, usize)> = load.iter().map(|(&member, &lanes)| (member, lanes)).collect();
    by_load.sort_by_key(|(_, lanes)| std::cmp::Reverse(*lanes));
    for (member, held) in by_load {
        let quota = floor + usize::from(spare > 0);
        spare = spare.saturating_sub(1);
        let theirs = own.iter_mut().filter(|(_, lane)| {
            let cursor = &lane.cursors[group];
            cursor.owner == Some(member) && !cursor.revoked
        });
        for (at, lane) in theirs.take(held.saturating_sub(quota)) {
            lane.cursors[group].revoked = true;
            out.push((member, Reply::Event(Event::LaneRevoked(LaneId(*at)))));
        }
    }
}
