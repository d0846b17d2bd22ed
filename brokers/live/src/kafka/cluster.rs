//! Looks at a cluster before a run, and cleans up after it, by blocking steps that each end within a timeout.
//!
//! Leaves out everything that happens during a run.

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;

use brokerlab_model::ChannelSpec;
use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, DeleteGroupsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    FindCoordinatorRequest, GroupId, MetadataRequest,
};
use kafka_protocol::protocol::Request;

use super::error;
use super::login::{Dialog, Login};
use super::options::Options;
use super::promise::Facts;
use super::questions::metadata;
use super::stream::Stream;
use super::wire;
use crate::open::{OpenError, Place, TIMEOUT, Trouble};
use crate::tls::{Security, Target, is_alert, told};
use crate::url::{Host, LiveUrl, UrlError};

/// A resource of `DescribeConfigs` that is a broker.
const BROKER: i8 = 4;

/// A connection by which a cluster is examined.
#[derive(Debug)]
pub(super) struct Cluster {
    stream: Stream,
    pub(super) security: Option<Arc<Security>>,
    host: Host,
    client: String,
    correlation: i32,
    pub(super) brokers: Vec<MetadataResponseBroker>,
}

/// The user and password of a URL that asks for a login.
pub(super) fn login(url: &LiveUrl, options: &Options) -> Result<Option<Login>, OpenError> {
    let user = url.user.clone();
    let Some(how) = options.sasl else {
        // A user who would be left out in silence believes to be logged in.
        return user.map_or(Ok(None), |user| Err(UrlError::NoLogin(user).into()));
    };
    let password = url.password()?;
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some(Login::new(how, user, password))),
        (None, _) => Err(trouble(url, Trouble::Login("the URL names no user".to_owned()))),
        (_, None) => Err(trouble(url, Trouble::Login("there is no password".to_owned()))),
    }
}

pub(super) fn trouble(url: &LiveUrl, trouble: Trouble) -> OpenError {
    OpenError::Trouble { at: url.to_string(), trouble }
}

impl Cluster {
    /// Connects to the first host that answers as Kafka does, and learns who is there. The last host's trouble is told when none does.
    pub(super) fn connect(url: &LiveUrl, options: &Options, login: Option<&Login>) -> Result<Self, OpenError> {
        let security = Security::of(url)?;
        let mut last = Trouble::Unreachable("no host".to_owned());
        for host in &url.hosts {
            match Self::connect_to(host, options, login, security.as_ref()) {
                Ok(cluster) => return Ok(cluster),
                Err(trouble) => last = trouble,
            }
        }
        Err(trouble(url, last))
    }

    fn connect_to(
        host: &Host,
        options: &Options,
        login: Option<&Login>,
        security: Option<&Arc<Security>>,
    ) -> Result<Self, Trouble> {
        let addresses = (host.name.as_str(), host.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| Trouble::NoAddress(error.to_string()))?;
        let mut stream = Err(Trouble::NoAddress("the name stands for none".to_owned()));
        for address in addresses {
            stream = Stream::connect(&Target { address, host: host.name.clone(), security: security.cloned() });
            if stream.is_ok() {
                break;
            }
        }
        let mut cluster = Self {
            stream: stream?,
            security: security.cloned(),
            host: host.clone(),
            client: options.client_id.clone(),
            correlation: 0,
            brokers: Vec::new(),
        };
        cluster.check_versions()?;
        if let Some(login) = login {
            cluster.log_in(login)?;
        }
        let answer = cluster.ask(&MetadataRequest::default().with_topics(Some(vec![])), "Metadata")?;
        cluster.brokers = answer.brokers;
        Ok(cluster)
    }

