//! Everything before the schedule: channels, clients, lanes, and the moment at which all loops begin together.
//!
//! Leaves out what happens afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use brokerlab_model::{
    Answer, Batch, Broker, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Control, Feature, GivenUp, Outcome,
    Role, Span, Status, Time, WaitOn, Worker,
};
use brokerlab_workloads::profile::Work;
use brokerlab_workloads::{Fold, Workload};

use crate::clock::Clock;
use crate::drive::Loop;
use crate::member::{GroupPlan, Member};
use crate::producer::{Connection, Owned};
use crate::shared::Shared;
use crate::slots::{control_number, control_token};
use crate::spec::{RunError, RunSpec, ended_in_words};
use crate::wait::{Waiter, Waiting};

/// Most messages that digest and fold are taken over …
const DIGEST_MESSAGES: u64 = 100_000;
/// … and about how many bytes.
const DIGEST_BYTES: f64 = (64 << 20) as f64;
/// How long the administrator waits for an answer.
pub(crate) const ANSWER_LIMIT: Span = Span::from_secs(10);
/// Between two questions to a broker that is not there.
const ASK_AGAIN: Span = Span::from_millis(100);
/// How long the schedule waits for clients and lanes.
const READY_LIMIT: Span = Span::from_secs(10);
/// While nothing is due, everybody is looked at this often.
const LOOK: Span = Span::from_millis(1);
/// Between the agreement on a start and the start, on a real clock.
const LEAD: Span = Span::from_millis(2);

/// Asks on behalf of nobody's messages: creates, describes.
#[derive(Debug)]
pub(crate) struct Administrator {
    client: Box<dyn Client>,
    next: u64,
}

/// How a question of the administrator's ended.
#[derive(Debug)]
pub(crate) enum Answered {
    Outcome(Outcome),
    Answer(Answer),
}

/// A question under way.
#[derive(Debug)]
pub(crate) struct Question {
    first: u64,
    count: usize,
    /// What is not asked yet.
    batch: Batch,
    answers: BTreeMap<u64, Answered>,
    completions: Completions,
}

impl Question {
    fn is_answered(&self) -> bool {
        self.answers.len() >= self.count
    }
}

/// Asks for each of the profile's channels.
fn descriptions(spec: &RunSpec) -> Vec<Control> {
    (0..spec.workload.channels()).map(|channel| Control::Describe(ChannelId(channel))).collect()
}

impl Administrator {
    pub(crate) fn connect(broker: &mut dyn Broker, clock: &dyn Clock) -> Result<Self, RunError> {
        Ok(Self { client: connect(broker, clock.now(), 0, Role::Administrator, 0)?, next: 0 })
    }

    /// Asks all of `controls` and waits until each has ended, at the latest at `limit`; the answers come in the order asked.
    fn ask(
        &mut self,
        controls: Vec<Control>,
        what: &'static str,
        workers: &mut [Box<dyn Worker>],
        clock: &dyn Clock,
        limit: Time,
    ) -> Result<Vec<Answered>, RunError> {
        let mut question = self.put(controls);
        let mut waiter = Waiter::new(Waiting::Park);
        let asked_at = clock.now();
        while !question.is_answered() {
            let now = clock.now();
            if now >= limit {
                let why = format!("no answer within {}; is it up and reachable?", limit.since(asked_at));
                return Err(RunError::Administration { what, why });
            }
            let mut happened = false;
            for worker in workers.iter_mut() {
                happened |= worker.run(now);
            }
            happened |= self.look(now, &mut question);
            if !happened {
                self.wait(&mut waiter, workers, clock, (now + LOOK).min(limit));
            }
        }
        Ok(question.answers.into_values().collect())
    }

    /// A question that [`look`](Self::look) is to ask.
    fn put(&mut self, controls: Vec<Control>) -> Question {
        let (first, count) = (self.next, controls.len());
        self.next += count as u64;
        let numbered = controls.into_iter().zip(first..).map(|(control, number)| (control_token(number), control));
        let batch = Batch::Control(numbered.collect());
        Question { first, count, batch, answers: BTreeMap::new(), completions: Completions::default() }
    }

