//! When the kernel worker that ends a window gets a CPU on which a thread is running.

use serde::Serialize;

use super::machine::{Cpu, Machine};
use crate::kernel::Release;
use crate::machine::CpuId;
use crate::time::{Jiffies, Nanos};

/// How the scheduler treats the worker when its work is due, with a thread on the CPU that does not leave it by itself.
///
/// Scheduling classes and other threads that wait are not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerWakeup {
    /// The worker goes first. So does CFS, before 6.6: whoever wakes up is put up to 3 ms behind the others, and a lead
    /// of more than 1 ms is preempted; a window is longer.
    #[default]
    First,
    /// EEVDF, since 6.6. What counts are the deadlines of both requests, each as long as the base slice. The thread's
    /// was renewed at the last tick that found it used up; the worker's begins where the worker stands. So it goes
    /// first only if it is owed more time than the thread has used of its request. A worker that last ran alone is
    /// owed nothing; then it waits for the first tick that finds the request used up, and is owed that wait from then on.
    AtTick,
    /// The same since 7.1, where a timer ends the request (HRTICK).
    AtRequestEnd,
}

impl WorkerWakeup {
    /// What a release does.
    #[must_use]
    pub fn of(release: Release) -> Self {
        if release < Release::new(6, 6, 0) {
            Self::First
        } else if release < Release::new(7, 1, 0) {
            Self::AtTick
        } else {
            Self::AtRequestEnd
        }
    }
}

/// The length of a request on one CPU; it was 0.75 ms at first.
const BASE_SLICE: Nanos = Nanos::from_micros(700);

/// Requests are longer on larger machines: a base slice more for each doubling, up to eight CPUs.
fn request(cpus: u32) -> u64 {
    BASE_SLICE.0 * u64::from(1 + cpus.min(8).ilog2())
}

/// A CPU's worker, as the scheduler remembers it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worker {
    /// How much less it has got of the CPU than the thread.
    owed: u64,
    waits: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Which thread has the CPU.
    for_task: usize,
    since: u64,
    /// When the thread's request began.
    request: u64,
}

impl Cpu {
    /// Everything that decides when the worker will get the CPU.
    pub(super) fn relative_worker_state(&self, now: u64, rule: WorkerWakeup, out: &mut Vec<u64>) {
        if rule == WorkerWakeup::First {
            return;
        }
        let since = |time: Option<u64>| time.map_or(0, |time| now - time + 1);
        let Worker { owed, waits } = self.worker;
        out.extend([
            owed,
            since(waits.map(|wait| wait.since)),
            since(waits.map(|wait| wait.request)),
            since(self.running.map(|_| self.since)),
        ]);
    }
}

