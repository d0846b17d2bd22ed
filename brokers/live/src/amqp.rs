//! RabbitMQ by AMQP 0-9-1.
//!
//! Leaves out everything yet: the driver comes with the next change.

use brokerlab_model::{ChannelSpec, Contract};

use crate::open::{Examined, Live, OpenError, Place, Trouble};
use crate::url::LiveUrl;

fn absent(url: &LiveUrl) -> OpenError {
    OpenError::Trouble { at: url.to_string(), trouble: Trouble::Server("there is no driver yet".to_owned()) }
}

pub(crate) fn examine(url: &LiveUrl, _contract: Contract) -> Result<Examined, OpenError> {
    Err(absent(url))
}

pub(crate) fn open(url: &LiveUrl, _contract: Contract, _place: &Place) -> Result<Box<dyn Live>, OpenError> {
    Err(absent(url))
}

pub(crate) fn remove(url: &LiveUrl, _place: &Place, _channels: &[ChannelSpec]) -> Result<(), OpenError> {
    Err(absent(url))
}