    /// Whether the server speaks the protocol, in every version that is used.
    fn check_versions(&mut self) -> Result<(), Trouble> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(wire::text("brokerlab"))
            .with_client_software_version(wire::text(env!("CARGO_PKG_VERSION")));
        let answer = self.ask(&request, "ApiVersions")?;
        if answer.error_code != error::NONE {
            return Err(Trouble::Server(format!(
                "ApiVersions: {}; Kafka 4.0 or later is needed",
                error::name(answer.error_code)
            )));
        }
        for (key, version, name) in wire::USED {
            let found = answer.api_keys.iter().find(|api| api.api_key == key);
            if !found.is_some_and(|api| (api.min_version..=api.max_version).contains(&version)) {
                let has =
                    found.map_or_else(|| "none".to_owned(), |a| format!("{} to {}", a.min_version, a.max_version));
                return Err(Trouble::Server(format!(
                    "it lacks version {version} of {name} (it has {has}); Kafka 4.0 or later is needed, with the consumer group protocol of KIP-848"
                )));
            }
        }
        Ok(())
    }

    fn log_in(&mut self, login: &Login) -> Result<(), Trouble> {
        let (mut dialog, mut frame) = Dialog::begin(login, &self.client);
        loop {
            let answer = self.exchange(&frame, "SaslAuthenticate").map_err(|trouble| match trouble {
                Trouble::OtherProtocol { .. } | Trouble::Silent { .. } => {
                    Trouble::Login("it ends the connection; is this listener one with SASL?".to_owned())
                }
                other @ (Trouble::NoAddress(_)
                | Trouble::Unreachable(_)
                | Trouble::Login(_)
                | Trouble::Permission(_)
                | Trouble::Tls { .. }
                | Trouble::Differs { .. }
                | Trouble::Server(_)) => other,
            })?;
            let next =
                dialog.step(login, &self.client, &answer).map_err(|refused| Trouble::Login(refused.to_string()))?;
            match next {
                Some(next) => frame = next,
                None if dialog.is_over() => return Ok(()),
                None => return Err(Trouble::Login("it says nothing more".to_owned())),
            }
        }
    }

    /// One request and its answer.
    pub(super) fn ask<R: Request>(&mut self, request: &R, asked: &'static str) -> Result<R::Response, Trouble> {
        self.correlation += 1;
        let frame = wire::frame(self.correlation, &self.client, request);
        let answer = self.exchange(&frame, asked)?;
        let other = |found: String| Trouble::OtherProtocol { protocol: "Kafka", found };
        if answer.first_chunk().is_none_or(|bytes| i32::from_be_bytes(*bytes) != self.correlation) {
            return Err(other(shown(&answer)));
        }
        wire::answer::<R>(&answer).map_err(|error| other(error.to_string()))
    }

    fn exchange(&mut self, frame: &Bytes, asked: &'static str) -> Result<Bytes, Trouble> {
        const SILENT: [io::ErrorKind; 2] = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        const ENDED: [io::ErrorKind; 3] =
            [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        let lost = |error: &io::Error| {
            if let Some(trouble) = told(error) {
                trouble
            } else if SILENT.contains(&error.kind()) {
                Trouble::Silent { asked, seconds: TIMEOUT.as_secs() }
            } else if ENDED.contains(&error.kind()) {
                Trouble::OtherProtocol {
                    protocol: "Kafka",
                    found: "it ends the connection; a listener with TLS may do so, for which write kafka+tls://"
                        .to_owned(),
                }
            } else {
                Trouble::Unreachable(error.to_string())
            }
        };
        self.stream.write_all(frame).map_err(|error| lost(&error))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|error| lost(&error))?;
        let bytes = u32::from_be_bytes(length) as usize;
        // No answer to what is asked here is longer; text in place of a length reads as more than a gibibyte.
        if bytes > 64 << 20 {
            let mut rest = [0; 60];
            let more = self.stream.read(&mut rest).unwrap_or(0);
            let found = [&length[..], &rest[..more]].concat();
            let found = if is_alert(&found) { "it speaks TLS: write kafka+tls://".to_owned() } else { shown(&found) };
            return Err(Trouble::OtherProtocol { protocol: "Kafka", found });
        }
        let mut answer = vec![0; bytes];
        self.stream.read_exact(&mut answer).map_err(|error| lost(&error))?;
        Ok(Bytes::from(answer))
    }

    /// Who leads a topic's first partition.
    pub(super) fn leader(&mut self, topic: &str) -> Result<Host, Trouble> {
        let answer = self.ask(&metadata(topic), "Metadata")?;
        let first = answer.topics.iter().flat_map(|topic| &topic.partitions).find(|of| of.partition_index == 0);
        let leader = first.and_then(|first| answer.brokers.iter().find(|broker| broker.node_id == first.leader_id));
        let leader = leader.ok_or_else(|| Trouble::Server(format!("topic {topic} has no leader now")))?;
        Ok(Host { name: leader.host.to_string(), port: leader.port as u16 })
    }

    /// What a mapping needs to know.
    pub(super) fn facts(&mut self) -> Result<Facts, Trouble> {
        const WORTH: [&str; 8] = [
            "log.flush.interval.messages",
            "log.flush.interval.ms",
            "message.max.bytes",
            "min.insync.replicas",
            "default.replication.factor",
            "group.consumer.heartbeat.interval.ms",
            "group.consumer.session.timeout.ms",
            "inter.broker.protocol.version",
        ];
        let node = self.brokers.first().map_or(0, |broker| broker.node_id.0);
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(wire::text(&node.to_string()))
            .with_configuration_keys(Some(WORTH.iter().map(|name| wire::text(name)).collect()));
        let answer = self.ask(&DescribeConfigsRequest::default().with_resources(vec![resource]), "DescribeConfigs")?;
        let mut shown = Vec::new();
        for result in &answer.results {
            permitted(result.error_code, "describing the broker's configuration")?;
            for config in &result.configs {
                let value = config.value.as_ref().map_or("", |value| value.as_str());
                shown.push((format!("broker.{}", config.name.as_str()), value.to_owned()));
            }
        }
        let value = |name: &str| {
            let found = shown.iter().find(|(key, _)| key.strip_prefix("broker.") == Some(name));
            found.map_or_else(String::new, |(_, value)| value.clone())
        };
        Ok(Facts {
            server: self.server()?,
            brokers: self.brokers.len(),
            message_max_bytes: value("message.max.bytes").parse().unwrap_or(1_048_588),
            min_insync: value("min.insync.replicas").parse().unwrap_or(1),
            replication: value("default.replication.factor").parse().unwrap_or(1),
            shown,
        })
    }

    /// Product and version, as far as a server tells: it names the version of its metadata, not of its program.
    fn server(&mut self) -> Result<String, Trouble> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(wire::text("brokerlab"))
            .with_client_software_version(wire::text(env!("CARGO_PKG_VERSION")));
        let answer = self.ask(&request, "ApiVersions")?;
        let level = answer.finalized_features.iter().find(|feature| feature.name.as_str() == "metadata.version");
        let version = level.map_or_else(|| "of unknown version".to_owned(), |level| release(level.max_version_level));
        Ok(format!("Apache Kafka {version}"))
    }

    /// Removes topics and groups, whether they are there or not. A group that still has members loses them: they are this run's.
    pub(super) fn remove(
        &mut self,
        options: &Options,
        login: Option<&Login>,
        place: &Place,
        channels: &[ChannelSpec],
    ) -> Result<(), Trouble> {
        let topics: Vec<DeleteTopicState> = channels
            .iter()
            .map(|spec| wire::text(&format!("{}{}", place.prefix, spec.name)))
            .map(|name| DeleteTopicState::default().with_name(Some(name.into())))
            .collect();
        let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(TIMEOUT.as_millis() as i32);
        for result in self.ask(&request, "DeleteTopics")?.responses {
            if result.error_code != error::UNKNOWN_TOPIC {
                permitted(result.error_code, "deleting the run's topics")?;
            }
        }
        let mut groups: Vec<String> = channels
            .iter()
            .flat_map(|spec| spec.groups.iter().map(|group| format!("{}{group}", place.prefix)))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let keys = vec![wire::text(&group)];
            let found = self.ask(&FindCoordinatorRequest::default().with_coordinator_keys(keys), "FindCoordinator")?;
            let Some(coordinator) = found.coordinators.first().filter(|found| found.error_code == error::NONE) else {
                continue;
            };
            let host = Host { name: coordinator.host.to_string(), port: coordinator.port as u16 };
            let mut at = if self.host == host {
                None
            } else {
                Some(Self::connect_to(&host, options, login, self.security.as_ref())?)
            };
            at.as_mut().unwrap_or(self).remove_group(&group)?;
        }
        Ok(())
    }

    fn remove_group(&mut self, group: &str) -> Result<(), Trouble> {
        let id = GroupId(wire::text(group));
        let request = DeleteGroupsRequest::default().with_groups_names(vec![id.clone()]);
        for attempt in 0..2 {
            let answer = self.ask(&request, "DeleteGroups")?;
            let code = answer.results.first().map_or(error::NONE, |result| result.error_code);
            if code == error::NON_EMPTY_GROUP && attempt == 0 {
                self.dismiss_members(&id)?;
            } else if code != error::GROUP_ID_NOT_FOUND {
                return permitted(code, "deleting the run's consumer groups");
            }
        }
        Ok(())
    }

    /// Members that ended without leaving would keep a group alive until their session times out.
    fn dismiss_members(&mut self, group: &GroupId) -> Result<(), Trouble> {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group.clone()]);
        let described = self.ask(&request, "ConsumerGroupDescribe")?;
        for member in described.groups.into_iter().flat_map(|group| group.members) {
            let leave = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(group.clone())
                .with_member_id(member.member_id)
                .with_member_epoch(-1);
            self.ask(&leave, "ConsumerGroupHeartbeat")?;
        }
        Ok(())
    }
}

/// The release whose metadata has this level. A level that is not known stands for itself.
fn release(level: i16) -> String {
    let known = match level {
        ..=21 => "before 4.0",
        22..=25 => "4.0",
        26..=27 => "4.1",
        28..=29 => "4.2",
        30 => "4.3",
        _ => return format!("after 4.3 (metadata.version {level})"),
    };
    format!("{known} (metadata.version {level})")
}

fn permitted(code: i16, what: &str) -> Result<(), Trouble> {
    match code {
        error::NONE => Ok(()),
        error::TOPIC_AUTHORIZATION_FAILED | error::GROUP_AUTHORIZATION_FAILED | error::CLUSTER_AUTHORIZATION_FAILED => {
            Err(Trouble::Permission(what.to_owned()))
        }
        other => Err(Trouble::Server(format!("{what}: {}", error::name(other)))),
    }
}

/// The beginning of what came, for people.
fn shown(bytes: &[u8]) -> String {
    let text: String = bytes
        .iter()
        .take(40)
        .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' })
        .collect();
    format!("it begins with `{text}`")
}
