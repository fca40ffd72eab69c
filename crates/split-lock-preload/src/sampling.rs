//! What samples of a vCPU's thread mean: a state machine without I/O.

use std::time::Duration;

use crate::presence::Inside;
use crate::sys::ThreadId;

/// Where threads wait inside of the kernel's split-lock handler: for the time to pass, and for others who are being
/// punished.
const PUNISHED: [&str; 3] = [
    "msleep_interruptible",
    "down_interruptible",
    "__down_interruptible",
];

/// What was seen of a vCPU's thread at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) inside: Inside,
    pub(crate) cpu: Duration,
    /// It was executing at that moment: its CPU time has passed while it was read.
    pub(crate) running: bool,
}

/// What a look at a vCPU comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is not in KVM_RUN, or has not used any CPU time since the last look.
    Idle,
    /// It executes.
    Busy,
    /// It waits for something in the kernel: look for what.
    ReadWaitChannel,
    /// It has waited since the last look, and this kernel does not say for what.
    Waiting,
}

/// What the thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitChannel {
    Punishment {
        /// It was not seen in this one before.
        is_new: bool,
    },
    /// Something else, or nothing: it executes by now, or waits for a CPU.
    Other,
}

/// What is known of one vCPU from the looks before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ThreadHistory {
    last: Option<Sample>,
    /// Its CPU time when its wait channel was last read. It has waited for the same thing ever since, if this has not
    /// changed.
    read_at: Option<Duration>,
    /// Its CPU time when it was last seen being punished.
    punished_at: Option<Duration>,
}

impl ThreadHistory {
    /// Another look, so long after the last one. `hidden`: wait channels are not told.
    pub(crate) fn observe(
        &mut self,
        sample: Option<Sample>,
        elapsed: Duration,
        hidden: bool,
    ) -> Look {
        let Some(sample) = sample else {
            *self = Self::default();
            return Look::Idle;
        };
        let has_run = self.has_run(&sample, elapsed);
        let last = self.last_of_thread(&sample);
        self.last = Some(sample);
        if last.is_none() {
            self.read_at = None;
        }
        // Either it has waited since the last look, or somebody has called it out of a wait in between, and it waits again.
        let waits = last
            .is_some_and(|last| last.cpu == sample.cpu || last.inside.entry != sample.inside.entry);
        if sample.running || has_run {
            Look::Busy
        } else if self.read_at == Some(sample.cpu) {
            Look::Idle
        } else if !hidden {
            self.read_at = Some(sample.cpu);
            Look::ReadWaitChannel
        } else if waits {
            self.read_at = Some(sample.cpu);
            Look::Waiting
        } else {
            Look::Busy
        }
    }

    /// Whether the thread has executed for most of the time since the last look. It may have lost its CPU; if it has begun
    /// to wait, the next look shows it.
    pub(crate) fn has_run(&self, sample: &Sample, elapsed: Duration) -> bool {
        let last = self.last_of_thread(sample);
        last.is_some_and(|last| 2 * sample.cpu.saturating_sub(last.cpu) > elapsed)
    }

    fn last_of_thread(&self, sample: &Sample) -> Option<Sample> {
        let of_same_thread = |last: &Sample| last.inside.thread == sample.inside.thread;
        self.last.filter(of_same_thread)
    }

    /// The thread, as long as it was there at the last look.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        self.last.map(|last| last.inside.thread)
    }

    /// What the kernel has written when it was asked what the thread waits for.
    pub(crate) fn read(&mut self, text: Option<&str>) -> WaitChannel {
        match text.map(str::trim) {
            Some(name) if PUNISHED.contains(&name) => {
                // It is to be looked at again: the kick may not arrive.
                let cpu = std::mem::take(&mut self.read_at);
                let is_new = std::mem::replace(&mut self.punished_at, cpu) != cpu;
                WaitChannel::Punishment { is_new }
            }
            _ => WaitChannel::Other,
        }
    }
}

/// How long to wait until the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval(Duration);

/// A punishment takes 10 ms at least, so that one of those that come rarely is over soon after it has begun.
const BUSY: Duration = Duration::from_millis(3);
/// While split locks are seen.
const BUSIEST: Duration = Duration::from_millis(2);
/// While all vCPUs wait.
const IDLE: Duration = Duration::from_millis(20);
/// While none is in KVM_RUN.
const STOPPED: Duration = Duration::from_millis(100);

impl Interval {
    pub(crate) const FIRST: Self = Self(BUSY);

    pub(crate) fn length(self) -> Duration {
        self.0
    }

