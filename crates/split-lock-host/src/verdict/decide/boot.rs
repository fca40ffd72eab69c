//! What the kernel said when it started: nobody knows better.

use super::Judge;
use crate::{Basis, Condition, OffReason};
use crate::{Events, Mode};
use split_lock_log::{Boot, Reaction};

impl Judge<'_> {
    pub(super) fn by_boot_lines(&mut self) -> Option<Condition> {
        let events = self.events?;
        // Both present: #AC is what is used, whatever is said of #DB.
        let split_locks = last(events, |line| match line {
            _ if !events.uses_alignment_checks() => None,
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
        match line {
            Some(Boot::BusLockRate { per_second: 0 }) => {
                self.said_at_boot("that it limits bus locks to 0 a second, by which it means that there is no limit");
                Some(self.bus_locks_logged())
            }
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
                Some(self.bus_locks_logged())
            }
            None => self.off_by_boot_line(&events.boot),
        }
    }

    fn off_by_boot_line(&mut self, boot: &[Boot]) -> Option<Condition> {
        let because = if boot.contains(&Boot::MsrAccessFailed) {
            self.said_at_boot("that it could not switch detection on (MSR access failed)");
            OffReason::MsrAccessFailed
        } else if boot.contains(&Boot::Disabled) {
            self.said_at_boot("that detection is disabled");
            match self.parameter() {
                Some(parameter) => {
                    self.says(format!("the command line has {parameter}"));
                    OffReason::Parameter
                }
                None => OffReason::BootLine,
            }
        } else {
            return None;
        };
        if self.host_may_trap() {
            return Some(self.in_a_guest());
        }
        self.sysctl_is_inert();
        Some(Condition::Off { because })
    }

    fn said_at_boot(&mut self, what: &str) {
        self.basis = Basis::BootLine;
        self.says(format!("when it started, the kernel said {what}"));
    }

    /// The kernel's word counts; if its command line says something else, that is worth knowing.
    pub(super) fn compare_with_command_line(&mut self, condition: Condition) {
        let is_expected = match (self.mode(), condition) {
            (_, Condition::HostDecides)
            | (
                _,
                Condition::Off {
                    because: OffReason::MsrAccessFailed,
                },
            )
            | (Mode::Off, Condition::Off { .. })
            | (Mode::Fatal, Condition::Fatal)
            | (Mode::RateLimit(_), Condition::Slowdown { .. })
            | (Mode::Warn, Condition::Livelock | Condition::LogOnly { .. }) => true,
            (Mode::RateLimit(rate), Condition::LogOnly { .. }) => rate.is_none(),
            _ => false,
        };
        if self.facts.command_line.known().is_some() && !is_expected {
            self.doubts(
                "the command line asks for something else: is the log this machine's, and of its last start?",
            );
        }
    }
}

fn last<T>(events: &Events, find: impl Fn(Boot) -> Option<T>) -> Option<T> {
    events.boot.iter().rev().find_map(|&line| find(line))
}
