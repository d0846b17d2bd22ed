//! Opens a page with the desktop's own program.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::progress;

/// Opens `page`; where that can't be done, says so and goes on.
pub(crate) fn open(page: &Path) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started =
        Command::new(opener).arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        progress::say(&format!("can't open the page with {opener}: {error}; open {} yourself", page.display()));
    }
}
