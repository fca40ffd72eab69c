//! From facts to a condition: first what the kernel itself said when it started, then its settings, then its
//! release.

use split_lock_model::kernel::{Era, Features, Release};

use super::cost::release;
use super::{Basis, Condition, LogOnly, Off, Unable};
use crate::log::{Boot, Reaction};
use crate::{Events, Facts, History, Mode, Seen, mode};

pub(super) struct Decision {
    pub(super) condition: Condition,
    pub(super) basis: Basis,
    pub(super) because: Vec<String>,
    pub(super) doubts: Vec<String>,
}

pub(super) fn decide(facts: &Facts, history: &History) -> Decision {
    let lookup = release(facts).map(|(release, suffix)| release.lookup(suffix));
    let mut judge = Judge {
        facts,
        features: lookup.map(|lookup| lookup.features),
        note: lookup.and_then(|lookup| lookup.note),
        events: history.known(),
        basis: Basis::Settings,
        because: vec![],
        doubts: vec![],
    };
    let condition = judge.condition();
    judge.tell_of_history(condition, history);
    Decision {
        condition,
        basis: judge.basis,
        because: judge.because,
        doubts: judge.doubts,
    }
}

/// Gathers what speaks for a condition and against it.
struct Judge<'a> {
    facts: &'a Facts,
    /// `None` if the release could not be seen, or is none.
    features: Option<Features>,
    /// Why the release may not tell everything.
    note: Option<&'static str>,
    events: Option<&'a Events>,
    basis: Basis,
    because: Vec<String>,
    doubts: Vec<String>,
}

/// Since then detection is an option of the kernel's configuration.
const OPTIONAL_SINCE: Release = Release::new(6, 13, 0);

