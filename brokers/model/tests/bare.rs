//! Each model by itself, in virtual time, under the whole conformance suite: no thread, no file, no clock and no descriptor.
//!
//! Leaves out engines and real brokers, which stand the same cases in their own crates.

use brokerlab_model::conformance::{Rig, Tuning};
use brokerlab_model::direct::{DirectModel, DirectOptions};
use brokerlab_model::log::{Cleanup, LogModel, LogOptions};
use brokerlab_model::queue::{QueueModel, QueueOptions};
use brokerlab_model::shard::{FULL_CREDIT, ShardModel, ShardOptions};
use brokerlab_model::{Bare, Broker, Client, Contract, Model, ModelKind, Span, Storage, Time, Unsupported, Worker};

/// A model with its worker and a time that moves when nobody has anything to do.
#[derive(Debug)]
struct BareRig {
    kind: ModelKind,
    contract: Contract,
    broker: Bare,
    workers: Vec<Box<dyn Worker>>,
    now: Time,
}

fn start(kind: ModelKind, contract: Contract, tuning: Tuning) -> Result<(Bare, Vec<Box<dyn Worker>>), Unsupported> {
    let mut queue = QueueOptions::default();
    let mut log = LogOptions::default();
    // As after a pause: the cases are about what a limit does, and publish at once.
    let mut shard = ShardOptions { initial_credit: FULL_CREDIT, ..ShardOptions::default() };
    let mut bound = 256 << 20;
    match tuning {
        Tuning::Usual => {}
        Tuning::Lease(span) => queue.visibility_timeout = span,
        Tuning::Session(span) => (log.session_timeout, shard.failover_time) = (Some(span), Some(span)),
        Tuning::Compacted => {
            log.cleanup = Cleanup::Compact;
            (log.active_bytes, log.min_dirty_permille, log.delete_retention) = (1, 0, Span::ZERO);
        }
        Tuning::SmallBounds => bound = 1 << 20,
    }
    let model: Box<dyn Model> = match kind {
        ModelKind::Log => Box::new(LogModel::new(log, contract)?),
        ModelKind::Queue => Box::new(QueueModel::new(queue, &contract)?),
        ModelKind::Shard => Box::new(ShardModel::new(shard, contract)?),
        ModelKind::Direct => Box::new(DirectModel::new(DirectOptions::default(), &contract)?),
        ModelKind::Null => unreachable!("no model stands behind it"),
    };
    let mut broker = Bare::new(model, contract.storage, bound);
    let workers = broker.workers();
    Ok((broker, workers))
}

impl BareRig {
    fn new(kind: ModelKind, storage: Storage) -> Self {
        let contract = Contract { storage, ..Contract::default() };
        let (broker, workers) = start(kind, contract, Tuning::Usual).expect("every model keeps this");
        Self { kind, contract, broker, workers, now: Time(1_000_000_000) }
    }
}

impl Rig for BareRig {
    fn broker(&mut self) -> &mut dyn Broker {
        &mut self.broker
    }

    fn contract(&self) -> Contract {
        self.contract
    }

    fn renew(&mut self, contract: &Contract, tuning: Tuning) -> Result<(), Unsupported> {
        (self.broker, self.workers) = start(self.kind, *contract, tuning)?;
        self.contract = *contract;
        Ok(())
    }

    fn now(&self) -> Time {
        self.now
    }

    fn step(&mut self, clients: &[&dyn Client], limit: Time) -> Vec<bool> {
        for worker in &mut self.workers {
            while worker.next_deadline().is_some_and(|due| due <= self.now) {
                worker.run(self.now);
            }
        }
        let due = |client: &&dyn Client| client.next_deadline();
        let ready: Vec<bool> = clients.iter().map(|client| due(client).is_some_and(|due| due <= self.now)).collect();
        if !ready.contains(&true) {
            let workers = self.workers.iter().map(|worker| worker.next_deadline());
            let next = clients.iter().map(due).chain(workers).flatten().min().unwrap_or(Time::NEVER);
            self.now = next.min(limit).min(self.now + Span::from_millis(1));
        }
        ready
    }

    fn patience(&self) -> u32 {
        20_000
    }

    fn quiet(&self) -> Span {
        Span::from_millis(50)
    }
}

macro_rules! by_itself {
    ($($name:ident: $kind:ident on $storage:ident),+ $(,)?) => {
        $(
            mod $name {
                #[allow(unused_imports, reason = "each module has its own use of them")]
                use super::{BareRig, ModelKind, Storage};

                brokerlab_model::conformance_suite!(BareRig::new(ModelKind::$kind, Storage::$storage));
                brokerlab_model::conformance_timing_suite!(BareRig::new(ModelKind::$kind, Storage::$storage));
            }
        )+
    };
}

by_itself! {
    log: Log on Memory,
    queue: Queue on Memory,
    shard: Shard on Memory,
    direct: Direct on Memory,
    log_stored_later: Log on Fsync,
    queue_stored_later: Queue on Fsync,
    shard_stored_later: Shard on Fsync,
    direct_stored_later: Direct on Fsync,
}
