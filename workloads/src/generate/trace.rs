//! A recorded trace: when each message was due, and optionally its key and size. Read from CSV.
//!
//! Times are kept relative to the first, as recorded; the speed-up is applied where they are replayed. Leaves out
//! Parquet (`parquet`, behind its feature), which fills the same [`Rows`].

use std::collections::BTreeMap;
use std::ops::Range;

use brokerlab_model::Span;

use super::date::parse_date;
use crate::profile::ProfileError;
use crate::stamp::STAMP_LEN;

/// A trace in memory: 16 bytes a message and each key once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trace {
    /// Nanoseconds since the first message.
    pub(crate) times: Vec<u64>,
    /// Index into `names`; empty without a column of keys.
    pub(crate) keys: Vec<u32>,
    /// Every key once, in the order of its first message.
    pub(crate) names: Vec<String>,
    /// Bytes of each message; empty without a column of sizes.
    pub(crate) sizes: Vec<u32>,
}

impl Trace {
    /// Messages per second as recorded.
    pub(crate) fn mean_rate(&self) -> f64 {
        let length = self.times.last().copied().unwrap_or(0);
        // n messages span n - 1 gaps.
        (self.times.len() as f64 - 1.0) / Span(length.max(1)).as_secs_f64()
    }

    /// Mean bytes of a message, zero without a column of sizes.
    pub(crate) fn mean_size(&self) -> f64 {
        self.sizes.iter().map(|&s| f64::from(s)).sum::<f64>() / (self.sizes.len().max(1) as f64)
    }
}

/// Which columns to read and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) time: &'a str,
    pub(crate) unit: Span,
    pub(crate) key: Option<&'a str>,
    pub(crate) size: Option<&'a str>,
    /// Smaller sizes are raised to this.
    pub(crate) min_size: u32,
}

/// What is wrong with a row, before its place in the file is known.
#[derive(Debug)]
pub(crate) struct RowFault {
    pub(crate) column: Cell,
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
}

/// Which cell of a row is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Time,
    Size,
}

/// Collects rows into a trace and refuses the first that does not fit.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    trace: Trace,
    numbers: BTreeMap<String, u32>,
    first: Option<i128>,
    last: i128,
    min_size: u32,
}

impl Rows {
    pub(crate) fn new(min_size: u32) -> Self {
        Self { min_size, ..Self::default() }
    }

    /// Adds a row whose time is already in nanoseconds since some origin.
    pub(crate) fn push(&mut self, time: i128, key: Option<&str>, size: Option<&str>) -> Result<(), RowFault> {
        let fault = |column, message: String, remedy| Err(RowFault { column, message, remedy });
        let first = *self.first.get_or_insert(time);
        if self.first != Some(time) && time < self.last {
            let message = "this time is before the one above it".to_owned();
            return fault(Cell::Time, message, "sort the trace by time");
        }
        let Ok(relative) = u64::try_from(time - first) else {
            return fault(Cell::Time, "this time is before the first one".to_owned(), "sort the trace by time");
        };
        if relative > 1 << 61 {
            let message = "this time is more than seventy years after the first".to_owned();
            return fault(Cell::Time, message, "check `unit`, and the time itself");
        }
        if let Some(text) = size {
            match text.trim().parse::<u32>().map(|size| size.max(self.min_size)) {
                Ok(size) if size as usize >= STAMP_LEN && size <= 64 << 20 => self.trace.sizes.push(size),
                Ok(size) => {
                    let message = format!("a size of {size} bytes is not between the 32-byte stamp and 64 MiB");
                    let remedy = "write sizes = { kind = \"trace\", min = \"32B\" } to raise the smaller ones";
                    return fault(Cell::Size, message, remedy);
                }
                Err(_) => {
                    let message = format!("`{text}` is not a number of bytes");
                    return fault(Cell::Size, message, "write whole bytes without a unit");
                }
            }
        }
        if let Some(key) = key {
            let next = self.trace.names.len() as u32;
            let number = if let Some(&number) = self.numbers.get(key) {
                number
            } else {
                self.numbers.insert(key.to_owned(), next);
                self.trace.names.push(key.to_owned());
                next
            };
            self.trace.keys.push(number);
        }
        self.last = time;
        self.trace.times.push(relative);
        Ok(())
    }

