//! A topic that is there already: what was found of it, and where that is not what a run wants. Leaves out asking for it.

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;

use super::shared::Shared;
use crate::open::Trouble;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    partitions: usize,
    replication: usize,
    settings: Vec<(String, String)>,
}

impl Found {
    pub(super) fn new(topic: &MetadataResponseTopic) -> Self {
        Self {
            partitions: topic.partitions.len(),
            replication: topic.partitions.iter().map(|partition| partition.replica_nodes.len()).min().unwrap_or(0),
            settings: Vec::new(),
        }
    }

    /// Takes in the topic's settings, as far as they may be read.
    pub(super) fn configured(&mut self, answer: &DescribeConfigsResponse) {
        for config in answer.results.iter().flat_map(|result| &result.configs) {
            let value = config.value.as_ref().map_or("", |value| value.as_str());
            self.settings.push((config.name.as_str().to_owned(), value.to_owned()));
        }
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The largest batch that the topic takes, where it tells.
    pub(super) fn max_batch(&self) -> Option<u32> {
        self.setting("max.message.bytes")?.parse().ok()
    }

    /// What differs from what is wanted of an existing topic: the partitions, and what the URL says of it by name; none when nothing
    /// does.
    pub(super) fn differs(&self, shared: &Shared, topic: &str, lanes: u32) -> Option<Trouble> {
        let options = &shared.options;
        let mut wanted = vec![("partitions".to_owned(), lanes.to_string())];
        wanted.extend(options.replication.map(|n| ("replication".to_owned(), n.to_string())));
        wanted.extend(options.min_insync.map(|n| ("min.insync.replicas".to_owned(), n.to_string())));
        wanted.extend(options.topic.iter().cloned());
        let differing: Vec<(String, String)> =
            wanted.into_iter().filter(|(name, value)| self.value(name).is_some_and(|found| found != *value)).collect();
        let remedy = "name what it has with ?partitions=… and ?topic.…=…, or another topic";
        (!differing.is_empty()).then(|| self.trouble(topic, &differing, remedy))
    }

    /// A topic that is there where the run was to make its own.
    pub(super) fn taken(&self, shared: &Shared, topic: &str, lanes: u32) -> Trouble {
        let mut wanted = vec![
            ("partitions".to_owned(), lanes.to_string()),
            ("replication".to_owned(), shared.promise.replication.to_string()),
        ];
        wanted.extend(shared.promise.topic.iter().cloned());
        self.trouble(topic, &wanted, "remove it, or use it as it is with --existing")
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "partitions" => Some(self.partitions.to_string()),
            "replication" => Some(self.replication.to_string()),
            other => self.setting(other).map(str::to_owned),
        }
    }

    fn trouble(&self, topic: &str, wanted: &[(String, String)], remedy: &'static str) -> Trouble {
        let list = |value: &dyn Fn(&(String, String)) -> String| {
            let texts: Vec<String> = wanted.iter().map(|pair| format!("{}={}", pair.0, value(pair))).collect();
            texts.join(", ")
        };
        Trouble::Differs {
            name: topic.to_owned(),
            found: list(&|(name, _)| self.value(name).unwrap_or_else(|| "unknown".to_owned())),
            wanted: list(&|(_, value)| value.clone()),
            remedy,
        }
    }
}
