//! What follows from the CPU's flags and the command line.

use split_lock_model::kernel::Era;

use super::Judge;
use crate::Mode;
use crate::facts;
use crate::{Basis, Condition, Events, LogOnlyReason, NotApplicableReason, OffReason};

const LEAK: &str = "Linux 6.13.0 to 6.13.5 let the host's reports of bus locks (#DB) get into KVM guests on this CPU: programs in \
    them crash with an unexpected SIGTRAP; 6.13.6 and 6.14 do not";

impl Judge<'_> {
    pub(super) fn by_settings(&mut self) -> Condition {
        let Some(can_detect) = self.facts.has_cpu_flag("split_lock_detect") else {
            return self.by_silence();
        };
        self.look_for_boot_lines();
        let reports_bus_locks = self.facts.has_cpu_flag("bus_lock_detect") == Some(true);
        // Whether this kernel was built with detection does not matter to its host.
        if !can_detect && self.host_may_trap() {
            return match self.mode() {
                Mode::Fatal | Mode::RateLimit(Some(_)) if reports_bus_locks => self.by_bus_locks(),
                _ => self.in_a_guest(),
            };
        }
        if self.is_not_compiled_in() {
            return Condition::NotCompiledIn;
        }
        match (can_detect, reports_bus_locks) {
            (true, _) => {
                self.says("the CPU can detect split locks (flag split_lock_detect)");
                self.by_mode(true, reports_bus_locks)
            }
            (false, true) => self.by_bus_locks(),
            (false, false) => self.neither_flag(),
        }
    }

    /// Without the CPU's flags, a whole log tells: a kernel that detects anything says so when it starts.
    fn by_silence(&mut self) -> Condition {
        let is_whole = |events: &&Events| {
            let has_info_lines = events.reported.command_line.is_some();
            events.begins_at_boot && has_info_lines && events.messages() + events.foreign_lines == 0
        };
        let (Some(_), Some(features)) = (self.events.filter(is_whole), self.features) else {
            self.basis = Basis::Nothing;
            let from = &self.facts.cpu_flags.from;
            self.doubts(format!("the CPU's flags could not be seen ({from})"));
            return Condition::Unknown;
        };
        self.basis = Basis::BootLine;
        if self.facts.hypervisor.known().is_some() && !self.facts.is_amd() {
            return self.in_a_guest();
        }
        let because = match features.era {
            Era::None => {
                self.says("Linux detects split locks since 5.7, and this is older");
                NotApplicableReason::KernelBefore57
            }
            _ => {
                self.says(
                    "the log begins at boot, and the kernel did not say there that it detects split locks or bus locks, as one \
                     that does says",
                );
                self.doubts("why it does not is not known: the CPU's flags would tell (`lscpu`)");
                NotApplicableReason::Silent
            }
        };
        Condition::NotApplicable { because }
    }

    /// A log that begins at boot and lacks a line that this kernel would have printed.
    fn look_for_boot_lines(&mut self) {
        let is_complete = self.events.is_some_and(|events| events.begins_at_boot);
        let would_print = self.facts.has_cpu_flag("split_lock_detect") == Some(true)
            && matches!(self.mode(), Mode::Warn | Mode::Fatal);
        if is_complete && would_print {
            self.doubts(
                "the log begins at boot, and the kernel did not say there that it detects split locks",
            );
        } else if self.events.is_some() && !is_complete && would_print {
            self.doubts(
                "what the kernel said when it started is not in the log any more (`journalctl -k -b` may have \
                 it: give that to --log)",
            );
        }
    }

    /// Kernels without that option (before 6.13, where it was not taken from later) do not say that it is not set.
    fn is_not_compiled_in(&mut self) -> bool {
        let option = &self.facts.bus_lock_detect_option;
        if option.known() != Some(&false) {
            return false;
        }
        let from = option.from.clone();
        self.says(format!("CONFIG_X86_BUS_LOCK_DETECT is not set ({from})"));
        true
    }

    /// AMD CPUs have no #AC for split locks, so no host on one can trap its guests.
    pub(super) fn host_may_trap(&self) -> bool {
        let is_guest = self.facts.has_cpu_flag("hypervisor") == Some(true);
        is_guest && !self.facts.is_amd()
    }

    pub(super) fn in_a_guest(&mut self) -> Condition {
        let name = self.facts.hypervisor.known().cloned();
        let name = name.map_or(String::new(), |name| format!(" ({name})"));
        let what = match self.facts.has_cpu_flag("split_lock_detect") {
            Some(_) => "whose CPU shows no flag split_lock_detect",
            None => "whose kernel does not say that it detects split locks itself",
        };
        self.says(format!("this is a virtual machine{name}, {what}"));
        if self.facts.has_cpu_flag("bus_lock_detect") == Some(true) {
            self.says("its CPU reports the bus locks of its own programs to its own kernel (#DB)");
        }
        self.sysctl_is_inert();
        Condition::HostDecides
    }

    fn neither_flag(&mut self) -> Condition {
        let name = self.facts.cpu_model.known().cloned();
        let name = name.map_or(String::new(), |name| format!(" ({name})"));
        self.says(format!(
            "the CPU{name} has neither the flag split_lock_detect nor bus_lock_detect"
        ));
        self.sysctl_is_inert();
        let is_too_old = self
            .features
            .is_some_and(|features| features.era == Era::None);
        let because = if self.facts.is_amd() {
            let host = match self.facts.has_cpu_flag("hypervisor") {
                Some(true) => ", so the host of this virtual machine cannot trap them either",
                _ => "",
            };
            self.says(format!("AMD's CPUs raise no #AC for split locks{host}"));
            let is_zen_5_or_later = self.facts.cpu_family.known() >= Some(&0x1a);
            let is_before_5_13 = facts::release(self.facts)
                .is_some_and(|(release, _)| (release.major, release.minor) < (5, 13));
            if is_zen_5_or_later && is_before_5_13 {
                self.says(
                    "this CPU reports bus locks, and Linux before 5.13 has no flag of that name: that it is missing says nothing",
                );
                NotApplicableReason::KernelBeforeBusLocks
            } else {
                NotApplicableReason::Cpu
            }
        } else if is_too_old {
            self.says(
                "Linux shows these flags since 5.7, and this is older: what the CPU can do is not known",
            );
            self.doubts.extend(self.note.map(str::to_owned));
            NotApplicableReason::KernelBefore57
        } else {
            if self.features.is_none() {
                self.release_is_unknown();
                self.doubts("Linux before 5.7 shows no such flags, and detects nothing");
            }
            NotApplicableReason::Cpu
        };
        Condition::NotApplicable { because }
    }

    /// A CPU that reports bus locks, and no split locks.
    fn by_bus_locks(&mut self) -> Condition {
        self.says("the CPU reports bus locks when they are done (flag bus_lock_detect), and no split locks");
        let has_reported = self
            .events
            .is_some_and(|events| events.debug_exceptions > 0);
        // Intel's flag is not even shown by a kernel that makes no use of it.
        let is_used = match self.features {
            _ if has_reported || !self.facts.is_amd() => true,
            Some(features) => features.amd_bus_lock,
            None => {
                self.release_is_unknown();
                true
            }
        };
        if is_used {
            if self.facts.leaks_bus_locks_into_guests() {
                self.doubts(LEAK);
            }
            return self.by_mode(false, true);
        }
        // A distribution may have taken it over, and only its log would say so.
        if let (Some(note), None) = (self.note, self.events) {
            self.doubts(note);
            self.doubts("whether this kernel makes use of that is not known: the log would say (give it to --log)");
            self.basis = Basis::Nothing;
            return Condition::Unknown;
        }
        self.says("Linux makes use of that since 6.13 where the CPU is AMD's, and this is older");
        self.doubts.extend(self.note.map(str::to_owned));
        self.sysctl_is_inert();
        let because = NotApplicableReason::KernelBeforeBusLocks;
        Condition::NotApplicable { because }
    }

    fn by_mode(&mut self, split_locks: bool, bus_locks: bool) -> Condition {
        let mode = self.mode();
        if mode != Mode::Warn
            && let Some(parameter) = self.parameter()
        {
            self.says(format!("the command line has {parameter}"));
        }
        match mode {
            Mode::Off => {
                self.sysctl_is_inert();
                let because = OffReason::Parameter;
                Condition::Off { because }
            }
            Mode::Fatal => Condition::Fatal,
            Mode::RateLimit(None) if bus_locks => {
                self.says("with that, which names no rate, nothing is limited, and split locks are not trapped (#AC is off)");
                self.bus_locks_logged()
            }
            Mode::RateLimit(per_second) if bus_locks => {
                self.says("with that, split locks are not trapped (#AC is off)");
                self.sysctl_is_inert();
                Condition::Slowdown { per_second }
            }
            Mode::RateLimit(_) => {
                self.says("with that, split locks are not trapped, and this CPU does not report bus locks");
                self.sysctl_is_inert();
                let because = OffReason::RateLimitWithoutBusLocks;
                Condition::Off { because }
            }
            Mode::Warn if split_locks => self.warned(),
            Mode::Warn => self.bus_locks_logged(),
        }
    }

    /// Bus locks are named in the log; in a virtual machine that says nothing of what its host does.
    pub(super) fn bus_locks_logged(&mut self) -> Condition {
        if self.host_may_trap() {
            return self.in_a_guest();
        }
        self.sysctl_is_inert();
        let because = LogOnlyReason::BusLocks;
        Condition::LogOnly { because }
    }
}