impl Machine<'_> {
    /// When to look again, if the worker of a CPU has its work due and does not get the CPU yet.
    pub(super) fn worker_waits(&mut self, cpu: usize) -> Option<u64> {
        let rule = self.scenario.worker_wakeup;
        let Worker { owed, waits } = self.cpus[cpu].worker;
        let running = self.cpus[cpu].running;
        let length = request(self.scenario.topology.cpus());
        if let Some(wait) = waits {
            if running != Some(wait.for_task) || self.now >= wait.request + length {
                self.worker_runs(cpu, owed + self.now - wait.since, length);
                return None;
            }
            return Some(self.next_look(wait, length));
        }
        let Some(for_task) = running.filter(|_| rule != WorkerWakeup::First) else {
            // Alone, it is as far as everybody.
            self.cpus[cpu].worker = Worker::default();
            return None;
        };
        let request = self.request_began(cpu, length);
        if request.is_some_and(|request| owed > self.now - request) {
            self.worker_runs(cpu, owed, length);
            return None;
        }
        let wait = Wait {
            for_task,
            since: self.now,
            request: request.unwrap_or(self.cpus[cpu].since),
        };
        self.cpus[cpu].worker.waits = Some(wait);
        Some(self.next_look(wait, length))
    }

    fn next_look(&self, wait: Wait, length: u64) -> u64 {
        match self.scenario.worker_wakeup {
            WorkerWakeup::AtRequestEnd => wait.request + length,
            _ => self.clock.tick_from(Nanos(self.now + 1)).0,
        }
    }

    /// A thread leaves its CPU: a worker that waits for that gets it.
    pub(super) fn let_worker_run(&mut self, cpu: usize) {
        if self.cpus[cpu].worker.waits.is_some() {
            self.calendar.set(cpu, self.now);
        }
    }

    /// When the running thread's request began; `None` in its first, which nothing ends early.
    fn request_began(&self, cpu: usize, length: u64) -> Option<u64> {
        let first_end = self.cpus[cpu].since + length;
        if self.now < first_end {
            return None;
        }
        let tick = self.clock.hz().shortest_span(Jiffies(1)).0;
        let first = self
            .clock
            .jiffies_at(self.clock.tick_from(Nanos(first_end)));
        let ticks = self.jiffies().0.checked_sub(first.0);
        let last = ticks.map(|ticks| Jiffies(first.0 + ticks - ticks % length.div_ceil(tick)));
        // The worker's own tick renews a request that is used up, although a split lock has delayed it; without a tick
        // the wake-up does.
        let due = self.handler.work_due(CpuId(cpu as u32));
        let before = last.filter(|last| due.is_none_or(|due| *last < due));
        let began = before.map(|last| self.clock.time_of(last).0);
        Some(
            began
                .filter(|began| self.now < began + length)
                .unwrap_or(self.now),
        )
    }

    /// What is remembered is limited to two requests, or a tick, from the middle of both.
    fn worker_runs(&mut self, cpu: usize, owed: u64, length: u64) {
        let limit = 2 * (2 * length).max(self.clock.hz().longest_span(Jiffies(1)).0);
        let used = self.scenario.costs.kworker.0;
        self.cpus[cpu].worker = Worker {
            owed: owed.saturating_sub(used).min(limit),
            waits: None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Program, Scenario, SpanKind, TaskSpec, Track, Until, WorkerWakeup, simulate,
    };
    use crate::kernel::{Profile, Release};
    use crate::time::Nanos;

    /// The lengths of the first windows of a program that splits without pause, in microseconds.
    fn windows_us(kernel: &str, rule: WorkerWakeup, split_us: u64) -> Vec<u64> {
        let kernel: Profile = kernel.parse().expect("a kernel");
        let program = Program::split_loop(Nanos::from_micros(split_us)).expect("a program");
        let scenario = Scenario {
            worker_wakeup: rule,
            horizon: Nanos::from_millis(150),
            until: Until::Horizon,
            trace_spans: 1000,
            ..Scenario::single(TaskSpec::user(program, None))
        };
        let report = simulate(&kernel, &scenario).expect("a scenario");
        let spans = report.timeline.expect("asked for").spans;
        let spans = spans.iter().filter(|span| {
            matches!(span.track, Track::Core(_)) && span.kind == SpanKind::DetectionOff
        });
        spans
            .map(|span| span.end.since(span.start).0 / 1000)
            .collect()
    }

    #[test]
    fn worker_that_ran_alone_waits_once() {
        let windows = windows_us("6.12", WorkerWakeup::AtTick, 100);
        assert_eq!(windows[..3], [16_000, 12_000, 12_000]);
        let windows = windows_us("6.12,hz=1000", WorkerWakeup::AtTick, 100);
        assert_eq!(windows[..3], [4_000, 3_000, 3_000]);
    }

    #[test]
    fn timer_shortens_the_wait_to_the_end_of_the_request() {
        let windows = windows_us("7.1", WorkerWakeup::AtRequestEnd, 100);
        assert_eq!(windows[..3], [12_700, 12_000, 12_000]);
        let windows = windows_us("7.1", WorkerWakeup::AtRequestEnd, 500);
        assert_eq!(windows[..3], [13_000, 12_000, 12_000]);
    }

    #[test]
    fn worker_runs_when_the_thread_leaves_the_cpu() {
        let kernel: Profile = "6.12".parse().expect("a kernel");
        let program = Program::split_loop(Nanos::from_micros(100)).expect("a program");
        let mut thread = TaskSpec::user(program, None);
        // In the tick that the worker would wait for.
        thread.kill_at = Some(Nanos::from_millis(30));
        let scenario = Scenario {
            worker_wakeup: WorkerWakeup::AtTick,
            ..Scenario::single(thread)
        };
        let report = simulate(&kernel, &scenario).expect("a scenario");
        assert_eq!(report.tasks[0].died_at, Some(Nanos(30_005_000)));
        assert_eq!(report.windows.open.0, 14_000_000);
    }

    #[test]
    fn worker_that_goes_first_waits_for_the_split_lock_only() {
        let windows = windows_us("6.1", WorkerWakeup::First, 700);
        assert_eq!(windows[..3], [12_600; 3]);
    }

    #[test]
    fn rule_follows_the_release() {
        let of = |minor| WorkerWakeup::of(Release::new(6, minor, 0));
        assert_eq!((of(5), of(6)), (WorkerWakeup::First, WorkerWakeup::AtTick));
        let newer = WorkerWakeup::of(Release::new(7, 1, 0));
        assert_eq!(newer, WorkerWakeup::AtRequestEnd);
    }
}
