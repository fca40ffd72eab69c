//! What is needed to help a vCPU, once for each process.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::OnceLock;

use split_lock_assist::kvm::BreakpointSupport;

use crate::report::Report;
use crate::settings::{Guard, Settings};
use crate::sys::{self, KickSignal};

#[derive(Debug)]
pub(crate) struct Help {
    settings: Settings,
    report: Report,
    /// A duplicate of the VMM's `/dev/kvm`.
    kvm: OnceLock<OwnedFd>,
    breakpoints: OnceLock<BreakpointSupport>,
    signal: OnceLock<Option<KickSignal>>,
}

impl Help {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            report: Report::new(settings.reports.as_deref(), sys::process_id()),
            settings,
            kvm: OnceLock::new(),
            breakpoints: OnceLock::new(),
            signal: OnceLock::new(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// The VMM has used this descriptor of `/dev/kvm`.
    pub(crate) fn remember_kvm(&self, fd: RawFd) {
        if self.kvm.get().is_none()
            && let Some(duplicate) = sys::duplicate(fd)
        {
            let _already = self.kvm.set(duplicate);
        }
    }

    /// `None` if nobody is to be kicked, or no signal is free.
    pub(crate) fn kick_signal(&self) -> Option<KickSignal> {
        *self.signal.get_or_init(|| {
            if self.settings.guard == Guard::Report {
                return None;
            }
            let signal = KickSignal::install();
            if signal.is_none() {
                self.report.problem(
                    "the program uses all real-time signals, so that nobody can be helped",
                );
            }
            signal
        })
    }

    /// What is tried out once, when the first vCPU is made.
    pub(crate) fn breakpoint_support(&self) -> BreakpointSupport {
        *self.breakpoints.get_or_init(|| {
            let emulates = self.settings.guard == Guard::Emulate;
            let probe = |kvm| {
                let probed = BreakpointSupport::probe(kvm);
                probed
                    .inspect_err(|error| self.report.problem(&error.to_string()))
                    .ok()
            };
            let kvm = self.kvm.get().filter(|_| emulates);
            kvm.and_then(probe).unwrap_or(BreakpointSupport::NONE)
        })
    }
}
