//! How long a member of a group is busy with a message: a pure function of group, message and key.
//!
//! Leaves out the waiting: the host turns a time into a deadline, or into work of a core.

use brokerlab_model::Span;

use super::exponential::exponential;
use super::normal::normal;
use super::stream::{Purpose, Stream};
use crate::profile::Work;

/// A compiled distribution of working times of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkPicker {
    work: Work,
    stream: Stream,
}

impl WorkPicker {
    pub(crate) fn new(work: Work, seed: u64, replication: u32, group: usize) -> Self {
        Self { work, stream: Stream::new(seed, replication, group as u64, Purpose::Work) }
    }

    /// The working time of message `sequence` of `producer`, which carries `key`.
    pub(crate) fn pick(&self, producer: u32, sequence: u64, key: u64) -> Span {
        let message = u64::from(producer) << 40 ^ sequence;
        let scaled = |mean: Span, factor: f64| Span(libm::round(mean.0 as f64 * factor) as u64);
        match self.work {
            Work::Constant { time, .. } => time,
            Work::Exponential { time, .. } => scaled(time, exponential(self.stream.at(message))),
            Work::LogNormal { time, sigma, .. } => {
                scaled(time, libm::exp(sigma * normal(self.stream.at(message)) - sigma * sigma / 2.0))
            }
            Work::ByKey { time, .. } => scaled(time, exponential(self.stream.at(key))),
        }
    }
}