    /// Asks what is not asked yet of `question`, and takes what was answered. Returns whether anything happened.
    fn look(&mut self, now: Time, question: &mut Question) -> bool {
        let mut happened = false;
        if !question.batch.is_empty() {
            happened |= self.client.submit(now, &mut question.batch).taken > 0;
        }
        let completions = &mut question.completions;
        self.client.poll(now, completions);
        happened |= !completions.is_empty();
        let outcomes = completions.outcomes.drain(..).map(|o| (o.token, Answered::Outcome(o)));
        let answered = completions.answers.drain(..).map(|(token, answer)| (token, Answered::Answer(answer)));
        // What an earlier question still brings is nobody's any more.
        let numbered = outcomes.chain(answered).filter_map(|(token, a)| Some((control_number(token)?, a)));
        question.answers.extend(numbered.filter(|(number, _)| *number >= question.first));
        completions.clear();
        happened
    }

    /// Puts the question what the backend says of each group, and waits for nothing.
    pub(crate) fn inquire(&mut self, spec: &RunSpec) -> Question {
        self.put(descriptions(spec))
    }

    /// What the backend says of each group, once it has said it all; as an error where it refused or failed to.
    pub(crate) fn told_by_now(
        &mut self,
        now: Time,
        spec: &RunSpec,
        question: &mut Question,
    ) -> Option<Result<Vec<Described>, ()>> {
        self.look(now, question);
        question.is_answered().then(|| {
            let answers: Vec<Answered> = std::mem::take(&mut question.answers).into_values().collect();
            if answers.iter().any(|answer| matches!(answer, Answered::Outcome(_))) {
                Err(())
            } else {
                Ok(described(spec, answers))
            }
        })
    }

