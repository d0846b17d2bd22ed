//! A folder of this machine's file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::Storage;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Disk, DiskFile, Lock};
use crate::store::error::StoreError;
use crate::store::facts::{StorageFacts, refuse_memory_file_system};

/// A folder of this machine.
#[derive(Debug)]
pub struct SystemDisk {
    dir: PathBuf,
    /// Folders in which folders were made that a power cut may still take.
    unflushed: Mutex<Vec<PathBuf>>,
}

impl SystemDisk {
    /// The folder `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), unflushed: Mutex::default() }
    }

    /// Makes the folder and those above it.
    fn make(&self) -> io::Result<()> {
        let missing = self.dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let above = |path: &Path| path.parent().filter(|above| !above.as_os_str().is_empty()).map(Path::to_owned);
        let unflushed: Vec<_> = missing.map(|path| above(path).unwrap_or_else(|| PathBuf::from("."))).collect();
        std::fs::create_dir_all(&self.dir)?;
        self.unflushed().extend(unflushed);
        Ok(())
    }

    fn unflushed(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.unflushed.lock().expect("no thread panics while it holds a list of folders")
    }
}

impl Disk for SystemDisk {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn salt(&self) -> u64 {
        // The system draws the keys of a hasher.
        RandomState::new().hash_one((std::process::id(), &self.dir))
    }

    fn facts(&self, storage: Storage) -> StorageFacts {
        StorageFacts::below(&self.dir, storage)
    }

    fn check_flush(&self) -> Result<(), StoreError> {
        refuse_memory_file_system(&self.dir)
    }

    fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        let failed = |what| move |cause| StoreError::Folder { path: self.dir.clone(), what, cause: Arc::new(cause) };
        self.make().map_err(failed("making the folder"))?;
        let path = self.dir.join(name);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let lock = lock.map_err(failed("making its lock file"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Box::new(lock)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(self.dir.clone())),
            Err(TryLockError::Error(cause)) => Err(failed("locking it")(cause)),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.dir.join(name))?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.dir.join(name))?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn flush_names(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()?;
        let mut unflushed = self.unflushed();
        for folder in &*unflushed {
            File::open(folder)?.sync_all()?;
        }
        unflushed.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl DiskFile for SystemFile {
    fn reserve(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => self.0.set_len(len),
            Err(errno) => Err(errno.into()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, slices, at)?)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.0, bytes, at)?)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.sync_all()
    }
}
