//! A connection on which one waits, at most [`TIMEOUT`] for each step: for examining and cleaning up, never during a run.
//!
//! Leaves out what is said over it.

use std::io::{self, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::open::{TIMEOUT, Trouble};
use crate::socket::Socket;
use crate::tls::{Target, told};

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
}

impl Stream {
    /// Connects, with TLS where that is asked for.
    pub(super) fn connect(to: &Target) -> Result<Self, Trouble> {
        let of = |error: io::Error| told(&error).unwrap_or_else(|| Trouble::Unreachable(error.to_string()));
        let mut stream = Self { socket: Socket::connect(to).map_err(of)? };
        loop {
            stream.socket.push().map_err(of)?;
            if stream.socket.is_connected() {
                return Ok(stream);
            }
            if let Err(error) = stream.wait() {
                return Err(if stream.socket.is_reached() {
                    Trouble::Silent { asked: "the TLS handshake", seconds: TIMEOUT.as_secs() }
                } else {
                    of(error)
                });
            }
        }
    }

    /// Waits until something can be read, or if something is to be written until that can be.
    fn wait(&self) -> io::Result<()> {
        let flags = if self.socket.wants_write() { PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::from_borrowed_fd(self.socket.wait_on_fd(), flags)];
        let limit = Timespec { tv_sec: TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            // An interrupted wait is begun again by whoever waits for something.
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.socket.input().is_empty() {
            self.socket.pump()?;
            if self.socket.input().is_empty() {
                self.wait()?;
            }
        }
        let bytes = self.socket.input().len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&self.socket.input()[..bytes]);
        self.socket.take(bytes);
        Ok(bytes)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.out().extend_from_slice(bytes);
        self.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.push()?;
        while self.socket.unwritten() > 0 {
            self.wait()?;
            self.socket.push()?;
        }
        Ok(())
    }
}
