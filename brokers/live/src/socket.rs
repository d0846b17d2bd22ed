//! One connection to a server: bytes out and in, without ever blocking, in as few system calls as they fit.
//!
//! The driver appends whole frames to the buffer of what goes out, and parses what came in; the host sleeps on the descriptor. With
//! TLS these same bytes go through a layer below; without it nothing is between them and the kernel. Leaves out protocols,
//! reconnecting (the driver decides when) and blocking steps, which belong to examining.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use brokerlab_model::WaitOn;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::tls::{Layer, Target};

/// As much is read at once.
const READ_AT_ONCE: usize = 256 << 10;
/// As many pieces are written by one call.
const PIECES_AT_ONCE: usize = 64;

/// A connection that is being made, or is made.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Whether the TCP connection stands, and whether bytes may be exchanged over it.
    reached: bool,
    connected: bool,
    tls: Option<Box<Layer>>,
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
    pub fn connect(target: &Target) -> io::Result<Self> {
        let tls = Layer::new(target)?;
        let to = target.address;
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        match connect(&fd, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            stream: TcpStream::from(fd),
            reached: false,
            connected: false,
            tls,
            out: Vec::new(),
            written: 0,
            pieces: VecDeque::new(),
            piece_written: 0,
            piece_bytes: 0,
            input: Vec::new(),
            taken: 0,
        })
    }

    /// Whether the connection stands, with TLS its handshake included. False while it is being made.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether the TCP connection stands, and a handshake of TLS may be under way.
    pub fn is_reached(&self) -> bool {
        self.reached
    }

    /// The buffer of what goes out. Append whole frames; [`pump`](Self::pump) writes them.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// How many bytes wait to be written. With TLS what is encrypted counts until the kernel has taken all of that.
    pub fn unwritten(&self) -> usize {
        self.untouched() + self.tls.as_ref().map_or(0, |tls| tls.sealed())
    }

    /// How many bytes can't have been sent, not even in part: with TLS those that are not encrypted yet, otherwise
    /// [`unwritten`](Self::unwritten).
    pub fn untouched(&self) -> usize {
        self.out.len() - self.written + self.piece_bytes - self.piece_written
    }

    /// Whether something waits for the kernel to have room.
    pub fn wants_write(&self) -> bool {
        match &self.tls {
            // Bytes of the driver wait for the end of the handshake, which may wait for the server.
            Some(tls) if self.reached => tls.wants_write() || (self.connected && self.untouched() > 0),
            Some(_) | None => !self.reached || self.untouched() > 0,
        }
    }

    /// Puts a piece behind everything that goes out, without copying it. Whoever sends pieces leaves [`out`](Self::out) alone.
    pub fn send(&mut self, piece: Bytes) {
        debug_assert!(self.out.is_empty(), "bytes of `out` would overtake the pieces");
        self.piece_bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Goes on with connecting and writes what the kernel takes; reads nothing but a handshake.
    pub fn push(&mut self) -> io::Result<()> {
        if self.connected || self.finish_connecting()? {
            self.write()?;
        }
        Ok(())
    }

    /// Reads once into the room that `into` has left, which must not be none, past [`input`](Self::input). Returns how many bytes
    /// came: 0 when there are none now. The end of the connection is an error. What is left is the kernel's, which tells of it by the
    /// descriptor: with TLS all that can be decrypted is handed over, for which `into` may grow.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        debug_assert!(into.len() < into.capacity(), "no room to read into");
        if let Some(tls) = &mut self.tls {
            return tls.receive(&self.stream, into);
        }
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
        self.reached = self.reached || self.reach()?;
        self.connected = self.reached
            && match &mut self.tls {
                Some(tls) => tls.step(&self.stream)?,
                None => true,
            };
        Ok(self.connected)
    }

    fn reach(&mut self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
            return Ok(false);
        }
        sockopt::socket_error(&self.stream)??;
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.tls.is_some() {
            return self.write_sealed();
        }
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
            match self.stream.write_vectored(&slices(&self.pieces, self.piece_written)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.let_go(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// So many bytes of the pieces are written.
    fn let_go(&mut self, bytes: usize) {
        self.piece_written += bytes;
        while let Some(first) = self.pieces.front().filter(|first| first.len() <= self.piece_written) {
            self.piece_written -= first.len();
            self.piece_bytes -= first.len();
            self.pieces.pop_front();
        }
    }

    /// The same through TLS: no more is encrypted than the kernel takes soon.
    fn write_sealed(&mut self) -> io::Result<()> {
        while let Some(tls) = &mut self.tls
            && tls.flush(&self.stream)?
        {
            if self.written < self.out.len() {
                self.written += tls.seal(&[IoSlice::new(&self.out[self.written..])])?;
            } else if !self.pieces.is_empty() {
                let sealed = tls.seal(&slices(&self.pieces, self.piece_written))?;
                self.let_go(sealed);
            } else {
                break;
            }
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
        Ok(())
    }

    /// Reads once what is there: more is there at the next poll, and one reader must not hold up a loop of many.
    fn read(&mut self) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        input.drain(..std::mem::take(&mut self.taken));
        input.reserve(READ_AT_ONCE);
        let read = self.receive(&mut input);
        self.input = input;
        read.map(|_| ())
    }

    /// The descriptor, for an instance of epoll that watches several connections.
    pub fn wait_on_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What the host may sleep on.
    pub fn wait_on(&self) -> WaitOn<'_> {
        let fd: BorrowedFd<'_> = self.stream.as_fd();
        if self.wants_write() { WaitOn::ReadWrite(fd) } else { WaitOn::Read(fd) }
    }
}

/// What one call writes of the pieces, of whose first so much was written before.
fn slices(pieces: &VecDeque<Bytes>, mut written: usize) -> Vec<IoSlice<'_>> {
    pieces.iter().take(PIECES_AT_ONCE).map(|piece| IoSlice::new(&piece[std::mem::take(&mut written)..])).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn frames_go_out_together_and_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(&Target::open(listener.local_addr().unwrap())).unwrap();
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
        let mut socket = Socket::connect(&Target::open(listener.local_addr().unwrap())).unwrap();
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
        let Ok(mut socket) = Socket::connect(&Target::open(free)) else { return };
        let lost = loop {
            if let Err(error) = socket.pump() {
                break error;
            }
        };
        assert_eq!(lost.kind(), io::ErrorKind::ConnectionRefused);
    }
}
