//! Whether a workload fits a backend's bounds: asked before anything runs, because a run would only show that nothing goes
//! through.
//!
//! Leaves out the contract, which the backend answers itself.

use std::path::Path;

use brokerlab_embedded::{BackendUrl, Kind, StorageFacts, capabilities};
use brokerlab_host::check_bindings;
use brokerlab_host::started::Started;
use brokerlab_model::{Capabilities, Feature, Order, PLACES_MAX, Storage};
use brokerlab_workloads::profile::Profile;

use crate::exit::BadInput;

/// What the fixed case of a backend that keeps what was consumed needs in memory.
const MEMORY_LEAST: u64 = 1 << 20;
/// What it needs in segments.
const DATA_LEAST: u64 = 2 << 20;

/// Refuses what can't fit: lanes, bounds of memory and data, the largest message.
pub(crate) fn check(url: &BackendUrl, lanes: u32, profile: &Profile) -> anyhow::Result<()> {
    check_faults(url, profile)?;
    check_lanes(url, lanes, profile)?;
    check_bounds(url)?;
    if let Ok(capabilities) = capabilities(url, &profile.contract) {
        check_routing(&capabilities, profile)?;
        check_delay(url, &capabilities, profile)?;
    }
    check_message(url, profile)
}

/// A message with a delay of its own comes after later ones, so where an order is kept every publish would be refused.
fn check_delay(url: &BackendUrl, capabilities: &Capabilities, profile: &Profile) -> anyhow::Result<()> {
    let ordered = profile.contract.order != Order::None || capabilities.has(Feature::MessageGroups);
    if profile.headers.delay.0.is_empty() || !capabilities.has(Feature::Delay) || !ordered {
        return Ok(());
    }
    Err(BadInput::error(format!(
        "headers.delay: a message's own delay would break the order that {url} keeps, and each of its publishes is refused; remove it, or ask \
         for order none without message groups"
    )))
}

