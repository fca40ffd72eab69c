//! What the kernel did to each thread, from its own trace.

use std::collections::BTreeMap;

use crate::cpu::trace::{Line, hexadecimal};

/// Kprobe events by which [`thread_stats`] knows of traps, one a line of `kprobe_events`.
pub const TRAP_PROBES: [&str; 2] = [
    "p:split_lock/guest handle_guest_split_lock",
    "p:split_lock/warn split_lock_warn ip=%di:x64",
];

/// And those by which it knows how they ended.
pub const END_PROBES: [&str; 4] = [
    "p:split_lock/sleeps schedule_timeout",
    "r:split_lock/slept msleep_interruptible left=$retval:x32",
    "r:split_lock/waited down_interruptible error=$retval:x32",
    "r:split_lock/warned split_lock_warn",
];

/// One thread's traps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStats {
    /// They are those of a guest.
    pub guest: bool,
    /// When the first one was, on the trace's clock.
    pub first_ns: u64,
    /// When the last one was over.
    pub last_ns: u64,
    /// The instructions that trapped, in order, one for each trap.
    pub addresses: Vec<u64>,
    /// Traps whose sleep a signal cut short,
    pub interrupted_asleep: u64,
    /// whose sleep it prevented,
    pub not_slept: u64,
    /// whose wait for the semaphore it ended,
    pub interrupted_queued: u64,
    /// and those that ended with a window.
    pub windows: u64,
    /// How long the handler had the thread.
    pub lost_ns: u64,
    /// The trap that is not over yet.
    current: Option<Trap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trap {
    since_ns: u64,
    sleeps: bool,
    end: End,
}

/// How a trap ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Window,
    CutShort,
    LeftQueue,
}

impl ThreadStats {
    /// All of them.
    #[must_use]
    pub fn traps(&self) -> u64 {
        self.addresses.len() as u64
    }

    fn begin(&mut self, ns: u64, address: u64) {
        if self.addresses.is_empty() {
            self.first_ns = ns;
        }
        self.addresses.push(address);
        // Without anything in between, as with mitigate=0, it ends with a window.
        self.current = Some(Trap {
            since_ns: ns,
            sleeps: false,
            end: End::Window,
        });
    }

    fn sleep(&mut self) {
        if let Some(current) = &mut self.current {
            current.sleeps = true;
        }
    }

    fn interrupt(&mut self, end: End) {
        if let Some(current) = &mut self.current {
            current.end = end;
        }
    }

    fn end(&mut self, ns: u64) {
        let Some(current) = self.current.take() else {
            return;
        };
        *match current.end {
            End::Window => &mut self.windows,
            End::CutShort if current.sleeps => &mut self.interrupted_asleep,
            End::CutShort => &mut self.not_slept,
            End::LeftQueue => &mut self.interrupted_queued,
        } += 1;
        self.lost_ns += ns.saturating_sub(current.since_ns);
        self.last_ns = ns;
    }
}

/// Of all threads that have trapped, by their ids. Other lines of the trace are passed over.
#[must_use]
pub fn thread_stats(trace: &str) -> BTreeMap<i32, ThreadStats> {
    let mut threads: BTreeMap<i32, ThreadStats> = BTreeMap::new();
    for line in trace.lines().filter_map(Line::parse) {
        let Some(ns) = nanoseconds(line.time) else {
            continue;
        };
        let value = line.fields.rsplit_once('=');
        let value = value.and_then(|(_, value)| hexadecimal(value));
        let stats = threads.entry(line.pid).or_default();
        match (line.name, value) {
            ("guest", _) => stats.guest = true,
            ("warn", Some(address)) => stats.begin(ns, address),
            ("sleeps", _) => stats.sleep(),
            ("slept", Some(left)) if left > 0 => stats.interrupt(End::CutShort),
            ("waited", Some(error)) if error > 0 => stats.interrupt(End::LeftQueue),
            ("warned", _) => stats.end(ns),
            _ => {}
        }
    }
    threads.retain(|_, stats| !stats.addresses.is_empty());
    threads
}

/// Whether the kernel has kept everything that it wrote into its trace.
#[must_use]
pub fn is_whole(trace: &str) -> bool {
    let counts = trace.lines().find_map(|line| {
        let (_, counts) = line.split_once("entries-in-buffer/entries-written: ")?;
        counts.split_whitespace().next()?.split_once('/')
    });
    counts.is_some_and(|(kept, written)| kept == written)
}

