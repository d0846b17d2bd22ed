//! What can go wrong with a folder of segments, each with its remedy.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use brokerlab_model::JournalError;

/// Why a store could not be opened, written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder can't be made or used.
    #[error("{}: {what}: {cause}; name a folder that can be written with --data DIR", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// Another run uses the folder.
    #[error("{} is in use by another run; wait for it to end or name another folder with --data DIR", .0.display())]
    Locked(PathBuf),
    /// The folder holds something already.
    #[error(
        "{} is not empty (it holds `{found}`); a run starts with an empty folder: name another one with --data DIR, or empty \
         this one after looking at it",
        path.display()
    )]
    NotEmpty {
        /// Which.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The file system has no device below it.
    #[error(
        "{} is on {file_system}, which lives in memory: a flush there proves nothing; name a folder on a disk with --data DIR, \
         or ask for storage = page-cache",
        path.display()
    )]
    NoDevice {
        /// The folder.
        path: PathBuf,
        /// Its file system.
        file_system: &'static str,
    },
    /// A write or flush failed. It is not tried again: after a failed flush nobody knows what is on the device.
    #[error("{}: {what} failed: {cause}; nothing more is taken; free space or replace the device and start a new run", path.display())]
    Write {
        /// The segment.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A read failed.
    #[error("{}: reading {len} bytes at {at} failed: {cause}; the device or the file is damaged, the run can't go on", path.display())]
    Read {
        /// The segment.
        path: PathBuf,
        /// Where.
        at: u64,
        /// How many.
        len: u64,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A frame that was stored as the contract says is damaged, and stored data follows it.
    #[error(
        "{}: the frame at byte {at} (number {frame}) is damaged, and data that was stored after it is whole: this is no torn tail; \
         restore the folder from a copy",
        path.display()
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the frame begins.
        at: u64,
        /// The frame's number in the journal.
        frame: u64,
    },
    /// A segment was written by another version.
    #[error("{}: written as version {found}, this program reads version {expected}; use the version that wrote it", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is understood.
        expected: u32,
    },
    /// A segment's file has a header that nobody wrote.
    #[error("{}: the segment's header is damaged; restore the folder from a copy", .0.display())]
    Header(PathBuf),
    /// The segments are whole, and what they say can't be.
    #[error("{}: {cause}", path.display())]
    Journal {
        /// The folder.
        path: PathBuf,
        /// What contradicts what.
        cause: JournalError,
    },
    /// The folder was written by another model, or under another contract.
    #[error("{}: written by {found}, and {asked} was asked for; ask for what it is, or name another folder with --data DIR", path.display())]
    OtherOwner {
        /// The file that says so.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// The file that says whose the folder is says nothing.
    #[error(
        "{}: it does not say whose the folder is, as a power cut without a flush may leave it; restore it from a copy, or remove it if the \
         folder is known to be of the model and contract that are asked for",
        .0.display()
    )]
    About(PathBuf),
    /// A segment is missing between others.
    #[error("{}: the segment is missing, but later ones exist; restore the folder from a copy", .0.display())]
    Missing(PathBuf),
    /// A wake-up descriptor could not be had.
    #[error("no eventfd: {0}; raise the limit of open files (ulimit -n)")]
    Eventfd(Arc<io::Error>),
}
