//! Windowed analytics of what a group consumes, held in the end against a batch computation over the schedule.
//!
//! Event time is when a message was due, the key its key, the value its size. Every intact delivery is taken in as it comes, so a
//! message that is delivered twice counts twice, and one that is lost is missing: both are a difference. Messages that come too
//! late by the stream's own rules are left out of the batch computation likewise, and counted. Leaves out keeping the results.

use std::collections::BTreeMap;

use brokerlab_model::windows::reference::{Batch, Table};
use brokerlab_model::windows::{Event, WindowOutput, Windows};
use brokerlab_model::{LaneId, Time};
use serde::{Deserialize, Serialize};

use crate::generate::Workload;
use crate::profile::Analytics;

/// The most windows of keys whose results are kept for the comparison, some 200 bytes each.
const WINDOWS_MAX: usize = 1 << 20;
/// The most late messages that the batch computation can leave out.
const MISSED_MAX: usize = 1 << 20;

/// What a group's windows found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyticsRecord {
    /// Which windows, in words.
    pub windows: String,
    /// Deliveries taken in.
    pub events: u64,
    /// Windows of keys that stand in the end.
    pub results: u64,
    /// Results that were replaced, because of messages within the allowed lateness.
    pub updates: u64,
    /// Results of sessions that grew or joined another afterwards.
    pub withdrawn: u64,
    /// Deliveries that were too late for every window of theirs.
    pub late: u64,
    /// Those that were too late for some.
    pub partly_late: u64,
    /// Where the results differ first from the batch computation over the schedule; none when they are equal.
    pub difference: Option<String>,
    /// Why there was no comparison.
    pub not_compared: Option<String>,
}

impl AnalyticsRecord {
    /// Whether the results are exactly the batch computation's.
    pub fn is_equal(&self) -> bool {
        self.difference.is_none() && self.not_compared.is_none()
    }
}

/// A message that a member was given.
#[derive(Clone, Copy, Debug)]
pub struct Consumed {
    /// From which lane.
    pub lane: LaneId,
    /// Who sent it.
    pub producer: u32,
    /// Which of the producer's messages it is.
    pub sequence: u64,
    /// When it was due, from the schedule's start.
    pub intended: Time,
    /// Whether the group was given it for the first time.
    pub first: bool,
}

/// The windows of one group while a run goes on.
#[derive(Debug)]
pub struct Analysis {
    windows: Windows,
    /// The windows' number of each of the backend's lanes.
    lanes: BTreeMap<LaneId, u32>,
    table: Table,
    /// Messages that were too late for some window, and the watermark when they came.
    missed: BTreeMap<(u32, u64), Time>,
    out: WindowOutput,
    key: Vec<u8>,
    trouble: Option<String>,
}

impl Analysis {
    /// What a checked profile asks for, over so many lanes.
    pub fn new(analytics: Analytics, lanes: u32) -> Self {
        Self {
            windows: Windows::new(analytics.options(lanes.max(1))).expect("the profile was checked"),
            lanes: BTreeMap::new(),
            table: Table::default(),
            missed: BTreeMap::new(),
            out: WindowOutput::default(),
            key: Vec::new(),
            trouble: None,
        }
    }

    /// Takes a delivery in. Its key and size are the schedule's, which its checksum has proved.
    pub fn consumed(&mut self, workload: &Workload, message: &Consumed) {
        if self.trouble.is_some() || message.producer >= workload.producers() {
            return;
        }
        let contents = workload.contents(message.producer, message.sequence);
        self.key.clear();
        workload.write_key(contents.key, &mut self.key);
        let next = self.lanes.len() as u32;
        if next == self.windows.options().lanes && !self.lanes.contains_key(&message.lane) {
            // The backend has split a lane. The one before it holds the watermark until it counts as idle.
            self.windows.add_lane();
        }
        let lane = LaneId(*self.lanes.entry(message.lane).or_insert(next));
        let (time, value) = (message.intended, i64::from(contents.size));
        let (watermark, missed) = (self.windows.watermark(), self.missed());
        self.out.clear();
        let taken = self.windows.observe(&Event { lane, time, key: &self.key, value }, &mut self.out);
        if message.first && self.missed() > missed {
            self.missed.insert((message.producer, message.sequence), watermark);
        }
        self.trouble = taken.err().map(|refusal| refusal.to_string()).or_else(|| self.apply());
    }

    /// How many events have missed a window.
    fn missed(&self) -> u64 {
        let counts = self.windows.counts();
        counts.late + counts.partly_late
    }

    /// Lets the results stand; what is wrong with them, if anything is.
    fn apply(&mut self) -> Option<String> {
        if let Err(contradiction) = self.table.apply_all(&self.out) {
            return Some(contradiction.to_string());
        }
        if self.table.0.len() > WINDOWS_MAX {
            return Some(format!("more than {WINDOWS_MAX} windows of keys; ask for longer windows or fewer keys"));
        }
        let many = self.missed.len() > MISSED_MAX;
        many.then(|| format!("more than {MISSED_MAX} late messages; allow more disorder or lateness"))
    }

