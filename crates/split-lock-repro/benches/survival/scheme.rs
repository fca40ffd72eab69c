//! The ways of running a guest that splits locks.

use std::time::Duration;

use split_lock_assist::guard::{Config, Reaction};
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_model::kernel::Profile;
use split_lock_repro::host::{Kernel, grace};
use split_lock_repro::vm::Level;

/// What becomes of a guest's split locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    /// Whether the host punishes them.
    pub(crate) detects: bool,
    /// What a guard does about it, if there is one.
    pub(crate) reaction: Option<Reaction>,
    /// Whether it may use breakpoints; without a guard, whether there is one that is never hit.
    pub(crate) breakpoints: bool,
}

/// The host lets everything pass.
pub(crate) const NO_DETECTION: Scheme = Scheme {
    detects: false,
    reaction: None,
    breakpoints: false,
};
/// The same with a breakpoint where the guest never comes. A KVM that emulates the guest looks for it
/// at every instruction, which is no fault of a guard's.
pub(crate) const NO_DETECTION_ARMED: Scheme = Scheme {
    breakpoints: true,
    ..NO_DETECTION
};
/// With a guard that finds nothing to do.
pub(crate) const GUARDED: Scheme = Scheme {
    detects: false,
    ..EMULATE
};
/// The host punishes, and nobody helps.
pub(crate) const WARN: Scheme = Scheme {
    detects: true,
    ..NO_DETECTION
};
pub(crate) const GRACE: Scheme = guarded(Reaction::Grace, false);
pub(crate) const EMULATE_BY_KICKS: Scheme = guarded(Reaction::Emulate, false);
pub(crate) const EMULATE: Scheme = guarded(Reaction::Emulate, true);
pub(crate) const AUTO_BY_KICKS: Scheme = guarded(Reaction::Auto, false);
pub(crate) const AUTO: Scheme = guarded(Reaction::Auto, true);

const fn guarded(reaction: Reaction, breakpoints: bool) -> Scheme {
    Scheme {
        detects: true,
        reaction: Some(reaction),
        breakpoints,
    }
}

impl Scheme {
    /// For a row of a table.
    pub(crate) fn name(self) -> &'static str {
        match (self.detects, self.reaction, self.breakpoints) {
            (false, None, false) => "no detection",
            (false, None, true) => "no detection, but watched",
            (true, None, _) => "warn",
            (_, Some(Reaction::Grace), _) => "grace",
            (_, Some(Reaction::Emulate), false) => "emulate by kicks only",
            (_, Some(Reaction::Emulate), true) => "emulate, breakpoints",
            (_, Some(Reaction::Auto), false) => "auto by kicks only",
            (_, Some(Reaction::Auto), true) => "auto, breakpoints",
            _ => "guarded",
        }
    }

    pub(crate) fn guard(self, kernel: &Profile, vcpus: u32) -> Option<Config> {
        self.reaction.map(|reaction| Config {
            reaction,
            grace: grace(kernel, vcpus - 1),
            ..Config::default()
        })
    }

    /// Whether it emulates every split lock that it sees.
    pub(crate) fn emulates(self) -> bool {
        self.reaction == Some(Reaction::Emulate)
    }

    /// Whether the kernel's sleep is all that a split lock costs.
    pub(crate) fn is_left_to_sleep(self) -> bool {
        self.detects && matches!(self.reaction, None | Some(Reaction::Grace))
    }

    /// Whether it takes its time to find out what is best.
    pub(crate) fn chooses(self) -> bool {
        self.reaction == Some(Reaction::Auto)
    }

    /// The one that emulates whatever it costs, with the same means.
    pub(crate) fn emulating(self) -> Scheme {
        guarded(Reaction::Emulate, self.breakpoints)
    }

    /// What it is compared with, to see what a split lock costs.
    pub(crate) fn baseline(self) -> Scheme {
        if self.breakpoints {
            NO_DETECTION_ARMED
        } else {
            NO_DETECTION
        }
    }

    /// How long a punishment takes with the window after it, where there are some again and again.
    pub(crate) fn cycle(self, kernel: &Kernel) -> Option<Duration> {
        let is_spared = !self.detects || (self.emulates() && self.breakpoints);
        grace(kernel.profile(), 0).filter(|_| !is_spared)
    }

    /// As much of what there is as it may use.
    pub(crate) fn reach(self, all: BreakpointSupport) -> BreakpointSupport {
        if self.breakpoints {
            all
        } else {
            BreakpointSupport::NONE
        }
    }
}

/// All that make sense at a level: where no breakpoint stops a guest, those with breakpoints are the
/// same as those without. The first is what the others are compared with.
pub(crate) fn all_at(level: Level, reach: BreakpointSupport) -> Vec<Scheme> {
    if level == Level::Cpl3 || reach.at(0).is_none() {
        return vec![NO_DETECTION, WARN, GRACE, EMULATE_BY_KICKS, AUTO_BY_KICKS];
    }
    vec![
        NO_DETECTION,
        NO_DETECTION_ARMED,
        WARN,
        GRACE,
        EMULATE_BY_KICKS,
        AUTO_BY_KICKS,
        EMULATE,
        AUTO,
    ]
}
