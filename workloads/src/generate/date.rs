//! Dates of a trace's column of times: `2001-01-01T06:55:00.5Z`, `2001/01/01 06:55`, `…+02:00`.
//!
//! Leaves out time zones by name and leap seconds: a trace needs differences of times.

/// Nanoseconds since 1970-01-01 UTC, or `None` when the text is no such date.
pub(crate) fn parse_date(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let separator = *bytes.get(4)?;
    if !matches!(separator, b'-' | b'/') || *bytes.get(7)? != separator {
        return None;
    }
    let date = civil(number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?)?;
    let Some(rest) = text.get(10..).filter(|r| !r.is_empty()) else { return Some(seconds(date) * 1_000_000_000) };
    let clock = rest.strip_prefix(['T', ' '])?;
    let (clock, offset) = split_offset(clock)?;
    let hour = number(clock, 0, 2)?;
    let minute = clock.get(2..3).filter(|c| *c == ":").and_then(|_| number(clock, 3, 5))?;
    let (second, fraction) = match clock.get(5..) {
        None | Some("") => (0, 0),
        Some(tail) => {
            let tail = tail.strip_prefix(':')?;
            let (whole, fraction) = tail.split_once('.').unwrap_or((tail, ""));
            (number(whole, 0, whole.len()).filter(|_| whole.len() == 2)?, nanoseconds(fraction)?)
        }
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let total = seconds(date) + i128::from(hour * 3600 + minute * 60 + second) - offset;
    Some(total * 1_000_000_000 + fraction)
}

fn seconds(days: i64) -> i128 {
    i128::from(days) * 86_400
}

/// The part before the offset, and the offset in seconds.
fn split_offset(clock: &str) -> Option<(&str, i128)> {
    if let Some(rest) = clock.strip_suffix('Z') {
        return Some((rest, 0));
    }
    let Some(at) = clock.find(['+', '-']) else { return Some((clock, 0)) };
    let (before, offset) = clock.split_at(at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let hours = number(hours, 0, hours.len()).filter(|h| *h < 24)?;
    let minutes = number(minutes, 0, minutes.len()).filter(|m| *m < 60)?;
    let size = i128::from(hours * 3600 + minutes * 60);
    Some((before, if offset.starts_with('-') { -size } else { size }))
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let part = text.get(from..to).filter(|p| !p.is_empty() && p.len() < 10)?;
    part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
}

fn nanoseconds(fraction: &str) -> Option<i128> {
    let kept = fraction.get(..fraction.len().min(9))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{kept:0<9}").parse().ok()
}

/// Days since 1970-01-01 in the Gregorian calendar (after Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    #[test]
    fn known_dates_have_their_known_seconds() {
        assert_eq!(parse_date("1970-01-01"), Some(0));
        assert_eq!(parse_date("2001/01/01 06:55"), Some(978_332_100 * SECOND));
        assert_eq!(parse_date("2001-09-09T01:46:40Z"), Some(SECOND * SECOND));
        assert_eq!(parse_date("2001-09-09T03:46:40.25+02:00"), Some(SECOND * SECOND + SECOND / 4));
        assert_eq!(parse_date("1969-12-31T23:59:59"), Some(-SECOND));
        assert_eq!(parse_date("2000-02-29"), Some(951_782_400 * SECOND));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in
            ["", "2001", "2001-13-01", "2001-02-29", "2001-01-01T25:00", "2001-01-01X", "2001-01/01", "é001-01-01"]
        {
            assert_eq!(parse_date(text), None, "{text}");
        }
        for text in ["2001-01-01T06:5", "2001-01-01T06:55:1", "2001-01-01T06:55:00+2", "2001-01-01T06:55:00.x"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
