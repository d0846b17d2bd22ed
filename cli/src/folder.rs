//! The folder in which a command's visits store: made at its beginning, removed at its end, and known again when a command was killed.
//!
//! Leaves out the folder of each visit, which the host makes in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::exit::BadInput;

/// What the names of data folders begin with; the process's number follows.
const DATA_PREFIX: &str = "brokerlab-";

/// A folder for the data of all visits, removed at the end. A folder that is named and not there is not made: it may be a slip,
/// and then another disk would be measured.
pub(crate) fn for_data(named: Option<&Path>) -> anyhow::Result<tempfile::TempDir> {
    let parent: PathBuf = named.map_or_else(std::env::temp_dir, Path::to_path_buf);
    tempfile::Builder::new().prefix(&format!("{DATA_PREFIX}{}-", std::process::id())).tempdir_in(&parent).map_err(
        |error| {
            let told = format!("can't store in {}; make that folder, or name another with --data", parent.display());
            trouble(error, told)
        },
    )
}

/// Folders beside `folder` that commands left whose processes are gone: they were killed and could not clean up.
pub(crate) fn left_behind(folder: &Path) -> Vec<PathBuf> {
    let gone = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let process = name.to_str()?.strip_prefix(DATA_PREFIX)?.split_once('-')?.0.parse::<u32>().ok()?;
        (!Path::new("/proc").join(process.to_string()).exists()).then(|| entry.path())
    };
    let Some(Ok(entries)) = folder.parent().map(std::fs::read_dir) else { return Vec::new() };
    let mut left: Vec<PathBuf> = entries.flatten().filter_map(gone).collect();
    left.sort();
    left
}

/// A folder that was named wrongly is bad input; one that fails otherwise is a failure.
pub(crate) fn trouble(error: std::io::Error, told: String) -> anyhow::Error {
    let named_wrongly =
        [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::AlreadyExists, ErrorKind::PermissionDenied];
    if named_wrongly.contains(&error.kind()) {
        BadInput::error(format!("{told}: {error}"))
    } else {
        anyhow::Error::new(error).context(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_left_is_found_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let own = for_data(Some(parent.path())).unwrap();
        // No process has a number as large.
        let left = parent.path().join("brokerlab-4294967295-abc");
        for path in [&left, &parent.path().join("brokerlab-out"), &parent.path().join("other-4294967295-abc")] {
            std::fs::create_dir(path).unwrap();
        }
        assert_eq!(left_behind(own.path()), [left]);
    }
}
