//! What cannot be: combinations that type and unit allow and no workload can have. Each is an error that names the line.
//!
//! Leaves out what is merely unwise (a group that cannot keep up): that is a figure, not an error.

use brokerlab_model::Span;
use brokerlab_model::binding::{BINDING_HEADERS_MAX, BINDINGS_MAX, PATTERN_BYTES_MAX};
use brokerlab_model::headers::{NAME_BYTES_MAX, TEXT_BYTES_MAX};

use super::document::Document;
use super::error::ProfileError;
use super::faults::{Fault, FaultAction};
use super::headers::{Headers, RESERVED, Turn};
use super::types::{Analytics, Arrivals, Channels, Keys, Payload, Sizes, Stage, Work};
use super::units::{Bytes, Rate};
use super::{Objective, Profile};
use crate::generate::turns::{self, PERIOD_MAX, Turns};
use crate::stamp::{PRODUCERS_MAX, STAMP_LEN};

type Outcome = Result<(), ProfileError>;

/// The largest message: far above what any of the systems takes, small enough to be built in memory.
const SIZE_MAX: u32 = 64 << 20;
/// The highest rate that the schedule's nanoseconds can still order: a message each nanosecond.
const RATE_MAX: f64 = 1e9;
/// Members, channels and keys of one table are counted in 32 bits; this leaves room to multiply.
const COUNT_MAX: u32 = 1 << 20;

/// Keys that are reserved and refused with the reason.
pub(crate) fn reserved(document: &Document) -> Outcome {
    let reserved = [(
        "process",
        "processing patterns are not run yet: they need a consumer that publishes, which comes with the live drivers and the simulator",
        "remove [[process]]; a consumer's working time is written as groups.work",
    )];
    for (key, reason, remedy) in reserved {
        if document.has(key) {
            return Err(document.error_at(key, format!("`{key}` is reserved: {reason}"), remedy));
        }
    }
    Ok(())
}

/// Checks a profile whose types and units are right.
pub(crate) fn check(profile: &Profile, document: &Document) -> Outcome {
    let check = Check { document };
    check.whole(profile)?;
    check.arrivals(&profile.arrivals, profile)?;
    check.sizes(&profile.sizes, &profile.arrivals)?;
    check.keys(profile.keys, &profile.arrivals)?;
    check.payload(&profile.payload)?;
    check.channels(&profile.channels)?;
    check.groups(profile)?;
    check.headers(&profile.headers)?;
    check.bindings(profile)?;
    check.objectives("objectives", &profile.objectives)?;
    check.objectives("abort_on", &profile.abort_on)?;
    check.pauses(profile)?;
    check.faults(profile)
}

struct Check<'a> {
    document: &'a Document,
}

