//! Ctrl-C and SIGTERM as a flag that ends a run early; what was measured is still written.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

/// A flag that the first Ctrl-C or SIGTERM raises. A second one ends the process at once.
pub(crate) fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal finds the flag down and only raises it, the second finds it up and exits.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .context("can't listen for Ctrl-C")?;
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("can't listen for Ctrl-C")?;
    }
    Ok(flag)
}
