//! One loop over clients and workers in virtual time: what a host does, without a clock and without sleeping.

use brokerlab_embedded::{BackendUrl, Embedded, Place, open, reopen};
use brokerlab_model::{
    Batch, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Contract, Control, Outcome, Publishes, Role,
    Settlement, Span, Status, Storage, Time, Token, Verdict, Worker,
};
use std::path::Path;

pub(crate) struct World {
    pub(crate) broker: Box<dyn Embedded>,
    pub(crate) clients: Vec<Box<dyn Client>>,
    pub(crate) seen: Vec<Completions>,
    pub(crate) workers: Vec<Box<dyn Worker>>,
    pub(crate) now: Time,
    pub(crate) next_token: u64,
    /// The folder, for as long as the world lasts.
    pub(crate) folder: Option<tempfile::TempDir>,
}

/// A folder on a disk, where a flush means something.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

pub(crate) fn contract(words: &str) -> Contract {
    words.parse().expect("a contract")
}

impl World {
    /// In a folder of its own, when the contract needs one.
    pub(crate) fn open_anywhere(url: &str, contract: Contract) -> Self {
        let folder = (contract.storage != Storage::Memory).then(folder);
        let data = folder.as_ref().map(|folder| folder.path().join("data"));
        Self { folder, ..Self::open(url, contract, data.as_deref()) }
    }

    pub(crate) fn open(url: &str, contract: Contract, data: Option<&Path>) -> Self {
        let url = BackendUrl::parse(url).expect("a backend").with_full_buckets();
        let mut broker = open(&url, &contract, &Place { data }).expect("it opens");
        let workers = broker.workers();
        let (clients, seen) = (Vec::new(), Vec::new());
        Self { broker, clients, seen, workers, now: Time(1), next_token: 0, folder: None }
    }

    /// The process ends without a word, and another one takes over the folder.
    pub(crate) fn reopened(self, url: &str, contract: Contract) -> Self {
        let data = self.data();
        let Self { folder, broker, clients, workers, .. } = self;
        drop((clients, workers, broker));
        let url = BackendUrl::parse(url).expect("a backend").with_full_buckets();
        let (mut broker, _) = reopen(&url, &contract, &data).expect("it opens again");
        let workers = broker.workers();
        Self { broker, clients: Vec::new(), seen: Vec::new(), workers, now: Time(1), next_token: 0, folder }
    }

    /// Its folder of segments.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.as_ref().expect("it stores on files").path().join("data")
    }

    /// A client on loop 0; its number is its index.
    pub(crate) fn connect(&mut self, role: Role) -> usize {
        self.connect_at(role, 0)
    }

    pub(crate) fn connect_at(&mut self, role: Role, placement: u32) -> usize {
        let number = self.clients.len() as u32;
        let client = self.broker.connect(self.now, &ClientSpec { number, role, placement }).expect("it connects");
        self.clients.push(client);
        self.seen.push(Completions::default());
        self.clients.len() - 1
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(crate) fn control(&mut self, client: usize, control: Control) -> Token {
        let token = self.token();
        let mut batch = Batch::Control(vec![(token, control)]);
        assert_eq!(self.clients[client].submit(self.now, &mut batch).taken, 1);
        token
    }

    /// Creates a channel and waits until that is done.
    pub(crate) fn create(&mut self, administrator: usize, lanes: u32, groups: &[&str]) -> ChannelId {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let spec =
            ChannelSpec { name: format!("channel-{}", self.next_token), lanes, groups, ..ChannelSpec::default() };
        let token = self.control(administrator, Control::Create(spec));
        ChannelId(self.done(administrator, token).position as u32)
    }

    /// Steps until the operation is done.
    pub(crate) fn done(&mut self, client: usize, token: Token) -> Outcome {
        for _ in 0..1_000 {
            if let Some(outcome) = self.seen[client].outcomes.iter().find(|o| o.token == token) {
                assert_eq!(outcome.status, Status::Done);
                return *outcome;
            }
            self.step();
        }
        panic!("{token:?} never ended");
    }

    /// Offers the batch once.
    pub(crate) fn publish(&mut self, client: usize, publishes: Publishes) -> (usize, Batch) {
        let mut batch = Batch::Publish(publishes);
        let accepted = self.clients[client].submit(self.now, &mut batch);
        (accepted.taken, batch)
    }

    pub(crate) fn ack(&mut self, client: usize, receipts: impl Iterator<Item = brokerlab_model::Receipt>) {
        let settlements: Vec<_> =
            receipts.map(|receipt| Settlement { token: self.token(), receipt, verdict: Verdict::Ack }).collect();
        if !settlements.is_empty() {
            let mut batch = Batch::Settle(settlements);
            let _ = self.clients[client].submit(self.now, &mut batch);
        }
    }

    /// Runs every worker once and polls every client; then a millisecond passes, or less when a deadline is nearer.
    pub(crate) fn step(&mut self) {
        for worker in &mut self.workers {
            worker.run(self.now);
        }
        for (client, seen) in self.clients.iter_mut().zip(&mut self.seen) {
            client.poll(self.now, seen);
        }
        let deadlines = self.workers.iter().filter_map(|w| w.next_deadline());
        let next = deadlines.min().unwrap_or(Time::NEVER);
        self.now = next.min(self.now + Span::from_millis(1)).max(self.now + Span(1));
    }
}

/// A batch of messages numbered `from..to`, the number as key modulo `keys` and as payload.
pub(crate) fn numbered(world: &mut World, channel: ChannelId, numbers: std::ops::Range<u64>, keys: u64) -> Publishes {
    let mut batch = Publishes::new();
    for number in numbers {
        let token = world.token();
        batch.push(
            token,
            channel,
            &(number % keys).to_le_bytes(),
            b"h",
            &[&number.to_le_bytes()[..], &[7; 92]].concat(),
        );
    }
    batch
}
