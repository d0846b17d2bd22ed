//! The hidden subcommand `visit`: one visit of a comparison, in a process of its own.

use brokerlab_embedded::{BackendUrl, Place, open};
use brokerlab_host::visit::{VisitSpec, serve};
use brokerlab_model::Broker;

use crate::exit::Exit;
use crate::interrupt;

pub(crate) fn visit() -> anyhow::Result<Exit> {
    let stop = interrupt::flag()?;
    let measured = serve(&mut opened, &stop)?;
    Ok(if measured { Exit::Success } else { Exit::Failure })
}

fn opened(spec: &VisitSpec) -> Result<Box<dyn Broker>, String> {
    let url = BackendUrl::parse(&spec.backend_url).map_err(|error| error.to_string())?;
    let place = Place { data: spec.data.as_deref() };
    let broker = open(&url, &spec.contract, &place).map_err(|error| error.to_string())?;
    Ok(broker)
}
