//! Seeking: one at a time, by the offsets that the lane's leader tells.

use brokerlab_model::{LaneId, Outcome, Refusal, SeekTo, Status, Time, Token};
use bytes::Bytes;
use kafka_protocol::messages::ListOffsetsRequest;

use super::error;
use super::kind::Kind;
use super::links::Purpose;
use super::member::{Member, Phase};
use super::producer::ended;
use super::questions::{EARLIEST, LATEST, offsets};
use super::wire;

/// A seek under way.
#[derive(Debug)]
pub(super) struct Seeking {
    pub(super) token: Token,
    pub(super) lane: LaneId,
    to: SeekTo,
    pub(super) asked: bool,
    pub(super) not_before: Time,
    /// What was learned so far, in the order of asking: the first offset, the next one, and the one at a time.
    earliest: Option<u64>,
    latest: Option<u64>,
    at_time: AtTime,
}

/// The first offset at a time.
#[derive(Clone, Copy, Debug)]
enum AtTime {
    Unasked,
    Found(u64),
    /// Nothing is that young.
    None,
}

impl Seeking {
    /// When it is to go on.
    pub(super) fn due(&self) -> Time {
        if self.asked { Time::NEVER } else { self.not_before }
    }
}

impl Member {
    pub(super) fn drive_seek(&mut self, now: Time) {
        while self.seeking.is_none()
            && let Some((token, lane, to)) = self.seeks.pop_front()
        {
            if self.lanes.get(&lane.0).is_none_or(|held| held.phase != Phase::Reading) {
                self.done.push(ended(token, Status::Refused(Refusal::NotAssigned)));
                continue;
            }
            let (asked, not_before) = (false, Time::ZERO);
            self.seeking = Some(Seeking {
                token,
                lane,
                to,
                asked,
                not_before,
                earliest: None,
                latest: None,
                at_time: AtTime::Unasked,
            });
        }
        let Some(seek) = self.seeking.as_ref().filter(|seek| !seek.asked && seek.not_before <= now) else { return };
        let time = match seek.to {
            _ if seek.earliest.is_none() => EARLIEST,
            _ if seek.latest.is_none() => LATEST,
            // Records carry milliseconds: the whole millisecond is read again.
            SeekTo::Time(time) => self.base.shared.utc_ms(time),
            SeekTo::Earliest | SeekTo::Latest | SeekTo::Position(_) => return,
        };
        let lane = seek.lane;
        let Some(link) = self.base.link_to(now, lane.0, Purpose::Usual) else {
            return self.base.doubt_if_unled(lane.0);
        };
        let Some(channel) = self.base.channel_of(lane) else { return };
        let request = offsets(&channel.topic, vec![((lane.0 - channel.first).cast_signed(), time)]);
        let asked = self.base.links.ask(now, link, &request, Kind::Seek);
        if let Some(seek) = &mut self.seeking {
            seek.asked = asked;
        }
    }

    pub(super) fn seek_found(&mut self, now: Time, frame: &Bytes) {
        let later = now + self.base.shared.options.retry_backoff;
        let Some(mut seek) = self.seeking.take() else { return };
        seek.asked = false;
        let answer = wire::answer::<ListOffsetsRequest>(frame).ok();
        let partition =
            answer.as_ref().and_then(|answer| answer.topics.first()).and_then(|topic| topic.partitions.first());
        let Some(partition) = partition.filter(|partition| partition.error_code == error::NONE) else {
            self.base.doubt_leaders();
            seek.not_before = later;
            self.seeking = Some(seek);
            return;
        };
        let offset = u64::try_from(partition.offset).ok();
        if seek.earliest.is_none() {
            seek.earliest = Some(offset.unwrap_or(0));
        } else if seek.latest.is_none() {
            seek.latest = Some(offset.unwrap_or(0));
        } else {
            seek.at_time = offset.map_or(AtTime::None, AtTime::Found);
        }
        let (Some(earliest), Some(latest)) = (seek.earliest, seek.latest) else {
            self.seeking = Some(seek);
            return;
        };
        let position = match (seek.to, seek.at_time) {
            (SeekTo::Earliest, _) => Ok(earliest),
            (SeekTo::Latest, _) | (SeekTo::Time(_), AtTime::None) => Ok(latest),
            (SeekTo::Position(position), _) if (earliest..=latest).contains(&position) => Ok(position),
            (SeekTo::Position(_), _) => Err(Refusal::OutOfRange),
            (SeekTo::Time(_), AtTime::Found(found)) => Ok(found),
            (SeekTo::Time(_), AtTime::Unasked) => {
                self.seeking = Some(seek);
                return;
            }
        };
        let status = position.map_or_else(Status::Refused, |_| Status::Done);
        if let Ok(position) = position {
            self.move_to(seek.lane, position);
        }
        self.done.push(Outcome { token: seek.token, status, lane: seek.lane, position: position.unwrap_or(0) });
    }

    fn move_to(&mut self, lane: LaneId, position: u64) {
        let Some(held) = self.lanes.get_mut(&lane.0) else { return };
        held.position = position;
        held.fetch_at = position;
        held.generation += 1;
        held.chunks.clear();
    }
}
