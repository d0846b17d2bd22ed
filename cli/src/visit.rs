//! The hidden subcommand `visit`: one visit of a comparison, in a process of its own.

use brokerlab_embedded::{BackendUrl, LoopbackBroker, Place, Transport, open};
use brokerlab_host::served::Served;
use brokerlab_host::visit::{self, Opened, VisitSpec};
use brokerlab_model::ChannelSpec;
use brokerlab_workloads::measurement::LiveRecord;

use crate::backend::Backend;
use crate::exit::Exit;
use crate::{interrupt, serve};

pub(crate) fn visit() -> anyhow::Result<Exit> {
    let stop = interrupt::flag()?;
    let measured = visit::serve(&mut opened, &stop)?;
    Ok(if measured { Exit::Success } else { Exit::Failure })
}

fn opened(spec: &VisitSpec, origin_utc_ns: u64) -> Result<Opened, String> {
    match Backend::parse(&spec.backend_url).map_err(|error| error.to_string())? {
        Backend::Embedded(url) => {
            if spec.transport == Transport::Loopback.name() {
                return behind_a_socket(&url, spec);
            }
            let place = Place { data: spec.data.as_deref() };
            let broker = open(&url, &spec.contract, &place).map_err(|error| error.to_string())?;
            Ok(Opened { broker, live: None, leader: None, served: None })
        }
        Backend::Live(url) => {
            let place = brokerlab_live::Place { prefix: spec.prefix.clone(), existing: spec.existing, origin_utc_ns };
            let broker = brokerlab_live::open(&url, spec.contract, &place).map_err(|error| error.to_string())?;
            let live = LiveRecord {
                server: broker.server().to_owned(),
                kept: broker.mapping().kept,
                missing: Vec::new(),
                in_force: broker.in_force(),
            };
            let profile = spec.profile().map_err(|error| error.to_string())?;
            let first = profile.channels.resolved().into_iter().next().unwrap_or_default();
            let groups = profile.groups.iter().map(|group| group.name.clone()).collect();
            let channel = ChannelSpec { name: first, lanes: spec.lanes, groups, ..ChannelSpec::default() };
            let leader = move || {
                let host = brokerlab_live::leader(&url, &place, &channel).map_err(|error| error.to_string())?;
                Ok(host.to_string())
            };
            Ok(Opened { broker, live: Some(live), leader: Some(Box::new(leader)), served: None })
        }
    }
}

/// The backend in a process of its own, which ends with this one.
fn behind_a_socket(url: &BackendUrl, spec: &VisitSpec) -> Result<Opened, String> {
    let exe = std::env::current_exe().map_err(|error| format!("can't find the path of this program: {error}"))?;
    let args = serve::command_line(&spec.backend_url, spec.contract, spec.data.as_deref());
    let served = Served::start(&exe, &args).map_err(|error| error.to_string())?;
    let broker = LoopbackBroker::new(url, &spec.contract, served.address()).map_err(|error| error.to_string())?;
    Ok(Opened { broker: Box::new(broker), live: None, leader: None, served: Some(served) })
}