impl Judge<'_> {
    fn condition(&mut self) -> Condition {
        if self.guest_is_trapped() {
            return Condition::HostTraps;
        }
        match self.by_boot_lines() {
            Some(condition) => {
                self.compare_with_settings(condition);
                condition
            }
            None => self.by_settings(),
        }
    }

    fn says(&mut self, reason: impl Into<String>) {
        self.because.push(reason.into());
    }

    fn doubts(&mut self, doubt: impl Into<String>) {
        self.doubts.push(doubt.into());
    }

    /// #AC inside a virtual machine that cannot have switched it on, or cannot switch it off.
    fn guest_is_trapped(&mut self) -> bool {
        let Some(events) = self.events.filter(|events| events.alignment_checks > 0) else {
            return false;
        };
        if self.facts.has_cpu_flag("hypervisor") != Some(true) {
            return false;
        }
        let traps = match events.alignment_checks {
            1 => "1 #AC trap".to_owned(),
            traps => format!("{traps} #AC traps"),
        };
        if events.refused_writes > 0 {
            self.says(format!(
                "the log tells of {traps} in a virtual machine, and that its kernel may not switch detection off \
                 (WRMSR to 0x33 was refused)"
            ));
            return true;
        }
        if self.facts.has_cpu_flag("split_lock_detect") != Some(false) {
            return false;
        }
        self.says(format!(
            "the log tells of {traps} in a virtual machine whose CPU has no flag split_lock_detect: the trap is \
             its host's"
        ));
        true
    }

    fn by_boot_lines(&mut self) -> Option<Condition> {
        let events = self.events?;
        if let (Some(logged), Some(running)) = (&events.release, self.facts.kernel_release.known())
            && logged != running
        {
            self.doubts(format!(
                "the log is of Linux {logged}, and this is {running}: what it says about its start does not count"
            ));
            return None;
        }
        // Both present: #AC is what is used, whatever is said of #DB.
        let split_locks = last(events, |line| match line {
            Boot::SplitLocks(reaction) | Boot::SplitLocksBefore513(reaction) => Some(reaction),
            _ => None,
        });
        match split_locks {
            Some(Reaction::Warn) => {
                self.said_at_boot("#AC: a warning for split locks");
                Some(self.warned())
            }
            Some(Reaction::Sigbus) => {
                self.said_at_boot("#AC: SIGBUS for split locks");
                Some(Condition::Fatal)
            }
            None => self.by_bus_lock_line(events),
        }
    }

    fn by_bus_lock_line(&mut self, events: &Events) -> Option<Condition> {
        let line = last(events, |line| {
            matches!(line, Boot::BusLocks { .. } | Boot::BusLockRate { .. }).then_some(line)
        });
        if line.is_some() && self.host_may_trap() {
            self.said_at_boot("that it looks for bus locks, which are those in here only");
            return Some(self.in_a_guest());
        }
        match line {
            Some(Boot::BusLockRate { per_second }) => {
                self.said_at_boot(&format!("#DB: a limit of {per_second} bus locks a second"));
                let per_second = u16::try_from(per_second).ok();
                Some(Condition::Slowdown { per_second })
            }
            Some(Boot::BusLocks {
                reaction: Reaction::Sigbus,
                ..
            }) => {
                self.said_at_boot("#DB: SIGBUS for bus locks");
                Some(Condition::Fatal)
            }
            Some(_) => {
                self.said_at_boot("#DB: a warning for bus locks");
                self.sysctl_is_inert();
                let because = LogOnly::BusLocks;
                Some(Condition::LogOnly { because })
            }
            None => self.off_by_boot_line(&events.boot),
        }
    }

    fn off_by_boot_line(&mut self, boot: &[Boot]) -> Option<Condition> {
        let because = if boot.contains(&Boot::MsrAccessFailed) {
            self.said_at_boot("that it could not switch detection on (MSR access failed)");
            Off::MsrAccessFailed
        } else if boot.contains(&Boot::Disabled) {
            self.said_at_boot("that detection is disabled");
            match self.parameter() {
                Some(parameter) => {
                    self.says(format!("the command line has {parameter}"));
                    Off::Parameter
                }
                None => Off::BootLine,
            }
        } else {
            return None;
        };
        self.sysctl_is_inert();
        Some(Condition::Off { because })
    }

    fn said_at_boot(&mut self, what: &str) {
        self.basis = Basis::BootLine;
        self.says(format!("when it started, the kernel said {what}"));
    }

    /// The kernel's word counts; if its settings say something else, that is worth knowing.
    fn compare_with_settings(&mut self, condition: Condition) {
        let can_detect = ["split_lock_detect", "bus_lock_detect"]
            .iter()
            .any(|flag| self.facts.has_cpu_flag(flag) != Some(false));
        if !can_detect && !matches!(condition, Condition::Off { .. }) {
            self.doubts(
                "the CPU shows neither split_lock_detect nor bus_lock_detect: is the log this machine's?",
            );
        }
    }

    fn by_settings(&mut self) -> Condition {
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
    fn host_may_trap(&self) -> bool {
        let is_guest = self.facts.has_cpu_flag("hypervisor") == Some(true);
        is_guest && !self.is_amd()
    }

    fn is_amd(&self) -> bool {
        let vendor = self.facts.cpu_vendor.known().map(String::as_str);
        matches!(vendor, Some("AuthenticAMD" | "HygonGenuine"))
    }

    fn in_a_guest(&mut self) -> Condition {
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
        if self.is_amd() {
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
        let used = self.features.map(|features| match self.is_amd() {
            true => features.amd_bus_lock,
            false => features.intel_bus_lock,
        });
        match used {
            Some(false) => {
                let since = if self.is_amd() { "6.13" } else { "5.13" };
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

    fn parameter(&self) -> Option<String> {
        let line = self.facts.command_line.known()?;
        mode::parameter(line).map(str::to_owned)
    }

    /// What the kernel makes of its command line.
    fn mode(&self) -> Mode {
        let line = self.facts.command_line.known().map_or("", String::as_str);
        match Mode::of(line) {
            // It does not know that word yet.
            Mode::RateLimit(_) if self.features.is_some_and(|features| !features.ratelimit) => {
                Mode::Warn
            }
            mode => mode,
        }
    }

    /// `warn`, with #AC: what comes of that depends on the kernel.
    fn warned(&mut self) -> Condition {
        match (&self.facts.command_line.seen, self.parameter()) {
            (Seen::Is(_), Some(parameter)) => {
                self.says(format!("the command line has {parameter}"));
            }
            (Seen::Is(_), None) => {
                self.says("the command line leaves detection as it is by default: warn");
            }
            _ if self.basis > Basis::BootLine => {
                self.basis = Basis::Release;
                self.doubts(
                    "the command line could not be seen: taken to say nothing about split locks",
                );
            }
            _ => {}
        }
        match self.facts.split_lock_mitigate.known().map(String::as_str) {
            Some("0") => {
                self.says("kernel.split_lock_mitigate is 0");
                self.may_forget_cpus();
                let because = LogOnly::NotMitigated;
                Condition::LogOnly { because }
            }
            Some(value) => {
                self.says(format!("kernel.split_lock_mitigate is {value}"));
                Condition::Livelock
            }
            None => self.warned_without_sysctl(),
        }
    }

    fn warned_without_sysctl(&mut self) -> Condition {
        let Some(features) = self.features else {
            self.basis = Basis::Nothing;
            self.release_is_unknown();
            return Condition::Unknown;
        };
        self.basis = self.basis.max(Basis::Release);
        self.doubts.extend(self.note.map(str::to_owned));
        let release = self
            .facts
            .kernel_release
            .known()
            .cloned()
            .unwrap_or_default();
        match features.era {
            Era::Misery if features.sysctl => {
                self.doubts(format!(
                    "Linux {release} should have kernel.split_lock_mitigate, which could not be seen: taken to be 1"
                ));
                Condition::Livelock
            }
            Era::Misery => {
                self.says(format!(
                    "Linux {release} makes threads sleep, and has no kernel.split_lock_mitigate to stop that"
                ));
                Condition::Livelock
            }
            _ => {
                self.says(format!("Linux {release} does not make threads sleep yet"));
                let because = LogOnly::Before519;
                Condition::LogOnly { because }
            }
        }
    }

    fn may_forget_cpus(&mut self) {
        if self
            .features
            .is_some_and(|features| !features.per_cpu_reenable)
        {
            self.doubts(
                "with that, this kernel can forget to switch detection on again: the log may name too few",
            );
        }
    }

    fn sysctl_is_inert(&mut self) {
        if let Some(value) = self.facts.split_lock_mitigate.known() {
            let reason = format!("kernel.split_lock_mitigate is {value}, which means nothing here");
            self.says(reason);
        }
    }

    fn release_is_unknown(&mut self) {
        self.doubts("the kernel's release could not be seen");
    }

    fn tell_of_history(&mut self, condition: Condition, history: &History) {
        if !condition.leaves_a_history() {
            return;
        }
        let from = &history.from;
        match &history.seen {
            Seen::Is(events) => {
                let traps = match events.traps() {
                    0 => "no trap".to_owned(),
                    1 => "1 trap".to_owned(),
                    traps => format!("{traps} traps"),
                };
                let since = match events.begins_at_boot {
                    true => "since the kernel started",
                    false => "as far back as it goes",
                };
                self.says(format!("the log tells of {traps} {since} ({from})"));
            }
            Seen::Absent => self.doubts(format!(
                "there is no log ({from}): whether anything has happened is not known"
            )),
            Seen::CouldNotSee { why, .. } => self.doubts(format!(
                "the log could not be read ({from}: {why}): whether anything has happened is not known, but to \
                 root, or whoever gives what `sudo dmesg` prints to --log"
            )),
        }
    }
}

fn last<T>(events: &Events, find: impl Fn(Boot) -> Option<T>) -> Option<T> {
    events.boot.iter().rev().find_map(|&line| find(line))
}
