//! A service's answers: how a request ended, that callers are held back, and what was wrong with a request.
//!
//! A request that has to wait for room is told of by an interim answer, 102, which clients of HTTP that don't know it pass over. Leaves
//! out requests, which are in `request`.

use std::io::Write as _;

use brokerlab_model::{Blocked, LaneId, Span, Status};

use super::{FIELDS, HttpError, WHY_BYTES, closes, field, head, number, status};

/// How a request ended, to be written.
#[derive(Clone, Copy, Debug)]
pub(in crate::loopback) struct Ended<'a> {
    /// How.
    pub(in crate::loopback) status: Status,
    /// Whether it is stored and the work is not done yet.
    pub(in crate::loopback) accepted: bool,
    /// Where it was stored, if it was.
    pub(in crate::loopback) place: Option<(LaneId, u64)>,
    /// Why what stands behind it is not taken.
    pub(in crate::loopback) held: Option<Blocked>,
    /// After how long the same again may succeed.
    pub(in crate::loopback) retry_after: Span,
    /// More about it, in words.
    pub(in crate::loopback) why: &'a str,
    /// Whether it is the last answer.
    pub(in crate::loopback) last: bool,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The oldest request that is not answered waits, and why; or does not wait any more.
    Held(Option<Blocked>),
    /// The oldest request that is not answered ended.
    Ended {
        /// How.
        status: Status,
        /// Its endpoint, if it was stored.
        lane: LaneId,
        /// Its number there.
        position: u64,
        /// Why what stands behind it is not taken.
        held: Option<Blocked>,
        /// More about it, in words.
        why: &'a str,
    },
    /// The request was none: its status, and what is wrong with it. Nothing comes after.
    Broken(u16, &'a str),
}

/// Appends the answer to a request that ended.
pub(in crate::loopback) fn put_answer(out: &mut Vec<u8>, ended: &Ended<'_>) {
    let Ended { status, accepted, place, held, retry_after, why, last } = *ended;
    let (code, words) = status::line(status, accepted);
    let mut say = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("memory takes it");
    say(format_args!("HTTP/1.1 {code} {words}\r\n"));
    if let Some((lane, position)) = place {
        say(format_args!("endpoint: {}\r\nposition: {position}\r\n", lane.0));
    }
    if status != Status::Done {
        say(format_args!("outcome: {}\r\n", status::word(status)));
    }
    if status::may_retry(status) {
        say(format_args!("retry-after: {}\r\n", retry_after.0.div_ceil(1_000_000_000)));
    }
    if held.is_some() {
        say(format_args!("held: {}\r\n", status::hold_word(held)));
    }
    put_end(out, why, last);
}

/// Appends the interim answer that the oldest request waits, or does not wait any more.
pub(in crate::loopback) fn put_held(out: &mut Vec<u8>, held: Option<Blocked>) {
    write!(out, "HTTP/1.1 102 Processing\r\nheld: {}\r\n\r\n", status::hold_word(held)).expect("memory takes it");
}

/// Appends the answer to a request that was none.
pub(in crate::loopback) fn put_broken(out: &mut Vec<u8>, error: HttpError) {
    let (code, words) = error.code();
    let allow = if error == HttpError::Method { "allow: POST\r\n" } else { "" };
    write!(out, "HTTP/1.1 {code} {words}\r\n{allow}").expect("memory takes it");
    put_end(out, &error.to_string(), true);
}

/// The end of a head, and a text as the body.
fn put_end(out: &mut Vec<u8>, why: &str, last: bool) {
    let mut end = why.len().min(WHY_BYTES);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    let why = &why[..end];
    let connection = if last { "connection: close\r\n" } else { "" };
    let content = if why.is_empty() { "" } else { "content-type: text/plain; charset=utf-8\r\n" };
    write!(out, "{connection}{content}content-length: {}\r\n\r\n{why}", why.len()).expect("memory takes it");
}

