//! What can be set on request and response, and by which settings it keeps a contract or why it can't.
//!
//! Leaves out `max_memory` and `max_data`, which bound the storage below and belong to its host.

use crate::capabilities::{Capabilities, Feature, Gaps, Limit, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};
use crate::direct::breaker::BreakerOptions;
use crate::time::Span;

/// The settings of request and response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectOptions {
    /// How many requests a receiver holds, those in work included; more are rejected as overload. At least 1.
    pub service_queue: u32,
    /// How many requests of one client may be unanswered; `publish` is blocked beyond.
    pub window: u32,
    /// How often a request that no receiver took is tried again.
    pub retries: u32,
    /// The wait before the first retry; doubled for each further one, less up to a half of jitter.
    pub backoff: Span,
    /// The longest wait before a retry.
    pub max_backoff: Span,
    /// Bounds all attempts together, and then the wait for the receivers' answer.
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
            service_queue: 1024,
            window: 1024,
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
        gaps.or("direct", self.settings(*contract))
    }

    fn settings(&self, contract: Contract) -> Settings {
        let mut settings = Settings::default();
        let answer = match contract.storage {
            Storage::Memory => "when it is in the service queue",
            Storage::PageCache => "when its request log is written",
            Storage::Fsync => "when its request log is flushed",
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
        settings.add("retries", self.retries, "when no receiver took a request");
        settings.add("backoff", format!("{} to {}", self.backoff, self.max_backoff), "the wait before a retry");
        settings.add("service-queue", self.service_queue, "requests a receiver holds");
        settings.add("window", self.window, "unanswered requests a client may have");
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
