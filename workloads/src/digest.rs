//! The digest by which two machines prove that they generate the same messages, and the cheap fold by which a run proves
//! that it published them.
//!
//! Canonical encoding, all numbers little-endian. Per message: intended start `u64` ns (in a closed loop the think time
//! before it) · producer `u32` · sequence `u64` · channel `u32` · length of the key `u32` · the key · size `u32` · the
//! `size - 32` bytes after the stamp · where the message has headers, their length `u32` and their bytes. A producer's digest is SHA-256 over its messages in the order of their sequence. The
//! digest is SHA-256 over `"brokerlab digest 1\n"` · number of producers `u32` · and for each producer in order its number
//! of messages `u64` and its digest. Neither the stamp nor any actual time is in it.

use std::fmt;

use brokerlab_model::Time;
use sha2::{Digest as _, Sha256};

use crate::generate::{Scheduled, Workload};
use crate::stamp::{STAMP_LEN, body_crc, key_hash};

/// SHA-256 over the canonical encoding; prints as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest of a workload's first `messages`: each producer's share of them (the remainder falls to the first), the whole
/// schedule where that is shorter. The horizon does not count: only a trace ends. The result is the same for any number of
/// threads (at least one is used).
pub fn digest(workload: &Workload, messages: u64, threads: usize) -> Digest {
    digest_and_count(workload, messages, threads).0
}

/// The [`digest`], and how many messages it really covers: fewer than asked for where a trace ends.
pub fn digest_and_count(workload: &Workload, messages: u64, threads: usize) -> (Digest, u64) {
    let producers = workload.producers();
    let threads = threads.clamp(1, producers as usize);
    // Producers are dealt out in turn: neighbours have like loads.
    let deal = |thread: usize| {
        let mine = (thread..producers as usize).step_by(threads);
        mine.map(|p| (p, digest_of(workload, p as u32, share(messages, producers, p as u32)))).collect::<Vec<_>>()
    };
    let mut parts: Vec<(usize, (u64, [u8; 32]))> = if threads == 1 {
        deal(0)
    } else {
        std::thread::scope(|scope| {
            let deal = &deal;
            let running: Vec<_> = (0..threads).map(|t| scope.spawn(move || deal(t))).collect();
            running.into_iter().flat_map(|r| r.join().expect("a generator does not panic")).collect()
        })
    };
    parts.sort_unstable_by_key(|(p, _)| *p);
    let mut all = Sha256::new();
    all.update(b"brokerlab digest 1\n");
    all.update(producers.to_le_bytes());
    let mut covered = 0;
    for (_, (count, part)) in parts {
        covered += count;
        all.update(count.to_le_bytes());
        all.update(part);
    }
    (Digest(all.finalize().into()), covered)
}

/// How many of the first `messages` are those of producer `p`.
fn share(messages: u64, producers: u32, p: u32) -> u64 {
    let each = messages / u64::from(producers);
    if p == 0 { messages - each * u64::from(producers - 1) } else { each }
}

fn digest_of(workload: &Workload, producer: u32, count: u64) -> (u64, [u8; 32]) {
    let mut hash = Sha256::new();
    let mut buffer = Vec::new();
    let mut key = Vec::new();
    let done = each_message(workload, producer, count, |message| {
        key.clear();
        workload.write_key(message.key, &mut key);
        buffer.extend_from_slice(&message.intended.0.to_le_bytes());
        buffer.extend_from_slice(&producer.to_le_bytes());
        buffer.extend_from_slice(&message.sequence.to_le_bytes());
        buffer.extend_from_slice(&message.channel.to_le_bytes());
        buffer.extend_from_slice(&(key.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&key);
        buffer.extend_from_slice(&message.size.to_le_bytes());
        let start = buffer.len();
        workload.write_payload(producer, message.sequence, message.size, &mut buffer);
        buffer.drain(start..start + STAMP_LEN);
        let headers = workload.headers(message.sequence);
        if !headers.is_empty() {
            buffer.extend_from_slice(&(headers.len() as u32).to_le_bytes());
            buffer.extend_from_slice(headers);
        }
        if buffer.len() > 1 << 16 {
            hash.update(&buffer);
            buffer.clear();
        }
    });
    hash.update(&buffer);
    (done, hash.finalize().into())
}

/// Calls `visit` with each of a producer's first `count` messages; returns how many there were. In a closed loop the
/// intended start is the think time.
fn each_message(workload: &Workload, producer: u32, count: u64, mut visit: impl FnMut(&Scheduled)) -> u64 {
    let mut position = workload.producer_unbounded(producer);
    let closed = workload.is_closed_loop();
    for done in 0..count {
        let Some(mut message) = position.next() else { return done };
        if closed {
            message.intended = Time(workload.think(producer, message.sequence).0);
            position.completed(Time::ZERO);
        }
        visit(&message);
    }
    count
}

/// A running 64-bit fold over the messages that one producer handed to a backend, in the order of their sequence. Two folds
/// are equal only when (to 2^-64) number, intended start, key, headers, size and body of every message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    state: u64,
    /// All ones, or zero where intended starts depend on completions.
    times: u64,
}

impl Fold {
    /// The fold over no message. In a closed loop intended starts depend on the backend: they are left out.
    pub fn new(closed_loop: bool) -> Self {
        Self { state: 0x6A09_E667_F3BC_C908, times: if closed_loop { 0 } else { u64::MAX } }
    }

    /// Takes in one message; `key_hash` and `body_crc` are those of the stamp.
    #[inline]
    pub fn update(&mut self, message: &Scheduled, headers: &[u8], key_hash: u64, body_crc: u32) {
        if !headers.is_empty() {
            self.state ^= self::key_hash(headers);
        }
        let head = message.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (message.intended.0 & self.times);
        let body = u64::from(message.size) << 32 | u64::from(body_crc);
        let word = head.wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ body.wrapping_mul(0x94D0_49BB_1331_11EB) ^ key_hash;
        self.state = (self.state.rotate_left(27) ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        self.state ^= self.state >> 32;
    }

    /// The fold so far.
    pub fn value(&self) -> u64 {
        self.state
    }
}

/// The fold over a producer's first `count` messages as they are scheduled: what [`Fold`] over those really published must
/// equal.
pub fn fold_of(workload: &Workload, producer: u32, count: u64) -> u64 {
    let mut fold = Fold::new(workload.is_closed_loop());
    let mut bytes = Vec::new();
    each_message(workload, producer, count, |message| {
        bytes.clear();
        workload.write_key(message.key, &mut bytes);
        let hash = key_hash(&bytes);
        bytes.clear();
        workload.write_payload(producer, message.sequence, message.size, &mut bytes);
        fold.update(message, workload.headers(message.sequence), hash, body_crc(&bytes));
    });
    fold.value()
}