    /// Ends the stream and compares. `published` counts each producer's messages that were handed to the backend.
    pub fn finish(mut self, workload: &Workload, published: &[u64]) -> AnalyticsRecord {
        self.out.clear();
        self.windows.finish(&mut self.out);
        if self.trouble.is_none() {
            self.trouble = self.apply();
        }
        let counts = self.windows.counts();
        let difference = match self.trouble {
            Some(_) => None,
            None => self.table.first_difference(&self.expected(workload, published)),
        };
        AnalyticsRecord {
            windows: self.windows.options().kind.to_string(),
            events: counts.events,
            results: self.table.0.len() as u64,
            updates: counts.updates,
            withdrawn: counts.withdrawn,
            late: counts.late,
            partly_late: counts.partly_late,
            difference: difference.map(|difference| difference.to_string()),
            not_compared: self.trouble,
        }
    }

    /// The batch computation over what was sent, less what came too late.
    fn expected(&self, workload: &Workload, published: &[u64]) -> Table {
        let mut batch = Batch::new(self.windows.options());
        let mut key = Vec::new();
        for (producer, &count) in (0..workload.producers()).zip(published) {
            let mut position = workload.producer(producer);
            for message in std::iter::from_fn(|| position.next()).take(count as usize) {
                key.clear();
                workload.write_key(message.key, &mut key);
                let watermark = self.missed.get(&(producer, message.sequence)).copied().unwrap_or(Time::ZERO);
                batch.add(message.intended, &key, i64::from(message.size), watermark);
            }
        }
        batch.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    const PROFILE: &str = r#"
        name = "p"
        about = "For a test. Of windows."
        duration = "2s"
        producers = 3
        arrivals = { kind = "poisson", rate = "2k/s" }
        sizes = { kind = "uniform", min = "64B", max = "512B" }
        keys = { kind = "zipf", count = 20, exponent = 1.0 }
        groups = [{ name = "g", members = 1, analytics = { window = WINDOW, lateness = "20ms", disorder = "5ms" } }]
    "#;

    fn workload(window: &str) -> Workload {
        let profile = Profile::parse(&PROFILE.replace("WINDOW", window), "p").unwrap();
        Workload::new(&profile, 7, 0)
    }

    /// Every message of the schedule in order of intended start, each producer a lane.
    fn schedule(workload: &Workload) -> Vec<Consumed> {
        let mut all = Vec::new();
        for producer in 0..workload.producers() {
            let mut position = workload.producer(producer);
            let messages = std::iter::from_fn(|| position.next());
            let consumed =
                |sequence, intended| Consumed { lane: LaneId(9 * producer), producer, sequence, intended, first: true };
            all.extend(messages.map(|message| consumed(message.sequence, message.intended)));
        }
        all.sort_by_key(|message| message.intended);
        all
    }

    fn run(workload: &Workload, consumed: &[Consumed]) -> AnalyticsRecord {
        let analytics = workload.profile().groups[0].analytics.unwrap();
        let mut analysis = Analysis::new(analytics, 3);
        for message in consumed {
            analysis.consumed(workload, message);
        }
        let mut published = vec![0; workload.producers() as usize];
        for message in &schedule(workload) {
            published[message.producer as usize] += 1;
        }
        analysis.finish(workload, &published)
    }

    const WINDOWS: [&str; 3] = [
        r#"{ kind = "tumbling", size = "100ms" }"#,
        r#"{ kind = "sliding", size = "60ms", slide = "25ms" }"#,
        r#"{ kind = "session", gap = "10ms" }"#,
    ];

    #[test]
    fn what_comes_whole_and_in_order_equals_the_batch_computation() {
        for window in WINDOWS {
            let workload = workload(window);
            let all = schedule(&workload);
            let record = run(&workload, &all);
            assert!(all.len() > 3_000 && record.results > 100, "{record:?}");
            assert_eq!((record.events, record.late, record.updates), (all.len() as u64, 0, 0), "{window}");
            assert_eq!((&record.difference, &record.not_compared), (&None, &None), "{window}");
        }
    }

    /// Every 50th message comes some 200 messages (100 ms) late, which is more than disorder and lateness allow.
    #[test]
    fn late_messages_are_counted_and_left_out_of_both() {
        for window in WINDOWS {
            let workload = workload(window);
            let mut all: Vec<(usize, Consumed)> = schedule(&workload).into_iter().enumerate().collect();
            all.sort_by_key(|(place, _)| place + if place % 50 == 0 { 200 } else { 0 });
            let all: Vec<Consumed> = all.into_iter().map(|(_, message)| message).collect();
            let record = run(&workload, &all);
            assert!(record.late + record.partly_late > 30, "{window}: {record:?}");
            assert!(record.is_equal(), "{window}: {record:?}");
        }
    }

    #[test]
    fn a_lost_message_and_one_that_comes_twice_are_differences() {
        for window in WINDOWS {
            let workload = workload(window);
            let mut lost = schedule(&workload);
            lost.remove(1_000);
            assert!(run(&workload, &lost).difference.is_some(), "{window}");
            let mut twice = schedule(&workload);
            twice.insert(1_000, Consumed { first: false, ..twice[999] });
            assert!(run(&workload, &twice).difference.is_some(), "{window}");
        }
    }

    #[test]
    fn a_lane_that_was_not_announced_is_a_new_one() {
        for window in WINDOWS {
            let workload = workload(window);
            let mut all = schedule(&workload);
            let of = all[2_000].producer;
            all[2_000..]
                .iter_mut()
                .filter(|message| message.producer == of)
                .for_each(|message| message.lane = LaneId(77));
            let record = run(&workload, &all);
            assert!(record.is_equal() && record.events == all.len() as u64, "{window}: {record:?}");
        }
    }
}
