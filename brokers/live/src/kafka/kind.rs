//! What a client has asked, kept beside each request until its answer comes.

use super::batches::Sealed;

/// What a request was for.
#[derive(Debug)]
pub(super) enum Kind {
    /// Who leads which partition.
    Metadata,
    /// A producer's number.
    InitProducer,
    /// Batches, each with its lane, in the order of the request.
    Produce(Vec<(u32, Sealed)>),
    /// Who coordinates a group.
    Coordinator,
    /// A member's sign of life; whether it leaves by it.
    Heartbeat {
        /// Whether the member leaves.
        leaving: bool,
    },
    /// Where a group stands in these lanes.
    Committed(Vec<u32>),
    /// The first offset of these lanes, to start from.
    Earliest(Vec<u32>),
    /// An offset that a seek needs.
    Seek,
    /// A commit up to these positions.
    Commit(Vec<(u32, u64)>),
    /// Records of these lanes from these positions on, each with the lane's generation of reading.
    Fetch(Vec<(u32, u64, u32)>),
    /// A question of the administrator's operation of this number.
    Admin(u64),
}
