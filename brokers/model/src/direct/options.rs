//! What can be set on request and response, and by which settings it keeps a contract or why it can't.
//!
//! Leaves out `max_memory` and `max_data`, which bound the storage below and belong to its host.

use crate::capabilities::{Capabilities, Feature, Gaps, Limit, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};
use crate::direct::breaker::BreakerOptions;
use crate::time::Span;

/// When a caller gets its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// When the receivers have stored the request (202 Accepted): they work on it afterwards, and nobody waits for that.
    #[default]
    Stored,
    /// When the receivers have worked on it (200 OK): a caller waits for each try's response, and sends the request again when
    /// none comes.
    Served,
}

/// What becomes of a request when no receiver has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is rejected, and tried again as `retries` and `backoff` say.
    #[default]
    Refuse,
    /// The caller is held back until a receiver has room.
    Block,
}

/// The settings of request and response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectOptions {
    /// When a caller gets its answer.
    pub answer: Answer,
    /// What becomes of a request when no receiver has room.
    pub overflow: Overflow,
    /// Whether a try carries its caller's deadline to the receiver, which then refuses, without working, one for whose response
    /// nobody waits any more. Matters where callers wait for the work ([`Answer::Served`]).
    pub deadlines: bool,
    /// How long a caller waits for one try's response before it sends the request again; `None` waits until the timeout. Matters
    /// where callers wait for the work.
    pub try_timeout: Option<Span>,
    /// How many requests a receiver holds, those in work included; more are rejected as overload. At least 1.
    pub service_queue: u32,
    /// How many requests of one client may be unanswered; `publish` is blocked beyond.
    pub window: u32,
    /// How many connections a caller may have open to each receiver, one request on each until it is answered; 0 for any number. A try
    /// that finds all of them busy is put off, like one at a receiver that is full.
    pub connections: u32,
    /// How often a request that no receiver took, or whose response did not come in time, is tried again.
    pub retries: u32,
    /// The wait before the first retry; doubled for each further one, less up to a half of jitter.
    pub backoff: Span,
    /// The longest wait before a retry.
    pub max_backoff: Span,
    /// A request's deadline: bounds all tries and the waits between them together. What is left of it is what a try may take.
    pub timeout: Span,
    /// The circuit breaker of each service.
    pub breaker: BreakerOptions,
    /// Largest request, key and headers included, in bytes.
    pub max_message_bytes: u32,
}

impl Default for DirectOptions {
    /// Three retries within a second; nginx's largest request.
    fn default() -> Self {
        Self {
            answer: Answer::Stored,
            overflow: Overflow::Refuse,
            deadlines: true,
            try_timeout: None,
            service_queue: 1024,
            window: 1024,
            connections: 0,
            retries: 3,
            backoff: Span::from_millis(20),
            max_backoff: Span::from_millis(500),
            timeout: Span::from_secs(1),
            breaker: BreakerOptions::default(),
            max_message_bytes: 1024 * 1024,
        }
    }
}

