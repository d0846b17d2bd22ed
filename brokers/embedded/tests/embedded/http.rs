//! `direct` behind a loopback socket speaks HTTP/1.1 to callers: to any of them in bytes, and to this crate's own.
//!
//! Leaves out what the transport does alike for every backend, which is in `loopback`, and the cases of the conformance suite.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use brokerlab_embedded::{BackendUrl, Place, open};
use brokerlab_model::{
    Batch, Blocked, Broker as _, ChannelId, Control, Event, Failure, Publishes, Refusal, Role, Settlement, Status,
    Time, Token, Verdict,
};

use crate::loopback::Pair;
use crate::world::contract;

/// A caller that only knows HTTP.
struct Plain(TcpStream);

impl Plain {
    fn connect(pair: &Pair) -> Self {
        let stream = TcpStream::connect(pair.address()).expect("it works here");
        stream.set_nonblocking(true).expect("it works here");
        Self(stream)
    }

    /// Sends bytes and reads on until an answer of `count` heads came, or the connection ended.
    fn ask(&mut self, pair: &mut Pair, now: Time, request: &str, count: usize) -> String {
        self.0.write_all(request.as_bytes()).expect("it works here");
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        for _ in 0..100_000 {
            pair.turn(now);
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            if answer.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count() >= count {
                break;
            }
        }
        String::from_utf8(answer).expect("it works here")
    }
}

/// What curl sends.
fn posted(path: &str, fields: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n{fields}Content-Length: {len}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
    )
}

#[test]
fn any_client_of_http_can_call_a_service() {
    let mut pair = Pair::new("direct?retries=0");
    pair.channel();
    let mut caller = Plain::connect(&pair);
    assert_eq!(
        caller.ask(&mut pair, Time(1), &posted("/0", "", "hello"), 1),
        "HTTP/1.1 503 Service Unavailable\r\noutcome: no-receiver\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
    );
    let answer = caller.ask(&mut pair, Time(1), &posted("/9", "", "hello"), 1);
    assert_eq!(answer, "HTTP/1.1 404 Not Found\r\noutcome: no-such-channel\r\ncontent-length: 0\r\n\r\n");
    let member = pair.serving();
    let answer = caller.ask(&mut pair, Time(1), &posted("/0", "Key: a%20b\r\n", "hello"), 1);
    assert_eq!(answer, "HTTP/1.1 202 Accepted\r\nendpoint: 0\r\nposition: 1\r\ncontent-length: 0\r\n\r\n");
    pair.until(|pair| pair.seen[member].deliveries.len() == 1);
    let delivery = pair.seen[member].deliveries.get(0);
    assert_eq!((delivery.key, delivery.headers, delivery.payload), (&b"a b"[..], &b""[..], &b"hello"[..]));
}

#[test]
fn requests_are_pipelined_and_answered_in_order_and_what_is_wrong_is_named() {
    let mut pair = Pair::new("direct");
    pair.channel();
    let member = pair.serving();
    let requests = [posted("/0", "", "one"), posted("/7", "", "two"), posted("/0", "Headers-Length: 2\r\n", "hhthree")];
    let wrong = "DELETE /0 HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = Plain::connect(&pair).ask(&mut pair, Time(1), &(requests.concat() + wrong), 99);
    let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/1.1")).collect();
    assert_eq!(
        lines,
        ["HTTP/1.1 202 Accepted", "HTTP/1.1 404 Not Found", "HTTP/1.1 202 Accepted", "HTTP/1.1 405 Method Not Allowed"]
    );
    assert!(answer.ends_with("\r\n\r\nthe method is not POST, the only one here"), "and the connection ends: {answer}");
    pair.until(|pair| pair.seen[member].deliveries.len() == 2);
    let last = pair.seen[member].deliveries.get(1);
    assert_eq!((last.headers, last.payload), (&b"hh"[..], &b"three"[..]));
    let last = Plain::connect(&pair).ask(&mut pair, Time(1), &posted("/0", "Connection: close\r\n", "x"), 99);
    assert!(last.starts_with("HTTP/1.1 202 Accepted\r\n") && last.contains("\r\nconnection: close\r\n"), "{last}");
    let long = "POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    let long = Plain::connect(&pair).ask(&mut pair, Time(1), long, 99);
    assert!(
        long.starts_with("HTTP/1.1 413 ") && long.ends_with("the body has 99999999 bytes, and 1179648 is the most")
    );
}

