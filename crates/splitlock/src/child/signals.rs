//! Signals that are the program's, although its parent gets them.

use std::fs::File;
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals as Caught;

use crate::interrupt::wanted;

/// Caught from before the program starts, so that none is lost.
pub(crate) struct Signals(Caught);

impl Signals {
    pub(crate) fn catch() -> Result<Self> {
        let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
        let caught = Caught::new(wanted(&all)).context("cannot listen for signals")?;
        Ok(Self(caught))
    }

    /// From now on they go to the program; `report` is called for SIGUSR1, which QEMU uses for itself.
    pub(crate) fn pass_on(mut self, child: u32, report: impl Fn() + Send + 'static) -> Result<()> {
        let child = i32::try_from(child).ok().and_then(Pid::from_raw);
        let child = child.context("the program has no number")?;
        let pass = move |signal| {
            let is_typed = matches!(signal, SIGINT | SIGQUIT);
            if is_typed && is_in_foreground() {
                // The terminal has sent it to the program as well.
                return;
            }
            if let Some(signal) = Signal::from_named_raw(signal) {
                // It may have ended meanwhile.
                let _ended = kill_process(child, signal);
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in self.0.forever() {
                    match signal {
                        SIGUSR1 => report(),
                        signal => pass(signal),
                    }
                }
            })
            .context("cannot listen for signals")?;
        Ok(())
    }
}

fn is_in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
