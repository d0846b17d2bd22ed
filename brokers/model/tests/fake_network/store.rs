//! What the fake server keeps: channels of lanes, groups with committed positions, members with credit.
//!
//! A log in its simplest form, in memory and without one optimisation. Leaves out sockets, which are in `server`.

use std::collections::{BTreeMap, VecDeque};

use brokerlab_model::{
    ChannelId, ChannelSpec, Control, Description, LaneId, LaneState, Outcome, Receipt, Refusal, SeekTo, Settlement,
    Status, Time, Token, Verdict,
};
use bytes::Bytes;

use crate::balance::{Cursor, Lane, Record, balance_group};
use crate::replies::Reply;

/// Replies, each for a connection.
pub(crate) type Replies = Vec<(u64, Reply)>;

#[derive(Debug)]
struct Channel {
    spec: ChannelSpec,
    first: u32,
}

/// A member: what it reads as (channel, group), and its grants.
#[derive(Debug, Default)]
struct Member {
    reads: Vec<(u32, usize)>,
    grants: VecDeque<(Token, u32)>,
}

/// Everything that the server keeps.
#[derive(Debug, Default)]
pub(crate) struct Store {
    channels: Vec<Option<Channel>>,
    lanes: Vec<Lane>,
    members: BTreeMap<u64, Member>,
    bytes: usize,
}

pub(crate) fn outcome(token: Token, status: Status) -> Reply {
    Reply::Outcome(Outcome { token, status, lane: LaneId(0), position: 0 })
}

fn refused(token: Token, refusal: Refusal) -> Reply {
    outcome(token, Status::Refused(refusal))
}

