//! Any bytes as the value of a header field: what is not a visible character of ASCII, and `%`, is written as `%` and two digits (RFC 3986).
//!
//! Leaves out which fields are written so.

/// Appends `bytes`.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// What a field's value stands for: the value itself where nothing in it is written by digits, else put into `room`, which is emptied
/// first. None where a `%` has not two digits behind it.
pub fn decoded<'a>(value: &'a [u8], room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if !value.contains(&b'%') {
        return Some(value);
    }
    room.clear();
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(*bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            room.push((high << 4 | low) as u8);
        } else {
            room.push(byte);
        }
    }
    Some(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        let (mut out, mut room) = (Vec::new(), Vec::new());
        put(&mut out, &all);
        assert!(out.iter().all(u8::is_ascii_graphic));
        assert_eq!(decoded(&out, &mut room), Some(&all[..]));
        assert_eq!(decoded(b"plain", &mut room), Some(&b"plain"[..]));
        for broken in ["%", "%4", "%4g", "a%", "%%41", "%+1"] {
            assert_eq!(decoded(broken.as_bytes(), &mut room), None, "{broken}");
        }
    }
}
