//! How a parameter's value is written: numbers, sizes and times with their units, and words. Each reader says what to write instead.
//!
//! Leaves out which parameter is read by what.

use brokerlab_model::Span;
use brokerlab_model::direct::{Answer, Overflow};
use brokerlab_model::log::{Assignment, Cleanup, Isolation};
use brokerlab_model::queue::{DeadLetter, Overflow as FullQueue};
use brokerlab_model::shard::{FULL_CREDIT, KeyHash, Readers};

use super::Transport;

const COUNT: &str = "write a whole number of at least 0, for example 8";
pub(super) const BYTES: &str = "write a size with its unit, for example 64MiB, 512KiB, 100kB or 4096B";
pub(super) const SPAN: &str = "write a time with its unit, for example 30s, 250ms or 24h";

pub(super) fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| COUNT)
}

pub(super) fn positive(number: u64) -> Result<u64, &'static str> {
    if number == 0 { Err("write a number above zero") } else { Ok(number) }
}

pub(super) fn count_u32(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| COUNT)
}

pub(super) fn count_u8(text: &str) -> Result<u8, &'static str> {
    text.parse().map_err(|_| "write a number from 0 to 255")
}

pub(super) fn span_or_none(text: &str) -> Result<Option<Span>, &'static str> {
    match text {
        "none" => Ok(None),
        _ => span(text).map(Some),
    }
}

pub(super) fn some_u32(text: &str) -> Result<Option<u32>, &'static str> {
    count_u32(text).map(Some)
}

pub(super) fn with_unit(text: &str, units: &[(&str, u64)], remedy: &'static str) -> Result<u64, &'static str> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit).ok_or(remedy)?.1;
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or(remedy)
}

pub(super) fn bytes(text: &str) -> Result<u64, &'static str> {
    const UNITS: &[(&str, u64)] = &[
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    with_unit(text, UNITS, BYTES).and_then(positive)
}

pub(super) fn bytes_u32(text: &str) -> Result<u32, &'static str> {
    bytes(text)?.try_into().map_err(|_| "write a size below 4 GiB")
}

pub(super) fn span(text: &str) -> Result<Span, &'static str> {
    const UNITS: &[(&str, u64)] = &[
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    with_unit(text, UNITS, SPAN).map(Span)
}

pub(super) fn positive_span_or_forever(text: &str) -> Result<Option<Span>, &'static str> {
    match span_or_forever(text)? {
        Some(Span::ZERO) => Err("write a time above zero, or forever"),
        span => Ok(span),
    }
}

pub(super) fn full_queue(text: &str) -> Result<FullQueue, &'static str> {
    match text {
        "drop-head" => Ok(FullQueue::DropHead),
        "reject-publish" => Ok(FullQueue::RejectPublish),
        _ => Err("write drop-head or reject-publish"),
    }
}

pub(super) fn dead_letter(text: &str) -> Result<DeadLetter, &'static str> {
    match text {
        "discard" => Ok(DeadLetter::Discard),
        "keep" => Ok(DeadLetter::Keep),
        "channel" => Ok(DeadLetter::Channel),
        _ => Err("write discard, keep or channel"),
    }
}

pub(super) fn span_or_forever(text: &str) -> Result<Option<Span>, &'static str> {
    if text == "forever" { Ok(None) } else { span(text).map(Some) }
}

pub(super) fn lanes(text: &str) -> Result<Option<u32>, &'static str> {
    match count_u32(text)? {
        0 => Err("write a number above zero"),
        lanes => Ok(Some(lanes)),
    }
}

pub(super) fn answer(text: &str) -> Result<Answer, &'static str> {
    match text {
        "stored" => Ok(Answer::Stored),
        "served" => Ok(Answer::Served),
        _ => Err("write stored or served"),
    }
}

pub(super) fn overflow(text: &str) -> Result<Overflow, &'static str> {
    match text {
        "refuse" => Ok(Overflow::Refuse),
        "block" => Ok(Overflow::Block),
        _ => Err("write refuse or block"),
    }
}

pub(super) fn assignment(text: &str) -> Result<Assignment, &'static str> {
    match text {
        "cooperative" => Ok(Assignment::Cooperative),
        "eager" => Ok(Assignment::Eager),
        _ => Err("write cooperative or eager"),
    }
}

pub(super) fn cleanup(text: &str) -> Result<Cleanup, &'static str> {
    match text {
        "delete" => Ok(Cleanup::Delete),
        "compact" => Ok(Cleanup::Compact),
        _ => Err("write delete or compact"),
    }
}

/// A ratio in thousandths.
pub(super) fn permille(text: &str) -> Result<u32, &'static str> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok((ratio * 1_000.0).round() as u32),
        Ok(_) | Err(_) => Err("write a number from 0 to 1, in thousandths at the finest"),
    }
}

pub(super) fn transport(text: &str) -> Result<Option<Transport>, &'static str> {
    match text {
        "in-process" => Ok(Some(Transport::InProcess)),
        "loopback" => Ok(Some(Transport::Loopback)),
        _ => Err("write in-process or loopback"),
    }
}

pub(super) fn readers(text: &str) -> Result<Readers, &'static str> {
    match text {
        "fan-out" => Ok(Readers::FanOut),
        "polling" => Ok(Readers::Polling),
        _ => Err("write fan-out or polling"),
    }
}

pub(super) fn key_hash(text: &str) -> Result<KeyHash, &'static str> {
    match text {
        "md5" => Ok(KeyHash::Md5),
        "xxh3" => Ok(KeyHash::Xxh3),
        _ => Err("write md5 or xxh3"),
    }
}

pub(super) fn on_demand(text: &str) -> Result<bool, &'static str> {
    match text {
        "on-demand" => Ok(true),
        "provisioned" => Ok(false),
        _ => Err("write provisioned or on-demand"),
    }
}

/// A time of at most a second, or a full second.
pub(super) fn credit(text: &str) -> Result<Span, &'static str> {
    const REMEDY: &str = "write a time of at most 1s, for example 20ms, or full";
    if text == "full" {
        return Ok(FULL_CREDIT);
    }
    span(text).map_err(|_| REMEDY).and_then(|span| if span <= FULL_CREDIT { Ok(span) } else { Err(REMEDY) })
}

pub(super) fn positive_span(text: &str) -> Result<Span, &'static str> {
    match span(text)? {
        Span::ZERO => Err("write a time above zero"),
        span => Ok(span),
    }
}

pub(super) fn isolation(text: &str) -> Result<Option<Isolation>, &'static str> {
    match text {
        "read-uncommitted" => Ok(Some(Isolation::ReadUncommitted)),
        "read-committed" => Ok(Some(Isolation::ReadCommitted)),
        _ => Err("write read-uncommitted or read-committed"),
    }
}

pub(super) fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off"),
    }
}

pub(super) fn segment(text: &str) -> Result<u64, &'static str> {
    match bytes(text)? {
        size @ 0x1_0000..=0x4000_0000 => Ok(size),
        _ => Err("write a size from 64KiB to 1GiB"),
    }
}
