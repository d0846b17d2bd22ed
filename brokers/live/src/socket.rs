//! One connection to a server: bytes out and in, without ever blocking, in as few system calls as they fit.
//!
//! The driver appends whole frames to the buffer of what goes out, and parses what came in; the host sleeps on the descriptor. Leaves
//! out protocols, reconnecting (the driver decides when) and blocking steps, which belong to examining.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use brokerlab_model::WaitOn;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

/// As much is read at once.
const READ_AT_ONCE: usize = 256 << 10;
/// As many pieces are written by one call.
const PIECES_AT_ONCE: usize = 64;

/// A connection that is being made, or is made.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    connected: bool,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
    /// What goes out after `out`, without being copied there; how much of the first was written, and the bytes of all.
    pieces: VecDeque<Bytes>,
    piece_written: usize,
    piece_bytes: usize,
    input: Vec<u8>,
    /// How much of `input` the driver has taken.
    taken: usize,
}

impl Socket {
    /// Begins to connect; returns at once.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        match connect(&fd, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            stream: TcpStream::from(fd),
            connected: false,
            out: Vec::new(),
            written: 0,
            pieces: VecDeque::new(),
            piece_written: 0,
            piece_bytes: 0,
            input: Vec::new(),
            taken: 0,
        })
    }

    /// Whether the connection stands. False while it is being made.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The buffer of what goes out. Append whole frames; [`pump`](Self::pump) writes them.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// How many bytes wait to be written.
    pub fn unwritten(&self) -> usize {
        self.out.len() - self.written + self.piece_bytes - self.piece_written
    }

    /// Puts a piece behind everything that goes out, without copying it. Whoever sends pieces leaves [`out`](Self::out) alone.
    pub fn send(&mut self, piece: Bytes) {
        debug_assert!(self.out.is_empty(), "bytes of `out` would overtake the pieces");
        self.piece_bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Goes on with connecting and writes what the kernel takes; reads nothing.
    pub fn push(&mut self) -> io::Result<()> {
        if self.connected || self.finish_connecting()? {
            self.write()?;
        }
        Ok(())
    }

    /// Reads once into the room that `into` has left, which must not be none, past [`input`](Self::input). Returns how many bytes
    /// came: 0 when there are none now. The end of the connection is an error.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        debug_assert!(into.len() < into.capacity(), "no room to read into");
        match rustix::io::read(&self.stream, spare_capacity(into)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(read),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// What came in and was not taken yet.
    pub fn input(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes the first `bytes` of the input.
    pub fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        debug_assert!(self.taken <= self.input.len(), "took more than there was");
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }

    /// Goes on with connecting, writes what the kernel takes and reads what it has. An error, end of file among them, means that the
    /// connection is lost; what was read before it stays in [`input`](Self::input).
    pub fn pump(&mut self) -> io::Result<()> {
        if !self.connected && !self.finish_connecting()? {
            return Ok(());
        }
        self.write()?;
        self.read()
    }

    fn finish_connecting(&mut self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
            return Ok(false);
        }
        sockopt::socket_error(&self.stream)??;
        self.connected = true;
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        self.write_pieces()
    }

    fn write_pieces(&mut self) -> io::Result<()> {
        while !self.pieces.is_empty() {
            let mut skip = self.piece_written;
            let slices: Vec<IoSlice<'_>> = self
                .pieces
                .iter()
                .take(PIECES_AT_ONCE)
                .map(|piece| IoSlice::new(&piece[std::mem::take(&mut skip)..]))
                .collect();
            match self.stream.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.piece_written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(first) = self.pieces.front().filter(|first| first.len() <= self.piece_written) {
                self.piece_written -= first.len();
                self.piece_bytes -= first.len();
                self.pieces.pop_front();
            }
        }
        Ok(())
    }

    /// Reads once what is there: more is there at the next poll, and one reader must not hold up a loop of many.
    fn read(&mut self) -> io::Result<()> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let had = self.input.len();
        self.input.resize(had + READ_AT_ONCE, 0);
        let read = self.stream.read(&mut self.input[had..]);
        self.input.truncate(had + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The descriptor, for an instance of epoll that watches several connections.
    pub fn wait_on_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What the host may sleep on.
    pub fn wait_on(&self) -> WaitOn<'_> {
        let fd: BorrowedFd<'_> = self.stream.as_fd();
        if self.connected && self.unwritten() == 0 { WaitOn::Read(fd) } else { WaitOn::ReadWrite(fd) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn frames_go_out_together_and_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(listener.local_addr().unwrap()).unwrap();
        socket.out().extend_from_slice(b"one");
        socket.out().extend_from_slice(b"two");
        let (mut peer, _) = listener.accept().unwrap();
        while !socket.is_connected() || socket.unwritten() > 0 {
            socket.pump().unwrap();
        }
        let mut got = [0; 6];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"onetwo");
        peer.write_all(b"answer").unwrap();
        while socket.input().len() < 6 {
            socket.pump().unwrap();
        }
        socket.take(3);
        assert_eq!(socket.input(), b"wer");
        drop(peer);
        let lost = loop {
            if let Err(error) = socket.pump() {
                break error;
            }
        };
        assert_eq!(lost.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(socket.input(), b"wer");
    }

    #[test]
    fn pieces_go_out_in_order_and_bytes_come_into_the_callers_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(listener.local_addr().unwrap()).unwrap();
        let piece = Bytes::from(vec![7; 100_000]);
        for _ in 0..100 {
            socket.send(piece.clone());
        }
        assert_eq!(socket.unwritten(), 10_000_000);
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_nonblocking(true).unwrap();
        let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
        while got < 10_000_000 {
            socket.push().unwrap();
            got += peer.read(&mut buffer).unwrap_or(0);
        }
        assert_eq!(socket.unwritten(), 0);
        assert!(piece.is_unique(), "what was written is let go of");
        peer.write_all(b"answer").unwrap();
        let mut into = Vec::with_capacity(4);
        while into.len() < 4 {
            socket.receive(&mut into).unwrap();
        }
        assert_eq!(into, b"answ");
    }

    #[test]
    fn nobody_listening_is_an_error_of_pump() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let Ok(mut socket) = Socket::connect(free) else { return };
        let lost = loop {
            if let Err(error) = socket.pump() {
                break error;
            }
        };
        assert_eq!(lost.kind(), io::ErrorKind::ConnectionRefused);
    }
}
