//! JSON events of an exact length: an object with the fields of an order, as many items as fit, and a note that fills
//! what is left.
//!
//! Leaves out meaning: no consumer reads the fields. Any length gives valid JSON (0 bytes give none).

use super::payload::choose;
use super::stream::Draws;

const TYPES: [&str; 6] = ["created", "paid", "packed", "shipped", "returned", "cancelled"];
const PLACES: [&str; 8] = ["berlin", "lisbon", "nairobi", "osaka", "quito", "seattle", "sydney", "tromso"];
const WORDS: [&str; 16] = [
    "leave ", "at ", "the ", "door ", "ring ", "twice ", "fragile ", "gift ", "wrap ", "call ", "before ", "noon ",
    "side ", "gate ", "keep ", "dry ",
];
const NOTE: &[u8] = b",\"note\":\"";

/// Appends exactly `length` bytes of JSON.
pub(crate) fn event(seed: Draws, key: u64, position: u64, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    head(seed, key, position, out);
    // `]}` ends the smallest object; one that does not fit gives way to the shortest JSON of that length.
    if out.len() + 2 > end {
        out.truncate(end - length);
        return shortest(length, out);
    }
    // Room for the items, `]}` kept free; the first item has no comma.
    let room = end - out.len() - 2;
    for i in 0..(room + 1) / ITEM.len() {
        let item = item(seed.draw(1 + i as u64));
        out.extend_from_slice(&item[usize::from(i == 0)..]);
    }
    out.push(b']');
    let left = end - out.len() - 1;
    match left.checked_sub(NOTE.len() + 1) {
        Some(room) => {
            out.extend_from_slice(NOTE);
            words(Draws(seed.draw(1 << 20)), room, out);
            out.push(b'"');
        }
        None => out.resize(end - 1, b' '),
    }
    out.push(b'}');
}

fn head(seed: Draws, key: u64, position: u64, out: &mut Vec<u8>) {
    let bits = seed.draw(0);
    out.extend_from_slice(b"{\"type\":\"order-");
    out.extend_from_slice(choose(bits, &TYPES).as_bytes());
    out.extend_from_slice(b"\",\"id\":");
    decimal(position, out);
    out.extend_from_slice(b",\"customer\":");
    decimal(key, out);
    out.extend_from_slice(b",\"place\":\"");
    out.extend_from_slice(choose(bits.rotate_left(32), &PLACES).as_bytes());
    out.extend_from_slice(b"\",\"items\":[");
}

/// An item has fixed places for its digits: one copy, then nine digits. A comma comes first; the list's first item goes
/// without.
const ITEM: &[u8; 42] = b",{\"sku\":100000,\"quantity\":1,\"cents\":10000}";

fn item(bits: u64) -> [u8; ITEM.len()] {
    let mut item = *ITEM;
    let digits = eight_digits(bits);
    // The leading digits stay: JSON has no number that begins with a zero.
    item[9..14].copy_from_slice(&digits[..5]);
    item[38..41].copy_from_slice(&digits[5..]);
    item[26] = b'1' + (bits >> 61) as u8;
    item
}

/// Eight decimal digits, each out of one random byte, all at once: a byte times ten has its digit above the byte.
fn eight_digits(bits: u64) -> [u8; 8] {
    const BYTES: u64 = 0x00FF_00FF_00FF_00FF;
    const DIGITS: u64 = 0x000F_000F_000F_000F;
    let even = (((bits & BYTES) * 10) >> 8) & DIGITS;
    let odd = ((((bits >> 8) & BYTES) * 10) >> 8) & DIGITS;
    ((even | (odd << 8)) + 0x3030_3030_3030_3030).to_le_bytes()
}

/// Exactly `length` bytes of words; a last one is cut.
fn words(seed: Draws, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    let mut bits = 0;
    let mut taken = 0;
    while out.len() < end {
        if taken % 16 == 0 {
            bits = seed.draw(taken / 16);
        }
        out.extend_from_slice(WORDS[(bits >> (taken % 16 * 4) & 15) as usize].as_bytes());
        taken += 1;
    }
    out.truncate(end);
}

fn shortest(length: usize, out: &mut Vec<u8>) {
    match length {
        0 => {}
        1 => out.push(b'0'),
        _ => {
            out.push(b'{');
            out.resize(out.len() + length - 2, b' ');
            out.push(b'}');
        }
    }
}

fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gives_valid_json_of_that_length() {
        for length in 0..700 {
            let mut out = b"before".to_vec();
            event(Draws(length as u64), 42, 7, length, &mut out);
            assert_eq!(out.len(), 6 + length);
            if length > 0 {
                serde_json::from_slice::<serde_json::Value>(&out[6..]).unwrap();
            }
        }
    }

    #[test]
    fn an_event_of_usual_length_holds_key_items_and_note() {
        let mut out = Vec::new();
        event(Draws(1), 4711, 99, 400, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["customer"], 4711);
        assert_eq!(value["id"], 99);
        assert!(value["items"].as_array().unwrap().len() >= 3);
    }
}
