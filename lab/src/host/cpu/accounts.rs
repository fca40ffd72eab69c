//! What the kernel, a program and the CPU tell of the same traps, held against each other.

use std::fmt;

use split_lock_lab::cpu::journal::{Event, Kind};
use split_lock_lab::cpu::options::Detect;
use split_lock_lab::cpu::trace::Trap;

/// Threads of the program, one after the other: the kernel logs the first trap of each.
pub(super) const THREADS: usize = 3;

/// Split locks of each.
pub(super) const COUNT: usize = 2;

/// Of one run.
#[derive(Clone, Debug)]
pub(super) struct Accounts {
    /// The kernel's trace.
    pub(super) traced: Vec<Trap>,
    /// The addresses in the kernel's log.
    pub(super) logged: Vec<u64>,
    /// The CPU's journal.
    pub(super) events: Vec<Event>,
    /// Where the program says that its split lock is.
    pub(super) instruction: Option<u64>,
}

/// Something that has to be so, and whether it is.
type Check = (&'static str, bool);

impl Accounts {
    /// `with_guest`: a guest split locks, too.
    pub(super) fn checks(&self, detect: Detect, with_guest: bool) -> Vec<Check> {
        match detect {
            // Where the CPU has both, the kernel uses #AC.
            Detect::SplitLock | Detect::Both => self.of_alignment_checks(with_guest),
            Detect::BusLock => self.of_bus_locks(),
            Detect::Nothing => vec![(
                "nothing trapped",
                self.logged.is_empty() && self.traced.is_empty() && self.events.is_empty(),
            )],
        }
    }

    fn of_alignment_checks(&self, with_guest: bool) -> Vec<Check> {
        let raised = self.addresses(Kind::is_alignment_check);
        let traced: Vec<u64> = self.traced.iter().map(|trap| trap.ip).collect();
        let mut checks = vec![
            (
                "each trap in the kernel's trace is an #AC in the CPU's journal: same addresses, same order",
                !raised.is_empty() && traced == raised,
            ),
            (
                "the kernel's log names the program's instruction once for each thread",
                self.count_instruction(&self.logged) == THREADS,
            ),
            (
                "the program trapped once for each of its split locks",
                self.count_instruction(&raised) == THREADS * COUNT,
            ),
        ];
        if with_guest {
            checks.push(("a guest trapped in KVM", self.guests() > 0));
        }
        checks
    }

    /// The kernel logs each of them, if there are not too many.
    fn of_bus_locks(&self) -> Vec<Check> {
        let raised = self.addresses(|kind| kind == Kind::DebugException);
        vec![
            (
                "each bus lock in the kernel's log is a #DB in the CPU's journal: same addresses, same order",
                self.logged == raised,
            ),
            (
                "the program trapped once for each of its split locks",
                raised.len() == THREADS * COUNT,
            ),
        ]
    }

    fn addresses(&self, is_wanted: impl Fn(Kind) -> bool) -> Vec<u64> {
        let events = self.events.iter().filter(|event| is_wanted(event.kind));
        events.map(|event| event.rip).collect()
    }

    fn count_instruction(&self, addresses: &[u64]) -> usize {
        let is_it = |address: &&u64| Some(**address) == self.instruction;
        addresses.iter().filter(is_it).count()
    }

    fn guests(&self) -> usize {
        let is_it = |event: &&Event| event.guest && event.kind.is_alignment_check();
        self.events.iter().filter(is_it).count()
    }
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} traps traced and {} logged by the kernel; {} #AC ({} in guests) and {} #DB raised by the CPU",
            self.traced.len(),
            self.logged.len(),
            self.addresses(Kind::is_alignment_check).len(),
            self.guests(),
            self.addresses(|kind| kind == Kind::DebugException).len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x40_1000;

    fn event(rip: u64, kind: Kind) -> Event {
        Event {
            tick: 1,
            cpu: 0,
            rip,
            guest: false,
            kind,
        }
    }

    fn trap(ip: u64) -> Trap {
        Trap {
            thread: String::new(),
            ip,
            jiffies: 0,
        }
    }

    fn agreeing() -> Accounts {
        Accounts {
            traced: vec![trap(AT); THREADS * COUNT],
            logged: vec![AT; THREADS],
            events: vec![event(AT, Kind::AlignmentCheck(62)); THREADS * COUNT],
            instruction: Some(AT),
        }
    }

    fn agrees(accounts: &Accounts, detect: Detect) -> bool {
        let checks = accounts.checks(detect, false);
        checks.iter().all(|(_, is_so)| *is_so)
    }

    #[test]
    fn accounts_of_the_same_traps_agree() {
        assert!(agrees(&agreeing(), Detect::SplitLock));
        assert!(!agrees(&agreeing(), Detect::Nothing));
    }

    #[test]
    fn one_trap_elsewhere_is_found() {
        let mut accounts = agreeing();
        accounts.traced[2].ip += 1;
        assert!(!agrees(&accounts, Detect::SplitLock));
        let mut accounts = agreeing();
        accounts.events.pop();
        assert!(!agrees(&accounts, Detect::SplitLock));
        let mut accounts = agreeing();
        accounts.logged[0] = 0;
        assert!(!agrees(&accounts, Detect::SplitLock));
    }

    #[test]
    fn guest_has_to_trap_in_a_guest() {
        let mut accounts = agreeing();
        let found = |accounts: &Accounts| accounts.checks(Detect::SplitLock, true)[3].1;
        assert!(!found(&accounts));
        accounts.events[0].guest = true;
        assert!(found(&accounts));
    }

    #[test]
    fn bus_locks_are_compared_by_debug_exceptions() {
        let mut accounts = agreeing();
        accounts.events = vec![event(AT + 4, Kind::DebugException); THREADS * COUNT];
        accounts.logged = vec![AT + 4; THREADS * COUNT];
        assert!(agrees(&accounts, Detect::BusLock));
        accounts.logged.pop();
        assert!(!agrees(&accounts, Detect::BusLock));
    }
}
