//! Opens a backend by its name, under a contract, in a place; and lists them without opening any.

use std::path::Path;

use brokerlab_model::direct::DirectModel;
use brokerlab_model::log::LogModel;
use brokerlab_model::queue::QueueModel;
use brokerlab_model::shard::ShardModel;
use brokerlab_model::{Bare, Broker, Capabilities, Contract, Model, Settings, Span, Storage, Unsupported};

use crate::engine::{EngineBroker, add_storage_settings};
use crate::faulty::FaultyBroker;
use crate::null::{self, NullBroker};
use crate::store::{About, ScanReport, StorageFacts, StoreError};
use crate::url::{BackendUrl, Kind, Parameter};

/// A backend of this crate: what every broker is, and what is below it.
pub trait Embedded: Broker {
    /// What is below its store.
    fn storage_facts(&self) -> StorageFacts;

    /// The error of its storage, after which it takes nothing more.
    fn storage_error(&self) -> Option<StoreError>;

    /// Writes what nobody has waited for so far; the error of its storage, if it has had one by now. Its workers have ended.
    fn end(&mut self) -> Option<StoreError>;
}

impl Embedded for EngineBroker {
    fn storage_facts(&self) -> StorageFacts {
        self.storage_facts()
    }

    fn storage_error(&self) -> Option<StoreError> {
        self.storage_error()
    }

    fn end(&mut self) -> Option<StoreError> {
        self.finish()
    }
}

impl Embedded for NullBroker {
    fn storage_facts(&self) -> StorageFacts {
        StorageFacts::memory()
    }

    fn storage_error(&self) -> Option<StoreError> {
        None
    }

    fn end(&mut self) -> Option<StoreError> {
        None
    }
}

/// Where a backend may put its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// A folder of its own, empty or not there yet. Needed unless the contract's storage is memory.
    pub data: Option<&'a Path>,
}

/// Why a backend could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// It can't keep the contract.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Its folder can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It has to store on files and was given no folder.
    #[error("storage = {0} needs a folder; name one with --data DIR")]
    NoFolder(Storage),
}

/// A backend as it is listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Which it is.
    pub kind: Kind,
    /// What it is and can do, under the default contract.
    pub capabilities: Capabilities,
    /// The same with each preset that it knows (`?as=`), by the preset's name.
    pub presets: Vec<(&'static str, Capabilities)>,
}

impl Listed {
    /// The parameters that its name takes.
    pub fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        self.kind.parameters()
    }
}

/// Every backend that is listed, without opening any. `faulty` is none of them.
pub fn catalogue() -> Vec<Listed> {
    let of = |name: &str| {
        let url = BackendUrl::parse(name).expect("a listed name is a name");
        match model(&url, Contract::default()) {
            Ok(Some(model)) => model.capabilities().clone(),
            Ok(None) | Err(_) => null::capabilities(),
        }
    };
    let listed = |&kind: &Kind| {
        let name = kind.name();
        let presets = kind.presets().iter().map(|preset| (preset.name, of(&format!("{name}?as={}", preset.name))));
        Listed { kind, capabilities: of(name), presets: presets.collect() }
    };
    Kind::ALL.iter().map(listed).collect()
}

/// The model behind a name; none behind `null`.
fn model(url: &BackendUrl, contract: Contract) -> Result<Option<Box<dyn Model>>, Unsupported> {
    let options = &url.options;
    Ok(match url.kind() {
        Kind::Log => Some(Box::new(LogModel::new(options.log.clone(), contract)?)),
        Kind::Queue => Some(Box::new(QueueModel::new(options.queue, &contract)?)),
        Kind::Shard => Some(Box::new(ShardModel::new(options.shard.clone(), contract)?)),
        Kind::Direct => Some(Box::new(DirectModel::new(options.direct, &contract)?)),
        Kind::Null => None,
    })
}

