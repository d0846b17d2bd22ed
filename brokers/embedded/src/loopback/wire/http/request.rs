//! A caller's requests: written by this crate's client, read from any.
//!
//! Leaves out answers, which are in `answer`.

use std::io::Write as _;

use brokerlab_model::{ChannelId, Span};

use super::{FIELDS, HttpError, PART_BYTES, closes, field, head, number, percent};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A message to this channel: `/7`.
    Channel(ChannelId),
    /// To be answered when everything before it is: `/flush`.
    Flush,
    /// The caller's end: `/close`.
    Close,
    /// The first request of a caller who means one backend and no other: `/open`.
    Open(Meant<'a>),
}

/// Which backend a caller means, as it stands in the fields: percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meant<'a> {
    /// Its name with its parameters.
    pub backend: &'a [u8],
    /// The contract, in words.
    pub contract: &'a [u8],
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post<'a> {
    /// What for.
    pub target: Target<'a>,
    /// The message's key, percent-encoded where it was read, and as it is where it is to be written.
    pub key: &'a [u8],
    /// The message's headers.
    pub headers: &'a [u8],
    /// The message's payload.
    pub payload: &'a [u8],
    /// How long the caller waits for the service to take it, in whole milliseconds; for any time when there is none.
    pub timeout: Option<Span>,
    /// Whether it is the last one of its connection.
    pub last: bool,
}

impl<'a> Post<'a> {
    /// A request without a message.
    pub(in crate::loopback) fn bare(target: Target<'a>) -> Self {
        Self { target, key: b"", headers: b"", payload: b"", timeout: None, last: false }
    }
}

/// Whether a connection's first bytes are a request's, of whatever method: no first frame begins so.
pub fn begins(input: &[u8]) -> bool {
    input
        .first_chunk::<4>()
        .is_some_and(|bytes| bytes.iter().all(|&byte| byte.is_ascii_uppercase() || byte == b' ') && bytes[0] != b' ')
}

