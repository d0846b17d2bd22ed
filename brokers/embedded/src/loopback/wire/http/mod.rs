//! HTTP/1.1 (RFC 9112) between a caller of `direct` and its service: one POST a message, kept alive and pipelined, answered in order by a
//! status.
//!
//! The path names the channel, the field `key` the key; the body is the payload, behind as many bytes of message headers as the field
//! `headers-length` says. Any client of HTTP can call: without those fields the body is the payload. What is read is held against bounds
//! of its head and body, and what can't be is answered by a status and a sentence that names it ([`HttpError`]). Leaves out sockets,
//! and the receivers' side, which is frames.

mod answer;
mod percent;
mod request;
mod status;

pub use answer::{Answer, read_answer};
pub(in crate::loopback) use answer::{Ended, put_answer, put_broken, put_held};
pub use percent::decoded;
pub(in crate::loopback) use request::put_post;
pub use request::{Meant, Post, Target, begins, read_post};

/// The longest head, of a request or an answer: a key of 64 KiB, each byte of which is written as three, and everything else.
pub const HEAD_BYTES: usize = 200 << 10;
/// The most fields of a head.
pub const FIELDS: usize = 32;
/// The longest key, and the longest headers of a message.
pub const PART_BYTES: usize = 0xffff;
/// The longest text in an answer.
pub const WHY_BYTES: usize = 4_096;

/// What a peer sent that can't be. A service answers a request like that with [`code`](Self::code) and this text, and ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The head is none.
    #[error("the head is none of HTTP/1.1: {0}")]
    Head(httparse::Error),
    /// The head does not end.
    #[error("the head has more than {HEAD_BYTES} bytes")]
    LongHead,
    /// More fields than are read.
    #[error("the head has more than {FIELDS} fields")]
    ManyFields,
    /// An older version.
    #[error("the version is none that is spoken here; take HTTP/1.1")]
    Version,
    /// Something else than POST.
    #[error("the method is not POST, the only one here")]
    Method,
    /// A path that names nothing.
    #[error("the path names nothing here; it is /CHANNEL, by the channel's number, or /flush or /close")]
    Path,
    /// Not one field `host`, as a request must have.
    #[error("the field host does not stand there once")]
    Host,
    /// A request without `content-length`.
    #[error("the field content-length is missing, which says how long the body is")]
    NoLength,
    /// A body longer than is taken.
    #[error("the body has {0} bytes, and {1} is the most")]
    LongBody(u64, usize),
    /// A body in pieces.
    #[error("the field transfer-encoding is not known here; say the body's length in content-length")]
    Coding,
    /// A request that waits to be asked for its body.
    #[error("the field expect is not known here; send the body with the head")]
    Expect,
    /// A field that stands there twice, or does not say what it should.
    #[error("the field {0} stands there twice, or holds what it can't")]
    Field(&'static str),
    /// An answer whose status is none that a service gives, or not its outcome's.
    #[error("the status {0} is none that a service gives with this outcome")]
    Status(u16),
}

impl HttpError {
    /// The status by which a service answers it, with its words.
    pub const fn code(self) -> (u16, &'static str) {
        match self {
            Self::Head(_) | Self::Host | Self::Field(_) | Self::Status(_) => (400, "Bad Request"),
            Self::Path => (404, "Not Found"),
            Self::Method => (405, "Method Not Allowed"),
            Self::NoLength => (411, "Length Required"),
            Self::LongBody(..) => (413, "Content Too Large"),
            Self::Expect => (417, "Expectation Failed"),
            Self::LongHead | Self::ManyFields => (431, "Request Header Fields Too Large"),
            Self::Coding => (501, "Not Implemented"),
            Self::Version => (505, "HTTP Version Not Supported"),
        }
    }
}

impl From<httparse::Error> for HttpError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::ManyFields,
            httparse::Error::Version => Self::Version,
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token => Self::Head(error),
        }
    }
}

/// The length of a head that was parsed; none while it has not ended.
fn head(parsed: httparse::Result<usize>, input: &[u8]) -> Result<Option<usize>, HttpError> {
    match parsed? {
        httparse::Status::Complete(head) if head <= HEAD_BYTES => Ok(Some(head)),
        httparse::Status::Partial if input.len() <= HEAD_BYTES => Ok(None),
        httparse::Status::Complete(_) | httparse::Status::Partial => Err(HttpError::LongHead),
    }
}

/// A field's value; it may not stand there twice.
fn field<'a>(fields: &[httparse::Header<'a>], name: &'static str) -> Result<Option<&'a [u8]>, HttpError> {
    let mut of_name = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    let value = of_name.next();
    if of_name.next().is_some() { Err(HttpError::Field(name)) } else { Ok(value) }
}

/// A field's decimal number. Digits only: a sign is none.
fn number(fields: &[httparse::Header<'_>], name: &'static str) -> Result<Option<u64>, HttpError> {
    let Some(value) = field(fields, name)? else { return Ok(None) };
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).map(Some).ok_or(HttpError::Field(name))
}

/// Whether the field `connection` asks for the connection's end.
fn closes(fields: &[httparse::Header<'_>]) -> bool {
    let of_name = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    of_name.flat_map(|field| field.value.split(|&byte| byte == b',')).any(|option| {
        let option = option.trim_ascii();
        option.eq_ignore_ascii_case(b"close")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of requests and answers, so that most of what is drawn is nearly one.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let known = proptest::sample::select(vec![
            "POST /0 HTTP/1.1\r\n",
            "POST /open HTTP/1.1\r\n",
            "HTTP/1.1 202 Accepted\r\n",
            "HTTP/1.1 429 Too Many Requests\r\n",
            "HTTP/1.1 102 Processing\r\n",
            "host: a\r\n",
            "key: %61\r\n",
            "content-length: 3\r\n",
            "headers-length: 2\r\n",
            "outcome: overloaded\r\n",
            "held: memory\r\n",
            "\r\n",
            "abc",
        ]);
        prop_oneof![6 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => any::<Vec<u8>>()]
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_within_its_bounds_or_is_an_error(pieces in prop::collection::vec(piece(), 0..12)) {
            let bytes = pieces.concat();
            let mut room = Vec::new();
            if let Ok(Some((post, len))) = read_post(&bytes, 100) {
                prop_assert!(len <= bytes.len() && post.headers.len() + post.payload.len() <= 100);
                prop_assert!(decoded(post.key, &mut room).is_none_or(|key| key.len() <= post.key.len()));
            }
            if let Ok(Some((Answer::Ended { why, .. } | Answer::Broken(_, why), len))) = read_answer(&bytes) {
                prop_assert!(len <= bytes.len() && why.len() <= WHY_BYTES);
            }
        }
    }
}
