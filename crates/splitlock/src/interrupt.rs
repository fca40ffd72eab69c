//! Ctrl-C ends a measurement early, and what has been measured is written.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use split_lock_repro::sweep::Stop;

use crate::exit::EXIT_STOPPED;
use crate::output;

/// From now on, Ctrl-C (and SIGTERM, and a closed terminal) asks the sweep to stop. A second time
/// ends the program at once: files are whole or absent at any moment, so nothing is lost.
pub(crate) fn stop_on_ctrl_c() -> Result<Stop> {
    stop_on_ctrl_c_and(|| ())
}

/// The same; before the program ends at once, `restore` puts the terminal in order.
pub(crate) fn stop_on_ctrl_c_and(restore: impl Fn() + Send + 'static) -> Result<Stop> {
    let stop = Stop::new();
    let request = stop.clone();
    on_ctrl_c(move || {
        if request.is_requested() {
            restore();
            leave();
        }
        request.request();
    })?;
    Ok(stop)
}

/// From now on, Ctrl-C ends the program at once, and leaves no draft behind.
pub(crate) fn leave_on_ctrl_c() -> Result<()> {
    on_ctrl_c(|| leave())
}

fn leave() -> ! {
    let _no_new_drafts = output::discard_all();
    #[expect(clippy::disallowed_methods, reason = "the user does not want to wait")]
    std::process::exit(EXIT_STOPPED.into())
}

fn on_ctrl_c(act: impl Fn() + Send + 'static) -> Result<()> {
    let cannot_listen = "cannot listen for Ctrl-C";
    let mut signals = Signals::new(wanted(&[SIGHUP, SIGINT, SIGTERM])).context(cannot_listen)?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(|_| act()))
        .context(cannot_listen)?;
    Ok(())
}

/// Those of these signals that whoever started us wants us to hear.
pub(crate) fn wanted(signals: &[i32]) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = mask_in(&status).unwrap_or(0);
    let signals = signals.iter().copied();
    signals.filter(|&signal| !is_in(ignored, signal)).collect()
}

/// The signals that whoever started us does not want us to hear, as `nohup` does: bit 0 is signal 1.
fn mask_in(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn is_in(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tsplitlock\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        let mask = mask_in(status).unwrap();
        assert!(is_in(mask, SIGHUP));
        assert!(!is_in(mask, SIGINT) && !is_in(mask, SIGTERM));
        assert_eq!(mask_in("Name:\tsplitlock\n"), None);
    }
}
