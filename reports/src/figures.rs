//! How figures are written for people: three significant digits and a unit, the same in table, page and sentences.
//!
//! Leaves out what the figures mean.

/// Three significant digits, without an exponent: `1.23`, `12.3`, `123`.
fn three_digits(value: f64) -> String {
    let size = value.abs();
    if size >= 99.95 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Chooses the first unit in which the rounded value stays below 1,000.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let last = units.len() - 1;
    for (n, (size, unit)) in units.iter().enumerate() {
        let scaled = value / size;
        if scaled.abs() < 999.5 || n == last {
            return format!("{} {unit}", three_digits(scaled));
        }
    }
    String::new()
}

/// A length of time: `950 ns`, `1.23 ms`, `2.50 s`.
pub fn duration(ns: u64) -> String {
    duration_f64(ns as f64)
}

/// A length of time that was computed.
pub fn duration_f64(ns: f64) -> String {
    if ns.abs() < 999.5 {
        return format!("{ns:.0} ns");
    }
    scaled(ns, &[(1e3, "µs"), (1e6, "ms"), (1e9, "s")])
}

/// A rate: `950 /s`, `20.0 k/s`, `1.53 M/s`.
pub fn rate(per_s: f64) -> String {
    if per_s.abs() < 999.5 {
        return format!("{} /s", if per_s.abs() < 1e-9 { "0".to_owned() } else { three_digits(per_s) });
    }
    scaled(per_s, &[(1e3, "k/s"), (1e6, "M/s")])
}

/// A size in bytes, decimal: `512 B`, `1.50 kB`.
pub fn bytes(count: f64) -> String {
    if count.abs() < 999.5 {
        return if count.fract().abs() < 1e-9 { format!("{count:.0} B") } else { format!("{} B", three_digits(count)) };
    }
    scaled(count, &[(1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")])
}

/// Drops zeros after the point: `20 k/s` for `20.0 k/s`.
pub fn trimmed(figure: &str) -> String {
    match figure.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        Some(_) | None => figure.to_owned(),
    }
}

/// A size without zeros after the point: `1 MB`.
pub fn bytes_short(count: f64) -> String {
    trimmed(&bytes(count))
}

/// A whole number with thousands separated: `10,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number per message: three digits, `0` for nothing at all, more places when it is small.
pub fn per_message(value: f64) -> String {
    if value.abs() < 1e-12 {
        "0".to_owned()
    } else if value.abs() < 0.01 {
        format!("{value:.5}")
    } else {
        three_digits(value)
    }
}

/// A factor: `1.25×`.
pub fn factor(value: f64) -> String {
    if value.is_infinite() {
        return "∞×".to_owned();
    }
    let text = three_digits(value);
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{trimmed}×")
}

/// A share: `0.4 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A quantile's name: `p50`, `p99`, `p99.9`.
pub fn quantile_name(q: f64) -> String {
    let text = format!("{:.6}", q * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text in which no line ends between a number and its unit.
pub fn unbroken(text: &str) -> String {
    const UNITS: [&str; 16] =
        ["ns", "µs", "ms", "s", "/s", "k/s", "M/s", "B", "kB", "MB", "GB", "TB", "kB/s", "MB/s", "%", "shards"];
    let text = text.replace("1–2×", "1–\u{2060}2×").replace("2–10×", "2–\u{2060}10×");
    let mut out = String::with_capacity(text.len());
    let mut after_number = false;
    for word in text.split(' ') {
        let bare = word.trim_end_matches(['.', ',', ';', ':', ')']);
        if !out.is_empty() || after_number {
            let kept = (after_number && UNITS.contains(&bare))
                || matches!(out.chars().last(), Some('≤' | '≥' | '<' | '>' | '×'));
            out.push(if kept { '\u{a0}' } else { ' ' });
        }
        out.push_str(word);
        after_number = word.chars().last().is_some_and(|c| c.is_ascii_digit());
    }
    out
}

/// UTC of a time stamp, to the second.
pub fn utc(ns_since_1970: u64) -> String {
    let seconds = i64::try_from(ns_since_1970 / 1_000_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "unknown".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// `a`, `a and b`, `a, b and c`.
pub fn and_list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let head: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

/// `1 message`, `2 messages`.
pub fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(duration(950), "950 ns");
        assert_eq!(duration(1_234_000), "1.23 ms");
        assert_eq!(duration(999_600), "1.00 ms");
        assert_eq!(duration(2_500_000_000), "2.50 s");
        assert_eq!(duration(412_300), "412 µs");
        assert_eq!(rate(20_000.0), "20.0 k/s");
        assert_eq!(rate(950.0), "950 /s");
        assert_eq!(rate(1_534_000.0), "1.53 M/s");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1_500.0), "1.50 kB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(factor(1.25), "1.25×");
        assert_eq!(factor(10.0), "10×");
        assert_eq!(quantile_name(0.999), "p99.9");
        assert_eq!(quantile_name(0.5), "p50");
        assert_eq!(
            unbroken("at 1.23 ms, 20.0 k/s (≤ 5 ms) in 3 rows"),
            "at 1.23\u{a0}ms, 20.0\u{a0}k/s (≤\u{a0}5\u{a0}ms) in 3 rows"
        );
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(and_list(&["a", "b", "c"]), "a, b and c");
    }
}