impl DirectOptions {
    /// The settings by which request and response keep `contract`, or what is missing.
    pub fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut gaps = Gaps::default();
        if contract.delivery == Delivery::ExactlyOnce {
            gaps.add(
                Delivery::AXIS,
                contract.delivery,
                "a receiver that leaves during its work hands the request on; take at-least-once and make requests idempotent",
            );
        }
        if contract.order == Order::Total {
            gaps.add(
                Order::AXIS,
                contract.order,
                "each receiver serves its own requests, and nothing orders them between receivers; put one log or queue between",
            );
        }
        if contract.copies > 1 {
            gaps.add(
                "copies",
                contract.copies,
                "a receiver stores on its own machine; put a replicated broker between",
            );
        }
        if contract.availability == Availability::Decoupled {
            gaps.add(
                Availability::AXIS,
                contract.availability,
                "the receiver must be up when the request is sent; put a broker between",
            );
        }
        if self.answer == Answer::Served {
            if contract.delivery == Delivery::AtMostOnce {
                gaps.add(
                    Delivery::AXIS,
                    contract.delivery,
                    "answer=served sends a request again whose response is late, and its work may be done twice; take answer=stored",
                );
            }
            if contract.order == Order::PerKey {
                gaps.add(
                    Order::AXIS,
                    contract.order,
                    "answer=served sends a request again behind later ones of its key; take answer=stored",
                );
            }
        }
        gaps.or("direct", self.settings(*contract))
    }

    fn settings(&self, contract: Contract) -> Settings {
        let mut settings = Settings::default();
        let answer = match (self.answer, contract.storage) {
            (Answer::Served, _) => "when the work is done",
            (Answer::Stored, Storage::Memory) => "when it is in the service queue",
            (Answer::Stored, Storage::PageCache) => "when its request log is written",
            (Answer::Stored, Storage::Fsync) => "when its request log is flushed",
        };
        settings.add("answer", answer, "storage: the receiver stores a request before it answers");
        match contract.delivery {
            Delivery::AtMostOnce => settings.add("hand-over", "before work", "a request in work is not handed on"),
            Delivery::AtLeastOnce | Delivery::ExactlyOnce => {
                settings.add("hand-over", "until answered", "a receiver that leaves hands its requests on")
            }
        };
        match contract.order {
            Order::None => settings.add("balancing", "round robin", "no order is asked"),
            Order::PerKey | Order::Total => {
                settings.add("balancing", "sticky by key", "an endpoint's requests go to one receiver, in order")
            }
        };
        settings.add("timeout", self.timeout, "when a caller gives up");
        if self.answer == Answer::Served {
            let each = self.try_timeout.unwrap_or(self.timeout);
            settings.add("try-timeout", each, "when a caller sends a request again");
            let why = "whether a receiver refuses, without working, a request that nobody waits for any more";
            settings.add("deadlines", if self.deadlines { "propagated" } else { "not propagated" }, why);
        }
        settings.add("retries", self.retries, "when no receiver took a request, or none answered in time");
        settings.add("backoff", format!("{} to {}", self.backoff, self.max_backoff), "the wait before a retry");
        let full = match self.overflow {
            Overflow::Refuse => "requests a receiver holds; more are rejected",
            Overflow::Block => "requests a receiver holds; beyond, callers wait",
        };
        settings.add("service-queue", self.service_queue, full);
        settings.add("window", self.window, "unanswered requests a client may have");
        let most = if self.connections == 0 { "any number".to_owned() } else { self.connections.to_string() };
        settings.add("connections", most, "to each receiver, kept alive, one request at a time on each");
        let BreakerOptions { calls, failures, open_for, probes } = self.breaker;
        let breaker = format!("{failures} failures of {calls}, open for {open_for}, {probes} probes");
        settings.add("circuit-breaker", breaker, "a service that fails is left alone for a while");
        settings
    }

    /// What request and response under `contract` are and can do.
    pub fn capabilities(&self, contract: &Contract) -> Capabilities {
        let mut features = vec![Feature::FanOut, Feature::PublishPosition, Feature::FullDepth, Feature::ExactCredit];
        if contract.delivery != Delivery::AtMostOnce {
            features.push(Feature::SettleEach);
        }
        if contract.order == Order::None {
            features.push(Feature::CompetingConsumers);
        }
        features.sort_unstable();
        Capabilities {
            name: "direct",
            model: ModelKind::Direct,
            words: Words { lane: "endpoint", position: "request number", grant: "free workers", settle: "response" },
            features,
            max_message_bytes: self.max_message_bytes,
            limits: vec![
                Limit {
                    name: "largest request",
                    value: format!("{} bytes", self.max_message_bytes),
                    source: "nginx, client_max_body_size",
                },
                Limit {
                    name: "service queue",
                    value: format!("{} requests", self.service_queue),
                    source: "set; Apache Tomcat's acceptCount and threads are of this size",
                },
            ],
        }
    }
}