/// Appends a request. What is in `Meant` is encoded here.
pub(in crate::loopback) fn put_post(out: &mut Vec<u8>, post: &Post<'_>) {
    let Post { target, key, headers, payload, timeout, last } = post;
    let say = |out: &mut Vec<u8>, text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("memory takes it");
    match target {
        Target::Channel(channel) => say(out, format_args!("POST /{}", channel.0)),
        Target::Flush => out.extend_from_slice(b"POST /flush"),
        Target::Close => out.extend_from_slice(b"POST /close"),
        Target::Open(_) => out.extend_from_slice(b"POST /open"),
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    if let Target::Open(Meant { backend, contract }) = target {
        put_coded(out, b"backend: ", backend);
        put_coded(out, b"contract: ", contract);
    }
    if !key.is_empty() {
        put_coded(out, b"key: ", key);
    }
    if !headers.is_empty() {
        say(out, format_args!("headers-length: {}\r\n", headers.len()));
    }
    if let Some(timeout) = timeout {
        say(out, format_args!("timeout-ms: {}\r\n", timeout.0.div_ceil(1_000_000)));
    }
    if *last {
        out.extend_from_slice(b"connection: close\r\n");
    }
    say(out, format_args!("content-length: {}\r\n\r\n", headers.len() + payload.len()));
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
}

fn put_coded(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    percent::put(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Reads the request at the front of `input` once all of it is there, with its length. Its body may have `longest` bytes.
pub fn read_post(input: &[u8], longest: usize) -> Result<Option<(Post<'_>, usize)>, HttpError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(input);
    let Some(head) = head(parsed, input)? else { return Ok(None) };
    let fields = &*request.headers;
    if request.version != Some(1) {
        return Err(HttpError::Version);
    }
    if request.method != Some("POST") {
        return Err(HttpError::Method);
    }
    if fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count() != 1 {
        return Err(HttpError::Host);
    }
    if field(fields, "transfer-encoding")?.is_some() {
        return Err(HttpError::Coding);
    }
    let len = number(fields, "content-length")?.ok_or(HttpError::NoLength)?;
    let fits = usize::try_from(len).ok().filter(|&len| len <= longest);
    let len = fits.ok_or(HttpError::LongBody(len, longest))?;
    if field(fields, "expect")?.is_some() {
        return Err(HttpError::Expect);
    }
    let target = target(request.path.unwrap_or_default(), fields)?;
    let key = field(fields, "key")?.unwrap_or_default();
    if key.len() > 3 * PART_BYTES {
        return Err(HttpError::Field("key"));
    }
    let headers = number(fields, "headers-length")?.unwrap_or_default();
    let headers = usize::try_from(headers).ok().filter(|&headers| headers <= len.min(PART_BYTES));
    let headers = headers.ok_or(HttpError::Field("headers-length"))?;
    let timeout = number(fields, "timeout-ms")?.map(|ms| Span(ms.saturating_mul(1_000_000)));
    let Some(body) = input[head..].get(..len) else { return Ok(None) };
    let (headers, payload) = body.split_at(headers);
    Ok(Some((Post { target, key, headers, payload, timeout, last: closes(fields) }, head + len)))
}

fn target<'a>(path: &str, fields: &[httparse::Header<'a>]) -> Result<Target<'a>, HttpError> {
    match path {
        "/flush" => Ok(Target::Flush),
        "/close" => Ok(Target::Close),
        "/open" => {
            let backend = field(fields, "backend")?.ok_or(HttpError::Field("backend"))?;
            let contract = field(fields, "contract")?.ok_or(HttpError::Field("contract"))?;
            Ok(Target::Open(Meant { backend, contract }))
        }
        path => {
            let number = path.strip_prefix('/').filter(|path| path.bytes().all(|byte| byte.is_ascii_digit()));
            let number = number.and_then(|path| path.parse().ok()).ok_or(HttpError::Path)?;
            Ok(Target::Channel(ChannelId(number)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_back_one_after_the_other_and_never_before_they_are_whole() {
        let message = Post {
            key: b"k1",
            headers: b"head",
            payload: b"\r\n\r\nPOST",
            timeout: Some(Span::from_millis(1_500)),
            ..Post::bare(Target::Channel(ChannelId(7)))
        };
        let meant = Meant { backend: b"direct?window=5", contract: b"memory" };
        let posts = [
            message,
            Post::bare(Target::Channel(ChannelId(u32::MAX))),
            Post::bare(Target::Flush),
            Post::bare(Target::Open(meant)),
            Post { last: true, ..Post::bare(Target::Close) },
        ];
        let mut out = Vec::new();
        for post in &posts {
            put_post(&mut out, post);
        }
        assert!(begins(&out) && !begins(&out[..3]) && !begins(&[25, 0, 0, 0, 1]));
        let mut rest = &out[..];
        for post in posts {
            let (read, len) = read_post(rest, 100).unwrap().unwrap();
            assert_eq!(read, post);
            assert!((0..len).all(|cut| read_post(&rest[..cut], 100) == Ok(None)), "a part is none");
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn the_longest_key_of_any_bytes_has_room() {
        let (key, mut out, mut room) = (vec![0; PART_BYTES], Vec::new(), Vec::new());
        put_post(&mut out, &Post { key: &key, ..Post::bare(Target::Channel(ChannelId(0))) });
        let (read, _) = read_post(&out, 0).unwrap().unwrap();
        assert_eq!(percent::decoded(read.key, &mut room), Some(&key[..]));
    }

    #[test]
    fn a_plain_client_s_request_is_a_payload() {
        let plain =
            b"POST /0 HTTP/1.1\r\nHost: a:1\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Length: 5\r\n\r\nhello";
        let (post, len) = read_post(plain, 5).unwrap().unwrap();
        assert_eq!((post, len), (Post { payload: b"hello", ..Post::bare(Target::Channel(ChannelId(0))) }, plain.len()));
    }

    #[test]
    fn what_can_t_be_is_told_by_its_name() {
        let field = HttpError::Field;
        for (line, fields, error) in [
            ("GET /0 HTTP/1.1", "host: a", HttpError::Method),
            ("POST /0 HTTP/1.0", "host: a", HttpError::Version),
            ("POST /0 HTTP/2.0", "host: a", HttpError::Version),
            ("POST /0 HTTP/1.1", "content-length: 0", HttpError::Host),
            ("POST /0 HTTP/1.1", "host: a\r\nhost: a\r\ncontent-length: 0", HttpError::Host),
            ("POST /0 HTTP/1.1", "host: a", HttpError::NoLength),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 101", HttpError::LongBody(101, 100)),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 1\r\ncontent-length: 1", field("content-length")),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: +1", field("content-length")),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 99999999999999999999", field("content-length")),
            ("POST /0 HTTP/1.1", "host: a\r\ntransfer-encoding: chunked", HttpError::Coding),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 1\r\nexpect: 100-continue", HttpError::Expect),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 1\r\nheaders-length: 2", field("headers-length")),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 0\r\ntimeout-ms: soon", field("timeout-ms")),
            ("POST /0 HTTP/1.1", "host: a\r\ncontent-length: 0\r\nkey: a\r\nkey: b", field("key")),
            ("POST /open HTTP/1.1", "host: a\r\ncontent-length: 0\r\nbackend: direct", field("contract")),
            ("POST /x HTTP/1.1", "host: a\r\ncontent-length: 0", HttpError::Path),
            ("POST /+1 HTTP/1.1", "host: a\r\ncontent-length: 0", HttpError::Path),
            ("POST /4294967296 HTTP/1.1", "host: a\r\ncontent-length: 0", HttpError::Path),
            ("POST /0 HTTP/1.1", "host : a", HttpError::Head(httparse::Error::HeaderName)),
        ] {
            let request = format!("{line}\r\n{fields}\r\n\r\n");
            assert_eq!(read_post(request.as_bytes(), 100), Err(error), "{request}");
            assert!(!error.to_string().is_empty() && (400..600).contains(&error.code().0));
        }
        let endless = [b"POST /0 HTTP/1.1\r\nkey: ", &vec![b'a'; super::super::HEAD_BYTES][..]].concat();
        assert_eq!(read_post(&endless, 100), Err(HttpError::LongHead));
        let many = format!("POST /0 HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
        assert_eq!(read_post(many.as_bytes(), 100), Err(HttpError::ManyFields));
    }
}
