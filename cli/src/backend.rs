//! A backend as it was asked for: an engine in this process, or a real broker across the network.
//!
//! The one place that tells the two apart by their names; everything later asks here. Leaves out visits and rows.

use std::net::ToSocketAddrs as _;

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, Kind, Transport};
use brokerlab_host::fitness::listeners;
use brokerlab_live::{LiveUrl, OpenError, Place};
use brokerlab_model::{ChannelSpec, Contract, Missing};
use brokerlab_workloads::measurement::World;
use brokerlab_workloads::profile::Profile;

use crate::args::TransportArg;
use crate::exit::BadInput;

/// A backend by its URL or plain name.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a command has a handful of them")]
pub(crate) enum Backend {
    /// An engine in this process.
    Embedded(BackendUrl),
    /// A real broker.
    Live(LiveUrl),
}

impl Backend {
    /// Reads what stands after `--backend`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        if LiveUrl::is_meant(text) {
            LiveUrl::parse(text).map(Self::Live).map_err(BadInput::error)
        } else {
            BackendUrl::parse(text).map(Self::Embedded).map_err(BadInput::error)
        }
    }

    /// The backend's plain name: `log`, `kafka`.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Embedded(url) => url.name(),
            Self::Live(url) => url.scheme.name(),
        }
    }

    pub(crate) fn world(&self) -> World {
        match self {
            Self::Embedded(_) => World::Embedded,
            Self::Live(_) => World::Live,
        }
    }

    /// The hop between its clients and itself, as a result names it; `asked` is what the command line says for all.
    pub(crate) fn transport(&self, asked: TransportArg) -> &'static str {
        let asked = match asked {
            TransportArg::InProcess => Transport::InProcess,
            TransportArg::Loopback => Transport::Loopback,
        };
        match self {
            Self::Embedded(url) => url.transport().unwrap_or(asked).name(),
            Self::Live(_) => "network",
        }
    }

    /// How many lanes each channel has: as the URL says, else what the profile needs.
    pub(crate) fn lanes(&self, profile: &Profile) -> anyhow::Result<u32> {
        let (asked, shard) = match self {
            Self::Embedded(url) => (url.lanes(), url.kind() == Kind::Shard),
            Self::Live(url) => (url.lanes(), false),
        };
        asked.map_or_else(|| profile.lanes(shard).map_err(BadInput::error), Ok)
    }

    /// Processes of this machine that listen where the URL points; none for a broker elsewhere.
    pub(crate) fn local_processes(&self) -> Vec<u32> {
        let Self::Live(url) = self else { return Vec::new() };
        let mut found = Vec::new();
        for host in &url.hosts {
            let addresses = (host.name.as_str(), host.port).to_socket_addrs();
            if addresses.into_iter().flatten().any(|address| address.ip().is_loopback()) {
                found.extend(listeners(host.port));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A real broker that was met before the first visit.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    /// As it was asked for.
    pub(crate) text: String,
    /// The contract of the profile, under which it was met.
    pub(crate) asked: Contract,
    /// What is asked of it: the profile's contract, lowered where it can't be kept and the user accepts that.
    pub(crate) contract: Contract,
    /// What can't be kept there.
    pub(crate) missing: Vec<Missing>,
    /// Product and version.
    pub(crate) server: String,
}

/// A contract that asks on each axis for no more than `kept`.
pub(crate) fn lowered(asked: Contract, kept: Contract) -> Contract {
    Contract {
        delivery: asked.delivery.min(kept.delivery),
        order: asked.order.min(kept.order),
        storage: asked.storage.min(kept.storage),
        copies: asked.copies.min(kept.copies),
        availability: asked.availability.min(kept.availability),
    }
}

/// An error of opening, by whose fault it is: what was typed ends with another exit code than a server that is not there.
pub(crate) fn told(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NotBuilt { .. } | OpenError::Url(_) | OpenError::Unsupported(_) => BadInput::error(error),
        OpenError::Trouble { .. } => anyhow::Error::new(error),
    }
}

/// Removes what a visit made on a real broker.
pub(crate) fn clean(url: &LiveUrl, prefix: &str, profile: &Profile, lanes: u32) -> anyhow::Result<()> {
    let groups: Vec<String> = profile.groups.iter().map(|group| group.name.clone()).collect();
    let channels: Vec<ChannelSpec> = profile
        .channels
        .resolved()
        .into_iter()
        .map(|name| ChannelSpec { name, lanes, groups: groups.clone(), ..ChannelSpec::default() })
        .collect();
    let place = Place { prefix: prefix.to_owned(), existing: false, origin_utc_ns: 0 };
    brokerlab_live::remove(url, &place, &channels)
        .with_context(|| format!("what was made on {url} under the prefix {prefix} may still be there; remove it when the server answers again"))
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Order, Storage};

    use super::*;

    #[test]
    fn a_name_is_embedded_and_a_url_is_live() {
        let log = Backend::parse("log?partitions=3").unwrap();
        assert_eq!(
            (log.name(), log.world(), log.transport(TransportArg::InProcess)),
            ("log", World::Embedded, "in-process")
        );
        assert_eq!(log.transport(TransportArg::Loopback), "loopback");
        let own = Backend::parse("null?transport=in-process").unwrap();
        assert_eq!(own.transport(TransportArg::Loopback), "in-process");
        let kafka = Backend::parse("kafka://127.0.0.1:1?partitions=3").unwrap();
        assert_eq!(
            (kafka.name(), kafka.world(), kafka.transport(TransportArg::Loopback)),
            ("kafka", World::Live, "network")
        );
        assert_eq!(kafka.local_processes(), Vec::<u32>::new());
        assert!(Backend::parse("amqp://me:secret@h").is_err());
    }

    #[test]
    fn a_lowered_contract_asks_for_no_more_than_is_kept_and_no_more_than_was_asked() {
        let asked = Contract { copies: 3, storage: Storage::PageCache, order: Order::PerKey, ..Contract::default() };
        let kept = Contract { copies: 1, storage: Storage::Fsync, order: Order::Total, ..Contract::default() };
        let lowered = lowered(asked, kept);
        assert_eq!(lowered, Contract { copies: 1, ..asked });
    }
}