#[test]
fn a_caller_who_waits_for_the_work_is_told_that_it_is_done() {
    let mut pair = Pair::new("direct?answer=served");
    pair.channel();
    let member = pair.serving();
    let mut caller = Plain::connect(&pair);
    caller.0.write_all(posted("/0", "", "work").as_bytes()).unwrap();
    pair.until(|pair| pair.seen[member].deliveries.len() == 1);
    assert_eq!(caller.0.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock, "nobody has done it");
    pair.settle(member, 0);
    let answer = caller.ask(&mut pair, Time(1), "", 1);
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nendpoint: 0\r\nposition: 0\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn a_caller_is_held_back_while_receivers_are_full_and_its_deadline_counts_meanwhile() {
    let mut pair = Pair::new("direct?overflow=block&service_queue=1");
    pair.channel();
    let (producer, member) = (pair.connect(Role::Producer), pair.serving());
    assert_eq!(pair.publish(producer, 3).taken, 3);
    pair.until(|pair| pair.seen[producer].events == [Event::Blocked]);
    let mut batch = Publishes::new();
    batch.push(Token(900), ChannelId(0), b"", b"", b"");
    let blocked = pair.clients[producer].submit(Time(1), &mut Batch::Publish(batch));
    assert_eq!((blocked.taken, blocked.blocked), (0, Some(Blocked::Receivers)));
    let mut plain = Plain::connect(&pair);
    let request = posted("/0", "timeout-ms: 3\r\n", "hello");
    assert_eq!(plain.ask(&mut pair, Time(1), &request, 1), "HTTP/1.1 102 Processing\r\nheld: receivers\r\n\r\n");
    pair.turn(Time(3_000_000));
    assert_eq!(plain.0.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock, "its time is not up");
    let answer = plain.ask(&mut pair, Time(3_000_001), "", 2);
    assert!(
        answer.ends_with("HTTP/1.1 504 Gateway Timeout\r\noutcome: timeout\r\ncontent-length: 0\r\n\r\n"),
        "{answer}"
    );
    for n in 0..3 {
        pair.until(|pair| pair.seen[member].deliveries.len() == n + 1);
        pair.settle(member, n);
    }
    pair.until(|pair| pair.seen[producer].outcomes.len() == 3);
    assert!(pair.seen[producer].outcomes.iter().all(|outcome| outcome.status == Status::Done));
    pair.until(|pair| pair.seen[producer].events == [Event::Blocked, Event::Unblocked]);
    assert_eq!(pair.seen[member].deliveries.len(), 3, "what timed out is served nowhere");
}

#[test]
fn the_own_caller_ends_each_request_once_whatever_becomes_of_the_service() {
    let mut pair = Pair::new("direct?retries=0&breaker_failures=0");
    pair.channel();
    let producer = pair.connect(Role::Producer);
    assert_eq!(pair.publish(producer, 5_000).blocked, Some(Blocked::Window));
    pair.until(|pair| pair.seen[producer].outcomes.len() == 1_024);
    let failed = Status::Failed(Failure::NoReceiver);
    assert!(pair.seen[producer].outcomes.iter().all(|outcome| outcome.status == failed), "nobody is there");
    let tokens: BTreeSet<u64> = pair.seen[producer].outcomes.iter().map(|outcome| outcome.token.0).collect();
    assert_eq!(tokens.len(), 1_024);
    for (control, refusal) in
        [(Control::Grant(1), Refusal::WrongRole), (Control::Delete(ChannelId(0)), Refusal::WrongRole)]
    {
        let token = pair.ask(producer, control);
        assert_eq!(pair.ended(producer, token), Status::Refused(refusal));
    }
    pair.seen[producer].clear();
    assert_eq!(pair.publish(producer, 10).taken, 10);
    let flush = pair.ask(producer, Control::Flush);
    pair.server = None;
    assert_eq!(pair.ended(producer, flush), Status::Unknown);
    let seen = &pair.seen[producer];
    assert_eq!((seen.outcomes.len(), &seen.events[..]), (11, &[Event::Disconnected][..]));
    let close = pair.ask(producer, Control::Close);
    assert_eq!(pair.ended(producer, close), Status::Done);
    assert_eq!(pair.clients[producer].reasons().len(), 1);
}

#[test]
fn what_the_service_counted_of_its_own_comes_over_the_socket() {
    let url = BackendUrl::parse("direct?answer=served").unwrap();
    let here = open(&url, &contract("memory"), &Place::default()).unwrap().tallies();
    let mut pair = Pair::new("direct?answer=served");
    pair.channel();
    let (producer, member) = (pair.connect(Role::Producer), pair.serving());
    for n in 0..3 {
        assert_eq!(pair.publish(producer, 1).taken, 1);
        pair.until(|pair| pair.seen[member].deliveries.len() == n + 1);
        pair.settle(member, n);
        pair.until(|pair| pair.seen[producer].outcomes.len() == n + 1);
    }
    let there = pair.tallies();
    assert!(there.iter().map(|tally| &tally.name).eq(here.iter().map(|tally| &tally.name)), "{there:?}");
    let count = |name: &str| there.iter().find(|tally| tally.name.starts_with(name)).map(|tally| tally.count);
    assert_eq!((count("connections opened"), count("tries over a connection")), (Some(1), Some(2)), "{there:?}");
    pair.server = None;
    assert_eq!(pair.broker.tallies(), there, "what it said last");
}

#[test]
fn a_caller_whose_end_has_gone_leaves_nothing_behind() {
    let mut pair = Pair::new("direct?overflow=block&service_queue=1");
    pair.channel();
    let member = pair.serving();
    let mut plain = Plain::connect(&pair);
    plain.ask(&mut pair, Time(1), &posted("/0", "", "hello").repeat(3), 2);
    plain.0.shutdown(Shutdown::Both).unwrap();
    drop(plain);
    pair.until(|pair| pair.seen[member].deliveries.len() == 1);
    (0..100).for_each(|_| pair.turn(Time(1)));
    pair.settle(member, 0);
    let producer = pair.connect(Role::Producer);
    assert_eq!(pair.publish(producer, 1).taken, 1);
    pair.until(|pair| pair.seen[member].deliveries.len() == 2);
    assert_eq!(pair.seen[member].deliveries.get(1).payload, [7; 100], "what was not taken is never published");
}

impl Pair {
    /// A receiver that the service knows of.
    fn serving(&mut self) -> usize {
        let member = self.member(10);
        let flush = self.ask(member, Control::Flush);
        assert_eq!(self.ended(member, flush), Status::Done);
        member
    }

    /// Answers the delivery of that number.
    fn settle(&mut self, member: usize, delivery: usize) {
        let receipt = self.seen[member].deliveries.get(delivery).receipt;
        let settlement = Settlement { token: Token(1_000_000 + delivery as u64), receipt, verdict: Verdict::Ack };
        assert_eq!(self.clients[member].submit(Time(1), &mut Batch::Settle(vec![settlement])).taken, 1);
    }

    /// Asks from a thread of its own, as the server turns in this one.
    fn tallies(&mut self) -> Vec<brokerlab_model::Tally> {
        let Self { server, broker, .. } = self;
        let server = server.as_mut().expect("it works here");
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| broker.tallies());
            while !asked.is_finished() {
                server.turn(&|| Time(1));
            }
            asked.join().expect("it works here")
        })
    }
}
