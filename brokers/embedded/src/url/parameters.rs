//! The parameters of each backend: what each sets, with an example, and by which reader its value is read.
//!
//! Leaves out what the options mean: the models say it.

use super::Parameter;
use super::values::{
    answer, assignment, bytes, bytes_u32, cleanup, count, count_u8, count_u32, credit, dead_letter, full_queue,
    isolation, key_hash, lanes, on_demand, on_or_off, overflow, permille, positive_span, positive_span_or_forever,
    readers, segment, some_u32, span, span_or_forever, span_or_none, transport,
};

/// One line for each parameter: its name, what it says, the field, how it is read.
macro_rules! parameters {
    ($($name:literal, $what:literal => $($field:ident).+ = $read:expr;)*) => {
        &[$(Parameter {
            name: $name,
            what: $what,
            set: |options, text| { options.$($field).+ = $read(text)?; Ok(()) },
        }),*]
    };
}

/// What sets a channel's lanes, by each backend's own word too.
pub(super) const LANES: &[&str] = &["lanes", "partitions", "queues", "shards", "endpoints"];

/// The parameter that names a preset.
pub(super) const AS: &str = "as";

/// That parameter: by the time that it is its turn, the preset was taken.
const fn preset_of(what: &'static str) -> Parameter {
    Parameter { name: AS, what, set: |_, _| Ok(()) }
}

pub(super) const LOG_AS: &[Parameter] =
    &[preset_of("a documented system's limits and defaults, under what else is written: kafka")];

pub(super) const QUEUE_AS: &[Parameter] =
    &[preset_of("a documented system's limits and defaults, under what else is written: rabbitmq, sqs or sqs-fifo")];

pub(super) const SHARD_AS: &[Parameter] =
    &[preset_of("a documented system's limits and defaults, under what else is written: kinesis")];

pub(super) const COMMON: &[Parameter] = parameters! {
    "lanes", "lanes of each channel, for every backend; 8" => lanes = lanes;
    "transport", "what lies before it: in-process or loopback; as --transport says" => transport = transport;
    "max_memory", "what it holds in memory before submit is blocked; 256MiB" => limits.max_memory = bytes;
};

pub(super) const FILES: &[Parameter] = parameters! {
    "max_data", "what its segments hold before submit is blocked; 4GiB" => limits.max_data = bytes;
    "segment", "size of a segment file; 64MiB" => limits.segment_bytes = segment;
};

pub(super) const LOG: &[Parameter] = parameters! {
    "partitions", "partitions of each topic; 8" => lanes = lanes;
    "retention", "how long a record is kept; 168h, or forever" => log.retention = span_or_forever;
    "retention_bytes", "how much a partition keeps; 1GiB" => log.retention_bytes = |text| bytes(text).map(Some);
    "session_timeout", "how long a member may be silent before it loses its partitions; 45s, or forever"
        => log.session_timeout = positive_span_or_forever;
    "isolation", "what members are handed of transactions: read-uncommitted, or read-committed; by the contract"
        => log.isolation = isolation;
    "transaction_timeout", "how long a transaction may be open before it is taken back; 60s"
        => log.transaction_timeout = positive_span;
    "idempotence", "whether what a producer with a name publishes again is known: on or off; on" => log.idempotence = on_or_off;
    "producer_expiration", "how long after its last record a producer is remembered; 24h"
        => log.producer_expiration = positive_span;
    "cleanup", "what becomes of old records: delete by age and size, or compact, which keeps the latest of each key" => log.cleanup = cleanup;
    "min_dirty_ratio", "compact: how much of the log is dirty before a pass begins; 0.5" => log.min_dirty_permille = permille;
    "delete_retention", "compact: how long a record without a payload stays once it was found; 24h" => log.delete_retention = span;
    "active_bytes", "compact: a partition's newest part, which is left alone; 1MiB" => log.active_bytes = bytes;
    "max_keys", "compact: keys that are known, beyond which all records of a key stay; 5033164" => log.max_keys = |text| count(text).map(|keys| usize::try_from(keys).unwrap_or(usize::MAX));
    "assignment", "when members change, take back only partitions that move, or all: cooperative or eager"
        => log.assignment = assignment;
    "max_in_flight", "records of one producer that may wait to be stored; 65536" => log.max_in_flight = count_u32;
    "max_message", "the largest record, its key and headers included; 1048588B" => log.max_message_bytes = bytes_u32;
};

