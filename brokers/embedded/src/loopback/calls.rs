//! A caller's requests that are not answered yet, at the service: answers go out in the order of the requests, as HTTP/1.1 has it,
//! whatever order the engine ends them in.
//!
//! Leaves out the bytes, which are `wire::http`'s, and the engine.

use std::collections::VecDeque;

use brokerlab_model::{Batch, Blocked, Control, LaneId, Outcome, Publishes, Span, Status, Time, Token};

use super::client::{WINDOW, WINDOW_BYTES};
use super::wire::http::{
    Ended, HttpError, PART_BYTES, Post, Target, decoded, put_answer, put_broken, put_held, read_post,
};

/// What a service says of every answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// The longest body.
    pub(super) body: usize,
    /// Whether a message that is done is stored only, and its work is not.
    pub(super) accepts: bool,
    /// After how long what failed may succeed.
    pub(super) retry_after: Span,
}

/// A request that is not answered.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// When its caller gives up, unless the engine has taken it.
    until: Time,
    is_message: bool,
    ended: Option<Outcome>,
}

/// What is due to the engine, publishes and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    pub(super) publishes: usize,
    pub(super) bytes: u64,
}

impl Due {
    /// Whether it is within the window, where one message may have any size: then more is read, so that a close behind a full window is
    /// seen.
    fn has_room(self) -> bool {
        self.publishes <= WINDOW && (self.bytes <= WINDOW_BYTES || self.publishes <= 1)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Calls {
    service: Service,
    /// The token of the oldest request that is not answered.
    first: u64,
    waiting: VecDeque<Waiting>,
    held: Option<Blocked>,
    /// The reason why the caller is not let in, for the first answer.
    why: String,
    /// Whether no more requests are read.
    last: bool,
    /// What was wrong with the last one.
    broken: Option<HttpError>,
    /// Whether everything was answered, and nothing comes after.
    over: bool,
    key: Vec<u8>,
}

impl Calls {
    pub(super) fn new(service: Service) -> Self {
        Self {
            service,
            first: 0,
            waiting: VecDeque::new(),
            held: None,
            why: String::new(),
            last: false,
            broken: None,
            over: false,
            key: Vec::new(),
        }
    }

    /// The longest body.
    pub(super) fn body(&self) -> usize {
        self.service.body
    }

    /// Whether requests are read at all: those of the caller's window, with flushes and closes beside. A caller who has more of them
    /// under way finds them read later.
    pub(super) fn reads(&self, due: Due) -> bool {
        !self.last && self.waiting.len() < 2 * WINDOW && due.has_room()
    }

    /// Whether everything was answered, and nothing comes after.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Notes a request; its token.
    fn add(&mut self, until: Time, is_message: bool, ended: Option<Outcome>) -> Token {
        self.waiting.push_back(Waiting { until, is_message, ended });
        Token(self.first + self.waiting.len() as u64 - 1)
    }

    /// The first request asked whether this is what its caller means: it is answered by the reason why not, if there is one.
    pub(super) fn opened(&mut self, status: Status, why: String) {
        self.why = why;
        let token = Token(self.first);
        self.add(Time::NEVER, false, Some(Outcome { token, status, lane: LaneId::default(), position: 0 }));
    }

    /// A request is none: it is answered so behind everything before it, and nothing is read after.
    pub(super) fn refuse(&mut self, error: HttpError) {
        self.last = true;
        self.broken = Some(error);
    }

    /// Reads whole requests at the front of `input` into batches, in order, as many as have room behind what is `due`; returns how many
    /// bytes they were.
    pub(super) fn read(&mut self, now: Time, input: &[u8], due: &mut Due, batches: &mut VecDeque<Batch>) -> usize {
        let mut messages = Publishes::new();
        let mut done = 0;
        while self.reads(*due) {
            match read_post(&input[done..], self.service.body) {
                Ok(None) => break,
                Ok(Some((post, len))) => {
                    self.last = post.last;
                    if let Err(error) = self.take(now, &post, &mut messages, due, batches) {
                        self.refuse(error);
                        break;
                    }
                    done += len;
                }
                Err(error) => {
                    self.refuse(error);
                    break;
                }
            }
        }
        put_messages(&mut messages, batches);
        done
    }

    fn take(
        &mut self,
        now: Time,
        post: &Post<'_>,
        messages: &mut Publishes,
        due: &mut Due,
        batches: &mut VecDeque<Batch>,
    ) -> Result<(), HttpError> {
        let control = match post.target {
            Target::Channel(channel) => {
                let mut room = std::mem::take(&mut self.key);
                let until = post.timeout.map_or(Time::NEVER, |timeout| now + timeout);
                let key = decoded(post.key, &mut room).filter(|key| key.len() <= PART_BYTES);
                let key = key.ok_or(HttpError::Field("key"))?;
                messages.push(self.add(until, true, None), channel, key, post.headers, post.payload);
                due.publishes += 1;
                due.bytes += (key.len() + post.headers.len() + post.payload.len()) as u64;
                self.key = room;
                return Ok(());
            }
            Target::Flush => Control::Flush,
            Target::Close => Control::Close,
            // Only the first request is asked for that.
            Target::Open(_) => return Err(HttpError::Path),
        };
        put_messages(messages, batches);
        batches.push_back(Batch::Control(vec![(self.add(Time::NEVER, false, None), control)]));
        Ok(())
    }

    /// Whether the caller of a message has given up.
    pub(super) fn is_late(&self, token: Token, now: Time) -> bool {
        self.at(token).and_then(|at| self.waiting.get(at)).is_some_and(|waiting| waiting.until <= now)
    }

    fn at(&self, token: Token) -> Option<usize> {
        usize::try_from(token.0.checked_sub(self.first)?).ok()
    }

    /// Tells the caller why the engine does not take what was sent, or that it does again.
    pub(super) fn hold(&mut self, held: Option<Blocked>, out: &mut Vec<u8>) {
        self.held = held;
        if !self.waiting.is_empty() {
            put_held(out, held);
        }
    }

    /// Notes how requests ended.
    pub(super) fn end(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Some(waiting) = self.at(outcome.token).and_then(|at| self.waiting.get_mut(at)) {
                waiting.ended = Some(*outcome);
            }
        }
    }

    /// Writes the answers whose turn it is. Returns whether there were any.
    pub(super) fn answer(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while let Some(&Waiting { is_message, ended: Some(Outcome { status, lane, position, .. }), .. }) =
            self.waiting.front()
        {
            self.waiting.pop_front();
            self.first += 1;
            put_answer(
                out,
                &Ended {
                    status,
                    accepted: is_message && self.service.accepts,
                    place: (is_message && status == Status::Done).then_some((lane, position)),
                    held: self.held.filter(|_| !self.waiting.is_empty()),
                    retry_after: self.service.retry_after,
                    why: &std::mem::take(&mut self.why),
                    last: self.last && self.broken.is_none() && self.waiting.is_empty(),
                },
            );
        }
        if self.last && self.waiting.is_empty() && !self.over {
            self.over = true;
            if let Some(error) = self.broken {
                put_broken(out, error);
            }
        }
        out.len() > before
    }
}

fn put_messages(messages: &mut Publishes, batches: &mut VecDeque<Batch>) {
    if !messages.is_empty() {
        batches.push_back(Batch::Publish(std::mem::take(messages)));
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::ChannelId;

    use super::super::wire::http::{Answer, put_post, read_answer};
    use super::*;

    fn calls() -> Calls {
        Calls::new(Service { body: 100, accepts: true, retry_after: Span::from_secs(1) })
    }

    fn post(channel: u32) -> Post<'static> {
        Post { payload: b"p", ..Post::bare(Target::Channel(ChannelId(channel))) }
    }

    fn input(posts: &[Post<'_>]) -> Vec<u8> {
        let mut input = Vec::new();
        for post in posts {
            put_post(&mut input, post);
        }
        input
    }

    fn done(token: u64) -> Outcome {
        Outcome { token: Token(token), status: Status::Done, lane: LaneId(0), position: token }
    }

    #[test]
    fn answers_go_out_in_the_order_of_the_requests() {
        let mut input = input(&[post(0), post(1), Post::bare(Target::Flush), post(0)]);
        input.extend_from_slice(b"POST /0 HT");
        let (mut calls, mut due, mut batches) = (calls(), Due::default(), VecDeque::new());
        assert_eq!(calls.read(Time(1), &input, &mut due, &mut batches), input.len() - 10);
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!((due.publishes, due.bytes), (3, 3));
        let mut out = Vec::new();
        calls.end(&[done(1), done(3), done(u64::MAX)]);
        assert!(!calls.answer(&mut out), "the first one comes first");
        calls.end(&[done(0), done(2)]);
        assert!(calls.answer(&mut out) && !calls.is_over());
        let (mut rest, mut positions) = (&out[..], Vec::new());
        while let Ok(Some((Answer::Ended { position, .. }, len))) = read_answer(rest) {
            positions.push(position);
            rest = &rest[len..];
        }
        assert_eq!((positions, rest.len()), (vec![0, 1, 0, 3], 0), "a flush is nowhere");
    }

    #[test]
    fn more_than_the_window_is_read_when_there_is_room() {
        let input = input(&vec![post(0); WINDOW + 10]);
        let (mut calls, mut due, mut batches) = (calls(), Due::default(), VecDeque::new());
        let taken = calls.read(Time(1), &input, &mut due, &mut batches);
        assert_eq!((due.publishes, batches.len()), (WINDOW + 1, 1));
        assert!(!calls.reads(due));
        assert_eq!(calls.read(Time(1), &input[taken..], &mut Due::default(), &mut batches), input.len() - taken);
    }

    #[test]
    fn what_is_wrong_is_told_behind_the_answers_before_it() {
        let mut input = input(&[post(0)]);
        input.extend_from_slice(b"GET /0 HTTP/1.1\r\nhost: a\r\n\r\n");
        let (mut calls, mut due, mut batches, mut out) = (calls(), Due::default(), VecDeque::new(), Vec::new());
        calls.read(Time(1), &input, &mut due, &mut batches);
        assert!(!calls.answer(&mut out) && !calls.reads(due));
        calls.end(&[done(0)]);
        assert!(calls.answer(&mut out) && calls.is_over() && !calls.answer(&mut out));
        let text = String::from_utf8(out).unwrap();
        let second =
            text.strip_prefix("HTTP/1.1 202 Accepted\r\nendpoint: 0\r\nposition: 0\r\ncontent-length: 0\r\n\r\n");
        assert!(second.unwrap().starts_with("HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\nconnection: close\r\n"));
    }

    #[test]
    fn a_key_that_can_t_be_is_an_error_and_the_last_request_says_so() {
        let broken = b"POST /0 HTTP/1.1\r\nhost: a\r\nkey: %zz\r\ncontent-length: 0\r\n\r\n";
        let (mut first, mut due, mut batches, mut out) = (calls(), Due::default(), VecDeque::new(), Vec::new());
        first.read(Time(1), broken, &mut due, &mut batches);
        assert!(batches.is_empty() && first.answer(&mut out));
        assert!(String::from_utf8(out).unwrap().ends_with("the field key stands there twice, or holds what it can't"));
        let (mut second, mut out) = (calls(), Vec::new());
        let input = input(&[Post { last: true, timeout: Some(Span::from_millis(2)), ..post(0) }, post(0)]);
        assert!(second.read(Time(1), &input, &mut due, &mut batches) < input.len(), "nothing comes after the last one");
        assert!(!second.is_late(Token(0), Time(2_000_000)) && second.is_late(Token(0), Time(2_000_001)));
        second.end(&[done(0)]);
        assert!(second.answer(&mut out) && second.is_over());
        assert!(String::from_utf8(out).unwrap().contains("\r\nconnection: close\r\n"));
    }
}
