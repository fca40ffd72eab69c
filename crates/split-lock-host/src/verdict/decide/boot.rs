//! What the kernel said when it started: nobody knows better.

use super::Judge;
use crate::Events;
use crate::log::{Boot, Reaction};
use crate::verdict::{Basis, Condition, LogOnly, Off};

impl Judge<'_> {
    pub(super) fn by_boot_lines(&mut self) -> Option<Condition> {
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
                self.said_at_boot("that it warns of split locks (#AC)");
                Some(self.warned())
            }
            Some(Reaction::Sigbus) => {
                self.said_at_boot("that it sends SIGBUS for split locks (#AC)");
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
                self.said_at_boot(&format!(
                    "that it allows {per_second} bus locks a second (#DB)"
                ));
                let per_second = u16::try_from(per_second).ok();
                Some(Condition::Slowdown { per_second })
            }
            Some(Boot::BusLocks {
                reaction: Reaction::Sigbus,
                ..
            }) => {
                self.said_at_boot("that it sends SIGBUS for bus locks (#DB)");
                Some(Condition::Fatal)
            }
            Some(_) => {
                self.said_at_boot("that it warns of bus locks (#DB)");
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
    pub(super) fn compare_with_settings(&mut self, condition: Condition) {
        let can_detect = ["split_lock_detect", "bus_lock_detect"]
            .iter()
            .any(|flag| self.facts.has_cpu_flag(flag) != Some(false));
        if !can_detect && !matches!(condition, Condition::Off { .. }) {
            self.doubts(
                "the CPU shows neither split_lock_detect nor bus_lock_detect: is the log this machine's?",
            );
        }
    }
}

fn last<T>(events: &Events, find: impl Fn(Boot) -> Option<T>) -> Option<T> {
    events.boot.iter().rev().find_map(|&line| find(line))
}
