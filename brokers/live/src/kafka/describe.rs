//! What a cluster tells of a channel, answer by answer. Leaves out asking.

use std::collections::VecDeque;

use brokerlab_model::{Description, LaneId, LaneState};
use bytes::Bytes;
use kafka_protocol::messages::{
    DescribeConfigsRequest, FindCoordinatorRequest, ListOffsetsRequest, OffsetFetchRequest,
};

use super::admin::{LOOK_AGAIN, Next, Question};
use super::error;
use super::questions::LATEST;
use super::shared::{Channel, Shared};
use super::wire::{self, Malformed};

/// Takes one answer into the description; may add questions that follow from it.
pub(super) fn described(
    shared: &Shared,
    channel: &Channel,
    description: &mut Description,
    question: &Question,
    frame: &Bytes,
    questions: &mut VecDeque<Question>,
) -> Result<Next, Malformed> {
    let groups = channel.groups.len();
    if description.lanes.is_empty() {
        let rows = (0..channel.lanes).flat_map(|lane| (0..groups as u32).map(move |group| (lane, group)));
        description.lanes = rows
            .map(|(lane, group)| LaneState { lane: LaneId(channel.first + lane), group, ..LaneState::default() })
            .collect();
    }
    match question {
        Question::Configs => {
            let answer = wire::answer::<DescribeConfigsRequest>(frame)?;
            for config in answer.results.iter().flat_map(|result| &result.configs) {
                let value = config.value.as_ref().map_or("", |value| value.as_str());
                description.settings.push((format!("topic.{}", config.name.as_str()), value.to_owned()));
            }
            description.settings.extend(shared.options.shown.iter().cloned());
        }
        Question::Offsets { time, .. } => {
            let answer = wire::answer::<ListOffsetsRequest>(frame)?;
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                if partition.error_code != error::NONE {
                    return Ok(Next::Again(LOOK_AGAIN));
                }
                let from = partition.partition_index as usize * groups;
                for state in &mut description.lanes[from..from + groups] {
                    let offset = partition.offset.max(0).cast_unsigned();
                    *if *time == LATEST { &mut state.end } else { &mut state.committed } = offset;
                }
            }
        }
        Question::Coordinators => {
            let answer = wire::answer::<FindCoordinatorRequest>(frame)?;
            for found in &answer.coordinators {
                if found.error_code != error::NONE {
                    return Ok(Next::Again(shared.options.retry_backoff));
                }
                let group = channel.groups.iter().position(|group| found.key.as_str() == shared.group_name(group));
                questions.extend(group.map(|group| Question::Committed { node: found.node_id.0, group }));
            }
        }
        Question::Committed { group, .. } => {
            let answer = wire::answer::<OffsetFetchRequest>(frame)?;
            if answer.groups.iter().any(|group| error::is_retriable(group.error_code)) {
                return Ok(Next::Again(LOOK_AGAIN));
            }
            let partitions = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
            for partition in partitions.filter(|partition| partition.committed_offset >= 0) {
                let row = partition.partition_index as usize * groups + group;
                description.lanes[row].committed = partition.committed_offset.cast_unsigned();
            }
        }
        Question::Create
        | Question::Found
        | Question::Settings
        | Question::Made
        | Question::Delete
        | Question::Removed
        | Question::Leaders => {}
    }
    Ok(Next::Answered)
}
