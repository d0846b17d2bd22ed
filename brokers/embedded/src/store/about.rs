//! What a folder of segments says of itself, in a text that people can read: whose it is, and which life of it this is.
//!
//! A journal without it can be read by any model; what it means is told by the model and contract under which it was written, and by the few
//! options that decide where a message belongs and whether it stays. Each time
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
    /// Options that decide what the journal means, by name; folders of earlier versions say none.
    pub(crate) options: Vec<(String, String)>,
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

    /// Refuses a folder of another model, contract or such option, before anything of it is touched; returns what is said of its next
    /// life: what this does not name stays as it was.
    pub(crate) fn next_life(mut self, dir: &Path) -> Result<Self, StoreError> {
        let Some(found) = Self::read(dir)? else { return Ok(Self { life: 1, ..self }) };
        let other = self.other_options(&found);
        if (&found.model, &found.contract) == (&self.model, &self.contract) && other.is_empty() {
            let unnamed = |(name, _): &(String, String)| !self.options.iter().any(|(known, _)| known == name);
            let kept: Vec<_> = found.options.into_iter().filter(unnamed).collect();
            self.options.extend(kept);
            return Ok(Self { life: found.life.wrapping_add(1), ..self });
        }
        let words = |of: &Self| {
            let with = of.options.iter().filter(|(name, _)| other.contains(name));
            let with: Vec<String> = with.map(|(name, value)| format!("{name}={value}")).collect();
            let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(" ")) };
            format!("`{}` under `{}`{with}", of.model, of.contract)
        };
        Err(StoreError::OtherOwner { path: dir.join(ABOUT), found: words(&found), asked: words(&self) })
    }

    /// The names of options that both say, and differently.
    fn other_options(&self, found: &Self) -> Vec<String> {
        let differs = |(name, value): &&(String, String)| {
            found.options.iter().any(|(known, theirs)| known == name && theirs != value)
        };
        self.options.iter().filter(differs).map(|(name, _)| name.clone()).collect()
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
        for (name, value) in &self.options {
            let _ = writeln!(text, "option {name} = {value}");
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
        let option = |line: &str| {
            let (name, value) = line.strip_prefix("option ")?.split_once(" = ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        let options = lines.map(option).collect::<Option<_>>()?;
        (first && text.ends_with('\n')).then_some(Self { model, contract, options, life })
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
        let about =
            About { model: "log".to_owned(), contract: "fsync, 1 copy".to_owned(), options: Vec::new(), life: 0 };
        assert_eq!(about.clone().next_life(folder.path()).unwrap().life, 1, "nobody has said anything");
        for life in [0, 1, 7] {
            About { life, ..about.clone() }.write(folder.path(), life == 7).unwrap();
            assert_eq!(About::read(folder.path()).unwrap(), Some(About { life, ..about.clone() }));
            assert_eq!(about.clone().next_life(folder.path()).unwrap(), About { life: life + 1, ..about.clone() });
        }
        let other = About { model: "queue".to_owned(), ..about.clone() };
        let refused = other.next_life(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("about: written by `log` under `fsync, 1 copy`, and `queue`"), "{refused}");
        assert!(refused.contains("--data"), "{refused}");
    }

    fn options(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_option_that_both_name_and_differently_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let of = |said: &[(&str, &str)]| About {
            model: "shard".to_owned(),
            contract: "fsync".to_owned(),
            options: options(said),
            life: 3,
        };
        let said = of(&[("hash", "md5"), ("lanes", "4")]);
        said.write(folder.path(), false).unwrap();
        assert_eq!(About::read(folder.path()).unwrap(), Some(said.clone()));
        for same in [said.clone(), of(&[("hash", "md5")]), of(&[("lanes", "4"), ("more", "1")]), of(&[])] {
            let next = same.next_life(folder.path()).unwrap();
            assert!(next.life == 4 && said.options.iter().all(|one| next.options.contains(one)), "{next:?}");
        }
        let refused = of(&[("hash", "xxh3"), ("lanes", "4")]).next_life(folder.path()).unwrap_err().to_string();
        let words =
            "written by `shard` under `fsync` with hash=md5, and `shard` under `fsync` with hash=xxh3 was asked for";
        assert!(refused.contains(words), "{refused}");
        of(&[]).write(folder.path(), false).unwrap();
        assert_eq!(
            said.clone().next_life(folder.path()).unwrap(),
            About { life: 4, ..said },
            "an earlier version says none"
        );
    }

    #[test]
    fn a_text_that_is_cut_short_or_another_s_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let about =
            About { model: "log".to_owned(), contract: "memory".to_owned(), options: options(&[("a", "b")]), life: 12 };
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
