//! One end of a loopback connection: bytes out and in, without ever blocking.
//!
//! Both ends are the same, and neither encrypts, which sets it apart from a driver's connection to a real server. Leaves out frames.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use brokerlab_model::WaitOn;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// As much is read at once.
const READ_AT_ONCE: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
    input: Vec<u8>,
    /// How much of `input` was taken.
    taken: usize,
}

impl Pipe {
    /// Begins to connect; what is written waits for the connection.
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        match connect(&fd, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Self::over(TcpStream::from(fd)),
            Err(error) => Err(error.into()),
        }
    }

    /// The end of a connection that stands.
    pub(super) fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, out: Vec::new(), written: 0, input: Vec::new(), taken: 0 })
    }

    /// The buffer of what goes out: append to it, then [`write`](Self::write).
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// What came in and was not taken yet.
    pub(super) fn input(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes the first `bytes` of the input.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }

    /// Writes what the kernel takes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Says that nothing more is written; what comes in is still read.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Reads once what is there; how many bytes came. The end of the connection is an error.
    pub(super) fn read(&mut self) -> io::Result<usize> {
        self.input.drain(..std::mem::take(&mut self.taken));
        let before = self.input.len();
        self.input.reserve(READ_AT_ONCE);
        match rustix::io::read(&self.stream, rustix::buffer::spare_capacity(&mut self.input)) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(self.input.len() - before),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of it and reads on until `done` says that enough came in, at most for as long as `limit`; for questions outside of any
    /// run.
    pub(super) fn exchange(
        &mut self,
        limit: std::time::Duration,
        mut done: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.write_all(&self.out[self.written..])?;
        self.out.clear();
        self.written = 0;
        while !done(self.input()) {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(())
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What a host may sleep on.
    pub(super) fn wait_on(&self) -> WaitOn<'_> {
        let fd = self.fd();
        if self.unwritten() > 0 { WaitOn::ReadWrite(fd) } else { WaitOn::Read(fd) }
    }
}