impl Check<'_> {
    fn ensure(&self, holds: bool, path: &str, message: &str, remedy: &str) -> Outcome {
        if holds { Ok(()) } else { Err(self.document.error_at(path, message, remedy)) }
    }

    fn whole(&self, p: &Profile) -> Outcome {
        self.ensure(!p.name.trim().is_empty(), "name", "the name is empty", "write name = \"my-workload\"")?;
        self.positive(p.duration, "duration")?;
        self.ensure(
            p.duration.0.checked_add(p.warmup.0).is_some_and(|h| h < 1 << 60),
            "duration",
            "warm-up and duration together are too long",
            "stay below thirty years",
        )?;
        self.count(p.producers, PRODUCERS_MAX - 1, "producers")?;
        if let Some(connections) = p.connections {
            self.count(connections, p.producers, "connections")?;
        }
        if let Some(lanes) = p.lanes {
            self.count(lanes, COUNT_MAX, "lanes")?;
        }
        self.ensure(
            p.contract.copies > 0,
            "contract.copies",
            "no copy at all would be acknowledged",
            "write 1 or more copies",
        )
    }

    fn count(&self, value: u32, most: u32, path: &str) -> Outcome {
        let message = format!("{value} is not between 1 and {most}");
        self.ensure((1..=most).contains(&value), path, &message, "write a number between them")
    }

    fn positive(&self, span: Span, path: &str) -> Outcome {
        self.ensure(span > Span::ZERO, path, "this length of time is zero", "write more than zero, such as \"1s\"")
    }

    fn rate(&self, rate: Rate, path: &str) -> Outcome {
        self.ensure(rate.0 > 0.0, path, "the mean rate is zero: no message would ever be due", "write more than 0/s")?;
        self.rate_bound(rate, path)
    }

    fn rate_bound(&self, rate: Rate, path: &str) -> Outcome {
        self.ensure(rate.0 <= RATE_MAX, path, "more than one message a nanosecond is due", "write at most 1G/s")
    }

    fn arrivals(&self, arrivals: &Arrivals, p: &Profile) -> Outcome {
        if let Arrivals::Mmpp { rate: Some(rate), .. }
        | Arrivals::Steps { rate: Some(rate), .. }
        | Arrivals::Ramp { rate: Some(rate), .. }
        | Arrivals::Spike { rate: Some(rate), .. }
        | Arrivals::ClosedLoop { rate: Some(rate), .. }
        | Arrivals::Trace { rate: Some(rate), .. } = arrivals
        {
            self.rate(*rate, "arrivals.rate")?;
        }
        match arrivals {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => self.rate(*rate, "arrivals.rate"),
            Arrivals::Mmpp { states, .. } => {
                self.ensure(
                    states.len() > 1,
                    "arrivals.states",
                    "one state never changes",
                    "write two states or more",
                )?;
                self.stages(states, "arrivals.states")
            }
            Arrivals::OnOff { rate, on, off } => {
                self.rate(*rate, "arrivals.rate")?;
                self.positive(*on, "arrivals.on")?;
                self.positive(*off, "arrivals.off")
            }
            Arrivals::Steps { steps, .. } => {
                self.ensure(!steps.is_empty(), "arrivals.steps", "there is no step", "write one step or more")?;
                self.stages(steps, "arrivals.steps")
            }
            Arrivals::Ramp { from, to, over, .. } => {
                self.rate_bound(*from, "arrivals.from")?;
                self.rate_bound(*to, "arrivals.to")?;
                self.rate(Rate(from.0.max(to.0)), "arrivals.to")?;
                over.map_or(Ok(()), |over| self.positive(over, "arrivals.over"))
            }
            Arrivals::Diurnal { rate, period, swing, .. } => {
                self.rate(*rate, "arrivals.rate")?;
                self.positive(*period, "arrivals.period")?;
                self.share(*swing, "arrivals.swing")
            }
            Arrivals::Spike { base, peak, at, length, .. } => {
                self.rate_bound(*base, "arrivals.base")?;
                self.rate(*peak, "arrivals.peak")?;
                self.positive(*length, "arrivals.for")?;
                let horizon = p.warmup + p.duration;
                let outside = "the spike begins after the schedule's end";
                self.ensure(at.0 < horizon.0, "arrivals.at", outside, "begin it within warm-up and duration")
            }
            Arrivals::ClosedLoop { think, rate } => {
                let known = rate.is_none() || think.mean() > Span::ZERO;
                let message = "a rate cannot scale a think time of zero";
                self.ensure(known, "arrivals.rate", message, "write a think time, or no rate")
            }
            Arrivals::Trace { unit, speed_up, rate, .. } => {
                self.positive(*unit, "arrivals.unit")?;
                self.ensure(
                    speed_up.is_none() || rate.is_none(),
                    "arrivals.speed_up",
                    "`rate` and `speed_up` both say how fast the trace is replayed",
                    "keep one of them",
                )?;
                let fits = speed_up.is_none_or(|s| s > 0.0 && s.is_finite());
                self.ensure(fits, "arrivals.speed_up", "this factor is not above zero", "write a number above 0")
            }
        }
    }

    fn stages(&self, stages: &[Stage], path: &str) -> Outcome {
        for (i, stage) in stages.iter().enumerate() {
            self.rate_bound(stage.rate, &format!("{path}.{i}.rate"))?;
            self.positive(stage.length, &format!("{path}.{i}.for"))?;
        }
        let some = stages.iter().any(|s| s.rate.0 > 0.0);
        self.ensure(
            some,
            path,
            "the mean rate is zero: no message would ever be due",
            "give one of them a rate above 0/s",
        )
    }

    fn share(&self, share: f64, path: &str) -> Outcome {
        self.ensure((0.0..=1.0).contains(&share), path, "this share is not between 0 and 1", "write 0.8 for 80 %")
    }

    fn size(&self, size: Bytes, path: &str) -> Outcome {
        let message = format!("{size} is below the {STAMP_LEN}-byte stamp with which each message begins");
        self.ensure(size.0 as usize >= STAMP_LEN, path, &message, "write at least \"32B\"")?;
        self.ensure(size.0 <= SIZE_MAX, path, "this size is above 64 MiB", "write at most \"64MiB\"")
    }

    fn sizes(&self, sizes: &Sizes, arrivals: &Arrivals) -> Outcome {
        match sizes {
            Sizes::Fixed { size } => {
                // Written short, the size stands in `sizes` itself; error_at points at the deepest part that exists.
                self.size(*size, "sizes.size")
            }
            Sizes::Uniform { min, max } => self.between(*min, *max),
            Sizes::LogNormal { median, sigma, min, max } => {
                self.between(*min, *max)?;
                self.ensure(
                    median.0 > 0,
                    "sizes.median",
                    "a median of zero has no logarithm",
                    "write more than \"0B\"",
                )?;
                self.sigma(*sigma, "sizes.sigma")
            }
            Sizes::Empirical { values } => {
                for (i, value) in values.iter().enumerate() {
                    self.size(value.size, &format!("sizes.values.{i}.size"))?;
                    let fits = value.weight.is_finite() && value.weight >= 0.0;
                    let path = format!("sizes.values.{i}.weight");
                    self.ensure(fits, &path, "this weight is below zero", "write 0 or more")?;
                }
                let total: f64 = values.iter().map(|v| v.weight).sum();
                self.ensure(total > 0.0, "sizes.values", "no size has a weight above zero", "give one size a weight")
            }
            Sizes::Trace { min } => {
                min.map_or(Ok(()), |min| self.size(min, "sizes.min"))?;
                let there = matches!(arrivals, Arrivals::Trace { size: Some(_), .. });
                let message = "sizes come from the trace, but the arrivals name no column of sizes";
                self.ensure(there, "sizes", message, "write arrivals = { kind = \"trace\", size = \"COLUMN\", … }")
            }
        }
    }

    fn between(&self, min: Bytes, max: Bytes) -> Outcome {
        self.size(min, "sizes.min")?;
        self.size(max, "sizes.max")?;
        self.ensure(min <= max, "sizes.min", "the smallest size is above the largest", "swap min and max")
    }

    fn sigma(&self, sigma: f64, path: &str) -> Outcome {
        let fits = (0.0..=5.0).contains(&sigma);
        self.ensure(fits, path, "this sigma is not between 0 and 5", "write a number such as 0.5")
    }

    fn keys(&self, keys: Keys, arrivals: &Arrivals) -> Outcome {
        match keys {
            Keys::Uniform { count } | Keys::Sequential { count } => self.key_count(count),
            Keys::Zipf { count, exponent } => {
                self.key_count(count)?;
                let fits = (0.0..=10.0).contains(&exponent);
                self.ensure(
                    fits,
                    "keys.exponent",
                    "this exponent is not between 0 and 10",
                    "write a number such as 1.0",
                )
            }
            Keys::HotSet { count, hot, share } => {
                self.key_count(count)?;
                let fits = hot > 0 && hot < count;
                self.ensure(fits, "keys.hot", "the hot keys are none or all of the keys", "write 1 up to count - 1")?;
                self.share(share, "keys.share")
            }
            Keys::Trace => {
                let there = matches!(arrivals, Arrivals::Trace { key: Some(_), .. });
                let message = "keys come from the trace, but the arrivals name no column of keys";
                self.ensure(there, "keys", message, "write arrivals = { kind = \"trace\", key = \"COLUMN\", … }")
            }
        }
    }

    fn key_count(&self, count: u64) -> Outcome {
        let fits = (1..=1 << 40).contains(&count);
        self.ensure(fits, "keys.count", "the number of keys is not between 1 and 2^40", "write how many keys there are")
    }

    fn payload(&self, payload: &Payload) -> Outcome {
        match payload {
            Payload::Random | Payload::Json | Payload::Lines { .. } => Ok(()),
            Payload::Compressible { ratio } => {
                let fits = (1.0..=100.0).contains(ratio);
                self.ensure(fits, "payload.ratio", "this ratio is not between 1 and 100", "write a number such as 4.0")
            }
        }
    }

    fn channels(&self, channels: &Channels) -> Outcome {
        let one_way = channels.name.is_some() == channels.names.is_empty();
        self.ensure(one_way, "channels", "channels are named by `name` or by `names`", "write exactly one of them")?;
        self.count(channels.len(), COUNT_MAX, "channels.count")?;
        if let Some(name) = &channels.name {
            let pattern = name.contains("{}");
            let several = channels.count.is_some();
            let message = if pattern { "a pattern needs a count" } else { "a count needs a pattern" };
            let remedy = "write { name = \"orders-{}\", count = 1000 }, or one name without {} and count";
            self.ensure(pattern == several, "channels.name", message, remedy)?;
        } else {
            let message = "a count goes with a pattern";
            self.ensure(channels.count.is_none(), "channels.count", message, "remove count, or write name")?;
        }
        let names = channels.resolved();
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let distinct = sorted.windows(2).all(|w| w[0] != w[1]);
        self.ensure(distinct, "channels.names", "two channels have one name", "give each channel its own name")?;
        let filled = sorted.first().is_none_or(|n| !n.is_empty());
        self.ensure(filled, "channels", "a channel's name is empty", "give each channel a name")
    }

    fn groups(&self, p: &Profile) -> Outcome {
        let message = "there is no consumer group";
        self.ensure(!p.groups.is_empty(), "groups", message, "write [[groups]] with name and members")?;
        for (i, group) in p.groups.iter().enumerate() {
            let path = |field: &str| format!("groups.{i}.{field}");
            self.ensure(!group.name.is_empty(), &path("name"), "a group's name is empty", "give each group a name")?;
            let twice = p.groups[..i].iter().any(|g| g.name == group.name);
            self.ensure(!twice, &path("name"), "two groups have one name", "give each group its own name")?;
            self.count(group.members, COUNT_MAX, &path("members"))?;
            self.count(group.prefetch, COUNT_MAX, &path("prefetch"))?;
            if let Work::LogNormal { sigma, .. } = group.work {
                self.sigma(sigma, &path("work.sigma"))?;
            }
            if let Some(analytics) = group.analytics {
                self.analytics(analytics, p, &path("analytics"))?;
            }
        }
        Ok(())
    }

    fn analytics(&self, analytics: Analytics, p: &Profile, path: &str) -> Outcome {
        let scheduled = !matches!(p.arrivals, Arrivals::ClosedLoop { .. });
        let message =
            "in a closed loop event times depend on the backend: there is no schedule to hold windows against";
        self.ensure(scheduled, path, message, "remove analytics, or write arrivals of another kind")?;
        analytics.options(1).check().map_err(|bad| {
            let text = bad.to_string();
            let (message, remedy) = text.split_once("; ").unwrap_or((&text, "write other windows"));
            self.document.error_at(&format!("{path}.window"), message, remedy)
        })
    }

    fn headers(&self, headers: &Headers) -> Outcome {
        let text = |path: &str, turn: &Turn<String>, least: usize| {
            let fits = turn.0.iter().all(|value| (least..=TEXT_BYTES_MAX).contains(&value.len()));
            let message = "this text is empty or longer than 255 bytes";
            self.ensure(fits, path, message, "write a short text, or leave the key out")
        };
        text("headers.routing_key", &headers.routing_key, 0)?;
        text("headers.message_group", &headers.message_group, 1)?;
        for name in headers.other.keys() {
            let path = format!("headers.other.{name}");
            let short = (1..=NAME_BYTES_MAX).contains(&name.len());
            self.ensure(short, &path, "a header's name has 1 to 255 bytes", "write a short name")?;
            let free = !RESERVED.contains(&name.as_str());
            let message = "a backend acts on a header of this name";
            let remedy = "write priority, time_to_live, delay, routing_key or message_group in [headers]; ids of which repeats are not stored can't be in a \
                          profile, since what is not stored would count as lost";
            self.ensure(free, &path, message, remedy)?;
        }
        Ok(())
    }

    /// Every message has a group that it is for, and everybody knows which.
    fn bindings(&self, p: &Profile) -> Outcome {
        let period = turns::period(p);
        let message = format!("the lists come together again after {period} messages, and {PERIOD_MAX} is the most");
        self.ensure(
            period <= PERIOD_MAX,
            "headers",
            &message,
            "write lists of one length, or of lengths with common factors",
        )?;
        let turns = Turns::of(p).map_err(|error| {
            let text = error.to_string();
            self.document.error_at("headers", text, "write fewer or shorter headers")
        })?;
        let mut count = 0;
        for (i, group) in p.groups.iter().enumerate() {
            for (j, bound) in group.bindings.iter().enumerate() {
                count += 1;
                let path = format!("groups.{i}.bindings.{j}");
                let known = !bound.is_of_routing_key() || !p.headers.routing_key.0.is_empty();
                let message = "messages have no routing key to hold this binding against";
                self.ensure(known, &path, message, "write routing_key = [\"…\"] in [headers]")?;
                let message = format!(
                    "a binding has texts of at most {PATTERN_BYTES_MAX} bytes and at most {BINDING_HEADERS_MAX} headers"
                );
                self.ensure(bound.pattern().is_in_bounds(), &path, &message, "write a shorter one")?;
            }
            let whole = group.bindings.is_empty() || group.analytics.is_none();
            let message = "windows are held against all messages, and this group gets a part of them";
            let remedy = "remove analytics or bindings, or give the windows to a group of their own";
            self.ensure(whole, &format!("groups.{i}.analytics"), message, remedy)?;
        }
        let message = format!("more than {BINDINGS_MAX} bindings");
        self.ensure(count <= BINDINGS_MAX, "groups", &message, "bind by topics instead of single keys")?;
        if let Some(turn) = turns.routes().and_then(|routes| routes.for_nobody()) {
            let key =
                p.headers.routing_key.at(turn).map_or_else(String::new, |key| format!(" (routing key \"{key}\")"));
            let message =
                format!("message {turn} of each producer{key} is for no group: it would be refused as unroutable");
            let remedy = "bind a group to it, or a further group to { kind = \"everything\" }";
            return Err(self.document.error_at("groups", message, remedy));
        }
        Ok(())
    }

    fn objectives(&self, list: &str, objectives: &[Objective]) -> Outcome {
        for (i, objective) in objectives.iter().enumerate() {
            let twice = objectives[..i].iter().any(|o| o.same_subject(objective));
            let message = "an earlier objective bounds the same figure";
            self.ensure(!twice, &format!("{list}.{i}"), message, "keep one of them")?;
        }
        Ok(())
    }

    fn pauses(&self, p: &Profile) -> Outcome {
        for (i, pause) in p.pauses.iter().enumerate() {
            let path = |field: &str| format!("pauses.{i}.{field}");
            if !p.groups.iter().any(|g| g.name == pause.group) {
                let names: Vec<&str> = p.groups.iter().map(|g| g.name.as_str()).collect();
                let message = format!("there is no group `{}`", pause.group);
                let remedy = format!("name one of {}", names.join(", "));
                return Err(self.document.error_at(&path("group"), message, remedy));
            }
            self.positive(pause.length, &path("for"))?;
            let end = pause.at + pause.length;
            let message = "the pause ends after the measured window: its backlog could not be seen to drain";
            self.ensure(end <= p.duration, &path("for"), message, "end it within the duration")?;
            let apart =
                p.pauses[..i].iter().all(|o| o.group != pause.group || end <= o.at || o.at + o.length <= pause.at);
            let message = "two pauses of one group overlap";
            self.ensure(apart, &path("at"), message, "let one end before the other begins")?;
        }
        Ok(())
    }

    fn faults(&self, p: &Profile) -> Outcome {
        for (i, fault) in p.faults.iter().enumerate() {
            let path = |field: &str| format!("faults.{i}.{field}");
            let message = "the fault begins after the measured window";
            self.ensure(fault.at < p.duration, &path("at"), message, "begin it within the duration")?;
            let paused_for_ever = fault.action == FaultAction::Pause && fault.length.is_none();
            let message = "a pause needs its length: nobody else would resume the server";
            self.ensure(!paused_for_ever, &path("for"), message, "add for = \"5s\", or write action = \"kill\"")?;
            if let Some(length) = fault.length {
                self.positive(length, &path("for"))?;
                let message = "the fault ends after the measured window: its backlog could not be seen to drain";
                self.ensure(fault.at + length <= p.duration, &path("for"), message, "end it within the duration")?;
            }
            let before = |a: &Fault, b: &Fault| a.ends().is_some_and(|end| end <= b.at);
            let apart = |o: &Fault| !o.node.meets(fault.node) || before(o, fault) || before(fault, o);
            let message = "two faults of one node overlap";
            let remedy = "let one end before the other begins; what is killed without `for` stays down";
            self.ensure(p.faults[..i].iter().all(apart), &path("at"), message, remedy)?;
        }
        Ok(())
    }
}
