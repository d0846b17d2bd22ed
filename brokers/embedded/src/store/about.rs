//! What a folder of segments says of itself, in a text that people can read: whose it is, and which life of it this is.
//!
//! A journal without it can be read by any model; what it means is told by the model and contract under which it was written. Each time
//! that a folder is taken over another life begins, whose number never comes again: what an earlier one gave out to be shown later, such
//! as receipts, can be told apart by it. Leaves out the journal.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, SystemDisk};
use super::error::StoreError;

/// The name of the file.
pub(crate) const ABOUT: &str = "about";
/// The name under which it is written at first.
const NEW: &str = "about.new";
const FIRST_LINE: &str = "A brokerlab journal.";
/// It is never longer.
const BYTES_MAX: usize = 4_096;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// The model's name.
    pub(crate) model: String,
    /// The contract in words.
    pub(crate) contract: String,
    /// How often the folder was taken over before.
    pub(crate) life: u32,
}

impl About {
    /// What the folder says; none where nobody wrote it.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let file = match SystemDisk::new(dir).open(ABOUT) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(dir, "reading what it is")(error)),
        };
        let mut bytes = [0; BYTES_MAX];
        let len = file.read(&mut bytes, 0).map_err(failed(dir, "reading what it is"))?;
        let text = std::str::from_utf8(&bytes[..len]).ok();
        text.and_then(Self::parse).map(Some).ok_or_else(|| StoreError::About(dir.join(ABOUT)))
    }

    /// Refuses a folder of another model or contract, before anything of it is touched; returns its next life's number.
    pub(crate) fn next_life(&self, dir: &Path) -> Result<u32, StoreError> {
        let Some(found) = Self::read(dir)? else { return Ok(1) };
        if (&found.model, &found.contract) == (&self.model, &self.contract) {
            return Ok(found.life.wrapping_add(1));
        }
        Err(StoreError::OtherOwner {
            path: dir.join(ABOUT),
            found: format!("`{}` under `{}`", found.model, found.contract),
            asked: format!("`{}` under `{}`", self.model, self.contract),
        })
    }

    /// Writes it in one step: whoever reads finds the old one or the new one. The folder is locked by its caller.
    pub(crate) fn write(&self, dir: &Path, flushes: bool) -> Result<(), StoreError> {
        self.replace(&SystemDisk::new(dir), flushes).map_err(failed(dir, "writing what it is"))
    }

    fn replace(&self, disk: &dyn Disk, flushes: bool) -> io::Result<()> {
        match disk.remove(NEW) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = disk.create(NEW)?;
        let text = self.print();
        if file.write(&[IoSlice::new(text.as_bytes())], 0)? < text.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        if flushes {
            file.flush()?;
        }
        disk.rename(NEW, ABOUT)?;
        if flushes { disk.flush_names() } else { Ok(()) }
    }

    fn print(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for (name, value) in [("model", &self.model), ("contract", &self.contract), ("life", &self.life.to_string())] {
            let _ = writeln!(text, "{name} = {value}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(" = ").map(str::to_owned);
        let first = text.lines().next()? == FIRST_LINE;
        // The first line.
        let _ = value("");
        let (model, contract, life) = (value("model")?, value("contract")?, value("life")?.parse().ok()?);
        (first && text.ends_with('\n')).then_some(Self { model, contract, life })
    }
}

fn failed(dir: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |cause| StoreError::Folder { path: dir.to_owned(), what, cause: Arc::new(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_whose_it_is_and_counts_its_lives() {
        let folder = tempfile::tempdir().unwrap();
        let about = About { model: "log".to_owned(), contract: "fsync, 1 copy".to_owned(), life: 0 };
        assert_eq!(about.next_life(folder.path()).unwrap(), 1, "nobody has said anything");
        for life in [0, 1, 7] {
            About { life, ..about.clone() }.write(folder.path(), life == 7).unwrap();
            assert_eq!(About::read(folder.path()).unwrap(), Some(About { life, ..about.clone() }));
            assert_eq!(about.next_life(folder.path()).unwrap(), life + 1);
        }
        let other = About { model: "queue".to_owned(), ..about.clone() };
        let refused = other.next_life(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("about: written by `log` under `fsync, 1 copy`, and `queue`"), "{refused}");
        assert!(refused.contains("--data"), "{refused}");
    }

    #[test]
    fn a_text_that_is_cut_short_or_another_s_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let about = About { model: "log".to_owned(), contract: "memory".to_owned(), life: 12 };
        let whole = about.print();
        for text in ["", "something else\n", &whole[..whole.len() - 1], &whole[..30]] {
            std::fs::write(folder.path().join(ABOUT), text).unwrap();
            assert!(
                matches!(About::read(folder.path()), Err(StoreError::About(path)) if path.ends_with(ABOUT)),
                "{text}"
            );
        }
    }
}
