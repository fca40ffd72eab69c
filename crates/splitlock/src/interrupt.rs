//! Ctrl-C ends a measurement early, and what has been measured is written.

use anyhow::{Context, Result};
use split_lock_repro::sweep::Stop;

use crate::output;

/// From now on, Ctrl-C (and SIGTERM, and a closed terminal) asks the sweep to stop. A second time
/// ends the program at once: files are whole or absent at any moment, so nothing is lost.
pub(crate) fn stop_on_ctrl_c() -> Result<Stop> {
    let stop = Stop::new();
    let request = stop.clone();
    ctrlc::set_handler(move || {
        if request.is_requested() {
            let _no_new_drafts = output::discard_all();
            #[expect(clippy::disallowed_methods, reason = "the user does not want to wait")]
            std::process::exit(130);
        }
        request.request();
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
