//! The fake server: connections that are read and written as far as they go, with faults that a test switches on.
//!
//! One thread, no clock: the rig steps it. Leaves out what it keeps, which is in `store`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use brokerlab_model::{Control, Outcome, Refusal, Span, Status, Time};
use bytes::BytesMut;

use crate::mischief::Mischief;
use crate::replies::{Reply, put_reply};
use crate::requests::{Request, get_request};
use crate::store::{Replies, Store, outcome};
use crate::wire::next_frame;

/// Largest message, key and headers included.
pub(crate) const MAX_MESSAGE: usize = 256 * 1024;

/// Where a client's end of a new socket pair meets the server's: an address that can be down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door(Arc<Mutex<(bool, Vec<UnixStream>)>>);

impl Door {
    /// A connection, or none while the server is down. Its buffers are small, so that writes are cut short.
    pub(crate) fn dial(&self) -> Option<UnixStream> {
        let mut door = self.0.lock().expect("nobody panics while dialling");
        if door.0 {
            return None;
        }
        let (near, far) = UnixStream::pair().expect("a socket pair");
        for end in [&near, &far] {
            end.set_nonblocking(true).expect("a socket can be non-blocking");
            rustix::net::sockopt::set_socket_send_buffer_size(end, 4096).expect("a small buffer");
        }
        door.1.push(far);
        Some(near)
    }

    fn arrivals(&self) -> Vec<UnixStream> {
        std::mem::take(&mut self.0.lock().expect("nobody panics while dialling").1)
    }

    fn set_down(&self, down: bool) {
        self.0.lock().expect("nobody panics while dialling").0 = down;
    }
}

/// What a test makes the server do wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Reads and writes one byte of each connection at a step.
    pub(crate) byte_by_byte: bool,
    /// Holds every reply back for this long.
    pub(crate) slow: Span,
    /// Reads nothing at all.
    pub(crate) deaf: bool,
    /// Reads publishes only below this many bytes kept; 0 means without bound.
    pub(crate) max_data: usize,
    /// Breaks a promise.
    pub(crate) mischief: Option<Mischief>,
}

#[derive(Debug)]
struct Conn {
    stream: UnixStream,
    read: BytesMut,
    /// Replies that are not due yet.
    held: VecDeque<(Time, Vec<u8>)>,
    write: VecDeque<u8>,
    role: Option<u8>,
    closing: bool,
}

/// The server.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) door: Door,
    pub(crate) faults: Faults,
    store: Store,
    conns: BTreeMap<u64, Conn>,
    accepted: u64,
    /// Deliveries sent so far, for mischief that strikes now and then.
    said: u64,
    /// Publishes that it has stored.
    pub(crate) published: u64,
}

impl Server {
    /// Cuts every connection; what they had in their buffers is gone.
    pub(crate) fn cut(&mut self) {
        let mut out = Replies::new();
        for (conn, _) in std::mem::take(&mut self.conns) {
            self.store.leave(conn, false, &mut out);
        }
    }

    /// Cuts every connection and takes no new one until it is up again.
    pub(crate) fn set_down(&mut self, down: bool) {
        self.door.set_down(down);
        if down {
            self.cut();
        }
    }

    /// When the next held reply is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.conns.values().filter_map(|conn| conn.held.front()).map(|(due, _)| *due).min()
    }

    /// Reads, serves and writes as far as it goes without waiting. Returns whether anything moved.
    pub(crate) fn step(&mut self, now: Time) -> bool {
        let mut moved = false;
        for stream in self.door.arrivals() {
            self.accepted += 1;
            moved = true;
            let (read, held, write) = (BytesMut::new(), VecDeque::new(), VecDeque::new());
            self.conns.insert(self.accepted, Conn { stream, read, held, write, role: None, closing: false });
        }
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        for id in ids {
            moved |= self.read(now, id);
        }
        let mut out = Replies::new();
        self.store.deliver(&mut out);
        if self.faults.max_data > 0 {
            self.store.trim();
        }
        self.reply(now, out);
        moved | self.write(now)
    }

    fn read(&mut self, now: Time, id: u64) -> bool {
        let full = self.faults.max_data > 0 && self.store.bytes() >= self.faults.max_data;
        let conn = self.conns.get_mut(&id).expect("listed");
        if self.faults.deaf || (full && conn.role == Some(0)) {
            return false;
        }
        let mut buffer = [0; 16 * 1024];
        let room = if self.faults.byte_by_byte { 1 } else { buffer.len() };
        let count = match conn.stream.read(&mut buffer[..room]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => 0,
        };
        let mut out = Replies::new();
        if count == 0 {
            self.conns.remove(&id);
            self.store.leave(id, false, &mut out);
            self.reply(now, out);
            return true;
        }
        conn.read.extend_from_slice(&buffer[..count]);
        while let Some(frame) = self.conns.get_mut(&id).and_then(|conn| next_frame(&mut conn.read)) {
            self.serve(now, id, get_request(frame), &mut out);
        }
        self.reply(now, out);
        true
    }

    fn serve(&mut self, now: Time, id: u64, request: Request, out: &mut Replies) {
        match request {
            Request::Hello { role, group, channels } => {
                self.conns.get_mut(&id).expect("it was just read").role = Some(role);
                out.push((id, Reply::Welcome));
                if role == 1 {
                    self.store.join(id, &group, &channels, out);
                }
            }
            Request::Publish { token, channel, key, headers, payload } => {
                let size = key.len() + headers.len() + payload.len();
                let result = if size > MAX_MESSAGE {
                    Err(Refusal::TooLarge)
                } else {
                    self.store.publish(now, channel, [key, headers, payload])
                };
                out.push((
                    id,
                    match result {
                        Ok((lane, position)) => {
                            self.published += 1;
                            Reply::Outcome(Outcome { token, status: Status::Done, lane, position })
                        }
                        Err(refusal) => outcome(token, Status::Refused(refusal)),
                    },
                ));
            }
            Request::Settle(settlement) => {
                let result = self.store.settle(id, &settlement);
                out.push((id, outcome(settlement.token, result.map_or_else(Status::Refused, |()| Status::Done))));
            }
            Request::Control(token, Control::Close) => {
                self.store.leave(id, true, out);
                self.store.control(id, token, Control::Close, out);
                self.conns.get_mut(&id).expect("it was just read").closing = true;
            }
            Request::Control(token, control) => self.store.control(id, token, control, out),
        }
    }

    fn reply(&mut self, now: Time, mut out: Replies) {
        if let Some(mischief) = self.faults.mischief {
            mischief.damage(&mut self.said, &mut out);
        }
        for (id, reply) in out {
            // A connection that was cut in the meantime gets no reply.
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let mut frame = Vec::new();
            put_reply(&mut frame, &reply);
            conn.held.push_back((now + self.faults.slow, frame));
        }
    }

    fn write(&mut self, now: Time) -> bool {
        let mut moved = false;
        for conn in self.conns.values_mut() {
            while conn.held.front().is_some_and(|(due, _)| *due <= now) {
                let (_, frame) = conn.held.pop_front().expect("just seen");
                conn.write.extend(frame);
            }
            let room = if self.faults.byte_by_byte { 1 } else { usize::MAX };
            let (front, _) = conn.write.as_slices();
            let part = &front[..front.len().min(room)];
            if part.is_empty() {
                continue;
            }
            // An error shows with the next read, which ends the connection.
            if let Ok(count) = conn.stream.write(part) {
                conn.write.drain(..count);
                moved |= count > 0;
            }
        }
        self.conns.retain(|_, conn| !(conn.closing && conn.held.is_empty() && conn.write.is_empty()));
        moved
    }
}