/// Reads the answer at the front of `input` once all of it is there, with its length.
pub fn read_answer(input: &[u8]) -> Result<Option<(Answer<'_>, usize)>, HttpError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(input);
    let Some(begin) = head(parsed, input)? else { return Ok(None) };
    let fields = &*response.headers;
    if response.version != Some(1) {
        return Err(HttpError::Version);
    }
    let code = response.code.unwrap_or_default();
    let held = field(fields, "held")?.map_or(Ok(None), status::read_hold)?;
    if code == 102 {
        return Ok(Some((Answer::Held(held), begin)));
    }
    let len = number(fields, "content-length")?.ok_or(HttpError::NoLength)?;
    let fits = usize::try_from(len).ok().filter(|&len| len <= WHY_BYTES);
    let len = fits.ok_or(HttpError::LongBody(len, WHY_BYTES))?;
    let Some(why) = input[begin..].get(..len) else { return Ok(None) };
    let why = std::str::from_utf8(why).map_err(|_| HttpError::Field("content-type"))?;
    let outcome = field(fields, "outcome")?;
    if outcome.is_none() && code >= 400 && closes(fields) {
        return Ok(Some((Answer::Broken(code, why), begin + len)));
    }
    let status = status::read(code, outcome)?;
    let lane = number(fields, "endpoint")?.unwrap_or_default();
    let lane = LaneId(u32::try_from(lane).map_err(|_| HttpError::Field("endpoint"))?);
    let position = number(fields, "position")?.unwrap_or_default();
    Ok(Some((Answer::Ended { status, lane, position, held, why }, begin + len)))
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Failure, Refusal};

    use super::*;

    fn ended(status: Status) -> Ended<'static> {
        let (place, held, retry_after) = (Some((LaneId(3), 1 << 50)), None, Span::from_millis(1_001));
        Ended { status, accepted: true, place, held, retry_after, why: "", last: false }
    }

    fn written(ended: &Ended<'_>) -> String {
        let mut out = Vec::new();
        put_answer(&mut out, ended);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_a_few_lines_of_text() {
        let stored = "HTTP/1.1 202 Accepted\r\nendpoint: 3\r\nposition: 1125899906842624\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(written(&ended(Status::Done)), stored);
        let failed = Ended { place: None, last: true, ..ended(Status::Failed(Failure::NoReceiver)) };
        assert_eq!(
            written(&failed),
            "HTTP/1.1 503 Service Unavailable\r\noutcome: no-receiver\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let late = Ended { place: None, ..ended(Status::Failed(Failure::Timeout)) };
        assert_eq!(written(&late), "HTTP/1.1 504 Gateway Timeout\r\noutcome: timeout\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn answers_are_read_back_and_never_before_they_are_whole() {
        let mut out = Vec::new();
        put_held(&mut out, Some(Blocked::Memory));
        put_held(&mut out, None);
        put_answer(&mut out, &ended(Status::Done));
        put_answer(&mut out, &Ended { held: Some(Blocked::Receivers), ..ended(Status::Unknown) });
        put_answer(&mut out, &Ended { why: "ä", last: true, ..ended(Status::Refused(Refusal::Closed)) });
        put_broken(&mut out, HttpError::Method);
        let place = (LaneId(3), 1 << 50);
        let end = |status, held, why| Answer::Ended { status, lane: place.0, position: place.1, held, why };
        let due = [
            Answer::Held(Some(Blocked::Memory)),
            Answer::Held(None),
            end(Status::Done, None, ""),
            end(Status::Unknown, Some(Blocked::Receivers), ""),
            end(Status::Refused(Refusal::Closed), None, "ä"),
            Answer::Broken(405, "the method is not POST, the only one here"),
        ];
        let mut rest = &out[..];
        for answer in due {
            let (read, len) = read_answer(rest).unwrap().unwrap();
            assert_eq!(read, answer);
            assert!((0..len).all(|cut| read_answer(&rest[..cut]) == Ok(None)), "a part is none");
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn an_answer_that_can_t_be_is_told_by_its_name() {
        for (answer, error) in [
            ("200 OK\r\n", HttpError::NoLength),
            ("200 OK\r\ncontent-length: 5000\r\n", HttpError::LongBody(5_000, WHY_BYTES)),
            ("404 Not Found\r\ncontent-length: 0\r\n", HttpError::Status(404)),
            ("404 Not Found\r\noutcome: timeout\r\ncontent-length: 0\r\n", HttpError::Status(404)),
            ("301 Moved\r\ncontent-length: 0\r\n", HttpError::Status(301)),
            ("200 OK\r\nheld: up\r\ncontent-length: 0\r\n", HttpError::Field("held")),
            ("200 OK\r\nendpoint: 4294967296\r\ncontent-length: 0\r\n", HttpError::Field("endpoint")),
        ] {
            assert_eq!(read_answer(format!("HTTP/1.1 {answer}\r\n").as_bytes()), Err(error), "{answer}");
        }
    }
}