    /// After a look at which some vCPU executed, some vCPU was in KVM_RUN, and in the last second some were punished.
    pub(crate) fn next(self, any_busy: bool, any_inside: bool, punished: bool) -> Self {
        Self(match (punished, any_busy, any_inside) {
            (true, _, _) => BUSIEST,
            (_, true, _) => BUSY,
            (_, _, true) => (2 * self.0).clamp(BUSY, IDLE),
            _ => (2 * self.0).clamp(BUSY, STOPPED),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGO: Duration = BUSY;

    fn sample(entry: u64, cpu_us: u64, running: bool) -> Option<Sample> {
        Some(Sample {
            inside: Inside {
                thread: ThreadId(1),
                entry,
            },
            cpu: Duration::from_micros(cpu_us),
            running,
        })
    }

    #[test]
    fn a_thread_that_executes_is_not_asked_what_it_waits_for() {
        let mut history = ThreadHistory::default();
        for cpu in [0, 3000, 3100, 9000] {
            assert_eq!(
                history.observe(sample(1, cpu, true), AGO, false),
                Look::Busy
            );
        }
    }

    #[test]
    fn a_thread_that_has_executed_for_most_of_the_time_is_asked_at_the_next_look() {
        let mut history = ThreadHistory::default();
        history.observe(sample(1, 0, true), AGO, false);
        assert_eq!(
            history.observe(sample(1, 2000, false), AGO, false),
            Look::Busy
        );
        assert_eq!(
            history.observe(sample(1, 2001, false), AGO, false),
            Look::ReadWaitChannel
        );
    }

    #[test]
    fn a_thread_that_has_used_no_cpu_time_since_is_asked_once() {
        let mut history = ThreadHistory::default();
        assert_eq!(
            history.observe(sample(1, 5, false), AGO, false),
            Look::ReadWaitChannel
        );
        assert_eq!(history.read(Some("kvm_vcpu_block")), WaitChannel::Other);
        for _ in 0..3 {
            assert_eq!(history.observe(sample(1, 5, false), AGO, false), Look::Idle);
        }
        assert_eq!(
            history.observe(sample(3, 6, false), AGO, false),
            Look::ReadWaitChannel
        );
    }

    #[test]
    fn a_punished_thread_is_seen_at_each_look_until_it_is_out() {
        let mut history = ThreadHistory::default();
        for is_new in [true, false, false] {
            assert_eq!(
                history.observe(sample(1, 5, false), AGO, false),
                Look::ReadWaitChannel
            );
            let channel = history.read(Some("msleep_interruptible\n"));
            assert_eq!(channel, WaitChannel::Punishment { is_new });
        }
        assert_eq!(history.observe(None, AGO, false), Look::Idle);
    }

    #[test]
    fn where_nothing_is_told_a_wait_is_suspicious_once() {
        let mut history = ThreadHistory::default();
        assert_eq!(history.read(Some("0")), WaitChannel::Other);
        assert_eq!(history.observe(sample(1, 5, false), AGO, true), Look::Busy);
        assert_eq!(
            history.observe(sample(1, 5, false), AGO, true),
            Look::Waiting
        );
        assert_eq!(history.observe(sample(1, 5, false), AGO, true), Look::Idle);
        // It has executed meanwhile.
        assert_eq!(history.observe(sample(1, 6, false), AGO, true), Look::Busy);
        // Somebody calls it out all the time, and it waits again.
        for entry in [3, 5] {
            assert_eq!(
                history.observe(sample(entry, 6 + entry, false), AGO, true),
                Look::Waiting
            );
        }
    }

    #[test]
    fn a_vcpu_on_another_thread_begins_anew() {
        let mut history = ThreadHistory::default();
        history.observe(sample(1, 5, false), AGO, false);
        history.read(Some("kvm_vcpu_block"));
        let mut other = sample(3, 5, false).unwrap();
        other.inside.thread = ThreadId(2);
        assert_eq!(
            history.observe(Some(other), AGO, false),
            Look::ReadWaitChannel
        );
    }

    #[test]
    fn looks_become_rare_while_all_is_quiet_and_frequent_at_once() {
        let mut interval = Interval::FIRST;
        for _ in 0..10 {
            interval = interval.next(false, true, false);
        }
        assert_eq!(interval.length(), IDLE);
        for _ in 0..10 {
            interval = interval.next(false, false, false);
        }
        assert_eq!(interval.length(), STOPPED);
        assert_eq!(interval.next(false, true, false).length(), IDLE);
        assert_eq!(interval.next(true, true, false).length(), BUSY);
        assert_eq!(interval.next(false, false, true).length(), BUSIEST);
    }
}