impl Store {
    /// The bytes of all messages kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(id.0 as usize)?.as_ref()
    }

    /// A member arrives. One that names an unknown channel or group reads nothing, and its grants are refused.
    pub(crate) fn join(&mut self, conn: u64, group: &str, channels: &[ChannelId], out: &mut Replies) {
        let mut reads = Vec::new();
        for &id in channels {
            let Some(channel) = self.channel(id) else { continue };
            reads.extend(channel.spec.groups.iter().position(|known| known == group).map(|group| (id.0, group)));
        }
        self.members.insert(conn, Member { reads, grants: VecDeque::new() });
        self.balance(out);
    }

    /// A connection is gone: its lanes go to others, its grants end if `answer` says so.
    pub(crate) fn leave(&mut self, conn: u64, answer: bool, out: &mut Replies) {
        let Some(member) = self.members.remove(&conn) else { return };
        for (token, _) in member.grants.into_iter().filter(|_| answer) {
            out.push((conn, outcome(token, Status::Done)));
        }
        for cursor in self.lanes.iter_mut().flat_map(|lane| &mut lane.cursors).filter(|c| c.owner == Some(conn)) {
            cursor.owner = None;
        }
        self.balance(out);
    }

    pub(crate) fn publish(
        &mut self,
        now: Time,
        channel: ChannelId,
        parts: [Bytes; 3],
    ) -> Result<(LaneId, u64), Refusal> {
        let channel = self.channel(channel).ok_or(Refusal::NoSuchLane)?;
        let [key, headers, payload] = parts;
        let hash = key.iter().fold(0u32, |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let at = channel.first + hash % channel.spec.lanes;
        let lane = &mut self.lanes[at as usize];
        let bytes = Bytes::from([&key[..], &headers, &payload].concat());
        self.bytes += bytes.len();
        let position = lane.end();
        lane.records.push_back(Record { at: now, key_len: key.len() as u16, header_len: headers.len() as u16, bytes });
        Ok((LaneId(at), position))
    }

    pub(crate) fn settle(&mut self, conn: u64, settlement: &Settlement) -> Result<(), Refusal> {
        let Receipt { lane, position, epoch } = settlement.receipt;
        let cursor = self.owned(conn, lane)?;
        if cursor.epoch != epoch || position >= cursor.position {
            return Err(Refusal::StaleReceipt);
        }
        match settlement.verdict {
            Verdict::Ack => cursor.committed = cursor.committed.max(position + 1),
            Verdict::Nack { .. } | Verdict::Extend(_) => return Err(Refusal::Unsupported),
        }
        Ok(())
    }

    /// The cursor by which this member holds the lane.
    fn owned(&mut self, conn: u64, lane: LaneId) -> Result<&mut Cursor, Refusal> {
        let lane = self.lanes.get_mut(lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        lane.cursors.iter_mut().find(|cursor| cursor.owner == Some(conn)).ok_or(Refusal::NotAssigned)
    }

    pub(crate) fn control(&mut self, conn: u64, token: Token, control: Control, out: &mut Replies) {
        let result = match control {
            Control::Grant(count) => return self.grant(conn, token, count, out),
            Control::Position(lane) => match self.owned(conn, lane) {
                Ok(cursor) => return out.push((conn, Reply::Position(token, lane, cursor.position))),
                Err(refusal) => Err(refusal),
            },
            Control::Describe(channel) => match self.describe(channel) {
                Some(description) => return out.push((conn, Reply::Description(token, description))),
                None => Err(Refusal::NoSuchLane),
            },
            Control::Seek { lane, to } => self.seek(conn, lane, to).map(|()| (lane, 0)),
            Control::Release(lane) => self.release(conn, lane).map(|()| (lane, 0)),
            Control::Create(spec) => self.create(spec),
            Control::Delete(channel) => self.delete(channel).map(|()| (LaneId(0), 0)),
            Control::Split { .. } | Control::Merge { .. } | Control::Transaction(_) => Err(Refusal::Unsupported),
            // Requests are served in order and at once, so everything before a flush has been answered.
            Control::Flush | Control::Close => Ok((LaneId(0), 0)),
        };
        let reply = match result {
            Ok((lane, position)) => Reply::Outcome(Outcome { token, status: Status::Done, lane, position }),
            Err(refusal) => refused(token, refusal),
        };
        out.push((conn, reply));
        self.balance(out);
    }

    fn grant(&mut self, conn: u64, token: Token, count: u32, out: &mut Replies) {
        let member = self.members.get_mut(&conn).expect("only members are granted");
        if member.reads.is_empty() {
            out.push((conn, refused(token, Refusal::NoSuchLane)));
        } else if count == 0 {
            out.push((conn, outcome(token, Status::Done)));
        } else {
            member.grants.push_back((token, count));
        }
    }

    fn seek(&mut self, conn: u64, lane: LaneId, to: SeekTo) -> Result<(), Refusal> {
        self.owned(conn, lane)?;
        let found = &self.lanes[lane.0 as usize];
        let position = match to {
            SeekTo::Earliest => found.start,
            SeekTo::Latest => found.end(),
            SeekTo::Position(position) if (found.start..=found.end()).contains(&position) => position,
            SeekTo::Position(_) => return Err(Refusal::OutOfRange),
            SeekTo::Time(time) => found.start + found.records.partition_point(|record| record.at < time) as u64,
        };
        self.owned(conn, lane)?.position = position;
        Ok(())
    }

    fn release(&mut self, conn: u64, lane: LaneId) -> Result<(), Refusal> {
        let cursor = self.owned(conn, lane)?;
        if !cursor.revoked {
            return Err(Refusal::NotAssigned);
        }
        cursor.owner = None;
        Ok(())
    }

    fn create(&mut self, spec: ChannelSpec) -> Result<(LaneId, u64), Refusal> {
        if self.channels.iter().flatten().any(|channel| channel.spec.name == spec.name) {
            return Err(Refusal::Exists);
        }
        if spec.lanes == 0 {
            return Err(Refusal::OutOfRange);
        }
        let (first, id) = (self.lanes.len() as u32, self.channels.len() as u32);
        for _ in 0..spec.lanes {
            let cursors = spec.groups.iter().map(|_| Cursor::default()).collect();
            self.lanes.push(Lane { channel: id, start: 0, records: VecDeque::new(), cursors });
        }
        self.channels.push(Some(Channel { spec, first }));
        Ok((LaneId(first), id.into()))
    }

    fn delete(&mut self, id: ChannelId) -> Result<(), Refusal> {
        self.channels.get_mut(id.0 as usize).and_then(Option::take).ok_or(Refusal::NoSuchLane)?;
        for lane in self.lanes.iter_mut().filter(|lane| lane.channel == id.0) {
            self.bytes -= lane.records.drain(..).map(|record| record.bytes.len()).sum::<usize>();
        }
        Ok(())
    }

    fn describe(&self, id: ChannelId) -> Option<Description> {
        let channel = self.channel(id)?;
        let mut description = Description::default();
        for at in channel.first..channel.first + channel.spec.lanes {
            let lane = &self.lanes[at as usize];
            for (group, cursor) in lane.cursors.iter().enumerate() {
                description.lanes.push(LaneState {
                    lane: LaneId(at),
                    group: group as u32,
                    end: lane.end(),
                    committed: cursor.committed,
                    ready: lane.end() - cursor.position,
                    in_flight: cursor.position.saturating_sub(cursor.committed),
                    ..LaneState::default()
                });
            }
        }
        description.settings.push(("acknowledged".to_owned(), "when it is in the server's memory".to_owned()));
        Some(description)
    }

    /// Hands out what is there against what was granted.
    pub(crate) fn deliver(&mut self, out: &mut Replies) {
        for (&conn, member) in &mut self.members {
            for &(channel, group) in &member.reads {
                for (at, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.channel == channel) {
                    while let Some((token, left)) = member.grants.front_mut() {
                        let cursor = &mut lane.cursors[group];
                        let index = (cursor.position - lane.start) as usize;
                        let Some(record) =
                            lane.records.get(index).filter(|_| cursor.owner == Some(conn) && !cursor.revoked)
                        else {
                            break;
                        };
                        let receipt =
                            Receipt { lane: LaneId(at as u32), position: cursor.position, epoch: cursor.epoch };
                        let redeliveries = u16::from(cursor.position < cursor.highest);
                        let (key_len, header_len, bytes) = (record.key_len, record.header_len, record.bytes.clone());
                        let channel = ChannelId(channel);
                        out.push((
                            conn,
                            Reply::Delivery { receipt, channel, redeliveries, key_len, header_len, bytes },
                        ));
                        cursor.position += 1;
                        cursor.highest = cursor.highest.max(cursor.position);
                        *left -= 1;
                        if *left == 0 {
                            out.push((conn, outcome(*token, Status::Done)));
                            member.grants.pop_front();
                        }
                    }
                }
            }
        }
    }

    /// Forgets what every group has committed.
    pub(crate) fn trim(&mut self) {
        for lane in &mut self.lanes {
            let committed = lane.cursors.iter().map(|cursor| cursor.committed).min().unwrap_or(lane.start);
            while lane.start < committed {
                let record = lane.records.pop_front().expect("what was committed was there");
                self.bytes -= record.bytes.len();
                lane.start += 1;
            }
        }
    }

    /// Gives every group's lanes to its members.
    fn balance(&mut self, out: &mut Replies) {
        let groups: Vec<(u32, usize)> = (0..self.channels.len())
            .filter_map(|id| self.channels[id].as_ref().map(|channel| (id as u32, channel.spec.groups.len())))
            .flat_map(|(id, groups)| (0..groups).map(move |group| (id, group)))
            .collect();
        for (channel, group) in groups {
            let readers = self.members.iter().filter(|(_, member)| member.reads.contains(&(channel, group)));
            let mut load: BTreeMap<u64, usize> = readers.map(|(&conn, _)| (conn, 0)).collect();
            if !load.is_empty() {
                balance_group(&mut self.lanes, channel, group, &mut load, out);
            }
        }
    }
}
