//! Kernel probes of our own: defined when a watch begins, removed when it ends.

use std::io;
use std::process;

use super::symbols::{HANDLE_GUEST, HANDLE_USER};
use super::tracefs::Tracefs;

#[derive(Debug)]
struct Definition {
    name: &'static str,
    /// `p`, or `r` for the function's return, of so many threads at once as may be in the handler.
    kind: &'static str,
    function: &'static str,
    /// What is to be in its records. The handlers' arguments are the guest's RIP, and the program's registers: in
    /// `struct pt_regs` RIP is the seventeenth word.
    argument: &'static str,
}

pub(super) const GUEST_TRAP: &str = "guest_trap";
pub(super) const USER_TRAP: &str = "user_trap";
const GUEST_BACK: &str = "guest_back";
const USER_BACK: &str = "user_back";
pub(super) const SLEPT: &str = "slept";

const MSLEEP: &str = "msleep_interruptible";

/// The traps come last: when they are switched on, everything that may follow them is seen already.
#[rustfmt::skip]
static DEFINITIONS: [Definition; 5] = [
    Definition { name: GUEST_BACK, kind: "r1024", function: HANDLE_GUEST, argument: "retry=$retval:u8" },
    Definition { name: USER_BACK, kind: "r1024", function: HANDLE_USER, argument: "retry=$retval:u8" },
    Definition { name: SLEPT, kind: "r1024", function: MSLEEP, argument: "left_ms=$retval:u64" },
    Definition { name: GUEST_TRAP, kind: "p", function: HANDLE_GUEST, argument: "rip=%di:x64" },
    Definition { name: USER_TRAP, kind: "p", function: HANDLE_USER, argument: "rip=+128(%di):x64" },
];

/// What all our probes are below.
const GROUP: &str = "splitlock";

/// The probes of one process. Its id is in their names, so that two watches do not meet, and so that what
/// a killed one has left can be told.
#[derive(Debug)]
pub(super) struct Probes {
    tracefs: Tracefs,
    defined: Vec<&'static Definition>,
    /// Of one process there may be several, too.
    suffix: String,
}

impl Probes {
    /// Defines a probe for each function that the kernel has; `None` if it has no probes. The kernel finds the functions
    /// by itself, which is far faster than to read the list of all its symbols.
    pub(super) fn define(tracefs: &Tracefs, number: u64) -> io::Result<Option<Self>> {
        match tracefs.probes() {
            // Somebody else may be doing that at this moment, or may be using them: then they stay.
            Ok(probes) => orphans(&probes, is_alive).into_iter().for_each(|event| {
                let _ = tracefs.change_probes(&format!("-:{event}"));
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut probes = Self {
            tracefs: tracefs.clone(),
            defined: vec![],
            suffix: format!("{number}_{}", process::id()),
        };
        for definition in &DEFINITIONS {
            let Definition {
                kind,
                function,
                argument,
                ..
            } = definition;
            let event = probes.event(definition.name);
            match tracefs.change_probes(&format!("{kind}:{event} {function} {argument}")) {
                Ok(()) => probes.defined.push(definition),
                // The kernel has no such function.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(probes))
    }

    /// Whether there are any on the kernel's handlers.
    pub(super) fn see_traps(&self) -> bool {
        let mut defined = self.defined.iter();
        defined.any(|definition| [GUEST_TRAP, USER_TRAP].contains(&definition.name))
    }

    /// Those that are there: their names, what they are called below tracefs' `events`, and the field of their records.
    pub(super) fn defined(&self) -> impl Iterator<Item = (&'static str, String, &'static str)> {
        self.defined
            .iter()
            .map(|&&Definition { name, argument, .. }| {
                let field = argument.split('=').next().unwrap_or(argument);
                (name, self.event(name), field)
            })
    }

    fn event(&self, name: &str) -> String {
        format!("{GROUP}/{name}_{}", self.suffix)
    }

    /// How often one of them was passed without a record, because too many threads were inside at once.
    pub(super) fn missed(&self) -> u64 {
        let profile = self.tracefs.probe_profile().unwrap_or_default();
        missed_in(&profile, &self.suffix)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for Definition { name, .. } in &self.defined {
            // There is nobody to tell; the next watch removes what is left.
            let removal = format!("-:{}", self.event(name));
            let _ = self.tracefs.change_probes(&removal);
        }
    }
}

/// `  guest_trap_0_123    17    0`
fn missed_in(profile: &str, suffix: &str) -> u64 {
    let misses = profile.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.rsplit('/').next()?;
        let is_it = |known: &Definition| name == format!("{}_{suffix}", known.name);
        let ours = DEFINITIONS.iter().any(is_it);
        let misses: u64 = words.nth(1)?.parse().ok()?;
        ours.then_some(misses)
    });
    misses.sum()
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

/// The probes of processes that are no more, of lines such as
/// `p:splitlock/guest_trap_0_123 handle_guest_split_lock rip=%di:x64`.
fn orphans(probes: &str, is_alive: impl Fn(u32) -> bool) -> Vec<&str> {
    let is_orphan = |event: &&str| {
        let pid = event.rsplit('_').next().and_then(|pid| pid.parse().ok());
        event.starts_with(&format!("{GROUP}/")) && pid.is_some_and(|pid| !is_alive(pid))
    };
    let events = probes.lines().filter_map(|line| {
        let (_, event) = line.split_ascii_whitespace().next()?.split_once(':')?;
        Some(event)
    });
    events.filter(is_orphan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::source::tracefs::SystemPaths;

    #[test]
    fn probes_of_dead_processes_are_orphans() {
        let probes = "p:splitlock/guest_trap_0_77 handle_guest_split_lock rip=%di:x64\n\
                      r1024:splitlock/slept_0_77 msleep_interruptible left_ms=$retval:u64\n\
                      p:splitlock/guest_trap_1_88 handle_guest_split_lock rip=%di:x64\n\
                      p:splitlock/strange vfs_read\n\
                      p:kprobes/other_77 vfs_read\n";
        let found = orphans(probes, |pid| pid == 88);
        assert_eq!(found, ["splitlock/guest_trap_0_77", "splitlock/slept_0_77"]);
    }

    #[test]
    fn only_our_own_misses_count() {
        let profile = "  guest_trap_0_77      100       2\n\
                       slept_0_77            90       3\n\
                       slept_0_78            90       4\n\
                       other                  1       5\n";
        assert_eq!(missed_in(profile, "0_77"), 5);
    }

    #[test]
    fn probes_are_defined_with_the_traps_last_and_removed_again() {
        let root = fixture::folder(&[("events/x", ""), ("kprobe_events", "")]);
        let tracefs = Tracefs::find(&SystemPaths {
            tracing: vec![root.path().to_owned()],
            ..SystemPaths::default()
        })
        .unwrap();
        let probes = Probes::define(&tracefs, 3).unwrap().unwrap();
        let defined: Vec<_> = probes.defined().collect();
        let traps: Vec<_> = defined[defined.len() - 2..]
            .iter()
            .map(|&(name, _, field)| (name, field))
            .collect();
        // What follows a trap is listened to before the trap.
        assert_eq!(traps, [(GUEST_TRAP, "rip"), (USER_TRAP, "rip")]);
        assert!(probes.see_traps());
        let event = defined[3].1.clone();
        drop(probes);
        let written = tracefs.probes().unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 10, "{written}");
        assert_eq!(
            lines[3],
            format!("p:{event} handle_guest_split_lock rip=%di:x64")
        );
        assert_eq!(lines[8], format!("-:{event}"));
    }
}