/// Of seconds with six digits behind the point.
fn nanoseconds(seconds: &str) -> Option<u64> {
    let (seconds, micros) = seconds.split_once('.')?;
    if micros.len() != 6 {
        return None;
    }
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(micros * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "# tracer: nop\n#\n\
        \x20      lab-split-71      [000] .....     9.000000: warn: (split_lock_warn+0x0/0x1c0) ip=0x401000\n\
        \x20      lab-split-71      [000] .....     9.000001: sleeps: (schedule_timeout+0x0/0x110)\n\
        \x20          sleep-9       [000] .....     9.000500: slept: (do_nothing+0x0/0x10 <- msleep_interruptible) left=0x7\n\
        \x20      lab-split-71      [000] .....     9.001000: slept: (split_lock_warn+0x0/0x1c0 <- msleep_interruptible) left=0xb\n\
        \x20      lab-split-71      [000] d....     9.001100: warned: (handle_user_split_lock+0x27/0x30 <- split_lock_warn)\n\
        \x20      my-vcpu-0-72      [001] .....     9.002000: guest: (handle_guest_split_lock+0x0/0x90)\n\
        \x20      my-vcpu-0-72      [001] .....     9.002001: warn: (split_lock_warn+0x0/0x1c0) ip=0x1000\n\
        \x20      my-vcpu-0-72      [001] .....     9.012000: slept: (split_lock_warn+0x0/0x1c0 <- msleep_interruptible) left=0x0\n\
        \x20      my-vcpu-0-72      [001] .....     9.013000: waited: (split_lock_warn+0x0/0x1c0 <- down_interruptible) error=0xfffffffc\n\
        \x20      my-vcpu-0-72      [001] .....     9.013001: warned: (handle_guest_split_lock+0x27/0x30 <- split_lock_warn)\n\
        \x20      lab-split-71      [000] .....     9.020000: warn: (split_lock_warn+0x0/0x1c0) ip=0x401000\n\
        \x20      lab-split-71      [000] .....     9.032000: slept: (split_lock_warn+0x0/0x1c0 <- msleep_interruptible) left=0x0\n\
        \x20      lab-split-71      [000] .....     9.032100: waited: (split_lock_warn+0x0/0x1c0 <- down_interruptible) error=0x0\n\
        \x20      lab-split-71      [000] .....     9.032200: warned: (handle_user_split_lock+0x27/0x30 <- split_lock_warn)\n";

    #[test]
    fn each_trap_counts_for_its_thread_by_its_end() {
        let threads = thread_stats(TRACE);
        assert_eq!(threads.keys().copied().collect::<Vec<_>>(), [71, 72]);
        let (user, vcpu) = (&threads[&71], &threads[&72]);
        assert_eq!(
            (user.traps(), user.interrupted_asleep, user.windows),
            (2, 1, 1)
        );
        assert_eq!(user.addresses, [0x40_1000; 2]);
        assert_eq!(user.lost_ns, 1_100_000 + 12_200_000);
        assert_eq!(
            (user.first_ns, user.last_ns),
            (9_000_000_000, 9_032_200_000)
        );
        assert!(!user.guest && vcpu.guest);
        assert_eq!(
            (vcpu.traps(), vcpu.interrupted_queued, vcpu.windows),
            (1, 1, 0)
        );
    }

    #[test]
    fn trace_with_lost_lines_is_not_whole() {
        let header = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 85/85   #P:1\n#\n";
        assert!(is_whole(header));
        assert!(!is_whole(&header.replace("85/85", "85/860")));
        assert!(!is_whole(""));
    }

    #[test]
    fn trap_that_is_not_over_has_no_end() {
        let (unfinished, _) = TRACE.split_once("d....").unwrap();
        let stats = &thread_stats(unfinished)[&71];
        assert_eq!(
            (stats.traps(), stats.interrupted_asleep, stats.lost_ns),
            (1, 0, 0)
        );
    }

    #[test]
    fn without_sleep_a_trap_ends_with_a_window() {
        let lines = TRACE.lines().filter(|line| line.contains(": warn"));
        let trace: String = lines.map(|line| format!("{line}\n")).collect();
        assert_eq!(thread_stats(&trace)[&71].windows, 2);
    }
}
