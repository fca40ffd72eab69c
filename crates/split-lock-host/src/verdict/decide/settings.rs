//! What follows from the CPU's flags and the command line.

use split_lock_model::kernel::{Era, Release};

use super::Judge;
use crate::Mode;
use crate::verdict::cost::release;
use crate::verdict::{Basis, Condition, LogOnly, Off, Unable};

/// Since then detection is an option of the kernel's configuration.
const OPTIONAL_SINCE: Release = Release::new(6, 13, 0);

impl Judge<'_> {
    pub(super) fn by_settings(&mut self) -> Condition {
        let Some(can_detect) = self.facts.has_cpu_flag("split_lock_detect") else {
            self.basis = Basis::Nothing;
            self.doubts("the CPU's flags could not be seen (/proc/cpuinfo)");
            return Condition::Unknown;
        };
        self.look_for_boot_lines();
        if self.is_not_compiled_in() {
            return Condition::NotCompiledIn;
        }
        match (can_detect, self.facts.has_cpu_flag("bus_lock_detect")) {
            (true, bus_locks) => {
                self.says("the CPU can detect split locks (flag split_lock_detect)");
                self.by_mode(true, bus_locks == Some(true))
            }
            (false, Some(true)) if !self.host_may_trap() => self.by_bus_locks(),
            (false, _) if self.host_may_trap() => self.in_a_guest(),
            (false, _) => self.cpu_cannot(),
        }
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

    fn is_not_compiled_in(&mut self) -> bool {
        let is_optional = release(self.facts).is_some_and(|(release, _)| release >= OPTIONAL_SINCE);
        let option = &self.facts.bus_lock_detect_option;
        if is_optional && option.known() == Some(&false) {
            let from = option.from.clone();
            self.says(format!("CONFIG_X86_BUS_LOCK_DETECT is not set ({from})"));
            return true;
        }
        false
    }

    /// AMD CPUs have no #AC for split locks, so no host on one can trap its guests.
    pub(super) fn host_may_trap(&self) -> bool {
        let is_guest = self.facts.has_cpu_flag("hypervisor") == Some(true);
        is_guest && !self.facts.is_amd()
    }

    pub(super) fn in_a_guest(&mut self) -> Condition {
        let name = self.facts.hypervisor.known().cloned();
        let name = name.map_or(String::new(), |name| format!(" ({name})"));
        self.says(format!(
            "this is a virtual machine{name}, whose CPU shows no flag split_lock_detect"
        ));
        if self.facts.has_cpu_flag("bus_lock_detect") == Some(true) {
            self.says("its CPU reports the bus locks of its own programs to its own kernel (#DB)");
        }
        self.sysctl_is_inert();
        Condition::HostDecides
    }

    fn cpu_cannot(&mut self) -> Condition {
        let name = self.facts.cpu_model.known().cloned();
        let name = name.map_or(String::new(), |name| format!(" ({name})"));
        self.says(format!(
            "the CPU{name} has neither the flag split_lock_detect nor bus_lock_detect"
        ));
        if self.facts.is_amd() {
            let host = match self.facts.has_cpu_flag("hypervisor") {
                Some(true) => ", so the host of this virtual machine cannot trap them either",
                _ => "",
            };
            self.says(format!("AMD's CPUs raise no #AC for split locks{host}"));
        }
        self.sysctl_is_inert();
        let because = Unable::Cpu;
        Condition::NotApplicable { because }
    }

    /// A CPU that reports bus locks, and no split locks.
    fn by_bus_locks(&mut self) -> Condition {
        self.says("the CPU reports bus locks when they are done (flag bus_lock_detect), and no split locks");
        let used = self.features.map(|features| match self.facts.is_amd() {
            true => features.amd_bus_lock,
            false => features.intel_bus_lock,
        });
        match used {
            Some(false) => {
                let since = if self.facts.is_amd() { "6.13" } else { "5.13" };
                self.says(format!(
                    "Linux makes use of that since {since}, and this is older"
                ));
                self.sysctl_is_inert();
                let because = Unable::KernelBeforeBusLocks;
                return Condition::NotApplicable { because };
            }
            Some(true) => {}
            None => self.release_is_unknown(),
        }
        self.by_mode(false, true)
    }

    fn by_mode(&mut self, split_locks: bool, bus_locks: bool) -> Condition {
        if self
            .features
            .is_some_and(|features| features.era == Era::None)
        {
            self.says("Linux detects split locks since 5.7, and this is older");
            let because = Unable::KernelBefore57;
            return Condition::NotApplicable { because };
        }
        let mode = self.mode();
        if mode != Mode::Warn
            && let Some(parameter) = self.parameter()
        {
            self.says(format!("the command line has {parameter}"));
        }
        match mode {
            Mode::Off => {
                self.sysctl_is_inert();
                let because = Off::Parameter;
                Condition::Off { because }
            }
            Mode::Fatal => Condition::Fatal,
            Mode::RateLimit(per_second) if bus_locks => {
                self.says("with that, split locks are not trapped (#AC is off)");
                self.sysctl_is_inert();
                Condition::Slowdown { per_second }
            }
            Mode::RateLimit(_) => {
                self.says("with that, split locks are not trapped, and this CPU does not report bus locks");
                self.sysctl_is_inert();
                let because = Off::RateLimitWithoutBusLocks;
                Condition::Off { because }
            }
            Mode::Warn if split_locks => self.warned(),
            Mode::Warn => {
                self.sysctl_is_inert();
                let because = LogOnly::BusLocks;
                Condition::LogOnly { because }
            }
        }
    }
}
