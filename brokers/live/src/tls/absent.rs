//! TLS where it is not built in: a URL that asks for it is refused, and so there is never a layer of it in a socket.

use std::io::{self, IoSlice};
use std::net::TcpStream;

use brokerlab_model::Settings;

use super::{Parameters, Target};
use crate::open::OpenError;

/// There is none.
#[derive(Debug)]
pub enum Security {}

impl Security {
    /// Names the feature to add.
    pub(super) fn read(_: &Parameters) -> Result<Self, OpenError> {
        Err(OpenError::NotBuilt { name: "TLS", feature: "tls" })
    }

    /// Adds what is in force.
    pub fn in_force(&self, _: &mut Settings) {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Layer {}

impl Layer {
    #[expect(clippy::unnecessary_wraps, reason = "a layer that is built in can fail to begin")]
    pub(crate) fn new(target: &Target) -> io::Result<Option<Box<Self>>> {
        match target.security.as_deref() {
            None => Ok(None),
            Some(security) => match *security {},
        }
    }

    pub(crate) fn step(&mut self, _: &TcpStream) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn wants_write(&self) -> bool {
        match *self {}
    }

    pub(crate) fn sealed(&self) -> usize {
        match *self {}
    }

    pub(crate) fn seal(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn flush(&mut self, _: &TcpStream) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn receive(&mut self, _: &TcpStream, _: &mut Vec<u8>) -> io::Result<usize> {
        match *self {}
    }
}
