//! Settlements: which are refused from the member's own books, and the frames of the others, many to a write.
//!
//! Leaves out the socket, and waiting: RabbitMQ does not confirm an acknowledgement, so that a settlement is done when it is taken.

use brokerlab_model::{Completions, LaneId, Outcome, Refusal, Settlement, Status, Verdict};

use super::member::Member;
use super::method::{basic_ack, basic_nack};
use super::topology::Topology;

impl Member {
    /// Settles these, in order.
    pub(super) fn settle(
        &mut self,
        settlements: &[Settlement],
        topology: &Topology,
        multiple: bool,
        frames: &mut Vec<u8>,
        out: &mut Completions,
    ) {
        // The acknowledgements that one frame could cover end here, when everything before is over too.
        let mut acked: Vec<u64> = Vec::new();
        for settlement in settlements {
            let result = self.check(settlement, topology);
            let receipt = settlement.receipt;
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            out.outcomes.push(Outcome {
                token: settlement.token,
                status,
                lane: receipt.lane,
                position: receipt.position,
            });
            if result.is_err() || self.manner().auto_ack {
                continue;
            }
            self.settled(receipt.position);
            match settlement.verdict {
                Verdict::Ack if multiple => acked.push(receipt.position),
                Verdict::Ack => basic_ack(frames, receipt.position, false),
                Verdict::Nack { requeue } => basic_nack(frames, receipt.position, requeue),
                Verdict::Extend(_) => (),
            }
        }
        if !acked.is_empty() {
            self.acknowledge(&mut acked, frames);
        }
        self.trim();
    }

    /// One frame for the acknowledgements in front of which nothing is open, and one for each of the others.
    fn acknowledge(&self, acked: &mut [u64], frames: &mut Vec<u8>) {
        acked.sort_unstable();
        let open = self.first_open();
        let covered = acked.partition_point(|tag| *tag < open);
        if let Some(&last) = acked[..covered].last() {
            basic_ack(frames, last, covered > 1);
        }
        for &tag in &acked[covered..] {
            basic_ack(frames, tag, false);
        }
    }

    fn check(&self, settlement: &Settlement, topology: &Topology) -> Result<(), Refusal> {
        let receipt = settlement.receipt;
        if !topology.has_lane(receipt.lane) {
            return Err(Refusal::NoSuchLane);
        }
        if !self.reads(receipt.lane) {
            return Err(Refusal::NotAssigned);
        }
        if matches!(settlement.verdict, Verdict::Extend(_)) {
            return Err(Refusal::Unsupported);
        }
        if self.manner().auto_ack {
            if settlement.verdict == (Verdict::Nack { requeue: true }) {
                return Err(Refusal::Unsupported);
            }
            let given = receipt.epoch == self.epoch && (1..=self.given).contains(&receipt.position);
            return if given { Ok(()) } else { Err(Refusal::StaleReceipt) };
        }
        let lane: Option<LaneId> = self.lane_given(receipt.position).filter(|_| receipt.epoch == self.epoch);
        if lane == Some(receipt.lane) { Ok(()) } else { Err(Refusal::StaleReceipt) }
    }
}