/// What the backend is and can do with its parameters, under `contract`. Opens nothing.
pub fn capabilities(url: &BackendUrl, contract: &Contract) -> Result<Capabilities, Unsupported> {
    Ok(model(url, *contract)?.map_or_else(null::capabilities, |model| model.capabilities().clone()))
}

/// How long a member of the backend may be silent before its session is over, where one can be. Opens nothing.
pub(crate) fn session_timeout(url: &BackendUrl, contract: Contract) -> Result<Option<Span>, Unsupported> {
    Ok(model(url, contract)?.and_then(|model| model.session_timeout()))
}

/// The settings by which the backend would keep `contract`, or what is missing. Opens nothing.
pub fn honour(url: &BackendUrl, contract: &Contract) -> Result<Settings, Unsupported> {
    let limits = url.limits();
    match model(url, *contract)? {
        Some(model) => {
            let mut settings = model.honour(contract)?;
            add_storage_settings(&mut settings, contract.storage, &limits);
            Ok(settings)
        }
        None => null::honour(*contract, limits.max_memory),
    }
}

/// The backend's model by itself, with the bound on what it holds in memory: no file, no thread, no descriptor. None behind `null`.
pub fn bare(url: &BackendUrl, contract: &Contract) -> Result<Option<Bare>, Unsupported> {
    let bound = url.limits().max_memory;
    Ok(model(url, *contract)?.map(|model| Bare::new(model, contract.storage, bound)))
}

/// Opens the backend for one contract.
pub fn open(url: &BackendUrl, contract: &Contract, place: &Place<'_>) -> Result<Box<dyn Embedded>, OpenError> {
    let limits = url.limits();
    let broker: Box<dyn Embedded> = match model(url, *contract)? {
        None => Box::new(NullBroker::new(contract, limits.max_memory)?),
        Some(model) => {
            if contract.storage != Storage::Memory && place.data.is_none() {
                return Err(OpenError::NoFolder(contract.storage));
            }
            let broker = EngineBroker::open(model, contract.storage, limits, place.data)?;
            if let Some(dir) = place.data.filter(|_| contract.storage != Storage::Memory) {
                about(url, *contract).write(dir, contract.storage == Storage::Fsync)?;
            }
            Box::new(broker)
        }
    };
    Ok(with_faults(url, broker))
}

/// Opens the backend on the folder of an earlier run with the same name and contract, whatever became of that run, and goes on where
/// its journal ends; also says what the folder held. A folder of another model or contract is refused, and receipts of the earlier run
/// are stale. `null` keeps nothing and begins anew.
pub fn reopen(url: &BackendUrl, contract: &Contract, dir: &Path) -> Result<(Box<dyn Embedded>, ScanReport), OpenError> {
    let limits = url.limits();
    let (broker, report): (Box<dyn Embedded>, ScanReport) = match model(url, *contract)? {
        None => (Box::new(NullBroker::new(contract, limits.max_memory)?), ScanReport::default()),
        Some(model) => {
            let on_files = contract.storage != Storage::Memory;
            let about = on_files.then(|| about(url, *contract).next_life(dir)).transpose()?;
            let (broker, report) = EngineBroker::reopen(model, contract.storage, limits, dir)?;
            if let Some(about) = about {
                about.write(dir, contract.storage == Storage::Fsync)?;
                broker.begin_life(about.life);
            }
            (Box::new(broker), report)
        }
    };
    Ok((with_faults(url, broker), report))
}

/// What a folder says of itself in its first life.
fn about(url: &BackendUrl, contract: Contract) -> About {
    let options = url.deciding().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    About { model: url.kind().name().to_owned(), contract: contract.to_string(), options, life: 0 }
}

fn with_faults(url: &BackendUrl, broker: Box<dyn Embedded>) -> Box<dyn Embedded> {
    match &url.faults {
        Some(faults) => Box::new(FaultyBroker::new(broker, faults.clone())),
        None => broker,
    }
}
