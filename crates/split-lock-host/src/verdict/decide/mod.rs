//! From facts to a condition: first what the kernel itself said when it started, then its settings, then its
//! release.

use split_lock_model::kernel::Features;

mod boot;
mod settings;
mod warned;

use crate::facts::release;
use crate::{Basis, Condition, Events, Facts, History, KernelSplitLock, Mode, Observed, mode};

/// The condition of a machine, and what speaks for it and against it.
pub(super) fn decide<'a>(facts: &'a Facts, history: &'a History) -> (Condition, Judge<'a>) {
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
    (condition, judge)
}

pub(super) struct Judge<'a> {
    facts: &'a Facts,
    /// `None` if the release could not be seen, or is none.
    features: Option<Features>,
    /// Why the release may not tell everything.
    note: Option<&'static str>,
    events: Option<&'a Events>,
    pub(super) basis: Basis,
    pub(super) because: Vec<String>,
    pub(super) doubts: Vec<String>,
}

impl Judge<'_> {
    fn condition(&mut self) -> Condition {
        if let Some(why) = self.events.and_then(|events| events.is_not_of(self.facts)) {
            self.doubts(format!("{why}: what it says does not count"));
            self.events = None;
        }
        self.name_inert_parameters();
        let own = self
            .events
            .map_or(&[][..], |events| &events.kernel_split_locks);
        if !own.is_empty() {
            for oops in own {
                self.says(oops.to_string());
            }
            if let Some(known) = own.iter().find_map(KernelSplitLock::known) {
                let sources = known.sources.join(", ");
                let text = format!("{} {} Source: {sources}", known.what, known.remedy);
                self.says(text);
            }
            self.basis = Basis::Traps;
            return Condition::KernelSplitLock;
        }
        if self.guest_is_trapped() {
            self.basis = Basis::Traps;
            return Condition::HostTraps;
        }
        let condition = match self.by_boot_lines() {
            Some(condition) => {
                self.compare_with_command_line(condition);
                condition
            }
            None => self.by_settings(),
        };
        let is_of_this_kernel = matches!(condition, Condition::Fatal | Condition::Slowdown { .. });
        if is_of_this_kernel && self.host_may_trap() {
            self.doubts("this is a virtual machine, whose host may hold up split locks besides");
        }
        condition
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
        if !self.host_may_trap() {
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

    fn parameter(&self) -> Option<String> {
        let line = self.facts.command_line.known()?;
        mode::parameter(line).map(str::to_owned)
    }

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

    /// Words of the command line that look as if they did something, and that no kernel knows.
    fn name_inert_parameters(&mut self) {
        let line = self.facts.command_line.known().map_or("", String::as_str);
        for word in mode::inert_parameters(line) {
            self.doubts(format!(
                "the command line has {word}, which no kernel knows: it does nothing (split_lock_detect=off, and \
                 sysctl.kernel.split_lock_mitigate=0, do what it seems to)"
            ));
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
        let from = &history.from;
        match (&history.value, self.events) {
            (Observed::Is(_), None) => {}
            (Observed::Is(_), Some(events)) => self.tell_of_traps(condition, events, from),
            _ if !condition.leaves_a_history() => {}
            (Observed::Absent, _) => self.doubts(format!(
                "there is no log ({from}): whether anything has happened is not known"
            )),
            (Observed::Unreadable { why, .. }, _) => self.doubts(format!(
                "the log could not be read ({from}: {why}), so whether anything has happened is not known: look again \
                 as root, or give what `sudo dmesg` prints to --log"
            )),
        }
    }

    fn tell_of_traps(&mut self, condition: Condition, events: &Events, from: &str) {
        let traps = match events.traps() {
            0 => "no trap".to_owned(),
            1 => "1 trap".to_owned(),
            traps => format!("{traps} traps"),
        };
        let unread = events.damaged + events.foreign_lines;
        if unread > 0 {
            let what = match (events.damaged, events.foreign_lines) {
                (damaged, 0) => format!("{damaged} messages of the log are damaged"),
                (0, foreign) => {
                    format!("{foreign} lines of programs in the log mention split locks")
                }
                (damaged, foreign) => format!(
                    "{damaged} messages of the log are damaged, and {foreign} lines of programs mention split locks"
                ),
            };
            self.doubts(format!(
                "{what}, and were not counted: `splitlock log` shows what is damaged"
            ));
        }
        if events.alignment_signals > 0 {
            let count = events.alignment_signals;
            let mode =
                "split locks if the mode is fatal, and otherwise programs that have set EFLAGS.AC";
            self.says(format!(
                "the log tells of {count} programs that got SIGBUS for a misaligned access: {mode}"
            ));
        }
        if events.traps() == 0 && events.alignment_signals > 0 {
            return;
        }
        let traps = match events.traps() {
            0 if unread > 0 || !events.begins_at_boot => "no trap that could be read".to_owned(),
            _ => traps,
        };
        let since = match events.begins_at_boot && unread == 0 {
            true => "since the kernel started",
            false => "as far back as it goes",
        };
        let told = format!("the log tells of {traps} {since} ({from})");
        if condition.leaves_a_history() && self.basis != Basis::Traps {
            self.says(told);
        } else if condition.leaves_no_traps() && events.traps() > 0 {
            self.doubts(format!(
                "{told}, and there should be none: it may be another machine's, or of an earlier start"
            ));
        }
    }
}
