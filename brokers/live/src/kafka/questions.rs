//! Requests of the administrator and the members about topics and groups. Leaves out sending them and what their answers mean.

use brokerlab_model::ChannelSpec;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, GroupId, ListOffsetsRequest,
    MetadataRequest, OffsetFetchRequest,
};

use super::shared::Shared;
use super::wire;

/// A topic, as a resource of `DescribeConfigs`.
const TOPIC: i8 = 2;
/// The oldest and the next offset, as times of `ListOffsets`.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;

/// A topic by a channel's specification and the contract.
pub(super) fn create(shared: &Shared, spec: &ChannelSpec) -> CreateTopicsRequest {
    let config = |(name, value): &(String, String)| {
        CreatableTopicConfig::default().with_name(wire::text(name)).with_value(Some(wire::text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(wire::text(&shared.topic_name(&spec.name)).into())
        .with_num_partitions(spec.lanes.cast_signed())
        .with_replication_factor(shared.promise.replication)
        .with_configs(shared.promise.topic.iter().map(config).collect());
    let timeout = (shared.options.request_timeout.0 / 1_000_000) as i32;
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout)
}

/// A topic removed.
pub(super) fn delete(topic: &str) -> DeleteTopicsRequest {
    let state = DeleteTopicState::default().with_name(Some(wire::text(topic).into()));
    DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000)
}

/// A topic's partitions with their leaders and replicas.
pub(super) fn metadata(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(wire::text(topic).into()));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
}

/// A topic's settings.
pub(super) fn configs(topic: &str) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(wire::text(topic));
    DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(None)])
}

/// Offsets of partitions at times in milliseconds since 1970, or [`EARLIEST`] and [`LATEST`].
pub(super) fn offsets(topic: &str, partitions: Vec<(i32, i64)>) -> ListOffsetsRequest {
    let partitions = partitions
        .into_iter()
        .map(|(index, time)| {
            ListOffsetsPartition::default()
                .with_partition_index(index)
                .with_timestamp(time)
                .with_current_leader_epoch(-1)
        })
        .collect();
    let topic = ListOffsetsTopic::default().with_name(wire::text(topic).into()).with_partitions(partitions);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// Where a group stands in partitions of a topic; asked as a member when one is given.
pub(super) fn committed(
    group: &str,
    topic: &str,
    partitions: Vec<i32>,
    member: Option<(&str, i32)>,
) -> OffsetFetchRequest {
    let topic =
        OffsetFetchRequestTopics::default().with_name(wire::text(topic).into()).with_partition_indexes(partitions);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(wire::text(group)))
        .with_member_id(member.map(|(id, _)| wire::text(id)))
        .with_member_epoch(member.map_or(-1, |(_, epoch)| epoch))
        .with_topics(Some(vec![topic]));
    OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(false)
}
