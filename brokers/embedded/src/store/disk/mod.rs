//! What a store asks of a file system: one folder with a lock and files in it, as a trait.
//!
//! [`SystemDisk`] is a folder of this machine, [`SimulatedDisk`] one that forgets and fails as disks may. Leaves out retries, counting
//! and what is in the files: those are the store's.

mod contents;
mod random;
mod simulated;
mod system;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use brokerlab_model::Storage;

use super::error::StoreError;
use super::facts::StorageFacts;

pub(crate) use random::Random;
pub use simulated::{Fault, SimulatedDisk};
pub use system::SystemDisk;

/// Held as long as it lives: nobody else gets the folder.
pub type Lock = Box<dyn Debug + Send + Sync>;

/// A folder of files, each known by its name in it. Calls come from any thread.
pub trait Disk: Debug + Send + Sync {
    /// Where the folder is, for messages.
    fn dir(&self) -> &Path;

    /// A number that nobody can guess who does not see the folder: another one whenever it is asked for.
    fn salt(&self) -> u64;

    /// What is below it.
    fn facts(&self, storage: Storage) -> StorageFacts;

    /// Refuses a folder where a flush means nothing.
    fn check_flush(&self) -> Result<(), StoreError>;

    /// Makes the folder, if it is not there, and locks it against everybody else by the file `name`.
    fn lock(&self, name: &str) -> Result<Lock, StoreError>;

    /// The names in the folder, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file; an error if there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to be read and written.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which names there are.
    fn flush_names(&self) -> io::Result<()>;
}

/// An open file. Renaming or removing its name does not close it.
pub trait DiskFile: Debug + Send + Sync {
    /// Lengthens the file to `len` bytes, which read as zeros, and reserves their space.
    fn reserve(&self, len: u64) -> io::Result<()>;

    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes slices one after another from `at` on; returns how many bytes, which may be fewer. At most 1,024 slices.
    fn write(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize>;

    /// Reads from `at` on; returns how many bytes, which may be fewer, and none only at the end.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// Makes what was written and the length durable. After an error nobody knows what is on the device.
    fn flush(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes, durably.
    fn truncate(&self, len: u64) -> io::Result<()>;
}
