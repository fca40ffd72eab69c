//! A window that a thread was granted, and whether it came to its instruction while it was open.

use std::time::Duration;

/// A window without detection, from its beginning to its thread's next trap.
///
/// Nothing but a performance counter of the CPU's sees a split lock that goes through. So what is known is what the
/// thread did: it was on its CPU or not, slept of its own accord or not, and where and when it trapped next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrantedWindow {
    /// The trap that led to it.
    pub(super) trapped_ns: u64,
    pub(super) rip: u64,
    pub(super) cpu: u32,
    pub(super) opened_ns: u64,
    closed: bool,
    /// Since when it is on its CPU, if it is.
    on_cpu_since_ns: Option<u64>,
    ran_while_open: Duration,
    ran_since_closed: Duration,
    has_slept: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnusedCause {
    /// It was not on a CPU.
    WithoutCpu,
    /// It was, and did something else first.
    OtherWork,
}

/// The way out of the kernel and back to the instruction takes no longer than this; and who has not run for so long has
/// executed nothing.
const WAY_BACK: Duration = Duration::from_micros(20);

/// Who gets past in a window, and comes to the same instruction again within this, is in a loop that splits all the time.
const LOOP: Duration = Duration::from_millis(1);

impl GrantedWindow {
    /// One that a thread has just opened, on the CPU that it runs on.
    pub(super) fn new(trapped_ns: u64, rip: u64, cpu: u32, opened_ns: u64) -> Self {
        Self {
            trapped_ns,
            rip,
            cpu,
            opened_ns,
            closed: false,
            on_cpu_since_ns: Some(opened_ns),
            ran_while_open: Duration::ZERO,
            ran_since_closed: Duration::ZERO,
            has_slept: false,
        }
    }

    pub(super) fn close(&mut self, at_ns: u64) {
        self.add_run(at_ns);
        self.closed = true;
    }

    /// The thread leaves its CPU: because others want it, or to wait for something.
    pub(super) fn leave_cpu(&mut self, at_ns: u64, is_preempted: bool) {
        self.add_run(at_ns);
        self.on_cpu_since_ns = None;
        self.has_slept |= !is_preempted;
    }

    pub(super) fn enter_cpu(&mut self, at_ns: u64) {
        self.on_cpu_since_ns = Some(at_ns);
    }

    /// What the thread did instead of using it, as far as its next trap tells. `None` where it was used, and where that
    /// cannot be told.
    pub(super) fn why_unused(
        mut self,
        at_ns: u64,
        cpu: u32,
        rip: Option<u64>,
    ) -> Option<UnusedCause> {
        self.add_run(at_ns);
        let is_same_place = rip == Some(self.rip) && cpu == self.cpu;
        if !is_same_place || !self.closed || self.has_slept {
            return None;
        }
        if self.ran_while_open <= WAY_BACK {
            Some(UnusedCause::WithoutCpu)
        } else if self.ran_since_closed >= LOOP {
            Some(UnusedCause::OtherWork)
        } else {
            None
        }
    }

    fn add_run(&mut self, until_ns: u64) {
        let Some(since_ns) = &mut self.on_cpu_since_ns else {
            return;
        };
        let ran = Duration::from_nanos(until_ns.saturating_sub(*since_ns));
        *since_ns = until_ns;
        match self.closed {
            false => self.ran_while_open += ran,
            true => self.ran_since_closed += ran,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const RIP: u64 = 0x1000;

    /// Opened at 16 ms on CPU 1, and closed at 28 ms.
    fn window(change: impl FnOnce(&mut GrantedWindow)) -> GrantedWindow {
        let mut window = GrantedWindow::new(0, RIP, 1, 16 * MS);
        change(&mut window);
        window
    }

    fn close(window: &mut GrantedWindow) {
        window.close(28 * MS);
    }

    fn trap(window: GrantedWindow, at_ns: u64) -> Option<UnusedCause> {
        window.why_unused(at_ns, 1, Some(RIP))
    }

    #[test]
    fn who_comes_back_late_without_a_sleep_had_other_work() {
        let window = window(close);
        assert_eq!(trap(window, 29 * MS), Some(UnusedCause::OtherWork));
        // A loop that splits all the time traps as soon as detection is back.
        assert_eq!(trap(window, 29 * MS - 1), None);
        // Elsewhere: it got past.
        assert_eq!(window.why_unused(40 * MS, 1, Some(RIP + 4)), None);
        assert_eq!(window.why_unused(40 * MS, 1, None), None);
        // Moved: nobody knows what it did before.
        assert_eq!(window.why_unused(40 * MS, 2, Some(RIP)), None);
    }

    #[test]
    fn who_does_not_run_in_the_window_did_not_use_it() {
        let without_cpu = window(|window| {
            window.leave_cpu(16 * MS + 20_000, true);
            close(window);
            window.enter_cpu(35 * MS);
        });
        let at_once = trap(without_cpu, 35 * MS + 1000);
        assert_eq!(at_once, Some(UnusedCause::WithoutCpu));
        // One that ran for some time may have got past.
        let ran_first = window(|window| {
            window.leave_cpu(17 * MS, true);
            close(window);
            window.enter_cpu(35 * MS);
        });
        assert_eq!(trap(ran_first, 35 * MS + 1000), None);
    }

    #[test]
    fn a_preemption_after_the_window_is_no_work() {
        let window = window(|window| {
            close(window);
            window.leave_cpu(28 * MS, true);
            window.enter_cpu(50 * MS);
        });
        assert_eq!(trap(window, 50 * MS + 1000), None);
        assert_eq!(trap(window, 51 * MS), Some(UnusedCause::OtherWork));
    }

    #[test]
    fn who_sleeps_has_got_past_or_cannot_be_told() {
        let window = window(|window| {
            window.leave_cpu(17 * MS, false);
            close(window);
            window.enter_cpu(60 * MS);
        });
        assert_eq!(trap(window, 80 * MS), None);
    }

    #[test]
    fn a_window_that_is_open_cannot_be_told() {
        assert_eq!(trap(window(|_| ()), 60 * MS), None);
    }
}
