//! What is below a store: file system, device, write cache; and the refusal to flush where a flush means nothing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use brokerlab_model::Storage;

use super::error::StoreError;
use super::files::Files;

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// What is below a store, as it goes into a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageFacts {
    /// The file system's type, `none` for storage in memory.
    pub file_system: String,
    /// The device it is on, as the system names it.
    pub device: String,
    /// `write back`, `write through`, or `unknown`.
    pub write_cache: String,
    /// How many segments were made new, and how many from retired ones; `fresh` ones are slower to flush.
    pub fresh_or_recycled: String,
    /// What a flush proves here.
    pub fsync_note: String,
}

impl StorageFacts {
    /// Of a store without files.
    pub fn memory() -> Self {
        let none = || "none".to_owned();
        Self {
            file_system: none(),
            device: none(),
            write_cache: none(),
            fresh_or_recycled: none(),
            fsync_note: "in memory: gone with the process".to_owned(),
        }
    }

    /// Of a folder that exists, before anything is stored in it. `storage` decides what the note says.
    pub fn below(dir: &Path, storage: Storage) -> Self {
        Self::of_device(std::fs::metadata(dir), storage)
    }

    pub(super) fn of(files: &Files, storage: Storage) -> Self {
        let (fresh, recycled) = files.made();
        Self { fresh_or_recycled: format!("{fresh} fresh, {recycled} recycled"), ..files.facts(storage) }
    }

    fn of_device(meta: std::io::Result<std::fs::Metadata>, storage: Storage) -> Self {
        let device = meta.map_or((0, 0), |meta| {
            (u64::from(rustix::fs::major(meta.dev())), u64::from(rustix::fs::minor(meta.dev())))
        });
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (file_system, source) = mounted_on(&mounts, device).unwrap_or_else(|| ("unknown".into(), "unknown".into()));
        let sys = format!("/sys/dev/block/{}:{}", device.0, device.1);
        let read = |name: &str| {
            // A partition has its queue and device one folder up.
            let text = std::fs::read_to_string(format!("{sys}/{name}"));
            text.or_else(|_| std::fs::read_to_string(format!("{sys}/../{name}"))).ok().map(|t| t.trim().to_owned())
        };
        let write_cache = read("queue/write_cache").unwrap_or_else(|| "unknown".into());
        let vendor = read("device/vendor").unwrap_or_default();
        let fsync_note = note(storage, &file_system, is_virtual(&source, &vendor), &write_cache);
        Self { file_system, device: source, write_cache, fresh_or_recycled: String::new(), fsync_note }
    }
}

fn note(storage: Storage, file_system: &str, is_virtual: bool, write_cache: &str) -> String {
    match storage {
        Storage::Memory | Storage::PageCache => "not flushed: survives the process, not the machine".to_owned(),
        Storage::Fsync if is_virtual => "flushed to the hypervisor; power loss not proven".to_owned(),
        Storage::Fsync if file_system == "overlay" => {
            "flushed through an overlay; the device below is not visible, power loss not proven".to_owned()
        }
        Storage::Fsync if write_cache == "unknown" => "flushed; the device's write cache is unknown".to_owned(),
        Storage::Fsync => "flushed to the device".to_owned(),
    }
}

/// Whether a disk is a hypervisor's: by its name, or by the vendor that virtual machines give.
fn is_virtual(source: &str, vendor: &str) -> bool {
    let name = source.rsplit('/').next().unwrap_or(source);
    let virtual_name = ["vd", "xvd", "nbd", "loop"].iter().any(|prefix| name.starts_with(prefix));
    virtual_name || ["0x1af4", "QEMU", "VMware", "Msft", "VBOX"].iter().any(|known| vendor.contains(known))
}

/// File system type and source of the device, from the text of `/proc/self/mountinfo`.
fn mounted_on(mounts: &str, (major, minor): (u64, u64)) -> Option<(String, String)> {
    let number = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(number.as_str()))?;
    let mut after = line.split(" - ").nth(1)?.split(' ');
    Some((after.next()?.to_owned(), after.next()?.to_owned()))
}

/// Refuses a folder whose file system lives in memory.
pub(super) fn refuse_memory_file_system(dir: &Path) -> Result<(), StoreError> {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
    let Ok(stat) = rustix::fs::statfs(existing) else { return Ok(()) };
    let file_system = match stat.f_type as u64 {
        TMPFS => "tmpfs",
        RAMFS => "ramfs",
        _ => return Ok(()),
    };
    Err(StoreError::NoDevice { path: dir.to_owned(), file_system })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n\
                          30 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
                          40 30 0:35 / /dev/shm rw - tmpfs tmpfs rw\n";

    #[test]
    fn the_mount_of_a_device_is_found_by_its_number() {
        assert_eq!(mounted_on(MOUNTS, (253, 0)), Some(("ext4".into(), "/dev/vda".into())));
        assert_eq!(mounted_on(MOUNTS, (0, 35)), Some(("tmpfs".into(), "tmpfs".into())));
        assert_eq!(mounted_on(MOUNTS, (8, 1)), None);
    }

    #[test]
    fn a_virtual_disk_proves_no_power_loss() {
        assert!(is_virtual("/dev/vda1", ""));
        assert!(is_virtual("/dev/sda", "QEMU"));
        assert!(!is_virtual("/dev/nvme0n1", "0x144d"));
        assert_eq!(
            note(Storage::Fsync, "ext4", true, "write back"),
            "flushed to the hypervisor; power loss not proven"
        );
        assert_eq!(note(Storage::Fsync, "ext4", false, "write back"), "flushed to the device");
    }
}