pub(super) const QUEUE: &[Parameter] = parameters! {
    "queues", "queues of each channel; 8" => lanes = lanes;
    "visibility_timeout", "how long a member may hold a message; 30s" => queue.visibility_timeout = positive_span;
    "prefetch", "unsettled messages a member may hold; 0 for as many as granted" => queue.prefetch = count_u32;
    "window", "unacknowledged publishes of one client; 65536" => queue.window = count_u32;
    "max_message", "the largest message; 16MiB" => queue.max_message_bytes = bytes_u32;
    "max_length", "messages that may wait in a queue; 0 for any number" => queue.max_length = count;
    "overflow", "what a full queue does: drop-head or reject-publish" => queue.overflow = full_queue;
    "message_ttl", "how long a message may wait; forever, or 60s" => queue.message_ttl = positive_span_or_forever;
    "delay", "how long a message is held back at first; 0s" => queue.delay = span;
    "max_deliveries", "deliveries after which a message does not come again; 0 for any number"
        => queue.max_deliveries = count_u32;
    "max_in_flight", "unsettled messages of a queue; 0 for any number" => queue.max_in_flight = count_u32;
    "priorities", "the highest priority of a message, up to 255; 0 for none" => queue.priorities = count_u8;
    "deduplication", "how long repeats of an id are not stored; none, or 5min" => queue.deduplication = span_or_none;
    "message_groups", "a group's messages in order, one member at a time: on or off; off" => queue.message_groups = on_or_off;
    "dead_letter", "what is given up: discard, keep the count as dead letters, or to the channel made for it" => queue.dead_letter = dead_letter;
};

pub(super) const SHARD: &[Parameter] = parameters! {
    "shards", "shards of each stream; 8" => lanes = lanes;
    "write_records", "records per second that a shard takes; 1000" => shard.write_records_per_s = count_u32;
    "write_bytes", "bytes per second that a shard takes; 1MiB" => shard.write_bytes_per_s = bytes_u32;
    "initial_credit", "of each limit, what is there when a shard begins: so long a time's worth, or full; 20ms" => shard.initial_credit = credit;
    "read_bytes", "bytes per second that an application reads from a shard; 2MiB" => shard.read_bytes_per_s = bytes_u32;
    "hash", "what finds a key's shard: md5, as the service, or xxh3, which costs less; md5" => shard.hash = key_hash;
    "readers", "how applications read: fan-out (each its own limit) or polling (calls and bytes shared); fan-out"
        => shard.readers = readers;
    "mode", "who splits shards: provisioned (nobody unasked) or on-demand (the stream, by load; 4 shards at first)"
        => on_demand = on_demand;
    "scale_after", "with mode=on-demand, how long a shard is over half of its limits before it is split; 15min"
        => scale_after = |text| positive_span(text).map(Some);
    "failover_time", "how long a worker may be silent before it loses its shards; 10s, or forever"
        => shard.failover_time = positive_span_or_forever;
    "retention", "how long a record is kept; 24h, or forever" => shard.retention = span_or_forever;
    "max_in_flight", "records of one producer that may wait to be stored; 65536" => shard.max_in_flight = count_u32;
    "max_message", "the largest record; 1MiB" => shard.max_message_bytes = bytes_u32;
    "max_consumers", "applications that read a stream; any number, with as=kinesis 20" => shard.max_consumers = some_u32;
};

pub(super) const DIRECT: &[Parameter] = parameters! {
    "endpoints", "endpoints of each service; 8" => lanes = lanes;
    "answer", "when a caller has its answer: stored (the request), or served (its work); stored" => direct.answer = answer;
    "try_timeout", "with served, when a request is sent again; the timeout" => direct.try_timeout = |text| positive_span(text).map(Some);
    "deadlines", "with served, refuse what nobody waits for any more: on or off; on" => direct.deadlines = on_or_off;
    "overflow", "when no receiver has room: refuse the request, or block the caller; refuse" => direct.overflow = overflow;
    "breaker_failures", "failures of 100 calls that open a circuit breaker, 0 for never; 50" => direct.breaker.failures = count_u32;
    "service_queue", "requests a receiver holds, those in work included; 1024" => direct.service_queue = count_u32;
    "window", "unanswered requests of one client; 1024" => direct.window = count_u32;
    "connections", "connections of a caller to each receiver, used again; 0 for any number" => direct.connections = count_u32;
    "retries", "how often a request that was not taken, or not answered in time, is tried again; 3" => direct.retries = count_u32;
    "backoff", "the wait before the first retry; 20ms" => direct.backoff = span;
    "max_backoff", "the longest wait before a retry; 500ms" => direct.max_backoff = span;
    "timeout", "when a caller gives up; 1s" => direct.timeout = positive_span;
    "max_message", "the largest request; 1MiB" => direct.max_message_bytes = bytes_u32;
};