    fn wait(&self, waiter: &mut Waiter, workers: &[Box<dyn Worker>], clock: &dyn Clock, until: Time) {
        let deadlines = workers.iter().filter_map(|worker| worker.next_deadline());
        let until = deadlines.chain(self.client.next_deadline()).fold(until, Time::min);
        let until = if clock.is_manual() { until.max(clock.now() + Span(1)) } else { until };
        let on = workers.iter().map(|worker| worker.wait_on());
        waiter.wait(clock, on.chain(std::iter::once::<WaitOn<'_>>(self.client.wait_on())), until);
    }

    /// Makes the profile's channels; they are numbered as the profile numbers them.
    pub(crate) fn create(
        &mut self,
        spec: &RunSpec,
        workers: &mut [Box<dyn Worker>],
        clock: &dyn Clock,
    ) -> Result<(), RunError> {
        let profile = spec.workload.profile();
        let groups: Vec<String> = profile.groups.iter().map(|group| group.name.clone()).collect();
        let bindings = profile.bindings();
        let channel = |name| {
            let (lanes, groups, bindings) = (spec.lanes, groups.clone(), bindings.clone());
            Control::Create(ChannelSpec { name, lanes, groups, bindings, ..ChannelSpec::default() })
        };
        let controls = profile.channels.resolved().into_iter().map(channel).collect();
        let answers = self.ask(controls, "create the channels", workers, clock, clock.now() + ANSWER_LIMIT)?;
        for (number, answer) in answers.into_iter().enumerate() {
            let why = match answer {
                Answered::Outcome(outcome) if outcome.status == Status::Done => {
                    if outcome.position == number as u64 {
                        continue;
                    }
                    format!("it numbered channel {number} as {}; start from an empty backend", outcome.position)
                }
                Answered::Outcome(outcome) => self.told(outcome.status),
                Answered::Answer(_) => "it answered a question that was not asked".to_owned(),
            };
            return Err(RunError::Administration { what: "create the channels", why });
        }
        Ok(())
    }

    /// What the backend says of each group. Asks again until `limit` is over when the connection is lost: the broker may be on its way back.
    pub(crate) fn describe(
        &mut self,
        spec: &RunSpec,
        workers: &mut [Box<dyn Worker>],
        clock: &dyn Clock,
        limit: Span,
    ) -> Result<Vec<Described>, RunError> {
        let what = "describe its channels";
        let until = clock.now() + limit;
        let mut waiter = Waiter::new(Waiting::Park);
        loop {
            let answers = self.ask(descriptions(spec), what, workers, clock, until)?;
            let bad = answers.iter().find_map(|answer| match answer {
                Answered::Outcome(outcome) => Some(outcome.status),
                Answered::Answer(_) => None,
            });
            match bad {
                None => return Ok(described(spec, answers)),
                Some(Status::Failed(_) | Status::Unknown) if clock.now() + ASK_AGAIN < until => {
                    let again = clock.now() + ASK_AGAIN;
                    while clock.now() < again {
                        waiter.wait(clock, std::iter::empty::<WaitOn<'_>>(), again);
                    }
                }
                Some(status) => return Err(RunError::Administration { what, why: self.told(status) }),
            }
        }
    }

    /// Why something was not done: in the client's words where it has any, else by its status.
    fn told(&self, status: Status) -> String {
        let reasons = self.client.reasons();
        if reasons.is_empty() { ended_in_words(status) } else { reasons.join("; ") }
    }

    pub(crate) fn into_client(self) -> Box<dyn Client> {
        self.client
    }
}

/// What the backend says of one group, over all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    /// Messages that it keeps for the group and has not delivered.
    pub(crate) ready: u64,
    /// Messages that it counts as delivered and not settled.
    pub(crate) in_flight: u64,
    /// Messages that it gave up.
    pub(crate) given_up: GivenUp,
}

fn described(spec: &RunSpec, answers: Vec<Answered>) -> Vec<Described> {
    let mut held = vec![Described::default(); spec.workload.profile().groups.len()];
    for answer in answers {
        if let Answered::Answer(Answer::Description(description)) = answer {
            for lane in description.lanes {
                if let Some(of) = held.get_mut(lane.group as usize) {
                    of.ready += lane.ready;
                    of.in_flight += lane.in_flight;
                    of.given_up += lane.given_up;
                }
            }
        }
    }
    held
}

fn connect(
    broker: &mut dyn Broker,
    now: Time,
    number: u32,
    role: Role,
    placement: u32,
) -> Result<Box<dyn Client>, RunError> {
    broker.connect(now, &ClientSpec { number, role, placement }).map_err(|reason| RunError::Connect { number, reason })
}

/// One loop's clients, before its thread exists.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    pub(crate) connections: Vec<Connection>,
    pub(crate) members: Vec<Member>,
}

/// Everybody who was connected.
#[derive(Debug)]
pub(crate) struct Crews {
    /// By loop.
    pub(crate) crews: Vec<Crew>,
    /// By producer: its loop, and its connection there.
    pub(crate) owners: Vec<(u32, u32)>,
}

/// Connects everybody, dealt out over `loops`: connections in turn, and each group's members in turn.
pub(crate) fn connect_all(
    broker: &mut dyn Broker,
    spec: &RunSpec,
    loops: usize,
    clock: &dyn Clock,
) -> Result<Crews, RunError> {
    let workload = &spec.workload;
    let profile = workload.profile();
    let mut crews: Vec<Crew> = (0..loops).map(|_| Crew::default()).collect();
    let (producers, connections) = (workload.producers(), profile.connections().max(1));
    let mut owners = vec![(0, 0); producers as usize];
    let digested = digest_messages(workload);
    let mut number = 0;
    for connection in 0..connections.min(producers) {
        number += 1;
        let at = connection as usize % loops;
        let client = connect(broker, clock.now(), number, Role::Producer, at as u32)?;
        let index = crews[at].connections.len();
        let mine = (connection..producers).step_by(connections as usize);
        let owned = mine.map(|producer| {
            owners[producer as usize] = (at as u32, index as u32);
            own(workload, producer, digested)
        });
        let connection = Connection::new(client, index, owned.collect());
        crews[at].connections.push(connection);
    }
    let channels: Vec<ChannelId> = (0..workload.channels()).map(ChannelId).collect();
    for (index, group) in profile.groups.iter().enumerate() {
        let plan = GroupPlan {
            index: index as u32,
            prefetch: group.prefetch.max(1),
            on_core: group.work.occupies_core(),
            by_key: matches!(group.work, Work::ByKey { .. }),
        };
        for member in 0..group.members {
            number += 1;
            let at = (index + member as usize) % loops;
            let role = Role::Member { group: group.name.clone(), channels: channels.clone() };
            let client = connect(broker, clock.now(), number, role, at as u32)?;
            crews[at].members.push(Member::new(client, plan));
        }
    }
    Ok(Crews { crews, owners })
}

/// Over how many messages the digest is taken, unless fewer are due.
pub(crate) fn digest_messages(workload: &Workload) -> u64 {
    let by_size = (DIGEST_BYTES / workload.profile().mean_size().max(1.0)) as u64;
    DIGEST_MESSAGES.min(by_size.max(1))
}

fn own(workload: &Workload, producer: u32, digested: u64) -> Owned {
    Owned {
        position: workload.producer(producer),
        published: 0,
        fold: Fold::new(workload.is_closed_loop()),
        fold_limit: digested.div_ceil(u64::from(workload.producers())),
    }
}

/// Runs a loop until the schedule begins. The leader says when: as soon as every connection has answered and every lane is held, or
/// the limit has come. `before_start` is called by the leader alone, right before. Returns what was not ready, in words.
pub(crate) fn start_together(
    of: &mut Loop<'_>,
    expected: &Expected,
    leader: Option<&mut dyn FnMut()>,
) -> Result<Option<String>, RunError> {
    let shared = of.books.shared;
    let clock = shared.clock;
    let limit = clock.now() + READY_LIMIT;
    let mut missing = None;
    if let Some(before_start) = leader {
        loop {
            let happened = of.starting_pass()?;
            let late = clock.now() >= limit || shared.is_over();
            if late || expected.is_met(shared) || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            if !happened {
                of.sleep((clock.now() + LOOK).min(limit));
            }
        }
        missing = expected.missing(shared);
        before_start();
        let lead = if clock.is_manual() { Span::ZERO } else { LEAD };
        shared.set_start(clock.now() + lead);
    } else {
        while shared.start().is_none() && !shared.is_over() {
            if !of.starting_pass()? {
                of.sleep(clock.now() + LOOK);
            }
        }
    }
    of.begin(shared.start().unwrap_or(clock.now()));
    Ok(missing)
}

/// What has to be there before the schedule begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    connections: u64,
    lanes: u64,
}

impl Expected {
    pub(crate) fn new(broker: &dyn Broker, spec: &RunSpec, crews: &[Crew]) -> Self {
        let profile = spec.workload.profile();
        let assigned = broker.capabilities().has(Feature::LaneAssignment);
        let lanes = profile.groups.len() as u64 * u64::from(spec.workload.channels()) * u64::from(spec.lanes);
        Self {
            connections: crews.iter().map(|crew| crew.connections.len() as u64).sum(),
            lanes: if assigned { lanes } else { 0 },
        }
    }

    /// Whether everybody is there, and nothing moved in the last pass of any loop.
    fn is_met(&self, shared: &Shared<'_>) -> bool {
        let quiet = shared.status.iter().all(|status| status.quiet.load(Ordering::Acquire));
        quiet && self.missing(shared).is_none()
    }

    fn missing(&self, shared: &Shared<'_>) -> Option<String> {
        let connected = shared.sum(|status| &status.connected);
        let lanes = shared.sum(|status| &status.lanes);
        let ready = connected >= self.connections && lanes >= self.lanes;
        (!ready).then(|| {
            format!(
                "the schedule began before everybody was ready: {connected} of {} connections, {lanes} of {} lanes",
                self.connections, self.lanes
            )
        })
    }
}