    /// The trace; `Err` says what is wrong with all rows together.
    pub(crate) fn finish(self) -> Result<Trace, (&'static str, &'static str)> {
        match self.trace.times.as_slice() {
            [] => Err(("the trace holds no row", "record at least two messages")),
            [.., last] if *last == 0 => {
                Err(("all rows of the trace are at one time", "record messages at two times or more"))
            }
            [..] => Ok(self.trace),
        }
    }
}

/// Reads a number of `unit`s, or a date, as nanoseconds.
pub(crate) fn parse_time(text: &str, unit: Span) -> Option<i128> {
    let text = text.trim();
    if let Some(date) = parse_date(text) {
        return Some(date);
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || whole.len() > 18 {
        return None;
    }
    // Exact: a double would round nanoseconds of today's seconds since 1970.
    let mut ns = whole.parse::<i128>().ok()? * i128::from(unit.0);
    let kept = &fraction[..fraction.len().min(18)];
    if !kept.is_empty() {
        ns += kept.parse::<i128>().ok()? * i128::from(unit.0) / 10_i128.pow(kept.len() as u32);
    }
    Some(if negative { -ns } else { ns })
}

/// Reads a trace from CSV text; the first line names the columns. `file` is how errors call it.
pub(crate) fn read_csv(text: &str, file: &str, columns: Columns<'_>) -> Result<Trace, ProfileError> {
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| csv_error(text, file, &e))?.clone();
    let position = |name: &str| {
        header.iter().position(|h| h.trim() == name).ok_or_else(|| {
            let known: Vec<&str> = header.iter().map(str::trim).collect();
            let end = text.find('\n').unwrap_or(text.len());
            let message = format!("there is no column `{name}`");
            let remedy = format!("name one of its columns in `arrivals`: {}", known.join(", "));
            ProfileError::at(file, text, 0..end, name, message, remedy)
        })
    };
    let time = position(columns.time)?;
    let key = columns.key.map(position).transpose()?;
    let size = columns.size.map(position).transpose()?;

    let mut rows = Rows::new(columns.min_size);
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|e| csv_error(text, file, &e))? {
        let cell = |i: Option<usize>| i.map(|i| record.get(i).unwrap_or_default());
        let raw = record.get(time).unwrap_or_default();
        let outcome = match parse_time(raw, columns.unit) {
            Some(ns) => rows.push(ns, cell(key), cell(size)),
            None => Err(RowFault {
                column: Cell::Time,
                message: format!("`{raw}` is not a time"),
                remedy: "write a number of `unit`s, or a date such as 2001-01-01T06:55:00Z",
            }),
        };
        outcome.map_err(|fault| {
            let (index, name) = match fault.column {
                Cell::Time => (time, columns.time),
                Cell::Size => (size.unwrap_or(time), columns.size.unwrap_or_default()),
            };
            ProfileError::at(file, text, cell_span(text, &record, index), name, fault.message, fault.remedy)
        })?;
    }
    rows.finish().map_err(|(message, remedy)| ProfileError::whole(file, message, remedy))
}

/// Where cell `index` of a record stands in the text.
fn cell_span(text: &str, record: &csv::StringRecord, index: usize) -> Range<usize> {
    let mut from = record.position().map_or(0, |p| p.byte() as usize).min(text.len());
    let mut span = from..from;
    for field in record.iter().take(index + 1) {
        let start = text[from..].find(field).map_or(from, |i| from + i);
        span = start..start + field.len();
        // Past the field and its comma; a quoted field has one character more, which the next search skips.
        from = (span.end + 1).min(text.len());
        while !text.is_char_boundary(from) {
            from += 1;
        }
    }
    span
}

fn csv_error(text: &str, file: &str, error: &csv::Error) -> ProfileError {
    let at = error.position().map_or(0, |p| p.byte() as usize).min(text.len());
    let at = text[at..].find(|c: char| c != '\n' && c != '\r').map_or(at, |i| at + i);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    let message = if let csv::ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() {
        format!("this row has {len} cells, the header has {expected_len}")
    } else {
        format!("this row is not CSV: {error}")
    };
    ProfileError::at(file, text, at..end, "", message, "give each row as many comma-separated cells as the header")
}