/// A flush to a file system in memory proves nothing.
pub(crate) fn check_storage(url: &BackendUrl, folder: &Path, profile: &Profile) -> anyhow::Result<()> {
    let storage = profile.contract.storage;
    if storage != Storage::Fsync || url.kind() == Kind::Null {
        return Ok(());
    }
    let on = StorageFacts::below(folder, storage).file_system;
    if !["tmpfs", "ramfs"].contains(&on.as_str()) {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(folder).display();
    Err(BadInput::error(format!(
        "{parent} is on {on}, which lives in memory: a flush there proves nothing; name a folder on a disk with --data, or ask for storage = \
         page-cache"
    )))
}

/// Whether declared faults have a server of their own to act on.
pub(crate) fn check_live_faults(url: &str, profile: &Profile) -> anyhow::Result<()> {
    if profile.faults.is_empty() {
        return Ok(());
    }
    Started::find(url, &profile.faults).map(drop).map_err(BadInput::error)
}

/// There is no server to kill or pause in this process.
fn check_faults(url: &BackendUrl, profile: &Profile) -> anyhow::Result<()> {
    if profile.faults.is_empty() {
        return Ok(());
    }
    Err(BadInput::error(format!(
        "[[faults]] act on servers that scripts/brokers started; the simulator takes them later: {} is in this process; remove [[faults]] or take a live backend",
        url.kind().name()
    )))
}

fn check_lanes(url: &BackendUrl, lanes: u32, profile: &Profile) -> anyhow::Result<()> {
    let (channels, name) = (profile.channels.len(), url.kind().name());
    let (all, most) = (u64::from(lanes) * u64::from(channels), u64::from(url.max_lanes()));
    if all > most {
        return Err(BadInput::error(format!(
            "{lanes} lanes for each of {channels} channels: {name} has at most {most} over all channels; lower --lanes"
        )));
    }
    let groups = profile.groups.len();
    if all * groups as u64 > PLACES_MAX {
        return Err(BadInput::error(format!(
            "{lanes} lanes for each of {channels} channels, read by {groups} groups: {name} has at most {PLACES_MAX} lanes times groups; lower \
             --lanes"
        )));
    }
    Ok(())
}

fn check_bounds(url: &BackendUrl) -> anyhow::Result<()> {
    let limits = url.limits();
    let bounds = [("max_memory", limits.max_memory, MEMORY_LEAST), ("max_data", limits.max_data, DATA_LEAST)];
    match bounds.iter().find(|(_, value, least)| value < least) {
        None => Ok(()),
        Some((name, value, least)) => Err(BadInput::error(format!(
            "{url}: {name} of {} is too little for the fixed case that each backend goes through first; write {name}={}MiB or more",
            size(*value),
            least >> 20
        ))),
    }
}

/// The largest message with its key against what the backend takes. A contract that it can't keep is told elsewhere.
fn check_message(url: &BackendUrl, profile: &Profile) -> anyhow::Result<()> {
    let Ok(capabilities) = capabilities(url, &profile.contract) else { return Ok(()) };
    let (largest, most) = (profile.max_size(), capabilities.max_message_bytes);
    let needed = u64::from(largest) + u64::from(profile.max_key()) + u64::from(profile.max_headers());
    if needed <= u64::from(most) {
        return Ok(());
    }
    let name = url.kind().name();
    let raise = match url.kind() {
        Kind::Log | Kind::Queue | Kind::Direct => format!(" or raise {name}?max_message=…"),
        Kind::Shard => " or raise shard?max_message=… and write_bytes=…".to_owned(),
        Kind::Null => String::new(),
    };
    Err(BadInput::error(format!(
        "sizes up to {}, {needed} bytes with the key, exceed {name}'s max_message of {}; lower --size{raise}",
        size(u64::from(largest)),
        size(u64::from(most))
    )))
}

/// Groups with bindings need a backend that routes.
fn check_routing(capabilities: &Capabilities, profile: &Profile) -> anyhow::Result<()> {
    check_bindings(capabilities, profile).map_err(BadInput::error)
}

/// The largest message against what a real broker takes, and bindings against what it has.
pub(crate) fn check_live(url: &str, capabilities: &Capabilities, profile: &Profile) -> anyhow::Result<()> {
    let needed = u64::from(profile.max_size()) + u64::from(profile.max_key()) + u64::from(profile.max_headers());
    check_routing(capabilities, profile)?;
    if needed <= u64::from(capabilities.max_message_bytes) {
        return Ok(());
    }
    Err(BadInput::error(format!(
        "sizes up to {}, {needed} bytes with the key, exceed the {} that {url} takes; lower --size, or raise the server's limit",
        size(u64::from(profile.max_size())),
        size(u64::from(capabilities.max_message_bytes))
    )))
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why the default profile with these overrides does not fit; `None` when it does.
    fn refused(url: &str, lanes: u32, sets: &[(&str, &str)]) -> Option<String> {
        let profile = Profile::load_with("order-processing", sets).unwrap();
        check(&BackendUrl::parse(url).unwrap(), lanes, &profile).err().map(|error| error.to_string())
    }

    #[test]
    fn a_message_is_held_against_the_bound_with_its_key() {
        assert_eq!(refused("shard", 1, &[("sizes", "1048560B")]), None);
        let told = refused("shard", 1, &[("sizes", "1048561B")]).unwrap();
        assert!(told.contains("1048561 B, 1048577 bytes with the key, exceed shard's max_message of 1 MiB"), "{told}");
        assert_eq!(refused("queue", 1, &[("sizes", "2MiB")]), None);
        let told = refused("log", 1, &[("sizes", "2MiB")]).unwrap();
        assert!(
            told.contains("sizes up to 2 MiB") && told.contains("lower --size or raise log?max_message="),
            "{told}"
        );
        assert_eq!(refused("log?max_message=3MiB", 1, &[("sizes", "2MiB")]), None);
    }

    #[test]
    fn faults_are_refused_where_there_is_no_server() {
        let told = refused("log", 1, &[("faults", "[{ at = \"0s\", action = \"kill\" }]")]).unwrap();
        assert!(told.starts_with("[[faults]] act on servers that scripts/brokers started"), "{told}");
        assert_eq!(refused("log", 1, &[("faults", "[]")]), None);
    }

    #[test]
    fn bindings_are_refused_where_nothing_routes() {
        let sets = [("groups.0.bindings", "[{ kind = \"everything\" }]")];
        assert_eq!(refused("queue", 1, &sets), None);
        for url in ["log", "shard", "direct", "null"] {
            let told = refused(url, 1, &sets).unwrap();
            assert!(told.contains(&format!("{url} has no routing")) && told.contains("take a backend with"), "{told}");
        }
    }

    #[test]
    fn a_delay_of_a_message_is_refused_where_an_order_is_kept() {
        let delayed = ("headers.delay", "10ms");
        let per_key = ("contract", "per-key");
        assert_eq!(refused("queue", 1, &[delayed]), None);
        assert_eq!(refused("queue?as=sqs-fifo", 1, &[per_key]), None);
        assert_eq!(refused("log", 1, &[delayed, per_key]), None, "it heeds no delay");
        for (url, sets) in [("queue?as=sqs-fifo", &[delayed][..]), ("queue", &[delayed, per_key])] {
            let told = refused(url, 1, sets).unwrap();
            assert!(told.starts_with("headers.delay: ") && told.contains("remove it"), "{told}");
        }
    }

    #[test]
    fn lanes_count_over_all_channels() {
        assert_eq!(refused("log", 131_072, &[]), None);
        let told = refused("log", 131_073, &[]).unwrap();
        assert!(told.contains("log has at most 131072 over all channels; lower --lanes"), "{told}");
        let two = [("channels", "{ names = [\"a\", \"b\"] }")];
        assert_eq!(refused("shard", 10_000, &two), None);
        assert!(refused("shard", 10_001, &two).unwrap().contains("each of 2 channels"));
        let groups = |count: u32| {
            let groups: Vec<String> = (0..count).map(|n| format!("{{ name = \"g{n}\", members = 1 }}")).collect();
            format!("[{}]", groups.join(", "))
        };
        let (eight, nine) = (groups(8), groups(9));
        assert_eq!(refused("queue", 131_072, &[("groups", &eight)]), None);
        let told = refused("queue", 131_072, &[("groups", &nine)]).unwrap();
        assert!(
            told.contains("read by 9 groups: queue has at most 1048576 lanes times groups; lower --lanes"),
            "{told}"
        );
    }

    #[test]
    fn bounds_that_the_fixed_case_can_t_go_through() {
        for url in ["log?max_memory=1MiB", "log?max_data=2MiB"] {
            assert_eq!(refused(url, 1, &[]), None, "{url}");
        }
        let told = refused("log?max_memory=1KiB", 1, &[]).unwrap();
        assert!(told.contains("max_memory of 1 KiB") && told.contains("write max_memory=1MiB or more"), "{told}");
        let told = refused("queue?max_data=1MiB", 1, &[]).unwrap();
        assert!(told.contains("write max_data=2MiB or more"), "{told}");
    }
}
